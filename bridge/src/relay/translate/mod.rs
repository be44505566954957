//! Between the eras: JSON text in, JSON text out, without state (MCP 2026-07-28 and 2025-11-25).
//!
//! Only what differs between the two schemas is read. Everything else stays the text that it was:
//! numbers beyond 64 bits, unknown members and their order survive.

pub mod capabilities;
pub mod errors;
pub mod input;
pub mod messages;
pub mod requests;
pub mod results;
pub mod subscriptions;
mod tools;

/// Who we say we are where a peer of the client's or the server's does not say who it is.
pub(crate) const OURSELVES: &str = concat!(r#"{"name":"mcp-bridge","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);
