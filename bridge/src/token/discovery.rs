//! Where the authorization server's endpoints are.

use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::{
    BuildError, Issuer,
    fetch::{Fetcher, why_not},
};

/// One endpoint of the authorization server: as configured, or from its metadata when first needed.
#[derive(Debug)]
pub(super) enum Endpoint {
    Configured(Url),
    Discovered {
        issuer: Issuer,
        which: Which,
        /// Metadata documents to try, in order.
        candidates: Vec<Url>,
        // Held while asking, so that one caller asks and the others wait for it.
        known: Mutex<Option<Url>>,
    },
}

/// The endpoints that somebody needs, by their names in the metadata (RFC 8414 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Introspection,
    Jwks,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::Introspection => "introspection_endpoint",
            Self::Jwks => "jwks_uri",
        }
    }
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    introspection_endpoint: Option<String>,
    jwks_uri: Option<String>,
}

impl Endpoint {
    /// `configured`, or where `issuer`'s metadata will say. Asks nobody yet.
    pub(super) fn new(configured: Option<Url>, issuer: &Issuer, which: Which) -> Result<Self, BuildError> {
        let check = |what, url: &Url| match why_not(url) {
            Some(why) => Err(BuildError::Url { what, url: redacted(url), why }),
            None => Ok(()),
        };
        if let Some(url) = configured {
            check(if which == Which::Jwks { "jwks_url" } else { "introspection_url" }, &url)?;
            return Ok(Self::Configured(url));
        }
        let unusable = |why| BuildError::Url { what: "the issuer", url: issuer.as_str().to_owned(), why };
        let url = Url::parse(issuer.as_str()).map_err(|_| unusable("it is not a URL"))?;
        check("the issuer", &url)?;
        if url.query().is_some() {
            return Err(unusable("an issuer has no query (RFC 8414 section 2)"));
        }
        Ok(Self::Discovered { issuer: issuer.clone(), which, candidates: metadata_urls(&url), known: Mutex::new(None) })
    }

    /// The endpoint's URL. On an error nothing is remembered: the next caller asks again.
    ///
    /// Cancel-safe. Bounded by the caller.
    pub(super) async fn url(&self, fetcher: &Fetcher) -> Result<Url, String> {
        match self {
            Self::Configured(url) => Ok(url.clone()),
            Self::Discovered { issuer, which, candidates, known } => {
                let mut known = known.lock().await;
                if let Some(url) = &*known {
                    return Ok(url.clone());
                }
                let url = discover(fetcher, issuer, *which, candidates).await?;
                Ok(known.insert(url).clone())
            }
        }
    }

    /// Has a discovered URL asked for again: the server may have moved it.
    pub(super) fn forget(&self) {
        // Whoever holds the lock is asking at this moment.
        if let Self::Discovered { known, .. } = self
            && let Ok(mut known) = known.try_lock()
        {
            *known = None;
        }
    }

    /// Whether it can be reached without TLS, as far as one can know before asking.
    pub(super) fn is_plain(&self) -> bool {
        let url = match self {
            Self::Configured(url) => Some(url),
            Self::Discovered { candidates, .. } => candidates.first(),
        };
        url.is_some_and(|url| url.scheme() == "http")
    }
}

/// RFC 8414 §3.1 with the path inserted, then OpenID Connect's document inserted, then appended:
/// the order that MCP asks for.
fn metadata_urls(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let mut urls: Vec<Url> = Vec::new();
    for candidate in [
        format!("/.well-known/oauth-authorization-server{path}"),
        format!("/.well-known/openid-configuration{path}"),
        format!("{path}/.well-known/openid-configuration"),
    ] {
        let mut url = issuer.clone();
        url.set_path(&candidate);
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    urls
}

/// The first document that is the issuer's and names the endpoint decides. When there is none, the
/// first candidate's complaint is told: the later ones usually do not exist.
async fn discover(fetcher: &Fetcher, issuer: &Issuer, which: Which, candidates: &[Url]) -> Result<Url, String> {
    let mut complaint = None;
    for candidate in candidates {
        match read(fetcher, issuer, which, candidate).await {
            Ok(url) => return Ok(url),
            Err(why) => {
                complaint.get_or_insert_with(|| format!("no {} from {candidate}: {why}", which.name()));
            }
        }
    }
    Err(complaint.unwrap_or_default())
}

async fn read(fetcher: &Fetcher, issuer: &Issuer, which: Which, candidate: &Url) -> Result<Url, String> {
    let answer = fetcher.get_json(candidate).await.map_err(|error| error.to_string())?;
    if answer.status != http::StatusCode::OK {
        return Err(format!("it answered {}", answer.status));
    }
    let metadata: Metadata =
        serde_json::from_slice(&answer.body).map_err(|_| "the answer is not metadata".to_owned())?;
    // RFC 8414 §3.3: a document that speaks for another issuer must not be used.
    if metadata.issuer != issuer.as_str() {
        return Err(format!("its issuer is {:?} and not {:?}", metadata.issuer, issuer.as_str()));
    }
    let endpoint = match which {
        Which::Introspection => metadata.introspection_endpoint,
        Which::Jwks => metadata.jwks_uri,
    };
    let endpoint = endpoint.ok_or("it does not name one")?;
    let url = Url::parse(&endpoint).map_err(|_| format!("{endpoint:?} is not a URL"))?;
    match why_not(&url) {
        Some(why) => Err(format!("{} cannot be used: {why}", redacted(&url))),
        None => Ok(url),
    }
}

/// `url` without a password that somebody wrote into it.
fn redacted(url: &Url) -> String {
    let mut url = url.clone();
    // Fails for URLs that cannot hold one.
    let _ = url.set_password(None);
    url.into()
}
