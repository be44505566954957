//! Every line: what it asks for, or how it is refused. The built program is tested in
//! `tests/calculator`.

use std::{pin::Pin, sync::Arc, time::Duration};

use proptest::prelude::*;
use rmcp::model::ErrorData;
use tokio::sync::Notify;

use super::{
    Access,
    answers::{Answers, REHEARSED},
    lines::{Line, Lines, MAX_LINE_BYTES},
    message::{Message, Request, read},
};
use crate::server::{Call, Era, Given};

const META: &str =
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;

fn complete(line: &str) -> Line {
    Line::Complete(line.as_bytes().to_vec())
}

/// A line's refusal as `(id, code, message)`.
fn refusal(message: Message<'_>) -> Option<(String, i32, String)> {
    match message {
        Message::Refused(id, ErrorData { code, message, .. }) => {
            Some((id.unwrap_or("null").to_owned(), code.0, message.into_owned()))
        }
        Message::Request(..) | Message::Ignored => None,
    }
}

fn refused(line: &str, id: &str, code: i32, text: &str) {
    assert_eq!(refusal(read(&complete(line), true)), Some((id.to_owned(), code, text.to_owned())), "{line}");
}

fn asks(line: &str, id: &str, expected: Request) {
    let whole = complete(line);
    match read(&whole, true) {
        Message::Request(read, request) => assert_eq!((read, request), (id, expected), "{line}"),
        other => panic!("{line}: {other:?}"),
    }
}

fn ignored(line: &str) {
    assert!(matches!(read(&complete(line), true), Message::Ignored), "{line}");
}

#[test]
fn well_formed_requests_are_read() {
    asks(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, "1", Request::Ping);
    asks(r#" { "method" : "ping" , "id" : -7 , "jsonrpc" : "2.0" , "x" : [1e400] } "#, "-7", Request::Ping);
    asks("{\"jsonrpc\":\"2.0\",\"id\":\"\",\"method\":\"p\\u0069ng\",\"params\":null}\r", "\"\"", Request::Ping);
    asks(
        r#"{"jsonrpc":"2.0","id":"\ud800","method":"ping","params":{"_meta":{"progressToken":1}}}"#,
        r#""\ud800""#,
        Request::Ping,
    );
    let large = "123456789012345678901234567890";
    asks(&format!(r#"{{"jsonrpc":"2.0","id":{large},"method":"ping"}}"#), large, Request::Ping);
    asks(
        &format!(r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{"_meta":{{{META},"x":1e999}}}}}}"#),
        "1",
        Request::Discover,
    );
    asks(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, "1", Request::ListTools(Era::Legacy));
    asks(
        &format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"cursor":null,"_meta":{{{META}}}}}}}"#),
        "1",
        Request::ListTools(Era::Modern),
    );
    asks(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":1e400,"a":2}}}"#,
        "1",
        Request::CallTool { era: Era::Legacy, name: "x".into(), arguments: Some(r#"{"a":1e400,"a":2}"#) },
    );
    asks(
        &format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"x","_meta":{{{META}}}}}}}"#),
        "1",
        Request::CallTool { era: Era::Modern, name: "x".into(), arguments: None },
    );
    asks(
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"1","capabilities":{"experimental":{"x":1e999}},"clientInfo":{"name":"n","version":"v"}}}"#,
        "1",
        Request::Initialize { protocol_version: "1".into() },
    );
}

