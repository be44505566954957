//! Who hears of changes, with each way to keep processes.

use serde_json::{Value, json};

use super::{
    client::{Client, next_message},
    rig::{Rig, eventually},
};
use crate::common::http::Connection;

const WATCHED: &str = "test://watched-resource";
const LISTS: [&str; 3] = ["tools", "prompts", "resources"];

/// A stream of what this client wants to hear of: all lists, and a resource if it is to be watched.
fn listen(client: &mut Client, watch: bool) -> Connection {
    if client.is_legacy() {
        if watch {
            assert_eq!(client.ask("resources/subscribe", &json!({ "uri": WATCHED })).answer()["result"], json!({}));
        }
        return client.listen();
    }
    let resources: &[&str] = if watch { &[WATCHED] } else { &[] };
    let wanted = json!({
        "toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true,
        "resourceSubscriptions": resources,
    });
    let request = client.request("subscriptions/listen", &json!({ "notifications": wanted }));
    let mut stream = client.send_only(&request);
    assert_eq!(stream.read_head().status, 200);
    let acknowledged = next_message(&mut stream);
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(acknowledged["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], client.last_id);
    stream
}

/// The next notification, which must be of this method.
fn hears(stream: &mut Connection, method: &str, case: &str) -> Value {
    let message = next_message(stream);
    assert_eq!(message["method"], method, "{case}: {message}");
    message
}

fn touch(client: &mut Client) {
    client.call("touch", &json!({ "uri": WATCHED }));
}

/// All lists change. Comes after everything that its server has said before.
fn touch_lists(client: &mut Client) {
    client.call("touch", &json!({ "lists": true }));
}

fn hears_lists(stream: &mut Connection, case: &str) {
    for list in LISTS {
        hears(stream, &format!("notifications/{list}/list_changed"), case);
    }
}

/// It would hold a process and its place for ever: nobody would notice that it has left.
#[test]
fn a_client_that_reads_no_stream_cannot_subscribe() {
    for era in ["legacy", "modern"] {
        let rig = Rig::everything(era, "request", |line| line.flag("--pool", "0"));
        rig.wait_until_ready();
        rig.wait_for_processes(0);
        let mut client = rig.modern("alice");
        let wanted = json!({ "notifications": { "toolsListChanged": true } });
        let listen = client.request("subscriptions/listen", &wanted).with("Accept", "application/json");
        let reply = client.exchange(&listen);
        assert_eq!(reply.head.status, 406, "{era}: {reply:?}");
        assert_eq!(reply.answer()["error"], "not_acceptable", "{era}: {reply:?}");
        assert_eq!(rig.processes().len(), 0, "{era}: nothing was started for it");
    }
}

#[test]
fn with_a_process_per_session_each_hears_their_own() {
    for era in ["legacy", "modern", "both"] {
        let rig = Rig::everything(era, "session", |line| line);
        for (mut alice, mut bob) in [(rig.modern("alice"), rig.modern("bob")), (rig.legacy("alice"), rig.legacy("bob"))]
        {
            let (mut of_alice, mut of_bob) = (listen(&mut alice, true), listen(&mut bob, true));
            touch(&mut bob);
            touch_lists(&mut alice);
            touch(&mut alice);
            hears_lists(&mut of_alice, era);
            let updated = hears(&mut of_alice, "notifications/resources/updated", era);
            assert_eq!(updated["params"]["uri"], WATCHED);
            hears(&mut of_bob, "notifications/resources/updated", era);
        }
    }
}

#[test]
fn with_a_process_for_all_lists_are_everybodys_and_resources_who_asked() {
    for era in ["legacy", "modern", "both"] {
        let rig = Rig::everything(era, "shared", |line| line);
        // Of `both`, there are two processes, one for each era.
        for kind in [Rig::modern, Rig::legacy] {
            let (mut watcher, mut other) = (kind(&rig, "alice"), kind(&rig, "bob"));
            let (mut of_watcher, mut of_other) = (listen(&mut watcher, true), listen(&mut other, false));
            touch(&mut other);
            touch_lists(&mut other);
            hears(&mut of_watcher, "notifications/resources/updated", era);
            hears_lists(&mut of_watcher, era);
            hears_lists(&mut of_other, era);
        }
    }
}

#[test]
fn with_a_process_per_request_a_subscription_is_acknowledged_and_hears_nothing_of_others() {
    for era in ["legacy", "modern"] {
        let rig = Rig::everything(era, "request", |line| line.flag("--pool", "0"));
        rig.wait_until_ready();
        rig.wait_for_processes(0);
        let mut alice = rig.modern("alice");
        let stream = listen(&mut alice, true);
        rig.wait_for_processes(1);
        assert_eq!(alice.text("touch", &json!({ "uri": WATCHED })), "notifications: 0", "{era}");
        drop(stream);
        rig.wait_for_processes(0);
        // A legacy session has a process of its own, whatever the isolation.
        let (mut carol, mut dave) = (rig.legacy("carol"), rig.legacy("dave"));
        let (mut of_carol, _of_dave) = (listen(&mut carol, true), listen(&mut dave, true));
        touch_lists(&mut dave);
        touch(&mut carol);
        hears(&mut of_carol, "notifications/resources/updated", era);
    }
}

/// A log message does not say whose it is, so that in a shared process it is nobody's.
#[test]
fn logs_never_cross_clients_in_a_shared_process() {
    for era in ["legacy", "modern"] {
        let rig = Rig::everything(era, "shared", |line| line);
        let (mut alice, mut bob, mut carol) = (rig.legacy("alice"), rig.legacy("bob"), rig.modern("carol"));
        alice.ask("logging/setLevel", &json!({ "level": "debug" }));
        let streams = [listen(&mut alice, false), listen(&mut bob, false), listen(&mut carol, false)];
        carol.meta["io.modelcontextprotocol/logLevel"] = json!("debug");
        for client in [&mut alice, &mut bob, &mut carol] {
            let reply = client.call("test_logging_tool", &json!({}));
            assert_eq!(reply.notes().len(), 0, "{era}: {reply:?}");
        }
        touch_lists(&mut bob);
        for mut stream in streams {
            hears_lists(&mut stream, era);
        }
    }
}

/// Right after the answer is after it: the client has subscribed by then.
#[test]
fn a_change_right_after_the_answer_to_a_subscription_is_heard() {
    let rig = Rig::faulty(&["updates-at-once"], |line| line.flag("--isolation", "shared"));
    for user in ["alice", "bob"] {
        let mut client = rig.legacy(user);
        for number in 0..20 {
            let uri = format!("test://{user}/{number}");
            let mut stream = client.listen();
            assert_eq!(client.ask("resources/subscribe", &json!({ "uri": uri })).answer()["result"], json!({}));
            assert_eq!(hears(&mut stream, "notifications/resources/updated", user)["params"]["uri"], uri);
            hears(&mut stream, "notifications/tools/list_changed", user);
        }
    }
}

/// Nor does who was refused hear of what is below it, when others watch that.
#[test]
fn a_subscription_that_is_refused_hears_nothing() {
    let rig = Rig::everything("legacy", "shared", |line| line);
    let (mut alice, mut bob) = (rig.legacy("alice"), rig.legacy("bob"));
    let (mut of_alice, mut of_bob) = (alice.listen(), bob.listen());
    alice.ask("resources/subscribe", &json!({ "uri": "test://static-text" })).error(200, -32603);
    let below = json!({ "uri": "test://static-text/below" });
    assert_eq!(bob.ask("resources/subscribe", &below).answer()["result"], json!({}));
    assert_eq!(bob.text("touch", &below), "notifications: 1");
    hears(&mut of_bob, "notifications/resources/updated", "he watches it");
    touch_lists(&mut bob);
    hears_lists(&mut of_alice, "the lists alone");
}

/// Where several watch one resource, one that stops must not stop it for the others.
#[test]
fn who_stops_to_watch_a_resource_stops_it_for_nobody_else() {
    for era in ["legacy", "modern"] {
        let rig = Rig::everything(era, "shared", |line| line);
        let mut watchers = [rig.modern("alice"), rig.legacy("bob"), rig.modern("carol"), rig.legacy("dave")];
        let mut streams: Vec<Connection> = watchers.iter_mut().map(|client| listen(client, true)).collect();
        for round in 0..10 {
            // One goes and comes again, while another one comes.
            let leaving = round % 4;
            let client = &mut watchers[leaving];
            if client.is_legacy() {
                client.ask("resources/unsubscribe", &json!({ "uri": WATCHED }));
                assert_eq!(client.ask("resources/subscribe", &json!({ "uri": WATCHED })).head.status, 200);
            } else {
                streams[leaving] = listen(client, true);
            }
            touch(&mut watchers[(round + 1) % 4]);
            for (number, stream) in streams.iter_mut().enumerate() {
                hears(stream, "notifications/resources/updated", &format!("{era}, round {round}, client {number}"));
            }
        }
    }
}

/// The last watcher's end must not overtake the next one's beginning.
#[test]
fn who_comes_when_the_last_watcher_leaves_hears() {
    let rig = Rig::everything("legacy", "shared", |line| line);
    let (mut alice, mut bob) = (rig.legacy("alice"), rig.legacy("bob"));
    let mut streams = [listen(&mut alice, false), listen(&mut bob, false)];
    let uri = json!({ "uri": WATCHED });
    alice.ask("resources/subscribe", &uri);
    for round in 0..200 {
        let (leaves, comes) = if round % 2 == 0 { (&mut alice, &mut bob) } else { (&mut bob, &mut alice) };
        std::thread::scope(|scope| {
            scope.spawn(|| leaves.ask("resources/unsubscribe", &uri));
            scope.spawn(|| comes.ask("resources/subscribe", &uri));
        });
        assert_eq!(comes.text("touch", &uri), "notifications: 1", "round {round}");
        hears(&mut streams[(round + 1) % 2], "notifications/resources/updated", "the one that came");
    }
}

/// A shared server that has died and come back is the same to those who have subscribed.
#[test]
fn a_session_hears_again_after_its_server_has_died() {
    for (era, isolation) in [("modern", "session"), ("modern", "shared"), ("legacy", "shared")] {
        let rig = Rig::everything(era, isolation, |line| line);
        let mut alice = rig.legacy("alice");
        let mut stream = listen(&mut alice, true);
        alice.call("die", &json!({})).error(502, -32603);
        eventually(&format!("a subscription with the next one, {era} {isolation}"), || {
            alice.text("touch", &json!({ "uri": WATCHED })) == "notifications: 1"
        });
        hears(&mut stream, "notifications/resources/updated", &format!("{era} {isolation}"));
    }
}
