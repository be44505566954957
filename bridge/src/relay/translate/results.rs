//! Results in the other era.

use std::borrow::Cow;

use super::{capabilities::is_implementation, tools};
use crate::{
    edit::{Edit, is_absent},
    era::SERVER_INFO_KEY,
};

/// A legacy server's result as a modern one: `resultType`, for lists and resources how long it may
/// be kept (not at all: a legacy server does not say, and may answer each caller differently), and
/// who answered. What the server has said itself stays.
///
/// `None` if it is not an object, or has a key twice.
pub fn complete_result(method: &str, result: &str, server_info: Option<&str>) -> Option<String> {
    let mut edit = Edit::parse(result)?;
    edit.set_default("resultType", r#""complete""#);
    if is_cacheable(method) && edit.get("resultType") == Some(r#""complete""#) {
        edit.set_default("ttlMs", "0").set_default("cacheScope", r#""private""#);
    }
    if let Some(info) = server_info.filter(|_| is_absent(edit.meta_get(SERVER_INFO_KEY))) {
        edit.meta_set(SERVER_INFO_KEY, info.to_owned());
    }
    Some(edit.to_json())
}

/// A modern server's result as a legacy one: without what [`complete_result`] adds, and without those
/// parts of tools for which legacy clients take the whole result for a broken one.
///
/// `None` if it is not an object, has a key twice, or is not complete: a legacy client would take
/// any kind of result for the final one.
pub fn plain_result(method: &str, result: &str) -> Option<String> {
    let mut edit = Edit::parse(result)?;
    if let Some(kind) = edit.get("resultType").filter(|kind| *kind != "null" && *kind != r#""complete""#) {
        // Rare enough to be parsed only where the spelling is another.
        let kind: Cow<'_, str> = serde_json::from_str(kind).ok()?;
        if kind != "complete" {
            return None;
        }
    }
    edit.remove("resultType").meta_remove(SERVER_INFO_KEY);
    if is_cacheable(method) {
        edit.remove("ttlMs").remove("cacheScope");
    }
    match method {
        "tools/list" => tools::legacy_list(&mut edit),
        "tools/call" => tools::legacy_call(&mut edit),
        _ => {}
    }
    Some(edit.to_json())
}

/// Whether results of `method` say for how long they may be kept ("Caching").
fn is_cacheable(method: &str) -> bool {
    matches!(
        method,
        "server/discover"
            | "tools/list"
            | "prompts/list"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
    )
}

/// Who a legacy server is, from its answer to `initialize`: for [`complete_result`]. Without icons,
/// because it is in every answer.
pub fn server_info(initialize_result: &str) -> Option<String> {
    let result = Edit::parse(initialize_result)?;
    let info = result.get("serverInfo").filter(|info| is_implementation(info))?;
    Some(Edit::parse(info)?.remove("icons").remove("description").to_json())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INFO: &str = r#"{"name":"s","version":"1"}"#;

    #[test]
    fn legacy_results_become_complete() {
        let meta = r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}"#;
        for (method, result, expected) in [
            (
                "tools/call",
                r#"{"content":[ ],"n":1e400}"#,
                format!(r#"{{"content":[ ],"n":1e400,"resultType":"complete",{meta}}}"#),
            ),
            (
                "tools/list",
                r#"{"tools":[]}"#,
                format!(r#"{{"tools":[],"resultType":"complete","ttlMs":0,"cacheScope":"private",{meta}}}"#),
            ),
            (
                "resources/read",
                r#"{"ttlMs":5,"cacheScope":null,"contents":[]}"#,
                format!(r#"{{"ttlMs":5,"cacheScope":"private","contents":[],"resultType":"complete",{meta}}}"#),
            ),
            (
                "resources/read",
                r#"{"resultType":"input_required","inputRequests":{}}"#,
                format!(r#"{{"resultType":"input_required","inputRequests":{{}},{meta}}}"#),
            ),
            (
                "prompts/get",
                r#"{"_meta":{"x":1,"io.modelcontextprotocol/serverInfo":{"name":"own"}}}"#,
                r#"{"_meta":{"x":1,"io.modelcontextprotocol/serverInfo":{"name":"own"}},"resultType":"complete"}"#
                    .to_owned(),
            ),
        ] {
            assert_eq!(complete_result(method, result, Some(INFO)), Some(expected), "{method} {result}");
        }
        assert_eq!(complete_result("completion/complete", "{}", None).as_deref(), Some(r#"{"resultType":"complete"}"#));
        for bad in ["null", "[]", "\"{}\"", r#"{"a":1,"a":1}"#] {
            assert_eq!(complete_result("tools/call", bad, None), None, "{bad}");
        }
    }

    #[test]
    fn modern_results_become_plain() {
        for (method, result, expected) in [
            (
                "tools/call",
                r#"{"resultType":"complete","content":[],"ttlMs":5,"_meta":{"io.modelcontextprotocol/serverInfo":{}}}"#,
                Some(r#"{"content":[],"ttlMs":5}"#),
            ),
            (
                "prompts/list",
                r#"{"prompts":[],"ttlMs":5,"cacheScope":"public","_meta":{"x":1}}"#,
                Some(r#"{"prompts":[],"_meta":{"x":1}}"#),
            ),
            ("tools/call", r#"{"resultType":"c\u006fmplete","n":1e400}"#, Some(r#"{"n":1e400}"#)),
            ("tools/call", r#"{"resultType":"input_required"}"#, None),
            ("tools/call", r#"{"resultType":"task"}"#, None),
            ("tools/call", r#"{"resultType":1}"#, None),
            ("tools/call", "1", None),
        ] {
            assert_eq!(plain_result(method, result).as_deref(), expected, "{method} {result}");
        }
    }

    #[test]
    fn servers_are_named_briefly() {
        let of = |info: &str| server_info(&format!(r#"{{"serverInfo":{info}}}"#));
        assert_eq!(
            of(r#"{"name":"s","version":"1","icons":[1],"title":"S"}"#).as_deref(),
            Some(r#"{"name":"s","version":"1","title":"S"}"#)
        );
        assert_eq!(of(r#"{"name":"s"}"#), None);
    }

    proptest! {
        #[test]
        fn there_and_back_is_where_it_was(number in "(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?(e[0-9]{1,9})?", method in "(tools/(list|call)|resources/read|vendor/own)") {
            let result = format!(r#"{{"content":{{"n":{number}}},"m":{number}}}"#);
            let modern = complete_result(&method, &result, Some(INFO)).expect("an object");
            prop_assert_eq!(plain_result(&method, &modern), Some(result));
        }

        #[test]
        fn no_result_panics(json in r#"[\[\]{}":,a-z0-9\\. -]{0,120}"#, method in "(tools/(list|call)|resources/read)") {
            let _ = (complete_result(&method, &json, Some(INFO)), plain_result(&method, &json), server_info(&json));
        }
    }
}