#[test]
fn what_nobody_waits_for_is_ignored() {
    for line in ["", "  ", "\r", "\t \r"] {
        ignored(line);
    }
    ignored(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    ignored(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    ignored(r#"{"jsonrpc":"2.0","method":"notifications/x","params":[1e400]}"#);
    ignored(r#"{"jsonrpc":"2.0","method":"tools/call"}"#);
    ignored(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    ignored(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}"#);
    ignored(r#"{"id":{},"result":null}"#);
}

#[test]
fn invalid_json_is_a_parse_error_without_an_id() {
    for line in ["{", "x", "\u{feff}{}", r#"{"id":1} {"#, r#"{"id":1,}"#, r#"{"id":01}"#, "{'id':1}", "nul", "\"\\x\""]
    {
        let (id, code, text) = refusal(read(&complete(line), true)).expect(line);
        assert_eq!((&*id, code), ("null", -32700), "{line}");
        assert!(text.starts_with("Parse error: ") && text.contains(" at line 1 column "), "{text}");
    }
    let bytes = Line::Complete(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}".to_vec());
    assert_eq!(refusal(read(&bytes, true)), Some(("null".into(), -32700, "Parse error: the line is not UTF-8".into())));
}

#[test]
fn invalid_requests_carry_their_id_when_it_can_be_read() {
    let invalid = |line: &str, id: &str, text: &str| refused(line, id, -32600, &format!("Invalid request: {text}"));
    invalid("[]", "null", "batches are not supported; send one message per line");
    invalid(
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        "null",
        "batches are not supported; send one message per line",
    );
    invalid("3", "null", "a message is an object, not a number");
    invalid("\"ping\"", "null", "a message is an object, not a string");
    invalid("{}", "null", "method is missing");
    invalid(r#"{"jsonrpc":"2.0","id":5}"#, "5", "method is missing");
    invalid(r#"{"id":5,"method":"ping"}"#, "5", "jsonrpc must be \"2.0\"");
    invalid(r#"{"jsonrpc":"1.0","id":5,"method":"ping"}"#, "5", "jsonrpc must be \"2.0\"");
    invalid(r#"{"jsonrpc":2.0,"id":"a","method":"ping"}"#, "\"a\"", "jsonrpc must be \"2.0\"");
    invalid(r#"{"jsonrpc":"2.0","id":5,"method":7}"#, "5", "method is a number, not a string");
    for id in ["null", "1.5", "1e3", "1.0", "true", "{}", "[1]"] {
        invalid(
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#),
            "null",
            "id must be a string or an integer",
        );
    }
    invalid(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, "null", "id is given more than once");
    invalid(r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"x"}"#, "1", "method is given more than once");
    invalid(
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"params":{}}"#,
        "1",
        "params is given more than once",
    );
    invalid(
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
        "1",
        "a message is a request or a response, not both",
    );
    assert_eq!(
        refusal(read(&Line::TooLong, true)),
        Some(("null".into(), -32600, "Invalid request: the line has more than 4194304 bytes".into()))
    );
}

#[test]
fn unknown_methods_are_not_found() {
    for method in ["resources/list", "subscriptions/listen", "Tools/list", "", "notifications/initialized"] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
        refused(&line, "1", -32601, &format!("Method not found: {method}"));
    }
    refused(r#"{"jsonrpc":"2.0","id":1,"method":"a\nb","params":[1e400]}"#, "1", -32601, r"Method not found: a\nb");
    let modern = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"_meta":{{{META}}}}}}}"#);
    refused(&modern, "1", -32601, "Method not found: ping");
}

#[test]
fn wrong_params_are_named() {
    let invalid = |method: &str, params: &str, text: &str| {
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        refused(&line, "1", -32602, &format!("Invalid params: {text}"));
    };
    invalid("ping", "[]", "params must be an object, not an array");
    invalid("tools/list", "3", "params must be an object, not a number");
    invalid("tools/list", r#"{"cursor":"x"}"#, "params.cursor is not one of ours; the list has one page");
    invalid("tools/list", r#"{"_meta":1}"#, "params._meta must be an object, not a number");
    invalid("tools/list", r#"{"_meta":{},"_meta":{}}"#, "params has _meta more than once");
    invalid("tools/call", "{}", "params.name is missing (a string)");
    invalid("tools/call", r#"{"name":3}"#, "params.name is a number, not a string");
    invalid("tools/call", r#"{"name":"a","name":"b"}"#, "params has name more than once");
    invalid("tools/call", r#"{"name":"a","arguments":{},"arguments":{}}"#, "params has arguments more than once");
    invalid("initialize", "{}", "params.protocolVersion is missing (a string)");
    invalid("initialize", r#"{"protocolVersion":1}"#, "params.protocolVersion is a number, not a string");
    invalid("initialize", r#"{"protocolVersion":"x"}"#, "params.capabilities is missing (an object)");
    invalid(
        "initialize",
        r#"{"protocolVersion":"x","capabilities":[],"clientInfo":{}}"#,
        "params.capabilities is an array, not an object",
    );
    invalid(
        "initialize",
        r#"{"protocolVersion":"x","capabilities":{},"clientInfo":{"name":"n"}}"#,
        "params.clientInfo.version is missing (a string)",
    );
}

#[test]
fn a_modern_request_must_say_what_every_modern_request_says() {
    let version = "io.modelcontextprotocol/protocolVersion";
    let capabilities = "io.modelcontextprotocol/clientCapabilities";
    let missing = format!(
        "Invalid params: params._meta[\"{version}\"] is missing (\"2026-07-28\"); \
         for 2025-11-25 and earlier, send initialize first"
    );
    let line = |method: &str, meta: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"x","_meta":{{{meta}}}}}}}"#)
    };
    refused(&line("server/discover", ""), "1", -32602, &missing);
    refused(&line("tools/list", &format!(r#""{capabilities}":{{}}"#)), "1", -32602, &missing);
    refused(
        &line("tools/call", &format!(r#""{version}":"2026-07-28""#)),
        "1",
        -32602,
        &format!("Invalid params: params._meta[\"{capabilities}\"] is missing (an object)"),
    );
    refused(
        &line("tools/call", &format!(r#""{version}":20260728,"{capabilities}":{{}}"#)),
        "1",
        -32602,
        &format!("Invalid params: params._meta[\"{version}\"] is a number, not a string"),
    );
    refused(
        &line("tools/call", &format!(r#"{META},"io.modelcontextprotocol/clientInfo":"x""#)),
        "1",
        -32602,
        "Invalid params: params._meta[\"io.modelcontextprotocol/clientInfo\"] is a string, not an object",
    );
    refused(
        &line("tools/call", &format!(r#"{META},"{version}":"2025-11-25""#)),
        "1",
        -32602,
        &format!("Invalid params: params._meta has {version} more than once"),
    );
}

#[test]
fn other_versions_in_meta_are_answered_with_ours() {
    for version in ["2025-11-25", "1900-01-01", "2027-01-01"] {
        let line = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"{version}"}}}}}}"#
        );
        let line = complete(&line);
        let Message::Refused(Some(_), error) = read(&line, true) else { panic!("{line:?}") };
        assert_eq!(error.code.0, -32022);
        assert_eq!(error.data, Some(serde_json::json!({ "supported": ["2026-07-28"], "requested": version })));
    }
}

#[test]
fn before_initialize_only_its_own_requests_are_of_the_legacy_era() {
    for method in ["tools/list", "tools/call"] {
        let (_, code, text) =
            refusal(read(&complete(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#)), false))
                .expect("a refusal");
        assert!(code == -32602 && text.contains("send initialize first"), "{text}");
    }
    let ping = complete(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    assert!(matches!(read(&ping, false), Message::Request(_, Request::Ping)));
}

#[test]
fn what_is_rehearsed_is_a_call() {
    let line = Line::Complete(REHEARSED.to_vec());
    let Message::Request(_, Request::CallTool { name, arguments, .. }) = read(&line, true) else { panic!("{line:?}") };
    let call = Call::read(&name, Given::Text(arguments)).expect("a call");
    assert_eq!(call.needed_scope(), Some("op:add"));
}

/// Lets calls wait until it is told to go on.
#[derive(Default)]
struct Thinks(Notify);

impl Access for Thinks {
    fn check(&self, _: &'static str) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async {
            self.0.notified().await;
            Ok(())
        })
    }
}

#[test]
fn nobody_waits_for_an_answer_because_a_later_call_takes_its_time() {
    let ping = complete(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    let call = Line::Complete(REHEARSED.to_vec());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let answered = runtime.block_on(async {
        let (output, client) = tokio::io::duplex(4096);
        let access = Arc::new(Thinks::default());
        let mut answers = Answers::new(output, Some(Arc::clone(&access) as _));
        let answer = async {
            answers.answer(&ping).await.expect("the client is there");
            answers.answer(&call).await.expect("the client is there");
            answers.flush().await.expect("the client is there");
            drop(answers);
        };
        let read = async {
            let mut lines = Lines::new(client, MAX_LINE_BYTES);
            let first = lines.next().await.expect("a duplex stream does not fail");
            access.0.notify_one();
            (first, lines.next().await.expect("a duplex stream does not fail"))
        };
        let both = async { tokio::join!(answer, read).1 };
        tokio::time::timeout(Duration::from_secs(60), both)
            .await
            .expect("the first answer does not wait for the second")
    });
    let (Some(Line::Complete(first)), Some(Line::Complete(second))) = answered else { panic!("{answered:?}") };
    assert_eq!(first, br#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert!(second.starts_with(br#"{"jsonrpc":"2.0","id":0,"result":{"resultType":"complete""#), "{second:?}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>, initialized: bool) {
        read(&Line::Complete(bytes), initialized);
    }

    #[test]
    fn whatever_has_method_and_id_gets_its_id_back(
        id in prop_oneof!["-?[1-9][0-9]{0,40}", r#""[a-z0-9 é]{0,20}""#],
        method in prop_oneof!["[a-z/]{0,20}", Just("tools/call".to_owned()), Just("initialize".to_owned())],
        params in prop_oneof![
            r#"[\[\]{}0-9":,a]{0,20}"#.prop_filter("valid JSON", |text| serde_json::from_str::<serde_json::Value>(text).is_ok()),
            Just(r#"{"name":"x","arguments":{"a":1e400}}"#.to_owned()),
        ],
    ) {
        let line = complete(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#));
        let answered = match read(&line, true) {
            Message::Request(id, _) | Message::Refused(Some(id), _) => Some(id),
            Message::Refused(None, _) | Message::Ignored => None,
        };
        prop_assert_eq!(answered, Some(&*id));
    }
}
