//! Whole flows in a real browser: official clients, and our own.

use serde_json::{Value, json};

use super::world::{PASSPHRASE, State};
use crate::{
    common::mcp,
    connect::{
        desktop::{Desktop, PATIENCE},
        rig::{Connect, initialize, request},
    },
    driver::{named, node, node_itself, python, transcript},
};

/// From the first 401 to the last, with the TypeScript SDK `client`.
fn typescript(client: &str) {
    let state = State::new();
    let server = state.serve();
    let mut program = node("authserver-flow.mjs");
    program.args([client, server.resource()]).env("PASSPHRASE", PASSPHRASE);
    let steps = transcript(&mut program);
    assert_eq!(named(&steps, "taken back").count(), 1, "{steps:?}");
}

#[test]
fn the_typescript_sdk_v1_signs_in_steps_up_and_is_refused_when_it_is_taken_back() {
    typescript("v1");
}

#[test]
fn the_typescript_sdk_v2_signs_in_steps_up_and_is_refused_when_it_is_taken_back() {
    typescript("v2");
}

#[test]
fn the_typescript_sdk_v2_in_the_modern_era_does_the_same() {
    typescript("v2-modern");
}

#[test]
fn the_python_sdk_signs_in_steps_up_and_is_refused_when_it_is_taken_back() {
    let state = State::new();
    let server = state.serve();
    let told = state.folder().with_file_name("consent");
    std::fs::write(&told, json!({ "passphrase": PASSPHRASE }).to_string()).expect("a file");
    let mut program = python("authserver_flow.py");
    program.arg(server.resource()).arg(&told).env("NODE", node_itself());
    let steps = transcript(&mut program);
    assert_eq!(named(&steps, "signed in again").count(), 1, "{steps:?}");
}

#[test]
fn connect_signs_in_steps_up_and_asks_again_when_it_is_taken_back() {
    let state = State::new();
    let server = state.serve();
    let desktop = Desktop::of_owner();
    let allow = |scopes: &[&str]| desktop.tell(&json!({ "passphrase": PASSPHRASE, "scopes": scopes }));
    let ask = |connect: &mut Connect, message: &Value| {
        connect.send(message);
        connect.next_within(PATIENCE)
    };
    let call = |id, operation| request(id, "tools/call", mcp::arguments(operation));
    allow(&["op:add", "op:sub", "op:mult"]);
    let mut connect = desktop.connect(server.resource());
    let answer = ask(&mut connect, &initialize(1));
    assert_eq!(answer["result"]["serverInfo"]["name"], "Calculator", "{answer}");
    connect.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    assert_eq!(mcp::text(&ask(&mut connect, &call(2, "add"))), "9");
    assert_eq!(desktop.tabs().len(), 1);
    allow(&["op:add", "op:sub", "op:mult", "op:div"]);
    assert_eq!(mcp::text(&ask(&mut connect, &call(3, "divide"))), "2", "the user was asked for more");
    assert_eq!(desktop.tabs().len(), 2);
    let listed = state.command(&["grants", "list"]);
    assert!(listed.lines().count() == 3 && listed.contains("op:div"), "{listed}");
    for page in desktop.pages() {
        assert!(page["ok"] == true && page["transcript"][1]["complaints"] == json!([]), "{page}");
    }
    assert_eq!(state.command(&["grants", "revoke", "--all"]), "Revoked: 2.\n");
    assert_eq!(mcp::text(&ask(&mut connect, &call(4, "add"))), "9", "the user was asked again");
    assert_eq!(desktop.tabs().len(), 3);
    connect.end();
}
