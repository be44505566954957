//! Which protocol revision a request speaks, and whether its headers say the same as its body
//! (MCP 2026-07-28, "Streamable HTTP": Request Metadata, Server Validation).

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use mcp_calculator::server::{CAPABILITIES_KEY, Era, LEGACY_VERSIONS, MODERN_VERSION, VERSION_KEY};
use serde_json::value::RawValue;

use crate::message::{INVALID_PARAMS, Message, Params, Request, shown, text};

/// Headers and body say different things, or a required header is missing.
pub const HEADER_MISMATCH: i64 = -32020;
/// The request needs a capability that the client did not declare.
pub const MISSING_CAPABILITY: i64 = -32021;
/// The requested protocol version is not served.
pub const UNSUPPORTED_VERSION: i64 = -32022;

/// The key of a request's `_meta` that names the client's software.
pub const CLIENT_INFO_KEY: &str = "io.modelcontextprotocol/clientInfo";
/// The key of a request's `_meta` that asks for log messages.
pub const LOG_LEVEL_KEY: &str = "io.modelcontextprotocol/logLevel";
/// The key of a result's `_meta` that names the server's software.
pub const SERVER_INFO_KEY: &str = "io.modelcontextprotocol/serverInfo";
/// The key of a notification's `_meta` that names the subscription it belongs to.
pub const SUBSCRIPTION_KEY: &str = "io.modelcontextprotocol/subscriptionId";

/// The request headers that mirror the body. `Err` for a value that no header may have, or for a
/// header that is there twice.
#[derive(Debug)]
pub struct Mirror<'h> {
    /// `MCP-Protocol-Version`
    pub version: Value<'h>,
    /// `Mcp-Method`
    pub method: Value<'h>,
    /// `Mcp-Name`
    pub name: Value<'h>,
}

/// One header's value, if it is there.
pub type Value<'h> = Option<Result<&'h str, Garbled>>;

/// A header that is there twice, or that has characters outside visible ASCII, space and tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbled;

impl<'h> Mirror<'h> {
    /// Reads one header from all of its values.
    pub fn value(mut values: impl Iterator<Item = &'h [u8]>) -> Value<'h> {
        let first = values.next()?.trim_ascii();
        // All are looked at, because that takes many bytes at a time.
        let plain = first.iter().fold(true, |plain, byte| plain & matches!(byte, b'\t' | 0x20..=0x7e));
        Some(match std::str::from_utf8(first) {
            Ok(text) if plain && values.next().is_none() => Ok(text),
            _ => Err(Garbled),
        })
    }

    /// Which era `message` speaks.
    ///
    /// A version in `_meta` or a version header that is not a legacy one makes it modern; so does
    /// `server/discover`. No sign at all means a client from before the header existed: legacy.
    pub fn era(&self, message: &Message<'_>) -> Era {
        let (method, params) = match message {
            Message::Request(request) => (Some(request.method.as_ref()), Some(&request.params)),
            Message::Notification(notification) => (None, Some(&notification.params)),
            Message::Response(_) => (None, None),
        };
        let legacy = |version: &str| LEGACY_VERSIONS.contains(&version);
        match (self.version, params.and_then(|params| params.meta_text(VERSION_KEY)).as_deref()) {
            (None, None) if method == Some("server/discover") => Era::Modern,
            (None, None) => Era::Legacy,
            (Some(Ok(header)), None) if legacy(header) => Era::Legacy,
            (None, Some(body)) if legacy(body) => Era::Legacy,
            (Some(Ok(header)), Some(body)) if header == body && legacy(header) => Era::Legacy,
            _ => Era::Modern,
        }
    }

    /// Checks a modern request's envelope: headers against body, version, required `_meta`.
    ///
    /// # Errors
    /// The first fault in the order in which a client can mend them: the version before what
    /// depends on it.
    pub fn check(&self, request: &Request<'_>) -> Result<(), EnvelopeError> {
        let body_version = request.params.meta_text(VERSION_KEY);
        let version = header("MCP-Protocol-Version", self.version)?;
        if let Some(body) = body_version.as_deref().filter(|body| *body != version) {
            return Err(mismatch("MCP-Protocol-Version", version, body));
        }
        if version != MODERN_VERSION {
            return Err(EnvelopeError::UnsupportedVersion(shortened(version)));
        }
        let method = header("Mcp-Method", self.method)?;
        if method != request.method {
            return Err(mismatch("Mcp-Method", method, &request.method));
        }
        if let (Some(target), true) = (&request.params.target, is_named(&request.method)) {
            let name = decoded("Mcp-Name", header("Mcp-Name", self.name)?)?;
            if name != *target {
                return Err(mismatch("Mcp-Name", &name, target));
            }
        }
        if body_version.is_none() {
            return Err(missing_meta(VERSION_KEY, "a string"));
        }
        if !request.params.meta.get(CAPABILITIES_KEY).is_some_and(is_object) {
            return Err(missing_meta(CAPABILITIES_KEY, "an object"));
        }
        Ok(())
    }
}

/// Whether `Mcp-Name` is required for `method`.
pub(crate) fn is_named(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}

fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

fn header<'h>(name: &'static str, value: Value<'h>) -> Result<&'h str, EnvelopeError> {
    match value {
        Some(Ok(value)) => Ok(value),
        Some(Err(Garbled)) => {
            Err(EnvelopeError::HeaderMismatch(format!("the header {name} is there twice or has invalid characters")))
        }
        None => Err(EnvelopeError::HeaderMismatch(format!("the header {name} is missing"))),
    }
}

/// The value of the header `name` with the base64 sentinel undone, strictly ("Value Encoding").
pub(crate) fn decoded<'h>(name: &str, value: &'h str) -> Result<Cow<'h, str>, EnvelopeError> {
    let Some(encoded) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Ok(Cow::Borrowed(value));
    };
    let text = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(Cow::Owned)
        .ok_or_else(|| EnvelopeError::HeaderMismatch(format!("the header {name} is not base64 of UTF-8 text")))
}

