//! The built `mcp-calculator`, used as its clients use it: through pipes.

#[path = "../interop/driver.rs"]
mod driver;

mod arbitrary_input;
mod command_line;
mod errors;
mod install;
mod interop;
#[cfg(all(target_os = "linux", feature = "login"))]
mod keyring;
mod lifetime;
#[cfg(feature = "login")]
mod login;
mod process;
mod requests;
mod snapshots;
