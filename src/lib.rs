//! The calculator: arithmetic, and the MCP server that offers it.
//!
//! `calculator` knows arithmetic and no MCP. `server` answers MCP requests with it for the
//! stdio program and the bridge, so that both give the same answers.
//! `stdio` is the stdio program.

pub mod calculator;
#[cfg(feature = "clients")]
pub mod clients;
mod json;
#[cfg(feature = "login")]
pub mod login;
pub mod secret;
pub mod server;
pub mod stdio;
pub mod terminal;
