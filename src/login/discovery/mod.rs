//! From the URL of a server to the endpoints of its authorization server (RFC 9728, RFC 8414, and
//! OpenID Connect Discovery 1.0, in the order that MCP gives them).

mod documents;
#[cfg(test)]
mod tests;

use serde::de::DeserializeOwned;
use url::Url;

pub use self::documents::Metadata;
use self::documents::{Announced, ResourceDocument, issuer_url};
use crate::login::{
    challenge::{Challenge, scope_tokens},
    fetch::{FetchError, Fetcher, place},
    prompt::{Note, plain},
    resource::covers,
};

/// Where to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// At whoever issues tokens for the server at `url`.
    Server {
        /// As the user wrote it.
        url: String,
        /// The one to take of several authorization servers; they must include it.
        issuer: Option<String>,
    },
    /// At this authorization server, for no server in particular.
    Issuer(String),
}

impl Target {
    /// The URL that the user gave: what a [`Fetcher`] is made for.
    ///
    /// # Errors
    /// [`DiscoveryError::Typed`] if it is none, or has what a server's URL has no use for.
    pub fn url(&self) -> Result<Url, DiscoveryError> {
        let (Self::Server { url: typed, .. } | Self::Issuer(typed)) = self;
        let wrong = |why: &'static str| DiscoveryError::Typed { url: plain(typed), why };
        if !typed.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("it has characters that no URL has"));
        }
        let url = Url::parse(typed).map_err(|_| wrong("it is no absolute URL"))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(wrong("it must begin with https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(DiscoveryError::Typed { url: place(&url), why: "it must not contain a user name or password" });
        }
        if url.fragment().is_some() {
            return Err(wrong("it must not contain a fragment (#)"));
        }
        Ok(url)
    }
}

/// What discovery needs to know besides the target.
#[derive(Clone, Debug, Default)]
pub struct Hints<'a> {
    /// What the server answered to a request without a token.
    pub challenge: Option<&'a Challenge>,
    /// Whether a server without protected resource metadata may be its own issuer, as in revision
    /// 2025-03-26: if it publishes metadata at its origin. Endpoints are never guessed.
    pub legacy: bool,
}

/// Where to sign in, and for what.
#[derive(Clone, Debug)]
pub struct Discovered {
    /// What the token is for, byte for byte as the server says it.
    pub resource: Option<String>,
    /// The scopes that the server lists.
    pub scopes_supported: Option<Vec<String>>,
    /// The authorization server.
    pub metadata: Metadata,
    /// What the user should see before consenting.
    pub notes: Vec<Note>,
}

/// Finds the authorization server of `target`.
///
/// # Errors
/// [`DiscoveryError`]: nothing usable is published, or it contradicts what it is published for.
pub async fn discover(fetcher: &Fetcher, target: &Target, hints: Hints<'_>) -> Result<Discovered, DiscoveryError> {
    let url = target.url()?;
    fetcher.check(&url)?;
    let (typed, wanted) = match target {
        Target::Issuer(issuer) => {
            let metadata = authorization_server(fetcher, issuer).await?;
            let notes = metadata.notes();
            return Ok(Discovered { resource: None, scopes_supported: None, metadata, notes });
        }
        Target::Server { url, issuer } => (url, issuer.as_deref()),
    };
    let document = match resource_document(fetcher, &url, hints.challenge).await {
        Ok(document) => document,
        Err(DiscoveryError::NoResourceMetadata { .. }) if hints.legacy => {
            return own_issuer(fetcher, typed, &url, wanted).await;
        }
        Err(error) => return Err(error),
    };
    if !covers(&document.resource, &url) {
        return Err(DiscoveryError::WrongResource { resource: plain(&document.resource), server: plain(typed) });
    }
    let metadata = first_usable(fetcher, &document.authorization_servers, wanted).await?;
    let mut notes = metadata.notes();
    if Url::parse(&document.resource)
        .is_ok_and(|resource| resource.path().trim_end_matches('/') != url.path().trim_end_matches('/'))
    {
        notes.push(Note::WiderResource { resource: document.resource.clone(), server: typed.clone() });
    }
    let scopes_supported = document.scopes_supported.map(|scopes| scope_tokens(&scopes.join(" ")));
    Ok(Discovered { resource: Some(document.resource), scopes_supported, metadata, notes })
}

