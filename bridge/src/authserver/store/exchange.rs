//! From a code or a refresh token to new tokens.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use subtle::ConstantTimeEq as _;

use super::{
    ACCESS_LIFE, CODE_LIFE, CodeExchange, Issued, NotIssued, REFRESH_IDLE, ROTATION_GRACE, RefreshExchange, Store,
    StoreError, grants, length, parsed, seconds,
};
use crate::{
    authserver::{
        client::Client,
        opaque::{Digest, RefreshDigest},
    },
    scope::ScopeSet,
};

/// A client that did not get its answer asks again, and not more often than this.
const SUCCESSORS_MAX: u32 = 5;
/// Access tokens of one grant that are good at once; the oldest makes room. Far more than processes share
/// one sign-in, and little enough that a client which refreshes all the time fills no disk.
const ACCESS_TOKENS_MAX: i64 = 100;

/// The grant that something belongs to.
struct Owner {
    id: i64,
    client_id: String,
    client: Client,
    redirect_uri: String,
    resource: String,
    scopes: ScopeSet,
    expires_at: i64,
}

const OWNER: &str = "grants.id, grants.client_id, grants.client, grants.redirect_uri, grants.resource, grants.scopes, grants.expires_at";
/// How many columns that is.
const OWNER_LEN: usize = 7;

impl Store {
    /// Exchanges a code for tokens (RFC 6749 §4.1.3). Of two at once one gets them.
    pub(crate) fn exchange_code(
        &self,
        exchange: CodeExchange<'_>,
        now: SystemTime,
    ) -> Result<Result<Issued, NotIssued>, StoreError> {
        let now = seconds(now);
        self.change(|state| {
            let query = format!(
                "SELECT {OWNER}, challenge, must_send_redirect_uri, codes.created_at, used_at IS NOT NULL
                 FROM codes JOIN grants ON grants.id = codes.grant_id WHERE hash = ?"
            );
            let read = |row: &Row<'_>| {
                let challenge: String = row.get(OWNER_LEN)?;
                let must_send: bool = row.get(OWNER_LEN + 1)?;
                Ok((owner(row)?, challenge, must_send, row.get::<_, i64>(OWNER_LEN + 2)?, row.get(OWNER_LEN + 3)?))
            };
            let found = state.query_row(&query, [exchange.code.as_bytes()], read).optional()?;
            let Some((grant, challenge, must_send, created_at, was_used)) = found else {
                return Ok(Err(NotIssued::Invalid));
            };
            let is_challenge = bool::from(challenge.as_bytes().ct_eq(exchange.challenge.as_bytes()));
            let is_redirect_uri = match exchange.redirect_uri {
                Some(uri) => uri == grant.redirect_uri,
                None => !must_send,
            };
            if exchange.client_id != grant.client_id || !is_redirect_uri || !is_challenge {
                return Ok(Err(NotIssued::Invalid));
            }
            if was_used {
                // Whoever could use it has used it: one of the two is a thief.
                revoke(state, grant.id)?;
                return Ok(Err(NotIssued::Replayed));
            }
            // One from the future is from before a clock was set back, and nobody knows how old it is.
            if !(created_at..created_at + length(CODE_LIFE)).contains(&now) {
                return Ok(Err(NotIssued::Invalid));
            }
            if exchange.resource.is_some_and(|resource| resource != grant.resource) {
                return Ok(Err(NotIssued::Target));
            }
            if !exchange.served.contains(&grant.resource) {
                return Ok(Err(NotIssued::Invalid));
            }
            state.execute("UPDATE codes SET used_at = ? WHERE hash = ?", params![now, exchange.code.as_bytes()])?;
            if grant.client.refreshes {
                let RefreshDigest { family, token } = exchange.refresh;
                state.execute("UPDATE grants SET family = ? WHERE id = ?", params![family.as_bytes(), grant.id])?;
                add_refresh_token(state, token, grant.id, None, now)?;
            }
            let scopes = grant.scopes.clone();
            issue(state, exchange.access, &grant, scopes, now).map(Ok)
        })
    }

    /// Exchanges a refresh token for new tokens (RFC 6749 §6), and rotates it (RFC 9700 §4.14.2).
    ///
    /// The first use of a successor ends its predecessor and all other successors of that: one of two
    /// who have them is a thief, whoever comes first. Of two processes of a client that each keep a
    /// successor of their own the second ends the grant; a client has to share one, as ours does.
    ///
    /// What has ended is not kept. It is known by its family, so a grant has few refresh tokens, and
    /// however often it is refreshed, nobody can make the use of an old one go unnoticed.
    pub(crate) fn refresh(
        &self,
        exchange: RefreshExchange<'_>,
        now: SystemTime,
    ) -> Result<Result<Issued, NotIssued>, StoreError> {
        let now = seconds(now);
        self.change(|state| {
            let query = format!(
                "SELECT {OWNER}, refresh_tokens.created_at, used_at, successors, predecessor
                 FROM refresh_tokens JOIN grants ON grants.id = refresh_tokens.grant_id WHERE hash = ?"
            );
            let read = |row: &Row<'_>| {
                let created_at: i64 = row.get(OWNER_LEN)?;
                let used_at: Option<i64> = row.get(OWNER_LEN + 1)?;
                let successors: u32 = row.get(OWNER_LEN + 2)?;
                let predecessor: Option<Vec<u8>> = row.get(OWNER_LEN + 3)?;
                Ok((owner(row)?, created_at, used_at, successors, predecessor))
            };
            let RefreshDigest { family, token } = exchange.token;
            let found = state.query_row(&query, [token.as_bytes()], read).optional()?;
            let Some((grant, created_at, used_at, successors, predecessor)) = found else {
                let was_good = grants::revoke_family(state, family, exchange.client_id)?;
                return Ok(Err(if was_good { NotIssued::Replayed } else { NotIssued::Invalid }));
            };
            if exchange.client_id != grant.client_id {
                return Ok(Err(NotIssued::Invalid));
            }
            let is_over = used_at.is_some_and(|used| now >= used + length(ROTATION_GRACE));
            if is_over || successors >= SUCCESSORS_MAX {
                revoke(state, grant.id)?;
                return Ok(Err(NotIssued::Replayed));
            }
            if now >= grant.expires_at || used_at.is_none() && now >= created_at + length(REFRESH_IDLE) {
                return Ok(Err(NotIssued::Invalid));
            }
            if exchange.resource.is_some_and(|resource| resource != grant.resource) {
                return Ok(Err(NotIssued::Target));
            }
            if !exchange.served.contains(&grant.resource) {
                return Ok(Err(NotIssued::Invalid));
            }
            let scopes = match exchange.scopes {
                // What is no scope here was not granted either, as when the grant was asked for.
                Some(asked) => {
                    let narrowed: ScopeSet =
                        grant.scopes.iter().filter(|scope| asked.contains(scope)).cloned().collect();
                    let is_common = |scope: &str| ["offline_access", "openid", "profile", "email"].contains(&scope);
                    if asked.iter().any(|scope| !grant.scopes.contains(scope) && !is_common(scope.as_str())) {
                        return Ok(Err(NotIssued::Scope));
                    }
                    if narrowed.is_empty() { grant.scopes.clone() } else { narrowed }
                }
                None => grant.scopes.clone(),
            };
            state.execute(
                "UPDATE refresh_tokens SET used_at = coalesce(used_at, ?), successors = successors + 1 WHERE hash = ?",
                params![now, token.as_bytes()],
            )?;
            state.execute(
                "DELETE FROM refresh_tokens WHERE grant_id = ?1 AND hash <> ?2 AND (hash = ?3 OR predecessor = ?3)",
                params![grant.id, token.as_bytes(), predecessor],
            )?;
            add_refresh_token(state, exchange.refresh, grant.id, Some(token), now)?;
            issue(state, exchange.access, &grant, scopes, now).map(Ok)
        })
    }
}

