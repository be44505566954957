//! What clients and servers can do, as each era says it; and `initialize` and `server/discover`,
//! which exist to say it.

use std::borrow::Cow;

use mcp_calculator::server::{LEGACY_VERSIONS, MODERN_VERSION};

use super::OURSELVES;
use crate::{
    edit::{Edit, is_absent},
    era::SERVER_INFO_KEY,
    message::{Object, quoted, text},
};

/// The parameters of the `initialize` that a legacy server gets on behalf of a modern client.
///
/// `client_info` is the client's own JSON object, replaced with ours where it lacks what a legacy
/// server requires of it.
pub fn initialize_params(capabilities: &str, client_info: Option<&str>) -> String {
    let info = client_info.filter(|info| is_implementation(info)).unwrap_or(OURSELVES);
    let version = LEGACY_VERSIONS[0];
    let capabilities = client_capabilities(capabilities);
    format!(r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{info}}}"#)
}

/// Names what a legacy server sees of a modern client's capabilities: alike for two clients if, and
/// only if, one server initialised for the first is initialised for the second.
pub fn profile(capabilities: &str) -> String {
    canonical(&client_capabilities(capabilities))
}

/// A client's capabilities as a client of the other era would declare them, whichever that is.
///
/// Changes of roots are not announced, because a modern client cannot. Tasks are not carried: they
/// are a capability in one era and an extension with other methods in the other. Other extensions
/// are: MCP Apps, for one, are declared under `extensions` in both eras.
pub fn client_capabilities(capabilities: &str) -> String {
    let mut edit = Edit::parse(capabilities).unwrap_or_default();
    if edit.get("roots").is_some_and(|roots| roots.starts_with('{')) {
        edit.set("roots", "{}");
    }
    without_tasks(&mut edit);
    edit.to_json()
}

/// The answer to `server/discover` from what a legacy server said to `initialize`. `None` if that is
/// not an object with capabilities.
pub fn discover_result(initialize_result: &str) -> Option<String> {
    let mut edit = Edit::parse(initialize_result)?;
    let capabilities = server_capabilities(&edit)?;
    if let Some(info) = edit.get("serverInfo").filter(|info| is_implementation(info)).map(str::to_owned) {
        edit.meta_set(SERVER_INFO_KEY, info);
    }
    edit.remove("protocolVersion").remove("serverInfo");
    edit.set("resultType", quoted("complete"))
        .set("supportedVersions", format!("[{}]", quoted(MODERN_VERSION)))
        .set("capabilities", capabilities)
        .set("ttlMs", DISCOVER_TTL_MS)
        .set("cacheScope", quoted("private"));
    Some(edit.to_json())
}

/// The answer to `initialize` from what a modern server said to `server/discover`. `None` if that is
/// not an object with capabilities.
///
/// A legacy version that we know is agreed to; to any other the newest is offered. `logging` and
/// `resources.subscribe` stay as the server declares them: their requests become log levels in
/// `_meta` and subscriptions.
pub fn initialize_result(discover_result: &str, requested_version: &str) -> Option<String> {
    let mut edit = Edit::parse(discover_result)?;
    let capabilities = server_capabilities(&edit)?;
    let info = edit.meta_get(SERVER_INFO_KEY).filter(|info| is_implementation(info)).unwrap_or(OURSELVES).to_owned();
    let version = LEGACY_VERSIONS.into_iter().find(|version| *version == requested_version);
    for key in ["resultType", "supportedVersions", "ttlMs", "cacheScope"] {
        edit.remove(key);
    }
    edit.meta_remove(SERVER_INFO_KEY)
        .set("protocolVersion", quoted(version.unwrap_or(LEGACY_VERSIONS[0])))
        .set("capabilities", capabilities)
        .set("serverInfo", info);
    Some(edit.to_json())
}

/// A server's capabilities without tasks, which do not cross eras.
fn server_capabilities(result: &Edit<'_>) -> Option<String> {
    let mut edit = Edit::parse(result.get("capabilities")?)?;
    without_tasks(&mut edit);
    Some(edit.to_json())
}

