//! Fetching clients' metadata documents, on behalf of a user who has signed in.
//!
//! The client chooses the URL, so it must not be a way into the network that this program runs in.

use std::{
    error::Error as _,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use http::{
    StatusCode,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
};
use mcp_calculator::login::address::{self, Place};
use moka::sync::Cache;
use reqwest::{
    Response,
    dns::{Addrs, Name, Resolve, Resolving},
};
use tokio::sync::Semaphore;
use url::Url;

use super::document::{self, DocumentProblem};
use crate::{
    authserver::{client::Client, redirect},
    token::install_crypto_provider,
};

/// From the look-up of the name to the last byte.
const PATIENCE: Duration = Duration::from_secs(5);
/// Documents are a few hundred bytes.
const BYTES_MAX: usize = 5 * 1024;
/// However short its server says: a page that asks is loaded more than once.
const CACHE_MIN: Duration = Duration::from_secs(5 * 60);
/// However long its server says.
const CACHE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const CACHED_MAX: u64 = 100;
/// Fetched at once.
const AT_ONCE: usize = 4;

/// Documents of clients that everybody uses. Their servers answer some programs with a page that wants a
/// person; what is here needs no fetching.
const PINNED: [(&str, &str); 4] = [
    (
        "https://claude.ai/oauth/mcp-oauth-client-metadata",
        r#"{"client_id":"https://claude.ai/oauth/mcp-oauth-client-metadata","client_name":"Claude",
        "redirect_uris":["https://claude.ai/api/mcp/auth_callback","https://claude.com/api/mcp/auth_callback"],
        "token_endpoint_auth_method":"none"}"#,
    ),
    (
        "https://claude.ai/oauth/claude-code-client-metadata",
        r#"{"client_id":"https://claude.ai/oauth/claude-code-client-metadata","client_name":"Claude Code",
        "redirect_uris":["http://localhost/callback","http://127.0.0.1/callback"],
        "token_endpoint_auth_method":"none"}"#,
    ),
    (
        "https://chatgpt.com/oauth/client.json",
        r#"{"client_id":"https://chatgpt.com/oauth/client.json","client_name":"ChatGPT",
        "redirect_uris":["https://chatgpt.com/connector_platform_oauth_redirect"],
        "token_endpoint_auth_method":"none"}"#,
    ),
    (
        "https://vscode.dev/oauth/client-metadata.json",
        r#"{"client_id":"https://vscode.dev/oauth/client-metadata.json","client_name":"Visual Studio Code",
        "redirect_uris":["http://127.0.0.1:33418/","https://vscode.dev/redirect"],
        "token_endpoint_auth_method":"none"}"#,
    ),
];

/// Why there is no document to go by.
#[derive(Debug, thiserror::Error)]
pub(in crate::authserver) enum FetchProblem {
    #[error("its host is not on the public internet")]
    Address,
    #[error("there was no answer in 5 seconds")]
    Slow,
    #[error("its host does not answer")]
    Connection,
    #[error("it was answered with status {0} and not with 200")]
    Status(u16),
    #[error("the answer there is not JSON")]
    NotJson,
    #[error("the document there is longer than 5 KiB")]
    Long,
    #[error("too many documents are fetched at the moment; try again")]
    Busy,
    #[error("this machine has no certificates to check it with")]
    Tls,
    #[error(transparent)]
    Document(#[from] DocumentProblem),
}

/// Fetches and remembers metadata documents.
pub(in crate::authserver) struct Documents {
    /// `None` where TLS cannot be set up.
    http: Option<reqwest::Client>,
    /// Where documents may be.
    is_allowed: fn(Place) -> bool,
    schemes: Vec<String>,
    cache: Cache<String, (Arc<Client>, Instant)>,
    places: Semaphore,
}

impl Documents {
    /// `schemes` are private URI schemes besides the built-in.
    pub(in crate::authserver) fn new(schemes: Vec<String>) -> Self {
        Self::with(schemes, |place| place == Place::Public, |builder| builder)
    }

