//! Chores of this repository: `cargo xtask tour`, `cargo xtask dist`.

use std::{
    env,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};

mod dist;
mod tour;

/// Chores of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Build the bridge, and show what it does to strangers, to users, and to users without consent
    Tour,
    /// Make what is shipped: programs, packages, bundles, and their checksums
    Dist(dist::Dist),
}

#[expect(clippy::print_stderr, reason = "this is where errors are told")]
fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Tour => build().and_then(|()| tour::walk()),
        Chore::Dist(dist) => dist.make(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Builds the release binaries.
fn build() -> anyhow::Result<()> {
    let status = cargo()
        .args(["build", "--release", "--locked", "--package", "mcp-bridge", "--package", "mcp-calculator"])
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "the build failed");
    Ok(())
}

/// The cargo that runs this.
fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
