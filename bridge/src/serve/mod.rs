//! `serve`: from settings to a running server, and to its end.

mod error;
mod signals;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

pub use self::error::ServeError;
use self::signals::Signals;
use crate::{
    authserver::AuthServer,
    backend::{
        Backend,
        child::{Program, Undertaker},
        in_process::{self, InProcess},
    },
    config::{
        Auth, Config, Loaded, LogFormat,
        server::{self as server_settings, Served, Server, Variable},
    },
    embedded,
    http::{
        bounds::Bounds,
        gate::{Gate, Setup},
        oauth::OAuth,
        server::{self, Serving},
        site::Site,
    },
    policy::Policy,
    relay::{Relay, command},
    resource::{InvalidResource, ResourceUri},
    telemetry::{self, Listening, Log, audit::Audit, metrics::Metrics},
    token::{
        Audiences, BuildError, Issuer, TokenVerifier,
        introspection::{IntrospectionSettings, IntrospectionVerifier},
        jwt::{JwtSettings, JwtVerifier},
        nobody::Nobody,
    },
    tunnel::{self, Tunnel, TunnelError},
};

/// Looks at what only the use of a setting shows: whether the TLS files hold what they should, the
/// audit file can be one, the tunnel's agent is there, and tokens can be verified. Opens no socket and
/// creates no file.
///
/// # Errors
/// What [`serve`] would say.
pub fn check(config: &Config) -> Result<(), ServeError> {
    config.tls.as_ref().map(server::tls_acceptor).transpose()?;
    config.audit.as_ref().map(|audit| Audit::check(&audit.path)).transpose()?;
    tunnel::check(config)?;
    let metrics = Arc::new(Metrics::new());
    for server in &config.servers {
        let resource = config.resource(server, config.listen)?;
        // What the embedded authorization server needs shows when it opens its state, and that may write.
        if !matches!(config.auth, Auth::Embedded(_)) {
            verifier(&config.auth, None, &resource, &policy(server), &metrics)?;
        }
    }
    Ok(())
}

/// What the settings say, or else: the calculator's own policy; one scope for everything that a
/// command does.
pub(crate) fn policy(server: &Server) -> Policy {
    match (&server.policy, &server.served) {
        (Some(raw), _) => raw.policy(),
        (None, Served::Calculator) => in_process::policy(),
        (None, Served::Command(_)) => Policy::new(Vec::new(), Some(COMMAND_SCOPE.parse().expect("a scope token"))),
    }
}

/// The scope that everything needs which a command without a policy does.
pub(crate) const COMMAND_SCOPE: &str = "mcp";

