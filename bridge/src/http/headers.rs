//! What request headers ask for.

use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderName},
};
use mcp_calculator::server::{LEGACY_VERSIONS, MODERN_VERSION};

use crate::{
    era::{Mirror, Value},
    http::respond::Refusal,
    relay::session::SessionId,
};

/// Names the legacy session of a request, and of the answer to `initialize`.
pub(super) static SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

// Parsed once: a look-up by text parses the name each time.
static VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
static METHOD: HeaderName = HeaderName::from_static("mcp-method");
static NAME: HeaderName = HeaderName::from_static("mcp-name");

/// Which answers the client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepts {
    /// `application/json`
    pub(super) json: bool,
    /// `text/event-stream`
    pub(super) events: bool,
}

impl Accepts {
    /// Without `Accept`, anything goes (RFC 9110 §12.5.1). A range with `q=0` adds nothing, and takes
    /// nothing away that another range allows.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(ACCEPT).iter();
        if let (Some(value), None) = (values.next(), values.next())
            && value.as_bytes() == USUAL_ACCEPT
        {
            return Self { json: true, events: true };
        }
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

/// What every SDK sends, letter by letter: nothing to take apart.
const USUAL_ACCEPT: &[u8] = b"application/json, text/event-stream";

/// Whether the body is announced as JSON, once.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let Some(value) = types.next() else { return false };
    // Most send it so, and nothing has to be taken apart.
    let is_plain = value.as_bytes() == b"application/json";
    let essence = || value.to_str().ok()?.split(';').next().map(str::trim);
    (is_plain || essence().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")))
        && types.next().is_none()
}

/// Whether the body would have to be decoded first. A proxy that decodes it would read another body
/// than a server that does not.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The headers that mirror the body of a modern request.
pub(super) fn mirror(headers: &HeaderMap) -> Mirror<'_> {
    let value = |name: &HeaderName| Mirror::value(headers.get_all(name).iter().map(HeaderValue::as_bytes));
    Mirror { version: value(&VERSION), method: value(&METHOD), name: value(&NAME) }
}

