//! Notifications: progress, log messages, and where each belongs in the other era.

use serde_json::value::RawValue;

use crate::{
    edit::Edit,
    era::LOG_LEVEL_KEY,
    message::{Params, text},
};

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

/// The parameters of a `notifications/progress` under the token (JSON text) that its receiver knows.
pub fn restore_progress(params: &str, token: &str) -> String {
    Edit::parse(params).unwrap_or_default().set("progressToken", token).to_json()
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
    fn progress_keeps_its_members() {
        let params = r#"{"progressToken":7,"progress":1e400,"message":"m"}"#;
        assert_eq!(restore_progress(params, r#""t""#), r#"{"progressToken":"t","progress":1e400,"message":"m"}"#);
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
    }

    proptest! {
        #[test]
        fn no_text_panics(json in r#"[\[\]{}":,a-z0-9\\. -]{0,120}"#) {
            let restored = restore_progress(&json, "1");
            prop_assert!(with(&restored, |params| params.members.get("progressToken").is_some_and(|token| token.get() == "1")));
        }
    }
}
