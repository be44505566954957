//! Leaves out of a list what its reader cannot use. Pure.

use serde_json::value::RawValue;

use crate::{
    backend::Answer,
    message::{INTERNAL_ERROR, Message, Object, Response, quoted, text},
};

/// An answer to `tools/list` without the tools whose name `keep` refuses; an error stays as it is,
/// and what cannot be read becomes one.
pub fn answer(answer: Answer, keep: impl Fn(&str) -> bool) -> Answer {
    if answer.error.is_some() {
        return answer;
    }
    let unreadable =
        |id| Answer::error(id, INTERNAL_ERROR, "Internal error: the server's list of tools cannot be read", None);
    match Message::parse(&answer.message) {
        Ok(Message::Response(Response { id, outcome: Ok(result) })) => match tools(result.get(), keep) {
            Some(result) => Answer::result(id.as_json(), &result),
            None => unreadable(id.as_json()),
        },
        _ => unreadable("null"),
    }
}

/// `result`, the result of `tools/list` as a JSON object, without the tools whose name `keep` refuses.
///
/// All else stays as it is written, but that a `cacheScope` becomes `private`: the list is one
/// caller's now. `None` if it is not an object with a list of named `tools`, or has a key twice; what
/// cannot be read cannot be filtered.
pub fn tools(result: &str, keep: impl Fn(&str) -> bool) -> Option<String> {
    let members: Object<'_> = serde_json::from_str(result).ok()?;
    let list: Vec<&RawValue> = serde_json::from_str(members.get("tools")?.get()).ok()?;
    let mut kept = Vec::with_capacity(list.len());
    for raw in list {
        // A repeated key is an error here too, so nobody can read another name than this one.
        let tool: Object<'_> = serde_json::from_str(raw.get()).ok()?;
        if keep(&text(tool.get("name")?)?) {
            kept.push(raw.get());
        }
    }
    let mut written = String::with_capacity(result.len());
    for (key, value) in members.iter() {
        written.push(if written.is_empty() { '{' } else { ',' });
        written.push_str(&quoted(key));
        written.push(':');
        match key {
            "tools" => {
                written.push('[');
                written.push_str(&kept.join(","));
                written.push(']');
            }
            "cacheScope" => written.push_str("\"private\""),
            _ => written.push_str(value.get()),
        }
    }
    written.push('}');
    Some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONLY_A: fn(&str) -> bool = |name| name == "a";

    #[test]
    fn answers_are_filtered_and_what_cannot_be_read_is_not_shown() {
        let filtered = |outcome: &Answer| answer(outcome.clone(), ONLY_A).message;
        let list = Answer::result("\"7\"", r#"{"tools":[{"name":"a"},{"name":"b"}]}"#);
        assert_eq!(filtered(&list), r#"{"jsonrpc":"2.0","id":"7","result":{"tools":[{"name":"a"}]}}"#);
        let error = Answer::error("7", -32601, "no", None);
        assert_eq!(filtered(&error), error.message);
        let strange = filtered(&Answer::result("7", r#"{"tools":[{"name":"b","name":"a"}]}"#));
        assert!(strange.starts_with(br#"{"jsonrpc":"2.0","id":7,"error""#));
    }

    #[test]
    fn tools_that_are_refused_are_left_out_and_all_else_stays() {
        for (result, expected) in [
            (r#"{"tools":[]}"#, r#"{"tools":[]}"#),
            (r#"{"tools":[{"name":"b"}]}"#, r#"{"tools":[]}"#),
            (
                "{ \"x\": 1e400, \"tools\" : [ {\"name\":\"b\"}, { \"n\":18446744073709551616 , \"name\":\"\\u0061\"}],\"nextCursor\":\"c\"}",
                "{\"x\":1e400,\"tools\":[{ \"n\":18446744073709551616 , \"name\":\"\\u0061\"}],\"nextCursor\":\"c\"}",
            ),
            (
                r#"{"resultType":"complete","cacheScope":"public","tools":[{"name":"a"},{"name":"a"}],"ttlMs":5}"#,
                r#"{"resultType":"complete","cacheScope":"private","tools":[{"name":"a"},{"name":"a"}],"ttlMs":5}"#,
            ),
        ] {
            assert_eq!(tools(result, ONLY_A).as_deref(), Some(expected), "{result}");
        }
    }

    #[test]
    fn what_is_no_list_of_named_tools_is_not_filtered() {
        for result in [
            "",
            "[]",
            "{}",
            r#"{"tools":{}}"#,
            r#"{"tools":null}"#,
            r#"{"tools":[1]}"#,
            r#"{"tools":[{}]}"#,
            r#"{"tools":[{"name":1}]}"#,
            r#"{"tools":[{"name":"a","name":"b"}]}"#,
            r#"{"tools":[],"tools":[{"name":"b"}]}"#,
            r#"{"tools":[]} x"#,
        ] {
            assert_eq!(tools(result, ONLY_A), None, "{result}");
        }
    }
}
