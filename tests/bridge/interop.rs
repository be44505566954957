//! The official SDKs as clients of `mcp-bridge` over HTTP, and their own OAuth clients against it
//! and a real authorization server.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    common::{
        bridge::{Bridge, CommandLine, Scratch},
        http::Request,
        wait_until,
    },
    driver::{Guard, finish, named, node, python, run, transcript},
    everything::example,
};

pub(crate) const SECRET: &str = "the bridge's own secret at the authorization server";
const ALL_SCOPES: &str = "op:add op:sub op:mult op:div";

#[test]
fn typescript_sdk_v1() {
    let bridge = open_bridge();
    let steps = transcript(node("client-v1.mjs").args(["http", bridge.url()]));
    assert_eq!(named(&steps, "session is gone").count(), 1);
}

#[test]
fn typescript_sdk_v2_in_both_eras() {
    let bridge = open_bridge();
    let steps = transcript(node("client-v2.mjs").args(["http", bridge.url()]));
    assert_eq!(named(&steps, "exchanges").count(), 3, "legacy, pinned to the modern era, and negotiated");
}

#[test]
fn python_sdk_in_both_eras() {
    let bridge = open_bridge();
    let steps = transcript(python("client.py").args(["http", bridge.url()]));
    assert_eq!(named(&steps, "exchanges").count(), 3, "legacy, pinned to the modern era, and negotiated");
}

#[test]
fn every_sdk_with_an_opaque_token_of_a_real_authorization_server() {
    let server = AuthorizationServer::start();
    // Longer than the slowest machine needs for all three.
    every_sdk_calculates(&server, &server.bridge("5m"));
    assert_eq!(server.introspections(), 1, "one token, one question within the cache time");
}

#[test]
fn every_sdk_with_a_signed_token_of_a_real_authorization_server() {
    let server = AuthorizationServer::with(&["--token-format", "jwt"]);
    let bridge = CommandLine::serve().flag("--auth", "jwt").flag("--issuer", &server.issuer).spawn();
    every_sdk_calculates(&server, &bridge);
    assert_eq!(server.introspections(), 0, "signed tokens are not asked about");
}

#[test]
fn sdks_that_know_http_with_sse_use_it() {
    let server = AuthorizationServer::start();
    let bridge = server.command_line("5m").switch("--legacy-sse").spawn();
    let token = server.token_for(&bridge);
    for mut client in [node("client-v1.mjs"), python("client.py")] {
        let steps = transcript(client.args(["sse", bridge.url()]).env("MCP_TOKEN", &token));
        assert!(named(&steps, "call").count() >= 3);
        assert!(named(&steps, "closed").count() >= 1);
    }
}

/// Every SDK uses the calculator with one and the same token of `server`.
fn every_sdk_calculates(server: &AuthorizationServer, bridge: &Bridge) {
    let token = server.token_for(bridge);
    for mut client in [node("client-v1.mjs"), node("client-v2.mjs"), python("client.py")] {
        let steps = transcript(client.args(["http", bridge.url()]).env("MCP_TOKEN", &token));
        assert!(named(&steps, "call").count() >= 3);
    }
}

#[test]
fn token_for_other_resource_is_refused() {
    let server = AuthorizationServer::start();
    let (bridge, other) = (server.bridge("0s"), server.bridge("0s"));
    let token = server.token_for(&bridge);
    let asked = server.introspections();
    let refused = finish(node("client-v1.mjs").args(["http", other.url()]).env("MCP_TOKEN", token));
    let complaint = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && complaint.contains("invalid_token"), "{complaint}");
    assert_eq!(server.introspections(), asked + 1, "the token is active, so only its audience speaks against it");
}

#[test]
fn typescript_sdk_v1_signs_in_steps_up_and_is_signed_out() {
    sign_in("v1", "0s", "0");
}

#[test]
fn typescript_sdk_v2_signs_in_steps_up_and_is_signed_out() {
    sign_in("v2", "0s", "0");
}

