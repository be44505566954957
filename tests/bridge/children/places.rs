//! Who gets how many processes.

use serde_json::json;

use super::{
    client::{Client, Reply, next_message, read_reply},
    rig::{Rig, eventually},
};
use crate::common::http::Connection;

/// A refusal that says when to come back.
fn refused(reply: &Reply) -> &str {
    let wait = reply.head.header("Retry-After").and_then(|seconds| seconds.parse().ok());
    assert!(matches!(wait, Some(1..=30)), "{reply:?}");
    reply.error(503, -32603)
}

/// Two calls that hold a process each until they are dropped. There are so many then.
fn hold(rig: &Rig, user: &str, then: usize) -> Vec<Connection> {
    rig.wait_for_processes(then - 2);
    let calls = (0..2).map(|_| rig.modern(user).begin("sleep", &json!({ "ms": 600_000 }))).collect();
    rig.wait_for_processes(then);
    calls
}

#[test]
fn one_user_does_not_take_the_processes_of_all() {
    let rig = Rig::everything("both", "request", |line| line.flag("--max-children", "4").flag("--pool", "0"));
    rig.wait_until_ready();
    let alices = hold(&rig, "alice", 2);
    let text = "Internal error: you use too many servers behind this bridge at once";
    for _ in 0..3 {
        assert_eq!(refused(&rig.modern("alice").call("count", &json!({}))), text);
        // Another client of hers is no other user.
        let mut other_client = Client::modern(rig.bridge.address(), &rig.token("alice", "other-app"));
        assert_eq!(refused(&other_client.call("count", &json!({}))), text);
        assert_eq!(refused(&other_client.initialize(&json!({}))), text);
        assert_eq!(rig.modern("bob").text("count", &json!({})), "1");
    }
    let bobs = hold(&rig, "bob", 4);
    // All places are taken; one that becomes free in time is used.
    let mut waiting = rig.modern("carol").begin("count", &json!({}));
    drop(bobs);
    assert_eq!(read_reply(&mut waiting).text(), "1");
    let bobs = hold(&rig, "bob", 4);
    let mut carol = rig.modern("carol");
    let text = "Internal error: the server behind this bridge is used by too many clients now";
    assert_eq!(refused(&carol.call("count", &json!({}))), text);
    drop((alices, bobs));
    eventually("a place", || carol.call("count", &json!({})).head.status == 200);
    assert_eq!(rig.readiness().0, 200, "it was never broken");
}

#[test]
fn processes_that_wait_for_others_make_room_for_who_needs_one() {
    let rig = Rig::everything("both", "session", |line| line.flag("--max-children", "4").flag("--pool", "4"));
    rig.wait_until_ready();
    let mut sessions: Vec<Client> = Vec::new();
    for user in ["alice", "bob", "carol", "dave"] {
        sessions.push(rig.legacy(user));
    }
    for client in &mut sessions {
        assert_eq!(client.text("count", &json!({})), "1");
    }
    sessions.pop().expect("four").delete();
    assert_eq!(rig.modern("erin").text("count", &json!({})), "1");
}

/// A process that does not want to end holds its place, and so it must count for whom it was.
#[test]
fn a_user_whose_processes_end_slowly_does_not_take_the_places_of_all() {
    let rig = Rig::faulty(&["ignore-term"], |line| {
        line.flag("--max-children", "4").flag("--pool", "0").flag("--stop-grace", "30s").flag("--request-timeout", "2s")
    });
    // The one that has shown its era is ending, too.
    rig.wait_until_ready();
    let mut served = 0;
    for _ in 0..4 {
        served += u32::from(rig.modern("alice").call("ok", &json!({})).head.status == 200);
    }
    assert_eq!(served, 2, "her half");
    assert_eq!(rig.modern("bob").text("ok", &json!({})), "ok");
}

/// What ends soon is waited for: requests one after the other need one place.
#[test]
fn requests_one_after_the_other_do_not_use_up_a_users_share() {
    let rig = Rig::everything("both", "request", |line| line.flag("--max-children", "2").flag("--pool", "0"));
    rig.wait_until_ready();
    let mut alice = rig.modern("alice");
    for _ in 0..30 {
        assert_eq!(alice.text("count", &json!({})), "1");
    }
}

#[test]
fn a_session_for_which_there_was_no_room_leaves_no_process() {
    for era in ["legacy", "modern"] {
        let rig = Rig::everything(era, "request", |line| line.flag("--max-sessions", "1").flag("--pool", "0"));
        let _alice = rig.legacy("alice");
        rig.wait_for_processes(1);
        for _ in 0..5 {
            let reply = rig.modern("bob").initialize(&json!({}));
            assert_eq!(reply.head.status, 503, "{era}: {reply:?}");
        }
        rig.wait_for_processes(1);
    }
}

/// Of two sessions the idle one is ended for a third, though the other was used before it.
#[test]
fn a_new_session_does_not_cost_its_user_a_call_that_runs() {
    for (era, tool) in [("legacy", "test_elicitation"), ("modern", "test_input_required_result_elicitation")] {
        let rig = Rig::everything(era, "session", |line| line.flag("--max-sessions-per-principal", "2"));
        let token = rig.token("alice", "app");
        let mut busy = Client::legacy_with(rig.bridge.address(), &token, &json!({ "elicitation": {} }));
        let mut call = busy.begin(tool, &json!({ "message": "Who?" }));
        assert_eq!(call.read_head().status, 200, "{era}");
        let question = next_message(&mut call);
        let mut idle = rig.legacy("alice");
        assert_eq!(idle.ask("ping", &json!({})).head.status, 200, "{era}");
        let mut third = rig.legacy("alice");
        let answer = json!({ "action": "accept", "content": { "name": "Alice", "username": "Alice" } });
        assert_eq!(busy.respond(&question["id"], &answer).head.status, 202, "{era}");
        assert!(next_message(&mut call)["result"].to_string().contains("Alice"), "{era}");
        let statuses = [&mut busy, &mut idle, &mut third].map(|client| client.ask("ping", &json!({})).head.status);
        assert_eq!(statuses, [200, 404, 200], "{era}");
    }
}

