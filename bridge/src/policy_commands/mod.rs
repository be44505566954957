//! `policy init` and `policy check`: a policy for a server that was asked what it offers, and what a
//! policy allows of that.

mod draft;
mod names;
mod review;
mod table;
pub(crate) mod words;

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use mcp_calculator::server::{Era, list_tools};
use tracing::{info, warn};

use crate::{
    backend::child::Undertaker,
    config::{
        self, LoadedServers, Log, LogFormat,
        problem::Problems,
        raw::{CommandFlags, Flags},
        server::{Served, Server},
    },
    offer::{List, Offer, PageError},
    relay::command::offer::{self, AskError},
    scope::ScopeSet,
    serve,
    telemetry::{self, LogError},
};

/// Why there is no policy, or nothing to say about one.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] Problems),
    /// No server of the settings has that name.
    #[error("--server: there is no server `{name}`; there is {known}")]
    NoServer {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A file is never written over.
    #[error("--output: `{}` is there already and stays as it is; choose another name, or move it away", .0.display())]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The server cannot be asked.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The calculator's own list is none.
    #[error("the calculator does not say what it offers")]
    Calculator(#[from] PageError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The system's random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
}

impl PolicyError {
    /// Whether other flags or settings would help, and trying again would not.
    pub fn is_setting(&self) -> bool {
        matches!(self, Self::Settings(_) | Self::NoServer { .. } | Self::Exists(_))
    }
}

/// The settings file for the command that `flags` name, with a rule for everything that it offers;
/// the text for stdout, or nothing when it was written to `output`.
///
/// # Errors
/// [`PolicyError`]
pub async fn init(
    flags: &CommandFlags,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    output: Option<&Path>,
) -> Result<String, PolicyError> {
    let loaded = config::load_command(&flags.0, environment)?;
    let exists = |path: &&Path| path.symlink_metadata().is_ok();
    // Before the server is started: it may have to be downloaded first.
    if let Some(path) = output.filter(exists) {
        return Err(PolicyError::Exists(path.to_owned()));
    }
    let offers = ask_all(&loaded).await?;
    let text = draft::draft(&flags.0, offers.first().unwrap_or(&Offer::default()));
    let Some(path) = output else { return Ok(text) };
    let written = OpenOptions::new().write(true).create_new(true).open(path);
    match written.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(String::new()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(PolicyError::Exists(path.to_owned())),
        Err(error) => Err(PolicyError::Write { path: path.to_owned(), error }),
    }
}

/// What is to be checked, besides the settings.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// The scopes of a user; `None` shows what each thing needs.
    pub scopes: Option<ScopeSet>,
    /// The one server of several; `None` for all.
    pub server: Option<String>,
    /// For programs.
    pub json: bool,
}

/// What the policy of each server allows, as text for stdout.
///
/// # Errors
/// [`PolicyError`]
pub async fn check(
    flags: &Flags,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    what: &Check,
) -> Result<String, PolicyError> {
    let mut loaded = config::load_servers(flags, environment)?;
    if let Some(name) = &what.server {
        let known: Vec<String> = loaded.servers.iter().map(|server| words::quoted(&server.name)).collect();
        loaded.servers.retain(|server| server.name == *name);
        if loaded.servers.is_empty() {
            return Err(PolicyError::NoServer { name: words::visible(name), known: known.join(", ") });
        }
    }
    let offers = ask_all(&loaded).await?;
    let reviews = loaded.servers.iter().zip(&offers).map(|(server, offer)| {
        review::review(&server.name, &serve::policy(server), server.policy.as_ref(), offer, what.scopes.as_ref())
    });
    let reviews: Vec<review::Review> = reviews.collect();
    Ok(if what.json { table::json(&reviews) } else { table::text(&reviews, what.scopes.as_ref()) })
}

/// What each server offers. All that was started has ended when this returns.
async fn ask_all(loaded: &LoadedServers) -> Result<Vec<Offer>, PolicyError> {
    let LoadedServers { servers, log, warnings } = loaded;
    let _log = telemetry::init(log.level, log.format == LogFormat::Json)?;
    for warning in warnings {
        warn!("{warning}");
    }
    let undertaker = Undertaker::new().map_err(PolicyError::Random)?;
    let mut offers = Vec::with_capacity(servers.len());
    let mut outcome = Ok(());
    for server in servers {
        match offer_of(server, log, &undertaker).await {
            Ok(offer) => offers.push(offer),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    let commands = servers.iter().filter_map(command);
    undertaker.close(commands.map(|command| command.stop_grace * 2).max().unwrap_or_default()).await;
    outcome.map(|()| offers)
}

fn command(server: &Server) -> Option<&config::server::Command> {
    match &server.served {
        Served::Command(command) => Some(command),
        Served::Calculator => None,
    }
}

async fn offer_of(server: &Server, log: &Log, undertaker: &Undertaker) -> Result<Offer, PolicyError> {
    let Some(command) = command(server) else {
        let mut offer = Offer::default();
        let tools = serde_json::to_vec(&list_tools(Era::Modern)).unwrap_or_default();
        offer.add_page(List::Tools, &tools)?;
        return Ok(offer);
    };
    let asking = format!("asking {} what it offers …", words::quoted(&server.name));
    match log.format {
        // Where stderr is closed, nobody waits for it.
        LogFormat::Text => _ = writeln!(io::stderr(), "mcp-bridge: {asking}"),
        LogFormat::Json => info!("{asking}"),
    }
    let program = serve::program(&server.name, command);
    Ok(offer::ask(&program, command.start_timeout, undertaker).await?)
}
