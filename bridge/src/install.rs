//! `install` and `uninstall`: a remote server, or any command, as an entry in the files of desktop clients.

use std::{ffi::OsStr, io, path::Path};

use clap::{Args, ValueHint};
use mcp_calculator::clients::{
    arguments::{Selection, Shown},
    command::{self, Context, Exit, Owner},
    entry::Server,
    environment::{Environment, Platform},
    executable::{self, ExecutableError},
};
use url::Url;

use crate::connect::sign_in::login_at;

const PROGRAM: &str = "mcp-bridge";
// Programs that start many a server: their names say nothing about which.
const LAUNCHERS: [&str; 14] =
    ["npx", "bunx", "uvx", "uv", "pipx", "node", "bun", "deno", "python", "python3", "docker", "podman", "java", "sh"];

/// What `install` takes.
#[derive(Debug, Args)]
pub struct Install {
    /// Which server.
    #[command(flatten)]
    pub source: Source,
    /// A variable for the server's environment; without a value, that of this environment is written into the file
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// What the client shall call it; unset: from the URL's host or the command's name
    #[arg(long)]
    pub name: Option<String>,
    /// Which files.
    #[command(flatten)]
    pub selection: Selection,
    /// What to show.
    #[command(flatten)]
    pub shown: Shown,
}

/// What `uninstall` takes.
#[derive(Debug, Args)]
pub struct Uninstall {
    /// What the client calls it; unset: from --connect or --serve-command, as when installing
    #[arg(long)]
    pub name: Option<String>,
    /// Which server.
    #[command(flatten)]
    pub source: Source,
    /// Which files.
    #[command(flatten)]
    pub selection: Selection,
}

/// The server that an entry starts.
#[derive(Debug, Args)]
pub struct Source {
    /// A remote server: the entry runs `mcp-bridge connect URL`, which every client can
    #[arg(long, value_name = "URL", conflicts_with = "serve_command", value_hint = ValueHint::Url)]
    pub connect: Option<Url>,
    /// A command that is a server itself: the entry runs it, with nothing between. All that follows belongs to the
    /// command, so that this comes last
    #[arg(long, value_names = ["COMMAND", "ARG"], num_args = 1.., allow_hyphen_values = true, value_hint = ValueHint::CommandName)]
    pub serve_command: Vec<String>,
}

/// Why nothing was tried.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There is no file without one.
    #[error("cannot find the home folder; set HOME to an absolute path")]
    NoHome,
    /// The program's path.
    #[error(transparent)]
    Executable(#[from] ExecutableError),
    /// Neither a command nor a URL.
    #[error("say which server: --connect URL, or --serve-command COMMAND [ARG]…")]
    NoServer,
    /// `uninstall` knows an entry by its name.
    #[error("say which entry: --name NAME, or the --connect URL or --serve-command that it was installed with")]
    NoName,
    /// The URL cannot be connected to.
    #[error("--connect must be an https URL, or an http one of this machine, without a user, a password or a fragment")]
    Url,
    /// The command is not there.
    #[error("there is no program `{0}` here; give its absolute path")]
    NoProgram(String),
    /// The command's name would be a bad name.
    #[error("`{0}` starts many servers; say with --name what this one shall be called")]
    Unnamed(String),
    /// A variable without a value.
    #[error("--env {0}: there is no such variable in this environment")]
    NoVariable(String),
    /// The output.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl InstallError {
    /// Whether another command line would help.
    pub fn is_setting(&self) -> bool {
        !matches!(self, Self::NoHome | Self::Executable(_) | Self::Output(_))
    }
}

/// Adds the server to the clients.
///
/// # Errors
/// When it is not clear which server, or where this program is. What happened to each file is told as it happens.
pub fn install(arguments: &Install) -> Result<Exit, InstallError> {
    let environment = Environment::of_this_process().ok_or(InstallError::NoHome)?;
    let mut server = server(&arguments.source, &environment)?.ok_or(InstallError::NoServer)?;
    server.env = arguments.env.iter().map(|variable| read(variable)).collect::<Result<_, _>>()?;
    if !arguments.selection.force && !arguments.shown.list {
        executable::check_lasting(&environment, Path::new(&server.command))?;
    }
    let name = name(arguments.name.as_deref(), &arguments.source)?;
    // Claude Code gives a server half a minute to start.
    let advice = arguments.source.connect.as_ref().map_or_else(String::new, |url| {
        format!(
            "If the server wants a sign-in, do it now: clients do not wait long for one.\n  {}",
            login_at(url.as_str())
        )
    });
    Ok(within(&environment, &advice, |context| {
        command::install(context, &arguments.selection, &arguments.shown, &name, &server)
    })?)
}

/// Removes an entry from the clients.
///
/// # Errors
/// When it is not clear which entry. What happened to each file is told as it happens.
pub fn uninstall(arguments: &Uninstall) -> Result<Exit, InstallError> {
    let environment = Environment::of_this_process().ok_or(InstallError::NoHome)?;
    let server = server(&arguments.source, &environment)?;
    if server.is_none() && arguments.name.is_none() {
        return Err(InstallError::NoName);
    }
    let name = name(arguments.name.as_deref(), &arguments.source)?;
    let owner = server.as_ref().map_or(Owner::Program(PROGRAM), Owner::Server);
    Ok(within(&environment, "", |context| command::uninstall(context, &arguments.selection, &name, owner))?)
}