/// The server's protected resource metadata: where the challenge says, else at the server's path, else
/// at its root.
async fn resource_document(
    fetcher: &Fetcher,
    server: &Url,
    challenge: Option<&Challenge>,
) -> Result<ResourceDocument, DiscoveryError> {
    let named = challenge.and_then(|challenge| challenge.resource_metadata.as_deref());
    let places = match named {
        Some(named) => {
            // The parser would drop tabs and encode the rest.
            let url = Some(named).filter(|named| named.bytes().all(|byte| byte.is_ascii_graphic()));
            let url = url.and_then(|named| Url::parse(named).ok());
            vec![url.ok_or_else(|| DiscoveryError::Challenge { url: plain(named) })?]
        }
        None => well_known_resource(server),
    };
    let mut tried = Vec::new();
    for place in &places {
        match document::<ResourceDocument>(fetcher, place).await? {
            Ok(document) if document.authorization_servers.is_empty() => {
                return Err(DiscoveryError::NoAuthorizationServer { url: plain(place.as_str()) });
            }
            Ok(document) => return Ok(document),
            Err(why) => tried.push(why),
        }
    }
    Err(DiscoveryError::NoResourceMetadata { server: place(server), tried: tried.join("; ") })
}

/// RFC 9728 §3.1, and the root after it.
fn well_known_resource(server: &Url) -> Vec<Url> {
    const NAME: &str = "/.well-known/oauth-protected-resource";
    let mut root = server.clone();
    root.set_path(NAME);
    root.set_query(None);
    let mut at_path = server.clone();
    at_path.set_path(&format!("{NAME}{}", if server.path() == "/" { "" } else { server.path() }));
    if at_path == root { vec![root] } else { vec![at_path, root] }
}

async fn first_usable(fetcher: &Fetcher, issuers: &[String], wanted: Option<&str>) -> Result<Metadata, DiscoveryError> {
    if let Some(wanted) = wanted {
        if !issuers.iter().any(|issuer| issuer == wanted) {
            let listed = plain(&issuers.join(", "));
            return Err(DiscoveryError::IssuerNotListed { issuer: plain(wanted), listed });
        }
        return authorization_server(fetcher, wanted).await;
    }
    let mut failure = None;
    for issuer in issuers.iter().take(ISSUERS_MAX) {
        match authorization_server(fetcher, issuer).await {
            Ok(metadata) => return Ok(metadata),
            Err(error) => failure.get_or_insert(error),
        };
    }
    Err(failure.unwrap_or(DiscoveryError::NoAuthorizationServer { url: String::new() }))
}

/// Each may take three requests, and the user is waiting.
const ISSUERS_MAX: usize = 4;

/// The metadata of `issuer`, which must be what the metadata says of itself, byte for byte.
async fn authorization_server(fetcher: &Fetcher, issuer: &str) -> Result<Metadata, DiscoveryError> {
    let url = issuer_url(issuer)?;
    fetcher.check(&url)?;
    let mut tried = Vec::new();
    for place in well_known_issuer(&url) {
        match document::<Announced>(fetcher, &place).await? {
            Ok(announced) if announced.issuer == issuer => return announced.check(fetcher),
            Ok(announced) => {
                tried.push(format!("{place} is the metadata of {}, which is another issuer", plain(&announced.issuer)));
            }
            Err(why) => tried.push(why),
        }
    }
    Err(DiscoveryError::NoMetadata { issuer: plain(issuer), tried: tried.join("; ") })
}

/// RFC 8414 §3.1 and §5: three places for an issuer with a path, two for one without.
fn well_known_issuer(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url
    };
    let mut places = vec![
        at(format!("/.well-known/oauth-authorization-server{path}")),
        at(format!("/.well-known/openid-configuration{path}")),
    ];
    if !path.is_empty() {
        places.push(at(format!("{path}/.well-known/openid-configuration")));
    }
    places
}