/// Serves until SIGTERM or SIGINT (on Windows Ctrl-C, Ctrl-Break, or the end of its console), then
/// finishes what was accepted.
///
/// # Errors
/// [`ServeError`] when it cannot start, or not anew under another URL of its tunnel. Otherwise it ends only
/// by a signal.
pub async fn serve(loaded: Loaded) -> Result<(), ServeError> {
    let Loaded { mut config, warnings, .. } = loaded;
    let log = telemetry::init(config.log.level, config.log.format == LogFormat::Json)?;
    for warning in warnings {
        warn!("{warning}");
    }
    let metrics = Arc::new(Metrics::new());
    let audit = config.audit.as_ref().map(|audit| Audit::open(&audit.path, audit.arguments, Arc::clone(&metrics)));
    let audit = audit.transpose()?.map(Arc::new);
    let tls = config.tls.as_ref().map(server::tls_acceptor).transpose()?;
    let signals = Signals::listen().map_err(ServeError::Signals)?;

    let (listener, bound) = listen(config.listen).await?;
    // For the tunnel's agent, which outlives what is served. It costs nothing where there is none.
    let agents = Undertaker::new().map_err(ServeError::Random)?;
    let shutdown = CancellationToken::new();
    let side_tasks = TaskTracker::new();
    let metrics_url = match config.metrics_listen {
        Some(address) => {
            let (listener, bound) = listen(address).await?;
            side_tasks.spawn(server::serve_metrics(listener, Arc::clone(&metrics), shutdown.clone()));
            Some(format!("http://{bound}/metrics"))
        }
        None => None,
    };
    let (watching, ending) = (signals.watch(audit.clone(), shutdown.clone()), shutdown.clone());
    side_tasks.spawn(async move { ending.run_until_cancelled(watching).await });
    let opened = shutdown.run_until_cancelled(open_tunnel(&config, bound, &agents)).await;
    if !matches!(opened, Some(Ok(_))) {
        agents.close(tunnel::GRACE * 2).await;
    }
    let Some(opened) = opened else { return Ok(()) };
    let open = CancellationToken::new();
    let mut urls = opened?.map(|tunnel| keep_open(tunnel, &side_tasks, open.clone()));
    if matches!(config.auth, Auth::None) {
        warn!("AUTHORIZATION IS OFF (--auth none): every program on this machine may call every tool");
    }

    let rounds = Rounds { log: &log, bound, audit: audit.as_ref(), tls, metrics, metrics_url };
    let drains = TaskTracker::new();
    let last = loop {
        if let Some(urls) = &mut urls {
            config.public_url = Some(urls.borrow_and_update().clone());
        }
        let round = match rounds.begin(&config) {
            Ok(round) => round,
            Err(error) => break Err(error),
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break Ok(round),
            () = changed(&mut urls) => {}
            () = round.serving.accept(&listener) => {}
        }
        // Who came through the tunnel that was is gone; who is on this machine may finish.
        drains.spawn(round.drain());
    };
    let ended = match last {
        Ok(last) => {
            info!("shutting down: finishing what was accepted");
            last.serving.close(listener).await;
            last.drain().await;
            Ok(())
        }
        Err(error) => {
            drop(listener);
            if !drains.is_empty() {
                warn!("cannot serve under the other URL; finishing what was accepted");
            }
            shutdown.cancel();
            Err(error)
        }
    };
    drains.close();
    drains.wait().await;
    open.cancel();
    agents.close(tunnel::GRACE * 2).await;
    side_tasks.close();
    side_tasks.wait().await;
    if let Some(audit) = audit
        && let Err(failure) = audit.shutdown().await
    {
        error!(error = %failure, "audit records may be lost");
    }
    ended
}

/// What all rounds of serving share. Each serves one resource: another URL of the tunnel makes us another
/// one, for which no token of before is good, so all that hangs on it is made anew.
struct Rounds<'s> {
    log: &'s Log,
    bound: SocketAddr,
    audit: Option<&'s Arc<Audit>>,
    tls: Option<TlsAcceptor>,
    metrics: Arc<Metrics>,
    metrics_url: Option<String>,
}

impl Rounds<'_> {
    /// Makes what is served under the public URL of `config`, and says where it is.
    fn begin(&self, config: &Config) -> Result<Round, ServeError> {
        let authserver = match &config.auth {
            Auth::Embedded(embedded) => Some(Arc::new(embedded::open(embedded, config, self.bound)?)),
            _ => None,
        };
        let undertaker = Undertaker::new().map_err(ServeError::Random)?;
        let site = site(config, self.bound, self.audit, &undertaker, authserver.clone(), &self.metrics)?;
        announce(self.log, config, self.bound, self.metrics_url.as_deref())?;
        embedded::welcome(self.log, config, self.bound, authserver.as_deref())?;
        let limits = config.limits.clone();
        let serving = Serving::new(Arc::new(site), limits, self.tls.clone(), Arc::clone(&self.metrics));
        Ok(Round { serving, undertaker, grace: longest_grace(&config.servers) })
    }
}

/// What is served under one URL, with its processes.
struct Round {
    serving: Serving,
    undertaker: Undertaker,
    grace: Duration,
}

impl Round {
    /// Finishes what was accepted, and ends the processes.
    async fn drain(self) {
        self.serving.drain().await;
        // One for all servers: none of them may end before its own time the processes of another.
        self.undertaker.close(self.grace * 2).await;
    }
}

/// Opens the tunnel that the settings ask for. Until it is there, nobody who has connected is answered.
async fn open_tunnel(config: &Config, bound: SocketAddr, agents: &Undertaker) -> Result<Option<Tunnel>, TunnelError> {
    match config.tunnel {
        Some(tunnel) => Tunnel::open(tunnel, config.public_url.as_deref(), bound, agents).await.map(Some),
        None => Ok(None),
    }
}

