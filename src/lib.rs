//! The calculator: arithmetic, and the MCP server that offers it.
//!
//! `calculator` knows arithmetic and no MCP. `server` answers MCP requests with it as plain
//! functions on rmcp's model types, so that the stdio program and the bridge give the same answers.
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
