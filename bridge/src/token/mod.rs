//! Bearer tokens: as presented, as verified, and who verifies them.

mod breaker;
mod cache;
mod claims;
mod discovery;
pub(crate) mod fetch;
mod flights;
mod health;
pub mod introspection;
mod jwks;
mod jws;
pub mod jwt;
pub mod nobody;
pub mod observer;
#[cfg(test)]
mod stub;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use futures_util::future::BoxFuture;
use mcp_calculator::secret::Secret;

use crate::{resource::ResourceUri, scope::ScopeSet};

/// A token longer than this is refused unread: no real one comes near it.
const MAX_CREDENTIALS_BYTES: usize = 8 * 1024;

/// An access token as a client presented it (RFC 6750 §2.1): syntactically a token, nothing more.
#[derive(Debug)]
pub struct BearerToken(Secret<String>);

impl BearerToken {
    /// Reads the values of all `Authorization` fields of one request.
    ///
    /// `Ok(None)` when there is no field, or one with another scheme. The scheme is matched in any
    /// case and may be followed by several spaces (RFC 9110 §11.1).
    ///
    /// # Errors
    /// [`MalformedCredentials`] for more than one field, an empty or non-token68 token, or more than
    /// 8 KiB.
    pub fn from_authorization<'v>(
        mut values: impl Iterator<Item = &'v [u8]>,
    ) -> Result<Option<Self>, MalformedCredentials> {
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(MalformedCredentials::Repeated);
        }
        if value.len() > MAX_CREDENTIALS_BYTES {
            return Err(MalformedCredentials::TooLong);
        }
        let scheme_len = value.iter().position(|&byte| byte == b' ').unwrap_or(value.len());
        let (scheme, rest) = value.split_at(scheme_len);
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Ok(None);
        }
        let token = rest.trim_ascii();
        match std::str::from_utf8(token) {
            Ok(text) if is_token68(text) => Ok(Some(Self(Secret::new(text.to_owned())))),
            _ => Err(MalformedCredentials::NotAToken),
        }
    }

    /// The token itself: for the authorization server's eyes only.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Whether `text` has the shape of `b64token` (RFC 6750 §2.1).
fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

/// Credentials that cannot be a bearer token: `invalid_request`, not `invalid_token`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedCredentials {
    /// More than one `Authorization` field.
    #[error("more than one Authorization header")]
    Repeated,
    /// More than 8 KiB.
    #[error("the Authorization header is longer than 8 KiB")]
    TooLong,
    /// Nothing after `Bearer`, or characters that no token has.
    #[error("the Authorization header holds no well-formed bearer token")]
    NotAToken,
}

/// Who issues the tokens we accept (RFC 8414 §2). Compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Issuer(Arc<str>);

impl Issuer {
    /// Takes `text` as it is; settings check its form.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The identifier as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom a token may be meant for so that we accept it. Compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audiences(Arc<[Box<str>]>);

impl Audiences {
    /// `resource` itself, and what the setting `accepted_audiences` names besides.
    pub fn new(resource: &ResourceUri, accepted: impl IntoIterator<Item = String>) -> Self {
        let own = std::iter::once(resource.as_str().into());
        Self(own.chain(accepted.into_iter().map(String::into_boxed_str)).collect())
    }

    /// Whether a token for `audience` is meant for us.
    pub fn contains(&self, audience: &str) -> bool {
        self.0.iter().any(|accepted| **accepted == *audience)
    }
}

/// What an accepted token says about its bearer. It does not hold the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// Who issued it.
    pub issuer: Issuer,
    /// `sub`, if the authorization server gave one.
    pub subject: Option<String>,
    /// `client_id`, if the authorization server gave one.
    pub client_id: Option<String>,
    /// `email`, or a `username` that is an e-mail address.
    pub email: Option<String>,
    /// What the user consented to.
    pub scopes: ScopeSet,
    /// When it ends, if it says so.
    pub expires_at: Option<SystemTime>,
}

#[cfg(test)]
impl VerifiedToken {
    /// A token of `subject` through `client`, without scopes and without an end.
    pub(crate) fn of(subject: &str, client: &str) -> Self {
        Self {
            issuer: Issuer::new("https://as.example"),
            subject: Some(subject.into()),
            client_id: Some(client.into()),
            email: None,
            scopes: ScopeSet::default(),
            expires_at: None,
        }
    }
}

impl VerifiedToken {
    /// Whose request this is: the subject, or the client where there is no subject.
    pub fn principal(&self) -> &str {
        self.subject.as_deref().or(self.client_id.as_deref()).unwrap_or_default()
    }

    /// Whether the token's own life has ended at `now`.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// Decides whether a bearer token is good for this resource.
pub trait TokenVerifier: Send + Sync {
    /// Verifies `token` as of `now`.
    ///
    /// Cancel-safe: dropping the future leaves no half-written state.
    fn verify<'a>(
        &'a self,
        token: &'a BearerToken,
        now: SystemTime,
    ) -> BoxFuture<'a, Result<Arc<VerifiedToken>, VerifyError>>;

