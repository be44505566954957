//! What was written → what is meant, or everything that is wrong with it.

use std::{fs, path::PathBuf};

use proptest::prelude::*;

use super::{
    policy::RawPolicy,
    server::Served,
    settings::{ALL, Kind, Setting},
    *,
};

mod auth;
mod file;
mod servers;

const PROPELAUTH: [(&str, &str); 3] = [
    ("PROPELAUTH_AUTH_URL", "https://auth.example.com"),
    ("PROPELAUTH_INTROSPECTION_CLIENT_ID", "bridge"),
    ("PROPELAUTH_INTROSPECTION_CLIENT_SECRET", "canary-secret"),
];

/// A directory for the files of one test, so that paths in messages are known.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn put(&self, name: &str, content: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("a writable directory");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
        }
        path.to_str().expect("a UTF-8 path").to_owned()
    }

    /// `text` without the directory's name.
    fn neutral(&self, text: &str) -> String {
        text.replace(&format!("{}{}", self.0.path().display(), std::path::MAIN_SEPARATOR), "")
    }
}

fn flags(written: &[(&str, &str)]) -> Flags {
    let mut flags = Flags::default();
    for (name, text) in written {
        let setting = ALL.iter().find(|setting| setting.flag_name() == *name).expect("a known flag");
        flags.0.entry(setting.key).or_default().push((*text).to_owned());
    }
    flags
}

