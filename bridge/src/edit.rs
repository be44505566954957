//! Several changes to one JSON object, which is parsed and written once.

use std::borrow::Cow;

use mcp_calculator::server::{CAPABILITIES_KEY, MODERN_VERSION, VERSION_KEY};

use crate::{
    era::{CLIENT_INFO_KEY, LOG_LEVEL_KEY},
    message::{IDENTITY_KEY, Object, Params, push_quoted, quoted},
};

/// A JSON object being changed; members that nobody touches keep their text and their order.
///
/// Values are JSON text, and who sets one vouches for it. `_meta` is edited with the object that it
/// belongs to.
#[derive(Clone, Default)]
pub struct Edit<'a> {
    members: Members<'a>,
    /// `_meta` parsed, if it is an object; its text among the members is then not used.
    meta: Option<Members<'a>>,
    meta_emptied: bool,
}

impl<'a> Edit<'a> {
    /// Begins with the parameters of a message.
    pub fn new(params: &'a Params<'_>) -> Self {
        let mut members = Members::of(&params.members);
        let meta = params.has_meta.then(|| {
            members.set("_meta".into(), "".into());
            Members::of(&params.meta)
        });
        Self { members, meta, meta_emptied: false }
    }

    /// Begins with an object's text. `None` for what is not an object, or has a key twice in itself
    /// or in its `_meta`.
    pub fn parse(json: &'a str) -> Option<Self> {
        let members = Members::parse(json)?;
        let meta = match members.get("_meta") {
            Some(Cow::Borrowed(meta)) if meta.starts_with('{') => Some(Members::parse(meta)?),
            _ => None,
        };
        Some(Self { members, meta, meta_emptied: false })
    }

    /// The text of the member `key`; that of `_meta` is the one before the changes.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.members.get(key).map(Cow::as_ref)
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.members.0.iter().map(|(key, _)| key.as_ref())
    }

    /// Sets a member, in its place or at the end.
    pub fn set(&mut self, key: impl Into<Cow<'a, str>>, json: impl Into<Cow<'a, str>>) -> &mut Self {
        let key = key.into();
        self.forget_meta(&key);
        self.members.set(key, json.into());
        self
    }

    /// Sets a member that is absent or `null`.
    pub fn set_default(&mut self, key: &'static str, json: impl Into<Cow<'a, str>>) -> &mut Self {
        if is_absent(self.get(key)) {
            self.members.set(key.into(), json.into());
        }
        self
    }

    /// Removes a member, if it is there.
    pub fn remove(&mut self, key: &str) -> &mut Self {
        self.forget_meta(key);
        self.members.remove(key);
        self
    }

    /// The text of the member `key` of `_meta`.
    pub fn meta_get(&self, key: &str) -> Option<&str> {
        self.meta.as_ref()?.get(key).map(Cow::as_ref)
    }

    /// Sets a member of `_meta`, which is made if it is not an object.
    pub fn meta_set(&mut self, key: &'static str, json: impl Into<Cow<'a, str>>) -> &mut Self {
        if self.meta.is_none() {
            self.members.set("_meta".into(), "".into());
        }
        self.meta.get_or_insert_default().set(key.into(), json.into());
        self
    }

    /// Removes a member of `_meta`, and `_meta` with its last one.
    pub fn meta_remove(&mut self, key: &str) -> &mut Self {
        if let Some(meta) = &mut self.meta {
            self.meta_emptied |= meta.remove(key);
        }
        self
    }

    /// Makes a modern client's parameters a legacy server's: without the envelope, which a legacy
    /// peer says at `initialize`, and without what belongs to another attempt.
    pub fn for_legacy(&mut self) -> &mut Self {
        for key in [VERSION_KEY, CLIENT_INFO_KEY, CAPABILITIES_KEY, LOG_LEVEL_KEY] {
            self.meta_remove(key);
        }
        self.remove("inputResponses").remove("requestState")
    }

    /// Makes a legacy client's parameters a modern server's: with `envelope`, whatever the client
    /// wrote under its keys.
    pub fn for_modern(&mut self, envelope: &Envelope<'a>) -> &mut Self {
        const VERSION: &str = MODERN_VERSION;
        self.meta_set(VERSION_KEY, quoted(VERSION)).meta_set(CAPABILITIES_KEY, envelope.capabilities);
        match envelope.client_info {
            Some(info) => self.meta_set(CLIENT_INFO_KEY, info),
            None => self.meta_remove(CLIENT_INFO_KEY),
        };
        match envelope.log_level {
            Some(level) => self.meta_set(LOG_LEVEL_KEY, quoted(level)),
            None => self.meta_remove(LOG_LEVEL_KEY),
        }
    }

    /// Replaces the token under which progress of the request is reported.
    pub fn progress_token(&mut self, token: impl Into<Cow<'a, str>>) -> &mut Self {
        self.meta_set("progressToken", token)
    }

    /// Says who the verified user is, as a JSON object; without one, only takes away what the client
    /// has said under our key.
    pub fn identity(&mut self, identity: Option<&'a str>) -> &mut Self {
        match identity {
            Some(identity) => self.meta_set(IDENTITY_KEY, identity),
            None => self.meta_remove(IDENTITY_KEY),
        }
    }

    /// Whoever sets or removes `_meta` as a whole means all of it.
    fn forget_meta(&mut self, key: &str) {
        if key == "_meta" {
            self.meta = None;
        }
    }

    /// The object written anew.
    pub fn to_json(&self) -> String {
        let members = &self.members.0;
        let meta_size = self.meta.as_ref().map_or(0, Members::size);
        let mut json = String::with_capacity(2 + self.members.size() + meta_size);
        let dropped = self.meta_emptied && self.meta.as_ref().is_some_and(|meta| meta.0.is_empty());
        json.push('{');
        let kept = members.iter().filter(|(key, _)| !(dropped && key == "_meta"));
        for (index, (key, value)) in kept.enumerate() {
            if index > 0 {
                json.push(',');
            }
            push_quoted(&mut json, key);
            json.push(':');
            match &self.meta {
                Some(meta) if key == "_meta" => meta.write(&mut json),
                _ => json.push_str(value),
            }
        }
        json.push('}');
        json
    }
}

