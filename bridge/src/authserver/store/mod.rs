//! What the authorization server knows: one SQLite file.
//!
//! Everything here blocks, for microseconds when it reads and for a disk's flush when it writes; async
//! code calls what writes in `spawn_blocking`. Several processes use the file at once: the command line
//! revokes while the bridge serves. Every method is one transaction.

mod access;
mod approvals;
mod clients;
mod error;
mod exchange;
mod grants;
mod open;
mod sessions;
#[cfg(test)]
mod tests;
mod users;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use self::access::Readers;
pub use self::error::StoreError;
use crate::{
    authserver::{
        client::Client,
        opaque::{Digest, RefreshDigest},
    },
    scope::ScopeSet,
};

/// Life of an authorization code (RFC 6749 §4.1.2 allows ten minutes; no client needs one).
pub(crate) const CODE_LIFE: Duration = Duration::from_secs(60);
/// Life of an access token.
pub(crate) const ACCESS_LIFE: Duration = Duration::from_secs(15 * 60);
/// A refresh token that was not used for so long ends.
pub(crate) const REFRESH_IDLE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// However often it is refreshed, a user consents anew after this.
pub(crate) const GRANT_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How long a refresh token still works after it was used: its client may not have got the answer.
pub(crate) const ROTATION_GRACE: Duration = Duration::from_secs(60);
/// How long an authorization request waits for its user's answer.
pub(crate) const REQUEST_LIFE: Duration = Duration::from_secs(10 * 60);
/// A browser stays signed in for so long since it was last used, …
pub(crate) const SESSION_IDLE: Duration = Duration::from_secs(12 * 60 * 60);
/// … and for so long at most.
pub(crate) const SESSION_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What the authorization server knows; clones share it.
#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    writer: Mutex<Connection>,
    readers: Readers,
}

impl Store {
    /// The state in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be used, or others could read it.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_patiently(folder, open::PATIENCE)
    }

    /// The state in `folder`, if there is any.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn open_existing(folder: &Path) -> Result<Option<Self>, StoreError> {
        if open::exists(folder) { Self::open(folder).map(Some) } else { Ok(None) }
    }

    fn open_patiently(folder: &Path, patience: Duration) -> Result<Self, StoreError> {
        let (writer, path) = open::connect(folder, patience)?;
        Ok(Self(Arc::new(Inner { writer: Mutex::new(writer), readers: Readers::new(path) })))
    }

    /// Reads, or makes one change that is whole or not at all.
    fn change<R>(&self, change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<R>) -> Result<R, StoreError> {
        // A panic while it was held has rolled its transaction back.
        let mut connection = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = change(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }

    /// Reads, beside whoever writes.
    fn read<R>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R, StoreError> {
        self.0.readers.with(read)
    }

    /// Deletes what has ended.
    pub(crate) fn tidy(&self, now: SystemTime) -> Result<(), StoreError> {
        self.change(|state| {
            let now = seconds(now);
            let before = |life: Duration| now.saturating_sub(length(life));
            state.execute("DELETE FROM requests WHERE created_at <= ?", [before(REQUEST_LIFE)])?;
            state.execute("DELETE FROM approvals WHERE created_at <= ?", [before(approvals::LIFE)])?;
            state.execute(
                "DELETE FROM sessions WHERE last_seen_at <= ? OR created_at <= ?",
                [before(SESSION_IDLE), before(SESSION_LIFE)],
            )?;
            state.execute("DELETE FROM access_tokens WHERE expires_at <= ?", [now])?;
            state.execute("DELETE FROM grants WHERE expires_at <= ?", [now])?;
            // Nothing comes from a grant any more that has neither a code nor a token that still works.
            state.execute(
                "DELETE FROM grants WHERE
                     NOT EXISTS (SELECT 1 FROM access_tokens WHERE grant_id = grants.id)
                     AND NOT EXISTS (SELECT 1 FROM codes
                         WHERE grant_id = grants.id AND used_at IS NULL AND created_at > ?)
                     AND NOT EXISTS (SELECT 1 FROM refresh_tokens
                         WHERE grant_id = grants.id AND used_at IS NULL AND created_at > ?)",
                [before(CODE_LIFE), before(REFRESH_IDLE)],
            )?;
            clients::drop_stale(state, now)
        })
    }
}

