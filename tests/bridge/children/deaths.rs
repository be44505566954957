//! Servers that end, or stop answering, in the middle of a request.

use serde_json::{Value, json};

use super::{
    client::{Client, next_message, read_reply},
    rig::{Rig, eventually, lives},
};

fn pid(client: &mut Client) -> u32 {
    client.text("pid", &json!({})).parse().expect("a number")
}

#[test]
fn a_server_that_dies_in_mid_request_costs_that_request_only() {
    for era in ["legacy", "modern", "both"] {
        for isolation in ["request", "session", "shared"] {
            let rig = Rig::everything(era, isolation, |line| line);
            for mut client in rig.both("alice") {
                for call in 0..3 {
                    let reply = client.call("die", &json!({ "code": 7 }));
                    let text = reply.error(502, -32603);
                    assert!(
                        text.contains("exited with code 7") && text.ends_with("try again"),
                        "{era} {isolation}: {text}"
                    );
                    let next = client.text("echo_raw", &json!({ "call": call }));
                    assert!(next.contains(&format!(r#""call":{call}"#)), "{era} {isolation}: {next}");
                }
            }
            assert_eq!(rig.readiness().0, 200, "{era} {isolation}");
        }
    }
}

#[test]
fn a_server_that_is_killed_under_several_requests_fails_each_of_them() {
    for isolation in ["session", "shared"] {
        let rig = Rig::everything("both", isolation, |line| line);
        let mut clients = [rig.legacy("alice"), rig.modern("alice")];
        if isolation == "shared" {
            clients[0] = rig.legacy("bob");
        }
        for client in &mut clients {
            let process = pid(client);
            let mut waiting: Vec<_> = (0..5).map(|_| client.begin("sleep", &json!({ "ms": 600_000 }))).collect();
            eventually("all of them run", || {
                let count: u32 = client.text("count", &json!({})).parse().expect("a number");
                count > 6
            });
            kill(process);
            for connection in &mut waiting {
                let reply = read_reply(connection);
                assert!(reply.error(502, -32603).contains("killed by signal 9"), "{isolation}: {reply:?}");
            }
            assert_ne!(pid(client), process, "{isolation}");
        }
    }
}

/// What a client that has been told something already gets, is the answer on its stream.
#[test]
fn a_server_that_dies_after_progress_ends_the_stream_with_an_error() {
    let rig = Rig::everything("both", "session", |line| line);
    for mut client in rig.both("alice") {
        let process = pid(&mut client);
        let params = json!({ "name": "progress_n", "arguments": { "n": 1_000_000 }, "_meta": { "progressToken": 1 } });
        let request = client.request("tools/call", &params);
        let mut stream = client.send_only(&request);
        assert_eq!(stream.read_head().status, 200);
        assert_eq!(next_message(&mut stream)["params"]["progress"], 1);
        kill(process);
        let last = loop {
            let message = next_message(&mut stream);
            if message.get("id").is_some() {
                break message;
            }
        };
        assert_eq!((&last["id"], &last["error"]["code"]), (&json!(client.last_id), &json!(-32603)), "{last}");
        assert_eq!(stream.next_event(), None);
    }
}

#[test]
fn a_request_that_is_never_answered_is_cancelled_in_time() {
    for isolation in ["request", "session", "shared"] {
        let rig = Rig::everything("both", isolation, |line| line.flag("--request-timeout", "1s"));
        for mut client in rig.both("alice") {
            let reply = client.call("sleep", &json!({ "ms": 600_000 }));
            assert!(reply.error(504, -32603).contains("1s"), "{reply:?}");
        }
        // The one whose process is ended need not say so; whoever goes on must know.
        let told = match isolation {
            "request" => 1,
            _ => 2,
        };
        eventually("the server was told", || rig.errors().iter().filter(|line| *line == "cancelled").count() >= told);
    }
}

#[test]
fn a_process_whose_request_was_given_up_does_not_go_on() {
    let rig = Rig::everything("modern", "request", |line| line.flag("--request-timeout", "1s").flag("--pool", "0"));
    rig.wait_until_ready();
    rig.wait_for_processes(0);
    for _ in 0..3 {
        rig.modern("alice").call("sleep", &json!({ "ms": 600_000 })).error(504, -32603);
    }
    rig.wait_for_processes(0);
    eventually("no zombies", || rig.zombies() == 0);
}

#[test]
fn a_legacy_client_can_cancel_and_gets_no_answer() {
    for (era, isolation) in [("legacy", "session"), ("modern", "session"), ("both", "shared")] {
        let rig = Rig::everything(era, isolation, |line| line);
        let (mut alice, mut bob) = (rig.legacy("alice"), rig.legacy("bob"));
        let arguments = json!({ "ms": 600_000 });
        let mut cancelled = alice.begin("sleep", &arguments);
        let same_id = alice.last_id;
        bob.last_id = same_id - 1;
        let mut waiting = bob.begin("sleep", &json!({ "ms": 500 }));
        // Whatever is cancelled before it has begun is no test.
        eventually("it runs", || count(&mut alice) > 1);
        alice.notify("notifications/cancelled", &json!({ "requestId": 999, "reason": "nothing of mine" }));
        alice.notify("notifications/cancelled", &json!({ "requestId": same_id }));
        let reply = read_reply(&mut cancelled);
        assert_eq!((reply.head.status, reply.messages.len()), (202, 0), "{era} {isolation}: {reply:?}");
        eventually("the server was told", || rig.errors().contains(&"cancelled".to_owned()));
        assert_eq!(read_reply(&mut waiting).text(), "slept", "Bob's has the same id");
        assert_eq!(rig.errors().iter().filter(|line| *line == "cancelled").count(), 1);
    }
}

/// How many calls its server has had.
fn count(client: &mut Client) -> u64 {
    client.text("count", &json!({})).parse().expect("a number")
}

#[test]
fn a_session_whose_server_died_while_nobody_looked_goes_on() {
    for era in ["legacy", "modern"] {
        let rig = Rig::everything(era, "session", |line| line);
        let mut client = rig.legacy("alice");
        let process = pid(&mut client);
        kill(process);
        eventually("its end", || !lives(process));
        let mut reply: Value = Value::Null;
        // The bridge may learn of it just while it passes the request on.
        eventually("an answer", || {
            let answer = client.call("count", &json!({}));
            reply = answer.answer().clone();
            answer.head.status == 200
        });
        assert_eq!(crate::common::mcp::text(&reply), "1", "{era}");
    }
}

fn kill(process: u32) {
    let mut command = std::process::Command::new("/bin/kill");
    assert!(command.arg("-KILL").arg(process.to_string()).status().expect("kill starts").success());
}
