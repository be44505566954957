//! `mcp-bridge`: an MCP server on the network, for authorized clients only.

pub mod config;
pub mod resource;
pub mod scope;
pub mod telemetry;
pub mod token;
