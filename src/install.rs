//! `install` and `uninstall`: the calculator as an entry in the files of desktop clients.

use std::{io, process::ExitCode};

use anyhow::Context as _;
use mcp_calculator::clients::{
    arguments::{Selection, Shown},
    command::{self, Context, Exit, Owner},
    entry::Server,
    environment::Environment,
    executable,
};

const PROGRAM: &str = "mcp-calculator";

/// Adds an entry that starts this program with `arguments`.
pub(crate) fn install(
    name: &str,
    selection: &Selection,
    shown: &Shown,
    arguments: Vec<String>,
) -> anyhow::Result<ExitCode> {
    let environment = environment()?;
    let path = executable::this_program(&environment)?;
    // A look is harmless from anywhere.
    if !selection.force && !shown.list {
        executable::check_lasting(&environment, &path)?;
    }
    let server = Server { command: path.display().to_string(), args: arguments, env: Vec::new() };
    finish(&environment, |context| command::install(context, selection, shown, name, &server))
}

pub(crate) fn uninstall(name: &str, selection: &Selection) -> anyhow::Result<ExitCode> {
    let environment = environment()?;
    finish(&environment, |context| command::uninstall(context, selection, name, Owner::Program(PROGRAM)))
}

fn environment() -> anyhow::Result<Environment> {
    Environment::of_this_process().context("cannot find the home folder; set HOME to an absolute path")
}

fn finish(
    environment: &Environment,
    run: impl FnOnce(&mut Context<'_>) -> io::Result<Exit>,
) -> anyhow::Result<ExitCode> {
    let (mut output, mut errors) = (io::stdout().lock(), io::stderr().lock());
    let mut context = Context { program: PROGRAM, environment, advice: "", output: &mut output, errors: &mut errors };
    let exit = run(&mut context).context("cannot write the output")?;
    Ok(ExitCode::from(exit.code()))
}
