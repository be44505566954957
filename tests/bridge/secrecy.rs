//! What must never be written anywhere: tokens, secrets, session ids, bodies.

use serde_json::json;

use crate::common::{
    authorization_server::{CLIENT_SECRET, Fault},
    bridge::Scratch,
    http::Request,
    mcp,
    world::{ALL_SCOPES, World},
};

/// Sends secrets through every path at the most talkative level and searches everything for them.
#[test]
fn nothing_secret_is_ever_written() {
    let scratch = Scratch::new();
    let audit = scratch.path("audit.jsonl");
    let mut world = World::with(|line| {
        line.flag("--log-level", "trace")
            .flag("--audit-log", audit.to_str().expect("UTF-8"))
            .flag("--metrics-listen", "127.0.0.1:0")
            .flag("--introspection-cache", "0s")
    });
    let good = "canary-good-token-8f2a";
    world.server.set(good, &world.answer("op:add"));
    let session = world.session(good);
    let send = |request: Request| world.send(&request);
    send(mcp::call("add").bearer(good)).expect(200, "accepted");
    send(mcp::call("divide").bearer(good)).expect(403, "no scope");
    send(mcp::call("add").bearer("canary-unknown-token-77b1")).expect(401, "unknown");
    send(mcp::call("add").header("Authorization", "Bearer canary-malformed-1 canary-malformed-2"))
        .expect(400, "malformed");
    send(mcp::call("add").header("Authorization", "Basic canary-basic-19c0")).expect(401, "Basic");
    send(mcp::call("add").target("/mcp?access_token=canary-query-token-5aa0&x=canary-query-b2")).expect(401, "query");
    send(mcp::call("add").target("/mcp?code=canary-code-0d3e").bearer(good));
    send(Request::get("/canary-path-unknown?token=canary-path-query-6e"));
    send(mcp::call("add").header("Cookie", "session=canary-cookie-3b7f").bearer(good)).expect(200, "cookie");
    send(mcp::call("add").header("X-Api-Key", "canary-api-key-e4d4").bearer(good)).expect(200, "other header");
    send(mcp::legacy_call(&session, "add").bearer(good)).expect(200, "session");
    send(mcp::legacy_call("canary-foreign-session-a0", "add").bearer(good)).expect(404, "unknown session");
    send(Request::new("DELETE", "/mcp").header("Mcp-Session-Id", &session).bearer(good));
    let mut params = mcp::arguments("add");
    params["arguments"]["a"] = json!("canary-argument-text-41");
    params["arguments"]["canary-argument-name-42"] = json!(1);
    send(mcp::modern("tools/call", params).bearer(good));
    let mut params = mcp::arguments("add");
    params["arguments"]["a"] = json!(987_654_321.25);
    send(mcp::modern("tools/call", params).bearer(good)).expect(200, "a number");
    send(mcp::call("add").body("{\"canary-broken-body-c7\":").bearer(good)).expect(400, "parse error");
    for fault in [
        Fault::Status(500),
        Fault::Status(401),
        Fault::Redirect("http://127.0.0.1:1/canary-redirect-f0".to_owned()),
        Fault::Answer("application/json", br#"{"active":"canary-answer-d1"}"#.to_vec()),
        Fault::Reset,
    ] {
        world.server.fail(fault);
        send(mcp::call("add").bearer(good)).expect(503, "outage");
        send(Request::get("/readyz"));
    }
    world.server.fail(None);
    let metrics = world.bridge.metrics();
    world.bridge.sigterm();
    world.bridge.wait();
    let log = world.bridge.log_text();
    let stdout = String::from_utf8(world.bridge.stdout()).expect("UTF-8");
    let recorded = std::fs::read_to_string(&audit).expect("the audit file");
    assert!(log.lines().any(|line| line.contains("\"TRACE\"") || line.contains("\"DEBUG\"")), "the log is talkative");
    assert!(recorded.lines().count() >= 3, "the audit file was written");
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, CLIENT_SECRET);
    for (place, text) in [("log", &log), ("audit file", &recorded), ("metrics", &metrics), ("stdout", &stdout)] {
        for secret in ["canary", CLIENT_SECRET, &session, "987654321", "Bearer c", &encoded[..20]] {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} is in the {place}: {}", line.unwrap_or_default());
        }
    }
}

/// Answers repeat nothing that could have been stolen.
#[test]
fn no_answer_repeats_credentials() {
    let world = World::start();
    let requests = [
        mcp::call("add").bearer("canary-unknown-token"),
        mcp::call("add").header("Authorization", "Bearer canary a b"),
        mcp::call("add").target("/mcp?access_token=canary"),
        mcp::legacy_call("canary-session", "add").bearer(world.good()),
        Request::get("/canary").bearer("canary"),
    ];
    for request in requests {
        let response = world.send(&request);
        let everything = format!("{:?}{}", response.headers, String::from_utf8_lossy(&response.body));
        assert!(!everything.contains("canary"), "{request:?}: {everything}");
    }
}

/// A user name with line breaks or terminal escapes must stay inside its log line.
#[test]
fn hostile_names_stay_in_their_line() {
    let scratch = Scratch::new();
    let audit = scratch.path("audit.jsonl");
    let world = World::with(|line| line.flag("--audit-log", audit.to_str().expect("UTF-8")));
    let mut answer = world.answer(ALL_SCOPES);
    answer["sub"] = "eve\n{\"level\":\"ERROR\",\"message\":\"forged\"}\r\n\u{1b}[31mred\u{0}".into();
    answer["client_id"] = "client\n\u{2028}forged".into();
    let token = world.grant(&answer);
    world.call(&token, "add").expect(200, "a call");
    let mut params = mcp::arguments("add");
    params["name"] = "tool\n{\"level\":\"ERROR\",\"forged\":1}".into();
    let encoded =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, params["name"].as_str().unwrap_or_default());
    let request = mcp::modern("tools/call", params).with("Mcp-Name", format!("=?base64?{encoded}?="));
    world.send(&request.bearer(&token));
    world.runs();
    for event in world.bridge.events() {
        assert!(event.get("forged").is_none() && event["message"] != "forged", "{event}");
    }
    assert!(!world.bridge.log_text().contains('\u{1b}'));
    let recorded = std::fs::read_to_string(&audit).expect("the audit file");
    for line in recorded.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("a record is a JSON line");
        assert!(record["decision"].is_string(), "{record}");
    }
}
