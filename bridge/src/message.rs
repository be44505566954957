//! One JSON-RPC message, parsed once (JSON-RPC 2.0 §4; MCP 2026-07-28 and 2025-11-25, "Messages").
//!
//! What the policy and the era rules read is parsed here and nowhere else, with repeated keys
//! refused, so that no second reader of the same bytes can come to another meaning. Everything else
//! stays raw text: numbers beyond 64 bits, unknown fields and their spelling survive.

mod judged;
mod object;

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use self::{
    judged::{JUDGED_KEYS, refuse_look_alikes, subscriptions, target_key},
    object::{MAX_MEMBERS, members_of},
};
pub use self::{
    judged::{Reference, looks_like},
    object::{Object, text},
};

/// A message as a client may send it.
#[derive(Debug)]
pub enum Message<'a> {
    /// Wants an answer under its id.
    Request(Request<'a>),
    /// Wants no answer.
    Notification(Notification<'a>),
    /// Answers a request of the other side's (legacy era only, from a client).
    Response(Response<'a>),
}

/// What a request led to, under the request's id.
pub struct Response<'a> {
    /// The id of the request that it answers.
    pub id: Id<'a>,
    /// The result, or the error object.
    pub outcome: Result<&'a RawValue, &'a RawValue>,
}

impl fmt::Debug for Response<'_> {
    /// Shows no content: it is the other side's own business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("id", &self.id).field("is_error", &self.outcome.is_err()).finish()
    }
}

/// A request: method, parameters and the id for its answer.
#[derive(Debug)]
pub struct Request<'a> {
    /// The id, as the client spelled it.
    pub id: Id<'a>,
    /// The method.
    pub method: Cow<'a, str>,
    /// What the parameters say.
    pub params: Params<'a>,
}

impl Request<'_> {
    /// The request written anew: what was checked, never the bytes it came from.
    pub fn to_json(&self) -> String {
        let method = quoted(&self.method);
        let params = self.params.to_json().map(|params| format!(r#","params":{params}"#));
        format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":{method}{}}}"#,
            self.id.as_json(),
            params.as_deref().unwrap_or_default()
        )
    }
}

/// A notification: a method and parameters.
#[derive(Debug)]
pub struct Notification<'a> {
    /// The method.
    pub method: Cow<'a, str>,
    /// What the parameters say.
    pub params: Params<'a>,
}

/// Parameters, with the parts that policy and era read already parsed.
#[derive(Default)]
pub struct Params<'a> {
    /// Whether there are any; most methods do without.
    pub is_given: bool,
    /// Whether there is a `_meta` among them.
    pub has_meta: bool,
    /// Every member but `_meta`, in the order of the message.
    pub members: Object<'a>,
    /// `_meta`, empty if there is none.
    pub meta: Object<'a>,
    /// What is called, read or got: `name` of `tools/call` and `prompts/get`, `uri` of
    /// `resources/…`. `None` if it is absent or not a string: whoever serves the method says so.
    pub target: Option<Cow<'a, str>>,
    /// `arguments` of `tools/call`; `None` if absent or not an object (the tool says so then).
    pub arguments: Option<Object<'a>>,
    /// What `completion/complete` is about; `None` if its `ref` is not one that we know.
    pub reference: Option<Reference<'a>>,
    /// Resources whose changes `subscriptions/listen` asks to be told.
    pub subscriptions: Vec<Cow<'a, str>>,
    /// Whether `subscriptions/listen` asks for kinds of notifications that we do not know.
    pub has_unknown_subscriptions: bool,
}

impl fmt::Debug for Params<'_> {
    /// Shows keys and the target only: values are the client's own business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { members, meta, target, arguments, .. } = self;
        let mut shown = f.debug_struct("Params");
        shown.field("members", members).field("meta", meta).field("target", target).field("arguments", arguments);
        shown.finish()
    }
}

impl Params<'_> {
    /// The parameters written anew, `_meta` last; `None` if there are none.
    pub fn to_json(&self) -> Option<String> {
        if !self.is_given {
            return None;
        }
        let mut json = self.members.to_json();
        if self.has_meta {
            json.pop();
            json.push_str(if json.len() > 1 { r#","_meta":"# } else { r#""_meta":"# });
            json.push_str(&self.meta.to_json());
            json.push('}');
        }
        Some(json)
    }

    /// The text of the string `key` of `_meta`; `None` if it is absent or not a string.
    pub fn meta_text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.meta.get(key).and_then(text)
    }
}

/// A request's id: a string or an integer, in the client's own spelling.
#[derive(Clone, Copy)]
pub struct Id<'a>(&'a RawValue);

