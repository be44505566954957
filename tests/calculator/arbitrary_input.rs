//! No line makes the process die, and none that needs an answer goes without.

use std::cell::RefCell;

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json, value::RawValue};

use crate::process::{Server, call, initialize, modern, request};

/// How many answers a line must get, so far as that is certain without doing the server's work.
fn answers_due(line: &[u8]) -> Option<usize> {
    let Ok(text) = std::str::from_utf8(line) else { return Some(1) };
    if text.trim_matches([' ', '\t', '\r', '\x0c']).is_empty() {
        return Some(0);
    }
    if serde_json::from_str::<&RawValue>(text).is_err() {
        return Some(1);
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) => match (members.get("method"), members.get("id")) {
            (Some(Value::String(_)), Some(Value::String(_))) => Some(1),
            (None, _) if members.contains_key("result") || members.contains_key("error") => Some(0),
            (None, _) => Some(1),
            (Some(_), _) => None,
        },
        Ok(_) => Some(1),
        // Numbers beyond what a `Value` holds.
        Err(_) => None,
    }
}

/// Lines like those of clients, damaged in a few places.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let lines = vec![
        initialize("2025-11-25"),
        request("a", "tools/list", json!({})),
        request("a", "tools/call", call("divide", 1.5, 2.0)),
        modern("a", "tools/call", call("add", 1.0, 2.0)),
        modern("a", "server/discover", json!({})),
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":"a","result":{"content":[]}}"#.to_owned(),
    ];
    let damage = (
        any::<prop::sample::Index>(),
        0..3_u8,
        prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\0e".to_vec())],
    );
    (prop::sample::select(lines), prop::collection::vec(damage, 0..4)).prop_map(|(line, damages)| {
        let mut bytes = line.into_bytes();
        for (index, how, byte) in damages {
            let at = index.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

#[test]
fn no_line_ends_the_process_or_goes_without_its_answer() {
    let server = RefCell::new(Server::start());
    let line = prop_oneof![2 => any::<Vec<u8>>(), 8 => damaged()].prop_map(|mut bytes| {
        bytes.retain(|byte| *byte != b'\n');
        bytes
    });
    let mut runner = TestRunner::new(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() });
    let result = runner.run(&line, |line| {
        let mut server = server.borrow_mut();
        server.write(&line);
        server.write(b"\n{\"jsonrpc\":\"2.0\",\"id\":\"after\",\"method\":\"ping\"}\n");
        let mut answers = 0;
        loop {
            let answer = server.answer().expect("the process lives");
            prop_assert_eq!(&answer["jsonrpc"], "2.0");
            prop_assert!(answer.get("result").is_some() != answer.get("error").is_some());
            if answer["id"] == "after" {
                break;
            }
            answers += 1;
        }
        prop_assert!(answers <= 1);
        prop_assert_eq!(answers, answers_due(&line).unwrap_or(answers));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    server.into_inner().finish();
}
