//! What one user has at the server, another cannot reach; each refusal comes with a proof that nothing
//! happened.

use serde_json::{Value, json};

use super::{
    client::{Client, next_message, read_reply},
    rig::Rig,
};

const ISOLATIONS: [&str; 3] = ["request", "session", "shared"];

/// How often this server has been called, with this call.
fn count(client: &mut Client) -> String {
    client.text("count", &json!({}))
}

#[test]
fn a_session_is_unknown_to_everybody_else() {
    for isolation in ISOLATIONS {
        let rig = Rig::everything("both", isolation, |line| line);
        let (mut alice, bob) = (rig.legacy("alice"), rig.legacy("bob"));
        let mut other_client = alice.with_token_of(&bob);
        other_client.token = rig.token("alice", "other-app");
        let mut same_again = alice.with_token_of(&bob);
        same_again.token = rig.token("alice", "app");
        assert_eq!(count(&mut alice), "1", "{isolation}");
        for mut thief in [alice.with_token_of(&bob), other_client] {
            thief.call("count", &json!({})).error(404, 404);
            let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": {} });
            let requests =
                [thief.post(&cancelled), thief.bare("GET").header("Accept", "text/event-stream"), thief.bare("DELETE")];
            for request in requests {
                assert_eq!(thief.exchange(&request).head.status, 404, "{isolation} {request:?}");
            }
        }
        assert_eq!(count(&mut alice), "2", "{isolation}: somebody else's call came through");
        assert_eq!(count(&mut same_again), "3", "{isolation}: a refreshed token is the same user");
    }
}

#[test]
fn a_session_does_not_hear_another_ones_changes() {
    let rig = Rig::everything("both", "session", |line| line);
    let (mut alice, mut bob) = (rig.legacy("alice"), rig.legacy("bob"));
    let (mut for_alice, mut for_bob) = (alice.listen(), bob.listen());
    bob.call("touch", &json!({ "lists": true }));
    alice.call("test_trigger_tool_change", &json!({}));
    // Alice's first is her own, which came last.
    assert_eq!(next_message(&mut for_alice)["method"], "notifications/tools/list_changed");
    alice.delete();
    assert_eq!(for_alice.next_event(), None, "something of Bob's");
    for list in ["tools", "prompts", "resources"] {
        assert_eq!(next_message(&mut for_bob)["method"], format!("notifications/{list}/list_changed"));
    }
}

/// `respond` under another user's session must not end that user's elicitation.
#[test]
fn nobody_else_can_answer_a_question_to_a_user() {
    for (era, isolation) in [("legacy", "request"), ("legacy", "session"), ("modern", "session"), ("modern", "shared")]
    {
        let rig = Rig::everything(era, isolation, |line| line);
        let token = rig.token("alice", "app");
        let capabilities = json!({ "elicitation": {} });
        let mut alice = Client::legacy_with(rig.bridge.address(), &token, &capabilities);
        let mut bob = Client::legacy_with(rig.bridge.address(), &rig.token("bob", "app"), &capabilities);
        let tool = if era == "legacy" { "test_elicitation" } else { "test_input_required_result_elicitation" };
        let arguments = json!({ "message": "Who?" });
        let mut waiting = alice.begin(tool, &arguments);
        assert_eq!(waiting.read_head().status, 200);
        let question = next_message(&mut waiting);
        assert_eq!(question["method"], "elicitation/create", "{era} {isolation}: {question}");

        let answer = |name: &str| json!({ "action": "accept", "content": { "name": name, "username": name } });
        let mut thief = alice.with_token_of(&bob);
        assert_eq!(thief.respond(&question["id"], &answer("Mallory")).head.status, 404);
        // In a session of his own, Bob can answer, but there is no such question.
        assert_eq!(bob.respond(&question["id"], &answer("Mallory")).head.status, 202);
        assert_eq!(alice.respond(&question["id"], &answer("Alice")).head.status, 202);
        let result = next_message(&mut waiting)["result"].to_string();
        assert!(result.contains("Alice") && !result.contains("Mallory"), "{era} {isolation}: {result}");
    }
}

