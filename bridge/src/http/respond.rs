//! Answers and refusals as HTTP responses. A cause becomes a status here and nowhere else.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::{Either, Full, combinators::UnsyncBoxBody};
use mcp_calculator::server::{Era, LEGACY_VERSIONS, MODERN_VERSION};

use crate::{
    backend::{Answer, Answered},
    era::{EnvelopeError, HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION},
    http::challenge::{self, Challenges},
    message::{INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, ParseError},
    scope::ScopeSet,
    telemetry::labels::RefusalReason,
    token::{Inactive, MalformedCredentials},
};

/// A whole text, or a stream of events.
pub(super) type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, Infallible>>;

/// Why a request is not served. `id` is the request's own, as JSON text, where it was read.
#[derive(Debug)]
pub(super) enum Refusal {
    ForeignHost,
    ForeignOrigin,
    NoSuchPath,
    MethodNotAllowed {
        allow: &'static str,
    },
    NoToken,
    MalformedCredentials(MalformedCredentials),
    InvalidToken(Inactive),
    VerifierUnavailable(Arc<str>),
    RateLimited(Duration),
    Overloaded,
    ContentType,
    ContentEncoding,
    NotAcceptable {
        offered: &'static str,
    },
    TooLarge {
        max_bytes: usize,
    },
    TooSlow,
    BrokenBody,
    Unparsable(ParseError),
    Envelope {
        id: String,
        error: EnvelopeError,
    },
    UnexpectedResponse,
    UnsupportedVersion,
    SessionMissing {
        id: String,
    },
    SessionUnknown {
        id: String,
    },
    SessionsFull {
        id: String,
    },
    /// `as_result` is the era of a tool call that is told as the tool's own error.
    InsufficientScope {
        id: String,
        what: String,
        needed: ScopeSet,
        missing: ScopeSet,
        as_result: Option<Era>,
    },
    NoRule {
        id: String,
        what: String,
    },
    NotAudited {
        id: String,
    },
}

/// JSON-RPC codes of our own: the HTTP status, which is outside the ranges that JSON-RPC and MCP
/// reserve.
const FORBIDDEN: i64 = 403;
const NOT_FOUND: i64 = 404;
const UNAVAILABLE: i64 = 503;

/// How long clients should wait when we cannot say it better.
const RETRY_SOON: Duration = Duration::from_secs(2);

impl Refusal {
    /// Where it is counted.
    pub(super) fn reason(&self) -> RefusalReason {
        use RefusalReason as R;
        match self {
            Self::ForeignHost => R::Host,
            Self::ForeignOrigin => R::Origin,
            Self::NoSuchPath | Self::MethodNotAllowed { .. } => R::NotServed,
            Self::NoToken => R::NoToken,
            Self::MalformedCredentials(_) => R::MalformedCredentials,
            Self::InvalidToken(_) => R::InvalidToken,
            Self::VerifierUnavailable(_) => R::Unavailable,
            Self::RateLimited(_) => R::RateLimited,
            Self::Overloaded | Self::SessionsFull { .. } => R::Overloaded,
            Self::ContentType | Self::ContentEncoding | Self::NotAcceptable { .. } => R::MediaType,
            Self::TooLarge { .. } => R::TooLarge,
            Self::TooSlow => R::TooSlow,
            Self::Envelope { error: EnvelopeError::UnsupportedVersion(_), .. } | Self::UnsupportedVersion => R::Version,
            Self::BrokenBody | Self::Unparsable(_) | Self::Envelope { .. } | Self::UnexpectedResponse => R::Malformed,
            Self::SessionMissing { .. } | Self::SessionUnknown { .. } => R::UnknownSession,
            Self::InsufficientScope { .. } => R::InsufficientScope,
            Self::NoRule { .. } => R::NoRule,
            Self::NotAudited { .. } => R::Audit,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
            Self::ForeignOrigin | Self::InsufficientScope { .. } | Self::NoRule { .. } => StatusCode::FORBIDDEN,
            Self::NoSuchPath | Self::SessionUnknown { .. } => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoToken | Self::InvalidToken(_) => StatusCode::UNAUTHORIZED,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::VerifierUnavailable(_) | Self::Overloaded | Self::SessionsFull { .. } | Self::NotAudited { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::ContentType | Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAcceptable { .. } => StatusCode::NOT_ACCEPTABLE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::MalformedCredentials(_)
            | Self::BrokenBody
            | Self::Unparsable(_)
            | Self::Envelope { .. }
            | Self::UnexpectedResponse
            | Self::UnsupportedVersion
            | Self::SessionMissing { .. } => StatusCode::BAD_REQUEST,
        }
    }

    fn challenge(&self, challenges: &Challenges) -> Option<HeaderValue> {
        match self {
            Self::NoToken => Some(challenges.no_token()),
            Self::InvalidToken(_) => Some(challenges.invalid_token()),
            Self::MalformedCredentials(_) => Some(challenges.invalid_request()),
            Self::InsufficientScope { what, needed, .. } => Some(challenges.insufficient_scope(needed, what)),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited(wait) => Some(*wait),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_SOON),
            _ => None,
        }
    }

