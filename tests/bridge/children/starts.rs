//! Commands that do not come up, or not at once.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    client::Client,
    rig::{Rig, eventually},
};
use crate::{common::bridge::Scratch, everything::example};

/// What a client is told of a command that cannot be started, whatever the reason.
const TOLD: &str = "Internal error: the server behind this bridge cannot be started now";

/// Not ready, and the log says why; a request is told when to come back, and nothing else.
fn check_is_down(rig: &Rig, why: &str) {
    eventually("a failed start", || rig.logged(why) > 0);
    let (status, text) = rig.readiness();
    assert_eq!((status, text.contains(why)), (503, false), "{text}");
    let mut client = rig.modern("alice");
    let reply = client.call("ok", &json!({}));
    assert_eq!(reply.error(503, -32603), TOLD, "{why}");
    let wait = reply.head.header("Retry-After").and_then(|seconds| seconds.parse().ok());
    assert!(matches!(wait, Some(1..=30)), "{reply:?}");
    let mut legacy = rig.modern("alice");
    let reply = legacy.initialize(&json!({}));
    assert_eq!(reply.error(503, -32603), TOLD, "{why}");
    assert!(reply.head.header("Mcp-Session-Id").is_none() && reply.head.header("Retry-After").is_some(), "{reply:?}");
    assert_eq!(
        rig.bridge.send(&crate::common::http::Request::get("/healthz")).status,
        200,
        "the bridge itself is well"
    );
}

#[test]
fn a_command_that_cannot_be_started_is_not_ready_and_says_why_to_the_operator_only() {
    let scratch = Scratch::new();
    let not_executable = scratch.file("not-executable", "#!/bin/sh\n");
    let no_interpreter = scratch.file("no-interpreter", "#!/no/such/interpreter\n");
    fs::set_permissions(&no_interpreter, fs::Permissions::from_mode(0o700)).expect("our own file");
    let cases = [
        ("no-such-command-anywhere", "no-such-command-anywhere"),
        ("/no/such/folder/command", "/no/such/folder/command"),
        (&not_executable, "not-executable"),
        (&no_interpreter, "no-interpreter"),
    ];
    for (command, why) in cases {
        let rig = Rig::of(&[command], |line| line);
        check_is_down(&rig, why);
        assert_eq!(rig.processes().len(), 0, "{command}");
    }
}

#[test]
fn a_command_that_exits_or_says_nothing_is_not_ready() {
    let exits = Rig::faulty(&["exit"], |line| line);
    check_is_down(&exits, "exited with code 3");
    assert!(exits.errors().iter().any(|line| line == "nothing to do here"), "{:?}", exits.errors());
    let silent = Rig::faulty(&["silent"], |line| line.flag("--start-timeout", "1s"));
    check_is_down(&silent, "it answered nothing in time (--start-timeout)");
    eventually("all are ended", || silent.processes().len() <= 1);
}

