//! What starts, what refuses to start, and what it says then.

use std::net::TcpListener;

use crate::common::{
    authorization_server::{AuthorizationServer, CLIENT_ID, CLIENT_SECRET},
    bridge::{CommandLine, Scratch},
    http::Request,
    mcp,
    world::ALL_SCOPES,
};

/// Refused before anything listens: code 2, nothing on stdout, and each of these words on stderr.
fn check_refused(case: &str, line: &CommandLine, words: &[&str]) -> String {
    let output = line.run();
    let stderr = String::from_utf8(output.stderr).expect("messages are UTF-8");
    assert_eq!(output.status.code(), Some(2), "{case}: {stderr}");
    assert!(output.stdout.is_empty(), "{case}: {:?}", String::from_utf8_lossy(&output.stdout));
    for word in words {
        assert!(stderr.contains(word), "{case}: `{word}` is not in:\n{stderr}");
    }
    assert!(!stderr.contains("listening"), "{case}: {stderr}");
    assert!(!stderr.contains("panicked"), "{case}: {stderr}");
    stderr
}

fn bare() -> CommandLine {
    CommandLine::new("serve").flag("--listen", "127.0.0.1:0")
}

#[test]
fn half_an_authorization_is_none() {
    let issuer = "https://auth.example";
    check_refused("issuer only", &bare().flag("--issuer", issuer), &["introspection"]);
    let introspection = bare().flag("--auth", "introspection");
    check_refused("no issuer", &introspection, &["--issuer"]);
    let named = introspection.clone().flag("--issuer", issuer);
    check_refused("no client", &named, &["--introspection-client-id", "MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET"]);
    let client = named.flag("--introspection-client-id", "id");
    check_refused("no secret", &client, &["MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET"]);
    check_refused("no issuer for JWT", &bare().flag("--auth", "jwt"), &["--issuer"]);
    let two = bare().env("PROPELAUTH_AUTH_URL", issuer).env("PROPELAUTH_INTROSPECTION_CLIENT_ID", "id");
    check_refused("two of three", &two, &["PROPELAUTH_INTROSPECTION_CLIENT_SECRET"]);
}

#[test]
fn without_authentication_only_on_this_machine_and_loudly() {
    let none = CommandLine::serve().flag("--auth", "none");
    let bridge = none.spawn();
    bridge.send(&mcp::call("add")).expect(200, "no token needed");
    bridge.send(&mcp::call("add").bearer("anything")).expect(200, "a token does no harm");
    bridge.send(&mcp::call("add").with("Host", "evil.example")).expect(421, "Host is still checked");
    let foreign = mcp::call("add").header("Origin", "https://evil.example");
    bridge.send(&foreign).expect(403, "Origin is still checked");
    bridge.wait_for_event("that warns", |event| event["level"] == "WARN" && event.to_string().contains("none"));

    let address = none.clone().flag("--listen", "0.0.0.0:0");
    check_refused("all interfaces", &address, &["none", "127.0.0.1"]);
    let address = none.clone().flag("--listen", "[::]:0");
    check_refused("all interfaces, IPv6", &address, &["none", "127.0.0.1"]);
    let public = none.flag("--public-url", "https://h.example");
    check_refused("public URL", &public, &["none", "public"]);
}

/// Metadata must name an authorization server (MCP, "Authorization Server Location"); without one
/// there is nothing to publish, and clients take the 404 for "no authorization".
#[test]
fn without_authentication_there_is_no_metadata() {
    let bridge = CommandLine::serve().flag("--auth", "none").spawn();
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        bridge.send(&Request::get(path)).expect(404, path);
    }
}

/// The reference system's three settings, and nothing else.
#[test]
fn the_three_propelauth_settings_are_enough() {
    let server = AuthorizationServer::start();
    let line = CommandLine::serve()
        .env("PROPELAUTH_AUTH_URL", server.origin())
        .env("PROPELAUTH_INTROSPECTION_CLIENT_ID", CLIENT_ID)
        .env("PROPELAUTH_INTROSPECTION_CLIENT_SECRET", CLIENT_SECRET);
    let bridge = line.spawn();
    let answer = serde_json::json!({
        "active": true, "username": "u@example.com", "scope": ALL_SCOPES, "sub": "u",
        "aud": bridge.resource(), "client_id": "c", "exp": crate::common::unix_now() + 60,
    });
    server.set("token", &answer);
    let response = bridge.send(&mcp::call("add").bearer("token")).expect(200, "a call");
    assert_eq!(mcp::text(&response.json()), "9");
    assert_eq!(server.questions()[0].path, "/oauth/2.1/introspect");
    let document = bridge.send(&Request::get("/.well-known/oauth-protected-resource/mcp")).json();
    assert_eq!(document["authorization_servers"], serde_json::json!([server.issuer()]));
    // A trailing slash is how people paste it.
    let slash = line.env("PROPELAUTH_AUTH_URL", format!("{}/", server.origin())).spawn();
    let document = slash.send(&Request::get("/.well-known/oauth-protected-resource/mcp")).json();
    assert_eq!(document["authorization_servers"], serde_json::json!([server.issuer()]));
}

