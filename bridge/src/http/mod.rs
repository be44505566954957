//! The network side: sockets, one request's way, answers.

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
mod sse;
