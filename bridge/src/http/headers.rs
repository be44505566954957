//! What request headers ask for.

use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE},
};
use mcp_calculator::server::{LEGACY_VERSIONS, MODERN_VERSION};

use crate::{era::Mirror, http::respond::Refusal, relay::session::SessionId};

/// Names the legacy session of a request, and of the answer to `initialize`.
pub(super) const SESSION: &str = "mcp-session-id";

/// Which answers the client reads.
#[derive(Clone, Copy)]
pub(super) struct Accepts {
    pub(super) json: bool,
    pub(super) events: bool,
}

impl Accepts {
    /// Without `Accept`, anything goes (RFC 9110 §12.5.1).
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut accepts = Self { json: false, events: false };
        let mut present = false;
        for value in headers.get_all(ACCEPT) {
            present = true;
            for range in value.to_str().unwrap_or_default().split(',') {
                let mut parts = range.split(';').map(str::trim_ascii);
                let kind = parts.next().unwrap_or_default();
                let is = |names: &[&str]| names.iter().any(|name| kind.eq_ignore_ascii_case(name));
                let refused = parts.any(|part| {
                    part.strip_prefix("q=").or(part.strip_prefix("Q=")).is_some_and(|q| q.parse::<f32>() == Ok(0.0))
                });
                if !refused {
                    accepts.json |= is(&["application/json", "application/*", "*/*"]);
                    accepts.events |= is(&["text/event-stream", "text/*", "*/*"]);
                }
            }
        }
        if present { accepts } else { Self { json: true, events: true } }
    }
}

/// Whether the body is announced as JSON, once.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let essence = types.next().and_then(|value| value.to_str().ok()?.split(';').next().map(str::trim));
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) && types.next().is_none()
}

/// Whether the body would have to be decoded first. A proxy that decodes it would read another body
/// than a server that does not.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The headers that mirror the body of a modern request.
pub(super) fn mirror(headers: &HeaderMap) -> Mirror<'_> {
    let value = |name| Mirror::value(headers.get_all(name).iter().map(HeaderValue::as_bytes));
    Mirror { version: value("mcp-protocol-version"), method: value("mcp-method"), name: value("mcp-name") }
}

/// GET and DELETE are for legacy sessions only.
pub(super) fn check_legacy_version(headers: &HeaderMap, allow: &'static str) -> Result<(), Refusal> {
    match mirror(headers).version {
        None => Ok(()),
        Some(Ok(version)) if LEGACY_VERSIONS.contains(&version) => Ok(()),
        Some(Ok(version)) if version == MODERN_VERSION => Err(Refusal::MethodNotAllowed { allow }),
        Some(_) => Err(Refusal::UnsupportedVersion),
    }
}

/// The session that a request names; `Ok(None)` for one that cannot exist.
pub(super) fn session_of(headers: &HeaderMap, id: &str) -> Result<Option<SessionId>, Refusal> {
    let mut values = headers.get_all(SESSION).iter();
    let value = values.next().ok_or_else(|| Refusal::SessionMissing { id: id.to_owned() })?;
    Ok(SessionId::parse(value.as_bytes()).filter(|_| values.next().is_none()))
}
