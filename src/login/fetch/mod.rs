//! The one HTTP client of signing in: it opens what it may, waits as long as it must, and reads little.

mod guard;

use std::{error::Error as _, pin::Pin, time::Duration};

use oauth2::{
    AsyncHttpClient, HttpRequest, HttpResponse,
    http::{self, HeaderMap, Method, StatusCode, header},
};
use url::Url;

pub use self::guard::Refused;
use self::guard::{Guard, Proxies};
use crate::login::{address, prompt::plain, record::Record};

/// Sends the requests of a sign-in at one server.
///
/// That server, or whoever answers in its name, decides which URLs are opened next. So they have to be
/// `https`, unless the server is on loopback itself: then `http` to loopback is good enough. They have
/// to be at addresses of the public internet, unless the server is in a private network itself or the
/// user allows it. Redirects are not followed, and no answer is read beyond 64 KiB.
///
/// Proxies of the environment are used, except for loopback. Behind a proxy it is the proxy that
/// resolves names, so which addresses may be reached is the proxy's decision.
pub struct Fetcher {
    /// With the proxies of the environment.
    client: reqwest::Client,
    /// For this machine; no proxy is meant to see what goes there.
    direct: reqwest::Client,
    guard: Guard,
}

/// A [`Fetcher`] for the `oauth2` crate. A closure would do as well, if what it is used in need not be sent
/// to another thread.
pub(crate) struct Sending<'f> {
    fetcher: &'f Fetcher,
    patience: Duration,
}

impl<'c> AsyncHttpClient<'c> for Sending<'_> {
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.fetcher.call(request, self.patience))
    }
}

/// How a [`Fetcher`] is to behave.
#[derive(Clone, Debug)]
pub struct FetcherOptions {
    /// Name and version of the program, as `User-Agent` has them.
    pub user_agent: String,
    /// Whether endpoints may be in private networks even if the server is not.
    pub allow_private_addresses: bool,
}

/// Discovery, registration and tokens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Renewal: a lost answer may cost the user a sign-in, because the old refresh token is spent.
pub(crate) const REFRESH_PATIENCE: Duration = Duration::from_secs(30);

/// Metadata, tokens and errors are a few KiB.
const BODY_MAX: usize = 64 * 1024;

impl Fetcher {
    /// A fetcher for a sign-in at `server`, a URL that the user gave.
    ///
    /// # Errors
    /// [`FetchError::Tls`] when the machine has no trusted certificates.
    pub fn new(server: &Url, options: &FetcherOptions) -> Result<Self, FetchError> {
        Self::for_known([server], options)
    }

    /// A fetcher for the endpoints of an earlier sign-in, which were checked then.
    ///
    /// # Errors
    /// As [`Fetcher::new`].
    pub fn for_record(record: &Record, options: &FetcherOptions) -> Result<Self, FetchError> {
        Self::for_known([&record.token_endpoint].into_iter().chain(&record.revocation_endpoint), options)
    }

