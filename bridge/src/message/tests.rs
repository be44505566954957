use proptest::prelude::*;

use super::*;

fn error(body: &str) -> (i64, Option<String>, String) {
    let error = Message::parse(body.as_bytes()).expect_err(body);
    (error.code, error.id, error.detail)
}

fn request(body: &str) -> Request<'_> {
    match Message::parse(body.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn a_call_is_read_once_and_numbers_keep_their_spelling() {
    let call = request(
        r#"{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"tools\/call","params":{"name":"calc\u0075lator",
            "arguments":{"a":1e400,"b":123456789012345678901234567890.10,"deep":{"x":1,"x":2}},"_meta":{"k":"v"}}}"#,
    );
    assert_eq!(call.id.as_json(), "123456789012345678901234567890");
    assert_eq!(call.method, "tools/call");
    assert_eq!(call.params.target.as_deref(), Some("calculator"));
    assert_eq!(call.params.meta_text("k").as_deref(), Some("v"));
    let arguments = call.params.arguments.expect("arguments are an object");
    assert_eq!(arguments.to_json(), r#"{"a":1e400,"b":123456789012345678901234567890.10,"deep":{"x":1,"x":2}}"#);
}

#[test]
fn what_is_not_a_message_says_so_under_its_id() {
    let cases = [
        ("", PARSE_ERROR, None),
        ("{", PARSE_ERROR, None),
        ("{} {}", PARSE_ERROR, None),
        ("\u{feff}{}", PARSE_ERROR, None),
        ("[]", INVALID_REQUEST, None),
        ("1", INVALID_REQUEST, None),
        ("{}", INVALID_REQUEST, None),
        (r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, INVALID_REQUEST, Some("1")),
        (r#"{"jsonrpc":"2.0","id":1}"#, INVALID_REQUEST, Some("1")),
        (r#"{"jsonrpc":"2.0","id":"a","method":1}"#, INVALID_REQUEST, Some("\"a\"")),
        (r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, INVALID_REQUEST, None),
        (&format!(r#"{{"jsonrpc":"2.0","id":{},"method":"m"}}"#, "9".repeat(1025)), INVALID_REQUEST, None),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"m"}"#, INVALID_REQUEST, None),
        (r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, INVALID_REQUEST, None),
        (r#"{"jsonrpc":"2.0","id":true,"method":"m"}"#, INVALID_REQUEST, None),
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#, INVALID_REQUEST, None),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","result":1}"#, INVALID_REQUEST, Some("1")),
        (r#"{"jsonrpc":"2.0","result":1}"#, INVALID_REQUEST, None),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}"#, INVALID_PARAMS, Some("1")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":"\ud800"}"#, INVALID_PARAMS, Some("1")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":1e999}"#, INVALID_PARAMS, Some("1")),
        (r#"{"params":[1],"jsonrpc":"2.0","id":1,"method":1}"#, INVALID_REQUEST, Some("1")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{},"params":{}}"#, INVALID_REQUEST, None),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":}}"#, PARSE_ERROR, None),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":1}}"#, INVALID_PARAMS, Some("1")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":null}}"#, INVALID_PARAMS, Some("1")),
    ];
    for (body, code, id) in cases {
        let (found, found_id, detail) = error(body);
        assert_eq!((found, found_id.as_deref()), (code, id), "{body}: {detail}");
    }
}

#[test]
fn repeated_keys_are_refused_wherever_somebody_decides_by_them() {
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1,"x":2}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"x":1,"x":2}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"a","name":"b"}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":[],"resourceSubscriptions":["a"]}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{},"a":1,"_m\u0065ta":{}}}"#,
    ] {
        let (code, id, detail) = error(body);
        assert_eq!((code, id.as_deref()), (INVALID_PARAMS, Some("1")), "{body}");
        assert!(detail.contains("is there twice"), "{detail}");
    }
}

/// A server might find resources where the policy saw none.
#[test]
fn subscriptions_that_cannot_be_read_are_refused() {
    for notifications in ["1", "null", "[]", r#"{"resourceSubscriptions":"a"}"#, r#"{"resourceSubscriptions":[1]}"#] {
        let (code, ..) = error(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{"notifications":{notifications}}}}}"#
        ));
        assert_eq!(code, INVALID_PARAMS, "{notifications}");
    }
    let listen = request(
        r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["a","\u0062"]}}}"#,
    );
    assert_eq!(listen.params.subscriptions, ["a", "b"]);
}

