//! What is answered with results: both eras, on one process.

use serde_json::{Value, json};

use crate::process::{Server, call, initialize, modern, request};

fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {answer}"))
}

#[test]
fn a_legacy_client_calculates() {
    let mut server = Server::initialized();
    for (operation, a, b, expected) in [
        ("add", 5.0, 8.0, "13"),
        ("add", 0.1, 0.2, "0.30000000000000004"),
        ("subtract", 5.0, 8.0, "-3"),
        ("multiply", 1e20, 10.0, "1e+21"),
        ("multiply", -1.0, 0.0, "0"),
        ("multiply", 1e300, 1e300, "Infinity"),
        ("multiply", -1e300, 1e300, "-Infinity"),
        ("divide", 1.0, 3.0, "0.3333333333333333"),
    ] {
        assert_eq!(
            server.ask(&request("c", "tools/call", call(operation, a, b))),
            json!({
                "jsonrpc": "2.0",
                "id": "c",
                "result": { "content": [{ "type": "text", "text": expected }], "isError": false },
            })
        );
    }
    server.finish();
}

#[test]
fn a_modern_client_calculates_without_any_greeting() {
    let mut server = Server::start();
    assert_eq!(
        server.ask(&modern("c", "tools/call", call("divide", 1.0, 4.0))),
        json!({
            "jsonrpc": "2.0",
            "id": "c",
            "result": {
                "resultType": "complete",
                "content": [{ "type": "text", "text": "0.25" }],
                "isError": false,
                "_meta": { "io.modelcontextprotocol/serverInfo": {
                    "name": "Calculator", "title": "Calculator", "version": env!("CARGO_PKG_VERSION"),
                } },
            },
        })
    );
    server.finish();
}

#[test]
fn division_by_zero_is_an_error_of_the_tool() {
    let mut server = Server::initialized();
    let zero = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"calculator","arguments":{"operation":"divide","a":1,"b":0}}}"#;
    for line in [zero.to_owned(), zero.replace("\"b\":0", "\"b\":-0"), zero.replace("\"a\":1", "\"a\":0")] {
        let answer = server.ask(&line);
        assert_eq!((text(&answer), &answer["result"]["isError"]), ("Error: Division by zero", &json!(true)));
    }
    server.finish();
}

#[test]
fn every_legacy_version_is_agreed_to() {
    let mut server = Server::start();
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        assert_eq!(server.ask(&initialize(version))["result"]["protocolVersion"], version);
    }
    for other in ["2026-07-28", "2030-01-01", ""] {
        assert_eq!(server.ask(&initialize(other))["result"]["protocolVersion"], "2025-11-25");
    }
    server.finish();
}

#[test]
fn the_eras_do_not_disturb_each_other() {
    let mut server = Server::start();
    let modern_call = modern("m", "tools/call", call("add", 1.0, 2.0));
    let legacy_call = request("l", "tools/call", call("add", 1.0, 2.0));

    assert_eq!(server.ask(&modern_call)["result"]["resultType"], "complete");
    assert_eq!(server.ask(&legacy_call)["error"]["code"], -32602);
    assert_eq!(
        server.ask(&modern("d", "server/discover", json!({})))["result"]["supportedVersions"],
        json!(["2026-07-28"])
    );
    assert_eq!(server.ask(&initialize("2025-06-18"))["result"]["protocolVersion"], "2025-06-18");
    for _ in 0..2 {
        let legacy = server.ask(&legacy_call);
        assert_eq!((text(&legacy), legacy["result"].get("resultType")), ("3", None));
        let modern = server.ask(&modern_call);
        assert_eq!((text(&modern), &modern["result"]["resultType"]), ("3", &json!("complete")));
    }
    assert_eq!(server.ask(&initialize("2024-11-05"))["result"]["protocolVersion"], "2024-11-05");
    assert_eq!(server.ask(&request("p", "ping", json!({})))["result"], json!({}));
    assert_eq!(server.ask(&modern("p", "ping", json!({})))["error"]["code"], -32601);
    server.finish();
}

#[test]
fn ids_come_back_as_they_were_written() {
    let mut server = Server::start();
    for id in ["0", "-1", "9223372036854775807", "18446744073709551616", "123456789012345678901234567890"] {
        server.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#));
        assert_eq!(server.raw_answer(), format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
    }
    for id in [r#""""#, r#""a\u0062\"\n""#, r#""é\ud800""#] {
        server.send(&format!(r#"{{"method":"nothing","id":{id},"jsonrpc":"2.0"}}"#));
        assert!(server.raw_answer().starts_with(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"#)));
    }
    server.finish();
}

#[test]
fn numbers_are_read_as_they_were_written() {
    let mut server = Server::initialized();
    let line = |a: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"calculator","arguments":{{"operation":"add","a":{a},"b":0}}}}}}"#
        )
    };
    for (written, expected) in [
        ("123456789012345678901234567890", "1.2345678901234568e+29"),
        ("18446744073709551615", "18446744073709552000"),
        ("9007199254740993", "9007199254740992"),
        ("0.1e1", "1"),
        ("1E-7", "1e-7"),
        ("-0", "0"),
        ("1e400", "Error: a is beyond the range of a double (at most about 1.8e308)"),
    ] {
        assert_eq!(text(&server.ask(&line(written))), expected, "{written}");
    }
    server.finish();
}

#[test]
fn white_space_around_messages_is_no_matter() {
    let mut server = Server::start();
    server.write(b"\n\r\n  \t\n");
    server.write(b" {\"jsonrpc\":\"2.0\",\r\"id\" : 1,\"method\":\"ping\"} \r\n");
    assert_eq!(server.raw_answer(), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    server.finish();
}

#[test]
fn a_message_may_come_in_pieces_and_several_at_once() {
    let mut server = Server::start();
    let ping = |id: u32| format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"ping\"}}\n");
    for byte in ping(0).as_bytes() {
        server.write(&[*byte]);
    }
    assert_eq!(server.raw_answer(), r#"{"jsonrpc":"2.0","id":0,"result":{}}"#);
    server.write((1..=100).map(ping).collect::<String>().as_bytes());
    for id in 1..=100 {
        assert_eq!(server.raw_answer(), format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
    }
    server.finish();
}
