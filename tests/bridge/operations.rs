//! What operators see and do: health, metrics, the audit file and the log.

use std::collections::HashSet;

use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::common::{
    authorization_server::{AuthorizationServer, Fault},
    bridge::{CommandLine, Scratch, field},
    http::Request,
    mcp, wait_until,
    world::{ALL_SCOPES, World},
};

#[test]
fn health() {
    let world = World::start();
    let response = world.send(&Request::get("/healthz")).expect(200, "healthz");
    assert_eq!(response.text().trim_end(), "ok");
    let response = world.send(&Request::get("/readyz")).expect(200, "readyz");
    assert_eq!(response.json()["ready"], true);
    for path in ["/healthz", "/readyz"] {
        world.send(&Request::new("HEAD", path)).expect(200, path);
    }
}

/// Nobody needs a token for it, so it must not be a way to flood the authorization server, nor to
/// stop the bridge from asking.
#[test]
fn readiness_cannot_be_used_for_a_flood() {
    let world = World::start();
    let asked = world.server.question_count();
    for _ in 0..50 {
        world.send(&Request::get("/readyz")).expect(200, "ready");
    }
    let questions = world.server.question_count() - asked;
    assert!(questions <= 3, "{questions} questions for 50 probes");

    let fresh = World::start();
    let token = fresh.token(ALL_SCOPES);
    let asked = fresh.server.question_count();
    fresh.server.fail(Fault::Status(500));
    for _ in 0..50 {
        fresh.send(&Request::get("/readyz"));
    }
    let questions = fresh.server.question_count() - asked;
    assert!(questions <= 5, "{questions} questions for 50 probes during an outage");
    fresh.server.fail(None);
    wait_until("it serves again", || fresh.call(&token, "add").status == 200);
}

/// An orchestrator must not send traffic to a bridge that never could ask.
#[test]
fn readiness_is_red_from_the_start_if_nobody_can_be_asked() {
    let server = AuthorizationServer::start();
    let line = CommandLine::serve().introspection(&server);
    let bridge = line.flag("--introspection-url", "http://127.0.0.1:1/introspect").spawn();
    let body = bridge.send(&Request::get("/readyz")).expect(503, "never asked").json();
    assert_eq!(body["ready"], false, "{body}");
}

/// Probes come by address or by whatever name the orchestrator uses.
#[test]
fn health_has_no_host_check() {
    let world = World::start();
    world.send(&Request::get("/healthz").header("Host", "10.1.2.3:8808")).expect(200, "healthz");
    world.send(&Request::get("/readyz").header("Host", "pod.cluster.local")).expect(200, "readyz");
}