/// `text` as a header's value: with the base64 sentinel where plain text would not arrive as it is, or
/// would be taken for a sentinel ("Value Encoding").
pub(crate) fn encoded(text: &str) -> Cow<'_, str> {
    let plain = text.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    let is_trimmed = !text.starts_with(' ') && !text.ends_with(' ');
    let looks_encoded = text.starts_with("=?base64?") && text.ends_with("?=");
    if plain && is_trimmed && !looks_encoded {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("=?base64?{}?=", STANDARD.encode(text)))
}

fn mismatch(name: &str, header: &str, body: &str) -> EnvelopeError {
    EnvelopeError::HeaderMismatch(format!("the header {name} says {}, the body {}", shown(header), shown(body)))
}

fn missing_meta(key: &'static str, kind: &'static str) -> EnvelopeError {
    EnvelopeError::InvalidMeta { key, kind }
}

fn shortened(version: &str) -> String {
    version.chars().take(64).collect()
}

/// Why a modern request's envelope is not acceptable: always HTTP 400.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Headers and body disagree, or a header is missing.
    #[error("Header mismatch: {0}")]
    HeaderMismatch(String),
    /// Not a version that is served.
    #[error("Unsupported protocol version")]
    UnsupportedVersion(String),
    /// A required `_meta` field is missing or of the wrong type.
    #[error("Invalid params: `_meta` needs `{key}`, {kind}")]
    InvalidMeta {
        /// The field.
        key: &'static str,
        /// What it has to be.
        kind: &'static str,
    },
}

impl EnvelopeError {
    /// The JSON-RPC error code.
    pub fn code(&self) -> i64 {
        match self {
            Self::HeaderMismatch(_) => HEADER_MISMATCH,
            Self::UnsupportedVersion(_) => UNSUPPORTED_VERSION,
            Self::InvalidMeta { .. } => INVALID_PARAMS,
        }
    }

    /// The error's `data` as JSON, where the specification asks for it.
    pub fn data(&self) -> Option<serde_json::Value> {
        match self {
            Self::UnsupportedVersion(requested) => {
                Some(serde_json::json!({ "supported": [MODERN_VERSION], "requested": requested }))
            }
            _ => None,
        }
    }
}

