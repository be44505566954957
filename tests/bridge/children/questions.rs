//! What servers ask the clients of sessions, and whose the answers are.

use serde_json::{Value, json};

use super::{
    client::{Client, next_message, read_reply},
    rig::{Rig, eventually},
};
use crate::common::http::Connection;

/// The answer of a user who fills in the form with this name.
fn form(name: &str) -> Value {
    json!({ "action": "accept", "content": { "username": name, "email": "ada@example.com", "name": name } })
}

/// Calls a tool that asks the user; gives the call and the question's id.
fn asking(client: &mut Client, tool: &str) -> (Connection, Value) {
    let mut call = client.begin(tool, &json!({ "message": "who?" }));
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
    let (_lost, first) = asking(&mut client, "test_elicitation");
    client.call("die", &json!({}));
    let (mut call, second) = asking(&mut client, "test_elicitation");
    assert_ne!(first, second, "one id for two questions");
    assert_eq!(client.respond(&first, &form("late")).head.status, 202);
    assert_eq!(client.respond(&second, &form("Ada")).head.status, 202);
    let answer = next_message(&mut call);
    let text = crate::common::mcp::text(&answer);
    assert!(text.contains("Ada") && !text.contains("late"), "{text}");
}

/// A call that waits for an answer to what nobody was asked waits until its deadline.
#[test]
fn client_that_reads_no_stream_as_its_answer_is_asked_on_that_of_its_session() {
    for era in ["legacy", "modern"] {
        let rig = Rig::everything(era, "session", |line| line);
        let token = rig.token("alice", "app");
        let mut client = Client::legacy_with(rig.bridge.address(), &token, &json!({ "elicitation": {} }));
        let mut stream = client.listen();
        let params = json!({ "name": "test_elicitation", "arguments": { "message": "who?" } });
        let request = client.request("tools/call", &params).without("Accept").header("Accept", "application/json");
        let mut call = client.send_only(&request);
        let question = next_message(&mut stream);
        assert_eq!(question["method"], "elicitation/create", "{era}: {question}");
        assert_eq!(client.respond(&question["id"], &form("Ada")).head.status, 202);
        let answer = read_reply(&mut call).text();
        assert!(answer.contains("Ada"), "{era}: {answer}");
    }
}

#[test]
fn client_that_has_lost_its_connection_is_asked_on_the_stream_of_its_session() {
    for era in ["legacy", "modern"] {
        let rig = Rig::everything(era, "session", |line| line.flag("--metrics-listen", "127.0.0.1:0"));
        let token = rig.token("alice", "app");
        let mut client = Client::legacy_with(rig.bridge.address(), &token, &json!({ "elicitation": {} }));
        let (call, first) = asking(&mut client, "test_input_required_result_multi_round");
        drop(call);
        eventually("no client", || rig.bridge.metrics().lines().any(|line| line == "mcp_bridge_streams 0"));
        let mut stream = client.listen();
        assert_eq!(client.respond(&first, &form("Ada")).head.status, 202);
        let second = next_message(&mut stream);
        assert_eq!(second["method"], "elicitation/create", "{era}: {second}");
        assert_ne!(second["id"], first, "{era}");
    }
}

/// One of several questions is refused while a person still thinks about another.
#[test]
fn refusal_of_the_second_question_does_not_wait_for_the_answer_to_the_first() {
    let rig = Rig::everything("modern", "session", |line| line);
    let token = rig.token("alice", "app");
    let capabilities = json!({ "elicitation": {}, "sampling": {}, "roots": {} });
    let mut client = Client::legacy_with(rig.bridge.address(), &token, &capabilities);
    let mut call = client.begin("test_input_required_result_multiple_inputs", &json!({}));
    assert_eq!(call.read_head().status, 200);
    let questions: [Value; 3] = std::array::from_fn(|_| next_message(&mut call));
    assert_eq!(questions[1]["method"], "sampling/createMessage", "{questions:?}");
    let error = json!({ "code": -1, "message": "not by me" });
    let refusal = client.post(&json!({ "jsonrpc": "2.0", "id": questions[1]["id"], "error": error }));
    assert_eq!(client.exchange(&refusal).head.status, 202);
    assert_eq!(next_message(&mut call)["error"], error);
}

/// Some servers do not take back what they have asked; more than a session may leave unanswered.
#[test]
fn questions_of_cancelled_calls_do_not_use_up_those_of_a_session() {
    let rig = Rig::faulty(&["asks"], |line| line);
    let token = rig.token("alice", "app");
    let mut client = Client::legacy_with(rig.bridge.address(), &token, &json!({ "elicitation": {} }));
    for _ in 0..257 {
        let (mut call, _) = asking(&mut client, "ok");
        client.notify("notifications/cancelled", &json!({ "requestId": client.last_id }));
        assert_eq!(call.next_event(), None, "what was cancelled is not answered");
    }
    asking(&mut client, "ok");
}
