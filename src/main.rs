//! `mcp-calculator`: a calculator for desktop clients that start MCP servers.

#[cfg(feature = "login")]
mod account;
mod cli;
#[cfg(feature = "clients")]
mod install;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            // A client shows stderr in its log; if even that is closed, the code must do.
            std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("mcp-calculator: {error:#}\n")).ok();
            ExitCode::FAILURE
        }
    }
}
