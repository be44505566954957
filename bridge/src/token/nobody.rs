//! No authorization at all, for trying things on loopback.

use std::{sync::Arc, time::SystemTime};

use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{
    scope::ScopeSet,
    token::{BearerToken, Issuer, NotReady, TokenVerifier, VerifiedToken, VerifyError},
};

/// Lets everybody in, with every scope. Settings allow it on loopback only.
#[derive(Debug)]
pub struct Nobody(Arc<VerifiedToken>);

impl Nobody {
    /// Grants `scopes` to whoever comes.
    pub fn new(scopes: ScopeSet) -> Self {
        Self(Arc::new(VerifiedToken {
            issuer: Issuer::new("none"),
            subject: Some("anonymous".to_owned()),
            client_id: None,
            email: None,
            scopes,
            expires_at: None,
        }))
    }
}

impl TokenVerifier for Nobody {
    fn verify<'a>(
        &'a self,
        _token: &'a BearerToken,
        _now: SystemTime,
    ) -> BoxFuture<'a, Result<Arc<VerifiedToken>, VerifyError>> {
        std::future::ready(Ok(Arc::clone(&self.0))).boxed()
    }

    fn without_token(&self) -> Option<Arc<VerifiedToken>> {
        Some(Arc::clone(&self.0))
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), NotReady>> {
        std::future::ready(Ok(())).boxed()
    }
}
