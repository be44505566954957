//! The authorization server's signing keys.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    task::AbortHandle,
    time::{Instant, timeout},
};
use tracing::{debug, warn};
use url::Url;

use super::{
    BuildError, Inactive, Issuer, VerifyError,
    discovery::{Endpoint, Which},
    fetch::{Fetcher, TOTAL_TIMEOUT},
    jws::{Jws, Key},
    lock,
    observer::Observer,
};

/// Keys older than this are fetched again when next used.
const REFRESH_AFTER: Duration = Duration::from_secs(10 * 60);
/// Keys older than this are not used: a withdrawn key must stop working even when its issuer
/// cannot be reached.
const KEEP_AT_MOST: Duration = Duration::from_secs(60 * 60);
/// How long a request waits for newer keys when it has usable ones.
const REFRESH_PATIENCE: Duration = Duration::from_millis(500);
/// Anybody can invent key IDs; the authorization server hears of it this often.
const FETCH_AT_MOST_EVERY: Duration = Duration::from_secs(30);
/// The same while there are no keys at all, when nothing works anyway.
const FIRST_FETCH_AT_MOST_EVERY: Duration = Duration::from_secs(2);

/// Keys, fetched when first needed, when they are old, and when a token names one that is missing.
pub(super) struct KeyStore(Arc<Inner>);

struct Inner {
    fetcher: Fetcher,
    endpoint: Endpoint,
    observer: Arc<dyn Observer>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Option<Fetched>,
    /// When the last fetch ended, and how.
    tried: Option<(Instant, FetchResult)>,
    /// The fetch under way. A task drives it: if it ended with the caller that began it, callers
    /// that hang up at once could keep new keys from ever arriving.
    under_way: Option<(Shared<BoxFuture<'static, FetchResult>>, AbortHandle)>,
}

#[derive(Clone)]
struct Fetched {
    keys: Arc<[Key]>,
    at: Instant,
}

type FetchResult = Result<(), Arc<str>>;

impl KeyStore {
    /// Fetches nothing yet.
    pub(super) fn new(url: Option<Url>, issuer: &Issuer, observer: Arc<dyn Observer>) -> Result<Self, BuildError> {
        let endpoint = Endpoint::new(url, issuer, Which::Jwks)?;
        Ok(Self(Arc::new(Inner {
            fetcher: Fetcher::new(endpoint.is_plain())?,
            endpoint,
            observer,
            state: Mutex::default(),
        })))
    }

    /// Checks the signature of `jws`.
    ///
    /// Waits at most 5 s, and only when keys must be fetched. Cancel-safe.
    pub(super) async fn check(&self, jws: &Jws<'_>) -> Result<(), VerifyError> {
        let unavailable = VerifyError::Unavailable;
        let now = Instant::now();
        let Some(held) = self.held(now) else {
            self.fetch(FIRST_FETCH_AT_MOST_EVERY).await.map_err(unavailable)?;
            return self.held(Instant::now()).map_or(Err(unknown_key()), |fetched| decide(&fetched.keys, jws));
        };
        let known = held.keys.iter().any(|key| key.suits(jws));
        if known && now - held.at < REFRESH_AFTER {
            return decide(&held.keys, jws);
        }
        let fetch = self.fetch(FETCH_AT_MOST_EVERY);
        if known {
            // These keys are not too old to be used, only old enough to be fetched again: a server
            // that hangs must not hold up every request meanwhile.
            let _ = timeout(REFRESH_PATIENCE, fetch).await;
        } else {
            fetch.await.map_err(unavailable)?;
        }
        decide(&self.held(Instant::now()).unwrap_or(held).keys, jws)
    }

    /// Whether there are keys to check with.
    pub(super) async fn ready(&self) -> FetchResult {
        let now = Instant::now();
        match self.held(now) {
            Some(fetched) if now - fetched.at < REFRESH_AFTER => Ok(()),
            Some(_) => {
                // An outage shows when these keys end, not before: until then tokens are verified.
                let _ = timeout(REFRESH_PATIENCE, self.fetch(FETCH_AT_MOST_EVERY)).await;
                Ok(())
            }
            None => self.fetch(FIRST_FETCH_AT_MOST_EVERY).await,
        }
    }