    /// The body: a JSON-RPC error once a message was being read, an OAuth-style error before.
    fn body(&self) -> Bytes {
        let plain = |error: &str| {
            serde_json::json!({ "error": error, "error_description": self.to_string() }).to_string().into()
        };
        let rpc =
            |id: &str, code, data: Option<&serde_json::Value>| Answer::error(id, code, &self.to_string(), data).message;
        match self {
            Self::ForeignHost => plain("misdirected_request"),
            Self::ForeignOrigin => plain("forbidden_origin"),
            Self::NoSuchPath => plain("not_found"),
            Self::MethodNotAllowed { .. } => plain("method_not_allowed"),
            Self::NoToken => plain("unauthorized"),
            Self::MalformedCredentials(_) => plain("invalid_request"),
            Self::InvalidToken(_) => plain("invalid_token"),
            Self::VerifierUnavailable(_) | Self::Overloaded => plain("temporarily_unavailable"),
            Self::RateLimited(_) => plain("too_many_requests"),
            Self::ContentType | Self::ContentEncoding => plain("unsupported_media_type"),
            Self::NotAcceptable { .. } => plain("not_acceptable"),
            Self::TooLarge { .. } => plain("content_too_large"),
            Self::TooSlow => plain("request_timeout"),
            Self::BrokenBody | Self::UnexpectedResponse | Self::UnsupportedVersion => {
                rpc("null", INVALID_REQUEST, None)
            }
            Self::Unparsable(error) => rpc(error.id.as_deref().unwrap_or("null"), error.code, None),
            Self::Envelope { id, error } => rpc(id, error.code(), error.data().as_ref()),
            Self::SessionMissing { id } => rpc(id, INVALID_REQUEST, None),
            Self::SessionUnknown { id } => rpc(id, NOT_FOUND, None),
            Self::InsufficientScope { id, .. } | Self::NoRule { id, .. } => rpc(id, FORBIDDEN, None),
            Self::SessionsFull { id } | Self::NotAudited { id } => rpc(id, UNAVAILABLE, None),
        }
    }
}

/// What the client is told. The operator is told more, in the log.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignHost => f.write_str("This server does not answer to that Host; use its public URL"),
            Self::ForeignOrigin => f.write_str("Pages of that Origin may not call this server"),
            Self::NoSuchPath => f.write_str("There is nothing at this path"),
            Self::MethodNotAllowed { allow } => write!(f, "Use one of: {allow}"),
            Self::NoToken => f.write_str("Sign in: a Bearer token is needed"),
            Self::MalformedCredentials(_) => f.write_str(challenge::INVALID_REQUEST),
            Self::InvalidToken(_) => f.write_str(challenge::INVALID_TOKEN),
            Self::VerifierUnavailable(_) => {
                f.write_str("The token cannot be verified at the moment; keep it and try again")
            }
            Self::RateLimited(_) => f.write_str("Too many requests; slow down"),
            Self::Overloaded => f.write_str("Too many requests at once; try again"),
            Self::ContentType => f.write_str("Content-Type must be application/json"),
            Self::ContentEncoding => f.write_str("Send the body without Content-Encoding"),
            Self::NotAcceptable { offered } => write!(f, "Accept must allow {offered}"),
            Self::TooLarge { max_bytes } => write!(f, "The body is longer than {max_bytes} bytes"),
            Self::TooSlow => f.write_str("The body did not arrive in time"),
            Self::BrokenBody => f.write_str("Invalid Request: the body ended early"),
            Self::Unparsable(error) => match error.code {
                INVALID_REQUEST => write!(f, "Invalid Request: {error}"),
                INVALID_PARAMS => write!(f, "Invalid params: {error}"),
                _ => write!(f, "{error}"),
            },
            Self::Envelope { error, .. } => write!(f, "{error}"),
            Self::UnexpectedResponse => {
                f.write_str("Invalid Request: this server has asked nothing, so there is nothing to answer")
            }
            Self::UnsupportedVersion => write!(
                f,
                "Invalid Request: unsupported MCP-Protocol-Version; use {MODERN_VERSION}, or in a session {}",
                LEGACY_VERSIONS.join(", ")
            ),
            Self::SessionMissing { .. } => {
                f.write_str("Invalid Request: send initialize first, then Mcp-Session-Id with every request")
            }
            Self::SessionUnknown { .. } => f.write_str("Session not found; send initialize again"),
            Self::SessionsFull { .. } => f.write_str("Too many sessions; try again later"),
            Self::InsufficientScope { missing, .. } => {
                let plural = if missing.iter().nth(1).is_some() { "s" } else { "" };
                write!(f, "Missing required scope{plural} \"{missing}\"")
            }
            Self::NoRule { what, .. } => write!(f, "No policy rule allows {what}"),
            Self::NotAudited { .. } => {
                f.write_str("The request could not be recorded, so it was not carried out; try again later")
            }
        }
    }
}

