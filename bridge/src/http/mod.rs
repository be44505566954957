//! The network side: sockets, one request's way, answers.

mod challenge;
pub mod gate;
mod metadata;
mod origin;
mod record;
mod respond;
pub mod server;
mod sse;
