//! The end of a session, of a request, and of the bridge is the end of the processes that were for it.

use std::collections::BTreeSet;

use serde_json::json;

use super::{
    client::{Client, Reply, next_message, read_reply},
    rig::{Rig, eventually, lives},
};
use crate::common::bridge::{CommandLine, Scratch};

/// The processes of the client's own session.
fn own(rig: &Rig, client: &mut Client) -> BTreeSet<u32> {
    let pid = client.text("pid", &json!({})).parse().expect("a number");
    assert!(rig.processes().contains(&pid));
    BTreeSet::from([pid])
}

#[test]
fn the_end_of_a_session_ends_its_process() {
    // Each waits for the bridge's next look at what is idle.
    std::thread::scope(|scope| {
        for (era, isolation) in
            [("legacy", "request"), ("legacy", "session"), ("modern", "request"), ("modern", "session")]
        {
            scope.spawn(move || end_sessions(era, isolation));
        }
    });
}

fn end_sessions(era: &str, isolation: &str) {
    let rig = Rig::everything(era, isolation, |line| line.flag("--session-idle", "1s"));
    let (mut deleted, mut idle, mut listening) = (rig.legacy("alice"), rig.legacy("bob"), rig.legacy("carol"));
    let of_listening = own(&rig, &mut listening);
    let _stream = listening.listen();
    let (of_deleted, of_idle) = (own(&rig, &mut deleted), own(&rig, &mut idle));
    deleted.delete();
    rig.wait_for_end_of(&of_deleted);
    deleted.call("count", &json!({})).error(404, 404);
    rig.wait_for_end_of(&of_idle);
    idle.call("count", &json!({})).error(404, 404);
    assert!(rig.processes().is_superset(&of_listening), "{era} {isolation}: somebody listens to it");
    eventually("no zombies", || rig.zombies() == 0);
}

#[test]
fn a_process_that_was_kept_for_a_user_ends_when_it_is_not_used() {
    let rig = Rig::everything("both", "session", |line| line.flag("--session-idle", "1s").flag("--pool", "0"));
    rig.wait_until_ready();
    let mut client = rig.modern("alice");
    let kept = own(&rig, &mut client);
    assert_eq!(own(&rig, &mut client), kept, "it is kept");
    rig.wait_for_processes(0);
    assert_eq!(client.text("count", &json!({})), "1", "another one");
}

#[test]
fn a_process_that_is_deaf_to_every_request_to_end_is_killed() {
    let rig = Rig::faulty(&["ignore-term"], |line| line.flag("--pool", "0"));
    rig.wait_until_ready();
    let mut client = rig.legacy("alice");
    assert_eq!(client.text("ok", &json!({})), "ok");
    assert_eq!(rig.modern("alice").text("ok", &json!({})), "ok");
    client.delete();
    rig.wait_for_processes(0);
    eventually("no zombies", || rig.zombies() == 0);
    assert!(rig.logged("is killed") >= 2, "{}", rig.bridge.log_text());
}

#[test]
fn what_a_server_has_started_ends_with_it() {
    let mut rig = Rig::faulty(&["grandchild"], |line| line.flag("--pool", "0"));
    rig.wait_until_ready();
    let pids = |text: &str| -> [u32; 2] {
        let pids: Vec<u32> = text.split(' ').map(|pid| pid.parse().expect("a number")).collect();
        pids.try_into().expect("two")
    };
    let mut client = rig.legacy("alice");
    let [in_group, away] = pids(&client.text("ok", &json!({})));
    assert!(lives(in_group) && lives(away));
    client.delete();
    let [of_request, away_too] = pids(&rig.modern("alice").text("ok", &json!({})));
    eventually("the end of those in the group", || !lives(in_group) && !lives(of_request));
    rig.bridge.sigterm();
    assert!(rig.bridge.wait().success());
    // Those have left group and session, and only the watcher knows them.
    eventually("the end of all", || !lives(away) && !lives(away_too));
    rig.wait_for_processes(0);
}

#[test]
fn a_bridge_that_is_killed_leaves_nobody_behind() {
    for mode in ["grandchild", "ignore-term"] {
        let mut rig = Rig::faulty(&[mode], |line| line.flag("--isolation", "session"));
        rig.wait_until_ready();
        let mut clients: Vec<Client> = ["alice", "bob"].into_iter().flat_map(|user| rig.both(user)).collect();
        for client in &mut clients {
            client.text("ok", &json!({}));
        }
        assert!(rig.processes().len() >= clients.len());
        rig.bridge.signal("KILL");
        rig.bridge.wait();
        rig.wait_for_processes(0);
    }
}

