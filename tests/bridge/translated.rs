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

/// A server's ids are its own: the number of a question that it withdraws may be that of a call.
#[test]
fn call_is_answered_although_its_server_withdraws_a_question_of_the_same_number() {
    let bridge = serving("legacy");
    let opened = bridge.send(&mcp::initialize(mcp::LEGACY)).expect(200, "initialize");
    let session = opened.header("Mcp-Session-Id").expect("a session").to_owned();
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