#[test]
fn typescript_sdk_v2_signs_in_steps_up_and_is_signed_out_in_the_modern_era() {
    sign_in("v2-modern", "0s", "0");
}

#[test]
fn typescript_sdk_v2_is_signed_out_within_the_cache_time() {
    sign_in("v2-modern", "1s", "1000");
}

#[test]
fn python_sdk_signs_in_steps_up_and_is_signed_out() {
    let server = AuthorizationServer::start();
    let bridge = server.bridge("0s");
    let steps = transcript(python("oauth_flow.py").args([bridge.url(), &server.issuer]));
    assert_eq!(named(&steps, "signed in again").count(), 1);
}

/// `client` goes through the whole flow against a bridge that caches for `cache`.
fn sign_in(client: &str, cache: &str, cache_ms: &str) {
    let server = AuthorizationServer::start();
    let bridge = server.bridge(cache);
    let steps = transcript(node("oauth-flow.mjs").args([client, bridge.url(), &server.issuer, cache_ms]));
    assert_eq!(named(&steps, "stepped up").count(), 1);
    assert_eq!(named(&steps, "refused after withdrawal").count(), 1);
    assert_eq!(named(&steps, "signed in again").count(), 1);
}

#[test]
fn every_sdk_with_everything_of_a_legacy_server() {
    every_sdk_with_everything("legacy");
}

#[test]
fn every_sdk_with_everything_of_a_modern_server() {
    every_sdk_with_everything("modern");
}

