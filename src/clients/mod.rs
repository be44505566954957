//! The configuration files of desktop clients: which there are, and one entry in them.
//!
//! `client` knows where each client has its file and what an entry looks like there; `format` edits
//! text and touches nothing but that entry; `file` replaces a file so that nothing is ever lost;
//! `command` is what `install` and `uninstall` do with them, for both programs.

pub mod arguments;
pub mod client;
pub mod command;
mod diff;
pub mod entry;
pub mod environment;
pub mod executable;
mod file;
mod format;
mod job;
mod tree;
