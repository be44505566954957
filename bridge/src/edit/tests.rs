use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::message::Message;

#[test]
fn an_edit_of_nothing_changes_no_value() {
    for json in [
        "{}",
        r#"{"b":1e400,"a":123456789012345678901234567890.10,"s":"\u0061\/","d":{"x":1,"x":2}}"#,
        r#"{"_meta":{},"a":[ 1 ]}"#,
        r#"{"_meta":null}"#,
        r#"{"_meta":{"k":-0.0,"a/b":{"n": 1}},"z":"\ud800"}"#,
    ] {
        assert_eq!(Edit::parse(json).map(|edit| edit.to_json()).as_deref(), Some(json));
        let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{json}}}"#);
        if let Ok(Message::Request(request)) = Message::parse(message.as_bytes()) {
            // A message keeps its `_meta` apart, so it is written last.
            let parts = |json: &str| serde_json::from_str::<std::collections::BTreeMap<String, Box<RawValue>>>(json);
            let texts = |json: &str| parts(json).map(|parts| format!("{parts:?}")).expect("an object");
            assert_eq!(texts(&Edit::new(&request.params).to_json()), texts(json));
        }
    }
    for bad in ["", "[]", "1", "{", r#"{"a":1,"a":2}"#, r#"{"_meta":{"x":1,"\u0078":2}}"#] {
        assert!(Edit::parse(bad).is_none(), "{bad}");
    }
}

#[test]
fn members_and_meta_are_set_in_their_place() {
    let mut edit = Edit::parse(r#"{"a":1,"_meta":{"k":1},"z":2}"#).expect("an object");
    edit.set("z", "3").set("n\"", "4").meta_set("k", "5").meta_set("l", "6").remove("a").remove("b");
    assert_eq!(edit.to_json(), r#"{"_meta":{"k":5,"l":6},"z":3,"n\"":4}"#);
    edit.meta_remove("k").meta_remove("l");
    assert_eq!(edit.to_json(), r#"{"z":3,"n\"":4}"#);
    edit.meta_set("k", "7");
    assert_eq!(edit.to_json(), r#"{"_meta":{"k":7},"z":3,"n\"":4}"#);
    edit.set("_meta", "8").remove("n\"").remove("z");
    assert_eq!(edit.to_json(), r#"{"_meta":8}"#);
    edit.remove("_meta").meta_set("k", "9");
    assert_eq!(edit.to_json(), r#"{"_meta":{"k":9}}"#);
    let mut without = Edit::parse(r#"{"_meta":"x","a":null}"#).expect("an object");
    without.meta_remove("k").meta_set("k", "1").set_default("a", "2").set_default("a", "3");
    assert_eq!(without.to_json(), r#"{"_meta":{"k":1},"a":2}"#);
}

#[test]
fn a_client_cannot_say_who_it_is() {
    let json = r#"{"_meta":{"mcp-bridge\/identit\u0079":{"sub":"root"}}}"#;
    let edited = |identity| Edit::parse(json).expect("an object").identity(identity).to_json();
    assert_eq!(edited(None), "{}");
    assert_eq!(edited(Some(r#"{"sub":"a"}"#)), r#"{"_meta":{"mcp-bridge/identity":{"sub":"a"}}}"#);
}

fn edited(params: &str, edit: impl FnOnce(&mut Edit<'_>) -> String) -> String {
    let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#);
    match Message::parse(message.as_bytes()) {
        Ok(Message::Request(request)) => edit(&mut Edit::new(&request.params)),
        other => panic!("{params}: {other:?}"),
    }
}

const ENVELOPE: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"a"},"io.modelcontextprotocol/logLevel":"info""#;

#[test]
fn legacy_servers_get_no_envelope() {
    for (params, expected) in [
        (format!(r#"{{"_meta":{{{ENVELOPE}}}}}"#), "{}"),
        (
            format!(r#"{{"name":"t","_meta":{{"progressToken":1,{ENVELOPE},"x/y":1e400}},"arguments":{{"n":1.0}}}}"#),
            r#"{"name":"t","arguments":{"n":1.0},"_meta":{"progressToken":1,"x/y":1e400}}"#,
        ),
        (r#"{"inputResponses":{"a":{}},"cursor":null,"requestState":"s"}"#.to_owned(), r#"{"cursor":null}"#),
        ("{\"_meta\":{}}".to_owned(), "{\"_meta\":{}}"),
    ] {
        assert_eq!(edited(&params, |edit| edit.for_legacy().to_json()), expected, "{params}");
    }
}

#[test]
fn modern_servers_get_the_envelope_that_the_bridge_vouches_for() {
    let translated = |params: &str, client_info, log_level| {
        let envelope = Envelope { capabilities: r#"{"roots":{}}"#, client_info, log_level };
        edited(params, |edit| edit.for_modern(&envelope).to_json())
    };
    assert_eq!(
        translated(r#"{"a":1e400}"#, Some(r#"{"name":"c","version":"1"}"#), Some("debug")),
        r#"{"a":1e400,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"roots":{}},"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/logLevel":"debug"}}"#
    );
    assert_eq!(
        translated(&format!(r#"{{"_meta":{{"progressToken":"p",{ENVELOPE}}}}}"#), None, None),
        r#"{"_meta":{"progressToken":"p","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"roots":{}}}}"#
    );
}

#[test]
fn a_progress_token_is_replaced_in_its_place() {
    let json = r#"{"_meta":{"progressToken":1,"k":2},"name":"t"}"#;
    let edited = Edit::parse(json).expect("an object").progress_token("\"b\"").to_json();
    assert_eq!(edited, r#"{"_meta":{"progressToken":"b","k":2},"name":"t"}"#);
}

proptest! {
    #[test]
    fn no_text_panics(json in r#"[\[\]{}":,a-z0-9_\\. -]{0,120}"#) {
        if let Some(mut edit) = Edit::parse(&json) {
            edit.for_legacy().progress_token("1").identity(None).set("a", "1").remove("b");
            prop_assert!(Edit::parse(&edit.to_json()).is_some());
        }
    }

    #[test]
    fn what_is_written_reads_the_same(members in proptest::collection::btree_map("\\PC{0,8}", "(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?(e[0-9]{1,9})?", 0..6)) {
        let mut edit = Edit::default();
        for (key, number) in &members {
            edit.set(key.as_str(), number.as_str());
        }
        let json = edit.to_json();
        let again = Edit::parse(&json).expect("written to parse");
        prop_assert_eq!(again.to_json(), json.clone());
        for (key, number) in &members {
            prop_assert_eq!(again.get(key), Some(number.as_str()));
        }
    }
}
