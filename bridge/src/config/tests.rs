//! What was written → what is meant, or everything that is wrong with it.

use std::{fs, path::PathBuf};

use proptest::prelude::*;

use super::{
    settings::{ALL, Kind, Setting},
    *,
};

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
        text.replace(&format!("{}/", self.0.path().display()), "")
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

/// The problems, in the order of the report, without the places' directory.
fn problems(written: &[(&str, &str)], variables: &[(&str, &str)]) -> Vec<String> {
    load_from(written, variables).expect_err("something is wrong").0.iter().map(ToString::to_string).collect()
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

/// [`check`] for one file and no other source than `--auth none`.
#[track_caller]
fn check_file(content: &str, expected: &[&str]) {
    let files = Files::new();
    let path = files.put("bridge.toml", content);
    check(&[("auth", "none"), ("config", &path)], &[], expected);
}

fn introspection(config: &Config) -> &Introspection {
    match &config.auth {
        Auth::Introspection(introspection) => introspection,
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_are_safe() {
    let Loaded { config, warnings, .. } = good(&[("auth", "none")], &[]);
    assert_eq!(config.listen.to_string(), "127.0.0.1:8808");
    assert_eq!((config.path.as_str(), config.public_url.as_deref()), ("/mcp", None));
    assert_eq!(config.resource(config.listen).expect("valid").as_str(), "http://127.0.0.1:8808/mcp");
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
        (limits.header_timeout, 10),
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
fn nothing_about_authorization_refuses_to_start_and_says_what_would_help() {
    insta::assert_snapshot!("refusal", load_from(&[], &[]).expect_err("nobody said who may call"));
}

#[test]
fn the_three_propelauth_variables_are_enough() {
    for url in ["https://auth.example.com", "https://auth.example.com/", "https://auth.example.com//"] {
        let Loaded { config, warnings, .. } = good(&[], &[("PROPELAUTH_AUTH_URL", url), PROPELAUTH[1], PROPELAUTH[2]]);
        let introspection = introspection(&config);
        assert_eq!(introspection.issuer.as_str(), "https://auth.example.com/oauth/2.1");
        let endpoint = introspection.endpoint.as_ref().map(Url::as_str);
        assert_eq!(endpoint, Some("https://auth.example.com/oauth/2.1/introspect"));
        assert_eq!(introspection.client_id, "bridge");
        assert_eq!(introspection.client_secret.expose(), "canary-secret");
        assert_eq!(introspection.cache.as_secs(), 15);
        assert!(!introspection.require_exp && introspection.accepted_audiences.is_empty());
        assert_eq!(warnings, [""; 0]);
    }
}

#[test]
fn our_own_settings_win_over_propelauth_each_by_itself() {
    let with = |own: &[(&'static str, &'static str)]| good(&[], &[&PROPELAUTH[..], own].concat()).config;
    let config = with(&[("MCP_BRIDGE_ISSUER", "https://own.example.com")]);
    assert_eq!(introspection(&config).issuer.as_str(), "https://own.example.com");
    assert_eq!(introspection(&config).client_id, "bridge");
    let config = with(&[("MCP_BRIDGE_INTROSPECTION_URL", "http://127.0.0.1:1/i")]);
    assert_eq!(introspection(&config).endpoint.as_ref().map(Url::as_str), Some("http://127.0.0.1:1/i"));
    let config = with(&[("MCP_BRIDGE_INTROSPECTION_CLIENT_ID", "own")]);
    assert_eq!(introspection(&config).client_id, "own");
    let config = with(&[("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET", "own")]);
    assert_eq!(introspection(&config).client_secret.expose(), "own");
    let file = Files::new();
    let path = file.put("secret", "own\n");
    let config = good(&[("introspection-client-secret-file", &path)], &PROPELAUTH).config;
    assert_eq!(introspection(&config).client_secret.expose(), "own");
}

#[test]
fn what_is_missing_is_named() {
    let [url, id, secret] = PROPELAUTH;
    let url_missing = "PROPELAUTH_AUTH_URL is missing";
    let id_missing = "PROPELAUTH_INTROSPECTION_CLIENT_ID is missing";
    let secret_missing = "PROPELAUTH_INTROSPECTION_CLIENT_SECRET is missing";
    check(&[], &[url, id], &[secret_missing]);
    check(&[], &[url, secret], &[id_missing]);
    check(&[], &[id, secret], &[url_missing]);
    check(&[], &[secret], &[url_missing, id_missing]);
    check(&[], &[url], &[id_missing, secret_missing]);
    check(&[("introspection-client-id", "x")], &[url, secret], &[]);
    let no_issuer = "issuer is missing; set --issuer or MCP_BRIDGE_ISSUER";
    let no_id = "introspection_client_id is missing; set --introspection-client-id";
    let no_secret = "introspection_client_secret is missing; set MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET, or \
                     MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET_FILE";
    check(&[("auth", "introspection")], &[], &[no_issuer, no_id, no_secret]);
    check(&[("issuer", "https://a.example")], &[], &[no_id, no_secret]);
    check(&[], &[("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET", "x")], &[no_issuer, no_id]);
    check(&[("auth", "jwt")], &[], &[no_issuer]);
    check(&[("jwks-url", "https://a.example/jwks")], &[], &["--jwks-url: it is for signed tokens"]);
    let jwt = [("auth", "jwt"), ("issuer", "https://a.example"), ("jwks-url", "ftp://a.example")];
    check(&jwt, &[], &["--jwks-url: the scheme `ftp`"]);
    // A wrong value is one problem, not a missing one as well.
    check(&[("issuer", "a"), ("introspection-client-id", "x")], &[secret], &["--issuer: not a URL"]);
    check(&[], &[("PROPELAUTH_AUTH_URL", ""), id, secret], &["PROPELAUTH_AUTH_URL: not a URL"]);
    check(&[], &[url, ("PROPELAUTH_INTROSPECTION_CLIENT_ID", ""), secret], &["CLIENT_ID: is empty"]);
    check(&[], &[url, id, ("PROPELAUTH_INTROSPECTION_CLIENT_SECRET", "")], &["CLIENT_SECRET: is empty"]);
}

#[test]
fn jwt_mode() {
    let written =
        [("auth", "jwt"), ("issuer", "https://a.example/"), ("accepted-audience", "a"), ("accepted-audience", "b")];
    let Auth::Jwt(jwt) = good(&written, &[]).config.auth else { panic!("jwt was asked for") };
    assert_eq!((jwt.issuer.as_str(), jwt.jwks_url), ("https://a.example/", None));
    assert_eq!(jwt.accepted_audiences, ["a", "b"]);
}

#[test]
fn without_authorization_nothing_but_loopback() {
    let none = ("auth", "none");
    check(&[none, ("public-url", "https://h.example")], &[], &["--public-url: auth = none"]);
    check(&[none, ("public-url", "http://127.0.0.1:8808")], &[], &["--public-url: auth = none"]);
    check(&[none, ("listen", "0.0.0.0:8808")], &[], &["--listen: auth = none"]);
    check(&[none, ("listen", "[::]:8808")], &[], &["--listen: auth = none"]);
    check(&[none, ("listen", "192.168.1.2:0")], &[], &["--listen: auth = none"]);
    check(&[none, ("listen", "[::1]:0")], &[], &[]);
    check(&[none, ("listen", "127.0.0.2:0")], &[], &[]);
    let warnings = good(&[none, ("allowed-host", "h.example"), ("issuer", "https://a.example")], &PROPELAUTH).warnings;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
}

#[test]
fn values_that_cannot_be_used() {
    let cases = [
        ("listen", "8808", "--listen: `8808` is not an IP address and a port"),
        ("listen", "0.0.0.0:8808", "--listen: not a loopback address, so clients need public_url"),
        ("path", "mcp", "--path: the path must begin with `/`"),
        ("path", "/a\"b", "--path: the path must"),
        ("public-url", "http://h.example", "--public-url: plain http"),
        ("public-url", "https://h.example/?q", "--public-url: a query or fragment"),
        ("public-url", "https://H.example", "--public-url: clients compare this URL byte for byte"),
        ("auth", "oauth", "--auth: `oauth` is not a way"),
        ("auth", "embedded", "--auth: `embedded` is not in this version"),
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
            check(&[("config", &path)], &PROPELAUTH, &[&format!("bridge.toml:2: {what}")]);
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
    assert_eq!(config.resource(config.listen).expect("valid").as_str(), "https://h.example/prefix/x");
    assert_eq!(config.tls, Some(TlsFiles { cert: PathBuf::from(&cert), key: PathBuf::from(&key) }));
    assert!(introspection(&config).cache.is_zero() && introspection(&config).require_exp);
    assert_eq!(config.allowed_origins, ["https://a.example", "http://localhost:6274"]);
    assert_eq!(config.allowed_hosts, ["h.example:1"]);
    assert_eq!(config.trusted_proxies, ["::1".parse::<IpAddr>().expect("an address")]);
    assert_eq!(config.resource_name.as_deref(), Some("Büro"));
    assert_eq!(config.limits.rate_limit, None);
    assert_eq!(config.audit, Some(Audit { path: "audit.jsonl".into(), arguments: true }));
    assert_eq!(config.log, Log { level: Level::TRACE, format: LogFormat::Json });
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn the_resource_follows_the_bound_address() {
    let resource = |config: &Config, bound: &str| {
        config.resource(bound.parse().expect("an address")).expect("valid").as_str().to_owned()
    };
    let plain = good(&[("auth", "none"), ("listen", "[::1]:0")], &[]).config;
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
    check(&[none, ("tls-cert", &there), ("tls-key", &absent)], &[], &["--tls-key: cannot read it"]);
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
    assert_eq!((config.path.as_str(), config.log.level, config.limits.max_sessions), ("/flag", Level::DEBUG, 7));
    assert_eq!(config.allowed_origins, ["https://a.example", "https://b.example"]);
    let source = |key: &str| {
        let row = report.0.iter().find(|row| row.key == key).expect("every setting has a row");
        files.neutral(&row.source)
    };
    assert_eq!(source("path"), "--path");
    assert_eq!(source("log_level"), "environment variable MCP_BRIDGE_LOG_LEVEL");
    assert_eq!(source("max_sessions"), "bridge.toml:3");
    assert_eq!(source("listen"), "default");
}

#[test]
fn an_unknown_variable_is_a_problem_unless_kubernetes_made_it() {
    let none = ("auth", "none");
    check(
        &[none],
        &[("MCP_BRIDGE_PUBLIC_URI", "x"), ("MCP_BRIDGE_ZZZ", "x")],
        &[
            "MCP_BRIDGE_PUBLIC_URI: not a setting; did you mean `MCP_BRIDGE_PUBLIC_URL`?",
            "MCP_BRIDGE_ZZZ: not a setting",
        ],
    );
    let service = [
        ("MCP_BRIDGE_SERVICE_HOST", "10.0.0.1"),
        ("MCP_BRIDGE_SERVICE_PORT_HTTP", "8808"),
        ("MCP_BRIDGE_PORT", "tcp://10.0.0.1:8808"),
        ("MCP_BRIDGE_PORT_8808_TCP", "tcp://10.0.0.1:8808"),
        ("MCP_BRIDGE_PORT_8808_TCP_ADDR", "10.0.0.1"),
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
fn files_that_are_wrong() {
    check_file("isuer = \"https://a.example\"\n", &["bridge.toml:1: `isuer` is not a setting; did you mean `issuer`?"]);
    check_file(
        "\nallowed_origins = []\n",
        &["toml:2: `allowed_origins` is not a setting; did you mean `allowed_origin`?"],
    );
    check_file("public-url = \"\"\n", &["did you mean `public_url`?"]);
    check_file("config = \"x\"\n", &["`config` is not a setting"]);
    check_file("[server]\nlisten = 1\n", &["bridge.toml:1: `server` is not a setting; `mcp-bridge serve --help`"]);
    check_file("path = 1.5\n", &["bridge.toml:1: `path` takes a text or a whole number"]);
    check_file("path = [\"/mcp\"]\n", &["`path` takes one value, not a list"]);
    check_file("[path]\n", &["`path` takes one value, not a table"]);
    check_file("max_sessions = 99999999999999999999\n", &["`max_sessions` is too large a number"]);
    check_file("allowed_origin = [[\"x\"]]\n", &["`allowed_origin` takes one value, not a list"]);
    check_file(
        "introspection_client_secret = \"canary-secret\"\n",
        &["bridge.toml:1: `introspection_client_secret` is a secret and does not belong into this file"],
    );
    check_file("path = \"/a\"\npath = \"/b\"\n", &["bridge.toml:2: not TOML: duplicate key"]);
    // Several problems, in the order of the file.
    check_file("zzz = 1\nlog_format = [1]\naaa = 1\n", &["toml:1: `zzz`", "toml:2: `log_format`", "toml:3: `aaa`"]);
}

#[test]
fn a_file_that_is_not_toml_says_so_and_shows_nothing_of_it() {
    let files = Files::new();
    let path = files.put("bridge.toml", "auth = \"none\"\nintrospection_client_secret = \"canary-secret\nx = [\n");
    let found = problems(&[("config", &path), ("listen", "x")], &[]);
    assert!(found.iter().any(|problem| problem.contains("bridge.toml:2: not TOML: ")), "{found:?}");
    assert!(found.iter().any(|problem| problem.contains("--listen")), "{found:?}");
    assert!(!found.iter().any(|problem| problem.contains("canary") || problem.contains("serve --auth")), "{found:?}");
}

#[test]
fn secrets_from_files() {
    let files = Files::new();
    let own = |content: &str| {
        let path = files.put("secret", content);
        let written = [("issuer", "https://a.example"), ("introspection-client-id", "x")];
        load_from(&written, &[("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET_FILE", &path)])
    };
    for (content, expected) in [("s", "s"), ("s\n", "s"), ("s\r\n", "s"), (" s \n\n", " s \n")] {
        let loaded = own(content).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(introspection(&loaded.config).client_secret.expose(), expected);
        assert_eq!(loaded.warnings, [""; 0]);
    }
    for (content, expected) in [("", "is empty"), ("\n", "is empty"), (&"s".repeat(5000), "larger than 4 KiB")] {
        let problems = own(content).expect_err("no secret");
        assert!(problems.0.len() == 1 && problems.to_string().contains(expected), "{problems}");
    }
}

#[test]
fn a_secret_given_twice_or_empty_is_a_problem() {
    let files = Files::new();
    let path = files.put("secret", "s");
    let rest = [("issuer", "https://a.example"), ("introspection-client-id", "x")];
    let both = [rest[0], rest[1], ("introspection-client-secret-file", &path)];
    let variable = "MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET";
    check(
        &both,
        &[(variable, "s")],
        &["--introspection-client-secret-file: MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET is set too"],
    );
    check(&rest, &[(variable, "")], &["environment variable MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET: is empty"]);
    check(&rest, &[(variable, "s")], &[]);
}

#[cfg(unix)]
#[test]
fn a_secret_that_everybody_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let files = Files::new();
    let path = files.put("secret", "canary-secret");
    for (mode, expected) in [(0o644, 1), (0o640, 0), (0o600, 0)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
        let loaded = good(&[("introspection-client-secret-file", &path)], &PROPELAUTH);
        assert_eq!(loaded.warnings.len(), expected, "{mode:o} {:?}", loaded.warnings);
    }
}

#[test]
fn policies() {
    let files = Files::new();
    let path = files.put(
        "bridge.toml",
        r#"
[policy]
default_scopes = "mcp  other"

[[policy.rule]]
tool = "calculator"
when = { operation = "divide", b = 0x10, exact = true, c = 1.5 }
scopes = ["op:div"]

[[policy.rule]]
prompt = "*"
scopes = []
"#,
    );
    let config = good(&[("auth", "none"), ("config", &path)], &[]).config;
    let when = [("operation", "divide".into()), ("b", 16.into()), ("exact", true.into()), ("c", 1.5.into())];
    let expected = RawPolicy {
        default_scopes: "mcp other".parse().ok(),
        rules: vec![
            policy::RawRule {
                tool: Some("calculator".into()),
                when: when.into_iter().map(|(name, value)| (name.into(), value)).collect(),
                scopes: "op:div".parse().expect("a scope"),
                line: 5,
                ..Default::default()
            },
            policy::RawRule { prompt: Some("*".into()), line: 10, ..Default::default() },
        ],
    };
    assert_eq!(config.policy, Some(expected));
}

#[test]
fn policies_that_are_wrong() {
    let rule = |body: &str| format!("[[policy.rule]]\n{body}\n");
    check_file("policy = 1\n", &["bridge.toml:1: `policy` is a table"]);
    check_file("[policy]\nrules = []\n", &["bridge.toml:2: `rules` is not a setting; did you mean `rule`?"]);
    check_file("[policy.rule]\ntool = \"x\"\n", &["write each rule as [[policy.rule]]"]);
    check_file("[policy]\nrule = [1]\n", &["bridge.toml:2: a rule is a table"]);
    check_file("[policy]\ndefault_scopes = 'a\"b'\n", &["bridge.toml:2: `a\\\"b` is not a scope"]);
    check_file(&rule("scopes = []"), &["bridge.toml:1: a rule has exactly one of"]);
    check_file(&rule("tool = \"a\"\nprompt = \"b\"\nscopes = []"), &["bridge.toml:1: a rule has exactly one of"]);
    check_file(&rule("tool = \"a\""), &["bridge.toml:1: a rule needs `scopes`"]);
    check_file(&rule("tool = \"\"\nscopes = []"), &["bridge.toml:2: `tool` takes a text"]);
    check_file(
        &rule("tool = \"a\"\nscopes = [\"a b\", 1]"),
        &["toml:3: `a b` is not a scope", "toml:3: a scope is a text"],
    );
    check_file(&rule("tool = \"a\"\nscopes = 1"), &["toml:3: scopes are a list"]);
    check_file(&rule("prompt = \"a\"\nscopes = []\nwhen = { a = 1 }"), &["`when` compares a tool's arguments"]);
    check_file(&rule("tool = \"a\"\nscopes = []\nwhen = {}"), &["toml:4: `when` takes argument values"]);
    check_file(&rule("tool = \"a\"\nscopes = []\nwhen = { a = [1] }"), &["toml:4: `when` compares with"]);
    check_file(&rule("tool = \"a\"\nscopes = []\nwhen = { a = nan }"), &["toml:4: `when` compares with"]);
    check_file(&rule("tool = \"a\"\nscopes = []\nwhen = { a = 1979-05-27 }"), &["toml:4: `when` compares with"]);
    check_file(
        &rule("tol = \"a\"\nscopes = []"),
        &["toml:1: a rule has exactly one", "toml:2: `tol` is not a setting; did you mean `tool`?"],
    );
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
fn no_message_and_no_debug_shows_a_secret() {
    let loaded = good(&[], &PROPELAUTH);
    let text = format!("{loaded} {loaded:?}");
    assert!(text.contains("[set]") && !text.contains("canary"), "{text}");
}

#[test]
fn every_setting_is_read_and_spelled_once() {
    // A setting that nothing reads would take any text without a word.
    let unreadable = "\u{1}";
    for setting in ALL.iter().filter(|setting| setting.has_flag()) {
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
        let _ = file::parse(&text, "bridge.toml", &mut Vec::new());
    }

    #[test]
    fn no_toml_with_our_keys_panics(
        keys in proptest::collection::vec(("(policy|rule|tool|when|scopes|listen|allowed_origin|max_sessions)(\\.(rule|when|tool))?",
            "(\"[a-z\"]{0,9}\"|[0-9x_e.-]{0,25}|\\[{1,4}1?\\]{0,4}|\\{ ?a ?= ?[1\"]? ?\\})"), 0..6),
        header in "(\\[{1,2}(policy|policy\\.rule|listen|x)\\]{1,2})?",
    ) {
        let body: String = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let _ = file::parse(&format!("{header}\n{body}"), "bridge.toml", &mut Vec::new());
    }

    #[test]
    fn no_environment_panics(entries in proptest::collection::vec(any_entry(), 0..6)) {
        let variables = entries.into_iter().map(|(setting, text)| (setting.variable().into(), text.into()));
        if let Ok(loaded) = load(&Flags::default(), variables) {
            loaded.config.resource(loaded.config.listen).expect("checked with the settings");
            let _ = loaded.to_string();
        }
    }
}