/// Seconds since 1970; a clock before that is at its beginning.
fn seconds(time: SystemTime) -> i64 {
    length(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn length(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

/// What was written as text, read again; what cannot be is a damaged row.
fn parsed<T, E: std::error::Error + Send + Sync + 'static>(read: Result<T, E>, column: usize) -> rusqlite::Result<T> {
    read.map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// Somebody who may sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// Also the subject of tokens.
    pub(crate) name: String,
    /// An Argon2id hash in PHC form; `None` where nobody can sign in with a passphrase.
    pub(crate) passphrase_hash: Option<String>,
    /// What they may allow; `None`: everything.
    pub(crate) scopes: Option<ScopeSet>,
    /// The owner cannot be removed.
    pub(crate) is_owner: bool,
    pub(crate) created_at: SystemTime,
}

/// A browser in which somebody is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: i64,
    pub(crate) user: User,
    pub(crate) created_at: SystemTime,
    pub(crate) last_seen_at: SystemTime,
}

/// An authorization request that waits for its user's answer (RFC 6749 §4.1.1), checked.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct AuthorizationRequest {
    pub(crate) client: Client,
    /// As the client wrote it.
    pub(crate) redirect_uri: String,
    /// Whether the client wrote it, and has to repeat it at the token endpoint.
    pub(crate) redirect_uri_was_sent: bool,
    pub(crate) state: Option<String>,
    /// `code_challenge`, of method S256.
    pub(crate) challenge: String,
    /// One of ours.
    pub(crate) resource: String,
    /// What was asked for, of what there is.
    pub(crate) scopes: ScopeSet,
}

/// A user's consent, from which all tokens come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewGrant<'a> {
    pub(crate) user: &'a str,
    pub(crate) request: &'a AuthorizationRequest,
    /// What the user has allowed, of what was asked for.
    pub(crate) scopes: &'a ScopeSet,
}

/// A grant as its user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) id: i64,
    pub(crate) user: String,
    pub(crate) client: Client,
    pub(crate) redirect_uri: String,
    pub(crate) resource: String,
    pub(crate) scopes: ScopeSet,
    pub(crate) created_at: SystemTime,
    /// To the minute.
    pub(crate) last_used_at: Option<SystemTime>,
    pub(crate) expires_at: SystemTime,
}

/// What a client shows at the token endpoint with a code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeExchange<'a> {
    pub(crate) code: Digest,
    pub(crate) client_id: &'a str,
    pub(crate) redirect_uri: Option<&'a str>,
    /// The S256 challenge that follows from the `code_verifier` that was sent.
    pub(crate) challenge: &'a str,
    pub(crate) resource: Option<&'a str>,
    /// What tokens are issued for. The public URL may have been another one when the grant was made.
    pub(crate) served: &'a [String],
    /// Hashes of what is issued if all is well.
    pub(crate) access: Digest,
    /// Kept only if the client of the grant refreshes; of a new family.
    pub(crate) refresh: RefreshDigest,
}

/// What a client shows at the token endpoint with a refresh token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefreshExchange<'a> {
    pub(crate) token: RefreshDigest,
    pub(crate) client_id: &'a str,
    /// A narrowing, if one was sent. It is for the new access token alone.
    pub(crate) scopes: Option<&'a ScopeSet>,
    pub(crate) resource: Option<&'a str>,
    /// As for a code.
    pub(crate) served: &'a [String],
    pub(crate) access: Digest,
    /// Of the same family.
    pub(crate) refresh: Digest,
}

/// What was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issued {
    pub(crate) scopes: ScopeSet,
    pub(crate) expires_in: Duration,
    /// Whether there is a refresh token too.
    pub(crate) refreshes: bool,
}

/// Why nothing was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotIssued {
    /// Unknown, expired, of another client or redirect URI, or with a wrong verifier: `invalid_grant`.
    /// Nothing was used up.
    Invalid,
    /// It was used before, by whoever could use it: the grant is revoked; `invalid_grant`.
    Replayed,
    /// Another resource than that of the grant: `invalid_target`. Nothing was used up.
    Target,
    /// More than was granted: `invalid_scope`. Nothing was used up.
    Scope,
}

/// What an access token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) grant: i64,
    pub(crate) user: String,
    pub(crate) client_id: String,
    pub(crate) scopes: ScopeSet,
    pub(crate) expires_at: SystemTime,
}

/// A client as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegisteredClient {
    pub(crate) client: Client,
    pub(crate) created_at: SystemTime,
    pub(crate) last_used_at: Option<SystemTime>,
    /// Whether anybody has ever allowed it anything.
    pub(crate) is_approved: bool,
}