/// The value of one header, whose name may be in any case.
pub(super) fn value<'h>(headers: &'h HeaderMap, name: &str) -> Value<'h> {
    Mirror::value(headers.get_all(name).iter().map(HeaderValue::as_bytes))
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
    let mut values = headers.get_all(&SESSION).iter();
    let value = values.next().ok_or_else(|| Refusal::SessionMissing { id: id.to_owned() })?;
    Ok(SessionId::parse(value.as_bytes()).filter(|_| values.next().is_none()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map<'v>(name: HeaderName, values: impl IntoIterator<Item = &'v [u8]>) -> HeaderMap {
        let values = values.into_iter().filter_map(|value| HeaderValue::from_bytes(value).ok());
        values.map(|value| (name.clone(), value)).collect()
    }

    fn of(name: HeaderName, values: &[&str]) -> HeaderMap {
        map(name, values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn accept() {
        const JSON: (bool, bool) = (true, false);
        const EVENTS: (bool, bool) = (false, true);
        const BOTH: (bool, bool) = (true, true);
        const NEITHER: (bool, bool) = (false, false);
        for (values, (json, events)) in [
            (&[][..], BOTH),
            (&["application/json, text/event-stream"], BOTH),
            (&["application/json", "text/event-stream"], BOTH),
            (&["text/event-stream;q=0.5,application/json;q=0.9"], BOTH),
            (&["*/*"], BOTH),
            (&["application/json"], JSON),
            (&["Application/JSON; charset=utf-8"], JSON),
            (&["application/*"], JSON),
            (&["text/event-stream"], EVENTS),
            (&["text/*"], EVENTS),
            (&["application/json;q=0, text/event-stream"], EVENTS),
            (&["application/json ; Q=0.000, text/event-stream"], EVENTS),
            (&["application/json;q=0.001"], JSON),
            (&["*/*;q=0"], NEITHER),
            (&[""], NEITHER),
            (&["text/html"], NEITHER),
            (&["application/jsonp, text/event-streams"], NEITHER),
            (&["*"], NEITHER),
        ] {
            assert_eq!(Accepts::of(&of(ACCEPT, values)), Accepts { json, events }, "{values:?}");
        }
    }

    #[test]
    fn content_type() {
        for (values, expected) in [
            (&["application/json"][..], true),
            (&["APPLICATION/Json"], true),
            (&["application/json;charset=utf-8"], true),
            (&[" application/json ; charset=utf-8"], true),
            (&[], false),
            (&[""], false),
            (&["text/plain"], false),
            (&["application/jsonp"], false),
            (&["application/json, text/plain"], false),
            (&["application/json", "application/json"], false),
            (&["application/json", "text/plain"], false),
        ] {
            assert_eq!(is_json(&of(CONTENT_TYPE, values)), expected, "{values:?}");
        }
    }

    #[test]
    fn content_encoding() {
        for (values, expected) in [
            (&[][..], false),
            (&["identity"], false),
            (&["Identity", "identity"], false),
            (&["gzip"], true),
            (&["identity", "gzip"], true),
            (&["identity, gzip"], true),
            (&[""], true),
        ] {
            assert_eq!(is_encoded(&of(CONTENT_ENCODING, values)), expected, "{values:?}");
        }
    }

    #[test]
    fn get_and_delete_are_for_legacy_versions() {
        let check = |values: &[&str]| {
            let headers = of(HeaderName::from_static("mcp-protocol-version"), values);
            check_legacy_version(&headers, "POST").map_err(|refusal| format!("{refusal:?}"))
        };
        assert_eq!(check(&[]), Ok(()));
        for version in LEGACY_VERSIONS {
            assert_eq!(check(&[version]), Ok(()));
        }
        assert_eq!(check(&[MODERN_VERSION]), Err("MethodNotAllowed { allow: \"POST\" }".to_owned()));
        for unsupported in [&["1900-01-01"][..], &[""], &["2025-11-25", "2025-11-25"], &["2025-11-2\u{e4}"]] {
            assert_eq!(check(unsupported), Err("UnsupportedVersion".to_owned()), "{unsupported:?}");
        }
    }

    #[test]
    fn sessions_are_named_once() {
        let id = "0123456789abcdef0123456789abcdef";
        let named = |values: &[&str]| session_of(&of(SESSION.clone(), values), "7");
        assert!(matches!(named(&[]), Err(Refusal::SessionMissing { id }) if id == "7"));
        assert_eq!(named(&[id]).ok().flatten(), SessionId::parse(id.as_bytes()));
        for values in [&[""][..], &["x"], &[id, id], &[&id[1..]]] {
            assert!(matches!(named(values), Ok(None)), "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn no_accept_panics(
            bytes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..3),
            text in "[a-z*/;, q=.0-9-]{0,60}",
        ) {
            let headers = map(ACCEPT, bytes.iter().map(Vec::as_slice).chain([text.as_bytes()]));
            Accepts::of(&headers);
        }

        #[test]
        fn another_range_never_takes_an_answer_away(text in "[a-z*/;, q=.0-9]{0,40}") {
            let alone = Accepts::of(&of(ACCEPT, &[&text]));
            let more = Accepts::of(&of(ACCEPT, &[&text, "application/json"]));
            prop_assert_eq!(more, Accepts { json: true, ..alone });
        }

        #[test]
        fn no_other_header_panics(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..3)) {
            let values = || values.iter().map(Vec::as_slice);
            is_json(&map(CONTENT_TYPE, values()));
            is_encoded(&map(CONTENT_ENCODING, values()));
            let _ = check_legacy_version(&map(HeaderName::from_static("mcp-protocol-version"), values()), "POST");
            let _ = session_of(&map(SESSION.clone(), values()), "null");
        }
    }
}
