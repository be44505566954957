use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::era::{HEADER_MISMATCH, Mirror};

/// A list of one tool, `t`, with these properties.
fn list(properties: &Json) -> String {
    json!({ "tools": [{ "name": "t", "inputSchema": { "type": "object", "properties": properties } }] }).to_string()
}

fn checked(headers: &ToolHeaders, arguments: &str, sent: &[(&str, &str)]) -> Result<(), EnvelopeError> {
    let arguments: Object<'_> = serde_json::from_str(arguments).expect("an object");
    headers.check("t", Some(&arguments), |name| {
        Mirror::value(
            sent.iter().filter(|(sent, _)| sent.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes()),
        )
    })
}

fn from_tools(result: &str) -> ToolHeaders {
    let mut headers = ToolHeaders::default();
    headers.add_page(result);
    headers
}

fn everything() -> ToolHeaders {
    from_tools(&list(&json!({
        "region": { "type": "string", "x-mcp-header": "Region" },
        "count": { "type": "integer", "x-mcp-header": "Count" },
        "flag": { "type": "boolean", "x-mcp-header": "Flag" },
        "options": { "type": "object", "properties": { "limit": { "type": "integer", "x-mcp-header": "Limit" } } },
        "plain": { "type": "string" },
    })))
}

#[test]
fn what_is_written_for_a_body_is_what_the_check_accepts() {
    let headers = everything();
    for (arguments, expected) in [
        ("{}", &[][..]),
        (r#"{"region":null,"plain":"x","options":null,"flag":{},"count":[1]}"#, &[]),
        (r#"{"region":"us west 1"}"#, &[("Mcp-Param-Region", "us west 1")]),
        (r#"{"region":""}"#, &[("Mcp-Param-Region", "")]),
        (r#"{"region":" padded "}"#, &[("Mcp-Param-Region", "=?base64?IHBhZGRlZCA=?=")]),
        (r#"{"region":"a\tb"}"#, &[("Mcp-Param-Region", "=?base64?YQli?=")]),
        (r#"{"region":"Hello, \u4e16\u754c"}"#, &[("Mcp-Param-Region", "=?base64?SGVsbG8sIOS4lueVjA==?=")]),
        (r#"{"region":"=?base64?literal?="}"#, &[("Mcp-Param-Region", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=")]),
        (r#"{"count":42}"#, &[("Mcp-Param-Count", "42")]),
        (r#"{"count":-7.0}"#, &[("Mcp-Param-Count", "-7")]),
        (r#"{"count":12e2}"#, &[("Mcp-Param-Count", "1200")]),
        (r#"{"count":-0}"#, &[("Mcp-Param-Count", "0")]),
        (r#"{"count":1.5}"#, &[("Mcp-Param-Count", "1.5")]),
        (r#"{"count":9007199254740991}"#, &[("Mcp-Param-Count", "9007199254740991")]),
        (r#"{"flag":false,"options":{"limit":0}}"#, &[("Mcp-Param-Flag", "false"), ("Mcp-Param-Limit", "0")]),
    ] {
        let object: Object<'_> = serde_json::from_str(arguments).expect("an object");
        let mut written = headers.mirror("t", Some(&object));
        written.sort();
        let written: Vec<(&str, &str)> = written.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(written, expected, "{arguments}");
        assert_eq!(checked(&headers, arguments, &written), Ok(()), "{arguments}");
        assert_eq!(headers.mirror("other", Some(&object)), []);
    }
    // What is beyond a header has none.
    let object: Object<'_> = serde_json::from_str(r#"{"count":9007199254740993}"#).expect("an object");
    assert_eq!(headers.mirror("t", Some(&object)), []);
}

#[test]
fn a_header_says_what_the_body_says() {
    let headers = everything();
    for (arguments, sent) in [
        ("{}", &[][..]),
        (r#"{"region":null,"plain":"x","options":null}"#, &[]),
        (r#"{"options":{}}"#, &[("mcp-param-unknown", "\u{7f}")]),
        (r#"{"region":"us-west1"}"#, &[("Mcp-Param-Region", "us-west1")]),
        (r#"{"region":"us-west1"}"#, &[("MCP-PARAM-REGION", " us-west1\t")]),
        (r#"{"region":"Hello, \u4e16\u754c"}"#, &[("Mcp-Param-Region", "=?base64?SGVsbG8sIOS4lueVjA==?=")]),
        (r#"{"region":" padded "}"#, &[("Mcp-Param-Region", "=?base64?IHBhZGRlZCA=?=")]),
        (r#"{"region":"line1\nline2"}"#, &[("Mcp-Param-Region", "=?base64?bGluZTEKbGluZTI=?=")]),
        (r#"{"region":"=?base64?literal?="}"#, &[("Mcp-Param-Region", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=")]),
        (r#"{"region":""}"#, &[("Mcp-Param-Region", "")]),
        (r#"{"region":""}"#, &[("Mcp-Param-Region", "=?base64??=")]),
        (r#"{"count":42}"#, &[("Mcp-Param-Count", "42")]),
        (r#"{"count":42.0}"#, &[("Mcp-Param-Count", "42")]),
        (r#"{"count":-7}"#, &[("Mcp-Param-Count", "-7.0")]),
        (r#"{"count":9007199254740991}"#, &[("Mcp-Param-Count", "9007199254740991")]),
        (r#"{"count":"42"}"#, &[("Mcp-Param-Count", "42")]),
        (r#"{"flag":true}"#, &[("Mcp-Param-Flag", "true")]),
        (r#"{"flag":false,"options":{"limit":0}}"#, &[("Mcp-Param-Flag", "false"), ("Mcp-Param-Limit", "0")]),
        // What is no primitive value has no header; the tool refuses the value.
        (r#"{"region":["a"],"options":"x"}"#, &[]),
    ] {
        assert_eq!(checked(&headers, arguments, sent), Ok(()), "{arguments} {sent:?}");
    }
    assert_eq!(headers.check("t", None, |_| None), Ok(()));
    assert_eq!(headers.check("other", None, |_| Some(Err(Garbled))), Ok(()));
}

#[test]
fn a_proxy_and_the_tool_cannot_be_told_different_things() {
    let headers = everything();
    for (arguments, sent) in [
        (r#"{"region":"us-west1"}"#, &[][..]),
        (r#"{"region":"us-west1"}"#, &[("Mcp-Param-Region", "us-west2")]),
        (r#"{"region":"us-west1"}"#, &[("Mcp-Param-Region", "US-WEST1")]),
        (r#"{"region":"us-west1"}"#, &[("Mcp-Param-Region", "us-west1"), ("mcp-param-region", "us-west1")]),
        (r#"{"region":"a"}"#, &[("Mcp-Param-Region", "a\u{7f}")]),
        (r#"{"region":"é"}"#, &[("Mcp-Param-Region", "é")]),
        (r#"{"region":" padded "}"#, &[("Mcp-Param-Region", " padded ")]),
        (r#"{"region":"Hello"}"#, &[("Mcp-Param-Region", "=?base64?SGVsbG8?=")]),
        (r#"{"region":"Hello"}"#, &[("Mcp-Param-Region", "=?base64?SGVs!!!bG8=?=")]),
        (r#"{"region":"Hello"}"#, &[("Mcp-Param-Region", "=?BASE64?SGVsbG8=?=")]),
        (r#"{"region":"=?base64?literal?="}"#, &[("Mcp-Param-Region", "=?base64?literal?=")]),
        ("{}", &[("Mcp-Param-Region", "us-west1")]),
        (r#"{"region":null}"#, &[("Mcp-Param-Region", "null")]),
        (r#"{"region":{}}"#, &[("Mcp-Param-Region", "{}")]),
        (r#"{"count":42}"#, &[("Mcp-Param-Count", "43")]),
        (r#"{"count":42}"#, &[("Mcp-Param-Count", "+42")]),
        (r#"{"count":42}"#, &[("Mcp-Param-Count", "0x2A")]),
        (r#"{"count":9007199254740993}"#, &[("Mcp-Param-Count", "9007199254740993")]),
        (r#"{"count":9007199254740993}"#, &[]),
        (r#"{"count":1e99999999999999999999}"#, &[]),
        (r#"{"flag":true}"#, &[("Mcp-Param-Flag", "True")]),
        (r#"{"flag":"true"}"#, &[]),
        (r#"{"options":{"limit":5}}"#, &[]),
        (r#"{"options":{"limit":5,"limit":6}}"#, &[("Mcp-Param-Limit", "5")]),
    ] {
        let found = checked(&headers, arguments, sent).expect_err(arguments);
        assert_eq!(found.code(), HEADER_MISMATCH, "{arguments} {sent:?}");
    }
}

#[test]
fn a_tool_that_loses_its_annotation_needs_no_header_any_more() {
    let annotated = list(&json!({ "a": { "type": "string", "x-mcp-header": "A" } }));
    for next in [list(&json!({ "a": { "type": "string" } })), r#"{"tools":[{"name":"t"}]}"#.to_owned()] {
        let mut headers = from_tools(&annotated);
        assert!(!headers.is_empty());
        assert_eq!((headers.add_page(&next), headers.is_empty()), (vec![], true), "{next}");
    }
}

#[test]
fn invalid_annotations_make_the_tool_invalid() {
    let string = |name: &str| json!({ "type": "string", "x-mcp-header": name });
    let below = |keyword: &str, schema: Json| json!({ "a": { "type": "object", keyword: schema } });
    for properties in [
        json!({ "a": string("") }),
        json!({ "a": string("two words") }),
        json!({ "a": string("a\r\nb") }),
        json!({ "a": string("ä") }),
        json!({ "a": { "type": "string", "x-mcp-header": 1 } }),
        json!({ "a": string("Same"), "b": string("sAME") }),
        json!({ "a": string("Same"), "b": { "type": "object", "properties": { "c": string("same") } } }),
        json!({ "a": { "type": "number", "x-mcp-header": "A" } }),
        json!({ "a": { "type": "object", "x-mcp-header": "A" } }),
        json!({ "a": { "type": ["string", "null"], "x-mcp-header": "A" } }),
        json!({ "a": { "x-mcp-header": "A" } }),
        below("items", string("A")),
        below("prefixItems", json!([string("A")])),
        below("anyOf", json!([{ "properties": { "b": string("A") } }])),
        below("if", json!({ "properties": { "b": string("A") } })),
        below("not", string("A")),
        below("additionalProperties", string("A")),
        below("patternProperties", json!({ "x": string("A") })),
        below("$defs", json!({ "x": string("A") })),
    ] {
        let mut headers = ToolHeaders::default();
        let invalid = headers.add_page(&list(&properties));
        assert_eq!((invalid.len(), headers.is_empty()), (1, true), "{properties} {invalid:?}");
        assert_eq!(invalid[0].name, "t");
    }
    let root = r#"{"tools":[{"name":"t","inputSchema":{"x-mcp-header":"A"}}]}"#;
    assert_eq!(ToolHeaders::default().add_page(root).len(), 1);
}

#[test]
fn what_only_looks_like_an_annotation_is_none() {
    for properties in [
        json!({ "x-mcp-header": { "type": "string" } }),
        json!({ "a": { "type": "object", "default": { "x-mcp-header": "A" }, "enum": [{ "x-mcp-header": "A" }] } }),
        json!({ "a": { "type": "object", "$defs": { "x-mcp-header": { "type": "string" } } } }),
    ] {
        let mut headers = ToolHeaders::default();
        assert_eq!(headers.add_page(&list(&properties)), [], "{properties}");
        assert!(headers.is_empty());
    }
}

#[test]
fn pages_add_up_and_a_tool_is_what_it_was_last() {
    let mut headers = everything();
    headers.add_page(r#"{"tools":[1,{"inputSchema":{}},{"name":"u","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}]}"#);
    assert!(checked(&headers, r#"{"count":1}"#, &[]).is_err());
    headers.add_page(&list(&json!({ "count": { "type": "integer" } })));
    assert_eq!(checked(&headers, r#"{"count":1}"#, &[]), Ok(()));
    assert!(!headers.is_empty());
    for nothing in ["", "[]", "{}", r#"{"tools":1}"#] {
        assert!(from_tools(nothing).is_empty());
    }
    let deep = format!(
        r#"{{"tools":[{{"name":"t","inputSchema":{{"x":{}"x-mcp-header"{}}}}}]}}"#,
        "[".repeat(9999),
        "]".repeat(9999)
    );
    assert_eq!(ToolHeaders::default().add_page(&deep).len(), 1);
}

proptest! {
    #[test]
    fn every_text_can_be_mirrored(value in any::<String>()) {
        let arguments = json!({ "region": value }).to_string();
        let encoded = format!("=?base64?{}?=", STANDARD.encode(&value));
        prop_assert_eq!(checked(&everything(), &arguments, &[("Mcp-Param-Region", &encoded)]), Ok(()));
    }

    #[test]
    fn no_header_passes_for_another_value(value in "[ -~]{0,12}", header in "[ -~]{0,12}") {
        let arguments = json!({ "region": value }).to_string();
        let passes = checked(&everything(), &arguments, &[("Mcp-Param-Region", &header)]).is_ok();
        let literal = !(header.trim().starts_with("=?base64?") && header.trim().ends_with("?="));
        prop_assert!(!literal || passes == (header.trim() == value));
    }

    #[test]
    fn no_list_panics(json in r#"[\[\]{}":,a-z0-9\\. -]{0,120}"#) {
        from_tools(&json);
        from_tools(&format!(r#"{{"tools":[{{"name":"t","inputSchema":{{"x-mcp-header":{json}}}}}]}}"#));
    }
}