/// Clients that knock all the time do not make the bridge start it all the time.
#[test]
fn a_command_that_fails_is_not_started_in_a_busy_loop() {
    let scratch = Scratch::new();
    let starts = scratch.file("starts", "");
    let rig = Rig::of(&["/bin/sh", "-c", r#"echo x >> "$0"; exit 3"#, &starts], |line| line);
    let begin = Instant::now();
    let mut refused = 0;
    while begin.elapsed() < Duration::from_secs(2) {
        rig.modern("alice").call("ok", &json!({})).error(503, -32603);
        refused += 1;
    }
    let count = fs::read_to_string(&starts).expect("our own file").lines().count();
    // Pauses of 200 ms, 400 ms, 800 ms and more, and two processes for each look.
    assert!((2..=12).contains(&count), "{count} starts for {refused} requests");
    assert!(rig.logged("cannot be started") <= 6, "the log grows with the failures, not with the requests");
}

#[test]
fn a_command_that_works_again_is_served_again() {
    std::thread::scope(|scope| {
        for (isolation, pool) in [("request", "2"), ("request", "0"), ("shared", "0")] {
            scope.spawn(move || works_again(isolation, pool));
        }
    });
}

fn works_again(isolation: &str, pool: &str) {
    let scratch = Scratch::new();
    let works = scratch.path("works");
    let program = example("everything");
    let script = r#"[ -e "$0" ] || exit 3; exec "$1" --era both"#;
    let command = ["/bin/sh", "-c", script, works.to_str().expect("UTF-8"), program.to_str().expect("UTF-8")];
    let rig = Rig::of(&command, |line| line.flag("--isolation", isolation).flag("--pool", pool));
    check_is_down(&rig, "exited with code 3");
    fs::write(&works, "").expect("our own folder");
    // Nobody has to ask for it: who looks at readiness may be what sends the requests.
    rig.wait_until_ready();
    for mut client in rig.both("alice") {
        assert_eq!(client.call("count", &json!({})).head.status, 200, "{isolation}");
    }

    // And once more, after it has worked.
    fs::remove_file(&works).expect("our own file");
    eventually("a failed start", || rig.modern("alice").call("die", &json!({})).head.status == 503);
    assert_eq!(rig.readiness().0, 503, "{isolation} {pool}");
    fs::write(&works, "").expect("our own folder");
    rig.wait_until_ready();
    assert_eq!(rig.modern("alice").call("count", &json!({})).head.status, 200, "{isolation} {pool}");
}

/// Processes that wait for sessions have not said anything yet: that they have been started says nothing.
#[test]
fn a_legacy_command_that_breaks_is_not_ready_and_not_started_in_a_busy_loop() {
    let scratch = Scratch::new();
    let (works, starts) = (scratch.file("works", ""), scratch.file("starts", ""));
    let program = example("everything");
    let script = r#"echo x >> "$1"; [ -e "$0" ] || exit 3; exec "$2" --era legacy"#;
    let command = ["/bin/sh", "-c", script, &works, &starts, program.to_str().expect("UTF-8")];
    let rig = Rig::of(&command, |line| line.flag("--pool", "2"));
    rig.wait_until_ready();
    let mut sessions = [rig.legacy("alice"), rig.legacy("bob")];
    // Theirs, and those that wait for the next.
    rig.wait_for_processes(4);
    fs::remove_file(&works).expect("our own file");
    sessions.iter_mut().for_each(Client::delete);
    rig.processes().into_iter().for_each(kill);
    eventually("it is not ready", || rig.readiness().0 == 503);
    assert!(rig.logged("exited with code 3") > 0, "{}", rig.bridge.log_text());

    let count = || fs::read_to_string(&starts).expect("our own file").lines().count();
    let before = count();
    for _ in 0..100 {
        let status = rig.modern("alice").initialize(&json!({})).head.status;
        assert!([502, 503].contains(&status), "{status}");
    }
    let started = count() - before;
    assert!(started <= 40, "{started} starts: each pause is twice as long");

    fs::write(&works, "").expect("our own file");
    rig.wait_until_ready();
    assert_eq!(rig.legacy("alice").text("count", &json!({})), "1");
}

/// It must not take a whole request's time each time, unnoticed.
#[test]
fn a_legacy_command_that_says_nothing_any_more_is_not_ready() {
    for (start_timeout, request_timeout, status) in [("1s", "30s", 503), ("5s", "1s", 504)] {
        let scratch = Scratch::new();
        let works = scratch.file("works", "");
        let program = example("everything");
        let script = r#"[ -e "$0" ] || exec sleep 600; exec "$1" --era legacy"#;
        let command = ["/bin/sh", "-c", script, &works, program.to_str().expect("UTF-8")];
        let rig = Rig::of(&command, |line| {
            let line = line.flag("--pool", "0").flag("--stop-grace", "200ms");
            line.flag("--start-timeout", start_timeout).flag("--request-timeout", request_timeout)
        });
        rig.wait_until_ready();
        fs::remove_file(&works).expect("our own file");
        rig.modern("alice").initialize(&json!({})).error(status, -32603);
        eventually("it is not ready", || rig.readiness().0 == 503);
        assert!(rig.logged("it answered nothing in time (--start-timeout)") > 0, "{}", rig.bridge.log_text());
    }
}

fn kill(process: u32) {
    let mut command = std::process::Command::new("/bin/kill");
    // It may be gone already.
    command.arg("-KILL").arg(process.to_string()).status().expect("kill starts");
}

#[test]
fn a_slow_start_keeps_requests_waiting_and_does_not_fail_them() {
    let rig = Rig::faulty(&["slow-start", "1000"], |line| line);
    assert_eq!(rig.readiness().0, 503, "not before it has answered");
    for mut client in rig.both("alice") {
        assert_eq!(client.text("ok", &json!({})), "ok");
    }
    assert_eq!(rig.readiness().0, 200);
}

/// Two eras are looked for with two processes, but not at once where there may be only one.
#[test]
fn one_place_is_enough_for_any_server() {
    for era in ["legacy", "modern", "both"] {
        for isolation in ["request", "session", "shared"] {
            let rig = Rig::everything(era, isolation, |line| line.flag("--max-children", "1").flag("--pool", "1"));
            rig.wait_until_ready();
            let mut client = rig.modern("alice");
            eventually("an answer", || client.call("count", &json!({})).head.status == 200);
            assert!(rig.processes().len() <= 2, "one may just be ending");
        }
    }
}

#[test]
fn a_banner_is_skipped_with_a_warning() {
    let rig = Rig::faulty(&["banner"], |line| line);
    for mut client in rig.both("alice") {
        assert_eq!(client.text("ok", &json!({})), "ok");
    }
    assert!(rig.logged("skipped a line on stdout that is no message") >= 3);
}

#[test]
fn garbage_is_ended_with_a_clear_error() {
    let rig = Rig::faulty(&["garbage"], |line| line);
    check_is_down(&rig, "it writes lines to stdout that are no JSON-RPC messages");
    assert!(rig.logged("skipped a line") < 1000, "a bounded number of times");
    eventually("its end", || rig.processes().is_empty());
}

/// Of a legacy server and clients that give up: a start goes on for others.
#[test]
fn a_client_that_gives_up_does_not_end_the_start_that_others_wait_for() {
    let rig = Rig::faulty(&["slow-start", "700"], |line| line);
    for _ in 0..5 {
        drop(rig.modern("alice").begin("ok", &json!({})));
    }
    let mut client: Client = rig.modern("bob");
    assert_eq!(client.text("ok", &json!({})), "ok");
}

/// A server that one client can crash with its first words is well for all others.
#[test]
fn a_client_for_which_the_server_does_not_start_shuts_nobody_else_out() {
    let program = example("everything");
    let script = r#"read -r line; case "$line" in *evil*) exit 9;; esac; { echo "$line"; cat; } | "$0" --era legacy"#;
    let rig = Rig::of(&["/bin/bash", "-c", script, program.to_str().expect("UTF-8")], |line| line.flag("--pool", "0"));
    rig.wait_until_ready();
    let evil = json!({ "experimental": { "evil": {} } });
    for _ in 0..4 {
        assert_eq!(rig.modern("mallory").can(evil.clone()).call("count", &json!({})).error(503, -32603), TOLD);
        assert_eq!(rig.modern("mallory").initialize(&evil).head.status, 502);
        assert_eq!(rig.readiness().0, 200);
        for mut client in rig.both("bob") {
            assert_eq!(client.text("count", &json!({})), "1");
        }
    }
}
