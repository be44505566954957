//! Several servers behind one listener: each has its own path, policy and audience.

use serde_json::{Value, json};

use crate::common::{
    authorization_server::AuthorizationServer,
    bridge::{Bridge, CommandLine, Scratch},
    challenge::Challenge,
    http::{Request, Response},
    mcp, unix_now,
};

/// `math` has a policy of its own, `sums` that of the calculator.
const TWO: &str = r#"
[[server]]
name = "math"
path = "/math"
resource_name = "Mathematics"

[[server.policy.rule]]
tool = "calculator"
scopes = ["math"]

[[server]]
name = "sums"
path = "/deep/sums"
"#;

struct Two {
    server: AuthorizationServer,
    bridge: Bridge,
    scratch: Scratch,
}

impl Two {
    fn start() -> Self {
        Self::with(|line, _| line)
    }

    fn with(more: impl FnOnce(CommandLine, &Scratch) -> CommandLine) -> Self {
        let (server, scratch) = (AuthorizationServer::start(), Scratch::new());
        let file = scratch.file("bridge.toml", TWO);
        let line = CommandLine::serve().introspection(&server).flag("--rate-limit", "0").flag("--config", file);
        let bridge = more(line, &scratch).spawn();
        Self { server, bridge, scratch }
    }

    fn resource(&self, path: &str) -> String {
        format!("http://{}{path}", self.bridge.address())
    }

    /// A token of the user `who` for the servers at `paths`.
    fn token(&self, who: &str, paths: &[&str], scopes: &str) -> String {
        let token = format!("token-of-{who}");
        let audience: Vec<String> = paths.iter().map(|path| self.resource(path)).collect();
        let answer = json!({
            "active": true, "sub": who, "client_id": "c", "scope": scopes, "aud": audience, "exp": unix_now() + 60,
        });
        self.server.set(&token, &answer);
        token
    }

    fn call(&self, path: &str, operation: &str, token: &str) -> Response {
        self.bridge.send(&mcp::call(operation).target(path).bearer(token))
    }
}

#[test]
fn a_token_for_one_server_is_refused_by_the_other() {
    let two = Two::start();
    let math = two.token("for-math", &["/math"], "math op:add");
    let sums = two.token("for-sums", &["/deep/sums"], "math op:add");
    for (path, good, foreign) in [("/math", &math, &sums), ("/deep/sums", &sums, &math)] {
        assert_eq!(mcp::text(&two.call(path, "add", good).expect(200, path).json()), "9");
        let response = two.call(path, "add", foreign).expect(401, path);
        let challenge = Challenge::of(&response);
        assert_eq!(challenge.get("error"), Some("invalid_token"), "{path}");
        let metadata = format!("http://{}/.well-known/oauth-protected-resource{path}", two.bridge.address());
        assert_eq!(challenge.get("resource_metadata"), Some(metadata.as_str()));
    }
    let control = two.token("control", &["/math"], "math");
    two.call("/math", "add", &control).expect(200, "control");
    assert_eq!(two.bridge.runs_before("control", 1), 2, "only the good tokens ran the tool");
}

#[test]
fn each_server_has_its_own_policy() {
    let two = Two::start();
    let both = ["/math", "/deep/sums"];
    let math = two.token("math", &both, "math");
    let sums = two.token("sums", &both, "op:add");
    for (path, token, operation, missing) in [
        ("/math", &math, "divide", None),
        ("/math", &sums, "add", Some("math")),
        ("/deep/sums", &sums, "add", None),
        ("/deep/sums", &sums, "divide", Some("op:div")),
        ("/deep/sums", &math, "add", Some("op:add")),
    ] {
        let response = two.call(path, operation, token);
        assert_eq!(response.status, if missing.is_some() { 403 } else { 200 }, "{path} {operation}: {response:?}");
        if missing.is_some() {
            assert_eq!(Challenge::of(&response).get("scope"), missing, "{path} {operation}");
        }
    }
    two.call("/math", "add", &math).expect(200, "control");
    assert_eq!(two.bridge.runs_before("math", 2), 1, "what was refused did not run");
}

#[test]
fn a_session_of_one_server_does_not_exist_at_the_other() {
    let two = Two::start();
    let token = two.token("user", &["/math", "/deep/sums"], "math op:add");
    let hello = mcp::initialize(mcp::LEGACY).target("/math").bearer(&token);
    let answer = two.bridge.send(&hello).expect(200, "initialize");
    let session = answer.header("Mcp-Session-Id").expect("a session").to_owned();
    let call = mcp::legacy_call(&session, "add").bearer(&token);
    two.bridge.send(&call.clone().target("/math")).expect(200, "its own");
    two.bridge.send(&call.target("/deep/sums")).expect(404, "the other");
}