/// Clients of both eras with a server of one of them. A call that is given up ends in the server.
fn every_sdk_with_everything(era: &str) {
    let program = example("everything");
    let files = Scratch::new();
    let bridge = serving(&files).command_to_serve(&[program.to_str().expect("a path of ours"), "--era", era]).spawn();
    let clients = every_sdk("everything");
    let count = clients.len();
    for mut client in clients {
        let steps = transcript(client.arg(bridge.url()));
        for step in ["progress", "asked", "logged", "changes", "cancelled"] {
            assert_eq!(named(&steps, step).count(), 1, "{step} of {client:?}");
        }
    }
    wait_until("every server has given up what its client gave up", || {
        bridge.log_text().matches(r#""line":"cancelled""#).count() == count
    });
}

#[cfg(target_os = "linux")]
#[test]
fn every_sdk_with_the_official_server_whose_tree_ends_with_the_bridge() {
    use crate::driver::{file, node_itself};

    let script = file("node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    let node = node_itself();
    let paths = [&node, &script].map(|path| path.to_str().expect("a path of ours"));
    let mark = format!("official-server-{}", std::process::id());
    let files = Scratch::new();
    // As npx starts it: a shell that waits for it.
    let command = ["/bin/sh", "-c", r#""$0" "$1" stdio; exit $?"#, paths[0], paths[1]];
    let mut bridge = serving(&files).flag("--env", format!("MARK={mark}")).command_to_serve(&command).spawn();
    for mut client in every_sdk("official-server") {
        let steps = transcript(client.arg(bridge.url()));
        assert_eq!(named(&steps, "progress").count(), 1);
    }
    let needle = format!("MARK={mark}");
    assert!(processes_with(&needle) >= 2, "a shell and a server at least");
    bridge.sigterm();
    assert!(bridge.wait().success());
    assert_eq!(processes_with(&needle), 0, "the tree is gone");
}

/// A bridge that lets everybody in and serves a command, one for each session.
pub(crate) fn serving(files: &Scratch) -> CommandLine {
    let policy = files.file("bridge.toml", "[policy]\ndefault_scopes = []\n");
    CommandLine::serve().flag("--auth", "none").flag("--config", policy).flag("--isolation", "session")
}

/// The scripts of one name, as clients of both eras; the URL is still missing.
pub(crate) fn every_sdk(name: &str) -> Vec<Command> {
    let mut clients = Vec::new();
    for kind in ["v1", "v2", "v2-modern"] {
        let mut client = node(&format!("{name}.mjs"));
        client.arg(kind);
        clients.push(client);
    }
    for mode in ["legacy", "2026-07-28"] {
        let mut client = python(&format!("{name}.py"));
        client.arg(mode);
        clients.push(client);
    }
    clients
}

/// How many processes have `variable` in their environment.
#[cfg(target_os = "linux")]
fn processes_with(variable: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("a proc file system").flatten();
    // Others' processes are not ours to read, and some have ended by now.
    let environments = entries.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
    environments.filter(|all| all.split(|byte| *byte == 0).any(|one| one == variable.as_bytes())).count()
}

/// A bridge that lets everybody in.
fn open_bridge() -> Bridge {
    CommandLine::serve().flag("--auth", "none").spawn()
}

/// `oidc-provider` on a loopback port; it is killed with the value.
pub(crate) struct AuthorizationServer {
    pub(crate) issuer: String,
    pub(crate) introspection_url: String,
    pub(crate) client_id: String,
    _child: Guard,
}

impl AuthorizationServer {
    /// One whose access tokens are opaque.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// One with `flags`, which are told in its script.
    pub(crate) fn with(flags: &[&str]) -> Self {
        let mut command = node("authorization-server.mjs");
        command.args(flags);
        // It ends with its input, so even a killed test leaves none behind.
        command.env("BRIDGE_SECRET", SECRET).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = Guard::spawn(&mut command);
        let stdout = child.0.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("its stdout is readable");
        let announced: Value = serde_json::from_str(&line).expect("the authorization server says where it is");
        let text = |name: &str| announced[name].as_str().expect(name).to_owned();
        Self {
            issuer: text("issuer"),
            introspection_url: text("introspection_url"),
            client_id: text("client_id"),
            _child: child,
        }
    }

    /// A bridge that asks this server about tokens and believes an answer for `cache`.
    pub(crate) fn bridge(&self, cache: &str) -> Bridge {
        self.command_line(cache).spawn()
    }

    pub(crate) fn command_line(&self, cache: &str) -> CommandLine {
        CommandLine::serve()
            .flag("--auth", "introspection")
            .flag("--issuer", &self.issuer)
            .flag("--introspection-url", &self.introspection_url)
            .flag("--introspection-client-id", &self.client_id)
            .flag("--introspection-cache", cache)
            .env("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET", SECRET)
    }

    /// An access token for `bridge` with every scope.
    pub(crate) fn token_for(&self, bridge: &Bridge) -> String {
        let signed_in = run(node("oauth-token.mjs").args([bridge.url(), &self.issuer, ALL_SCOPES]));
        signed_in["access_token"].as_str().expect("an access token").to_owned()
    }

    /// From now on, the user consents to these scopes only; with none, to nothing at all.
    pub(crate) fn consent_to(&self, scopes: &str) {
        let consent = Request::post("/test/consent").json(&json!({ "scopes": scopes }));
        consent.send(self.address()).expect(200, "consent");
    }

    /// The user withdraws every consent.
    pub(crate) fn withdraw(&self) {
        Request::post("/test/revoke-grants").send(self.address()).expect(200, "withdrawal");
    }

    /// Every code and token that it issued, as (kind, value), and every request for tokens.
    pub(crate) fn issued(&self) -> (Vec<(String, String)>, Vec<Value>) {
        let answer = Request::get("/test/tokens").send(self.address()).expect(200, "tokens").json();
        let text = |token: &Value, name: &str| token[name].as_str().expect("text").to_owned();
        let tokens = answer["tokens"].as_array().expect("a list").iter();
        let tokens = tokens.map(|token| (text(token, "kind"), text(token, "value"))).collect();
        (tokens, answer["asked"].as_array().expect("a list").clone())
    }

    fn address(&self) -> SocketAddr {
        self.issuer.trim_start_matches("http://").parse().expect("an address")
    }

    /// How often it was asked about a token.
    fn introspections(&self) -> u64 {
        let url = format!("{}/test/introspections", self.issuer);
        let answer = run(node("get.mjs").arg(url));
        answer["introspections"].as_u64().expect("a number")
    }
}
