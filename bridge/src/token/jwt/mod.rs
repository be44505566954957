//! Access tokens that carry their own proof (RFC 9068).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, future::BoxFuture};
use url::Url;

use super::{
    Audiences, BearerToken, BuildError, Inactive, Issuer, NotReady, TokenVerifier, Verdict, VerifyError,
    claims::{Claims, Refusal, Rules},
    jwks::KeyStore,
    jws::Jws,
    observer::Observer,
};

/// How far our clock may be behind the issuer's. Virtual machines that slept are off by this much.
const NBF_LEEWAY: Duration = Duration::from_secs(30);

/// What to accept.
#[derive(Clone, Debug)]
pub struct JwtSettings {
    /// Where the issuer's keys are. Without it the issuer's metadata says so, when the first token
    /// comes.
    pub jwks_url: Option<Url>,
    /// Who issues the tokens.
    pub issuer: Issuer,
    /// Whom a token may be meant for.
    pub audiences: Audiences,
}

/// Verifies JWT access tokens by the issuer's public keys, without asking about each token: a
/// revoked one works until it ends.
///
/// Accepts `at+jwt` signed by ES256, RS256, PS256 or EdDSA, with `iss`, `aud` and `exp`.
pub struct JwtVerifier {
    keys: KeyStore,
    rules: Rules,
}

impl JwtVerifier {
    /// Builds it; fetches nothing yet.
    ///
    /// # Errors
    /// [`BuildError`] for a URL that keys must not come from, and when TLS cannot be set up.
    pub fn new(settings: JwtSettings, observer: Arc<dyn Observer>) -> Result<Self, BuildError> {
        let JwtSettings { jwks_url, issuer, audiences } = settings;
        Ok(Self {
            keys: KeyStore::new(jwks_url, &issuer, observer)?,
            rules: Rules { issuer, audiences, require_iss: true, require_exp: true, nbf_leeway: NBF_LEEWAY },
        })
    }

    async fn check(&self, token: &str, now: SystemTime) -> Verdict {
        let refused = |why| VerifyError::Inactive(Inactive::Jwt(why));
        let jws = Jws::parse(token).map_err(refused)?;
        self.keys.check(&jws).await?;
        let claims = Claims::parse(&jws.payload).ok_or_else(|| refused("its claims are not a JSON object"))?;
        match self.rules.judge(&claims, now) {
            Ok(token) => Ok(Arc::new(token)),
            Err(Refusal::Inactive(why)) => Err(VerifyError::Inactive(why)),
            Err(Refusal::Malformed(what)) => Err(refused(what)),
        }
    }
}

impl TokenVerifier for JwtVerifier {
    fn verify<'a>(&'a self, token: &'a BearerToken, now: SystemTime) -> BoxFuture<'a, Verdict> {
        self.check(token.expose(), now).boxed()
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), NotReady>> {
        async { self.keys.ready().await.map_err(|why| NotReady::unreachable(why.as_ref())) }.boxed()
    }
}

#[cfg(test)]
mod tests;
