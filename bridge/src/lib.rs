//! `mcp-bridge`: an MCP server on the network, for authorized clients only.

pub mod authserver;
pub mod backend;
pub mod cli;
pub mod config;
pub mod connect;
mod deadline;
pub mod doctor;
pub mod edit;
pub(crate) mod embedded;
pub mod era;
pub mod health;
pub mod http;
pub mod install;
pub mod message;
pub mod offer;
pub mod owner;
pub mod policy;
pub mod policy_commands;
pub mod relay;
pub mod resource;
pub mod scope;
pub mod serve;
mod sync;
pub mod telemetry;
pub mod token;
mod tunnel;