#[test]
fn readiness_follows_the_authorization_server() {
    let world = World::start();
    world.server.fail(Fault::Status(500));
    for number in 0..6 {
        world.call(&format!("t{number}"), "add").expect(503, "outage");
    }
    let body = world.send(&Request::get("/readyz")).expect(503, "red").json();
    assert_eq!(body["ready"], false);
    assert!(body["reason"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    world.send(&Request::get("/healthz")).expect(200, "restarting would not help");
    world.server.fail(None);
    wait_until("green again", || {
        let _ = world.call(&world.token(""), "add");
        world.send(&Request::get("/readyz")).status == 200
    });
}

#[test]
fn metrics_have_their_own_listener() {
    let world = World::with(|line| line.flag("--metrics-listen", "127.0.0.1:0"));
    let unconsented = world.token("");
    let session = world.session(world.good());
    world.call(&unconsented, "add").expect(403, "scope");
    world.send(&mcp::call("add")).expect(401, "token");
    world.send(&mcp::call("add").header("Origin", "https://evil.example")).expect(403, "origin");
    let before = world.bridge.metrics();
    for _ in 0..3 {
        world.call(world.good(), "add").expect(200, "a call");
    }
    let response = Request::get("/metrics").send(world.bridge.metrics_address()).expect(200, "metrics");
    let content_type = response.header("Content-Type").unwrap_or_default();
    assert!(content_type.starts_with("application/openmetrics-text") || content_type.starts_with("text/plain"));
    let page = response.text().to_owned();
    let names: HashSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for subject in
        ["requests", "duration_seconds", "refusals", "introspection", "cache", "sessions", "streams", "connections"]
    {
        assert!(names.iter().any(|name| name.contains(subject)), "nothing about {subject} in {names:?}");
    }
    assert!(names.iter().all(|name| name.starts_with("mcp_bridge_") || name.starts_with("process_")), "{names:?}");
    let sum = |page: &str, name: &str| -> f64 {
        let samples = page.lines().filter(|line| line.starts_with(name));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let requests = "mcp_bridge_requests_total";
    assert!(sum(&page, requests) >= sum(&before, requests) + 3.0, "{page}");
    assert!(sum(&page, "mcp_bridge_refusals_total") >= 3.0, "{page}");
    let newcomer = world.token(ALL_SCOPES);
    for _ in 0..2 {
        world.call(&newcomer, "add").expect(200, "one question, one hit");
    }
    let later = world.bridge.metrics();
    let rise = |name: &str| sum(&later, name) - sum(&page, name);
    assert!((rise("mcp_bridge_introspections_total") - 1.0).abs() < 0.1, "{page}\n{later}");
    assert!((rise("mcp_bridge_token_cache_events_total") - 2.0).abs() < 0.1, "{page}\n{later}");
    let reasons = page.lines().filter(|line| line.starts_with("mcp_bridge_refusals_total{")).count();
    assert!(reasons >= 3, "refusals are told apart: {page}");
    // Labels from a peer would be a way to fill the memory, and to read who calls.
    for private in ["user-", "client-1", "example.com", session.as_str(), unconsented.as_str()] {
        assert!(!page.contains(private), "{private} is in the metrics");
    }
    world.send(&Request::get("/metrics")).expect(404, "metrics on the public listener");
    assert_eq!(
        Request::post("/mcp").send(world.bridge.metrics_address()).status,
        404,
        "the endpoint on the metrics listener"
    );
}

/// Paths and methods that clients invent do not become metrics.
#[test]
fn metrics_do_not_grow_with_what_clients_send() {
    let world = World::with(|line| line.flag("--metrics-listen", "127.0.0.1:0"));
    let provoke = |number: usize| {
        world.send(&Request::get(&format!("/path-{number}")));
        world.send(&Request::new(&format!("METHOD{number}"), "/mcp"));
        world.send(&mcp::modern(&format!("method/{number}"), json!({})).bearer(world.good()));
        let mut params = mcp::arguments("add");
        params["name"] = format!("tool-{number}").into();
        world.send(&mcp::modern("tools/call", params).bearer(world.good()));
        world.send(&mcp::initialize(&format!("version-{number}")));
    };
    provoke(0);
    let lines = world.bridge.metrics().lines().count();
    for number in 1..10 {
        provoke(number);
    }
    assert_eq!(world.bridge.metrics().lines().count(), lines, "{}", world.bridge.metrics());
}

#[test]
fn the_audit_file_says_who_did_what() {
    let scratch = Scratch::new();
    let path = scratch.path("audit.jsonl");
    let world = World::with(|line| line.flag("--audit-log", path.to_str().expect("UTF-8")));
    let mut answer = world.answer("op:add");
    answer["sub"] = "auditee".into();
    let token = world.grant(&answer);
    world.call(&token, "add").expect(200, "allowed");
    world.call(&token, "divide").expect(403, "refused");
    let records = || -> Vec<Value> {
        let text = std::fs::read_to_string(&path).expect("the audit file");
        let records = text.lines().map(|line| serde_json::from_str(line).expect("a record is a JSON line"));
        records.filter(|record: &Value| record["subject"] == "auditee").collect()
    };
    // An allowed call is on record before it runs, so before its answer.
    let found = records();
    assert_eq!(found.len(), 2, "{found:?}");
    for (record, decision, operation) in [(&found[0], "allowed", "add"), (&found[1], "refused", "divide")] {
        assert_eq!(record["decision"], decision, "{record}");
        assert_eq!(record["operation"], operation, "{record}");
        assert_eq!(record["tool"], "calculator", "{record}");
        assert_eq!(record["method"], "tools/call", "{record}");
        assert_eq!(record["client_id"], "client-1", "{record}");
        let time = record["time"].as_str().unwrap_or_default();
        assert!(time.len() >= 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{record}");
        assert!(record["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{record}");
        assert!(record.get("arguments").is_none(), "values are not recorded by default: {record}");
    }
    assert_eq!(found[1]["missing"], "op:div", "{}", found[1]);
    assert_ne!(found[0]["request_id"], found[1]["request_id"]);
    // Reading lists is nothing that anybody was allowed or refused to do to the tool.
    let text = std::fs::read_to_string(&path).expect("the audit file");
    assert!(!text.contains(&token), "a token is in the audit file");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = path.metadata().expect("the audit file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "others may read it: {mode:o}");
    }
}

/// It is only ever appended to, and a value in it is there because somebody asked for it.
#[test]
fn the_audit_file_is_appended_to() {
    let scratch = Scratch::new();
    let old = "{\"old\":true}\n";
    let path = scratch.file("audit.jsonl", old);
    let world = World::with(|line| line.flag("--audit-log", &path).switch("--audit-arguments"));
    let mut params = mcp::arguments("add");
    params["arguments"]["a"] = json!(271_828);
    world.send(&mcp::modern("tools/call", params).bearer(world.good())).expect(200, "a call");
    let text = std::fs::read_to_string(&path).expect("the audit file");
    assert!(text.starts_with(old), "{text}");
    assert!(text.contains("271828"), "{text}");
}

/// Log rotation: the file is moved away, then SIGHUP.
#[test]
fn the_audit_file_can_be_rotated() {
    let scratch = Scratch::new();
    let (path, moved) = (scratch.path("audit.jsonl"), scratch.path("audit.1"));
    let world = World::with(|line| line.flag("--audit-log", path.to_str().expect("UTF-8")));
    std::fs::rename(&path, &moved).expect("our own file");
    world.bridge.signal("HUP");
    wait_until("there is a new file", || path.exists());
    let old = std::fs::read_to_string(&moved).expect("the old file");
    let token = world.token(ALL_SCOPES);
    world.call(&token, "multiply").expect(200, "a call");
    assert!(std::fs::read_to_string(&path).expect("the new file").contains("multiply"));
    assert_eq!(std::fs::read_to_string(&moved).expect("the old file"), old);
}

/// An audit that a full disk switches off is one that an attacker can switch off.
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_recorded_does_not_run() {
    let server = AuthorizationServer::start();
    let mut bridge = CommandLine::serve().introspection(&server).flag("--audit-log", "/dev/full").spawn();
    let answer = json!({ "active": true, "sub": "u", "aud": bridge.resource(), "scope": ALL_SCOPES });
    server.set("token", &answer);
    let response = bridge.send(&mcp::call("add").bearer("token"));
    assert!(matches!(response.status, 500 | 503), "{response:?}");
    assert!(response.code().is_some() && response.header("WWW-Authenticate").is_none(), "{response:?}");
    bridge.sigterm();
    bridge.wait();
    let ran = bridge
        .events()
        .into_iter()
        .find(|event| event["target"].as_str().unwrap_or_default().starts_with("mcp_calculator"));
    assert!(ran.is_none(), "{ran:?}");
}

/// No client ever sees another's answer.
#[test]
fn answers_are_never_mixed_up() {
    let world = World::start();
    std::thread::scope(|scope| {
        for client in 0..16_u32 {
            let world = &world;
            scope.spawn(move || {
                let token = world.token(ALL_SCOPES);
                let session = (client % 2 == 0).then(|| world.session(&token));
                for number in 0..30_u32 {
                    let value = client * 1000 + number;
                    let arguments = json!({ "operation": "add", "a": value, "b": 0.5 });
                    let mut params = json!({ "name": "calculator", "arguments": arguments });
                    // The same id from everybody: what tells answers apart is where they go.
                    let request = match &session {
                        Some(session) => {
                            let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
                            mcp::legacy(session, &body)
                        }
                        None => {
                            params["_meta"] = mcp::meta();
                            mcp::modern("tools/call", params)
                        }
                    };
                    let response = world.send(&request.bearer(&token)).expect(200, "under load");
                    assert_eq!(mcp::text(&response.json()), format!("{value}.5"));
                }
            });
        }
    });
}

/// An event of the kind that each request leaves behind, for this user.
fn request_event(world: &World, subject: &str, status: u64) -> Value {
    world.bridge.wait_for_event("of the request", |event| {
        field(event, "subject") == Some(&json!(subject))
            && field(event, "status") == Some(&json!(status))
            && event["level"] == "INFO"
    })
}

#[test]
fn each_request_leaves_one_event() {
    let world = World::with(|line| line.flag("--log-level", "debug"));
    let user = |name: &str, scopes: &str| {
        let mut answer = world.answer(scopes);
        answer["sub"] = name.into();
        world.grant(&answer)
    };
    let (alice, bob) = (user("alice", ALL_SCOPES), user("bob", "op:add"));
    world.call(&alice, "add").expect(200, "allowed");
    world.call(&bob, "divide").expect(403, "refused");
    let allowed = request_event(&world, "alice", 200);
    let refused = request_event(&world, "bob", 403);
    for (event, decision) in [(&allowed, "allowed"), (&refused, "refused")] {
        assert_eq!(field(event, "decision"), Some(&json!(decision)), "{event}");
        assert_eq!(field(event, "client_id"), Some(&json!("client-1")), "{event}");
        assert_eq!(field(event, "tool"), Some(&json!("calculator")), "{event}");
        assert!(field(event, "request_id").is_some_and(|id| id.is_string() || id.is_number()), "{event}");
        assert!(field(event, "elapsed_ms").is_some_and(Value::is_number), "{event}");
    }
    assert_eq!(field(&refused, "missing"), Some(&json!("op:div")), "{refused}");
    assert_ne!(field(&allowed, "request_id"), field(&refused, "request_id"));
    world.send(&mcp::call("add")).expect(401, "no token");
    let anonymous = world.bridge.wait_for_event("of the refusal", |event| field(event, "status") == Some(&json!(401)));
    assert_eq!(field(&anonymous, "decision"), Some(&json!("refused")), "{anonymous}");
    world.runs();
    let events = world.bridge.events();
    let of = |subject: &str| {
        let requests = events.iter().filter(|event| field(event, "elapsed_ms").is_some());
        requests.filter(|event| field(event, "subject") == Some(&json!(subject))).count()
    };
    assert_eq!((of("alice"), of("bob")), (1, 1));
}

/// A tunnel connects from loopback, and so does every program on the machine: who is believed must be
/// said.
#[test]
fn forwarded_addresses_are_logged_only_if_a_trusted_proxy_says_so() {
    let trusting = |proxies: &[&str]| {
        World::with(|line| proxies.iter().fold(line, |line, proxy| line.flag("--trusted-proxy", proxy)))
    };
    for (proxies, expected) in
        [(&[][..], "127.0.0.1"), (&["192.0.2.1"], "127.0.0.1"), (&["192.0.2.1", "127.0.0.1"], "198.51.100.7")]
    {
        let world = trusting(proxies);
        let request = mcp::call("add").header("X-Forwarded-For", "203.0.113.9, 198.51.100.7, 192.0.2.1");
        // The header is no credential either, whoever sends it.
        world.without_run("forwarded", || world.send(&request)).expect(401, "no token");
        world.send(&request.bearer(world.good())).expect(200, "with a token");
        for status in [401, 200] {
            let event = world.bridge.wait_for_event("of the request", |event| {
                field(event, "status") == Some(&json!(status))
                    && field(event, "subject") != Some(&json!("control-user"))
            });
            assert_eq!(field(&event, "client"), Some(&json!(expected)), "{proxies:?}: {event}");
        }
    }
}

#[test]
fn stdout_stays_empty_and_the_announcement_is_complete() {
    let server = AuthorizationServer::start();
    let line = CommandLine::serve().introspection(&server).flag("--log-level", "error");
    let mut bridge = line.flag("--metrics-listen", "127.0.0.1:0").spawn();
    assert_eq!(bridge.url(), format!("http://{}/mcp", bridge.address()));
    assert_eq!(bridge.resource(), bridge.url());
    assert_ne!(bridge.address(), bridge.metrics_address());
    bridge.send(&mcp::call("add")).expect(401, "no token");
    bridge.sigterm();
    assert!(bridge.wait().success());
    assert!(bridge.stdout().is_empty());
    assert_eq!(bridge.events().len(), 1, "only the announcement at this level:\n{}", bridge.log_text());
}

/// HTTP/2 without TLS, as proxies speak it to a backend.
#[test]
fn http_2_in_cleartext() {
    let world = World::start();
    let address = world.bridge.address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let (mut sender, connection) = hyper::client::conn::http2::handshake(
            hyper_util::rt::TokioExecutor::new(),
            hyper_util::rt::TokioIo::new(stream),
        )
        .await
        .expect("an HTTP/2 handshake");
        let driver = tokio::spawn(connection);
        let arguments = mcp::arguments("add");
        let params = json!({ "name": arguments["name"], "arguments": arguments["arguments"], "_meta": mcp::meta() });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
        let request = |token: Option<&str>| {
            let mut builder = http::Request::post(format!("http://{address}/mcp"))
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream")
                .header("mcp-protocol-version", mcp::MODERN)
                .header("mcp-method", "tools/call")
                .header("mcp-name", "calculator");
            if let Some(token) = token {
                builder = builder.header("authorization", format!("Bearer {token}"));
            }
            builder.body(http_body_util::Full::new(Bytes::from(body.clone()))).expect("a request")
        };
        let answers = futures_util::future::join_all((0..20).map(|_| sender.send_request(request(Some(world.good())))));
        for answer in answers.await {
            let answer = answer.expect("an answer");
            assert_eq!((answer.status(), answer.version()), (http::StatusCode::OK, http::Version::HTTP_2));
            let body = http_body_util::BodyExt::collect(answer.into_body()).await.expect("a body").to_bytes();
            assert_eq!(mcp::text(&serde_json::from_slice(&body).expect("JSON")), "9");
        }
        let refused = sender.send_request(request(None)).await.expect("an answer");
        assert_eq!(refused.status(), http::StatusCode::UNAUTHORIZED);
        assert!(refused.headers().contains_key("www-authenticate"));
        let foreign = http::Request::post("http://evil.example/mcp").body(http_body_util::Full::new(Bytes::new()));
        let foreign = sender.send_request(foreign.expect("a request")).await.expect("an answer");
        assert_eq!(foreign.status(), http::StatusCode::MISDIRECTED_REQUEST, ":authority counts as Host");
        drop(sender);
        driver.abort();
    });
}