fn owner(row: &Row<'_>) -> rusqlite::Result<Owner> {
    Ok(Owner {
        id: row.get(0)?,
        client_id: row.get(1)?,
        client: parsed(serde_json::from_str(&row.get::<_, String>(2)?), 2)?,
        redirect_uri: row.get(3)?,
        resource: row.get(4)?,
        scopes: parsed(row.get::<_, String>(5)?.parse(), 5)?,
        expires_at: row.get(6)?,
    })
}

fn revoke(state: &Connection, grant: i64) -> rusqlite::Result<()> {
    state.execute("DELETE FROM grants WHERE id = ?", [grant]).map(drop)
}

fn add_refresh_token(
    state: &Connection,
    token: Digest,
    grant: i64,
    predecessor: Option<Digest>,
    now: i64,
) -> rusqlite::Result<()> {
    let predecessor = predecessor.as_ref().map(Digest::as_bytes);
    state.execute(
        "INSERT INTO refresh_tokens (hash, grant_id, predecessor, created_at) VALUES (?, ?, ?, ?)",
        params![token.as_bytes(), grant, predecessor, now],
    )?;
    Ok(())
}

fn issue(state: &Connection, token: Digest, grant: &Owner, scopes: ScopeSet, now: i64) -> rusqlite::Result<Issued> {
    let expires_at = grant.expires_at.min(now + length(ACCESS_LIFE));
    state.execute(
        "INSERT INTO access_tokens (hash, grant_id, scopes, expires_at) VALUES (?, ?, ?, ?)",
        params![token.as_bytes(), grant.id, scopes.to_string(), expires_at],
    )?;
    state.execute(
        "DELETE FROM access_tokens WHERE grant_id = ?1 AND hash <> ?2 AND hash NOT IN
             (SELECT hash FROM access_tokens WHERE grant_id = ?1 AND hash <> ?2 ORDER BY expires_at DESC LIMIT ?3)",
        params![grant.id, token.as_bytes(), ACCESS_TOKENS_MAX - 1],
    )?;
    let expires_in = std::time::Duration::from_secs(u64::try_from(expires_at - now).unwrap_or_default());
    Ok(Issued { scopes, expires_in, refreshes: grant.client.refreshes })
}
