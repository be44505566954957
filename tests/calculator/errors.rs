//! What is refused or passed over; the exact texts are in the snapshots.

use serde_json::{Value, json};

use crate::process::{Server, call, modern, request};

fn refused(server: &mut Server, line: &str, id: Value, code: i32) {
    let answer = server.ask(line);
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &json!(code)), "{line}");
    assert!(answer["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{line}");
    assert!(server.has_nothing_more_to_say(), "{line}");
}

#[test]
fn notifications_and_responses_are_never_answered() {
    for mut server in [Server::start(), Server::initialized()] {
        for line in [
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"sync"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/unheard-of","params":[1e400]}"#,
            r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"calculator"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"x"}}"#,
        ] {
            server.send(line);
            assert!(server.has_nothing_more_to_say(), "{line}");
        }
        server.finish();
    }
}

#[test]
fn invalid_json_is_answered_without_an_id() {
    let mut server = Server::initialized();
    for line in ["{", "}", "ping", r#"{"jsonrpc":"2.0","id":1,"method":"ping""#, r#"{"id":1}{"id":2}"#, "{'id':1}"] {
        refused(&mut server, line, Value::Null, -32700);
    }
    server.write(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xc3\x28\"}\n");
    assert_eq!(server.answer().expect("an answer")["error"]["code"], -32700);
    server.finish();
}

#[test]
fn invalid_requests_are_answered_with_their_id() {
    let mut server = Server::initialized();
    for (line, id) in [
        (r#"[]"#, json!(null)),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, json!(null)),
        ("7", json!(null)),
        (r#"{"jsonrpc":"2.0"}"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":1}"#, json!(1)),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, json!(1)),
        (r#"{"id":"x","method":"ping"}"#, json!("x")),
        (r#"{"jsonrpc":"2.0","id":1,"method":["ping"]}"#, json!(1)),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":1e400,"method":"ping"}"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}"#, json!(1)),
    ] {
        refused(&mut server, line, id, -32600);
    }
    server.finish();
}

#[test]
fn wrong_params_of_known_methods_are_invalid_params() {
    let mut server = Server::initialized();
    for (method, params) in [
        ("initialize", json!({})),
        (
            "initialize",
            json!({ "protocolVersion": 3, "capabilities": {}, "clientInfo": { "name": "n", "version": "v" } }),
        ),
        ("ping", json!([])),
        ("tools/list", json!({ "cursor": "2" })),
        ("tools/list", json!({ "cursor": 2 })),
        ("tools/call", json!({})),
        ("tools/call", json!({ "name": 1 })),
        ("tools/call", json!({ "name": "abacus" })),
        ("tools/call", json!({ "name": "calculator", "arguments": [1] })),
        ("tools/call", json!({ "name": "calculator", "arguments": null })),
        ("tools/call", json!({ "name": "calculator", "_meta": "x" })),
        ("server/discover", json!({})),
    ] {
        refused(&mut server, &request("r", method, params), json!("r"), -32602);
    }
    let twice =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"calculator","name":"x","arguments":{}}}"#;
    refused(&mut server, twice, json!(1), -32602);
    server.finish();
}

#[test]
fn a_modern_request_without_its_metadata_is_invalid() {
    let mut server = Server::start();
    for method in ["tools/list", "tools/call", "server/discover"] {
        refused(&mut server, &request("r", method, json!({ "name": "calculator" })), json!("r"), -32602);
        let only_version = json!({ "_meta": { "io.modelcontextprotocol/protocolVersion": "2026-07-28" } });
        refused(&mut server, &request("r", method, only_version), json!("r"), -32602);
    }
    server.finish();
}

#[test]
fn an_unsupported_version_is_answered_with_the_supported_one() {
    let mut server = Server::start();
    let line = modern("v", "tools/call", call("add", 1.0, 2.0)).replace("2026-07-28", "2027-01-01");
    let answer = server.ask(&line);
    assert_eq!(answer["error"]["code"], -32022);
    assert_eq!(answer["error"]["data"], json!({ "supported": ["2026-07-28"], "requested": "2027-01-01" }));
    server.finish();
}

#[test]
fn unknown_methods_are_not_found_in_both_eras() {
    let mut server = Server::initialized();
    for method in
        ["resources/list", "prompts/get", "completion/complete", "logging/setLevel", "subscriptions/listen", "x"]
    {
        refused(&mut server, &request("r", method, json!({})), json!("r"), -32601);
        refused(&mut server, &modern("r", method, json!({})), json!("r"), -32601);
    }
    server.finish();
}

#[test]
fn wrong_argument_values_are_errors_of_the_tool() {
    let mut server = Server::initialized();
    for arguments in [
        r#"{}"#,
        r#"{"operation":"power","a":1,"b":2}"#,
        r#"{"operation":"add","a":1}"#,
        r#"{"operation":"add","a":"1","b":2}"#,
        r#"{"operation":"add","a":null,"b":2}"#,
        r#"{"operation":"add","a":1e400,"b":2}"#,
        r#"{"operation":"add","a":1,"b":2,"c":3}"#,
        r#"{"operation":"add","a":1,"b":2,"b":3}"#,
    ] {
        let line = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"calculator","arguments":{arguments}}}}}"#
        );
        let answer = server.ask(&line);
        assert_eq!(answer["result"]["isError"], true, "{arguments}");
        let text = answer["result"]["content"][0]["text"].as_str().expect("a text");
        assert!(text.starts_with("Error: "), "{text}");
    }
    server.finish();
}

#[test]
fn a_line_that_is_too_long_is_refused_and_skipped() {
    let mut server = Server::start();
    let long = vec![b'x'; 6 * 1024 * 1024];
    server.write(&long);
    let answer = server.answer().expect("refused before the line ends");
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(-32600)));
    server.write(&long);
    server.write(b"\n");
    assert!(server.has_nothing_more_to_say());
    server.finish();
}

#[test]
fn a_large_message_within_the_bound_is_answered() {
    let mut server = Server::start();
    let padding = " ".repeat(4 * 1024 * 1024 - 60);
    let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping"{padding}}}"#);
    assert_eq!(server.ask(&line), json!({ "jsonrpc": "2.0", "id": 1, "result": {} }));
    // As deep as it is long: nothing here may recurse.
    let deep =
        format!(r#"{{"jsonrpc":"2.0","id":2,"method":"ping","x":{}{}}}"#, "[".repeat(1 << 20), "]".repeat(1 << 20));
    assert_eq!(server.ask(&deep), json!({ "jsonrpc": "2.0", "id": 2, "result": {} }));
    server.finish();
}
