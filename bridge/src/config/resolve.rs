//! From what was written to what is meant.

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    ops::RangeInclusive,
    time::Duration,
};

use tracing::Level;
use url::Url;

use crate::{
    authserver,
    config::{
        Agent, Audit, Auth, Config, Limits, Listener, Log, LogFormat, RateLimit, TlsFiles, Tunnel,
        auth::auth,
        parse,
        resolver::{Resolver, warn_if_readable_by_all},
        server::Server,
        servers::servers,
        settings as s,
    },
};

/// What the settings come to. A part is `None` only when there is a problem; there may be problems anyway.
pub(super) struct Resolved {
    /// All of it.
    pub(super) config: Option<Config>,
    /// What is served, also where nothing says who may use it.
    pub(super) servers: Option<Vec<Server>>,
    /// What goes to stderr.
    pub(super) log: Log,
}

/// Makes the configuration.
pub(super) fn resolve(r: &mut Resolver<'_>) -> Resolved {
    let listen = r.value(&s::LISTEN, parse::address);
    let public_url = r.value(&s::PUBLIC_URL, parse::line);
    let auth = auth(r);
    let allowed_origins = r.values(&s::ALLOWED_ORIGIN, parse::origin);
    let allowed_hosts = r.values(&s::ALLOWED_HOST, parse::host);
    let trusted_proxies = r.values(&s::TRUSTED_PROXY, parse::ip);
    let limits = limits(r);
    let tls = tls(r);
    let metrics_listen = r.value(&s::METRICS_LISTEN, parse::address);
    let audit = audit(r);
    let log = Log {
        level: r.value(&s::LOG_LEVEL, parse::level).unwrap_or(Level::INFO),
        format: r.value(&s::LOG_FORMAT, parse::log_format).unwrap_or(LogFormat::Text),
    };
    let servers = servers(r, public_url.as_deref());
    if let Some(Auth::Embedded(_)) = &auth {
        embedded(r, public_url.as_deref(), servers.as_deref().unwrap_or_default());
    }
    let tunnel = tunnel(r, listen, public_url.as_deref(), auth.as_ref());
    if let Some(listen) = listen {
        exposure(r, listen, public_url.is_some(), auth.as_ref());
        if let Some(metrics) = metrics_listen {
            metrics_exposure(r, listen, metrics);
        }
    }
    let resolved = |((listen, auth), servers)| Config {
        listen,
        public_url,
        tunnel,
        auth,
        allowed_origins,
        allowed_hosts,
        trusted_proxies,
        limits,
        tls,
        metrics_listen,
        audit,
        log,
        servers,
    };
    Resolved { config: listen.zip(auth).zip(servers.clone()).map(resolved), servers, log }
}

/// Where a listening server is reached from its own machine. `None` only when there is a problem.
pub(super) fn listener(r: &mut Resolver<'_>) -> Option<Listener> {
    let mut address = r.value(&s::LISTEN, parse::address)?;
    if address.port() == 0 {
        r.problem(&s::LISTEN, "port 0 is another one at each start, so nobody can know it; choose a port");
    }
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    Some(Listener { address, has_tls: r.is_written(&s::TLS_CERT) })
}

/// The authorization server has paths of its own, at the root of the public URL.
fn embedded(r: &mut Resolver<'_>, public_url: Option<&str>, servers: &[Server]) {
    let has_path = |url: &str| Url::parse(url).is_ok_and(|url| !url.path().trim_end_matches('/').is_empty());
    if public_url.is_some_and(has_path) {
        let what = "the embedded authorization server needs a whole origin; leave the path out, and put it into `path`";
        r.problem(&s::PUBLIC_URL, what);
    }
    for server in servers.iter().filter(|server| authserver::is_own_path(&server.path)) {
        let what = format!("`{}` is a path of the embedded authorization server; choose another", server.path);
        r.problem(&s::PATH, what);
    }
}

/// Checks who can connect against who is let in.
fn exposure(r: &mut Resolver<'_>, listen: SocketAddr, is_public: bool, auth: Option<&Auth>) {
    let loopback = listen.ip().is_loopback();
    if let Some(Auth::None) = auth {
        if is_public {
            r.problem(&s::PUBLIC_URL, "auth = none would let everybody on the network in; remove one of the two");
        }
        if !loopback {
            r.problem(&s::LISTEN, "auth = none would let everybody on the network in; listen on 127.0.0.1");
        }
        if r.is_written(&s::ALLOWED_HOST) {
            r.warnings.push("auth is none and allowed_host is set: a tunnel with that host lets everybody in".into());
        }
    } else if !loopback && !is_public && !r.is_written(&s::PUBLIC_URL) && !r.is_written(&s::TUNNEL) {
        let what = "not a loopback address, so clients need public_url to know this server; set it to the URL they use, \
                    like https://mcp.example.com";
        r.problem(&s::LISTEN, what);
    }
}

