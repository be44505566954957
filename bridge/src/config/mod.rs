//! Settings: from what was written (flags, environment, file) to what is meant.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use mcp_calculator::secret::Secret;
use tracing::Level;
use url::Url;

use crate::{
    config::{
        problem::{Problem, Problems},
        raw::{Flags, Raw},
        report::Report,
        resolver::Resolver,
        server::Server,
    },
    resource::{InvalidResource, ResourceUri},
    token::Issuer,
};

mod auth;
mod file;
mod parse;
pub mod policy;
pub mod problem;
pub mod raw;
mod reader;
pub mod report;
mod resolve;
mod resolver;
mod scopes;
pub mod server;
mod servers;
pub(crate) mod settings;
pub mod source;
mod table;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use self::auth::default_state_dir;

/// What the settings amount to, when nothing is wrong with them.
#[derive(Debug)]
pub struct Loaded {
    /// What is meant.
    pub config: Config,
    /// What is allowed and worth a second look; for the log, each on a line of its own.
    pub warnings: Vec<String>,
    /// Every setting with its value and where it comes from.
    pub report: Report,
}

/// Reads all settings: flags over environment over file over defaults, each by itself.
///
/// Opens the settings file, the secret's file and the TLS files; no socket. `environment` is what
/// [`std::env::vars_os`] gives; of variables that are not ours no value is kept.
///
/// # Errors
/// Everything that is wrong, not only the first.
pub fn load(flags: &Flags, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let raw = Raw::gather(flags, environment, &mut problems);
    let mut resolver = Resolver::new(&raw, problems);
    let config = resolve::resolve(&mut resolver).config;
    if !raw.file_is_read {
        // What seems to be missing may be in the file.
        resolver.problems.retain(is_written);
    }
    let report = Report { rows: resolver.rows(), servers: servers::rows(&mut resolver) };
    match config {
        Some(config) if resolver.problems.is_empty() => Ok(Loaded { config, warnings: resolver.warnings, report }),
        _ => Err(Problems(resolver.problems)),
    }
}

/// Where `serve` listens, for somebody on the same machine.
///
/// Shown as the URL of its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    address: SocketAddr,
    has_tls: bool,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.has_tls { "https" } else { "http" }, self.address)
    }
}

