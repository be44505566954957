//! The legacy era (MCP 2025-11-25 and earlier) over HTTP: sessions, and who may use them.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};

use crate::common::{
    http::{Connection, Request, Response},
    mcp, unix_now, wait_until,
    world::{ALL_SCOPES, World},
};

fn message(id: u64, method: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method })
}

fn stream(session: &str) -> Request {
    Request::get("/mcp")
        .header("Accept", "text/event-stream")
        .header("MCP-Protocol-Version", mcp::LEGACY)
        .header("Mcp-Session-Id", session)
}

fn end(session: &str) -> Request {
    Request::new("DELETE", "/mcp").header("MCP-Protocol-Version", mcp::LEGACY).header("Mcp-Session-Id", session)
}

/// Whether the session answers its owner.
fn status(world: &World, session: &str, token: &str) -> u16 {
    world.send(&mcp::legacy(session, &message(9, "ping")).bearer(token)).status
}

#[test]
fn the_handshake_agrees_on_a_version() {
    let world = World::start();
    let cases = [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("", "2025-11-25"),
    ];
    for (asked, agreed) in cases {
        let response = world.send(&mcp::initialize(asked).bearer(world.good())).expect(200, asked);
        assert_eq!(response.header("Content-Type"), Some("application/json"), "{asked}");
        let session = response.header("Mcp-Session-Id").expect("a session id").to_owned();
        let body = response.json();
        assert_eq!(body["id"], 1, "{asked}");
        assert_eq!(body["result"]["protocolVersion"], agreed, "{asked}");
        assert_eq!(body["result"]["serverInfo"]["name"], "Calculator", "{asked}");
        assert!(body["result"]["capabilities"]["tools"].is_object(), "{asked}");
        assert!(body["result"].get("resultType").is_none(), "{asked}: a field of the other era");

        // The version header came with 2025-06-18; without it the session knows.
        let bare = |value: &Value| {
            let request = mcp::post().header("Mcp-Session-Id", &session).json(value).bearer(world.good());
            if agreed < "2025-06-18" { request } else { request.header("MCP-Protocol-Version", agreed) }
        };
        let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let response = world.send(&bare(&ready)).expect(202, asked);
        assert!(response.body.is_empty(), "{asked}");
        let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": mcp::arguments("add") });
        let response = world.send(&bare(&call)).expect(200, asked);
        assert_eq!(mcp::text(&response.json()), "9", "{asked}");
        assert!(response.json()["result"].get("resultType").is_none(), "{asked}: a field of the other era");
        let ping = world.send(&bare(&message(3, "ping"))).expect(200, asked).json();
        assert_eq!(ping, json!({ "jsonrpc": "2.0", "id": 3, "result": {} }), "{asked}");
        let tools = world.send(&bare(&message(4, "tools/list"))).expect(200, asked).json();
        assert_eq!(tools["result"]["tools"][0]["name"], "calculator", "{asked}");
    }
}