impl<'a> Id<'a> {
    /// The id as JSON text.
    pub fn as_json(&self) -> &'a str {
        self.0.get()
    }

    /// The id as JSON text of its own, for answers that outlive the message.
    pub fn to_json(&self) -> String {
        self.as_json().to_owned()
    }

    fn new(raw: &'a RawValue) -> Option<Self> {
        let text = raw.get();
        if text.len() > MAX_ID_BYTES {
            return None;
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        let integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        (text.starts_with('"') || integer).then_some(Self(raw))
    }
}

impl fmt::Debug for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_json())
    }
}

/// An id is repeated in its answer, which waits in our memory until the client reads it: one as long
/// as a body would let a client that reads nothing fill it. Real ones are numbers or UUIDs.
const MAX_ID_BYTES: usize = 1024;
const BAD_ID: &str = "`id` must be a string or an integer of at most 1024 bytes";

impl<'a> Message<'a> {
    /// Parses `body`, which must be one message and nothing else.
    ///
    /// `"params": null` counts as absent, because clients send it. Members of the envelope that
    /// JSON-RPC does not name are not kept.
    ///
    /// # Errors
    /// [`ParseError`], with the id for its answer where one could be read.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let body = std::str::from_utf8(body).map_err(|error| ParseError::not_json(format!("not UTF-8: {error}")))?;
        let Envelope { members: envelope, params } = Envelope::parse(body)?;
        let id = envelope.get("id").map(|raw| Id::new(raw).ok_or(raw));
        let known_id = id.and_then(Result::ok);
        let invalid = |detail: &str| ParseError::invalid(known_id, detail);

        if envelope.get("jsonrpc").and_then(text).as_deref() != Some("2.0") {
            return Err(invalid("`jsonrpc` must be \"2.0\""));
        }
        // Programs exist that write the other one as null.
        let given = |key| envelope.get(key).filter(|raw| raw.get() != "null");
        let outcome = match (given("result"), given("error")) {
            (Some(_), Some(_)) => return Err(invalid("a message cannot have a result and an error")),
            (_, Some(error)) => Some(Err(error)),
            (_, None) => envelope.get("result").map(Ok),
        };
        let method = match envelope.get("method") {
            Some(raw) => text(raw).ok_or_else(|| invalid("`method` must be a string"))?,
            None => {
                let outcome = outcome.ok_or_else(|| invalid("`method` is missing"))?;
                let id = known_id.ok_or_else(|| invalid(BAD_ID))?;
                return Ok(Self::Response(Response { id, outcome }));
            }
        };
        if outcome.is_some() {
            return Err(invalid("a message cannot have a method and a result"));
        }
        let params = params
            .and_then(|parts| Params::new(&method, parts))
            .map_err(|detail| ParseError { code: INVALID_PARAMS, ..ParseError::invalid(known_id, detail) })?;
        match id {
            None => Ok(Self::Notification(Notification { method, params })),
            Some(Ok(id)) => Ok(Self::Request(Request { id, method, params })),
            Some(Err(_)) => Err(invalid(BAD_ID)),
        }
    }
}

/// The members of a message, in which `params` and its `_meta` are read in the same pass: as text
/// first, most of a message would be gone over three times.
struct Envelope<'a> {
    members: Object<'a>,
    /// `Err` says what is wrong with them.
    params: Result<Option<ParamsParts<'a>>, String>,
}

impl<'a> Envelope<'a> {
    fn parse(body: &'a str) -> Result<Self, ParseError> {
        if let Ok(envelope) = serde_json::from_str(body) {
            return Ok(envelope);
        }
        // It is not accepted; part by part shows why, and under which id to say so.
        let members: Object<'a> = serde_json::from_str(body).map_err(|error| not_an_envelope(body, &error))?;
        let params = Err(params_fault(members.get("params")));
        Ok(Self { members, params })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (members, params) = members_of(deserializer, "params")?;
        Ok(Self { members, params: Ok(Option::flatten(params)) })
    }
}

/// Members of `params`, and those of its `_meta`.
struct ParamsParts<'a> {
    members: Object<'a>,
    meta: Option<Object<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for ParamsParts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (members, meta) = members_of(deserializer, "_meta")?;
        Ok(Self { members, meta })
    }
}

/// What is wrong with parameters that could not be read.
fn params_fault(raw: Option<&RawValue>) -> String {
    let read = || {
        let members = raw.map(|raw| object(raw, "params")).transpose()?;
        members.as_ref().and_then(|members| members.get("_meta")).map(|raw| object(raw, "params._meta")).transpose()
    };
    read().err().unwrap_or_else(|| "`params` cannot be read".to_owned())
}