fn without_tasks(capabilities: &mut Edit<'_>) {
    capabilities.remove("tasks");
    let Some(extensions) = capabilities.get("extensions").map(str::to_owned) else {
        return;
    };
    if let Some(mut edit) = Edit::parse(&extensions)
        && edit.get(TASKS_EXTENSION).is_some()
    {
        match edit.remove(TASKS_EXTENSION).to_json() {
            empty if empty == "{}" => capabilities.remove("extensions"),
            rest => capabilities.set("extensions", rest),
        };
    }
}

/// Whether a peer accepts `json` as `Implementation`, which needs a name and a version in both eras.
pub(super) fn is_implementation(json: &str) -> bool {
    let Some(edit) = Edit::parse(json) else {
        return false;
    };
    ["name", "version"].iter().all(|key| edit.get(key).is_some_and(|value| value.starts_with('"')))
}

/// Whether the member `path` of a JSON object is there, and neither `null` nor `false`.
pub(super) fn declares(capabilities: &str, path: &[&str]) -> bool {
    let [key, rest @ ..] = path else {
        return !is_absent(Some(capabilities)) && capabilities != "false";
    };
    Edit::parse(capabilities).is_some_and(|edit| edit.get(key).is_some_and(|value| declares(value, rest)))
}

/// `json` without white space and with sorted keys; numbers keep their spelling.
///
/// What is nested more than [`DEEPEST`] levels stays as it was written: two spellings of it differ.
pub(super) fn canonical(json: &str) -> String {
    let mut written = String::with_capacity(json.len());
    write_canonical(json.trim_ascii(), DEEPEST, &mut written);
    written
}

fn write_canonical(json: &str, depth: usize, to: &mut String) {
    type Raw = serde_json::value::RawValue;
    let depth = depth.checked_sub(1);
    match (json.as_bytes().first(), depth) {
        (Some(b'{'), Some(depth)) if let Ok(object) = serde_json::from_str::<Object<'_>>(json) => {
            let mut members: Vec<_> = object.into_iter().collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            to.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                to.push_str(if index > 0 { "," } else { "" });
                to.extend([&quoted(&key), ":"]);
                write_canonical(value.get(), depth, to);
            }
            to.push('}');
        }
        (Some(b'['), Some(depth)) if let Ok(items) = serde_json::from_str::<Vec<&Raw>>(json) => {
            to.push('[');
            for (index, item) in items.into_iter().enumerate() {
                to.push_str(if index > 0 { "," } else { "" });
                write_canonical(item.get(), depth, to);
            }
            to.push(']');
        }
        (Some(b'"'), _) => {
            let spelled = serde_json::from_str::<&Raw>(json).ok().and_then(text).map(|text| quoted(&text));
            to.push_str(&spelled.map_or(Cow::Borrowed(json), Cow::Owned));
        }
        _ => to.push_str(json),
    }
}