    fn for_known<'a>(known: impl IntoIterator<Item = &'a Url>, options: &FetcherOptions) -> Result<Self, FetchError> {
        // An error says that there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let known: Vec<&Url> = known.into_iter().collect();
        // A container without certificates has no use for them on loopback.
        let plain = known.iter().all(|url| url.scheme() == "http");
        let guard = Guard::new(known, options.allow_private_addresses, Proxies::of_environment());
        let builder = || {
            reqwest::Client::builder()
                .user_agent(&options.user_agent)
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .retry(reqwest::retry::never())
                // A connection that the server closes just when it is used again would take a code or a
                // refresh token with it, and neither can be sent twice.
                .pool_max_idle_per_host(0)
                .http1_only()
                .dns_resolver(guard.clone())
        };
        let build = |builder: &dyn Fn() -> reqwest::ClientBuilder| {
            let built = match builder().build() {
                Err(_) if plain => builder().tls_certs_only([]).build(),
                built => built,
            };
            built.map_err(|error| FetchError::Tls(innermost(&error)))
        };
        Ok(Self { client: build(&builder)?, direct: build(&|| builder().no_proxy())?, guard })
    }

    /// Says why `url` must not be opened, neither here nor in a browser, if it must not.
    pub(crate) fn check(&self, url: &Url) -> Result<(), FetchError> {
        self.guard.check(url).map_err(|refused| FetchError::Refused { url: place(url), why: refused })
    }

    /// What the `oauth2` crate sends its requests with, each within `patience`.
    pub(crate) fn sending(&self, patience: Duration) -> Sending<'_> {
        Sending { fetcher: self, patience }
    }

    /// Gets a JSON document; any status is an answer, except for redirects.
    pub(crate) async fn get(&self, url: &Url) -> Result<Answer, FetchError> {
        let request = http::Request::builder().method(Method::GET).uri(url.as_str());
        self.json(url, request.header(header::ACCEPT, JSON), Vec::new()).await
    }

    /// Posts a JSON document.
    pub(crate) async fn post_json(&self, url: &Url, body: &serde_json::Value) -> Result<Answer, FetchError> {
        let request = http::Request::builder().method(Method::POST).uri(url.as_str());
        let request = request.header(header::ACCEPT, JSON).header(header::CONTENT_TYPE, JSON);
        self.json(url, request, body.to_string().into_bytes()).await
    }

    async fn json(&self, url: &Url, request: http::request::Builder, body: Vec<u8>) -> Result<Answer, FetchError> {
        let unfit = |_| FetchError::Connection { url: place(url), cause: "the URL cannot be requested".to_owned() };
        let response = self.call(request.body(body).map_err(unfit)?, PATIENCE).await?;
        let (parts, body) = response.into_parts();
        Ok(Answer { status: parts.status, body })
    }

    /// Sends what the `oauth2` crate asks to be sent; the whole answer must be there within `patience`.
    pub(crate) async fn call(&self, request: HttpRequest, patience: Duration) -> Result<HttpResponse, FetchError> {
        let request = reqwest::Request::try_from(request)
            .map_err(|error| FetchError::Connection { url: "the URL".to_owned(), cause: innermost(&error) })?;
        let url = request.url().clone();
        self.check(&url)?;
        let exchange = async {
            let response = self.client_for(&url).execute(request).await.map_err(|error| failure(&url, &error))?;
            self.guard.learn(&url, response.remote_addr());
            read(&url, response).await
        };
        let late = |_| FetchError::Late { url: place(&url), seconds: patience.as_secs() };
        tokio::time::timeout(patience, exchange).await.map_err(late)?
    }

    fn client_for(&self, url: &Url) -> &reqwest::Client {
        if address::is_loopback(url) { &self.direct } else { &self.client }
    }
}

/// An answer that was read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

async fn read(url: &Url, mut response: reqwest::Response) -> Result<HttpResponse, FetchError> {
    let status = response.status();
    if status.is_redirection() {
        return Err(FetchError::Redirect { url: place(url) });
    }
    let content_type = response.headers().get(header::CONTENT_TYPE).cloned();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(url, &error))? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(FetchError::TooLong { url: place(url) });
        }
        body.extend_from_slice(&chunk);
    }
    let mut answer = HttpResponse::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = HeaderMap::from_iter(content_type.map(|value| (header::CONTENT_TYPE, value)));
    Ok(answer)
}

const JSON: &str = "application/json";

/// `url` without what could be a secret in it.
pub(crate) fn place(url: &Url) -> String {
    let mut bare = url.clone();
    bare.set_query(None);
    bare.set_fragment(None);
    // These fail for URLs without a host, which have no user either.
    let _ = bare.set_username("");
    let _ = bare.set_password(None);
    plain(bare.as_str())
}

fn failure(url: &Url, error: &reqwest::Error) -> FetchError {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(refused) = inner.downcast_ref::<Refused>() {
            return FetchError::Refused { url: place(url), why: refused.clone() };
        }
        source = inner.source();
    }
    FetchError::Connection { url: place(url), cause: innermost(error) }
}

/// The outer texts repeat the URL and say little; the innermost one says what happened.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    plain(&cause.to_string())
}

/// Why a request of a sign-in got no answer. None of these texts holds anything of a body.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It was not sent.
    #[error("did not open {url}: {why}")]
    Refused {
        /// Where it would have gone.
        url: String,
        /// Why not.
        why: Refused,
    },
    /// Nobody answered.
    #[error("cannot reach {url}: {cause}")]
    Connection {
        /// Where it went.
        url: String,
        /// What happened.
        cause: String,
    },
    /// Somebody answered that somebody else should.
    #[error("{url} answers with a redirect, which is not followed, because it could lead anywhere")]
    Redirect {
        /// Where it went.
        url: String,
    },
    /// The answer has no end in sight.
    #[error("the answer of {url} is longer than 64 KiB")]
    TooLong {
        /// Where it went.
        url: String,
    },
    /// The answer did not come in time.
    #[error("{url} did not answer within {seconds} s")]
    Late {
        /// Where it went.
        url: String,
        /// How long was waited.
        seconds: u64,
    },
    /// There is nothing to check certificates against.
    #[error("cannot set up TLS: {0}; is the package with the trusted certificates installed")]
    Tls(String),
}

#[cfg(test)]
mod tests;