#[test]
fn session_ids_cannot_be_guessed() {
    let world = World::start();
    let ids: HashSet<String> = (0..20).map(|_| world.session(world.good())).collect();
    assert_eq!(ids.len(), 20);
    for id in &ids {
        assert!(id.len() >= 22 && id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{id}");
    }
    let first = ids.iter().next().expect("an id");
    let shared = |at: usize| ids.iter().all(|id| id.as_bytes().get(at) == first.as_bytes().get(at));
    let varying = (0..first.len()).filter(|&at| !shared(at)).count();
    assert!(varying >= 20, "only {varying} characters differ");
}

#[test]
fn requests_without_a_session_or_with_a_strange_one() {
    let world = World::start();
    let good = world.good();
    let session = world.session(good);
    let call = mcp::legacy_call(&session, "add").bearer(good);
    let list = mcp::legacy(&session, &message(2, "tools/list")).bearer(good);
    let cases: [(&str, u16, Request); 12] = [
        ("no session", 400, call.clone().without("Mcp-Session-Id")),
        ("no session, no version", 400, call.clone().without("Mcp-Session-Id").without("MCP-Protocol-Version")),
        ("no session, list", 400, list.clone().without("Mcp-Session-Id")),
        ("unknown session", 404, call.clone().with("Mcp-Session-Id", "00000000-0000-4000-8000-000000000000")),
        ("empty session", 404, call.clone().with("Mcp-Session-Id", "")),
        ("part of a session", 404, call.clone().with("Mcp-Session-Id", &session[..session.len() - 1])),
        ("another case", 404, call.clone().with("Mcp-Session-Id", swap_case(&session))),
        ("no session on GET", 400, stream("x").without("Mcp-Session-Id").bearer(good)),
        ("unknown session on GET", 404, stream("x").bearer(good)),
        ("no session on DELETE", 400, end("x").without("Mcp-Session-Id").bearer(good)),
        ("unknown session on DELETE", 404, end("x").bearer(good)),
        ("very long", 404, call.clone().with("Mcp-Session-Id", "a".repeat(4000))),
    ];
    for (case, expected, request) in cases {
        let response = world.without_run(case, || world.send(&request));
        // An empty id is as good as none.
        let accepted = if case == "empty session" { [400, 404] } else { [expected, expected] };
        assert!(accepted.contains(&response.status), "{case}: {response:?}");
        assert!(response.header("WWW-Authenticate").is_none(), "{case}");
    }
    let twice = call.clone().header("Mcp-Session-Id", &session);
    let response = world.without_run("the id twice", || world.send(&twice));
    assert!(matches!(response.status, 400 | 404), "the id twice: {response:?}");
    assert_eq!(status(&world, &session, good), 200);
}

fn swap_case(text: &str) -> String {
    let swapped: String = text
        .chars()
        .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
        .collect();
    // An id without letters has no other case.
    if swapped == text { format!("{text}x") } else { swapped }
}

/// GHSA-f6c5-f2ph-7x7p is the class: whoever learns an id must gain nothing by it.
#[test]
fn a_session_answers_nobody_but_its_owner() {
    let world = World::start();
    let mut answer = world.answer(ALL_SCOPES);
    answer["sub"] = "alice".into();
    let alice = world.grant(&answer);
    let session = world.session(&alice);
    let variant = |name: &str, value: Value| {
        let mut answer = answer.clone();
        answer[name] = value;
        world.grant(&answer)
    };
    let strangers = [
        ("another subject", variant("sub", "bob".into())),
        ("another client of the same user", variant("client_id", "client-2".into())),
        ("the same mail, another subject", variant("sub", "alice2".into())),
        ("no subject", variant("sub", Value::Null)),
    ];
    for (case, stranger) in &strangers {
        let requests = [
            ("call", mcp::legacy_call(&session, "add")),
            ("ping", mcp::legacy(&session, &message(2, "ping"))),
            ("notification", mcp::legacy(&session, &json!({ "jsonrpc": "2.0", "method": "notifications/x" }))),
            ("answer", mcp::legacy(&session, &json!({ "jsonrpc": "2.0", "id": 1, "result": {} }))),
            ("GET", stream(&session)),
            ("DELETE", end(&session)),
        ];
        let unknown = world.send(&mcp::legacy_call("unknown", "add").bearer(stranger)).expect(404, case);
        for (kind, request) in requests {
            let case = format!("{kind} by {case}");
            let response = world.without_run(&case, || world.send(&request.bearer(stranger))).expect(404, &case);
            if kind == "call" {
                // Byte for byte as for an id that never was: not even its existence is told.
                assert_eq!(response.body, unknown.body, "{case}");
            }
        }
    }
    assert_eq!(status(&world, &session, &alice), 200, "the owner does not notice");
    // A new token of the same user and client is the same owner.
    let refreshed = variant("exp", json!(unix_now() + 7200));
    assert_eq!(status(&world, &session, &refreshed), 200);
    world.send(&mcp::legacy_call(&session, "add").bearer(&refreshed)).expect(200, "a refreshed token");
}

#[test]
fn a_session_needs_a_good_token_every_time() {
    let world = World::with(|line| line.flag("--introspection-cache", "0s"));
    let token = world.token(ALL_SCOPES);
    let session = world.session(&token);
    world.without_run("no token", || world.send(&mcp::legacy_call(&session, "add"))).expect(401, "no token");
    world.send(&stream(&session)).expect(401, "no token on GET");
    world.send(&end(&session)).expect(401, "no token on DELETE");
    assert_eq!(status(&world, &session, &token), 200);
    world.server.revoke(&token);
    let call = mcp::legacy_call(&session, "add").bearer(&token);
    world.without_run("revoked", || world.send(&call)).expect(401, "revoked");
}

#[test]
fn an_ended_session_is_unknown() {
    let world = World::start();
    let session = world.session(world.good());
    let other = world.session(world.good());
    let response = world.send(&end(&session).bearer(world.good()));
    assert!(matches!(response.status, 200 | 202 | 204), "{response:?}");
    assert!(response.body.is_empty());
    let call = mcp::legacy_call(&session, "add").bearer(world.good());
    world.without_run("ended", || world.send(&call)).expect(404, "ended");
    world.send(&stream(&session).bearer(world.good())).expect(404, "GET on an ended session");
    world.send(&end(&session).bearer(world.good())).expect(404, "DELETE twice");
    assert_eq!(status(&world, &other, world.good()), 200, "another session of the same user");
}

#[test]
fn an_unsupported_version_header_is_refused() {
    let world = World::start();
    let session = world.session(world.good());
    let call = mcp::legacy_call(&session, "add").bearer(world.good());
    for version in ["1999-01-01", "", "2025-11-25x", "2025-11-25, 2025-06-18"] {
        let request = call.clone().with("MCP-Protocol-Version", version);
        world.without_run(version, || world.send(&request)).expect(400, version);
    }
    let none = call.clone().without("MCP-Protocol-Version");
    world.send(&none).expect(200, "without the header the session knows");
}

/// The specification only says SHOULD, and a client that sends another revision than the agreed one
/// does no harm.
#[test]
fn another_legacy_version_header_is_tolerated() {
    let world = World::start();
    let session = world.session(world.good());
    for version in ["2025-06-18", "2025-03-26"] {
        let request = mcp::legacy_call(&session, "add").with("MCP-Protocol-Version", version).bearer(world.good());
        world.send(&request).expect(200, version);
    }
}

#[test]
fn notifications_and_answers_are_taken() {
    let world = World::start();
    let session = world.session(world.good());
    let messages = [
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 99 } }),
        json!({ "jsonrpc": "2.0", "method": "notifications/roots/list_changed" }),
        json!({ "jsonrpc": "2.0", "method": "notifications/unknown", "params": {} }),
        json!({ "jsonrpc": "2.0", "id": 77, "result": { "roots": [] } }),
        json!({ "jsonrpc": "2.0", "id": "x", "error": { "code": -32601, "message": "no" } }),
    ];
    for message in messages {
        let case = message.to_string();
        let response = world.send(&mcp::legacy(&session, &message).bearer(world.good())).expect(202, &case);
        assert!(response.body.is_empty(), "{case}");
    }
    for (case, body, code) in [
        ("parse error", "{".to_owned(), -32700),
        ("batch", format!("[{}]", message(1, "ping")), -32600),
        ("null id", json!({ "jsonrpc": "2.0", "id": null, "method": "ping" }).to_string(), -32600),
    ] {
        let request = mcp::legacy(&session, &Value::Null).body(body).bearer(world.good());
        let response = world.send(&request).expect(400, case);
        assert_eq!(response.code(), Some(code), "{case}");
    }
}

