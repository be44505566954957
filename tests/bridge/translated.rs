//! Clients and servers of two eras, where the official suite and the SDKs do not look.

use serde_json::{Value, json};

use crate::{
    common::{
        bridge::{Bridge, CommandLine, Scratch},
        http::Response,
        mcp,
    },
    everything::example,
};

/// A client that has a token for progress in each of its requests, as the SDKs do, knows no other.
#[test]
fn progress_after_a_question_is_not_lost_under_an_old_token() {
    let bridge = serving("legacy");
    let first = ask(&bridge, "test_streaming_elicitation", "first", &json!({}));
    assert_eq!(progress(&first), [("first".into(), 1)]);
    let (state, key) = question(last(&first));
    let retry = json!({
        "requestState": state,
        "inputResponses": { key: { "action": "accept", "content": { "name": "Ada" } } },
    });
    let second = ask(&bridge, "test_streaming_elicitation", "second", &retry);
    assert_eq!(progress(&second), [("second".into(), 2)]);
    assert_eq!(mcp::text(last(&second)), "Done.");
}

/// Between its requests a modern client hears nothing; what is said then must not stop its server.
#[test]
fn server_that_reports_while_its_user_thinks_still_answers_other_requests() {
    let bridge = serving("legacy");
    let (state, key) = question(last(&ask(&bridge, "report_meanwhile", "first", &json!({}))));
    // By the end of this, it has said more than any queue holds.
    let other = ask(&bridge, "sleep", "other", &json!({ "arguments": { "ms": 200 } }));
    assert_eq!(mcp::text(last(&other)), "slept");
    let retry = json!({ "requestState": state, "inputResponses": { key: { "action": "decline" } } });
    assert_eq!(mcp::text(last(&ask(&bridge, "report_meanwhile", "second", &retry))), "Done.");
}

/// A modern server begins anew with each retry; to a legacy client, all of them are one request.
#[test]
fn progress_of_a_legacy_client_never_goes_back() {
    let bridge = serving("modern");
    let session = session(&bridge, &json!({ "elicitation": {} }));
    let call = json!({
        "jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": { "name": "test_streaming_elicitation", "arguments": {}, "_meta": { "progressToken": "mine" } },
    });
    let (_, mut stream) = mcp::legacy(&session, &call).open(bridge.address());
    let mut heard = Vec::new();
    while let Some(event) = stream.next_event() {
        let data = event.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
        let Some(message) = data.filter_map(|data| serde_json::from_str::<Value>(data).ok()).next() else { continue };
        if message["method"] == "elicitation/create" {
            let answer = json!({ "action": "accept", "content": { "name": "Ada" } });
            let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": answer });
            bridge.send(&mcp::legacy(&session, &answer)).expect(202, "an answer");
        }
        let is_last = message["id"] == 7;
        heard.push(message);
        if is_last {
            break;
        }
    }
    assert_eq!(progress(&heard), [("mine".into(), 1), ("mine".into(), 2)]);
    assert_eq!(mcp::text(last(&heard)), "Done.");
}

/// Whoever is told that they are subscribed waits for changes, and does not ask again.
#[test]
fn subscription_that_the_server_does_not_grant_is_no_success() {
    for era in ["legacy", "modern"] {
        let bridge = serving(era);
        let session = session(&bridge, &json!({}));
        for (uri, is_granted) in [("test://watched-resource", true), ("test://static-text", false)] {
            let subscribe =
                json!({ "jsonrpc": "2.0", "id": 2, "method": "resources/subscribe", "params": { "uri": uri } });
            let answer = messages(&bridge.send(&mcp::legacy(&session, &subscribe)).expect(200, uri));
            assert_eq!(last(&answer).get("result").is_some(), is_granted, "{era} {uri}: {answer:?}");
        }
    }
}

/// A server's ids are its own: the number of a question that it withdraws may be that of a call.
#[test]
fn call_is_answered_although_its_server_withdraws_a_question_of_the_same_number() {
    let bridge = serving("legacy");
    let session = session(&bridge, &json!({ "elicitation": {} }));
    let call = json!({
        "jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": { "name": "withdraw", "arguments": { "times": 5 } },
    });
    let answer = messages(&bridge.send(&mcp::legacy(&session, &call)).expect(200, "a call"));
    assert_eq!(mcp::text(last(&answer)), "withdrawn: 5");
    // Whoever was asked learns that it is not needed any more.
    let ids = |method: &str, id: fn(&Value) -> &Value| -> Vec<Value> {
        answer.iter().filter(|message| message["method"] == method).map(|message| id(message).clone()).collect()
    };
    let asked = ids("elicitation/create", |message| &message["id"]);
    assert_eq!((asked.len(), asked), (5, ids("notifications/cancelled", |message| &message["params"]["requestId"])));
}

/// A bridge in front of the server that has everything; its processes live as long as their sessions.
fn serving(era: &str) -> Bridge {
    let files = Scratch::new();
    let policy = files.file("bridge.toml", "[policy]\ndefault_scopes = []\n");
    let program = example("everything");
    let line = CommandLine::serve().flag("--auth", "none").flag("--config", policy).flag("--isolation", "session");
    line.command_to_serve(&[program.to_str().expect("a path of ours"), "--era", era]).spawn()
}

/// A session of a legacy client with these capabilities.
fn session(bridge: &Bridge, capabilities: &Value) -> String {
    let client = json!({ "name": "black-box", "version": "1.0.0" });
    let params = json!({ "protocolVersion": mcp::LEGACY, "capabilities": capabilities, "clientInfo": client });
    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
    let opened = bridge.send(&mcp::post().json(&initialize)).expect(200, "initialize");
    let session = opened.header("Mcp-Session-Id").expect("a session").to_owned();
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    bridge.send(&mcp::legacy(&session, &ready)).expect(202, "initialized");
    session
}

/// Calls a tool as a modern client that can fill in forms; gives all that comes back.
fn ask(bridge: &Bridge, tool: &str, token: &str, more: &Value) -> Vec<Value> {
    let mut meta = mcp::meta();
    meta["io.modelcontextprotocol/clientCapabilities"] = json!({ "elicitation": {} });
    meta["progressToken"] = token.into();
    let mut params = json!({ "name": tool, "arguments": {}, "_meta": meta });
    for (key, value) in more.as_object().expect("an object") {
        params[key] = value.clone();
    }
    messages(&bridge.send(&mcp::modern("tools/call", params)).expect(200, tool))
}

/// The messages of a JSON answer or of an event stream, in order.
fn messages(response: &Response) -> Vec<Value> {
    if !response.header("Content-Type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
        return vec![response.json()];
    }
    let data = response.text().lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
    data.filter(|data| !data.is_empty()).map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

fn last(messages: &[Value]) -> &Value {
    messages.last().expect("an answer")
}

/// The token and the value of every report.
fn progress(messages: &[Value]) -> Vec<(Value, u64)> {
    let reports = messages.iter().filter(|message| message["method"] == "notifications/progress");
    let report = |params: &Value| (params["progressToken"].clone(), params["progress"].as_u64().unwrap_or_default());
    reports.map(|message| report(&message["params"])).collect()
}

/// The state and the one key of an answer that asks.
fn question(answer: &Value) -> (String, String) {
    let result = &answer["result"];
    let keys: Vec<&String> =
        result["inputRequests"].as_object().map(|asked| asked.keys().collect()).unwrap_or_default();
    assert_eq!(keys.len(), 1, "{answer}");
    (result["requestState"].as_str().expect("a state").to_owned(), keys[0].clone())
}
