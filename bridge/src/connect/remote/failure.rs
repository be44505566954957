//! Why a request has no answer of the server's own, in words for whoever asked.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::incoming::Incoming;
use crate::{
    backend::{Answer, code_of},
    connect::authority::Unauthorized,
    message::INTERNAL_ERROR,
};

/// What went wrong with a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Nothing was sent.
    #[error("cannot connect to the server: {0}; check the URL and the network, then try again")]
    Unreachable(String),
    /// Something may have been sent.
    #[error("the connection to the server broke before the answer came: {0}; the request may have been carried out")]
    Broken(String),
    /// The stream came to its end without the answer, and cannot be resumed.
    #[error("the server's stream ended before the answer; the request may have been carried out")]
    Ended,
    /// The answer takes too long.
    #[error("no answer within {}; the request was cancelled (--request-timeout)", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// Refused, with a JSON-RPC error in the body.
    #[error("the server refused the request with HTTP status {}", .0.status)]
    Refused(Refused),
    /// Refused without one.
    #[error("the server answered with HTTP status {status}{}{}", advice(*.status, *.retry_after), quote(.text))]
    Status {
        /// The status.
        status: StatusCode,
        /// What `Retry-After` says.
        retry_after: Option<Duration>,
        /// The beginning of its text, made harmless; often empty.
        text: String,
    },
    /// A redirect, which is never followed.
    #[error(
        "the server redirects to {to} (HTTP status {status}), which is not followed because credentials would \
         travel along; if you trust that address, use it as the URL"
    )]
    Redirect {
        /// The status.
        status: StatusCode,
        /// The target, made harmless.
        to: String,
    },
    /// Neither JSON nor an event stream.
    #[error("the server answered with {0}, not with MCP; check the URL")]
    NotMcp(String),
    /// A message beyond the bound.
    #[error("the server sent a message of more than {} MiB, which is refused", .0 >> 20)]
    TooLong(usize),
    /// What came is no answer.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The session is gone, and with it what was under way.
    #[error("the server has forgotten the session while it worked on the request, which may have been carried out")]
    SessionLost,
    /// No token that the server takes.
    #[error(transparent)]
    Unauthorized(#[from] Unauthorized),
}

/// A JSON-RPC error that came with an HTTP error.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// Its code.
    pub(crate) code: i64,
    /// The error object, as JSON text on one line.
    pub(crate) error: Bytes,
    /// Whether it names the request; one without an id is about the HTTP request.
    pub(crate) names_request: bool,
}

/// The error in `line`, if it is an answer with one that came with a good status.
pub(crate) fn refused_in(line: &Bytes) -> Option<Refused> {
    match Incoming::parse(std::str::from_utf8(line).ok()?).ok()? {
        Incoming::Answer { id, outcome: Err(error) } => {
            let error = line.slice_ref(error.get().as_bytes());
            let (code, names_request) = (code_of(&error), id != "null");
            Some(Refused { status: StatusCode::OK, code, error, names_request })
        }
        _ => None,
    }
}

impl Failure {
    /// The answer to the request with `id`: the server's own error, where there is one.
    pub(crate) fn answer(&self, id: &str) -> Bytes {
        let status = match self {
            Self::Refused(refused) => return Answer::served(id, &Err(refused.error.clone())).message,
            Self::Status { status, .. } | Self::Redirect { status, .. } => Some(status.as_u16()),
            _ => None,
        };
        let data = status.map(|status| json!({ "httpStatus": status }));
        Answer::error(id, INTERNAL_ERROR, &self.to_string(), data.as_ref()).message
    }

    /// Whether the server has refused the request for good.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Status { .. }) && !self.is_passing()
    }

    /// Whether the same request may fare better after a while, and surely has not been carried out.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Broken(_) | Self::Ended => true,
            Self::Status { status, .. } => {
                status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED
                    || *status == StatusCode::TOO_MANY_REQUESTS
            }
            _ => false,
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // The outer texts repeat the URL, which may hold a secret; the innermost says what happened.
        let mut cause: &dyn Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        if error.is_connect() { Self::Unreachable(cause.to_string()) } else { Self::Broken(cause.to_string()) }
    }
}

fn advice(status: StatusCode, retry_after: Option<Duration>) -> String {
    let advice = match status {
        StatusCode::UNAUTHORIZED => "; it refuses the new access token, too",
        // Servers of the older transport answer so, too: they take GET there, and POST elsewhere.
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            "; no streamable HTTP endpoint is there: check the URL. Where a server has HTTP+SSE only (its URL often ends \
             in /sse), ask its operator for the newer one, often /mcp"
        }
        StatusCode::FORBIDDEN => "; it does not let you do this",
        StatusCode::PAYLOAD_TOO_LARGE => "; the request is too long for it",
        _ => "",
    };
    match retry_after {
        Some(wait) => format!("{advice}; try again in {}", humantime::format_duration(wait)),
        None if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            format!("{advice}; try again later")
        }
        None => advice.to_owned(),
    }
}

fn quote(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