/// The version that `initialize` asks for; `None` if it does not say.
pub fn requested_version<'p>(params: &'p Params<'_>) -> Option<Cow<'p, str>> {
    params.members.get("protocolVersion").and_then(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

    fn ok(text: &str) -> Value<'_> {
        Some(Ok(text))
    }

    fn checked(version: Value<'_>, method: Value<'_>, name: Value<'_>, body: &str) -> Result<(), EnvelopeError> {
        match Message::parse(body.as_bytes()) {
            Ok(Message::Request(request)) => Mirror { version, method, name }.check(&request),
            other => panic!("{other:?}"),
        }
    }

    fn call(name: &str) -> String {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":{},{META}}}}}"#,
            crate::message::quoted(name)
        )
    }

    #[test]
    fn header_and_body_must_agree() {
        let (v, m) = (ok("2026-07-28"), ok("tools/call"));
        let code =
            |version, method, name, body: &str| checked(version, method, name, body).err().map(|error| error.code());
        let body = call("calculator");
        assert_eq!(code(v, m, ok("calculator"), &body), None);
        assert_eq!(code(v, m, ok("=?base64?Y2FsY3VsYXRvcg==?="), &body), None);
        for (version, method, name) in [
            (None, m, ok("calculator")),
            (v, None, ok("calculator")),
            (v, m, None),
            (v, ok("TOOLS/CALL"), ok("calculator")),
            (v, m, ok("other")),
            (v, m, ok("=?base64?Y2FsY3VsYXRvcg?=")),
            (v, m, ok("=?base64?Y2FsY3V*YXRvcg==?=")),
            (v, m, ok("=?base64?/w==?=")),
            (v, m, ok("=?BASE64?Y2FsY3VsYXRvcg==?=")),
            (ok("2025-11-25"), m, ok("calculator")),
            (v, Some(Err(Garbled)), ok("calculator")),
        ] {
            assert_eq!(code(version, method, name, &body), Some(HEADER_MISMATCH), "{version:?} {method:?} {name:?}");
        }
        assert_eq!(code(v, m, ok("=?base64?SGVsbG8sIOS4lueVjA==?="), &call("Hello, 世界")), None);
        assert_eq!(code(v, m, ok("=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="), &call("=?base64?literal?=")), None);
        assert_eq!(code(v, m, ok("=?base64?literal?="), &call("=?base64?literal?=")), Some(HEADER_MISMATCH));
    }

    #[test]
    fn versions_and_required_meta() {
        let discover =
            |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{{params}}}}}"#);
        let code = |version, params: &str| {
            checked(version, ok("server/discover"), None, &discover(params)).err().map(|e| e.code())
        };
        assert_eq!(code(ok("2026-07-28"), META), None);
        assert_eq!(code(ok("2026-07-28"), ""), Some(INVALID_PARAMS));
        assert_eq!(
            code(ok("2026-07-28"), r#""_meta":{"io.modelcontextprotocol/clientCapabilities":{}}"#),
            Some(INVALID_PARAMS)
        );
        assert_eq!(
            code(ok("2026-07-28"), r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#),
            Some(INVALID_PARAMS)
        );
        assert_eq!(code(ok("v999.0.0"), ""), Some(UNSUPPORTED_VERSION));
        assert_eq!(
            code(ok("v999.0.0"), r#""_meta":{"io.modelcontextprotocol/protocolVersion":"v999.0.0"}"#),
            Some(UNSUPPORTED_VERSION)
        );
        assert_eq!(
            code(ok("2026-07-28"), r#""_meta":{"io.modelcontextprotocol/protocolVersion":"v999.0.0"}"#),
            Some(HEADER_MISMATCH)
        );
    }

    #[test]
    fn eras() {
        let era = |version: Value<'_>, body: &str| {
            let message = Message::parse(body.as_bytes()).expect("a message");
            Mirror { version, method: None, name: None }.era(&message)
        };
        let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        let modern = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{META}}}}}"#);
        assert_eq!(era(None, list), Era::Legacy);
        assert_eq!(era(ok("2025-06-18"), list), Era::Legacy);
        assert_eq!(era(ok("2026-07-28"), list), Era::Modern);
        assert_eq!(era(ok("1900-01-01"), list), Era::Modern);
        assert_eq!(era(None, &modern), Era::Modern);
        assert_eq!(era(ok("2025-11-25"), &modern), Era::Modern);
        assert_eq!(era(Some(Err(Garbled)), list), Era::Modern);
        assert_eq!(era(None, r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#), Era::Modern);
        assert_eq!(era(ok("2025-11-25"), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Era::Legacy);
    }

    #[test]
    fn garbled_headers() {
        let value = |values: &[&'static [u8]]| Mirror::value(values.iter().copied());
        assert_eq!(value(&[]), None);
        assert_eq!(value(&[b"  a b\t"]), Some(Ok("a b")));
        assert_eq!(value(&[b"a", b"a"]), Some(Err(Garbled)));
        assert_eq!(value(&[b"\xc3\xa4"]), Some(Err(Garbled)));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_to_the_same(text in "(=\\?base64\\?)?[ a-z\t\n\u{e4}]{0,9}(\\?=)?") {
            let value = encoded(&text);
            prop_assert_eq!(value.trim(), &*value);
            prop_assert!(value.bytes().all(|byte| matches!(byte, 0x20..=0x7e)));
            let text_again = decoded("Mcp-Name", &value).expect("our own encoding");
            prop_assert_eq!(text_again, text.as_str());
        }

        #[test]
        fn no_headers_panic(
            headers in proptest::array::uniform3(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..3)),
            encoded in "=\\?base64\\?[A-Za-z0-9+/=?]{0,20}(\\?=)?",
        ) {
            let body = call("calculator");
            let message = Message::parse(body.as_bytes()).expect("a message");
            let Message::Request(request) = &message else { panic!("{message:?}") };
            let [version, method, name] = headers.each_ref().map(|values| Mirror::value(values.iter().map(Vec::as_slice)));
            let arbitrary = Mirror { version, method, name };
            arbitrary.era(&message);
            // Headers that nobody chose cannot agree with the body.
            prop_assert!(arbitrary.check(request).is_err());
            let last = Mirror { version: ok(MODERN_VERSION), method: ok("tools/call"), name: ok(&encoded) };
            prop_assert_eq!(last.check(request).is_ok(), encoded == "=?base64?Y2FsY3VsYXRvcg==?=");
        }
    }
}