/// The tunnel, and what may not be behind one.
fn tunnel(
    r: &mut Resolver<'_>,
    listen: Option<SocketAddr>,
    public_url: Option<&str>,
    auth: Option<&Auth>,
) -> Option<Tunnel> {
    let agent = r.value(&s::TUNNEL, parse::agent);
    let timeout = r.value(&s::TUNNEL_TIMEOUT, parse::duration(Duration::from_secs(1)));
    let tunnel = Tunnel { agent: agent?, timeout: timeout? };
    if let Some(Auth::None) = auth {
        r.problem(&s::TUNNEL, "auth = none would let everybody on the internet in; remove one of the two");
    }
    if public_url.is_some_and(|url| url.starts_with("http://")) {
        r.problem(
            &s::PUBLIC_URL,
            "the URL of a tunnel is an https one; correct it, or leave it out to take what comes",
        );
    }
    if listen.is_some_and(|listen| !listen.ip().is_loopback()) {
        r.problem(&s::LISTEN, "a tunnel comes from this machine, and nobody else needs to; listen on 127.0.0.1");
    }
    if r.is_written(&s::TLS_CERT) {
        r.problem(&s::TLS_CERT, "a tunnel brings its own certificate, and comes from this machine; leave it out");
    }
    let has_token = r.raw.variables.contains(OsStr::new(CLOUDFLARED_TOKEN));
    if tunnel.agent == Agent::Cloudflared && has_token && !r.is_written(&s::PUBLIC_URL) {
        let what = "is not used, because a tunnel without public_url is a quick one, which belongs to nobody; set \
                    public_url to the URL of the tunnel that the token is for";
        r.warnings.push(format!("{CLOUDFLARED_TOKEN} {what}"));
    }
    Some(tunnel)
}

/// The variable from which cloudflared takes the token of a tunnel.
const CLOUDFLARED_TOKEN: &str = "TUNNEL_TOKEN";

fn metrics_exposure(r: &mut Resolver<'_>, listen: SocketAddr, metrics: SocketAddr) {
    let same_ip = metrics.ip() == listen.ip() || metrics.ip().is_unspecified() || listen.ip().is_unspecified();
    if metrics.port() == listen.port() && metrics.port() != 0 && same_ip {
        r.problem(&s::METRICS_LISTEN, "the endpoint listens there already; choose another port");
    }
    if !metrics.ip().is_loopback() {
        r.warnings.push(format!("metrics_listen: metrics need no token, and {metrics} is not loopback"));
    }
}

fn limits(r: &mut Resolver<'_>) -> Limits {
    const COUNT: RangeInclusive<usize> = 1..=1_000_000;
    const SECOND: Duration = Duration::from_secs(1);
    // Less than a buffer that hyper accepts, or more than any proxy sends, is a mistake.
    const HEADER_BYTES: RangeInclusive<usize> = 8 * 1024..=1024 * 1024;
    const BODY_BYTES: RangeInclusive<usize> = 1024..=1024 * 1024 * 1024;

    let rate = r.value(&s::RATE_LIMIT, parse::count(0..=1_000_000)).unwrap_or_default();
    let burst = r.value(&s::RATE_BURST, parse::count(COUNT)).unwrap_or_default();
    let positive = |count: usize| u32::try_from(count).ok().and_then(NonZeroU32::new);
    let rate_limit = positive(rate).zip(positive(burst)).map(|(per_second, burst)| RateLimit { per_second, burst });
    // A value that is wrong is a problem already, and no configuration with a problem is handed out.
    let mut count = |setting| r.value(setting, parse::count(COUNT)).unwrap_or_default();
    let (max_connections, max_concurrent_requests) = (count(&s::MAX_CONNECTIONS), count(&s::MAX_CONCURRENT_REQUESTS));
    let (max_sessions, max_sessions_per_principal) = (count(&s::MAX_SESSIONS), count(&s::MAX_SESSIONS_PER_PRINCIPAL));
    let mut time = |setting| r.value(setting, parse::duration(SECOND)).unwrap_or_default();
    Limits {
        max_connections,
        max_concurrent_requests,
        max_sessions,
        max_sessions_per_principal,
        rate_limit,
        header_timeout: time(&s::HEADER_TIMEOUT),
        body_timeout: time(&s::BODY_TIMEOUT),
        write_timeout: time(&s::WRITE_TIMEOUT),
        request_timeout: time(&s::REQUEST_TIMEOUT),
        session_idle: time(&s::SESSION_IDLE),
        keep_alive: time(&s::KEEP_ALIVE),
        drain_timeout: r.value(&s::DRAIN_TIMEOUT, parse::duration(Duration::ZERO)).unwrap_or_default(),
        max_body_bytes: r.value(&s::MAX_BODY_BYTES, parse::size(BODY_BYTES)).unwrap_or_default(),
        max_header_bytes: r.value(&s::MAX_HEADER_BYTES, parse::size(HEADER_BYTES)).unwrap_or_default(),
    }
}

fn tls(r: &mut Resolver<'_>) -> Option<TlsFiles> {
    let cert = r.value(&s::TLS_CERT, parse::path);
    let key = r.value(&s::TLS_KEY, parse::path);
    for (setting, other) in [(&s::TLS_CERT, &s::TLS_KEY), (&s::TLS_KEY, &s::TLS_CERT)] {
        if r.is_written(setting) && !r.is_written(other) {
            r.problem(setting, format!("HTTPS needs {} too", other.key));
        }
    }
    for (setting, path) in [(&s::TLS_CERT, &cert), (&s::TLS_KEY, &key)] {
        let Some(path) = path else { continue };
        if let Err(error) = std::fs::File::open(path) {
            r.problem(setting, format!("cannot read `{}`: {error}", path.display()));
        }
    }
    if let Some(key) = &key {
        warn_if_readable_by_all(r, &s::TLS_KEY, key);
    }
    cert.zip(key).map(|(cert, key)| TlsFiles { cert, key })
}

fn audit(r: &mut Resolver<'_>) -> Option<Audit> {
    let path = r.value(&s::AUDIT_LOG, parse::path);
    let arguments = r.value(&s::AUDIT_ARGUMENTS, parse::switch).unwrap_or_default();
    if arguments && !r.is_written(&s::AUDIT_LOG) {
        r.problem(&s::AUDIT_ARGUMENTS, "there is no audit file; set audit_log");
    }
    path.map(|path| Audit { path, arguments })
}
