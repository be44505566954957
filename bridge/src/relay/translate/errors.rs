//! Errors of a server as its client's era understands them.

use super::{
    capabilities::declares,
    input::{can_be_asked, may_ask},
};
use crate::{
    edit::Edit,
    era::{HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION},
    message::{INTERNAL_ERROR, INVALID_PARAMS, quoted},
};

/// A resource that is not there (legacy era; 2026-07-28 keeps the code reserved).
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// A page that the user has to visit first (2025-11-25 only).
pub const URL_ELICITATION_REQUIRED: i64 = -32042;

/// Without a meaning of its own: the first of the codes that the specification leaves to
/// implementations.
const SERVER_ERROR: i64 = -32000;

/// A translated error. The message stays what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translated {
    /// The code.
    pub code: i64,
    /// The data, as JSON text; `None` if it stays, too.
    pub data: Option<String>,
}

impl Translated {
    fn code(code: i64) -> Self {
        Self { code, data: None }
    }
}

/// An error of a legacy server for a modern client with these capabilities.
///
/// Legacy servers were free to use codes that have got a meaning since: a client must not take one
/// for a failed negotiation. Ask [`url_questions`] first: what can be asked is no error.
pub fn modern_error(method: &str, code: i64, capabilities: &str) -> Translated {
    match code {
        RESOURCE_NOT_FOUND if method == "resources/read" => Translated::code(INVALID_PARAMS),
        URL_ELICITATION_REQUIRED if may_ask(method) && !declares(capabilities, &["elicitation", "url"]) => {
            let data = r#"{"requiredCapabilities":{"elicitation":{"url":{}}}}"#.to_owned();
            Translated { code: MISSING_CAPABILITY, data: Some(data) }
        }
        -32099..=-32020 => Translated::code(SERVER_ERROR),
        code => Translated::code(code),
    }
}

/// An error of a modern server for a legacy client. `data` is JSON text.
///
/// The negotiation that a modern error can be about is the bridge's, not the client's; legacy
/// servers that miss a capability answer with an internal error, too.
pub fn legacy_error(method: &str, code: i64, data: Option<&str>) -> Translated {
    match code {
        INVALID_PARAMS if method == "resources/read" && names_resource(data) => Translated::code(RESOURCE_NOT_FOUND),
        HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION => Translated::code(INTERNAL_ERROR),
        code => Translated::code(code),
    }
}

/// Whether an error's data is the one of a resource that is not there, and not of other parameters.
fn names_resource(data: Option<&str>) -> bool {
    data.and_then(Edit::parse).is_some_and(|data| data.get("uri").is_some_and(|uri| uri.starts_with('"')))
}