/// Revision 2025-03-26: the server's origin is the issuer, and its metadata is there.
async fn own_issuer(
    fetcher: &Fetcher,
    typed: &str,
    server: &Url,
    wanted: Option<&str>,
) -> Result<Discovered, DiscoveryError> {
    let origin = server.origin().ascii_serialization();
    let mut failure = None;
    // Nobody has written this issuer down, so either spelling of it may be the right one.
    let spellings = [origin.clone(), format!("{origin}/")];
    if let Some(wanted) = wanted.filter(|wanted| !spellings.iter().any(|issuer| issuer == wanted)) {
        return Err(DiscoveryError::IssuerNotListed { issuer: plain(wanted), listed: plain(&origin) });
    }
    for issuer in spellings.iter().filter(|issuer| wanted.is_none_or(|wanted| wanted == *issuer)) {
        match authorization_server(fetcher, issuer).await {
            Ok(metadata) => {
                let mut notes = metadata.notes();
                notes.push(Note::NoResourceMetadata);
                return Ok(Discovered { resource: Some(typed.to_owned()), scopes_supported: None, metadata, notes });
            }
            Err(error @ DiscoveryError::NoMetadata { .. }) => failure.get_or_insert(error),
            Err(error) => return Err(error),
        };
    }
    Err(failure.unwrap_or(DiscoveryError::NoResourceMetadata { server: place(server), tried: String::new() }))
}

/// Gets a document; the inner error says why there is none at `url`, so that the next place may be tried.
async fn document<T: DeserializeOwned>(fetcher: &Fetcher, url: &Url) -> Result<Result<T, String>, DiscoveryError> {
    let answer = match fetcher.get(url).await {
        Ok(answer) => answer,
        Err(error @ FetchError::Redirect { .. }) => return Ok(Err(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    if answer.status != oauth2::http::StatusCode::OK {
        return Ok(Err(format!("{} answers {}", place(url), answer.status.as_u16())));
    }
    Ok(serde_json::from_slice(&answer.body).map_err(|_| format!("{} has no such document", place(url))))
}

/// Why nobody is known to sign in at.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The URL that the user gave.
    #[error("cannot sign in at {url}: {why}")]
    Typed {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The challenge's URL.
    #[error("the server's challenge names its metadata by {url}, which is no absolute URL; tell its operator")]
    Challenge {
        /// As it was written.
        url: String,
    },
    /// No protected resource metadata anywhere.
    #[error("{server} does not say who issues its tokens: {tried}")]
    NoResourceMetadata {
        /// The server.
        server: String,
        /// What was tried.
        tried: String,
    },
    /// The metadata is of something else.
    #[error(
        "the server's metadata is for {resource}, but {server} was asked for; \
         a token for one must not go to the other, so use the URL that the metadata names, or tell its operator"
    )]
    WrongResource {
        /// What it is for.
        resource: String,
        /// What was asked for.
        server: String,
    },
    /// The metadata names nobody.
    #[error("the server's metadata {url} names no authorization server")]
    NoAuthorizationServer {
        /// Where it is.
        url: String,
    },
    /// The user named another one.
    #[error("the server's tokens are not issued by {issuer}, but by {listed}")]
    IssuerNotListed {
        /// Whom the user named.
        issuer: String,
        /// Whom the server names.
        listed: String,
    },
    /// An issuer that cannot be one.
    #[error("{issuer} cannot be an authorization server: {why}")]
    Issuer {
        /// As it was named.
        issuer: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The issuer publishes nothing usable.
    #[error("the authorization server {issuer} has no metadata: {tried}")]
    NoMetadata {
        /// Who.
        issuer: String,
        /// What was tried.
        tried: String,
    },
    /// The metadata has an endpoint that must not be used.
    #[error("the {endpoint} of {issuer} cannot be used: {why}")]
    Endpoint {
        /// Whose.
        issuer: String,
        /// Which.
        endpoint: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The metadata lacks what this sign-in needs.
    #[error("{issuer} offers no {endpoint}")]
    NoEndpoint {
        /// Whose.
        issuer: String,
        /// Which.
        endpoint: &'static str,
    },
    /// Without PKCE, a stolen code is as good as the token.
    #[error(
        "{issuer} does not support PKCE with S256, without which signing in is not safe: \
         its metadata must list it in code_challenge_methods_supported; tell its operator"
    )]
    NoPkce {
        /// Whose.
        issuer: String,
    },
    /// A request got no answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}
