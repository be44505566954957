use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

use super::*;

fn text(era: Era, name: &str, arguments: Given<'_>) -> Result<String, ErrorData> {
    Call::read(name, arguments).map(|call| call.answer(era, None))
}

fn call_in(era: Era, arguments: Option<&str>) -> Value {
    let text = text(era, TOOL_NAME, Given::Text(arguments)).expect("a result");
    serde_json::from_str(&text).expect("results are JSON")
}

fn call(arguments: &str) -> Value {
    call_in(Era::Legacy, Some(arguments))
}

fn answers(arguments: &str, text: &str) {
    assert_eq!(
        call(arguments),
        json!({ "content": [{ "type": "text", "text": text }], "isError": false }),
        "{arguments}"
    );
}

fn fails(arguments: &str, text: &str) {
    assert_eq!(
        call(arguments),
        json!({ "content": [{ "type": "text", "text": text }], "isError": true }),
        "{arguments}"
    );
}

#[test]
fn a_result_is_what_the_model_types_of_rmcp_write() {
    for era in [Era::Legacy, Era::Modern] {
        for (arguments, shown, is_error) in [
            (r#"{"operation":"add","a":0.1,"b":0.2}"#, "0.30000000000000004", false),
            (r#"{"operation":"multiply","a":1e308,"b":-10}"#, "-Infinity", false),
            (r#"{"operation":"divide","a":1,"b":0}"#, "Error: Division by zero", true),
            (
                r#"{"operation":"add","a":1,"b":2,"\"\\\u0001é":0}"#,
                "Error: \"\\\"\\\\\\u{1}é\" is not an argument (operation, a and b are)",
                true,
            ),
        ] {
            let content = vec![ContentBlock::text(shown)];
            let mut typed = if is_error { CallToolResult::error(content) } else { CallToolResult::success(content) };
            match era {
                Era::Legacy => typed.result_type = None,
                Era::Modern => typed.meta = Some(identity::RESULT_META.clone()),
            }
            let written = text(era, TOOL_NAME, Given::Text(Some(arguments)));
            assert_eq!(written, Ok(serde_json::to_string(&typed).expect("JSON")), "{era:?} {arguments}");
        }
    }
}

#[test]
fn an_object_that_was_read_already_is_the_same_call() {
    for members in [
        &[("operation", r#""add""#), ("a", "0.1"), ("b", "0.2")][..],
        &[("b", "0"), ("a", "1"), ("operation", r#""div\u0069de""#)],
        &[("operation", r#""add""#), ("a", "1"), ("b", "2"), ("a", "3")],
        &[("operation", "null"), ("a", r#""1""#), ("c", "[2]")],
        &[],
    ] {
        let written: Vec<String> = members.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
        let whole = format!("{{{}}}", written.join(","));
        let as_members = Given::Members(&mut members.iter().copied());
        assert_eq!(
            text(Era::Modern, TOOL_NAME, as_members),
            text(Era::Modern, TOOL_NAME, Given::Text(Some(&whole))),
            "{whole}"
        );
    }
}

#[test]
fn good_arguments_are_calculated() {
    answers(r#"{"operation":"add","a":5,"b":8}"#, "13");
    answers(r#"{"b":3,"a":2.5,"operation":"multiply"}"#, "7.5");
    answers(r#" {"operation":"\u0061dd","a":1e0,"b":-0} "#, "1");
    answers(r#"{"operation":"subtract","a":0,"b":0}"#, "0");
    answers(r#"{"operation":"add","a":123456789012345678901234567890,"b":0}"#, "1.2345678901234568e+29");
    answers(r#"{"operation":"add","a":1e-400,"b":0}"#, "0");
    answers(r#"{"operation":"multiply","a":1e308,"b":-10}"#, "-Infinity");
    // Not the nearest double if read by a parser that rounds twice.
    answers(r#"{"operation":"add","a":9007199254740993,"b":0}"#, "9007199254740992");
    answers(r#"{"operation":"add","a":8.41e+21,"b":0}"#, "8.41e+21");
}

#[test]
fn errors_that_a_model_can_put_right_are_results() {
    fails(r#"{"operation":"divide","a":1,"b":0}"#, "Error: Division by zero");
    fails(r#"{"operation":"divide","a":0,"b":-0.0}"#, "Error: Division by zero");
    fails(r#"{"operation":"divide","a":1,"b":1e-400}"#, "Error: Division by zero");
    fails(
        r#"{"operation":"power","a":1,"b":2}"#,
        r#"Error: operation "power" is unknown (one of add, subtract, multiply, divide)"#,
    );
    fails(
        r#"{"operation":null,"a":1,"b":2}"#,
        "Error: operation is null, not a string (one of add, subtract, multiply, divide)",
    );
    fails(
        r#"{"operation":"\ud800","a":1,"b":2}"#,
        "Error: operation \"\u{fffd}\u{fffd}\u{fffd}\" is unknown (one of add, subtract, multiply, divide)",
    );
    fails(
        "{}",
        "Error: operation is missing (one of add, subtract, multiply, divide); a is missing (a number); \
         b is missing (a number)",
    );
    fails(r#"{"operation":"add","a":"1","b":[2]}"#, "Error: a is a string, not a number; b is an array, not a number");
    fails(
        r#"{"operation":"add","a":true,"b":{}}"#,
        "Error: a is a boolean, not a number; b is an object, not a number",
    );
    fails(
        r#"{"operation":"add","a":1e400,"b":-1e309}"#,
        "Error: a is beyond the range of a double (at most about 1.8e308); \
         b is beyond the range of a double (at most about 1.8e308)",
    );
    fails(r#"{"operation":"add","a":1,"b":2,"a":3}"#, "Error: a is given more than once");
    fails(r#"{"operation":"add","a":1,"b":2,"\u0061":3}"#, "Error: a is given more than once");
    fails(r#"{"operation":"add","a":1,"b":2,"c\n":3}"#, r#"Error: "c\n" is not an argument (operation, a and b are)"#);
}

#[test]
fn an_error_text_stays_short_whatever_the_client_sends() {
    let long = format!(r#"{{"operation":"{}","a":1,"b":2}}"#, "x".repeat(100_000));
    let shown = format!("Error: operation \"{}…\" is unknown (one of add, subtract, multiply, divide)", "x".repeat(40));
    fails(&long, &shown);
    let many: Vec<String> = (0..1000).map(|index| format!(r#""x{index}":1"#)).collect();
    let text = call(&format!("{{{}}}", many.join(",")))["content"][0]["text"].to_string();
    assert!(text.contains("and 998 more") && text.len() < 400, "{text}");
}

#[test]
fn absent_arguments_are_an_empty_object() {
    assert_eq!(call_in(Era::Legacy, None), call("{}"));
}

#[test]
fn malformed_requests_are_protocol_errors() {
    let check = |name: &str, arguments: Option<&str>, message: &str| {
        let error = text(Era::Modern, name, Given::Text(arguments)).expect_err(message);
        assert_eq!((error.code.0, &*error.message), (-32602, message));
    };
    check("abacus", Some("{}"), "Unknown tool: abacus (the only tool is calculator)");
    check("Calculator", None, "Unknown tool: Calculator (the only tool is calculator)");
    check("a\n\u{1b}b", None, r"Unknown tool: a\n\u{1b}b (the only tool is calculator)");
    for arguments in ["[1]", "null", "3", "\"x\"", "true", ""] {
        check(TOOL_NAME, Some(arguments), "Invalid params: arguments must be an object with operation, a and b");
    }
}

#[test]
fn modern_results_say_that_they_are_complete_and_who_answers() {
    assert_eq!(
        call_in(Era::Modern, Some(r#"{"operation":"divide","a":1,"b":4}"#)),
        json!({
            "resultType": "complete",
            "content": [{ "type": "text", "text": "0.25" }],
            "isError": false,
            "_meta": { "io.modelcontextprotocol/serverInfo": {
                "name": "Calculator", "title": "Calculator", "version": env!("CARGO_PKG_VERSION"),
            } },
        })
    );
}

#[test]
fn a_call_that_calculates_needs_the_scope_of_its_operation() {
    let needed = |arguments: &str| Call::read(TOOL_NAME, Given::Text(Some(arguments))).expect("a call").needed_scope();
    for (operation, scope) in [("add", "op:add"), ("subtract", "op:sub"), ("multiply", "op:mult"), ("divide", "op:div")]
    {
        assert_eq!(needed(&format!(r#"{{"operation":"{operation}","a":1,"b":2}}"#)), Some(scope));
    }
    for nothing_runs in ["{}", r#"{"operation":"add","operation":"divide","a":1,"b":2}"#] {
        assert_eq!(needed(nothing_runs), None, "{nothing_runs}");
    }
}

#[test]
fn a_refusal_is_an_error_that_the_model_can_read() {
    let text = serde_json::from_str::<Value>(&refusal(Era::Legacy, "Run `login \"x\"`.")).expect("JSON");
    assert_eq!(text, json!({ "content": [{ "type": "text", "text": "Run `login \"x\"`." }], "isError": true }));
}

#[test]
fn initialize_agrees_to_every_legacy_version_and_offers_the_newest_otherwise() {
    for version in LEGACY_VERSIONS {
        assert_eq!(initialize(version).protocol_version.as_str(), version);
    }
    for other in [MODERN_VERSION, "2099-01-01", "", "1.0"] {
        assert_eq!(initialize(other).protocol_version.as_str(), LEGACY_VERSIONS[0], "{other}");
    }
}

#[test]
fn discovery_offers_modern_versions_only() {
    let versions: Vec<&str> = discover().supported_versions.iter().map(|version| version.as_str()).collect();
    assert_eq!(versions, [MODERN_VERSION]);
}

#[test]
fn only_modern_lists_have_cache_hints() {
    let legacy = serde_json::to_value(list_tools(Era::Legacy)).expect("lists serialize");
    let modern = serde_json::to_value(list_tools(Era::Modern)).expect("lists serialize");
    assert_eq!(legacy["tools"], modern["tools"]);
    assert_eq!(legacy, json!({ "tools": legacy["tools"] }));
    assert_eq!(modern["resultType"], "complete");
    assert_eq!(modern["cacheScope"], "public");
    assert!(modern["ttlMs"].is_u64());
}

#[test]
fn a_caller_is_shown_without_anything_else() {
    let caller = Caller { subject: Some("u1"), client_id: Some("c1"), email: None, scopes: &"op:add op:sub" };
    insta::assert_snapshot!(
        format!("{caller:?}"),
        @r#"Caller { subject: Some("u1"), client_id: Some("c1"), email: None, scopes: op:add op:sub }"#
    );
}