/// Keeps `tunnel` open until `end`, and gives its URLs.
fn keep_open(tunnel: Tunnel, tasks: &TaskTracker, end: CancellationToken) -> watch::Receiver<String> {
    let (urls, receiver) = watch::channel(tunnel.url().to_owned());
    tasks.spawn(async move { end.run_until_cancelled(tunnel.keep(&urls)).await });
    receiver
}

/// Waits until the tunnel has another URL. Without a tunnel that is never.
async fn changed(urls: &mut Option<watch::Receiver<String>>) {
    if let Some(urls) = urls
        && urls.changed().await.is_ok()
    {
        let url = &*urls.borrow();
        warn!(
            url,
            "the tunnel has another URL, so this is another resource: tokens for the old one are refused, and clients \
             have to be given the new one"
        );
        return;
    }
    std::future::pending().await
}

/// The longest time that a server's processes have after each request to end.
fn longest_grace(servers: &[Server]) -> Duration {
    let grace = |server: &Server| match &server.served {
        Served::Calculator => None,
        Served::Command(command) => Some(command.stop_grace),
    };
    servers.iter().filter_map(grace).max().unwrap_or_default()
}

/// Says where each server listens.
fn announce(log: &Log, config: &Config, bound: SocketAddr, metrics_url: Option<&str>) -> Result<(), InvalidResource> {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let place = |server: &Server| {
        let resource = config.resource(server, bound)?.as_str().to_owned();
        Ok(Listening { name: server.name.clone(), url: format!("{scheme}://{bound}{}", server.path), resource })
    };
    let places: Vec<Listening> = config.servers.iter().map(place).collect::<Result<_, InvalidResource>>()?;
    log.listening(&places, metrics_url);
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |error| ServeError::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Who decides about tokens, and who issues them.
fn verifier(
    auth: &Auth,
    authserver: Option<&Arc<AuthServer>>,
    resource: &ResourceUri,
    policy: &Policy,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<dyn TokenVerifier>, Option<Issuer>), BuildError> {
    let observer = Arc::clone(metrics);
    Ok(match auth {
        Auth::None => (Arc::new(Nobody::new(policy.scopes().clone())), None),
        Auth::Embedded(_) => {
            let server = authserver.expect("it is opened where the settings want it");
            (Arc::new(server.verifier(resource)), Some(Issuer::new(resource.origin())))
        }
        Auth::Introspection(auth) => {
            let settings = IntrospectionSettings {
                endpoint: auth.endpoint.clone(),
                issuer: auth.issuer.clone(),
                client_id: auth.client_id.clone(),
                client_secret: auth.client_secret.clone(),
                cache_ttl: auth.cache,
                require_exp: auth.require_exp,
                audiences: Audiences::new(resource, auth.accepted_audiences.iter().cloned()),
            };
            (Arc::new(IntrospectionVerifier::new(settings, observer)?), Some(auth.issuer.clone()))
        }
        Auth::Jwt(auth) => {
            let settings = JwtSettings {
                jwks_url: auth.jwks_url.clone(),
                issuer: auth.issuer.clone(),
                audiences: Audiences::new(resource, auth.accepted_audiences.iter().cloned()),
            };
            (Arc::new(JwtVerifier::new(settings, observer)?), Some(auth.issuer.clone()))
        }
    })
}

/// One gate per server, and what they share.
fn site(
    config: &Config,
    bound: SocketAddr,
    audit: Option<&Arc<Audit>>,
    undertaker: &Undertaker,
    authserver: Option<Arc<AuthServer>>,
    metrics: &Arc<Metrics>,
) -> Result<Site, ServeError> {
    let bounds = Bounds::new(&config.limits, !matches!(config.auth, Auth::None));
    let mut gates = Vec::with_capacity(config.servers.len());
    for server in &config.servers {
        let resource = config.resource(server, bound)?;
        let policy = policy(server);
        let (verifier, issuer) = verifier(&config.auth, authserver.as_ref(), &resource, &policy, metrics)?;
        let gate = Gate::new(Setup {
            resource: &resource,
            path: &server.path,
            legacy_sse: server.legacy_sse,
            bound,
            issuer: issuer.as_ref(),
            server: (config.servers.len() > 1).then_some(server.name.as_str()),
            name: shown_name(server),
            documentation: server.resource_documentation.as_deref(),
            allowed_hosts: &config.allowed_hosts,
            allowed_origins: &config.allowed_origins,
            trusted_proxies: config.trusted_proxies.clone(),
            verifier,
            policy,
            relay: Relay::new(
                backend(server, config, undertaker, metrics),
                config.limits.request_timeout,
                config.limits.keep_alive,
            ),
            limits: config.limits.clone(),
            bounds: bounds.clone(),
            denial: server.denial,
            filter_lists: server.filter_lists,
            audit: audit.cloned(),
            metrics: Arc::clone(metrics),
        });
        gates.push((server.name.clone(), gate));
    }
    let oauth = authserver.map(|server| OAuth::new(server, &config.limits));
    Ok(Site::new(gates, bounds, oauth))
}

/// The name that clients may show to people.
pub(crate) fn shown_name(server: &Server) -> &str {
    match (&server.resource_name, &server.served) {
        (Some(name), _) => name,
        (None, Served::Calculator) => "Calculator",
        (None, Served::Command(_)) => &server.name,
    }
}

/// What answers the permitted requests of `server`.
fn backend(server: &Server, config: &Config, undertaker: &Undertaker, metrics: &Arc<Metrics>) -> Arc<dyn Backend> {
    let Served::Command(command) = &server.served else { return Arc::new(InProcess) };
    let settings = command::Settings {
        program: Arc::new(program(&server.name, command)),
        isolation: command.isolation,
        pool: command.pool,
        pool_idle: command.pool_idle,
        max_children: command.max_children,
        tell_apart: !matches!(config.auth, Auth::None),
        start_timeout: command.start_timeout,
        idle: config.limits.session_idle,
        metrics: Arc::clone(metrics),
    };
    Arc::new(command::Command::new(settings, undertaker.clone()))
}

/// What to start for `command`, which the log calls `name`.
pub(crate) fn program(name: &str, command: &server_settings::Command) -> Program {
    let (set, pass): (Vec<_>, Vec<_>) = command.environment.iter().partition(|variable| variable.value.is_some());
    let pass: Vec<String> = pass.into_iter().map(|variable| variable.name.clone()).collect();
    let value = |variable: &Variable| Some((variable.name.clone(), variable.value.as_ref()?.expose().clone()));
    let set: Vec<(String, String)> = set.into_iter().filter_map(value).collect();
    Program {
        name: name.to_owned(),
        command: command.program.clone().into(),
        arguments: command.arguments.iter().map(Into::into).collect(),
        environment: Program::environment(std::env::vars_os(), &pass, &set),
        working_dir: command.working_dir.clone(),
        max_line_bytes: command.max_message_bytes,
        grace: command.stop_grace,
        hears: None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::{Cli, Command},
        config,
        message::Message,
        token::VerifiedToken,
    };

    /// The policy of the one server that `args` make.
    fn policy_of(args: &[&str]) -> Policy {
        let Command::Serve(flags) =
            Cli::parse_from([&["mcp-bridge", "serve", "--auth", "none"], args].concat()).command
        else {
            panic!("`serve` was asked for")
        };
        policy(&config::load(&flags, std::iter::empty()).expect("good settings").config.servers[0])
    }

    #[test]
    fn a_command_without_a_policy_needs_one_scope_for_everything_but_lists_and_handshakes() {
        let policy = policy_of(&["--", "npx", "--auth", "x"]);
        assert_eq!(policy.scopes().to_string(), "mcp");
        let allowed = |scopes: &str, method: &str| {
            let token = VerifiedToken { scopes: scopes.parse().expect("scopes"), ..VerifiedToken::of("u", "c") };
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"n","uri":"u"}}}}"#);
            let Ok(Message::Request(request)) = Message::parse(body.as_bytes()) else { panic!("{body}") };
            policy.permit(&token, request).is_ok()
        };
        for method in ["tools/call", "prompts/get", "resources/read", "completion/complete", "vendor/method"] {
            assert!(!allowed("", method) && !allowed("op:add", method) && allowed("mcp", method), "{method}");
        }
        for method in ["initialize", "ping", "server/discover", "tools/list", "resources/list", "subscriptions/listen"]
        {
            assert!(allowed("", method), "{method}");
        }
        assert_eq!(policy_of(&[]).scopes().to_string(), "op:add op:sub op:mult op:div");
    }
}
