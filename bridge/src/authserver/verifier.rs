//! Our own tokens, verified by looking.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use moka::sync::Cache;
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::{
    authserver::{
        opaque::{Digest, Purpose},
        store::Store,
    },
    resource::ResourceUri,
    token::{BearerToken, Inactive, Issuer, NotReady, TokenVerifier, VerifiedToken, VerifyError},
};

/// Last use is shown to the minute.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// Grants that are used at once; for more, the time of the last use is written more often.
const NOTED_MAX: u64 = 1000;

/// Verifies the tokens of the embedded authorization server for one resource. Nothing is cached: a
/// revocation holds from the next call on, also one by the command line.
pub struct EmbeddedVerifier {
    store: Store,
    issuer: Issuer,
    resource: Box<str>,
    /// Grants whose use was written down lately.
    noted: Cache<i64, ()>,
}

impl EmbeddedVerifier {
    pub(super) fn new(store: Store, issuer: &str, resource: &ResourceUri) -> Self {
        Self {
            store,
            issuer: Issuer::new(issuer),
            resource: resource.as_str().into(),
            noted: Cache::builder().max_capacity(NOTED_MAX).time_to_live(NOTE_EVERY).build(),
        }
    }

    fn look(&self, token: &BearerToken, now: SystemTime) -> Result<Arc<VerifiedToken>, VerifyError> {
        let token = token.expose();
        if !Purpose::Access.fits(token) {
            return Err(VerifyError::Inactive(Inactive::NotActive));
        }
        let found = self.store.access(Digest::of(token), &self.resource, now);
        let found = found.map_err(|error| VerifyError::Unavailable(error.to_string().into()))?;
        let access = found.ok_or(VerifyError::Inactive(Inactive::NotActive))?;
        if self.noted.entry(access.grant).or_insert(()).is_fresh() {
            let (store, grant) = (self.store.clone(), access.grant);
            // Nobody waits for it, and what is lost with it is a minute of a date.
            drop(spawn_blocking(move || {
                if let Err(error) = store.note_use(grant, now) {
                    warn!(%error, "cannot write down when a grant was used");
                }
            }));
        }
        Ok(Arc::new(VerifiedToken {
            issuer: self.issuer.clone(),
            email: access.user.contains('@').then(|| access.user.clone()),
            subject: Some(access.user),
            client_id: Some(access.client_id),
            scopes: access.scopes,
            expires_at: Some(access.expires_at),
        }))
    }
}

impl TokenVerifier for EmbeddedVerifier {
    fn verify<'a>(
        &'a self,
        token: &'a BearerToken,
        now: SystemTime,
    ) -> BoxFuture<'a, Result<Arc<VerifiedToken>, VerifyError>> {
        // A read of memory that the system keeps: microseconds, and no lock that a writer holds.
        async move { self.look(token, now) }.boxed()
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), NotReady>> {
        async move {
            match self.store.owner() {
                Ok(_) => Ok(()),
                Err(error) => {
                    Err(NotReady { reason: "the authorization server cannot use its state", detail: error.to_string() })
                }
            }
        }
        .boxed()
    }
}
