//! `health`: asks the bridge on this machine how it is, for health checks where no other program could.

use std::{error::Error, fmt, time::Duration};

use http::StatusCode;
use reqwest::redirect;
use serde::Deserialize;

use crate::{config::Listener, token::install_crypto_provider};

/// A second more than the bridge itself waits for an authorization server, so that its answer comes first.
const DEADLINE: Duration = Duration::from_secs(6);

/// The answer is a line; another program's may be anything.
const MAX_BODY_BYTES: usize = 4 * 1024;

/// What to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether requests can be answered now.
    Ready,
    /// Whether the process lives, whatever it waits for.
    Live,
}

impl Question {
    fn path(self) -> &'static str {
        match self {
            Self::Ready => "/readyz",
            Self::Live => "/healthz",
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Live => "alive",
        })
    }
}

/// Why the answer is no, or none.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The bridge says so itself.
    #[error("not ready: {0}")]
    NotReady(String),
    /// Nobody is there, or nobody who speaks HTTP.
    #[error("no answer from {url}: {cause}; is `serve` running, with the same settings?")]
    NoAnswer {
        /// What was asked.
        url: String,
        /// What happened.
        cause: String,
    },
    /// Somebody else is there.
    #[error("{url} answers {status}, which this program does not; does another one listen there?")]
    Stranger {
        /// What was asked.
        url: String,
        /// Its answer.
        status: StatusCode,
    },
    /// The client cannot be made.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
}

/// Asks whoever listens at `listener`. Waits six seconds at most.
///
/// # Errors
/// Every answer but a yes.
pub async fn ask(listener: &Listener, question: Question) -> Result<(), HealthError> {
    install_crypto_provider();
    let client = reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(DEADLINE)
        .http1_only()
        // The certificate is made out for the public name and not for this address. Nothing secret is sent.
        .tls_danger_accept_invalid_certs(true)
        .build()
        .map_err(HealthError::Client)?;
    let url = format!("{listener}{}", question.path());
    let no_answer = |error: reqwest::Error| HealthError::NoAnswer { url: url.clone(), cause: cause(&error) };
    let mut response = client.get(&url).send().await.map_err(no_answer)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BODY_BYTES {
            return Err(HealthError::Stranger { url, status });
        }
    }
    match (question, status, serde_json::from_slice(&body)) {
        (Question::Live, StatusCode::OK, _) if body == b"ok\n" => Ok(()),
        (Question::Ready, StatusCode::OK, Ok(Readiness { ready: true, .. })) => Ok(()),
        (Question::Ready, StatusCode::SERVICE_UNAVAILABLE, Ok(Readiness { ready: false, reason: Some(reason) })) => {
            Err(HealthError::NotReady(reason))
        }
        _ => Err(HealthError::Stranger { url, status }),
    }
}

/// What `/readyz` answers.
#[derive(Deserialize)]
struct Readiness {
    ready: bool,
    reason: Option<String>,
}

/// The innermost error says what happened; the others repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("none within {} s", DEADLINE.as_secs());
    }
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