#[test]
fn ipv6_loopback_is_loopback() {
    let bridge = CommandLine::serve().flag("--auth", "none").flag("--listen", "[::1]:0").spawn();
    let port = bridge.address().port();
    assert_eq!(bridge.url(), format!("http://[::1]:{port}/mcp"));
    for host in [format!("[::1]:{port}"), format!("localhost:{port}")] {
        bridge.send(&mcp::call("add").header("Host", &host)).expect(200, &host);
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let server = AuthorizationServer::start();
    for flag in ["--listen", "--metrics-listen"] {
        let line = CommandLine::serve().introspection(&server).flag(flag, &address);
        let output = line.run();
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{flag}: {stderr}");
        assert!(stderr.contains(&address), "{flag}: {stderr}");
        assert!(!stderr.contains("panicked"), "{flag}: {stderr}");
    }
}

#[test]
fn every_problem_is_reported_at_once() {
    let scratch = Scratch::new();
    let file = scratch.file(
        "bridge.toml",
        r#"
        auth = "introspection"
        issuer = "http://auth.example"
        introspection_cash = "15s"
        rate_limit = "many"
        "#,
    );
    let line = bare()
        .flag("--config", &file)
        .flag("--public-url", "http://h.example")
        .flag("--session-idle", "soon")
        .env("MCP_BRIDGE_MAX_BODY_BYTES", "big");
    let words = [
        "bridge.toml:3: `issuer`",
        "introspection_cash",
        "introspection_cache",
        "bridge.toml:5: `rate_limit`",
        "--public-url",
        "--session-idle",
        "MCP_BRIDGE_MAX_BODY_BYTES",
        "introspection_client_id",
        file.as_str(),
    ];
    check_refused("serve", &line, &words);
    let mut check = CommandLine::new("check-config").flag("--config", &file);
    check = check.flag("--public-url", "http://h.example").flag("--session-idle", "soon");
    let output = check.env("MCP_BRIDGE_MAX_BODY_BYTES", "big").run();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}

#[test]
fn single_mistakes() {
    let server = AuthorizationServer::start();
    let good = || CommandLine::serve().introspection(&server);
    let scratch = Scratch::new();
    let key = scratch.file("key.pem", "not a key");
    let missing = scratch.path("missing").to_str().expect("UTF-8").to_owned();
    let broken = scratch.file("broken.toml", "listen = [");
    let policy = scratch.file("policy.toml", "[[policy.rule]]\ntool = \"calculator\"\nscopes = [\"a\\\"b\"]\n");
    let unknown_rule = scratch.file("rule.toml", "[[policy.rule]]\ntol = \"calculator\"\nscopes = [\"a\"]\n");
    let cases: [(&str, CommandLine, &[&str]); 18] = [
        ("unknown flag", good().switch("--unknown"), &["--unknown"]),
        ("unknown subcommand", CommandLine::new("sreve"), &["sreve"]),
        ("listen", good().flag("--listen", "8808"), &["--listen", "8808"]),
        ("http issuer", good().flag("--issuer", "http://auth.example"), &["--issuer", "https"]),
        (
            "http introspection",
            good().flag("--introspection-url", "http://a.example/i"),
            &["--introspection-url", "https"],
        ),
        ("public URL in capitals", good().flag("--public-url", "https://H.example"), &["https://h.example"]),
        ("public URL with query", good().flag("--public-url", "https://h.example/?a"), &["--public-url"]),
        ("path", good().flag("--path", "mcp"), &["--path"]),
        ("origin with path", good().flag("--allowed-origin", "https://a.example/x"), &["--allowed-origin"]),
        ("any origin", good().flag("--allowed-origin", "*"), &["--allowed-origin"]),
        ("certificate without key", good().flag("--tls-cert", &key), &["--tls-cert", "tls_key"]),
        (
            "no certificate there",
            good().flag("--tls-cert", &missing).flag("--tls-key", &key),
            &["--tls-cert", "No such file"],
        ),
        ("no file there", good().flag("--config", &missing), &["missing"]),
        ("broken file", good().flag("--config", &broken), &["broken.toml"]),
        ("scope that needs escapes", good().flag("--config", &policy), &["policy.toml", "scope"]),
        ("unknown key in a rule", good().flag("--config", &unknown_rule), &["tol"]),
        ("no limit at all", good().flag("--max-body-bytes", "0"), &["--max-body-bytes"]),
        (
            "no secret there",
            CommandLine::serve()
                .flag("--auth", "introspection")
                .flag("--issuer", server.issuer())
                .flag("--introspection-client-id", "id")
                .env("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET_FILE", &missing),
            &["MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET_FILE"],
        ),
    ];
    for (case, line, words) in cases {
        let stderr = check_refused(case, &line, words);
        assert!(!stderr.contains(CLIENT_SECRET), "{case}: {stderr}");
    }
}

#[test]
fn tls_files_without_a_certificate_are_a_wrong_setting() {
    let server = AuthorizationServer::start();
    let scratch = Scratch::new();
    let file = scratch.file("key.pem", "not a key");
    let line = CommandLine::serve().introspection(&server).flag("--tls-cert", &file).flag("--tls-key", &file);
    check_refused("not a certificate", &line, &["key.pem", "certificate"]);
}

/// Whoever asks `check-config` first must not learn of it from the service manager.
#[test]
fn an_audit_file_that_cannot_be_opened_is_a_wrong_setting() {
    let server = AuthorizationServer::start();
    let scratch = Scratch::new();
    let file = scratch.file("a-file", "");
    let directory = scratch.path("");
    let inside = |folder: &str| scratch.path(folder).join("audit.jsonl");
    for (path, word) in [(inside("missing"), "missing"), (inside("a-file"), &file), (directory, "not a regular file")] {
        let path = path.to_str().expect("UTF-8");
        for subcommand in ["serve", "check-config"] {
            let line = CommandLine::new(subcommand).flag("--listen", "127.0.0.1:0").introspection(&server);
            check_refused(subcommand, &line.flag("--audit-log", path), &["audit file", word]);
        }
    }
    let fresh = scratch.path("audit.jsonl");
    let line = CommandLine::new("check-config").introspection(&server);
    let output = line.flag("--audit-log", fresh.to_str().expect("UTF-8")).run();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!fresh.exists(), "a check writes nothing");
}