#[test]
fn errors_keep_their_id_and_their_status() {
    let world = World::start();
    let session = world.session(world.good());
    let unknown = world.send(&mcp::legacy(&session, &message(5, "unknown/method")).bearer(world.good()));
    assert_eq!((unknown.code(), &unknown.json()["id"]), (Some(-32601), &json!(5)), "{unknown:?}");
    let mut call = message(6, "tools/call");
    call["params"] = json!({ "name": "other", "arguments": {} });
    let request = mcp::legacy(&session, &call).bearer(world.good());
    let response = world.without_run("unknown tool", || world.send(&request));
    assert!(response.code().is_some(), "{response:?}");
    assert_eq!(response.json()["id"], 6);
    assert_eq!(status(&world, &session, world.good()), 200, "the session goes on");
}

fn next_comment(connection: &mut Connection) -> String {
    for _ in 0..5 {
        let event = connection.next_event().expect("the stream goes on");
        if event.starts_with(':') {
            return event;
        }
        assert!(!event.contains("\"result\""), "an answer on the GET stream: {event}");
    }
    panic!("no keep-alive comment");
}

#[test]
fn the_get_stream_stays_alive() {
    let world = World::with(|line| line.flag("--keep-alive", "1s"));
    let session = world.session(world.good());
    for accept in ["text/event-stream", "*/*", "application/json, text/event-stream"] {
        let request = stream(&session).with("Accept", accept).bearer(world.good());
        let (head, mut connection) = request.open(world.bridge.address());
        let head = head.expect(200, accept);
        assert_eq!(head.header("Content-Type"), Some("text/event-stream"), "{accept}");
        assert_eq!(head.header("X-Accel-Buffering"), Some("no"), "{accept}");
        let cache = head.header("Cache-Control").unwrap_or_default().to_owned();
        assert!(cache.contains("no-cache") || cache.contains("no-store"), "{accept}: {cache}");
        for _ in 0..2 {
            next_comment(&mut connection);
        }
    }
    let json_only = stream(&session).with("Accept", "application/json").bearer(world.good());
    world.send(&json_only).expect(406, "a stream is not JSON");
}