/// A server that ignores case would run what the policy has not seen.
#[test]
fn keys_that_differ_by_case_from_judged_ones_are_refused() {
    for (method, params) in [
        ("tools/call", r#"{"name":"safe","Name":"delete"}"#),
        ("tools/call", r#"{"NAME":"delete"}"#),
        ("tools/call", r#"{"name":"safe","argument\u017f":{}}"#),
        ("tools/call", r#"{"name":"safe","_META":{"mcp-bridge/identity":{}}}"#),
        ("tools/call", r#"{"name":"safe","_meta":{"MCP-Bridge/Identity":{}}}"#),
        ("resources/read", r#"{"uri":"a","Uri":"b"}"#),
        ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"a","Name":"b"}}"#),
        ("subscriptions/listen", r#"{"notifications":{"ResourceSubscriptions":["a"]}}"#),
    ] {
        let (code, _, detail) = error(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#));
        assert_eq!(code, INVALID_PARAMS, "{params}");
        assert!(detail.contains("could be taken for another"), "{detail}");
    }
    let arguments = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":1,"A":2}}}"#;
    assert!(request(arguments).params.arguments.is_some(), "what no rule names may be called as it likes");
    assert!(looks_like("to\u{212a}en", "token") && !looks_like("token", "token") && !looks_like("tokens", "token"));
}

#[test]
fn notifications_and_responses() {
    assert!(matches!(Message::parse(br#"{"jsonrpc":"2.0","method":"n","params":null}"#), Ok(Message::Notification(_))));
    let outcome = |members: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,{members}}}"#);
        match Message::parse(body.as_bytes()) {
            Ok(Message::Response(response)) => {
                Ok(response.outcome.map(|raw| raw.get().to_owned()).map_err(|raw| raw.get().to_owned()))
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.detail),
        }
    };
    let (ok, error) = (|text: &str| Ok(Ok(text.to_owned())), |text: &str| Ok(Err(text.to_owned())));
    assert_eq!(outcome(r#""result":{"a":1.0}"#), ok(r#"{"a":1.0}"#));
    assert_eq!(outcome(r#""result":null"#), ok("null"));
    assert_eq!(outcome(r#""result":{},"error":null"#), ok("{}"));
    assert_eq!(outcome(r#""error":{}"#), error("{}"));
    assert_eq!(outcome(r#""result":null,"error":{}"#), error("{}"));
    assert!(outcome(r#""result":{},"error":{}"#).is_err_and(|detail| detail.contains("a result and an error")));
    assert!(outcome(r#""error":null"#).is_err());
    assert_eq!(outcome(r#""result":{},"params":[1]"#), ok("{}"));
}

#[test]
fn debug_shows_no_values() {
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"x":"canary"}}}"#;
    assert!(!format!("{:?}", Message::parse(body)).contains("canary"));
}

proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::parse(&body);
    }

    #[test]
    fn json_like_bodies_do_not_panic(body in r#"[\[\]{}":,a-z0-9\\. -]{0,200}"#) {
        let _ = Message::parse(body.as_bytes());
    }

    #[test]
    fn texts_are_quoted_as_serde_quotes_them(text in "(?s).{0,40}") {
        prop_assert_eq!(quoted(&text), serde_json::to_string(&text).expect("a string"));
    }

    #[test]
    fn objects_print_and_parse_to_the_same(members in proptest::collection::btree_map("\\PC{0,8}", "[0-9]{1,3}", 0..6)) {
        let json = format!("{{{}}}", members.iter().map(|(k, v)| format!("{}:{}", quoted(k), v.trim_start_matches('0').parse::<u32>().unwrap_or(0))).collect::<Vec<_>>().join(","));
        let object: Object<'_> = serde_json::from_str(&json).expect("made to parse");
        prop_assert_eq!(object.to_json(), json);
    }
}