/// Finds out where `serve` listens with these settings. What else they say has to be readable, and need
/// not be right.
///
/// # Errors
/// Everything that is wrong with what was read, and a port that is picked at start.
pub fn load_listener(
    flags: &Flags,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Listener, Problems> {
    let mut problems = Vec::new();
    let raw = Raw::gather(flags, environment, &mut problems);
    let mut resolver = Resolver::new(&raw, problems);
    match resolve::listener(&mut resolver) {
        Some(listener) if resolver.problems.is_empty() => Ok(listener),
        _ => Err(Problems(resolver.problems)),
    }
}

/// What is served, as far as somebody has to know it who serves nothing.
#[derive(Debug)]
pub struct LoadedServers {
    /// What is served; at least one.
    pub servers: Vec<Server>,
    /// What goes to stderr.
    pub log: Log,
    /// What is allowed and worth a second look; for the log, each on a line of its own.
    pub warnings: Vec<String>,
}

/// Reads all settings as [`load`] does, for those who serve nothing: what is missing does not matter,
/// above all who decides about tokens. What is written has to be right all the same.
///
/// # Errors
/// Everything that is wrong, not only the first.
pub fn load_servers(
    flags: &Flags,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<LoadedServers, Problems> {
    let mut problems = Vec::new();
    let raw = Raw::gather(flags, environment, &mut problems);
    let mut resolver = Resolver::new(&raw, problems);
    let resolve::Resolved { servers, log, .. } = resolve::resolve(&mut resolver);
    resolver.problems.retain(is_written);
    match servers {
        Some(servers) if resolver.problems.is_empty() => {
            Ok(LoadedServers { servers, log, warnings: resolver.warnings })
        }
        _ => Err(Problems(resolver.problems)),
    }
}

/// The command that flags and environment describe, as [`load_servers`] reads them; no file is read.
///
/// # Errors
/// Everything that is wrong, not only the first.
pub fn load_command(
    flags: &Flags,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<LoadedServers, Problems> {
    let file = settings::CONFIG.variable();
    load_servers(flags, environment.into_iter().filter(|(name, _)| *name != *file))
}

/// Whether the problem is with something that was written; else something is missing.
fn is_written(problem: &Problem) -> bool {
    problem.place.is_some()
}

impl fmt::Display for Loaded {
    /// What `check-config` prints when all is well.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.report)?;
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        if !self.warnings.is_empty() {
            writeln!(f)?;
        }
        let config = &self.config;
        write!(f, "\nThe settings are good. ")?;
        if config.public_url.is_none() && config.tunnel.is_some() {
            return f.write_str("The URL for clients is known when the tunnel is there");
        }
        if config.public_url.is_none() && config.listen.port() == 0 {
            return f.write_str("The port is picked at start");
        }
        f.write_str("Clients use")?;
        for server in &config.servers {
            let resource = config.resource(server, config.listen);
            let resource = resource.map_or_else(|error| error.to_string(), |resource| resource.as_str().to_owned());
            match config.servers.len() {
                1 => write!(f, " {resource}")?,
                _ => write!(f, "\n{}: {resource}", server.name)?,
            }
        }
        Ok(())
    }
}

/// Everything that `serve` was told, checked; made once, before any socket opens.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 picks a free one. Loopback, unless a public URL is set.
    pub listen: SocketAddr,
    /// The origin, with or without a path prefix, under which clients reach us, as it was written.
    pub public_url: Option<String>,
    /// The agent of a tunnel that leads here; `None` starts none.
    pub tunnel: Option<Tunnel>,
    /// Who decides about tokens.
    pub auth: Auth,
    /// Origins of web pages that may call us, normalised (`scheme://host[:port]`). Empty: loopback
    /// origins only.
    pub allowed_origins: Vec<String>,
    /// Values of `Host` that are accepted besides our own, in lower case: `host` or `host:port`.
    pub allowed_hosts: Vec<String>,
    /// Peers whose `X-Forwarded-For` is believed, for the log only.
    pub trusted_proxies: Vec<IpAddr>,
    /// Bounds on what one client, and all together, may use.
    pub limits: Limits,
    /// The server's certificate and key; `None` serves cleartext HTTP.
    pub tls: Option<TlsFiles>,
    /// Where Prometheus metrics are served; `None` serves none.
    pub metrics_listen: Option<SocketAddr>,
    /// The audit file; `None` writes none.
    pub audit: Option<Audit>,
    /// What goes to stderr.
    pub log: Log,
    /// What is served, each at a path of its own; at least one.
    pub servers: Vec<Server>,
}

impl Config {
    /// The resource that `server` is when listening on `bound`: the public URL, else the listening
    /// address itself, and the endpoint's path.
    ///
    /// # Errors
    /// [`InvalidResource`] when there is no public URL and `bound` is not loopback without TLS. A
    /// `Config` made from settings has been checked and gives none.
    pub fn resource(&self, server: &Server, bound: SocketAddr) -> Result<ResourceUri, InvalidResource> {
        match &self.public_url {
            Some(url) => ResourceUri::new(url, &server.path),
            None => {
                let scheme = if self.tls.is_some() { "https" } else { "http" };
                // Parsing drops a port that is the scheme's own, as clients do.
                let url = format!("{scheme}://{bound}");
                let url = Url::parse(&url).map_or(url, |url| url.origin().ascii_serialization());
                ResourceUri::new(&url, &server.path)
            }
        }
    }
}

/// A tunnel that leads here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Whose it is.
    pub agent: Agent,
    /// How long its agent may take until it has one.
    pub timeout: Duration,
}

