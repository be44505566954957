use proptest::prelude::*;

use super::*;
use crate::message::Message;

#[test]
fn only_what_the_client_declared_is_asked() {
    const URL: Option<&str> = Some(r#"{"mode":"url"}"#);
    const FORM: Option<&str> = Some(r#"{"mode":"form"}"#);
    const TOOLS: Option<&str> = Some(r#"{"tools":[]}"#);
    for (method, params, capabilities, expected) in [
        ("roots/list", None, r#"{"roots":{}}"#, true),
        ("roots/list", None, "{}", false),
        ("roots/list", None, r#"{"roots":null}"#, false),
        ("sampling/createMessage", None, r#"{"sampling":{}}"#, true),
        ("sampling/createMessage", TOOLS, r#"{"sampling":{}}"#, false),
        ("sampling/createMessage", TOOLS, r#"{"sampling":{"tools":{}}}"#, true),
        ("elicitation/create", None, r#"{"elicitation":{}}"#, true),
        ("elicitation/create", FORM, r#"{"elicitation":{}}"#, true),
        ("elicitation/create", FORM, r#"{"elicitation":{"url":{}}}"#, false),
        ("elicitation/create", FORM, r#"{"elicitation":{"url":{},"form":{}}}"#, true),
        ("elicitation/create", URL, r#"{"elicitation":{}}"#, false),
        ("elicitation/create", URL, r#"{"elicitation":{"url":{}}}"#, true),
        ("ping", None, r#"{"ping":{}}"#, false),
        ("roots/list", None, "[", false),
    ] {
        assert_eq!(can_be_asked(method, params, capabilities), expected, "{method} {params:?} {capabilities}");
    }
    for method in ["tools/call", "prompts/get", "resources/read"] {
        assert!(may_ask(method));
    }
    assert!(!may_ask("tools/list"));
}

#[test]
fn questions_of_legacy_servers() {
    let params =
        r#"{"mode":"url","elicitationId":"e","url":"https://h/","task":{},"_meta":{"progressToken":1},"n":1e400}"#;
    let params = modern_question(Some(params));
    assert_eq!(params.as_deref(), Some(r#"{"mode":"url","url":"https://h/","n":1e400}"#));
    assert_eq!(modern_question(None), None);
    let requests = [
        InputRequest { key: "a\"", method: "elicitation/create", params: params.as_deref() },
        InputRequest { key: "b", method: "roots/list", params: None },
    ];
    assert_eq!(
        input_required(&requests, Some("s\"")),
        r#"{"resultType":"input_required","inputRequests":{"a\"":{"method":"elicitation/create","params":{"mode":"url","url":"https://h/","n":1e400}},"b":{"method":"roots/list"}},"requestState":"s\""}"#
    );
    assert_eq!(input_required(&[], Some("s")), r#"{"resultType":"input_required","requestState":"s"}"#);
}

#[test]
fn answers_of_modern_clients() {
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"inputResponses":{"k":{"n":1e400},"bad":1},"requestState":"a\u0062"}}"#;
    let Ok(Message::Request(request)) = Message::parse(body) else { panic!("a request") };
    assert_eq!(input_response(&request.params, "k").map(RawValue::get), Some(r#"{"n":1e400}"#));
    assert!(input_response(&request.params, "bad").is_none());
    assert!(input_response(&request.params, "none").is_none());
    assert_eq!(request_state(&request.params).as_deref(), Some("ab"));
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"inputResponses":{"k":{},"k":{}},"requestState":1}}"#;
    let Ok(Message::Request(request)) = Message::parse(body) else { panic!("a request") };
    assert!(input_response(&request.params, "k").is_none());
    assert!(request_state(&request.params).is_none());
}

#[test]
fn questions_of_modern_servers() {
    let result = r#"{"resultType":"input\u005frequired","x":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"n":1e400}},"r":{"method":"roots/list"}},"requestState":"s"}"#;
    let asked_for = asked(result).expect("well-formed").expect("asks");
    let read: Vec<_> = asked_for.requests.iter().map(|q| (&*q.key, &*q.method, q.params.map(RawValue::get))).collect();
    assert_eq!(read, [("k", "elicitation/create", Some(r#"{"n":1e400}"#)), ("r", "roots/list", None)]);
    assert_eq!(asked_for.state.map(RawValue::get), Some(r#""s""#));
    for other in ["{}", r#"{"resultType":"complete","x":"input_required"}"#, "input_required"] {
        assert!(matches!(asked(other), Ok(None)), "{other}");
    }
    for nothing in [
        "",
        r#","inputRequests":{}"#,
        r#","inputRequests":[]"#,
        r#","inputRequests":{"k":{"params":{}}},"requestState":"s""#,
        r#","requestState":1"#,
    ] {
        let result = format!(r#"{{"resultType":"input_required"{nothing}}}"#);
        assert!(asked(&result).is_err(), "{result}");
    }
    assert!(asked(r#"{"resultType":"input_required","requestState":""}"#).expect("well-formed").is_some());
}

#[test]
fn retries_carry_this_rounds_answers_only() {
    let original = r#"{"name":"t","_meta":{"x":1},"inputResponses":{"old":{}},"requestState":"old","n":1e400}"#;
    let answers = [("k\"".to_owned(), r#"{"action":"accept"}"#.to_owned())];
    assert_eq!(
        retry_params(original, &answers, Some(r#""s""#)),
        r#"{"name":"t","_meta":{"x":1},"n":1e400,"inputResponses":{"k\"":{"action":"accept"}},"requestState":"s"}"#
    );
    assert_eq!(retry_params(original, &[], None), r#"{"name":"t","_meta":{"x":1},"n":1e400}"#);
}

#[test]
fn requests_for_legacy_clients() {
    for (method, params, expected) in [
        ("roots/list", None, r#"{"jsonrpc":"2.0","id":7,"method":"roots/list"}"#),
        (
            "elicitation/create",
            Some(r#"{"mode":"url","url":"u"}"#),
            r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"mode":"url","url":"u","elicitationId":"mcp-bridge-7"}}"#,
        ),
        (
            "elicitation/create",
            Some(r#"{"message":1e400}"#),
            r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"message":1e400}}"#,
        ),
    ] {
        assert_eq!(request_message(7, method, params), expected);
    }
    assert_eq!(refusal("elicitation/create"), Some(r#"{"action":"cancel"}"#));
    assert_eq!(refusal("sampling/createMessage"), None);
}

proptest! {
    #[test]
    fn no_text_panics(json in r#"[\[\]{}":,a-z0-9\\. -]{0,120}"#) {
        let asking = format!(r#"{{"resultType":"input_required","inputRequests":{json}}}"#);
        let _ = (asked(&json).is_ok(), asked(&asking).is_ok(), modern_question(Some(&json)));
        let _ = (retry_params(&json, &[], None), can_be_asked("elicitation/create", Some(&json), &json));
        let message = request_message(1, "elicitation/create", Some(&json));
        prop_assert!(Message::parse(message.as_bytes()).is_ok());
    }

    #[test]
    fn what_is_asked_is_what_is_read(keys in proptest::collection::btree_set("\\PC{0,8}", 1..5), state in "\\PC{0,20}") {
        let requests: Vec<_> =
            keys.iter().map(|key| InputRequest { key, method: "roots/list", params: None }).collect();
        let result = input_required(&requests, Some(&state));
        let read = asked(&result).expect("well-formed").expect("asks");
        prop_assert!(read.requests.iter().map(|q| q.key.as_ref()).eq(keys.iter().map(String::as_str)));
        let said = read.state.and_then(text);
        prop_assert_eq!(said.as_deref(), Some(state.as_str()));
    }
}
