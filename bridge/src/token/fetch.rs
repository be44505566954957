//! The one HTTP client with which verification talks to the authorization server, and a tunnel to its
//! agent.

use std::{error::Error, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::redirect;
use url::Url;

use super::{BuildError, install_crypto_provider};
use crate::resource::is_loopback;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// From the first byte sent to the last byte received, so that a dripping answer ends too.
pub(super) const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Real answers are under 2 KiB, key sets under 10.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// An HTTP client that goes where it is sent and nowhere else: https or loopback, no redirects,
/// and no proxy. The environment's proxy variables are ignored, because these requests carry our
/// client secret and other people's tokens.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher(reqwest::Client);

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer. It shows neither what was sent nor what came back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no answer within 5 s")]
    Timeout,
    #[error("the answer is longer than 64 KiB")]
    TooLong,
    #[error("{0}")]
    Transport(String),
}

impl Fetcher {
    /// Trusts what the platform trusts. A machine without trust roots is an error unless `plain`:
    /// a minimal container whose authorization server is on loopback needs none.
    pub(crate) fn new(plain: bool) -> Result<Self, BuildError> {
        install_crypto_provider();
        match Self::builder().build() {
            Ok(client) => Ok(Self(client)),
            Err(_) if plain => Ok(Self(Self::builder().tls_certs_only([]).build().map_err(BuildError::Tls)?)),
            Err(error) => Err(BuildError::Tls(error)),
        }
    }

    fn builder() -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .user_agent(concat!("mcp-bridge/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TOTAL_TIMEOUT)
            .tcp_nodelay(true)
            // A lost HTTP/2 connection would fail every question until the kernel gives it up; a
            // lost HTTP/1.1 connection fails one.
            .http1_only()
    }

    pub(crate) async fn get_json(&self, url: &Url) -> Result<Answer, FetchError> {
        self.send(|| self.0.get(url.clone()).header(header::ACCEPT, "application/json")).await
    }

    /// `authorization` should be marked sensitive.
    pub(super) async fn post_form(
        &self,
        url: &Url,
        authorization: &HeaderValue,
        form: &[(&str, &str)],
    ) -> Result<Answer, FetchError> {
        let headers = HeaderMap::from_iter([
            (header::AUTHORIZATION, authorization.clone()),
            (header::ACCEPT, HeaderValue::from_static("application/json")),
        ]);
        self.send(|| self.0.post(url.clone()).headers(headers.clone()).form(form)).await
    }

    /// Sends what `request` builds; once more if the connection broke before an answer began.
    ///
    /// A server may close a kept-alive connection in the moment in which we use it. Everything sent
    /// here can be repeated without harm, and the second attempt gets a connection of its own.
    async fn send(&self, request: impl Fn() -> reqwest::RequestBuilder) -> Result<Answer, FetchError> {
        let broke = |error: &reqwest::Error| error.is_request() && !error.is_connect() && !error.is_timeout();
        let response = match request().send().await {
            Err(error) if broke(&error) => request().send().await,
            first => first,
        };
        read(response.map_err(FetchError::from)?).await
    }
}

async fn read(mut response: reqwest::Response) -> Result<Answer, FetchError> {
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(FetchError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body })
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() && !error.is_connect() {
            return Self::Timeout;
        }
        // The outer texts repeat the URL and say little; the innermost one says what happened.
        let mut cause: &dyn Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Self::Transport(if error.is_connect() {
            format!("cannot connect: {cause}")
        } else {
            format!("the connection failed: {cause}")
        })
    }
}

/// Says why tokens, secrets and keys must not travel to `url`, if they must not.
pub(super) fn why_not(url: &Url) -> Option<&'static str> {
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(url) => {}
        "http" => return Some("plain http would send it unencrypted; use https (http is for loopback only)"),
        _ => return Some("the scheme is not http or https"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some("a user name or password in it would end up in logs; leave them out");
    }
    url.fragment().is_some().then_some("a fragment is never sent; leave it out")
}
