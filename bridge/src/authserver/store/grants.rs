//! Consents, and what becomes of them.

use std::time::SystemTime;

use rusqlite::{Connection, Row, params};

use super::{GRANT_LIFE, Grant, NewGrant, Store, StoreError, length, parsed, seconds, sessions, time};
use crate::authserver::opaque::Digest;

const COLUMNS: &str =
    "id, user, client, redirect_uri, resource, scopes, created_at, last_used_at, expires_at FROM grants";
/// The time of the last use is kept to the minute.
const USED_EVERY: i64 = 60;

impl Store {
    /// Answers the request `id` of the browser's `session` with a grant and its code, in one step; `None`
    /// where it was answered already. The client is not a stranger any more.
    pub(crate) fn grant(
        &self,
        id: Digest,
        session: i64,
        new: NewGrant<'_>,
        code: Digest,
        now: SystemTime,
    ) -> Result<Option<i64>, StoreError> {
        let at = seconds(now);
        let request = new.request;
        let client = serde_json::to_string(&request.client).expect("text is JSON");
        self.change(|state| {
            if sessions::request(state, id, session, now)?.is_none() {
                return Ok(None);
            }
            state.execute("DELETE FROM requests WHERE id = ?", [id.as_bytes()])?;
            state.execute(
                "INSERT INTO grants (user, client_id, client, redirect_uri, resource, scopes, created_at, expires_at)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                params![
                    new.user,
                    request.client.id,
                    client,
                    request.redirect_uri,
                    request.resource,
                    new.scopes.to_string(),
                    at,
                    at + length(GRANT_LIFE),
                ],
            )?;
            let grant = state.last_insert_rowid();
            state.execute(
                "INSERT INTO codes (hash, grant_id, challenge, must_send_redirect_uri, created_at)
                 VALUES (?, ?, ?, ?, ?)",
                params![code.as_bytes(), grant, request.challenge, request.redirect_uri_was_sent, at],
            )?;
            state.execute(
                "UPDATE clients SET approved_at = coalesce(approved_at, ?1), last_used_at = ?1 WHERE id = ?2",
                params![at, request.client.id],
            )?;
            Ok(Some(grant))
        })
    }

    /// The grants of `user`, or of all users, the newest first.
    pub(crate) fn grants(&self, user: Option<&str>, now: SystemTime) -> Result<Vec<Grant>, StoreError> {
        self.read(|state| {
            let query =
                format!("SELECT {COLUMNS} WHERE (?1 IS NULL OR user = ?1) AND expires_at > ?2 ORDER BY id DESC");
            state.prepare_cached(&query)?.query_map(params![user, seconds(now)], grant)?.collect()
        })
    }

    /// Whether `user` has let that client in.
    pub(crate) fn is_connected(&self, user: &str, client_id: &str, now: SystemTime) -> Result<bool, StoreError> {
        self.read(|state| {
            let query = "SELECT 1 FROM grants WHERE user = ? AND client_id = ? AND expires_at > ?";
            state.prepare_cached(query)?.exists(params![user, client_id, seconds(now)])
        })
    }

    /// Takes a grant back, of `user` alone if one is named; says whether there was one.
    pub(crate) fn revoke_grant(&self, id: i64, user: Option<&str>) -> Result<bool, StoreError> {
        self.change(|state| {
            Ok(state.execute("DELETE FROM grants WHERE id = ?1 AND (?2 IS NULL OR user = ?2)", params![id, user])? > 0)
        })
    }

    /// Writes down that a grant was used.
    pub(crate) fn note_use(&self, id: i64, now: SystemTime) -> Result<(), StoreError> {
        let now = seconds(now);
        self.change(|state| {
            let query = "UPDATE grants SET last_used_at = ?1 WHERE id = ?2 AND coalesce(last_used_at, 0) <= ?3";
            state.execute(query, params![now, id, now - USED_EVERY]).map(drop)
        })
    }

    /// Takes back an access token, if it is of the client (RFC 7009 §2.1).
    pub(crate) fn revoke_access_token(&self, token: Digest, client_id: &str) -> Result<(), StoreError> {
        self.change(|state| {
            let query = "DELETE FROM access_tokens
                 WHERE hash = ?1 AND grant_id IN (SELECT id FROM grants WHERE client_id = ?2)";
            state.execute(query, params![token.as_bytes(), client_id]).map(drop)
        })
    }

    /// Takes back the grant that refresh tokens of `family` are of, if it is one of the client; says
    /// whether there was one.
    pub(crate) fn revoke_family(&self, family: Digest, client_id: &str) -> Result<bool, StoreError> {
        self.change(|state| revoke_family(state, family, client_id))
    }
}

pub(super) fn revoke_family(state: &Connection, family: Digest, client_id: &str) -> rusqlite::Result<bool> {
    let query = "DELETE FROM grants WHERE family = ? AND client_id = ?";
    Ok(state.execute(query, params![family.as_bytes(), client_id])? > 0)
}

fn grant(row: &Row<'_>) -> rusqlite::Result<Grant> {
    Ok(Grant {
        id: row.get(0)?,
        user: row.get(1)?,
        client: parsed(serde_json::from_str(&row.get::<_, String>(2)?), 2)?,
        redirect_uri: row.get(3)?,
        resource: row.get(4)?,
        scopes: parsed(row.get::<_, String>(5)?.parse(), 5)?,
        created_at: time(row.get(6)?),
        last_used_at: row.get::<_, Option<i64>>(7)?.map(time),
        expires_at: time(row.get(8)?),
    })
}
