//! Notifications: progress, log messages, cancellation, and where each belongs in the other era.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{LOG_LEVEL_KEY, edit::Edit};
use crate::message::{Params, quoted, text};

/// Where a server's notification goes, to a client of the other era.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// With the answer of the request that it is about.
    Request,
    /// To who subscribed to it: a `subscriptions/listen`, or the session's GET stream.
    Subscription,
    /// Nowhere: the client's era does not have it, or it is for the bridge.
    Nowhere,
}

/// Where the notification `method` of a server goes, to a client of the other era, whichever that is.
/// Unknown ones stay with the request during which they came.
pub fn place(method: &str) -> Place {
    match method {
        "notifications/tools/list_changed"
        | "notifications/prompts/list_changed"
        | "notifications/resources/list_changed"
        | "notifications/resources/updated" => Place::Subscription,
        "notifications/cancelled"
        | "notifications/tasks"
        | "notifications/tasks/status"
        | "notifications/elicitation/complete"
        | "notifications/subscriptions/acknowledged" => Place::Nowhere,
        _ => Place::Request,
    }
}

/// Whether the notification `method` of a client goes to a server of the other era as it is. A
/// cancellation does not: it names a request by an id that only the bridge and the client know.
pub fn reaches_server(method: &str) -> bool {
    !matches!(
        method,
        "notifications/initialized"
            | "notifications/cancelled"
            | "notifications/progress"
            | "notifications/roots/list_changed"
            | "notifications/tasks/status"
    )
}

/// The token under which the client wants to hear of a request's progress.
pub fn progress_token<'p>(params: &Params<'p>) -> Option<&'p RawValue> {
    params.meta.get("progressToken").filter(|raw| is_id(raw))
}

/// The token that a `notifications/progress` reports under.
pub fn progress_of<'p>(params: &Params<'p>) -> Option<&'p RawValue> {
    params.members.get("progressToken").filter(|raw| is_id(raw))
}

/// The parameters of a `notifications/progress` under the token (JSON text) that its receiver knows.
pub fn restore_progress(params: &str, token: &str) -> String {
    Edit::parse(params).unwrap_or_default().set("progressToken", token).to_json()
}

/// A whole `notifications/cancelled` for the request `id` (JSON text).
pub fn cancelled(id: &str, reason: Option<&str>) -> String {
    let reason = reason.map(|reason| format!(r#","reason":{}"#, quoted(reason))).unwrap_or_default();
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}{reason}}}}}"#)
}

/// The id of the request that a `notifications/cancelled` is about.
pub fn cancelled_id<'p>(params: &Params<'p>) -> Option<&'p RawValue> {
    params.members.get("requestId").filter(|raw| is_id(raw))
}

/// Why a `notifications/cancelled` was sent.
pub fn cancelled_reason<'p>(params: &Params<'p>) -> Option<Cow<'p, str>> {
    params.members.get("reason").and_then(text)
}

/// A string or a number.
fn is_id(raw: &RawValue) -> bool {
    raw.get().starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit())
}

/// How severe a log message is; the most severe is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogLevel(usize);

impl LogLevel {
    const NAMES: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