fn server(source: &Source, environment: &Environment) -> Result<Option<Server>, InstallError> {
    if let Some(url) = &source.connect {
        let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_local);
        if !is_safe || !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(InstallError::Url);
        }
        let command = executable::this_program(environment)?.display().to_string();
        return Ok(Some(Server { command, args: vec!["connect".to_owned(), url.to_string()], env: Vec::new() }));
    }
    let Some((command, args)) = source.serve_command.split_first() else { return Ok(None) };
    let path =
        executable::lookup(environment, Path::new(command)).ok_or_else(|| InstallError::NoProgram(command.clone()))?;
    let path = path.to_str().ok_or_else(|| ExecutableError::Unknown("its path is not in Unicode".to_owned()))?;
    Ok(Some(started(Platform::current(), path, args)))
}

/// What a client starts so that `path` runs with `args`: clients start programs without a shell.
fn started(platform: Platform, path: &str, args: &[String]) -> Server {
    let ending = Path::new(path).extension().unwrap_or_default();
    let is_script = ["cmd", "bat"].iter().any(|script| ending.eq_ignore_ascii_case(script));
    if platform != Platform::Windows || !is_script {
        return Server { command: path.to_owned(), args: args.to_vec(), env: Vec::new() };
    }
    // Only a shell runs scripts. This one drops the first and the last quote of a line that begins with one,
    // as that of a script below `Program Files` would.
    let args = ["/c", "call", path].into_iter().map(str::to_owned).chain(args.iter().cloned());
    Server { command: "cmd".to_owned(), args: args.collect(), env: Vec::new() }
}

fn name(given: Option<&str>, source: &Source) -> Result<String, InstallError> {
    if let Some(name) = given {
        return Ok(name.to_owned());
    }
    if let Some(url) = &source.connect {
        // The strictest clients take letters, digits, - and _.
        return Ok(url
            .host_str()
            .unwrap_or_default()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
            .trim_matches('-')
            .to_owned());
    }
    let command = source.serve_command.first().ok_or(InstallError::NoServer)?;
    let stem = Path::new(command).file_stem().and_then(OsStr::to_str).unwrap_or_default();
    if stem.is_empty() || LAUNCHERS.contains(&stem) {
        return Err(InstallError::Unnamed(command.clone()));
    }
    Ok(stem.to_owned())
}

fn read(variable: &str) -> Result<(String, String), InstallError> {
    match variable.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(variable) {
            Ok(value) => Ok((variable.to_owned(), value)),
            Err(_) => Err(InstallError::NoVariable(variable.to_owned())),
        },
    }
}

fn within(
    environment: &Environment,
    advice: &str,
    run: impl FnOnce(&mut Context<'_>) -> io::Result<Exit>,
) -> io::Result<Exit> {
    let (mut output, mut errors) = (io::stdout().lock(), io::stderr().lock());
    run(&mut Context { program: PROGRAM, environment, advice, output: &mut output, errors: &mut errors })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(connect: Option<&str>, command: &[&str]) -> Source {
        Source {
            connect: connect.map(|url| url.parse().expect("a URL")),
            serve_command: command.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn names_say_which_server() {
        let of = |connect, command: &[&str]| name(None, &source(connect, command)).map_err(|error| error.to_string());
        assert_eq!(of(Some("https://mcp.example.com/mcp"), &[]).as_deref(), Ok("mcp-example-com"));
        assert_eq!(of(Some("http://[::1]:8808/mcp"), &[]).as_deref(), Ok("1"));
        assert_eq!(of(None, &["/opt/my-server", "--stdio"]).as_deref(), Ok("my-server"));
        assert!(of(None, &["npx", "-y", "x"]).is_err_and(|error| error.contains("--name")));
        assert!(of(None, &["/usr/bin/npx"]).is_err());
    }

    #[test]
    fn scripts_of_windows_get_their_shell() {
        let line = |platform, path: &str| {
            let Server { command, args, .. } = started(platform, path, &["-y".to_owned(), "a b".to_owned()]);
            [vec![command], args].concat().join("|")
        };
        let npx = r"C:\Program Files\nodejs\npx.CMD";
        assert_eq!(line(Platform::Windows, npx), format!("cmd|/c|call|{npx}|-y|a b"));
        assert_eq!(line(Platform::Windows, r"C:\node.exe"), r"C:\node.exe|-y|a b");
        assert_eq!(line(Platform::Linux, "/opt/x.cmd"), "/opt/x.cmd|-y|a b");
    }

    #[test]
    fn urls_that_leak_are_refused() {
        let environment = Environment::of_this_process().expect("a home");
        for url in [
            "http://example.com/mcp",
            "https://user@example.com",
            "https://u:p@example.com",
            "https://x/#f",
            "file:///x",
        ] {
            assert!(matches!(server(&source(Some(url), &[]), &environment), Err(InstallError::Url)), "{url}");
        }
        for url in ["https://example.com/mcp?x=1", "http://localhost:8808/mcp", "http://127.0.0.1/mcp"] {
            let server = server(&source(Some(url), &[]), &environment).expect("a server").expect("one");
            assert_eq!(server.args, ["connect", url]);
        }
    }
}
