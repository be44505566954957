//! The command line: one definition for `--help`, the manual page and the completions.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::Arc,
};

#[cfg(feature = "login")]
use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
#[cfg(feature = "clients")]
use mcp_calculator::clients::arguments::{Selection, Shown};
use mcp_calculator::{
    stdio::{self, Access},
    terminal,
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

#[cfg(feature = "login")]
use crate::account::{self, Account, Login, Logout, SignedIn, Whoami};
use crate::{environment, print};

/// The environment variable that says how much is logged.
const LOG_VARIABLE: &str = "MCP_CALCULATOR_LOG";

const EXAMPLE: &str = r#"Add it to a desktop client with `mcp-calculator install --client NAME`, or by hand (Claude Desktop:
claude_desktop_config.json):

  {
    "mcpServers": {
      "calculator": { "command": "/path/to/mcp-calculator" }
    }
  }

Environment:
  MCP_CALCULATOR_LOG            What to log on stderr: error, warn (default), info or debug
  MCP_CALCULATOR_ACCOUNT        As --account
  MCP_CALCULATOR_TOKEN_STORE    As --token-store
  MCP_CALCULATOR_REQUIRE_LOGIN  true: as --require-login
  MCP_CALCULATOR_STATE_DIR      Where the list of sign-ins is kept [default: the platform's folder for state]

Exit codes: 0 done, 1 failed while running, 2 wrong command line or setting"#;

#[cfg(feature = "login")]
const LOGIN_EXAMPLES: &str = "\
Examples:
  mcp-calculator login --server https://example.com/mcp
  mcp-calculator login --server https://example.com/mcp --account work --scope op:add
  mcp-calculator login --issuer https://auth.example.com --client-id calculator --device

Exit codes: 0 signed in, 1 not signed in, 2 wrong command line";

#[cfg(feature = "clients")]
const INSTALL_EXAMPLES: &str = "Examples:
  mcp-calculator install --list
  mcp-calculator install --client claude-desktop --client cursor
  mcp-calculator install --all --dry-run
  mcp-calculator install --client vscode --project .

Exit codes: 0 done or nothing to do, 1 a file could not be changed, 2 wrong command line";

/// A calculator for MCP clients, on standard input and output.
///
/// Offers one tool, `calculator`, that adds, subtracts, multiplies or divides two numbers. Without
/// a command it serves until its input ends; a client starts it, people rarely do.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLE, after_long_help = EXAMPLE, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[cfg(feature = "login")]
    #[command(flatten)]
    account: Account,
    /// Calculate nothing without a sign-in
    #[cfg(feature = "login")]
    #[arg(long)]
    require_login: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sign in, and let the calculator do what is granted
    #[cfg(feature = "login")]
    #[command(after_help = LOGIN_EXAMPLES)]
    Login(Login),
    /// Show who is signed in, where, and what was granted
    ///
    /// Asks neither the keyring nor the network. Exit codes: 0 somebody is signed in, 1 nobody is.
    #[cfg(feature = "login")]
    Whoami(Whoami),
    /// Revoke the tokens, and forget them
    ///
    /// What cannot be revoked is forgotten all the same. Exit codes: 0 signed out, 1 not revoked or not forgotten.
    #[cfg(feature = "login")]
    Logout(Logout),
    /// Add the calculator to desktop clients
    ///
    /// Other entries, comments and the look of the file stay as they are, and the file as it was is kept beside it. An
    /// entry that is there already is left alone; one that starts another copy of this program gets the new path.
    /// With --account or --token-store, the entry starts the calculator with them.
    #[cfg(feature = "clients")]
    #[command(after_help = INSTALL_EXAMPLES)]
    Install {
        /// What the clients shall call it
        #[arg(long, default_value = "calculator")]
        name: String,
        /// Which files.
        #[command(flatten)]
        selection: Selection,
        /// What to show.
        #[command(flatten)]
        shown: Shown,
    },
    /// Remove the calculator from desktop clients
    ///
    /// An entry of another program is only removed with --force. All else in the file stays as it is, and the file as
    /// it was is kept beside it.
    #[cfg(feature = "clients")]
    Uninstall {
        /// What the clients call it
        #[arg(long, default_value = "calculator")]
        name: String,
        /// Which files.
        #[command(flatten)]
        selection: Selection,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

impl Cli {
    /// Does what the command line asks for.
    ///
    /// # Errors
    /// When it cannot be done; the text says why.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            None => self.serve()?,
            #[cfg(feature = "login")]
            Some(Command::Login(options)) => signing(account::login(&self.account, &options))?,
            #[cfg(feature = "login")]
            Some(Command::Whoami(options)) => return account::whoami(&self.account, &options),
            #[cfg(feature = "login")]
            Some(Command::Logout(options)) => return signing(account::logout(&self.account, &options)),
            #[cfg(feature = "clients")]
            Some(Command::Install { name, selection, shown }) => {
                #[cfg(feature = "login")]
                let arguments = self.account.arguments()?;
                #[cfg(not(feature = "login"))]
                let arguments = Vec::new();
                return crate::install::install(&name, &selection, &shown, arguments);
            }
            #[cfg(feature = "clients")]
            Some(Command::Uninstall { name, selection }) => return crate::install::uninstall(&name, &selection),
            Some(Command::Completions { shell }) => {
                let mut script = Vec::new();
                let mut command = Self::command();
                let name = command.get_name().to_owned();
                clap_complete::generate(shell, &mut command, name, &mut script);
                print(&script)?;
            }
            Some(Command::Man) => print(man()?.as_bytes())?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn serve(&self) -> anyhow::Result<()> {
        start_log(log_level());
        #[cfg(feature = "login")]
        let access: Option<Arc<dyn Access>> = Some(Arc::new(SignedIn::new(&self.account, self.require_login)?));
        #[cfg(not(feature = "login"))]
        let access: Option<Arc<dyn Access>> = None;
        if io::stdin().is_terminal() {
            let hint = "mcp-calculator: waiting for MCP messages, one JSON object a line; a client usually starts \
                        this program (see --help). End with Ctrl-D.\n";
            io::stderr().write_all(hint.as_bytes()).ok();
        }
        Ok(stdio::serve(access)?)
    }
}

/// The manual page, which has all commands: their options follow those of the program.
fn man() -> anyhow::Result<String> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    let main = clap_mangen::Man::new(command.clone());
    main.render_title(&mut page)?;
    main.render_name_section(&mut page)?;
    main.render_synopsis_section(&mut page)?;
    main.render_description_section(&mut page)?;
    main.render_options_section(&mut page)?;
    main.render_subcommands_section(&mut page)?;
    let mut page = String::from_utf8(page)?;
    let has_flags = |command: &&clap::Command| command.get_opts().next().is_some();
    for subcommand in command.get_subcommands().filter(has_flags) {
        let mut options = Vec::new();
        clap_mangen::Man::new(subcommand.clone()).render_options_section(&mut options)?;
        let heading = format!(".SH {} OPTIONS", subcommand.get_name().to_uppercase());
        page += &String::from_utf8(options)?.replacen(".SH OPTIONS", &heading, 1);
    }
    let mut end = Vec::new();
    main.render_extra_section(&mut end)?;
    main.render_version_section(&mut end)?;
    page += &String::from_utf8(end)?;
    // The generator refers to a page per command; there is only this one.
    Ok(page.replace("mcp\\-calculator\\-", "").replace("(1)\n", "\n"))
}

/// Runs what talks to an authorization server.
#[cfg(feature = "login")]
fn signing<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    start_log(log_level());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let done = runtime.block_on(work);
    // A thread may wait for a keyring that asks somebody who is not there.
    runtime.shutdown_background();
    done
}

/// What [`LOG_VARIABLE`] says; ends the program with code 2 if that is not a level.
fn log_level() -> LevelFilter {
    let written = environment(LOG_VARIABLE).unwrap_or_default();
    match written.to_str() {
        Some("error") => LevelFilter::ERROR,
        Some("" | "warn") => LevelFilter::WARN,
        Some("info") => LevelFilter::INFO,
        Some("debug") => LevelFilter::DEBUG,
        _ => {
            let message = format!("{LOG_VARIABLE} must be error, warn, info or debug, not {written:?}");
            Cli::command().error(clap::error::ErrorKind::InvalidValue, message).exit()
        }
    }
}

fn start_log(level: LevelFilter) {
    // Libraries may print what requests hold.
    let targets = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("mcp_calculator", level);
    let ansi = io::stderr().is_terminal() && terminal::shows_colours();
    let format = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(ansi);
    tracing_subscriber::registry().with(format.with_filter(targets)).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
