//! The built `mcp-calculator`, used as its clients use it: through pipes.

#[path = "../interop/driver.rs"]
mod driver;

mod arbitrary_input;
mod command_line;
mod errors;
mod install;
mod interop;
mod lifetime;
mod process;
mod requests;
mod snapshots;
