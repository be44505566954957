//! Chores of this repository: `cargo xtask tour`.

use std::{
    env,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};

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
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().chore {
        Chore::Tour => {
            build()?;
            tour::walk()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Builds the release binaries.
fn build() -> anyhow::Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--locked", "--package", "mcp-bridge", "--package", "mcp-calculator"])
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "the build failed");
    Ok(())
}