/// Without authorization everybody is the same user, and no client is that user's only one.
#[test]
fn clients_that_are_not_told_apart_do_not_end_each_others_sessions() {
    let rig =
        Rig::without_authorization(|line| line.flag("--max-sessions-per-principal", "1").flag("--max-sessions", "3"));
    let mut clients: Vec<Client> = (0..3).map(|_| rig.legacy("anybody")).collect();
    let full = rig.modern("anybody").initialize(&json!({}));
    assert_eq!(full.head.status, 503, "{full:?}");
    for client in &mut clients {
        assert_eq!(client.ask("ping", &json!({})).head.status, 200);
    }
}

/// Without authorization everybody is the same user, who has nobody to leave a place to.
#[test]
fn the_only_user_gets_all_processes() {
    let rig = Rig::without_authorization(|line| line.flag("--max-children", "4").flag("--pool", "0"));
    rig.wait_until_ready();
    let _held: Vec<Vec<Connection>> = [2, 4].map(|then| hold(&rig, "anybody", then)).into();
    let text = "Internal error: the server behind this bridge is used by too many clients now";
    assert_eq!(refused(&rig.modern("anybody").call("count", &json!({}))), text);
}

/// A server that asks its user something is kept for the retry, which need not come.
#[test]
fn servers_that_are_kept_for_a_retry_make_room_for_who_needs_one() {
    let rig = Rig::everything("modern", "request", |line| line.flag("--max-children", "4").flag("--pool", "0"));
    rig.wait_until_ready();
    let ask = |user: &str| {
        let mut client = rig.modern(user).can(json!({ "elicitation": {} }));
        let reply = client.call("test_input_required_result_request_state", &json!({}));
        assert_eq!(reply.answer()["result"]["resultType"], "input_required", "{user}: {reply:?}");
    };
    for user in ["alice", "bob", "carol"] {
        // More than her half, and more than all.
        (0..4).for_each(|_| ask(user));
    }
    assert_eq!(rig.modern("dave").text("count", &json!({})), "1");
}

/// They would keep others out until they have been idle for half an hour.
#[test]
fn processes_that_were_kept_for_users_make_room_for_who_needs_one() {
    for era in ["legacy", "modern"] {
        let rig = Rig::everything(era, "session", |line| line.flag("--max-children", "2").flag("--pool", "0"));
        rig.wait_until_ready();
        rig.wait_for_processes(0);
        for user in ["alice", "bob", "carol"] {
            assert_eq!(rig.modern(user).text("count", &json!({})), "1", "{era}");
        }
        // The least recently used had to go.
        assert_eq!(rig.modern("bob").text("count", &json!({})), "2", "{era}");
        // Her share is one, and another client of hers is another owner.
        let mut other_client = Client::modern(rig.bridge.address(), &rig.token("carol", "other-app"));
        assert_eq!(other_client.text("count", &json!({})), "1", "{era}");
        assert_eq!(rig.modern("bob").text("count", &json!({})), "3", "{era}: not one of his");
    }
}

#[test]
fn a_process_that_is_used_does_not_make_room() {
    let rig = Rig::everything("modern", "session", |line| line.flag("--max-children", "2").flag("--pool", "0"));
    rig.wait_until_ready();
    rig.wait_for_processes(0);
    let (mut alice, mut bob) = (rig.modern("alice"), rig.modern("bob"));
    assert_eq!(alice.text("count", &json!({})), "1");
    let call = alice.begin("sleep", &json!({ "ms": 600_000 }));
    let mut without_it = 1;
    eventually("it runs", || {
        without_it += 1;
        alice.text("count", &json!({})) != without_it.to_string()
    });
    assert_eq!(bob.text("count", &json!({})), "1");
    assert_eq!(rig.modern("carol").text("count", &json!({})), "1");
    let mut other_client = Client::modern(rig.bridge.address(), &rig.token("alice", "other-app"));
    refused(&other_client.call("count", &json!({})));
    assert!(!rig.errors().contains(&"cancelled".to_owned()));
    drop(call);
}

/// A legacy call goes on without its client, and so does its share of what the bridge carries.
#[test]
fn a_user_who_leaves_running_calls_behind_does_not_begin_ever_more() {
    for era in ["legacy", "modern"] {
        let rig = Rig::everything(era, "session", |line| {
            line.flag("--max-concurrent-requests", "4").flag("--metrics-listen", "127.0.0.1:0")
        });
        let token = rig.token("alice", "app");
        let mut alice = Client::legacy_with(rig.bridge.address(), &token, &json!({ "elicitation": {} }));
        for _ in 0..2 {
            // It waits for an answer.
            let mut call = alice.begin("test_elicitation", &json!({ "message": "who?" }));
            assert_eq!(call.read_head().status, 200, "{era}");
        }
        eventually("no client", || rig.bridge.metrics().lines().any(|line| line == "mcp_bridge_streams 0"));
        let another = alice.request("ping", &json!({}));
        assert_eq!(alice.exchange(&another).head.status, 503, "{era}");
        assert_eq!(rig.legacy("bob").text("count", &json!({})), "1");
    }
}
