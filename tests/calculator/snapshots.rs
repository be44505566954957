//! What people and models read, word for word.

use serde_json::{Value, json};

use crate::process::{Server, command, initialize, modern, request};

/// Compares with `tests/snapshots/calculator/NAME.snap`; the version is left out.
fn check(name: &str, text: &str) {
    let text = text.replace(env!("CARGO_PKG_VERSION"), "[version]");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots/calculator");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a value serializes")
}

#[test]
fn help() {
    for (name, flag) in [("help", "--help"), ("help_short", "-h")] {
        let output = command().arg(flag).output().expect("the program starts");
        check(name, &String::from_utf8(output.stdout).expect("UTF-8"));
    }
}

#[cfg(feature = "login")]
#[test]
fn help_on_signing_in() {
    for name in ["login", "whoami", "logout"] {
        let output = command().args([name, "--help"]).output().expect("the program starts");
        check(&format!("help_{name}"), &String::from_utf8(output.stdout).expect("UTF-8"));
    }
}

#[cfg(all(feature = "login", feature = "clients"))]
#[test]
fn manual_page() {
    let output = command().arg("man").output().expect("the program starts");
    check("man", &String::from_utf8(output.stdout).expect("UTF-8"));
}

#[test]
fn lists_and_greetings() {
    let mut server = Server::start();
    check("initialize", &pretty(&server.ask(&initialize("2025-11-25"))["result"]));
    check("discover", &pretty(&server.ask(&modern("d", "server/discover", json!({})))["result"]));
    check("tools_list_legacy", &pretty(&server.ask(&request("l", "tools/list", json!({})))["result"]));
    check("tools_list_modern", &pretty(&server.ask(&modern("m", "tools/list", json!({})))["result"]));
    server.finish();
}

#[test]
fn errors() {
    let mut server = Server::initialized();
    let mut text = String::new();
    let call = |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
    let arguments = |arguments: &str| call(&format!(r#"{{"name":"calculator","arguments":{arguments}}}"#));
    for line in [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping""#.to_owned(),
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#.to_owned(),
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/list"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2027-01-01"}}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#.to_owned(),
        call("{}"),
        call(r#"{"name":"abacus"}"#),
        call(r#"{"name":"calculator","name":"abacus"}"#),
        call(r#"{"name":"calculator","arguments":[1]}"#),
        arguments("{}"),
        arguments(r#"{"operation":"power","a":1,"b":2}"#),
        arguments(r#"{"operation":"add","a":"1","b":1e400}"#),
        arguments(r#"{"operation":"add","a":1,"b":2,"c":3,"a":4}"#),
        arguments(r#"{"operation":"divide","a":1,"b":0}"#),
    ] {
        server.send(&line);
        text += &format!("> {line}\n< {}\n\n", server.raw_answer());
    }
    check("errors", &text);
    server.finish();
}