/// What every modern request says about its client.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'e> {
    /// The capabilities, as a JSON object in the modern shape.
    pub capabilities: &'e str,
    /// The client's software, as a JSON object.
    pub client_info: Option<&'e str>,
    /// The level from which on log messages are wanted.
    pub log_level: Option<&'e str>,
}

/// Whether a member counts as absent: peers write `null` for what they do not have.
pub(crate) fn is_absent(json: Option<&str>) -> bool {
    json.is_none_or(|json| json == "null")
}

/// An ordered list of keys and values, each key once.
#[derive(Clone, Default)]
struct Members<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Members<'a> {
    fn of(object: &'a Object<'_>) -> Self {
        Self(object.iter().map(|(key, value)| (key.into(), value.get().into())).collect())
    }

    fn parse(json: &'a str) -> Option<Self> {
        let object: Object<'a> = serde_json::from_str(json).ok()?;
        Some(Self(object.into_iter().map(|(key, value)| (key, value.get().into())).collect()))
    }

    fn get(&self, key: &str) -> Option<&Cow<'a, str>> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    fn set(&mut self, key: Cow<'a, str>, json: Cow<'a, str>) {
        match self.0.iter_mut().find(|(name, _)| *name == key) {
            Some((_, value)) => *value = json,
            None => self.0.push((key, json)),
        }
    }

    fn remove(&mut self, key: &str) -> bool {
        let place = self.0.iter().position(|(name, _)| name == key);
        place.map(|place| self.0.remove(place)).is_some()
    }

    fn size(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len() + 4).sum()
    }

    fn write(&self, json: &mut String) {
        json.push('{');
        for (index, (key, value)) in self.0.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            push_quoted(json, key);
            json.push(':');
            json.push_str(value);
        }
        json.push('}');
    }
}

#[cfg(test)]
mod tests;