/// The cause of a refusal, for the log alone.
pub(super) fn cause(refusal: &Refusal) -> String {
    match refusal {
        Refusal::MalformedCredentials(error) => error.to_string(),
        Refusal::InvalidToken(inactive) => inactive.to_string(),
        Refusal::VerifierUnavailable(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// A refusal as a response.
pub(super) fn refused(refusal: &Refusal, challenges: &Challenges) -> Response<Body> {
    if let Refusal::MethodNotAllowed { allow } = refusal {
        return method_not_allowed(allow);
    }
    let mut response = json(refusal.status(), refusal.body());
    let headers = response.headers_mut();
    if let Some(challenge) = refusal.challenge(challenges) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if let Some(wait) = refusal.retry_after() {
        headers.insert(RETRY_AFTER, seconds(wait));
    }
    response
}

/// Rounded up: a client that comes back too early is refused again.
fn seconds(wait: Duration) -> HeaderValue {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    HeaderValue::from(seconds.max(1))
}

/// A missing scope as the result of the tool that was called, for clients that show nothing else to
/// their user; `None` for every refusal that is not told so. The challenge is the one of the header,
/// where ChatGPT looks for it.
pub(super) fn as_result(refusal: &Refusal, challenges: &Challenges) -> Option<Answer> {
    let Refusal::InsufficientScope { id, what, needed, missing, as_result: Some(era) } = refusal else {
        return None;
    };
    let challenge = challenges.insufficient_scope(needed, what);
    let text = format!(
        "{refusal}, so nothing was done. Ask the user to connect this server again and to allow {missing}, then call \
         again."
    );
    let mut result = serde_json::json!({
        "content": [{ "type": "text", "text": text }],
        "isError": true,
        "_meta": { "mcp/www_authenticate": [challenge.to_str().unwrap_or_default()] },
    });
    if *era == Era::Modern {
        result["resultType"] = "complete".into();
    }
    Some(Answer::result(id, &result.to_string()))
}

/// A verdict of the policy's as a message on the stream of a client that hears everything there:
/// that no scope would help, or a missing scope where that is told as a result. `None` for every
/// refusal that HTTP has to tell.
pub(super) fn as_message(refusal: &Refusal, challenges: &Challenges) -> Option<Bytes> {
    match refusal {
        Refusal::NoRule { .. } => Some(refusal.body()),
        other => as_result(other, challenges).map(|answer| answer.message),
    }
}

/// A path of ours that does not take this HTTP method.
pub(super) fn method_not_allowed(allow: &'static str) -> Response<Body> {
    let refusal = Refusal::MethodNotAllowed { allow };
    let mut response = json(refusal.status(), refusal.body());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// The status of an answer: 200, unless the modern era says otherwise for its error code.
pub(super) fn status_of(answered: &Answered, era: Era) -> StatusCode {
    match answered {
        Answered::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
        Answered::Broken(_) => StatusCode::BAD_GATEWAY,
        Answered::Unavailable(..) => StatusCode::SERVICE_UNAVAILABLE,
        Answered::Served(answer) => match (era, answer.error) {
            (Era::Modern, Some(METHOD_NOT_FOUND)) => StatusCode::NOT_FOUND,
            (Era::Modern, Some(HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION)) => StatusCode::BAD_REQUEST,
            _ => StatusCode::OK,
        },
    }
}

/// When an answer that could not be had may be asked for again, as `Retry-After`.
pub(super) fn retry_after(answered: &Answered) -> Option<HeaderValue> {
    match answered {
        Answered::Unavailable(_, wait) => Some(seconds(*wait)),
        _ => None,
    }
}

/// A JSON body that nobody may store.
pub(super) fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = whole(status, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A plain text body that nobody may store.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = whole(status, body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// No body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    whole(status, Bytes::new())
}

fn whole(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = status;
    common_headers(response.headers_mut());
    response
}

/// An event stream. Proxies are told not to hold it back.
pub(super) fn events(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    common_headers(headers);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn common_headers(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

#[cfg(test)]
mod tests;