fn load_from(written: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Loaded, Problems> {
    load(&flags(written), variables.iter().map(|(name, value)| (name.into(), value.into())))
}

#[track_caller]
fn good(written: &[(&str, &str)], variables: &[(&str, &str)]) -> Loaded {
    load_from(written, variables).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Expects exactly one problem per entry of `expected`, each holding that text.
#[track_caller]
fn check(written: &[(&str, &str)], variables: &[(&str, &str)], expected: &[&str]) {
    let found = match load_from(written, variables) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    };
    let all = found.len() == expected.len() && found.iter().zip(expected).all(|(found, part)| found.contains(part));
    assert!(all, "{written:?} {variables:?}\nexpected {expected:#?}\nfound {found:#?}");
}

fn introspection(config: &Config) -> &Introspection {
    match &config.auth {
        Auth::Introspection(introspection) => introspection,
        other => panic!("{other:?}"),
    }
}

/// The one server that there is.
#[track_caller]
fn only(config: &Config) -> &Server {
    assert_eq!(config.servers.len(), 1, "{config:?}");
    &config.servers[0]
}

/// The resource of the one server that there is.
fn resource(config: &Config) -> String {
    config.resource(only(config), config.listen).expect("checked with the settings").as_str().to_owned()
}

#[test]
fn defaults_are_safe() {
    let Loaded { config, warnings, .. } = good(&[("auth", "none")], &[]);
    assert_eq!(config.listen.to_string(), "127.0.0.1:8808");
    assert_eq!((only(&config).path.as_str(), config.public_url.as_deref()), ("/mcp", None));
    assert!(matches!(only(&config).served, Served::Calculator) && only(&config).policy.is_none());
    assert_eq!(resource(&config), "http://127.0.0.1:8808/mcp");
    assert!(config.allowed_origins.is_empty() && config.allowed_hosts.is_empty() && config.trusted_proxies.is_empty());
    assert!(config.tls.is_none() && config.metrics_listen.is_none() && config.audit.is_none());
    assert_eq!(config.log, Log { level: Level::INFO, format: LogFormat::Text });
    let limits = &config.limits;
    assert_eq!((limits.max_body_bytes, limits.max_header_bytes), (4 << 20, 32 << 10));
    assert_eq!((limits.max_connections, limits.max_concurrent_requests), (1024, 256));
    assert_eq!((limits.max_sessions, limits.max_sessions_per_principal), (10_000, 100));
    let rate = limits.rate_limit.expect("on");
    assert_eq!((rate.per_second.get(), rate.burst.get()), (50, 100));
    let seconds = [
        (limits.header_timeout, 30),
        (limits.body_timeout, 30),
        (limits.write_timeout, 30),
        (limits.request_timeout, 60),
        (limits.session_idle, 1800),
        (limits.drain_timeout, 30),
        (limits.keep_alive, 15),
    ];
    assert!(seconds.iter().all(|(duration, expected)| duration.as_secs() == *expected), "{limits:?}");
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn values_that_cannot_be_used() {
    let cases = [
        ("listen", "8808", "--listen: `8808` is not an IP address and a port"),
        ("listen", "0.0.0.0:8808", "--listen: not a loopback address, so clients need public_url"),
        ("path", "mcp", "--path: the path must begin with `/`"),
        ("path", "/a\"b", "--path: the path must"),
        ("path", "/healthz", "--path: /healthz, /readyz, /.well-known, /oauth are the bridge's own"),
        ("path", "/oauth/x", "--path: /healthz, /readyz"),
        ("working-dir", "/nonexistent", "--working-dir: cannot use `/nonexistent`: "),
        ("isolation", "none", "--isolation: `none` is not an isolation; use request, session or shared"),
        ("pool", "-1", "--pool: `-1` is not a whole number"),
        ("pool", "65", "--pool: 65 children cannot be kept ready: pool is 65 and max_children is 64"),
        ("max-children", "0", "--max-children: 0 is not between 1"),
        ("max-children", "1", "--max-children: 2 children cannot be kept ready: pool is 2 and max_children is 1"),
        ("pool-idle", "0s", "--pool-idle: `0s` is not between 1s"),
        ("start-timeout", "60", "--start-timeout: `60` is not a duration"),
        ("stop-grace", "3", "--stop-grace: `3` is not a duration"),
        ("max-message-bytes", "1", "--max-message-bytes: 1 bytes is not between 1024"),
        ("env", "1X", "--env: a variable is NAME=VALUE or NAME"),
        ("env", "MCP_BRIDGE_CONFIG", "--env: `MCP_BRIDGE_CONFIG` is the bridge's own"),
        ("env", "propelauth_x", "--env: `propelauth_x` is the bridge's own"),
        ("filter-lists", "yes", "--filter-lists: `yes` is neither true nor false"),
        ("denial", "403", "--denial: `403` is not a way to deny; use http or tool-error"),
        ("legacy-sse", "1", "--legacy-sse: `1` is neither true nor false"),
        ("public-url", "http://h.example", "--public-url: plain http"),
        ("public-url", "https://h.example/?q", "--public-url: a query or fragment"),
        ("public-url", "https://H.example", "--public-url: clients compare this URL byte for byte"),
        ("tunnel", "frp", "--tunnel: `frp` is not a tunnel agent; use cloudflared or ngrok"),
        ("tunnel-timeout", "0s", "--tunnel-timeout: `0s` is not between 1s"),
        ("auth", "oauth", "--auth: `oauth` is not a way"),
        ("issuer", "http://a.example", "--issuer: plain http"),
        ("issuer", "https://a.example?x", "--issuer: an issuer has no query"),
        ("issuer", "https://a.example#x", "--issuer: a fragment"),
        ("introspection-url", "http://a.example/i", "--introspection-url: plain http"),
        ("introspection-client-id", "a\nb", "--introspection-client-id: `a\\nb` has control characters"),
        ("introspection-client-id", "", "--introspection-client-id: is empty"),
        ("introspection-cache", "15", "--introspection-cache: `15` is not a duration"),
        ("introspection-cache", "1h", "--introspection-cache: `1h` is not between 0s and 10m"),
        ("require-exp", "yes", "--require-exp: `yes` is neither true nor false"),
        ("allowed-origin", "*", "--allowed-origin: `*` would let every web page"),
        ("allowed-origin", "https://a.example/", "--allowed-origin: browsers send this origin as https://a.example;"),
        ("allowed-host", "https://a.example", "--allowed-host: `https://a.example` is not a host"),
        ("trusted-proxy", "10.0.0.0/8", "--trusted-proxy: `10.0.0.0/8` is not an IP address"),
        ("resource-name", "a\u{7}", "--resource-name: `a\\u{7}` has control"),
        ("resource-documentation", "docs", "--resource-documentation: not the URL of a page"),
        ("max-body-bytes", "4MB", "--max-body-bytes: `4MB` is not a size"),
        ("max-header-bytes", "4KiB", "--max-header-bytes: 4096 bytes is not between 8192"),
        ("max-connections", "0", "--max-connections: 0 is not between 1"),
        ("rate-limit", "-1", "--rate-limit: `-1` is not a whole number"),
        ("rate-burst", "0", "--rate-burst: 0 is not between 1"),
        ("header-timeout", "0s", "--header-timeout: `0s` is not between 1s"),
        ("session-idle", "2years", "--session-idle: `2years` is not between"),
        ("metrics-listen", "127.0.0.1:8808", "--metrics-listen: the endpoint listens there already"),
        ("audit-arguments", "true", "--audit-arguments: there is no audit file"),
        ("log-level", "loud", "--log-level: `loud` is not a level"),
        ("log-format", "xml", "--log-format: `xml` is not a log format"),
        ("config", "/nonexistent/bridge.toml", "--config: cannot read `/nonexistent/bridge.toml`: "),
        (
            "introspection-client-secret-file",
            "/nonexistent",
            "--introspection-client-secret-file: the file cannot be read",
        ),
    ];
    for (flag, text, expected) in cases {
        check(&[(flag, text)], &PROPELAUTH, &[expected]);
        // The other sources say the same, under their own names.
        let setting = ALL.iter().find(|setting| setting.flag_name() == flag).expect("a known flag");
        let (place, what) = expected.split_once(": ").expect("place and problem");
        assert_eq!(place, format!("--{flag}"));
        let variable = setting.variable();
        check(
            &[],
            &[&PROPELAUTH[..], &[(&variable, text)]].concat(),
            &[&format!("environment variable {variable}: {what}")],
        );
        if setting.has_key() {
            let files = Files::new();
            let value = serde_json::Value::from(text);
            let path = files.put("bridge.toml", &format!("# A comment.\n{} = {value}\n", setting.key));
            check(&[("config", &path)], &PROPELAUTH, &[&format!("bridge.toml:2: `{}`: {what}", setting.key)]);
        }
    }
}

#[test]
fn good_values_reach_the_configuration() {
    let files = Files::new();
    let (cert, key) = (files.put("cert.pem", ""), files.put("key.pem", ""));
    let written = [
        ("listen", "0.0.0.0:443"),
        ("public-url", "https://h.example/prefix"),
        ("path", "/x"),
        ("tls-cert", &cert),
        ("tls-key", &key),
        ("introspection-cache", "0s"),
        ("require-exp", "true"),
        ("allowed-origin", "https://a.example"),
        ("allowed-origin", "http://localhost:6274"),
        ("allowed-host", "H.example:1"),
        ("trusted-proxy", "::1"),
        ("resource-name", "Büro"),
        ("resource-documentation", "https://h.example/docs"),
        ("rate-limit", "0"),
        ("metrics-listen", "127.0.0.1:0"),
        ("audit-log", "audit.jsonl"),
        ("audit-arguments", "true"),
        ("log-level", "trace"),
        ("log-format", "json"),
    ];
    let Loaded { config, warnings, .. } = good(&written, &PROPELAUTH);
    assert_eq!(resource(&config), "https://h.example/prefix/x");
    assert_eq!(config.tls, Some(TlsFiles { cert: PathBuf::from(&cert), key: PathBuf::from(&key) }));
    assert!(introspection(&config).cache.is_zero() && introspection(&config).require_exp);
    assert_eq!(config.allowed_origins, ["https://a.example", "http://localhost:6274"]);
    assert_eq!(config.allowed_hosts, ["h.example:1"]);
    assert_eq!(config.trusted_proxies, ["::1".parse::<IpAddr>().expect("an address")]);
    assert_eq!(only(&config).resource_name.as_deref(), Some("Büro"));
    assert_eq!(config.limits.rate_limit, None);
    assert_eq!(config.audit, Some(Audit { path: "audit.jsonl".into(), arguments: true }));
    assert_eq!(config.log, Log { level: Level::TRACE, format: LogFormat::Json });
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn a_tunnel_leads_to_loopback_and_only_with_authorization() {
    let tunnel = ("tunnel", "ngrok");
    let Loaded { config, warnings, .. } = good(&[tunnel, ("public-url", "https://n.ngrok.app")], &[]);
    let expected = Tunnel { agent: Agent::Ngrok, timeout: Duration::from_secs(30) };
    assert_eq!((config.tunnel, config.public_url.as_deref()), (Some(expected), Some("https://n.ngrok.app")));
    assert_eq!(warnings, [""; 0]);
    let loaded = good(&[("tunnel", "cloudflared")], &[("TUNNEL_TOKEN", "canary")]);
    assert_eq!(loaded.config.tunnel.map(|tunnel| tunnel.agent), Some(Agent::Cloudflared));
    assert!(loaded.to_string().ends_with("The URL for clients is known when the tunnel is there"), "{loaded}");
    assert!(matches!(&*loaded.warnings, [warning] if warning.starts_with("TUNNEL_TOKEN is not used")));
    check(&[tunnel, ("auth", "none")], &[], &["--tunnel: auth = none would let everybody on the internet in"]);
    check(&[tunnel, ("public-url", "http://127.0.0.1:1")], &[], &["--public-url: the URL of a tunnel is an https one"]);
    check(&[tunnel, ("listen", "0.0.0.0:1")], &[], &["--listen: a tunnel comes from this machine"]);
    let files = Files::new();
    let (cert, key) = (files.put("cert.pem", ""), files.put("key.pem", ""));
    check(&[tunnel, ("tls-cert", &cert), ("tls-key", &key)], &[], &["--tls-cert: a tunnel brings its own"]);
}

#[test]
fn metrics_have_an_address_of_their_own() {
    let url = ("public-url", "https://h.example");
    let taken = &["--metrics-listen: the endpoint listens there already"][..];
    for (listen, metrics, expected) in [
        ("127.0.0.1:1", "127.0.0.1:1", taken),
        ("0.0.0.0:1", "127.0.0.1:1", taken),
        ("127.0.0.1:1", "0.0.0.0:1", taken),
        ("127.0.0.1:1", "127.0.0.2:1", &[]),
        ("127.0.0.1:0", "127.0.0.1:0", &[]),
    ] {
        check(&[url, ("listen", listen), ("metrics-listen", metrics)], &PROPELAUTH, expected);
    }
    let warnings = |address| good(&[("auth", "none"), ("metrics-listen", address)], &[]).warnings.len();
    assert_eq!((warnings("127.0.0.1:9808"), warnings("10.0.0.1:9808")), (0, 1));
}

#[test]
fn each_limit_reads_its_own_setting() {
    let written = [
        ("max-body-bytes", "1025"),
        ("max-header-bytes", "9KiB"),
        ("max-connections", "3"),
        ("max-concurrent-requests", "4"),
        ("rate-limit", "5"),
        ("rate-burst", "6"),
        ("header-timeout", "7s"),
        ("body-timeout", "8s"),
        ("write-timeout", "9s"),
        ("request-timeout", "10s"),
        ("session-idle", "11s"),
        ("max-sessions", "12"),
        ("max-sessions-per-principal", "13"),
        ("drain-timeout", "0s"),
        ("keep-alive", "15s"),
        ("auth", "none"),
    ];
    let limits = good(&written, &[]).config.limits;
    let rate = limits.rate_limit.expect("on");
    let sizes =
        [limits.max_body_bytes, limits.max_header_bytes, limits.max_connections, limits.max_concurrent_requests];
    assert_eq!(sizes, [1025, 9 << 10, 3, 4]);
    assert_eq!((rate.per_second.get(), rate.burst.get()), (5, 6));
    let times = [limits.header_timeout, limits.body_timeout, limits.write_timeout, limits.request_timeout];
    assert_eq!(times.map(|time| time.as_secs()), [7, 8, 9, 10]);
    let times = [limits.session_idle, limits.drain_timeout, limits.keep_alive];
    assert_eq!(times.map(|time| time.as_secs()), [11, 0, 15]);
    assert_eq!((limits.max_sessions, limits.max_sessions_per_principal), (12, 13));
}

#[test]
fn the_resource_follows_the_bound_address() {
    let resource = |config: &Config, bound: &str| {
        config.resource(only(config), bound.parse().expect("an address")).expect("valid").as_str().to_owned()
    };
    let plain = good(&[("auth", "none"), ("listen", "[::1]:0")], &[]).config;
    let port_0 = good(&[("auth", "none"), ("listen", "127.0.0.1:0")], &[]).to_string();
    assert!(port_0.ends_with("The port is picked at start"), "{port_0}");
    assert_eq!(resource(&plain, "[::1]:5"), "http://[::1]:5/mcp");
    assert_eq!(resource(&plain, "127.0.0.1:80"), "http://127.0.0.1/mcp");
    let files = Files::new();
    let (cert, key) = (files.put("cert.pem", ""), files.put("key.pem", ""));
    let tls = good(&[("auth", "none"), ("tls-cert", &cert), ("tls-key", &key)], &[]).config;
    assert_eq!(resource(&tls, "127.0.0.1:8443"), "https://127.0.0.1:8443/mcp");
    assert_eq!(resource(&tls, "127.0.0.1:443"), "https://127.0.0.1/mcp");
}

#[test]
fn tls_takes_both_files_and_both_must_be_readable() {
    let files = Files::new();
    let (there, absent) = (files.put("a.pem", ""), files.0.path().join("b.pem").display().to_string());
    let none = ("auth", "none");
    check(&[none, ("tls-cert", &there)], &[], &["--tls-cert: HTTPS needs tls_key too"]);
    check(&[none, ("tls-key", &there)], &[], &["--tls-key: HTTPS needs tls_cert too"]);
    check(&[none, ("tls-cert", &there), ("tls-key", &absent)], &[], &[&format!("--tls-key: cannot read `{absent}`")]);
}

#[test]
fn a_flag_wins_over_environment_over_file_each_key_by_itself() {
    let files = Files::new();
    let path = files.put(
        "bridge.toml",
        "path = \"/file\"\nlog_level = \"warn\"\nmax_sessions = 7\nallowed_origin = [\"https://file.example\"]\n",
    );
    let environment = [
        ("MCP_BRIDGE_CONFIG", path.as_str()),
        ("MCP_BRIDGE_LOG_LEVEL", "debug"),
        ("MCP_BRIDGE_PATH", "/environment"),
        ("MCP_BRIDGE_ALLOWED_ORIGIN", "https://a.example, https://b.example,"),
    ];
    let Loaded { config, report, .. } = good(&[("auth", "none"), ("path", "/flag")], &environment);
    assert_eq!((only(&config).path.as_str(), config.log.level, config.limits.max_sessions), ("/flag", Level::DEBUG, 7));
    assert_eq!(config.allowed_origins, ["https://a.example", "https://b.example"]);
    let source = |key: &str| {
        let row = report.rows.iter().find(|row| row.key == key).expect("every setting has a row");
        files.neutral(&row.source)
    };
    assert_eq!(source("path"), "--path");
    assert_eq!(source("log_level"), "environment variable MCP_BRIDGE_LOG_LEVEL");
    assert_eq!(source("max_sessions"), "bridge.toml:3");
    assert_eq!(source("listen"), "default");
}

#[test]
fn an_unknown_variable_is_a_problem_unless_kubernetes_or_a_bridge_made_it() {
    let none = ("auth", "none");
    check(
        &[none],
        &[("MCP_BRIDGE_PUBLIC_URI", "x"), ("MCP_BRIDGE_ZZZ", "x")],
        &[
            "MCP_BRIDGE_PUBLIC_URI: not a setting; did you mean `MCP_BRIDGE_PUBLIC_URL`?",
            "MCP_BRIDGE_ZZZ: not a setting; `mcp-bridge serve --help` names all settings",
        ],
    );
    let service = [
        ("MCP_BRIDGE_SERVICE_HOST", "10.0.0.1"),
        ("MCP_BRIDGE_SERVICE_PORT_HTTP", "8808"),
        ("MCP_BRIDGE_PORT", "tcp://10.0.0.1:8808"),
        ("MCP_BRIDGE_PORT_8808_TCP", "tcp://10.0.0.1:8808"),
        ("MCP_BRIDGE_PORT_8808_TCP_ADDR", "10.0.0.1"),
        // From a bridge of which this one is a child.
        ("MCP_BRIDGE_INSTANCE", "0123"),
        ("PATH", ""),
    ];
    check(&[none], &service, &[]);
    check(&[none], &[("MCP_BRIDGE_PORT", "8808")], &["MCP_BRIDGE_PORT: not a setting"]);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_a_problem() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = || OsString::from_vec(vec![0xff]);
    let variables = [("MCP_BRIDGE_PATH".into(), bytes()), ("OTHER".into(), bytes()), (bytes(), bytes())];
    let problems = load(&flags(&[("auth", "none")]), variables).expect_err("not UTF-8");
    assert_eq!(problems.0.len(), 1, "{problems}");
}

#[test]
fn the_report_of_good_settings() {
    let files = Files::new();
    let path = files.put(
        "bridge.toml",
        "log_format = \"json\"\n\nallowed_origin = [\"https://a.example\", \"https://b.example\"]\n",
    );
    let environment = [&PROPELAUTH[..], &[("MCP_BRIDGE_INTROSPECTION_CACHE", "0s")]].concat();
    let loaded = good(&[("config", &path), ("public-url", "https://mcp.example.com")], &environment);
    // The path is a row's value too, and shorter than the column, so that the table keeps its form.
    let text = files.neutral(&loaded.to_string());
    let text = text
        .lines()
        .map(|line| line.split("  ").filter(|part| !part.is_empty()).map(str::trim).collect::<Vec<_>>().join(" | "));
    insta::assert_snapshot!("report_good", text.collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_report_as_a_table() {
    insta::assert_snapshot!("report_table", good(&[("auth", "none"), ("issuer", "https://a.example")], &[]));
}

#[test]
fn the_report_of_bad_settings() {
    let files = Files::new();
    let path = files.put(
        "bridge.toml",
        "isuer = \"https://a.example\"\nintrospection_client_secret = \"canary-secret\"\nrequest_timeout = 60\n",
    );
    let environment = [("MCP_BRIDGE_PUBLIC_URL", "http://mcp.example.com"), PROPELAUTH[0], PROPELAUTH[2]];
    let problems = load_from(&[("config", &path), ("allowed-origin", "*")], &environment).expect_err("much is wrong");
    insta::assert_snapshot!("report_bad", files.neutral(&problems.to_string()));
}

#[test]
fn every_setting_is_read_and_spelled_once() {
    // A setting that nothing reads would take any text without a word.
    let unreadable = "\u{1}";
    for setting in ALL.iter().filter(|setting| setting.has_flag() && setting.kind != Kind::Command) {
        let found = load_from(&[(&setting.flag_name(), unreadable)], &PROPELAUTH);
        let is_path = setting.kind == Kind::File;
        let text = found.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert!(is_path || text.contains(&format!("--{}: ", setting.flag_name())), "{}: {text}", setting.key);
    }
    let mut keys = ALL.iter().map(|setting| setting.key).collect::<Vec<_>>();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), ALL.len());
}

/// Any setting's name with any text, without those that open files.
fn any_entry() -> impl Strategy<Value = (&'static Setting, String)> {
    let settings = ALL.iter().copied().filter(|setting| !matches!(setting.kind, Kind::File | Kind::ConfigFile));
    let text = prop_oneof!["\\PC{0,40}", ".{0,10}", "https?://\\PC{0,20}", "[0-9]{1,30}[a-zA-Z]{0,3}"];
    (proptest::sample::select(settings.collect::<Vec<_>>()), text)
}

proptest! {
    #[test]
    fn no_file_panics(text in ".{0,200}") {
        let _ = crate::config::file::parse(&text, "bridge.toml", &mut Vec::new());
    }

    #[test]
    fn no_toml_with_our_keys_panics(
        keys in proptest::collection::vec(("(policy|rule|tool|when|scopes|listen|allowed_origin|max_sessions|server|name|path|command|env)(\\.(rule|when|tool|policy))?",
            "(\"[a-z\"]{0,9}\"|[0-9x_e.-]{0,25}|\\[{1,4}1?\\]{0,4}|\\{ ?a ?= ?[1\"]? ?\\})"), 0..6),
        header in "(\\[{1,2}(policy|policy\\.rule|server|server\\.policy|listen|x)\\]{1,2})?",
    ) {
        let body: String = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let _ = crate::config::file::parse(&format!("{header}\n{body}"), "bridge.toml", &mut Vec::new());
    }

    #[test]
    fn no_environment_panics(entries in proptest::collection::vec(any_entry(), 0..6)) {
        let variables = entries.into_iter().map(|(setting, text)| (setting.variable().into(), text.into()));
        if let Ok(loaded) = load(&Flags::default(), variables) {
            resource(&loaded.config);
            let _ = loaded.to_string();
        }
    }
}