/// The agent of a tunnel: a program that somebody has installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Cloudflare's.
    Cloudflared,
    /// ngrok's.
    Ngrok,
}

/// Who decides about tokens.
#[derive(Clone, Debug)]
pub enum Auth {
    /// We do: the embedded authorization server issues them.
    Embedded(Embedded),
    /// Nobody: every request is let in. Loopback only, without a public URL.
    None,
    /// The authorization server is asked about each token (RFC 7662).
    Introspection(Introspection),
    /// Tokens are signed JWTs (RFC 9068).
    Jwt(Jwt),
}

/// How the embedded authorization server works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Where it keeps what it knows.
    pub state_dir: PathBuf,
    /// How users sign in.
    pub approve: Approve,
    /// Whether clients may register only for a while after the owner has said so.
    pub registration_window: bool,
    /// Private URI schemes to which answers may be sent, besides the built-in ones.
    pub redirect_schemes: Vec<String>,
    /// What scopes let a client do, in the operator's words.
    pub scopes: BTreeMap<String, String>,
}

/// How users of the embedded authorization server sign in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Approve {
    /// With a passphrase, in the browser.
    #[default]
    Passphrase,
    /// By a code that is confirmed on this machine.
    Terminal,
}

/// How to ask the authorization server about a token.
#[derive(Clone, Debug)]
pub struct Introspection {
    /// Who issues the tokens.
    pub issuer: Issuer,
    /// Where to ask; `None`: as the authorization server's metadata says.
    pub endpoint: Option<Url>,
    /// Our own name at the authorization server.
    pub client_id: String,
    /// Our own secret at the authorization server.
    pub client_secret: Secret<String>,
    /// How long an accepted token may be believed without asking again; zero asks every time.
    pub cache: Duration,
    /// Whether a token without `exp` is refused.
    pub require_exp: bool,
    /// Audiences that are accepted besides the resource.
    pub accepted_audiences: Vec<String>,
}

/// How to verify a token that is a signed JWT.
#[derive(Clone, Debug)]
pub struct Jwt {
    /// Who issues the tokens.
    pub issuer: Issuer,
    /// Where the issuer's keys are; `None`: as the authorization server's metadata says.
    pub jwks_url: Option<Url>,
    /// Audiences that are accepted besides the resource.
    pub accepted_audiences: Vec<String>,
}

/// Bounds on what one client, and all together, may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A longer request body is refused.
    pub max_body_bytes: usize,
    /// Longer request headers are refused. At least 8 KiB, which is what hyper needs.
    pub max_header_bytes: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// Requests at once, over all connections.
    pub max_concurrent_requests: usize,
    /// Requests of one principal; `None` does not count them.
    pub rate_limit: Option<RateLimit>,
    /// From the connection, or the previous answer, to the end of the next request's headers.
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body.
    pub body_timeout: Duration,
    /// How long a client may take no byte of its answer.
    pub write_timeout: Duration,
    /// From the end of the body to the answer.
    pub request_timeout: Duration,
    /// How long a legacy session lives unused.
    pub session_idle: Duration,
    /// Legacy sessions at once.
    pub max_sessions: usize,
    /// Legacy sessions of one principal at once.
    pub max_sessions_per_principal: usize,
    /// How long accepted requests may take to end at shutdown.
    pub drain_timeout: Duration,
    /// Time between comments on an event stream that has nothing to say.
    pub keep_alive: Duration,
}

/// How often one principal may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests per second, sustained.
    pub per_second: NonZeroU32,
    /// Requests at once, after a pause.
    pub burst: NonZeroU32,
}

/// PEM files of the server's TLS side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What is kept of who did what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The file to append to.
    pub path: PathBuf,
    /// Whether the values of tool arguments are written too.
    pub arguments: bool,
}

/// What goes to stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is written.
    pub level: Level,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}
