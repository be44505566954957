//! `mcp-bridge`: the command line.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser as _;
use mcp_bridge::{
    cli::{self, Cli, Command, DoctorFlags, PolicyCommand},
    config::{self, raw::Flags},
    connect::{
        self, ConnectError,
        flags::{ConnectFlags, LogoutFlags},
    },
    doctor,
    health::{self, Question},
    install::{self, InstallError},
    owner::{self, OwnerError},
    policy_commands::{self, Check},
    serve,
};
use mcp_calculator::{clients::command::Exit, login::registration::Registered, terminal};

/// Wrong flags or settings; clap uses the same.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if cli::is_watcher(std::env::args_os()) {
        return match mcp_bridge::backend::child::watcher::watch() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&error.to_string());
                ExitCode::from(USAGE)
            }
        };
    }
    let ended = match Cli::parse().command {
        Command::Serve(flags) => run(&flags),
        Command::CheckConfig(flags) => check_config(&flags),
        Command::Health { live, flags } => health(live, &flags),
        Command::Policy { command } => policy(command),
        Command::Connect(flags) => connect(flags, connect::connect),
        Command::Login(flags) => connect(flags, connect::login),
        Command::Logout(flags) => logout(&flags),
        Command::Doctor(flags) => examine(flags),
        Command::Install(arguments) => installed(install::install(&arguments)),
        Command::Uninstall(arguments) => installed(install::uninstall(&arguments)),
        Command::Owner { state, command } => owned(owner::owner(&state, &command)),
        Command::Users { state, command } => owned(owner::users(&state, &command)),
        Command::Grants { state, command } => owned(owner::grants(&state, &command)),
        Command::Apps { state, command } => owned(owner::apps(&state, &command)),
        Command::Approve { state, code, user } => owned(owner::approve(&state, &code, user.as_deref())),
        Command::Completions { shell } => print(|out| cli::completions(shell, out)),
        Command::Man => print(cli::man),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    match config::load(flags, std::env::vars_os()) {
        Ok(loaded) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            match runtime.block_on(serve::serve(loaded)) {
                Err(error) if error.is_setting() => {
                    complain(&format!("{:#}", anyhow::Error::from(error)));
                    Ok(ExitCode::from(USAGE))
                }
                ended => ended.map(|()| ExitCode::SUCCESS).map_err(Into::into),
            }
        }
        Err(problems) => {
            complain(&problems.to_string());
            Ok(ExitCode::from(USAGE))
        }
    }
}

fn connect<F: Future<Output = Result<(), ConnectError>>>(
    flags: ConnectFlags,
    run: impl FnOnce(connect::Settings) -> F,
) -> anyhow::Result<ExitCode> {
    let settings = match connect::Settings::new(flags, |name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(problems) => {
            complain(&problems.to_string());
            return Ok(ExitCode::from(USAGE));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(run(settings));
    // A thread of the runtime may sit in a read of standard input that nothing can interrupt.
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS).map_err(Into::into)
}

fn logout(flags: &LogoutFlags) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(connect::logout(flags, |name| std::env::var(name).ok()));
    // A thread may wait for a keyring that asks somebody who is not there.
    runtime.shutdown_background();
    let (text, may_work) = ended?;
    print(|out| out.write_all(text.as_bytes()))?;
    Ok(if may_work { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn check_config(flags: &Flags) -> anyhow::Result<ExitCode> {
    match config::load(flags, std::env::vars_os()) {
        Ok(loaded) => {
            if let Err(error) = serve::check(&loaded.config) {
                complain(&format!("{:#}", anyhow::Error::from(error)));
                return Ok(ExitCode::from(USAGE));
            }
            print(|out| writeln!(out, "{loaded}"))
        }
        Err(problems) => {
            complain(&problems.to_string());
            Ok(ExitCode::from(USAGE))
        }
    }
}

fn health(live: bool, flags: &Flags) -> anyhow::Result<ExitCode> {
    // Wrong settings are a failure like others here: Docker keeps the code 2 for itself.
    let listener = config::load_listener(flags, std::env::vars_os())?;
    let question = if live { Question::Live } else { Question::Ready };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(health::ask(&listener, question))?;
    print(|out| writeln!(out, "{question}"))
}

fn policy(command: PolicyCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let environment = std::env::vars_os();
    let text = match command {
        PolicyCommand::Init { output, flags } => {
            runtime.block_on(policy_commands::init(&flags, environment, output.as_deref()))
        }
        PolicyCommand::Check { scopes, server, json, flags } => {
            runtime.block_on(policy_commands::check(&flags, environment, &Check { scopes, server, json }))
        }
    };
    match text {
        Ok(text) => print(|out| out.write_all(text.as_bytes())),
        Err(error) if error.is_setting() => {
            complain(&format!("{:#}", anyhow::Error::from(error)));
            Ok(ExitCode::from(USAGE))
        }
        Err(error) => Err(error.into()),
    }
}

fn examine(flags: DoctorFlags) -> anyhow::Result<ExitCode> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let style = doctor::Style {
        ascii: flags.ascii || !doctor::is_utf8(variable),
        colours: io::stdout().is_terminal()
            && variable("NO_COLOR").is_none()
            && variable("TERM").is_none_or(|terminal| terminal != "dumb")
            && terminal::shows_colours(),
        verbose: flags.verbose,
    };
    let found = doctor::token(flags.token_file.as_deref(), variable).and_then(|token| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(doctor::DoctorError::Runtime)?;
        let secret = connect::client_secret(|name| std::env::var(name).ok());
        let secret = secret.map_err(doctor::DoctorError::Secret)?;
        let issuer = flags.issuer;
        let client = flags.client_id.map(|id| Registered { id, secret, issuer: issuer.clone() });
        let browser = doctor::InBrowser::new(&flags.url, client, issuer, flags.no_browser);
        let browser = flags.login.then(|| Arc::new(browser));
        let sign_in = browser.clone().map(|browser| browser as Arc<dyn doctor::SignIn>);
        let options = doctor::Options { url: flags.url, token, sign_in, register: flags.register };
        runtime.block_on(async {
            let report = doctor::examine(options).await;
            if let Some(browser) = browser {
                browser.end().await;
            }
            report
        })
    });
    match found {
        Ok(report) => {
            let text = if flags.json { report.json() } else { report.text(style) };
            print(|out| out.write_all(text.as_bytes()))?;
            Ok(if report.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Err(error) if error.is_usage() => {
            complain(&format!("{:#}", anyhow::Error::from(error)));
            Ok(ExitCode::from(USAGE))
        }
        Err(error) => Err(error.into()),
    }
}

fn installed(ended: Result<Exit, InstallError>) -> anyhow::Result<ExitCode> {
    match ended {
        Ok(exit) => Ok(ExitCode::from(exit.code())),
        Err(error) if error.is_setting() => {
            complain(&error.to_string());
            Ok(ExitCode::from(USAGE))
        }
        Err(error) => Err(error.into()),
    }
}

fn owned(ended: Result<String, OwnerError>) -> anyhow::Result<ExitCode> {
    match ended {
        Ok(text) => print(|out| out.write_all(text.as_bytes())),
        Err(error) if error.is_usage() => {
            complain(&error.to_string());
            Ok(ExitCode::from(USAGE))
        }
        Err(error) => Err(error.into()),
    }
}

/// Prints what was asked for; a reader that has seen enough is no failure.
fn print(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    write(&mut text)?;
    match io::stdout().write_all(&text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn complain(text: &str) {
    // Where stderr is closed, the exit code has to say it all.
    let _ = writeln!(io::stderr(), "mcp-bridge: {text}");
}