    /// Who may come in without any token; `None` where one is needed.
    fn without_token(&self) -> Option<Arc<VerifiedToken>> {
        None
    }

    /// Whether tokens can be verified at this moment.
    fn ready(&self) -> BoxFuture<'_, Result<(), NotReady>>;
}

/// Why tokens cannot be verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// What everybody may know.
    pub reason: &'static str,
    /// What the operator has to know. It may name internal addresses.
    pub detail: String,
}

impl NotReady {
    fn unreachable(detail: impl Into<String>) -> Self {
        Self { reason: "the authorization server cannot be asked", detail: detail.into() }
    }

    fn credentials(detail: impl Into<String>) -> Self {
        Self { reason: "the authorization server refuses this server's own credentials", detail: detail.into() }
    }
}

/// What [`TokenVerifier::verify`] answers.
type Verdict = Result<Arc<VerifiedToken>, VerifyError>;

/// Why a token was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The token is not good here: 401. The reason is for the log, never for the peer.
    #[error("{0}")]
    Inactive(Inactive),
    /// Nobody could be asked: 503, and the client keeps its token. The text is for the log.
    #[error("{0}")]
    Unavailable(Arc<str>),
}

/// Why a token is not good here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inactive {
    /// The authorization server says so, or refused to answer about it.
    #[error("the authorization server says that it is not active")]
    NotActive,
    /// Past its `exp`.
    #[error("it has expired")]
    Expired,
    /// Before its `nbf`.
    #[error("it is not valid yet")]
    NotYetValid,
    /// No `exp`, and one is required.
    #[error("it has no expiry and require_exp is on")]
    NoExpiry,
    /// `aud` missing, or without this resource.
    #[error("its audience is not this resource")]
    Audience,
    /// Another `iss` than the configured one.
    #[error("its issuer is not the configured one")]
    Issuer,
    /// Bound to a key (`cnf`), or of a type other than Bearer.
    #[error("it is not a bearer token")]
    NotBearer,
    /// Neither `sub` nor `client_id`.
    #[error("it names neither a subject nor a client")]
    NoPrincipal,
    /// Not a JWT that this server can verify.
    #[error("it is not a JWT that can be verified: {0}")]
    Jwt(&'static str),
}

/// Why a verifier cannot be built at all: wrong settings or a broken machine, not an outage.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A URL that a token or key must not travel over.
    #[error("{what} `{url}` cannot be used: {why}")]
    Url {
        /// Which one: "introspection_url", "the issuer".
        what: &'static str,
        /// As it is written.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The client id and secret do not fit into a header.
    #[error("the introspection client's id and secret cannot be sent as HTTP Basic credentials: they are too long")]
    Credentials,
    /// No TLS: usually a machine without trust roots.
    #[error("cannot set up TLS; install the ca-certificates package, or set SSL_CERT_FILE")]
    Tls(#[source] reqwest::Error),
}

/// Makes ring the process's cryptography for TLS.
///
/// Called before the first TLS client is built. Later calls change nothing.
pub(crate) fn install_crypto_provider() {
    // An error says that one is installed already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Locks `mutex`; a panic elsewhere while it was held left it consistent, because every critical
/// section of this module only assigns.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&[u8]]) -> Result<Option<String>, MalformedCredentials> {
        let token = BearerToken::from_authorization(values.iter().copied())?;
        Ok(token.map(|token| token.expose().to_owned()))
    }

    #[test]
    fn credentials() {
        use MalformedCredentials::{NotAToken, Repeated, TooLong};
        let token = |text: &str| Ok(Some(text.to_owned()));
        let long = [b"Bearer ".as_slice(), &vec![b'a'; MAX_CREDENTIALS_BYTES]].concat();
        let cases: [(&[&[u8]], _); 13] = [
            (&[], Ok(None)),
            (&[b"Basic dTpw"], Ok(None)),
            (&[b"Bearertoken"], Ok(None)),
            (&[b"Bearer abc"], token("abc")),
            (&[b"bEaReR   a-._~+/9=="], token("a-._~+/9==")),
            (&[b"Bearer abc "], token("abc")),
            (&[b"Bearer"], Err(NotAToken)),
            (&[b"Bearer  "], Err(NotAToken)),
            (&[b"Bearer a b"], Err(NotAToken)),
            (&[b"Bearer a,b"], Err(NotAToken)),
            (&[b"Bearer \xff"], Err(NotAToken)),
            (&[b"Bearer a", b"Bearer a"], Err(Repeated)),
            (&[&long], Err(TooLong)),
        ];
        for (values, expected) in cases {
            assert_eq!(read(values), expected, "{values:?}");
        }
    }

    #[test]
    fn debug_does_not_show_the_token() {
        let token = BearerToken::from_authorization(std::iter::once(b"Bearer canary".as_slice()));
        assert!(!format!("{token:?}").contains("canary"));
    }

    proptest! {
        #[test]
        fn no_header_panics(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&[&value]);
        }
    }
}