    /// Reads a level's name; `None` for what is not one.
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(Self)
    }

    /// The level that a modern request wants to hear of. `Some(None)` for what is not a level.
    pub fn wanted(params: &Params<'_>) -> Option<Option<Self>> {
        Some(Self::of(params.meta.get(LOG_LEVEL_KEY)?))
    }

    /// The level of a `logging/setLevel` or a `notifications/message`.
    pub fn said(params: &Params<'_>) -> Option<Self> {
        Self::of(params.members.get("level")?)
    }

    /// The level's name.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self.0]
    }

    /// The parameters of a `logging/setLevel` for a legacy server.
    pub fn set_level_params(self) -> String {
        format!(r#"{{"level":"{}"}}"#, self.as_str())
    }

    fn of(raw: &RawValue) -> Option<Self> {
        text(raw).and_then(|name| Self::parse(&name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Message;

    fn with<T>(params: &str, then: impl FnOnce(&Params<'_>) -> T) -> T {
        let body = format!(r#"{{"jsonrpc":"2.0","method":"n","params":{params}}}"#);
        match Message::parse(body.as_bytes()) {
            Ok(Message::Notification(notification)) => then(&notification.params),
            other => panic!("{params}: {other:?}"),
        }
    }

    #[test]
    fn progress_keeps_its_token() {
        let token = |params| with(params, |params| progress_token(params).map(|raw| raw.get().to_owned()));
        assert_eq!(
            token(r#"{"_meta":{"progressToken":12345678901234567890123}}"#).as_deref(),
            Some("12345678901234567890123")
        );
        assert_eq!(token(r#"{"_meta":{"progressToken":"a\u0062"}}"#).as_deref(), Some(r#""a\u0062""#));
        for none in
            ["{}", r#"{"progressToken":1}"#, r#"{"_meta":{"progressToken":null}}"#, r#"{"_meta":{"progressToken":{}}}"#]
        {
            assert_eq!(token(none), None, "{none}");
        }
        let params = r#"{"progressToken":7,"progress":1e400,"message":"m"}"#;
        assert_eq!(with(params, |params| progress_of(params).map(|raw| raw.get().to_owned())).as_deref(), Some("7"));
        assert_eq!(restore_progress(params, r#""t""#), r#"{"progressToken":"t","progress":1e400,"message":"m"}"#);
        let json = r#"{"_meta":{"progressToken":1,"k":2},"name":"t"}"#;
        let edited = Edit::parse(json).expect("an object").progress_token("\"b\"").to_json();
        assert_eq!(edited, r#"{"_meta":{"progressToken":"b","k":2},"name":"t"}"#);
    }

    #[test]
    fn cancellations() {
        assert_eq!(
            cancelled("1", Some("a \"reason\"\n")),
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"a \"reason\"\n"}}"#
        );
        let message = cancelled(r#""x""#, None);
        let Ok(Message::Notification(read)) = Message::parse(message.as_bytes()) else { panic!("{message}") };
        assert_eq!(cancelled_id(&read.params).map(RawValue::get), Some(r#""x""#));
        assert_eq!(cancelled_reason(&read.params), None);
        assert!(with(r#"{"requestId":null}"#, |params| cancelled_id(params).is_none()));
    }

    #[test]
    fn log_levels() {
        let level = |name| LogLevel::parse(name).expect("known");
        assert!(level("debug") < level("info") && level("error") < level("emergency"));
        assert_eq!(level("notice").set_level_params(), r#"{"level":"notice"}"#);
        let wanted = |params| with(params, LogLevel::wanted);
        assert_eq!(wanted(r#"{"_meta":{"io.modelcontextprotocol/logLevel":"info"}}"#), Some(Some(level("info"))));
        assert_eq!(wanted(r#"{"_meta":{"io.modelcontextprotocol/logLevel":"loud"}}"#), Some(None));
        assert_eq!(wanted("{}"), None);
        assert_eq!(with(r#"{"level":"alert"}"#, LogLevel::said), Some(level("alert")));
    }

    #[test]
    fn places() {
        for (method, expected) in [
            ("notifications/progress", Place::Request),
            ("notifications/message", Place::Request),
            ("notifications/vendor", Place::Request),
            ("notifications/resources/updated", Place::Subscription),
            ("notifications/elicitation/complete", Place::Nowhere),
            ("notifications/tasks/status", Place::Nowhere),
        ] {
            assert_eq!(place(method), expected, "{method}");
        }
        assert!(reaches_server("notifications/vendor"));
        assert!(!reaches_server("notifications/initialized"));
    }

    proptest! {
        #[test]
        fn no_text_panics(json in r#"[\[\]{}":,a-z0-9\\. -]{0,120}"#) {
            let restored = restore_progress(&json, "1");
            prop_assert!(with(&restored, |params| progress_of(params).is_some()));
        }

        #[test]
        fn reasons_survive(reason in "\\PC{0,40}") {
            let message = cancelled("1", Some(&reason));
            let Ok(Message::Notification(read)) = Message::parse(message.as_bytes()) else { panic!("{message}") };
            let said = cancelled_reason(&read.params);
            prop_assert_eq!(said.as_deref(), Some(reason.as_str()));
        }
    }
}