/// `ps` shows flags to everybody.
#[test]
fn a_secret_cannot_be_a_flag() {
    let server = AuthorizationServer::start();
    let line = CommandLine::serve().introspection(&server).flag("--introspection-client-secret", "canary-flag");
    let stderr = check_refused("secret as a flag", &line, &["--introspection-client-secret"]);
    assert!(!stderr.contains("canary-flag"), "{stderr}");
}

#[test]
fn flag_over_environment_over_file() {
    let scratch = Scratch::new();
    let server = AuthorizationServer::start();
    let file = scratch.file(
        "bridge.toml",
        "resource_name = \"from the file\"\npublic_url = \"https://file.example\"\npath = \"/from-file\"\n",
    );
    let bridge = CommandLine::serve()
        .introspection(&server)
        .flag("--config", &file)
        .env("MCP_BRIDGE_PUBLIC_URL", "https://env.example")
        .env("MCP_BRIDGE_PATH", "/from-env")
        .flag("--path", "/from-flag")
        .spawn();
    assert_eq!(bridge.resource(), "https://env.example/from-flag");
    let document = bridge.send(&Request::get("/.well-known/oauth-protected-resource/from-flag")).json();
    assert_eq!(document["resource_name"], "from the file");
}

#[test]
fn check_config_shows_where_each_value_comes_from() {
    let scratch = Scratch::new();
    let file = scratch.file("bridge.toml", "session_idle = \"7m\"\n");
    let line = CommandLine::new("check-config")
        .flag("--config", &file)
        .flag("--path", "/checked")
        .env("PROPELAUTH_AUTH_URL", "https://auth.example")
        .env("PROPELAUTH_INTROSPECTION_CLIENT_ID", "the-id")
        .env("PROPELAUTH_INTROSPECTION_CLIENT_SECRET", "canary-secret")
        .env("MCP_BRIDGE_RATE_LIMIT", "17");
    let output = line.run();
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let row = |setting: &str, value: &str, source: &str| {
        let found = text.lines().any(|line| line.contains(setting) && line.contains(value) && line.contains(source));
        assert!(found, "no line with {setting}, {value}, {source} in:\n{text}");
    };
    row("path", "/checked", "--path");
    row("rate_limit", "17", "MCP_BRIDGE_RATE_LIMIT");
    row("session_idle", "7m", "bridge.toml");
    row("issuer", "https://auth.example/oauth/2.1", "PROPELAUTH_AUTH_URL");
    row("introspection_cache", "15s", "default");
    assert!(!text.contains("canary"), "{text}");
}

