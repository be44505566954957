//! `mcp-calculator`: a calculator for desktop clients that start MCP servers.

#[cfg(feature = "login")]
mod account;
mod cli;
#[cfg(feature = "clients")]
mod install;

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser as _;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        // A client shows stderr in its log; if even that is closed, the code must do.
        Err(error) => match error.downcast::<clap::Error>() {
            Ok(misuse) => {
                misuse.print().ok();
                ExitCode::from(2)
            }
            Err(error) => {
                writeln!(io::stderr(), "mcp-calculator: {error:#}").ok();
                ExitCode::FAILURE
            }
        },
    }
}

/// The environment variable `name`, if it is set to something.
///
/// Claude Desktop leaves `${user_config.NAME}` as it stands where a user has set nothing: no setting.
fn environment(name: &str) -> Option<OsString> {
    let is_set = |value: &OsString| {
        !value.is_empty()
            && !value.to_str().is_some_and(|text| text.starts_with("${user_config.") && text.ends_with('}'))
    };
    env::var_os(name).filter(is_set)
}

/// Prints what somebody asked to see. A closed pipe is their choice (`… | head`).
fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write standard output"),
    }
}
