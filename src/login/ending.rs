//! Signing out: revoked where that is possible, forgotten in any case.

use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use crate::login::{
    fetch::{Fetcher, FetcherOptions},
    record::Slot,
    store::{Purpose, Store, StoreError},
    tokens::{RevokeError, revoke},
};

/// Longer than another process takes for one renewal.
const PATIENCE: Duration = Duration::from_secs(120);

/// What became of the tokens.
#[derive(Debug)]
pub enum SignedOut {
    /// Nobody was signed in, and no sign-in has ended otherwise.
    Nobody,
    /// They work nowhere any more.
    Revoked,
    /// They are forgotten here, and may work until they end by themselves, because of this.
    Forgotten(String),
}

/// Signs out at `slot`.
///
/// # Errors
/// When the sign-in could not be forgotten.
pub async fn sign_out(store: &Store, slot: &Slot, options: &FetcherOptions) -> Result<SignedOut, StoreError> {
    let found = {
        let (store, slot) = (store.clone(), slot.clone());
        blocking(move || {
            if !store.slots()?.contains(&slot) {
                return Ok(None);
            }
            // A renewal elsewhere would bring tokens that nobody revokes.
            let alone = store.lock(&slot, Purpose::Refresh, Instant::now() + PATIENCE)?;
            Ok(Some((alone, store.load(&slot))))
        })
    };
    let Some((_alone, loaded)) = found.await? else { return Ok(SignedOut::Nobody) };
    let outcome = match loaded {
        Ok(Some(record)) => {
            let revoked = match Fetcher::for_record(&record, options) {
                Ok(fetcher) => revoke(&fetcher, &record).await,
                Err(error) => Err(RevokeError::from(error)),
            };
            revoked.map_or_else(|error| SignedOut::Forgotten(error.to_string()), |()| SignedOut::Revoked)
        }
        Ok(None) => SignedOut::Revoked,
        Err(error) => SignedOut::Forgotten(format!("the tokens cannot be read: {error}")),
    };
    let (store, slot) = (store.clone(), slot.clone());
    blocking(move || store.forget(&slot)).await?;
    Ok(outcome)
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(call).await.unwrap_or_else(|_| Err(StoreError::Keyring("the program is stopping".to_owned())))
}