/// A modern client's call of a legacy server is parked while its user is asked.
#[test]
fn nobody_else_can_take_up_a_parked_call() {
    for isolation in ["request", "session"] {
        let rig = Rig::everything("legacy", isolation, |line| line);
        let capabilities = json!({ "elicitation": {} });
        let mut alice = rig.modern("alice").can(capabilities.clone());
        let mut bob = rig.modern("bob").can(capabilities.clone());
        let mut other_client = rig.modern("alice").can(capabilities);
        other_client.token = rig.token("alice", "other-app");

        let mut params = json!({ "name": "test_elicitation", "arguments": { "message": "Who?" } });
        let asked = alice.ask("tools/call", &params).answer()["result"].clone();
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        let key = asked["inputRequests"].as_object().and_then(|requests| requests.keys().next()).expect("a question");
        params["requestState"] = asked["requestState"].clone();
        let answer = |name: &str| json!({ key: { "action": "accept", "content": { "username": name } } });
        for thief in [&mut bob, &mut other_client] {
            params["inputResponses"] = answer("Mallory");
            let reply = thief.ask("tools/call", &params);
            assert!(reply.error(200, -32602).contains("requestState"), "{reply:?}");
        }
        // Not even with the wrong arguments from the right user.
        let mut other = params.clone();
        other["arguments"]["message"] = json!("Which?");
        alice.ask("tools/call", &other).error(200, -32602);
        params["inputResponses"] = answer("Alice");
        let text = alice.ask("tools/call", &params).text();
        assert_eq!(text, r#"User response: action=accept, content={"username":"Alice"}"#, "{isolation}");
        alice.ask("tools/call", &params).error(200, -32602);
    }
}

/// Two users' identical calls, each with its own question open, in one process for each user.
#[test]
fn answers_to_the_same_question_do_not_meet() {
    let rig = Rig::everything("legacy", "session", |line| line);
    let mut asked: Vec<(Client, Value)> = Vec::new();
    for user in ["alice", "bob", "carol"] {
        let mut client = rig.modern(user).can(json!({ "elicitation": {} }));
        let params = json!({ "name": "test_elicitation", "arguments": { "message": "Who?" } });
        let result = client.ask("tools/call", &params).answer()["result"].clone();
        asked.push((client, result));
    }
    for (number, (client, result)) in asked.iter_mut().enumerate().rev() {
        let key = result["inputRequests"].as_object().and_then(|requests| requests.keys().next()).expect("a question");
        let answer = json!({ key: { "action": "accept", "content": { "username": number } } });
        let arguments = json!({ "message": "Who?" });
        let params = json!({
            "name": "test_elicitation", "arguments": arguments,
            "requestState": result["requestState"], "inputResponses": answer,
        });
        assert!(client.ask("tools/call", &params).text().ends_with(&format!(r#"{{"username":{number}}}"#)));
    }
}

#[test]
fn a_legacy_client_that_left_does_not_leave_its_answer_to_others() {
    let rig = Rig::everything("legacy", "shared", |line| line);
    let (mut alice, mut bob) = (rig.legacy("alice"), rig.legacy("bob"));
    for call in 0..20 {
        drop(alice.begin("sleep", &json!({ "ms": 5 })));
        let mut waiting = bob.begin("echo_raw", &json!({ "call": call }));
        let reply = read_reply(&mut waiting);
        assert_eq!(reply.answer()["id"], bob.last_id);
        assert!(reply.text().contains(&format!(r#""call":{call}"#)), "{reply:?}");
    }
}

/// What a server says in the meantime goes to nobody's pocket and holds nobody up.
#[test]
fn a_call_that_waits_for_its_user_does_not_stop_the_users_other_calls() {
    let rig = Rig::everything("legacy", "session", |line| line);
    let mut alice = rig.modern("alice").can(json!({ "elicitation": {} }));
    alice.meta["io.modelcontextprotocol/logLevel"] = json!("debug");
    let mut chatty = alice.begin("log_n", &json!({ "n": 1000 }));
    // It runs: what comes now is newer, and would get what it says.
    assert_eq!(chatty.read_head().status, 200);
    next_message(&mut chatty);
    let mut params = json!({ "name": "test_elicitation", "arguments": { "message": "Who?" } });
    let asked = alice.ask("tools/call", &params).answer()["result"].clone();
    let key = asked["inputRequests"].as_object().and_then(|requests| requests.keys().next()).expect("a question");
    let answer = std::iter::from_fn(|| Some(next_message(&mut chatty))).find(|message| message.get("id").is_some());
    assert_eq!(crate::common::mcp::text(&answer.expect("an answer")), "1000");
    params["requestState"] = asked["requestState"].clone();
    params["inputResponses"] = json!({ key: { "action": "decline" } });
    assert!(alice.ask("tools/call", &params).text().contains("decline"));
}

/// A server of both eras may change its era when it hears a method of the other one.
#[test]
fn a_modern_client_does_not_speak_legacy_to_a_server_that_others_use() {
    for isolation in ["session", "shared"] {
        let rig = Rig::everything("both", isolation, |line| line);
        let (mut alice, mut bob) = (rig.modern("alice"), rig.modern("bob"));
        assert_eq!(count(&mut alice), "1", "{isolation}");
        for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"] {
            let params = json!({ "uri": "test://static-text", "level": "debug", "protocolVersion": "2025-11-25" });
            let reply = bob.ask(method, &params);
            assert_eq!(reply.answer()["error"]["message"], format!("Method not found: `{method}`"), "{reply:?}");
        }
        assert_eq!(count(&mut alice), "2", "{isolation}");
    }
}

/// All sessions' tasks would be in one list.
#[test]
fn sessions_that_share_a_server_do_not_see_each_others_tasks() {
    let rig = Rig::everything("legacy", "shared", |line| line);
    let mut alice = rig.legacy("alice");
    for method in ["tasks/list", "tasks/get", "tasks/result", "tasks/cancel"] {
        let reply = alice.ask(method, &json!({ "taskId": "1" }));
        assert_eq!(reply.error(200, -32601), format!("Method not found: `{method}`"), "{reply:?}");
    }
}