#[test]
fn a_bridge_that_is_killed_while_it_starts_processes_leaves_nobody_behind() {
    for delay in 0..5 {
        let mut rig = Rig::everything("both", "request", |line| line.flag("--pool", "8"));
        let mut clients: Vec<Client> = (0..8).map(|user| rig.modern(&format!("user-{user}"))).collect();
        let waiting: Vec<_> =
            clients.iter_mut().map(|client| client.begin("sleep", &json!({ "ms": 600_000 }))).collect();
        eventually("some have started", || rig.processes().len() > 2 * delay);
        rig.bridge.signal("KILL");
        rig.bridge.wait();
        rig.wait_for_processes(0);
        drop(waiting);
    }
}

/// Whatever the bridge had begun to answer when it was told to end is answered, wholly; whatever
/// comes later is refused, or its connection is.
#[test]
fn sigterm_under_load_loses_no_request_and_leaves_no_process() {
    for isolation in ["request", "session", "shared"] {
        let mut rig = Rig::everything("both", isolation, |line| line.flag("--max-children", "128"));
        rig.wait_until_ready();
        let mut clients: Vec<Client> = (0..8).flat_map(|user| rig.both(&format!("user-{user}"))).collect();
        let mut waiting = Vec::new();
        for client in &mut clients {
            waiting.push((client.last_id + 1, client.begin("sleep", &json!({ "ms": 700 }))));
        }
        for client in &mut clients {
            waiting.push((client.last_id + 1, client.begin("echo_raw", &json!({}))));
        }
        // All of them have got further than the listener's queue when one that came after them has.
        rig.modern("last").text("echo_raw", &json!({}));
        rig.bridge.sigterm();
        for (id, connection) in &mut waiting {
            let reply: Reply = read_reply(connection);
            assert_eq!((reply.head.status, &reply.answer()["id"]), (200, &json!(id)), "{isolation}: {reply:?}");
            assert!(reply.answer().get("result").is_some(), "{isolation}: {reply:?}");
        }
        assert!(rig.bridge.wait().success());
        rig.wait_for_processes(0);
    }
}

/// Streams that never end by themselves do not hold the end up, and nor do servers that do not listen.
#[test]
fn sigterm_ends_sessions_subscriptions_and_deaf_servers() {
    let mut rig = Rig::everything("both", "session", |line| line);
    let (legacy, mut modern) = (rig.legacy("alice"), rig.modern("bob"));
    let mut session = legacy.listen();
    let wanted = json!({ "notifications": { "toolsListChanged": true } });
    let listen = modern.request("subscriptions/listen", &wanted);
    let mut subscription = modern.send_only(&listen);
    let head = subscription.read_head();
    assert_eq!(head.status, 200, "{head:?}");
    let acknowledged = next_message(&mut subscription);
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    rig.bridge.sigterm();
    let last = next_message(&mut subscription);
    assert_eq!(last["id"], modern.last_id, "an orderly end: {last}");
    assert_eq!((subscription.next_event(), session.next_event()), (None, None));
    assert!(rig.bridge.wait().success());
    rig.wait_for_processes(0);

    let mut deaf = Rig::faulty(&["ignore-term"], |line| line);
    assert_eq!(deaf.legacy("alice").text("ok", &json!({})), "ok");
    deaf.bridge.sigterm();
    assert!(deaf.bridge.wait().success());
    deaf.wait_for_processes(0);
}

/// One server whose processes have to end quickly does not decide about those of another.
#[test]
fn sigterm_leaves_each_server_its_own_time_to_end() {
    const TWO: &str = r#"
[[server]]
name = "hasty"
path = "/hasty"
stop_grace = "100ms"
command = ["/bin/sh", "-c", "exec sleep 600"]

[[server]]
name = "slow"
path = "/slow"
stop_grace = "30s"
command = ["/bin/sh", "-c", "echo ready >&2; while read -r line; do :; done; sleep 2; echo in peace >&2"]
"#;
    let scratch = Scratch::new();
    let file = scratch.file("bridge.toml", TWO);
    let line = CommandLine::serve().flag("--auth", "none").flag("--config", file).env("PATH", "/usr/bin:/bin");
    let mut bridge = line.spawn();
    eventually("a start", || bridge.log_text().contains("\"ready\""));
    bridge.sigterm();
    assert!(bridge.wait().success());
    assert!(bridge.log_text().contains("in peace"), "{}", bridge.log_text());
}