/// The tasks extension of the modern era.
const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";
/// Each level reads its contents again, so the depth bounds the cost; real arguments are flatter.
const DEEPEST: usize = 8;
// A command's capabilities change when somebody deploys another: five minutes late is soon enough.
const DISCOVER_TTL_MS: &str = "300000";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_legacy_server_sees_a_client_capabilities() {
        let info = r#"{"name":"app","version":"1","title":"App"}"#;
        let capabilities = r#"{"sampling":{"tools":{}},"roots":{"listChanged":true},"tasks":{"list":{}},"experimental":{"x":{"n":1e400}},"elicitation":{"form":{},"url":{}},"extensions":{"io.modelcontextprotocol/tasks":{},"io.modelcontextprotocol/ui":{}}}"#;
        assert_eq!(
            initialize_params(capabilities, Some(info)),
            r#"{"protocolVersion":"2025-11-25","capabilities":{"sampling":{"tools":{}},"roots":{},"experimental":{"x":{"n":1e400}},"elicitation":{"form":{},"url":{}},"extensions":{"io.modelcontextprotocol/ui":{}}},"clientInfo":{"name":"app","version":"1","title":"App"}}"#
        );
        for info in [None, Some("null"), Some(r#"{"name":"app"}"#), Some(r#"{"name":1,"version":"2"}"#)] {
            let params = initialize_params("{}", info);
            assert!(params.contains(r#""clientInfo":{"name":"mcp-bridge","version":""#), "{params}");
        }
        assert!(initialize_params("[]", None).contains(r#""capabilities":{},"#));
    }

    #[test]
    fn clients_that_look_alike_share_a_profile() {
        let same = [
            r#"{"roots":{},"elicitation":{"url":{},"form":{}}}"#,
            r#"{ "elicitation" : {"form": { },"url":{}}, "roots":{"listChanged":true},"tasks":{}}"#,
            r#"{"elicitation":{"form":{},"url":{}},"roots":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#,
        ];
        for capabilities in same {
            assert_eq!(profile(capabilities), r#"{"elicitation":{"form":{},"url":{}},"roots":{}}"#);
        }
        assert_ne!(profile(r#"{"elicitation":{}}"#), profile(same[0]));
        assert_ne!(profile(r#"{"experimental":{"x":1}}"#), profile(r#"{"experimental":{"x":1.0}}"#));
    }

    #[test]
    fn initialize_becomes_discover() {
        let result = r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{},"tasks":{"list":{}}},"serverInfo":{"name":"s","version":"1"},"instructions":"do","x":1e400}"#;
        assert_eq!(
            discover_result(result).as_deref(),
            Some(
                r#"{"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{}},"instructions":"do","x":1e400,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}},"resultType":"complete","supportedVersions":["2026-07-28"],"ttlMs":300000,"cacheScope":"private"}"#
            )
        );
        for bad in ["1", "{}", r#"{"capabilities":1}"#] {
            assert_eq!(discover_result(bad), None, "{bad}");
        }
    }

    #[test]
    fn discover_becomes_initialize() {
        let result = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"logging":{},"resources":{"subscribe":true},"extensions":{"io.modelcontextprotocol/tasks":{}}},"instructions":"do","ttlMs":1,"cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}"#;
        let expected = |version| {
            format!(
                r#"{{"capabilities":{{"logging":{{}},"resources":{{"subscribe":true}}}},"instructions":"do","protocolVersion":"{version}","serverInfo":{{"name":"s","version":"1"}}}}"#
            )
        };
        for (requested, agreed) in [
            ("2025-03-26", "2025-03-26"),
            ("2025-11-25", "2025-11-25"),
            ("2026-07-28", "2025-11-25"),
            ("", "2025-11-25"),
        ] {
            assert_eq!(initialize_result(result, requested), Some(expected(agreed)));
        }
        let nameless = initialize_result(r#"{"capabilities":{}}"#, "2025-11-25").expect("an object");
        assert!(nameless.contains(r#""serverInfo":{"name":"mcp-bridge""#), "{nameless}");
        assert_eq!(initialize_result("[]", "2025-11-25"), None);
    }

    #[test]
    fn canonical_text() {
        for (json, expected) in [
            (" { \"b\" : [ 1e400 , -0.0 ] , \"a\":\"\\u0062\\/\" } ", r#"{"a":"b/","b":[1e400,-0.0]}"#),
            (r#"{"x":1,"x": 2}"#, r#"{"x":1,"x": 2}"#),
            ("\"\\ud800\"", "\"\\ud800\""),
        ] {
            assert_eq!(canonical(json), expected);
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(canonical(&deep), deep);
    }

    proptest! {
        #[test]
        fn no_capabilities_panic(json in r#"[\[\]{}":,a-z0-9\\. -]{0,120}"#) {
            let canon = canonical(&json);
            if serde_json::from_str::<serde_json::Value>(&json).is_ok() {
                prop_assert_eq!(canonical(&canon), canon);
            }
            let params = initialize_params(&json, Some(&json));
            prop_assert!(Edit::parse(&params).is_some());
            let _ = (profile(&json), discover_result(&json), initialize_result(&json, &json));
        }
    }
}