/// Whatever a second stream means, it must not break the session or hang the client.
#[test]
fn a_second_stream_does_no_harm() {
    let world = World::with(|line| line.flag("--keep-alive", "1s"));
    let session = world.session(world.good());
    let address = world.bridge.address();
    let (head, mut first) = stream(&session).bearer(world.good()).open(address);
    head.expect(200, "first");
    next_comment(&mut first);
    let (head, mut second) = stream(&session).bearer(world.good()).open(address);
    assert!(matches!(head.status, 200 | 409), "{head:?}");
    if head.status == 200 {
        next_comment(&mut second);
    } else {
        next_comment(&mut first);
    }
    world.send(&mcp::legacy_call(&session, "add").bearer(world.good())).expect(200, "calls go on");
    drop((first, second));
    wait_until("the stream can be opened again", || {
        let (head, _connection) = stream(&session).bearer(world.good()).open(address);
        head.status == 200
    });
}

#[test]
fn ending_a_session_ends_its_stream() {
    let world = World::start();
    let session = world.session(world.good());
    let (head, mut connection) = stream(&session).bearer(world.good()).open(world.bridge.address());
    head.expect(200, "stream");
    let response = world.send(&end(&session).bearer(world.good()));
    assert!(matches!(response.status, 200 | 202 | 204), "{response:?}");
    let mut events = 0;
    while connection.next_event().is_some() {
        events += 1;
        assert!(events < 5, "the stream goes on");
    }
}

/// A stream must not outlive the token it was opened with.
#[test]
fn a_stream_ends_with_its_token() {
    let world = World::with(|line| line.flag("--keep-alive", "1s"));
    let mut answer = world.answer(ALL_SCOPES);
    answer["exp"] = json!(unix_now() + 3);
    let token = world.grant(&answer);
    let session = world.session(&token);
    let (head, mut connection) = stream(&session).bearer(&token).open(world.bridge.address());
    head.expect(200, "stream");
    let mut events = 0;
    while connection.next_event().is_some() {
        events += 1;
        assert!(events < 40, "the stream outlives its token");
    }
    assert!(events > 0, "it lived before");
}

/// Nor the consent.
#[test]
fn a_stream_ends_with_the_consent() {
    let world = World::with(|line| line.flag("--keep-alive", "1s").flag("--introspection-cache", "1s"));
    let token = world.token(ALL_SCOPES);
    let session = world.session(&token);
    let (head, mut connection) = stream(&session).bearer(&token).open(world.bridge.address());
    head.expect(200, "stream");
    next_comment(&mut connection);
    world.server.revoke(&token);
    let mut events = 0;
    while connection.next_event().is_some() {
        events += 1;
        assert!(events < 10, "the stream outlives the consent");
    }
}