/// The questions in a legacy server's [`URL_ELICITATION_REQUIRED`], for an `input_required` result:
/// key and parameters (JSON text) of each `elicitation/create`.
///
/// `None` if it is another error, or if the client cannot be asked. The request itself is over: the
/// client's retry is a new one, whatever the answers are.
pub fn url_questions(method: &str, code: i64, data: Option<&str>, capabilities: &str) -> Option<Vec<(String, String)>> {
    if code != URL_ELICITATION_REQUIRED || !may_ask(method) {
        return None;
    }
    let data = Edit::parse(data?)?;
    let elicitations: Vec<&serde_json::value::RawValue> = serde_json::from_str(data.get("elicitations")?).ok()?;
    let questions: Option<Vec<_>> = elicitations
        .iter()
        .enumerate()
        .map(|(index, elicitation)| {
            let mut edit = Edit::parse(elicitation.get())?;
            edit.set_default("mode", quoted("url"));
            edit.remove("elicitationId").remove("task").meta_remove("progressToken");
            let params = edit.to_json();
            let can_be_asked =
                edit.get("url").is_some() && can_be_asked("elicitation/create", Some(&params), capabilities);
            can_be_asked.then(|| (format!("url-{}", index + 1), params))
        })
        .collect();
    questions.filter(|questions| !questions.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::METHOD_NOT_FOUND;

    #[test]
    fn errors_of_legacy_servers() {
        for (method, code, capabilities, expected) in [
            ("resources/read", -32002, "{}", INVALID_PARAMS),
            ("tools/call", -32002, "{}", -32002),
            ("tools/call", METHOD_NOT_FOUND, "{}", METHOD_NOT_FOUND),
            ("tools/call", -32019, "{}", -32019),
            ("tools/call", -32020, "{}", -32000),
            ("tools/call", -32022, "{}", -32000),
            ("tools/call", -32099, "{}", -32000),
            ("tools/call", -32100, "{}", -32100),
            ("tools/call", 7, "{}", 7),
            ("tools/call", -32042, r#"{"elicitation":{}}"#, MISSING_CAPABILITY),
            ("tools/call", -32042, r#"{"elicitation":{"url":{}}}"#, -32000),
            ("tools/list", -32042, "{}", -32000),
        ] {
            let found = modern_error(method, code, capabilities);
            assert_eq!(found.code, expected, "{method} {code} {capabilities}");
            assert_eq!(found.data.is_some(), expected == MISSING_CAPABILITY);
        }
    }

    #[test]
    fn errors_of_modern_servers() {
        for (method, code, data, expected) in [
            ("resources/read", INVALID_PARAMS, Some(r#"{"uri":"file:///x"}"#), -32002),
            ("resources/read", INVALID_PARAMS, None, INVALID_PARAMS),
            ("resources/read", INVALID_PARAMS, Some(r#"{"uri":1}"#), INVALID_PARAMS),
            ("tools/call", INVALID_PARAMS, Some(r#"{"uri":"file:///x"}"#), INVALID_PARAMS),
            ("tools/call", HEADER_MISMATCH, None, INTERNAL_ERROR),
            ("tools/call", MISSING_CAPABILITY, None, INTERNAL_ERROR),
            ("tools/call", UNSUPPORTED_VERSION, None, INTERNAL_ERROR),
            ("tools/call", METHOD_NOT_FOUND, None, METHOD_NOT_FOUND),
            ("tools/call", -32042, None, -32042),
        ] {
            assert_eq!(legacy_error(method, code, data), Translated::code(expected), "{method} {code} {data:?}");
        }
    }

    #[test]
    fn pages_to_visit_become_questions() {
        const ABLE: &str = r#"{"elicitation":{"url":{}}}"#;
        let data =
            r#"{"elicitations":[{"mode":"url","elicitationId":"e","url":"https://h/?e","message":"m","n":1e400}]}"#;
        assert_eq!(
            url_questions("tools/call", -32042, Some(data), ABLE),
            Some(vec![(
                "url-1".to_owned(),
                r#"{"mode":"url","url":"https://h/?e","message":"m","n":1e400}"#.to_owned()
            )])
        );
        for (method, code, data, capabilities) in [
            ("tools/list", -32042, Some(data), ABLE),
            ("tools/call", -32041, Some(data), ABLE),
            ("tools/call", -32042, None, ABLE),
            ("tools/call", -32042, Some(data), r#"{"elicitation":{}}"#),
            ("tools/call", -32042, Some(r#"{"elicitations":[]}"#), ABLE),
            ("tools/call", -32042, Some(r#"{"elicitations":[{"mode":"url"}]}"#), ABLE),
            ("tools/call", -32042, Some(r#"{"elicitations":[{"mode":"form","url":"u"}]}"#), ABLE),
        ] {
            assert_eq!(url_questions(method, code, data, capabilities), None, "{method} {code} {data:?}");
        }
    }

    proptest! {
        #[test]
        fn no_error_panics(code in any::<i64>(), json in r#"[\[\]{}":,a-z0-9\\. -]{0,120}"#) {
            let modern = modern_error("resources/read", code, &json).code;
            prop_assert!(modern == MISSING_CAPABILITY || !(-32099..=-32020).contains(&modern));
            legacy_error("resources/read", code, Some(&json));
            prop_assert_eq!(url_questions("tools/call", code, Some(&json), "{}"), None);
        }
    }
}
