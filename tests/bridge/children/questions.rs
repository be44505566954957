//! What servers ask the clients of sessions, and whose the answers are.

use serde_json::{Value, json};

use super::{
    client::{Client, next_message},
    rig::Rig,
};
use crate::common::http::Connection;

/// The answer of a user who fills in the form with this name.
fn form(name: &str) -> Value {
    json!({ "action": "accept", "content": { "username": name, "email": "ada@example.com" } })
}

/// Calls a tool that asks the user; gives the call and the question's id.
fn asking(client: &mut Client) -> (Connection, Value) {
    let mut call = client.begin("test_elicitation", &json!({ "message": "who?" }));
    assert_eq!(call.read_head().status, 200);
    let question = next_message(&mut call);
    assert_eq!(question["method"], "elicitation/create", "{question}");
    (call, question["id"].clone())
}

/// The successor of a server that has died counts its questions from the beginning.
#[test]
fn late_answer_to_a_dead_server_is_not_taken_for_one_to_its_successor() {
    let rig = Rig::everything("legacy", "session", |line| line);
    let mut client =
        Client::legacy_with(rig.bridge.address(), &rig.token("alice", "app"), &json!({ "elicitation": {} }));
    let (_lost, first) = asking(&mut client);
    client.call("die", &json!({}));
    let (mut call, second) = asking(&mut client);
    assert_ne!(first, second, "one id for two questions");
    assert_eq!(client.respond(&first, &form("late")).head.status, 202);
    assert_eq!(client.respond(&second, &form("Ada")).head.status, 202);
    let answer = next_message(&mut call);
    let text = crate::common::mcp::text(&answer);
    assert!(text.contains("Ada") && !text.contains("late"), "{text}");
}