#[test]
fn an_idle_session_is_forgotten_and_one_in_use_is_kept() {
    let world = World::with(|line| line.flag("--session-idle", "2s"));
    let idle = world.session(world.good());
    let used = world.session(world.good());
    let started = std::time::Instant::now();
    wait_until("more than the idle time has passed", || {
        assert_eq!(status(&world, &used, world.good()), 200);
        started.elapsed() > Duration::from_secs(3)
    });
    let call = mcp::legacy_call(&idle, "add").bearer(world.good());
    world.without_run("idle", || world.send(&call)).expect(404, "idle");
    world.send(&stream(&idle).bearer(world.good())).expect(404, "GET on an idle session");
}

/// How many sessions are open.
fn sessions(world: &World) -> u64 {
    world.gauge("mcp_bridge_sessions")
}

fn assert_full(case: &str, response: &Response) {
    assert!(matches!(response.status, 429 | 503), "{case}: {response:?}");
    assert!(response.header("Retry-After").is_some(), "{case}: {response:?}");
    assert!(response.header("Mcp-Session-Id").is_none(), "{case}");
    assert!(response.header("WWW-Authenticate").is_none(), "{case}");
}

/// Clients forget to end sessions; what they pile up is their own.
#[test]
fn one_user_cannot_have_all_sessions() {
    let world = World::with(|line| line.flag("--max-sessions-per-principal", "2"));
    let (one, other) = (world.token(""), world.token(""));
    let others = world.session(&other);
    let own: Vec<String> = (0..4).map(|_| world.session(&one)).collect();
    let statuses: Vec<u16> = own.iter().map(|session| status(&world, session, &one)).collect();
    assert_eq!(statuses, [404, 404, 200, 200], "the newest two live");
    assert_eq!(status(&world, &others, &other), 200, "others do not notice");
}

#[test]
fn there_is_a_bound_on_all_sessions() {
    let world = World::with(|line| line.flag("--max-sessions", "3"));
    let sessions: Vec<_> = (0..3).map(|_| world.token("")).map(|token| (world.session(&token), token)).collect();
    let late = world.token("");
    assert_full("a fourth", &world.send(&mcp::initialize(mcp::LEGACY).bearer(&late)));
    for (session, token) in &sessions {
        assert_eq!(status(&world, session, token), 200);
    }
    // Modern clients need none.
    world.call(world.good(), "add").expect(200, "modern");
    let (session, token) = &sessions[0];
    world.send(&end(session).bearer(token));
    world.session(&late);
}

/// What is refused must not leave a session behind.
#[test]
fn refused_handshakes_make_no_session() {
    let world = World::with(|line| line.flag("--metrics-listen", "127.0.0.1:0"));
    world.send(&mcp::initialize(mcp::LEGACY)).expect(401, "no token");
    world.send(&mcp::initialize(mcp::LEGACY).bearer("unknown")).expect(401, "unknown token");
    world.send(&mcp::initialize(mcp::LEGACY).with("Accept", "text/html").bearer(world.good())).expect(406, "Accept");
    assert_eq!(sessions(&world), 0);
}

#[test]
fn a_handshake_without_its_parameters_is_refused() {
    let world = World::with(|line| line.flag("--metrics-listen", "127.0.0.1:0"));
    let client = json!({ "name": "black-box", "version": "1" });
    let cases = [
        ("version is a number", json!({ "protocolVersion": 7, "capabilities": {}, "clientInfo": client })),
        ("no version", json!({ "capabilities": {}, "clientInfo": client })),
        ("nothing", json!({})),
    ];
    for (case, params) in cases {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
        let response = world.send(&mcp::post().json(&body).bearer(world.good()));
        assert_eq!(response.code(), Some(-32602), "{case}: {response:?}");
        assert!(response.header("Mcp-Session-Id").is_none(), "{case}");
    }
    assert_eq!(sessions(&world), 0);
}

#[test]
fn a_stream_whose_client_is_gone_is_freed() {
    let world = World::with(|line| line.flag("--keep-alive", "1s").flag("--metrics-listen", "127.0.0.1:0"));
    let session = world.session(world.good());
    let (head, connection) = stream(&session).bearer(world.good()).open(world.bridge.address());
    head.expect(200, "stream");
    assert_eq!(world.gauge("mcp_bridge_streams"), 1);
    drop(connection);
    wait_until("the stream is freed", || world.gauge("mcp_bridge_streams") == 0);
    assert_eq!(status(&world, &session, world.good()), 200, "the session is not the stream");
}