#[test]
fn each_server_has_its_own_metadata_and_nobody_has_the_root() {
    let two = Two::start();
    for (path, name, scopes) in
        [("/math", "Mathematics", "math"), ("/deep/sums", "Calculator", "op:add op:sub op:mult op:div")]
    {
        let place = format!("/.well-known/oauth-protected-resource{path}");
        let document = two.bridge.send(&Request::get(&place)).expect(200, &place).json();
        let expected = json!({
            "resource": two.resource(path),
            "authorization_servers": [two.server.issuer()],
            "scopes_supported": scopes.split(' ').collect::<Vec<_>>(),
            "bearer_methods_supported": ["header"],
            "resource_name": name,
        });
        assert_eq!(document, expected);
    }
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp", "/mcp", "/sums"]
    {
        two.bridge.send(&Request::get(path)).expect(404, path);
    }
    // Who is not let in at all does not learn which paths there are.
    for path in ["/mcp", "/math", "/deep/sums"] {
        two.bridge.send(&Request::post(path).header("Host", "evil.example")).expect(421, path);
        two.bridge.send(&Request::post(path).header("Origin", "https://evil.example")).expect(403, path);
    }
    two.bridge.send(&Request::post("/math")).expect(401, "no token");
}

#[test]
fn a_user_has_one_rate_at_all_servers() {
    let two = Two::with(|line, _| line.flag("--rate-limit", "1").flag("--rate-burst", "2"));
    let token = two.token("user", &["/math", "/deep/sums"], "math op:add");
    two.call("/math", "add", &token).expect(200, "the first");
    two.call("/deep/sums", "add", &token).expect(200, "the second");
    // Unless the machine stood still for a second, the third one is too much, wherever it goes.
    let limited = ["/math", "/deep/sums", "/math", "/deep/sums"].map(|path| two.call(path, "add", &token).status);
    assert!(limited.contains(&429), "{limited:?}");
}

#[test]
fn log_audit_file_and_announcement_name_the_server() {
    let two = Two::with(|line, scratch| {
        line.flag("--audit-log", scratch.path("audit.jsonl").to_str().expect("UTF-8"))
            .flag("--metrics-listen", "127.0.0.1:0")
    });
    let token = two.token("user", &["/math", "/deep/sums"], "math");
    two.call("/math", "add", &token).expect(200, "allowed");
    two.call("/deep/sums", "add", &token).expect(403, "refused");
    let audit = std::fs::read_to_string(two.scratch.path("audit.jsonl")).expect("the audit file");
    let records: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told = |record: &Value| (record["server"].clone(), record["decision"].clone());
    let expected = [("math", "allowed"), ("sums", "refused")].map(|(server, said)| (server.into(), said.into()));
    assert_eq!(records.iter().map(told).collect::<Vec<_>>(), expected);
    for (server, status) in [("math", 200), ("sums", 403)] {
        two.bridge.wait_for_event(server, |event| event["server"] == server && event["status"] == status);
    }
    let metrics = two.bridge.metrics();
    assert!(metrics.contains(r#"mcp_bridge_requests_total{method="tools/call",status="200"} 1"#), "{metrics}");
    let announced = two.bridge.wait_for_event("announcement", |event| event["message"] == "listening");
    let place =
        |name: &str, path: &str| json!({ "name": name, "url": two.resource(path), "resource": two.resource(path) });
    assert_eq!(announced["servers"], json!([place("math", "/math"), place("sums", "/deep/sums")]));
}

#[test]
fn ready_means_all_of_them() {
    let two = Two::start();
    assert_eq!(two.bridge.send(&Request::get("/readyz")).expect(200, "ready").json(), json!({ "ready": true }));
    let dark = Two::with(|line, _| line.flag("--introspection-url", "http://127.0.0.1:1/introspect"));
    let body = dark.bridge.send(&Request::get("/readyz")).expect(503, "nobody can be asked").json();
    let reason = body["reason"].as_str().unwrap_or_default();
    assert!(body["ready"] == false && reason.starts_with("math: ") && reason.contains("; sums: "), "{body}");
    dark.bridge.send(&Request::get("/healthz")).expect(200, "it lives");
}

/// A proxy that takes the public URL's own path away, or passes it on, reaches the same servers.
#[test]
fn a_prefix_of_the_public_url_is_part_of_every_resource() {
    let two = Two::with(|line, _| line.flag("--public-url", "https://h.example/team"));
    for (local, public) in [("/math", "/team/math"), ("/deep/sums", "/team/deep/sums")] {
        for path in [local, public] {
            let response = two.bridge.send(&Request::post(path)).expect(401, path);
            let metadata = format!("https://h.example/.well-known/oauth-protected-resource{public}");
            assert_eq!(Challenge::of(&response).get("resource_metadata"), Some(metadata.as_str()));
            let place = format!("/.well-known/oauth-protected-resource{path}");
            let document = two.bridge.send(&Request::get(&place)).expect(200, &place).json();
            assert_eq!(document["resource"], format!("https://h.example{public}"));
        }
    }
}
