//! What somebody decides by: the parameters that policy and era read.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{MAX_MEMBERS, Object, object, shown, text};

/// Which parameter says what a method is about.
pub(super) fn target_key(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => Some("uri"),
        _ => None,
    }
}

/// `ref` of `completion/complete`.
#[derive(Debug)]
pub enum Reference<'a> {
    /// `ref/prompt`, by name.
    Prompt(Cow<'a, str>),
    /// `ref/resource`, by URI or template.
    Resource(Cow<'a, str>),
}

impl<'a> Reference<'a> {
    pub(super) fn parse(raw: Option<&'a RawValue>) -> Result<Option<Self>, String> {
        let Some(raw) = raw else { return Ok(None) };
        let reference = object(raw, "params.ref")?;
        refuse_look_alikes(&reference, &["type", "name", "uri"], "params.ref")?;
        let member = |key: &str| reference.get(key).and_then(text);
        Ok(match member("type").as_deref() {
            Some("ref/prompt") => member("name").map(Self::Prompt),
            Some("ref/resource") => member("uri").map(Self::Resource),
            _ => None,
        })
    }
}

/// URIs of `notifications.resourceSubscriptions` (MCP 2026-07-28, "Subscriptions"). What is not a list
/// of texts is refused: a server might read something else into it than the policy.
/// The second part says whether other kinds are asked for than those that we know.
pub(super) fn subscriptions(raw: Option<&RawValue>) -> Result<(Vec<Cow<'_, str>>, bool), String> {
    const PLACE: &str = "`params.notifications.resourceSubscriptions` must be a list of URIs";
    const KNOWN: [&str; 4] =
        ["toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions"];
    let Some(raw) = raw else { return Ok((Vec::new(), false)) };
    let notifications = object(raw, "params.notifications")?;
    refuse_look_alikes(&notifications, &KNOWN, "params.notifications")?;
    let has_unknown = notifications.iter().any(|(key, _)| !KNOWN.contains(&key));
    let Some(raw) = notifications.get("resourceSubscriptions") else { return Ok((Vec::new(), has_unknown)) };
    let uris: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| PLACE.to_owned())?;
    if uris.len() > MAX_MEMBERS {
        return Err(format!("more than {MAX_MEMBERS} resources in `params.notifications.resourceSubscriptions`"));
    }
    let uris: Result<Vec<_>, _> = uris.into_iter().map(|uri| text(uri).ok_or_else(|| PLACE.to_owned())).collect();
    Ok((uris?, has_unknown))
}

/// Refuses keys that differ from one of `judged` by case only. Servers exist that read such a key as
/// the other (Go's JSON library does, and takes the last of the two): they would do what nobody has
/// judged.
pub(super) fn refuse_look_alikes(object: &Object<'_>, judged: &[&str], place: &str) -> Result<(), String> {
    let look_alike = object.iter().find(|(key, _)| {
        let plain = key.is_ascii();
        judged.iter().any(|judged| if plain { differs_in_case(key, judged) } else { looks_like(key, judged) })
    });
    look_alike.map_or(Ok(()), |(key, _)| {
        Err(format!("in `{place}`: the key {} could be taken for another in lower case", shown(key)))
    })
}

/// Whether `key` is not `judged`, and the same to whoever ignores case as Unicode folds it.
pub fn looks_like(key: &str, judged: &str) -> bool {
    if key.is_ascii() {
        return differs_in_case(key, judged);
    }
    // The only letters outside of ASCII that fold to ASCII ones.
    let folded = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(folded).eq(judged.chars().map(folded))
}

/// [`looks_like`] for a key of ASCII letters.
fn differs_in_case(key: &str, judged: &str) -> bool {
    key.len() == judged.len() && key != judged && key.eq_ignore_ascii_case(judged)
}

/// Parameters that somebody decides by.
pub(super) const JUDGED_KEYS: [&str; 8] =
    ["_meta", "name", "uri", "arguments", "ref", "notifications", "inputResponses", "requestState"];
