//! The built `mcp-calculator`, used as its clients use it: through pipes.

#[path = "../interop/driver.rs"]
mod driver;

#[cfg(all(target_os = "linux", feature = "login"))]
mod account;
mod arbitrary_input;
mod command_line;
#[cfg(all(target_os = "linux", feature = "login"))]
mod desktop;
mod errors;
mod install;
mod interop;
#[cfg(all(target_os = "linux", feature = "login"))]
mod keyring;
mod lifetime;
#[cfg(feature = "login")]
mod login;
mod process;
#[cfg(feature = "login")]
mod provider;
mod requests;
mod snapshots;
