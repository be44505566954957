//! Tools of modern servers for legacy clients, whose schema of tools is narrower: the SDKs refuse a
//! whole list for one tool that does not fit it.

use serde_json::value::RawValue;

use crate::edit::Edit;

/// Fits a result of `tools/list`.
///
/// An output schema that does not describe an object is left out (2025-11-25 has `type: "object"`
/// only); properties given as `true` or `false` are written as the schemas that mean the same.
pub(super) fn legacy_list(result: &mut Edit<'_>) {
    let Some(tools) = result.get("tools") else {
        return;
    };
    let Ok(tools) = serde_json::from_str::<Vec<&RawValue>>(tools) else {
        return;
    };
    let fitted: Vec<_> = tools.iter().map(|tool| legacy_tool(tool.get())).collect();
    if fitted.iter().all(Option::is_none) {
        return;
    }
    let written: Vec<&str> =
        tools.iter().zip(&fitted).map(|(tool, fitted)| fitted.as_deref().unwrap_or(tool.get())).collect();
    let written = format!("[{}]", written.join(","));
    result.set("tools", written);
}

/// Fits a result of `tools/call`: structured content that is not an object is left out. Its text is
/// in `content`, where servers put it for this very reason.
pub(super) fn legacy_call(result: &mut Edit<'_>) {
    if result.get("structuredContent").is_some_and(|content| !content.starts_with('{')) {
        result.remove("structuredContent");
    }
}

/// `None` if the tool fits as it is.
fn legacy_tool(tool: &str) -> Option<String> {
    // Almost every tool fits, and can be told without parsing it.
    if !tool.contains("outputSchema") && !tool.contains("true") && !tool.contains("false") {
        return None;
    }
    let mut edit = Edit::parse(tool)?;
    let mut changed = false;
    for key in ["inputSchema", "outputSchema"] {
        let Some(schema) = edit.get(key).map(str::to_owned) else {
            continue;
        };
        let Some(mut fields) = Edit::parse(&schema) else {
            continue;
        };
        if key == "outputSchema" && fields.get("type") != Some(r#""object""#) {
            edit.remove(key);
            changed = true;
            continue;
        }
        if let Some(properties) = fields.get("properties").and_then(legacy_properties) {
            edit.set(key, fields.set("properties", properties).to_json());
            changed = true;
        }
    }
    changed.then(|| edit.to_json())
}

/// `None` if no property is `true` or `false`.
fn legacy_properties(properties: &str) -> Option<String> {
    let mut edit = Edit::parse(properties)?;
    let names: Vec<String> = edit.keys().map(str::to_owned).collect();
    let mut changed = false;
    for name in names {
        let schema = match edit.get(&name) {
            Some("true") => "{}",
            Some("false") => r#"{"not":{}}"#,
            _ => continue,
        };
        edit.set(name, schema);
        changed = true;
    }
    changed.then(|| edit.to_json())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(tools: &str) -> String {
        let json = format!(r#"{{"tools":{tools},"nextCursor":"c"}}"#);
        let mut edit = Edit::parse(&json).expect("an object");
        legacy_list(&mut edit);
        edit.to_json().replace(r#","nextCursor":"c"}"#, "").replacen(r#"{"tools":"#, "", 1)
    }

    #[test]
    fn one_tool_cannot_spoil_the_list() {
        for (tools, expected) in [
            (
                r#"[ {"name":"a"} , {"name":"b","annotations":{"readOnlyHint":true}}]"#,
                r#"[ {"name":"a"} , {"name":"b","annotations":{"readOnlyHint":true}}]"#,
            ),
            (
                r#"[{"name":"a","outputSchema":{"type":"object","x":1e400}}]"#,
                r#"[{"name":"a","outputSchema":{"type":"object","x":1e400}}]"#,
            ),
            (
                r#"[{"name":"a","outputSchema":{"type":"array","items":{}},"n":1e400}, {"name":"b" }]"#,
                r#"[{"name":"a","n":1e400},{"name":"b" }]"#,
            ),
            (r#"[{"name":"a","outputSchema":{"anyOf":[]}}]"#, r#"[{"name":"a"}]"#),
            (
                r#"[{"inputSchema":{"type":"object","properties":{"any":true,"none":false,"n":{"default":true}}}}]"#,
                r#"[{"inputSchema":{"type":"object","properties":{"any":{},"none":{"not":{}},"n":{"default":true}}}}]"#,
            ),
            ("[true,1]", "[true,1]"),
            ("7", "7"),
        ] {
            assert_eq!(list(tools), expected);
        }
    }

    #[test]
    fn structured_content_is_an_object_or_left_out() {
        for (result, expected) in [
            (r#"{"structuredContent":{"a":1e400}}"#, r#"{"structuredContent":{"a":1e400}}"#),
            (r#"{"content":[],"structuredContent":[1]}"#, r#"{"content":[]}"#),
            (r#"{"structuredContent":null}"#, "{}"),
        ] {
            let mut edit = Edit::parse(result).expect("an object");
            legacy_call(&mut edit);
            assert_eq!(edit.to_json(), expected);
        }
    }
}
