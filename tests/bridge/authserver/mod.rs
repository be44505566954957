//! The embedded authorization server from outside: what clients and browsers can do with it, and what
//! attackers cannot.

mod account;
mod authorize;
mod bounds;
#[cfg(target_os = "linux")]
mod browser;
mod clients;
mod commands;
mod consent;
mod faults;
mod registration;
mod sign_in;
mod suite;
mod tokens;
pub(crate) mod world;