/// Values of variables are often secrets, and people show what `check-config` prints.
#[test]
fn check_config_shows_the_command_and_no_value_of_its_variables() {
    let line = CommandLine::new("check-config")
        .flag("--auth", "none")
        .flag("--env", "API_KEY=canary-value")
        .flag("--env", "INHERITED")
        .flag("--isolation", "session")
        .command_to_serve(&["npx", "-y", "--flag", "a server"]);
    let output = line.clone().env("INHERITED", "canary-value").run();
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for words in [
        ["command", "npx -y --flag 'a server'", "the command after --"],
        ["env", "API_KEY=…, INHERITED", "--env"],
        ["isolation", "session", "--isolation"],
    ] {
        assert!(text.lines().any(|line| words.iter().all(|word| line.contains(word))), "no {words:?} in:\n{text}");
    }
    assert!(!text.contains("canary") && !text.contains("warning"), "{text}");
    let text = String::from_utf8(line.run().stdout).expect("UTF-8");
    assert!(text.contains("warning: --env: INHERITED is not set here"), "{text}");
}

#[test]
fn wrong_settings_of_a_command_are_named_without_values() {
    let served = || bare().flag("--auth", "none").command_to_serve(&["npx"]);
    let cases: [(&str, CommandLine, &[&str]); 7] = [
        ("empty", served().command_to_serve(&["", "x"]), &["the command after --", "empty"]),
        ("own secret", served().flag("--env", "MCP_BRIDGE_X=canary"), &["--env", "`MCP_BRIDGE_X`"]),
        ("its secret", served().flag("--env", "PROPELAUTH_AUTH_URL=canary"), &["--env", "`PROPELAUTH_AUTH_URL`"]),
        ("no name", served().flag("--env", "=canary"), &["--env", "NAME=VALUE"]),
        ("twice", served().flag("--env", "A=canary").flag("--env", "A=canary"), &["--env", "`A` is there twice"]),
        ("in a variable", served().env("MCP_BRIDGE_ENV", "A=canary"), &["MCP_BRIDGE_ENV", "only names"]),
        ("pool", served().flag("--pool", "3").flag("--max-children", "2"), &["--pool", "max_children is 2"]),
    ];
    for (case, line, words) in cases {
        let stderr = check_refused(case, &line, words);
        assert!(!stderr.contains("canary"), "{case}: {stderr}");
    }
}

#[test]
fn servers_that_are_wrong_are_named() {
    let scratch = Scratch::new();
    let file = scratch.file(
        "bridge.toml",
        "path = \"/x\"\n[policy]\n[[server]]\nname = \"A\"\npath = \"/healthz\"\n[[server]]\nnam = \"b\"\n",
    );
    let words =
        ["toml:1: `path`", "toml:2: with [[server]]", "toml:4: `name`", "toml:5: `path`", "toml:7: `nam`", "toml:6:"];
    check_refused("several", &bare().flag("--auth", "none").flag("--config", &file), &words);
}

#[test]
fn help_and_version() {
    for (line, word) in [
        (CommandLine::new("--help"), "serve"),
        (CommandLine::new("serve").switch("--help"), "--introspection-url"),
        (CommandLine::new("serve").switch("--help"), "[-- <COMMAND> [ARG]...]"),
        (CommandLine::new("--version"), env!("CARGO_PKG_VERSION")),
    ] {
        let output = line.run();
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.status.success() && output.stderr.is_empty(), "{line:?}");
        assert!(text.contains(word), "{line:?}: {text}");
    }
}

/// The text format's announcement is for people and scripts alike.
#[test]
fn the_text_announcement() {
    use std::io::{BufRead, BufReader};
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_mcp-bridge"))
        .args([
            "serve",
            "--auth",
            "none",
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "127.0.0.1:0",
            "--log-level",
            "error",
        ])
        .env_clear()
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let line = stderr.lines().map_while(Result::ok).find(|line| line.contains("listening"));
    let ended = child.kill().and_then(|()| child.wait());
    assert!(ended.is_ok());
    let line = line.expect("an announcement");
    let rest = line.strip_prefix("mcp-bridge: listening on http://127.0.0.1:").unwrap_or_else(|| panic!("{line}"));
    let (port, rest) = rest.split_once("/mcp (metrics on http://127.0.0.1:").unwrap_or_else(|| panic!("{line}"));
    let metrics = rest.strip_suffix("/metrics)").unwrap_or_else(|| panic!("{line}"));
    assert!(
        port.parse::<u16>().is_ok_and(|port| port > 0) && metrics.parse::<u16>().is_ok_and(|port| port > 0),
        "{line}"
    );
}

/// A script that defines functions and completes nothing looks like a good one.
#[cfg(unix)]
#[test]
fn bash_completes_flags() {
    let script = CommandLine::new("completions").switch("bash").run().stdout;
    let script = String::from_utf8(script).expect("UTF-8");
    let ask = "COMP_WORDS=(mcp-bridge serve --tls); COMP_CWORD=2; _mcp-bridge mcp-bridge --tls serve; \
               echo \"${COMPREPLY[*]}\"";
    let output = std::process::Command::new("bash").args(["-c", &format!("{script}\n{ask}")]).output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "--tls-cert --tls-key\n", "{output:?}");
}
