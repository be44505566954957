//! Many clients at once whose ids and progress tokens are all the same: nobody hears what is somebody
//! else's.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    sync::Mutex,
};

use serde_json::{Value, json};

use super::{
    client::{Client, Reply},
    rig::{Rig, eventually},
};

const CLIENTS: usize = 64;
const USERS: usize = 8;

/// Who shares what in one run.
#[derive(Clone, Copy, PartialEq)]
enum Shares {
    Nothing,
    WhatIsTheirs,
    Everything,
}

/// 64 clients of 8 users, half of them in each era, make `calls` calls in all.
///
/// Two modern clients each have the same user and the same client id: with `session` they are one
/// owner, and share a process. All clients count their ids from 1 and use the same numbers as progress
/// tokens.
fn collide(isolation: &str, era: &str, calls: usize) {
    let shares = match isolation {
        "request" => Shares::Nothing,
        "session" => Shares::WhatIsTheirs,
        _ => Shares::Everything,
    };
    let rig = Rig::everything(era, isolation, |line| line.flag("--max-children", "128").flag("--pool", "4"));
    rig.wait_until_ready();
    let counted = Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (rig, counted) = (&rig, &counted);
            scope.spawn(move || one_client(rig, number, shares, calls / CLIENTS, counted));
        }
    });
    if shares == Shares::Nothing {
        rig.wait_for_processes(4);
    }
    eventually("no zombies", || rig.zombies() == 0);
}

/// One client's calls. `counted` has what modern clients have counted, by their owner.
fn one_client(rig: &Rig, number: usize, shares: Shares, calls: usize, counted: &Mutex<HashSet<(usize, String)>>) {
    let is_legacy = number.is_multiple_of(2);
    let owner = number / 4;
    let token = rig.token(&format!("user-{}", owner % USERS), &format!("app-{}", owner / USERS));
    let address = rig.bridge.address();
    let mut client = if is_legacy { Client::legacy(address, &token) } else { Client::modern(address, &token) };
    let words = |call: usize| format!("{owner}/{number}/{call}/{:016x}", RandomState::new().hash_one(call));
    for call in 1..=calls {
        let mine = words(call);
        let token = client.last_id + 1;
        let mut meta = json!({ "progressToken": token });
        if !is_legacy {
            meta["io.modelcontextprotocol/logLevel"] = json!("debug");
        }
        match call % 8 {
            0 => {
                let reply = client.call("count", &json!({}));
                check_notes(&reply, owner, number, None, shares);
                let count = reply.text();
                match shares {
                    Shares::Nothing if !is_legacy => assert_eq!(count, "1", "somebody used this process before"),
                    Shares::Everything => {}
                    _ if is_legacy => assert_eq!(count, call.to_string(), "somebody else used this process"),
                    _ => assert!(counted.lock().expect("no panic").insert((owner, count)), "counted twice"),
                }
            }
            1..4 => {
                let params = json!({ "name": "tell", "arguments": { "words": mine }, "_meta": meta });
                let reply = client.ask("tools/call", &params);
                assert_eq!(reply.text(), mine);
                check_notes(&reply, owner, number, Some((token, &mine)), shares);
            }
            _ => {
                let reply = client.call("echo_raw", &json!({ "payload": mine }));
                assert!(reply.text().contains(&mine), "the answer to somebody else's call: {reply:?}");
                check_notes(&reply, owner, number, None, shares);
            }
        }
    }
    if is_legacy {
        client.delete();
    }
}

/// What came before an answer: progress is the call's own, if it asked for some; messages are the
/// client's own or, where two clients are one owner, the owner's; and nobody's in a shared process.
fn check_notes(reply: &Reply, owner: usize, number: usize, asked: Option<(u64, &str)>, shares: Shares) {
    let of = |method: &str| -> Vec<&Value> { reply.notes().iter().filter(|note| note["method"] == method).collect() };
    let (progress, messages) = (of("notifications/progress"), of("notifications/message"));
    assert_eq!(progress.len() + messages.len(), reply.notes().len(), "{reply:?}");
    match asked {
        Some((token, words)) => {
            assert_eq!(progress.len(), 1, "{reply:?}");
            assert_eq!(progress[0]["params"]["progressToken"], token, "{reply:?}");
            assert_eq!(progress[0]["params"]["message"], words, "{reply:?}");
        }
        None => assert!(progress.is_empty(), "{reply:?}"),
    }
    let mine = match shares {
        Shares::Nothing => format!("{owner}/{number}/"),
        Shares::WhatIsTheirs => format!("{owner}/"),
        Shares::Everything => {
            assert!(messages.is_empty(), "whose is it? {reply:?}");
            return;
        }
    };
    for message in &messages {
        assert!(message["params"]["data"].as_str().is_some_and(|data| data.starts_with(&mine)), "{reply:?}");
    }
    if shares == Shares::Nothing && asked.is_some() {
        assert_eq!(messages.len(), 1, "{reply:?}");
    }
}

#[test]
fn a_process_per_request_answers_nobody_else() {
    collide("request", "both", 10_240);
}

#[test]
fn a_process_per_session_answers_nobody_else() {
    collide("session", "both", 5120);
    collide("session", "legacy", 2560);
    collide("session", "modern", 2560);
}

#[test]
fn a_process_for_all_answers_each_their_own() {
    collide("shared", "both", 5120);
    collide("shared", "legacy", 2560);
    collide("shared", "modern", 2560);
}