impl<'a> Params<'a> {
    /// Reads the parameters of `method`.
    ///
    /// # Errors
    /// What is wrong with them, for the peer.
    pub fn parse(method: &str, raw: Option<&'a RawValue>) -> Result<Self, String> {
        let parts = raw.map(|raw| serde_json::from_str::<Option<ParamsParts<'a>>>(raw.get())).transpose();
        Self::new(method, parts.map_err(|_| params_fault(raw))?.flatten())
    }

    fn new(method: &str, parts: Option<ParamsParts<'a>>) -> Result<Self, String> {
        let Some(ParamsParts { members, meta }) = parts else {
            return Ok(Self::default());
        };
        refuse_look_alikes(&members, &JUDGED_KEYS, "params")?;
        if let Some(meta) = &meta {
            refuse_look_alikes(meta, &[IDENTITY_KEY], "params._meta")?;
        }
        let target = target_key(method).and_then(|key| members.get(key)).and_then(text);
        let arguments = members.get("arguments").filter(|raw| method == "tools/call" && raw.get().starts_with('{'));
        let arguments = arguments.map(|raw| object(raw, "params.arguments")).transpose()?;
        let reference = match method {
            "completion/complete" => Reference::parse(members.get("ref"))?,
            _ => None,
        };
        let (subscriptions, has_unknown_subscriptions) = match method {
            "subscriptions/listen" => subscriptions(members.get("notifications"))?,
            _ => Default::default(),
        };
        let (is_given, has_meta) = (true, meta.is_some());
        let meta = meta.unwrap_or_default();
        Ok(Self {
            is_given,
            has_meta,
            members,
            meta,
            target,
            arguments,
            reference,
            subscriptions,
            has_unknown_subscriptions,
        })
    }
}

/// Why `body` is not an object without repeated keys: not JSON, or other JSON.
fn not_an_envelope(body: &str, error: &serde_json::Error) -> ParseError {
    match serde_json::from_str::<&RawValue>(body) {
        Err(error) => ParseError::not_json(error.to_string()),
        Ok(raw) if raw.get().starts_with('[') => {
            ParseError::invalid(None, "a batch: send one message per request (batches ended with 2025-06-18)")
        }
        Ok(_) => ParseError::invalid(None, cause(error)),
    }
}

fn object<'a>(raw: &'a RawValue, place: &str) -> Result<Object<'a>, String> {
    if !raw.get().starts_with('{') {
        return Err(format!("`{place}` must be an object"));
    }
    serde_json::from_str(raw.get()).map_err(|error| format!("in `{place}`: {}", cause(&error)))
}

/// `text` as a JSON string.
pub fn quoted(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    push_quoted(&mut json, text);
    json
}

/// Writes `text` as a JSON string at the end of `json`.
pub(crate) fn push_quoted(json: &mut String, text: &str) {
    // All bytes are looked at, which the compiler makes one step for many of them.
    let is_plain =
        text.bytes().fold(true, |is_plain, byte| is_plain & (byte >= b' ') & (byte != b'"') & (byte != b'\\'));
    if is_plain {
        json.extend(["\"", text, "\""]);
    } else {
        json.push_str(&serde_json::to_string(text).expect("a string always serialises"));
    }
}

/// What went wrong, without serde's position, which counts within a part of the message.
fn cause(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

/// A peer's text, made fit for an error message: short, printable.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 64;
    let mut short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

/// The key of `_meta` with the verified user: the bridge's own, never a client's.
pub const IDENTITY_KEY: &str = "mcp-bridge/identity";

/// Invalid JSON (JSON-RPC 2.0 §5.1).
pub const PARSE_ERROR: i64 = -32700;
/// Valid JSON, not a message (JSON-RPC 2.0 §5.1).
pub const INVALID_REQUEST: i64 = -32600;
/// A method that is not there (JSON-RPC 2.0 §5.1).
pub const METHOD_NOT_FOUND: i64 = -32601;
/// Parameters that do not fit (JSON-RPC 2.0 §5.1).
pub const INVALID_PARAMS: i64 = -32602;
/// Something failed on our side (JSON-RPC 2.0 §5.1).
pub const INTERNAL_ERROR: i64 = -32603;

/// Why a body is not a message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ParseError {
    /// The JSON-RPC error code for the answer.
    pub code: i64,
    /// The id for the answer, as JSON text, where it could be read.
    pub id: Option<String>,
    /// What is wrong, for the peer.
    pub detail: String,
}

impl ParseError {
    fn not_json(detail: String) -> Self {
        Self { code: PARSE_ERROR, id: None, detail: format!("Parse error: {detail}") }
    }

    fn invalid(id: Option<Id<'_>>, detail: impl Into<String>) -> Self {
        Self { code: INVALID_REQUEST, id: id.map(|id| id.as_json().to_owned()), detail: detail.into() }
    }
}

#[cfg(test)]
mod tests;
