//! The network side: sockets, one request's way, answers.

mod again;
mod body;
pub mod bounds;
mod challenge;
pub mod gate;
mod headers;
mod judge;
mod legacy_sse;
mod metadata;
pub mod oauth;
mod origin;
mod paths;
mod places;
mod quiet;
mod rates;
mod record;
mod respond;
pub mod server;
pub mod site;
mod sse;
