//! The network side: sockets, one request's way, answers.

pub mod bounds;
mod challenge;
pub mod gate;
mod headers;
mod judge;
mod metadata;
mod origin;
mod places;
mod quiet;
mod rates;
mod record;
mod respond;
pub mod server;
pub mod site;
mod sse;