    pub(super) fn with(
        schemes: Vec<String>,
        is_allowed: fn(Place) -> bool,
        more: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Self {
        install_crypto_provider();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("mcp-bridge/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .timeout(PATIENCE)
            .pool_max_idle_per_host(0)
            .dns_resolver(Resolver { is_allowed });
        Self {
            http: more(builder).build().ok(),
            is_allowed,
            schemes,
            cache: Cache::builder().max_capacity(CACHED_MAX).build(),
            places: Semaphore::new(AT_ONCE),
        }
    }

    /// The client whose document is at `url`, a [document URL](document::is_document_url), for an answer
    /// that goes to `redirect_uri`.
    pub(in crate::authserver) async fn client(
        &self,
        url: &str,
        redirect_uri: Option<&str>,
    ) -> Result<Client, FetchProblem> {
        if let Some((_, pinned)) = PINNED.iter().find(|(pinned, _)| *pinned == url) {
            let client = document::parse(url, pinned.as_bytes(), &self.schemes)?;
            // Its owner may have added a place since this version.
            if redirect_uri.is_none_or(|uri| client.redirect_uris.iter().any(|known| redirect::matches(known, uri))) {
                return Ok(client);
            }
        }
        if let Some((client, until)) = self.cache.get(url)
            && Instant::now() < until
        {
            return Ok(Client::clone(&client));
        }
        let _place = self.places.try_acquire().map_err(|_| FetchProblem::Busy)?;
        let fetched = tokio::time::timeout(PATIENCE, self.fetch(url)).await.map_err(|_| FetchProblem::Slow)?;
        let (client, life) = fetched?;
        self.cache.insert(url.to_owned(), (Arc::new(client.clone()), Instant::now() + life));
        Ok(client)
    }

    async fn fetch(&self, url: &str) -> Result<(Client, Duration), FetchProblem> {
        let http = self.http.as_ref().ok_or(FetchProblem::Tls)?;
        let parsed = Url::parse(url).map_err(|_| FetchProblem::Connection)?;
        // Literal addresses are not resolved, and what is no plain name is no host to ask for.
        let is_refused = |address: IpAddr| !(self.is_allowed)(Place::of(address));
        if !address::has_plain_host(&parsed) || address::literal(&parsed).is_some_and(is_refused) {
            return Err(FetchProblem::Address);
        }
        let response = http.get(parsed).header(ACCEPT, "application/json").send().await.map_err(problem)?;
        if response.status() != StatusCode::OK {
            return Err(FetchProblem::Status(response.status().as_u16()));
        }
        let kind = text_of(&response, CONTENT_TYPE.as_str()).split(';').next().unwrap_or_default().trim().to_owned();
        if !(kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")) {
            return Err(FetchProblem::NotJson);
        }
        let life = life(text_of(&response, CACHE_CONTROL.as_str()));
        let body = read(response).await?;
        Ok((document::parse(url, &body, &self.schemes)?, life))
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, FetchProblem> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(problem)? {
        if body.len() + chunk.len() > BYTES_MAX {
            return Err(FetchProblem::Long);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn text_of<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// How long a document is believed.
pub(super) fn life(cache_control: &str) -> Duration {
    let mut parts = cache_control.split(',').map(str::trim);
    let seconds = parts.find_map(|part| part.strip_prefix("max-age=")?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0)).clamp(CACHE_MIN, CACHE_MAX)
}

fn problem(error: reqwest::Error) -> FetchProblem {
    if error.is_timeout() {
        return FetchProblem::Slow;
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<Refused>() {
            return FetchProblem::Address;
        }
        cause = inner.source();
    }
    FetchProblem::Connection
}

/// An address that is nobody's business.
#[derive(Debug, thiserror::Error)]
#[error("the name has an address that is not on the public internet")]
struct Refused;

/// Resolves a name once for each connection: what was judged is what is connected to.
struct Resolver {
    is_allowed: fn(Place) -> bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let is_allowed = self.is_allowed;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // All of them: a name that is here and there is meant to be mistaken.
            if !found.iter().all(|address| is_allowed(Place::of(address.ip()))) {
                return Err(Refused.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
