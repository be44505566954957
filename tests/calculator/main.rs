//! The built `mcp-calculator`, used as its clients use it: through pipes.

mod arbitrary_input;
mod command_line;
mod errors;
mod lifetime;
mod process;
mod requests;
mod snapshots;