    fn held(&self, now: Instant) -> Option<Fetched> {
        lock(&self.0.state).keys.clone().filter(|fetched| now - fetched.at < KEEP_AT_MOST)
    }

    /// Fetches the keys, or joins those who are at it, or repeats the result of the last fetch if
    /// that ended within `interval`.
    async fn fetch(&self, interval: Duration) -> FetchResult {
        let flight = {
            let mut state = lock(&self.0.state);
            if let Some((flight, _)) = &state.under_way {
                flight.clone()
            } else {
                match &state.tried {
                    Some((at, result)) if at.elapsed() < interval => return result.clone(),
                    _ => {}
                }
                let inner = Arc::clone(&self.0);
                let flight = async move { inner.fetch().await }.boxed().shared();
                let task = tokio::spawn(flight.clone());
                state.under_way = Some((flight.clone(), task.abort_handle()));
                flight
            }
        };
        flight.await
    }
}

impl Drop for KeyStore {
    fn drop(&mut self) {
        let under_way = lock(&self.0.state).under_way.take();
        if let Some((_, task)) = under_way {
            task.abort();
        }
    }
}

fn decide(keys: &[Key], jws: &Jws<'_>) -> Result<(), VerifyError> {
    let mut suitable = keys.iter().filter(|key| key.suits(jws)).peekable();
    if suitable.peek().is_none() {
        return Err(unknown_key());
    }
    // More than a handful under one ID is not a key set but an attempt to make us calculate.
    if suitable.take(4).any(|key| key.verifies(jws)) {
        return Ok(());
    }
    Err(VerifyError::Inactive(Inactive::Jwt("the signature is wrong")))
}

fn unknown_key() -> VerifyError {
    VerifyError::Inactive(Inactive::Jwt("the issuer has no such key"))
}

impl Inner {
    async fn fetch(&self) -> FetchResult {
        let started = Instant::now();
        let result = match timeout(TOTAL_TIMEOUT, self.ask()).await {
            Ok(Ok(keys)) => Ok(keys),
            Ok(Err(why)) => Err(format!("cannot fetch the issuer's keys: {why}").into()),
            Err(_) => Err(Arc::from("cannot fetch the issuer's keys: no answer within 5 s")),
        };
        self.observer.keys_fetched(result.is_ok(), started.elapsed());
        if let Err(why) = &result {
            // At most one per two seconds: fetches are no more frequent.
            warn!(%why, "verifying with the keys at hand, if there are any");
            self.endpoint.forget();
        }
        let now = Instant::now();
        let mut state = lock(&self.state);
        let result = result.map(|keys| {
            debug!(keys = keys.len(), "fetched the issuer's keys");
            state.keys = Some(Fetched { keys, at: now });
        });
        state.tried = Some((now, result.clone()));
        state.under_way = None;
        result
    }

    async fn ask(&self) -> Result<Arc<[Key]>, String> {
        #[derive(Deserialize)]
        struct Jwks<'j> {
            #[serde(borrow)]
            keys: Vec<&'j RawValue>,
        }
        let url = self.endpoint.url(&self.fetcher).await?;
        let answer = self.fetcher.get_json(&url).await.map_err(|error| error.to_string())?;
        if answer.status != http::StatusCode::OK {
            return Err(format!("{url} answered {}", answer.status));
        }
        let set: Jwks<'_> = serde_json::from_slice(&answer.body).map_err(|_| format!("{url} is not a key set"))?;
        // One key of a kind that we do not know must not cost us the others.
        let keys: Arc<[Key]> = set.keys.iter().filter_map(|jwk| Key::from_jwk(jwk.get())).collect();
        if keys.is_empty() {
            return Err(format!("{url} has no key for ES256, RS256, PS256 or EdDSA"));
        }
        Ok(keys)
    }
}
