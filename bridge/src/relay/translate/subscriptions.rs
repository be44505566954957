//! What a client listens to: `resources/subscribe` and the GET stream of the legacy era,
//! `subscriptions/listen` in the modern one ("Subscriptions").

use std::{borrow::Cow, collections::HashSet};

use serde_json::value::RawValue;

use super::capabilities::declares;
use crate::{
    edit::{Edit, Envelope},
    era::SUBSCRIPTION_KEY,
    message::{Object, Params, quoted, text},
};

/// Which notifications one subscription wants, or gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// `notifications/tools/list_changed`
    pub tools_list_changed: bool,
    /// `notifications/prompts/list_changed`
    pub prompts_list_changed: bool,
    /// `notifications/resources/list_changed`
    pub resources_list_changed: bool,
    /// The URIs whose `notifications/resources/updated` are wanted, each once.
    pub resources: Vec<String>,
}

impl Listen {
    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the notification belongs to this subscription. A resource is updated also when one
    /// below it is ("might be a sub-resource").
    pub fn wants(&self, method: &str, params: &Params<'_>) -> bool {
        match method {
            "notifications/tools/list_changed" => self.tools_list_changed,
            "notifications/prompts/list_changed" => self.prompts_list_changed,
            "notifications/resources/list_changed" => self.resources_list_changed,
            "notifications/resources/updated" => {
                let updated = params.members.get("uri").and_then(text);
                updated.is_some_and(|updated| self.resources.iter().any(|uri| is_within(&updated, uri)))
            }
            _ => false,
        }
    }

    /// The filter as the schema writes it: only what is wanted.
    fn to_json(&self) -> String {
        let mut edit = Edit::default();
        for (key, wanted) in [
            ("toolsListChanged", self.tools_list_changed),
            ("promptsListChanged", self.prompts_list_changed),
            ("resourcesListChanged", self.resources_list_changed),
        ] {
            if wanted {
                edit.set(key, "true");
            }
        }
        if !self.resources.is_empty() {
            let uris: Vec<_> = self.resources.iter().map(|uri| quoted(uri)).collect();
            edit.set("resourceSubscriptions", format!("[{}]", uris.join(",")));
        }
        edit.to_json()
    }
}

/// Whether `uri` is `subscribed` or lies below it.
fn is_within(uri: &str, subscribed: &str) -> bool {
    uri.strip_prefix(subscribed)
        .is_some_and(|rest| rest.is_empty() || subscribed.ends_with('/') || rest.starts_with(['/', '?', '#']))
}

/// What a modern client's `subscriptions/listen` asks for. Kinds that we do not know are ignored, as
/// those that cannot be had.
///
/// # Errors
/// What is wrong with the parameters, for an invalid-params error.
pub fn listen_filter(params: &Params<'_>) -> Result<Listen, String> {
    let filter = params.members.get("notifications").map(|raw| serde_json::from_str::<Object<'_>>(raw.get()));
    let Some(Ok(filter)) = filter else {
        return Err("`notifications` must be an object without repeated keys".to_owned());
    };
    let flag = |key: &str| match filter.get(key).map(RawValue::get) {
        None | Some("null" | "false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(format!("`notifications.{key}` must be a boolean")),
    };
    let resources = match filter.get("resourceSubscriptions").filter(|raw| raw.get() != "null") {
        Some(raw) => uris(raw).ok_or("`notifications.resourceSubscriptions` must be an array of strings")?,
        None => Vec::new(),
    };
    Ok(Listen {
        tools_list_changed: flag("toolsListChanged")?,
        prompts_list_changed: flag("promptsListChanged")?,
        resources_list_changed: flag("resourcesListChanged")?,
        resources,
    })
}

fn uris(raw: &RawValue) -> Option<Vec<String>> {
    let uris: Vec<&RawValue> = serde_json::from_str(raw.get()).ok()?;
    let uris: Vec<String> = uris.into_iter().map(|uri| text(uri).map(Cow::into_owned)).collect::<Option<_>>()?;
    let mut seen = HashSet::new();
    Some(uris.iter().filter(|uri| seen.insert(uri.as_str())).cloned().collect())
}

/// The part of `listen` that a server with these capabilities can give, in either era: what it does
/// not announce, it does not send.
pub fn grantable(listen: &Listen, server_capabilities: &str) -> Listen {
    let declared = |path: &[&str]| declares(server_capabilities, path);
    Listen {
        tools_list_changed: listen.tools_list_changed && declared(&["tools", "listChanged"]),
        prompts_list_changed: listen.prompts_list_changed && declared(&["prompts", "listChanged"]),
        resources_list_changed: listen.resources_list_changed && declared(&["resources", "listChanged"]),
        resources: if declared(&["resources", "subscribe"]) { listen.resources.clone() } else { Vec::new() },
    }
}

/// The notification that has to come first on a subscription, the whole message: what is granted.
/// `id` is the id of the `subscriptions/listen` request, as JSON text.
pub fn acknowledged(granted: &Listen, id: &str) -> String {
    let key = quoted(SUBSCRIPTION_KEY);
    let filter = granted.to_json();
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{{key}:{id}}},"notifications":{filter}}}}}"#
    )
}

/// A legacy server's notification as one of the subscription `id` (JSON text): its parameters.
pub fn subscribed(params: Option<&str>, id: &str) -> String {
    let mut edit = params.and_then(Edit::parse).unwrap_or_default();
    edit.meta_set(SUBSCRIPTION_KEY, id.to_owned()).to_json()
}

/// The result that ends the subscription `id` (JSON text) in good order.
pub fn listen_result(id: &str) -> String {
    format!(r#"{{"resultType":"complete","_meta":{{{}:{id}}}}}"#, quoted(SUBSCRIPTION_KEY))
}

/// The parameters of the `subscriptions/listen` that a modern server gets on a legacy client's behalf.
pub fn listen_params(wanted: &Listen, envelope: &Envelope<'_>) -> String {
    let filter = wanted.to_json();
    let mut edit = Edit::default();
    edit.set("notifications", filter).for_modern(envelope).to_json()
}

/// What a legacy client wants by itself: every list that this server can change.
pub fn all_lists(server_capabilities: &str) -> Listen {
    let all = Listen {
        tools_list_changed: true,
        prompts_list_changed: true,
        resources_list_changed: true,
        resources: Vec::new(),
    };
    grantable(&all, server_capabilities)
}

/// A modern server's notification as a legacy one: its parameters, of no subscription.
pub fn unsubscribed(params: &str) -> String {
    Edit::parse(params).unwrap_or_default().meta_remove(SUBSCRIPTION_KEY).to_json()
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

    fn listen(tools: bool, prompts: bool, lists: bool, resources: &[&str]) -> Listen {
        Listen {
            tools_list_changed: tools,
            prompts_list_changed: prompts,
            resources_list_changed: lists,
            resources: resources.iter().map(|uri| (*uri).to_owned()).collect(),
        }
    }

    #[test]
    fn filters() {
        for (filter, expected) in [
            ("{}", Some(Listen::default())),
            (r#"{"toolsListChanged":true,"promptsListChanged":false,"new":[]}"#, Some(listen(true, false, false, &[]))),
            (
                r#"{"resourcesListChanged":true,"resourceSubscriptions":["b","\u0061","b"]}"#,
                Some(listen(false, false, true, &["b", "a"])),
            ),
            (r#"{"resourceSubscriptions":null,"promptsListChanged":null}"#, Some(Listen::default())),
            (r#"{"resourceSubscriptions":[1]}"#, None),
            (r#"{"resourceSubscriptions":"a"}"#, None),
            (r#"{"toolsListChanged":1}"#, None),
            (r#"{"toolsListChanged":true,"toolsListChanged":false}"#, None),
            ("[]", None),
        ] {
            let found = with(&format!(r#"{{"notifications":{filter}}}"#), listen_filter);
            assert_eq!(found.ok(), expected, "{filter}");
        }
        assert!(with("{}", listen_filter).is_err());
    }

    #[test]
    fn a_server_gives_what_it_declares() {
        let all = listen(true, true, true, &["a"]);
        for (capabilities, expected) in [
            (
                r#"{"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true}}"#,
                listen(true, false, false, &["a"]),
            ),
            (r#"{"tools":{"listChanged":false},"resources":{"listChanged":true}}"#, listen(false, false, true, &[])),
            ("{}", Listen::default()),
            ("1", Listen::default()),
        ] {
            assert_eq!(grantable(&all, capabilities), expected, "{capabilities}");
        }
        assert!(all_lists("{}").is_empty());
        assert_eq!(all_lists(r#"{"prompts":{"listChanged":true}}"#), listen(false, true, false, &[]));
    }

    #[test]
    fn messages_of_a_subscription() {
        assert_eq!(
            acknowledged(&listen(true, false, false, &["a\""]), r#""x""#),
            r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"x"},"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a\""]}}}"#
        );
        assert_eq!(subscribed(None, "1"), r#"{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}"#);
        let modern = subscribed(Some(r#"{"uri":"a","n":1e400}"#), "12345678901234567890123");
        assert_eq!(
            modern,
            r#"{"uri":"a","n":1e400,"_meta":{"io.modelcontextprotocol/subscriptionId":12345678901234567890123}}"#
        );
        assert_eq!(unsubscribed(&modern), r#"{"uri":"a","n":1e400}"#);
        assert_eq!(
            listen_result("1"),
            r#"{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":1}}"#
        );
        let envelope = Envelope { capabilities: "{}", client_info: None, log_level: None };
        assert_eq!(
            listen_params(&listen(false, true, false, &[]), &envelope),
            r#"{"notifications":{"promptsListChanged":true},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}"#
        );
    }

    #[test]
    fn notifications_find_their_subscription() {
        let listen = listen(true, false, false, &["file:///a", "file:///d/"]);
        for (method, params, expected) in [
            ("notifications/tools/list_changed", "{}", true),
            ("notifications/prompts/list_changed", "{}", false),
            ("notifications/resources/updated", r#"{"uri":"file:///a"}"#, true),
            ("notifications/resources/updated", r#"{"uri":"file:///a/b"}"#, true),
            ("notifications/resources/updated", r#"{"uri":"file:///d/x"}"#, true),
            ("notifications/resources/updated", r#"{"uri":"file:///ab"}"#, false),
            ("notifications/resources/updated", r#"{"uri":1}"#, false),
            ("notifications/message", "{}", false),
        ] {
            assert_eq!(with(params, |params| listen.wants(method, params)), expected, "{method} {params}");
        }
    }

    proptest! {
        #[test]
        fn what_is_granted_reads_as_what_is_wanted(flags in any::<[bool; 3]>(), uris in proptest::collection::btree_set("\\PC{0,8}", 0..4)) {
            let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
            let wanted = listen(flags[0], flags[1], flags[2], &uris);
            let envelope = Envelope { capabilities: "{}", client_info: None, log_level: Some("info") };
            let params = listen_params(&wanted, &envelope);
            prop_assert_eq!(with(&params, listen_filter), Ok(wanted));
        }

        #[test]
        fn no_text_panics(json in r#"[\[\]{}":,a-z0-9\\. -]{0,120}"#) {
            let _ = (subscribed(Some(&json), "1"), unsubscribed(&json), all_lists(&json));
        }
    }
}
