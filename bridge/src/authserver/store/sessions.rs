//! Browsers in which somebody is signed in, and requests that wait for their answer.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    AuthorizationRequest, REQUEST_LIFE, SESSION_IDLE, SESSION_LIFE, Session, Store, StoreError, length, parsed,
    seconds, time, users::user,
};
use crate::authserver::opaque::Digest;

/// Nobody has more browsers; the one longest unused is signed out.
const SESSIONS_MAX: i64 = 50;
/// Open pages that ask, of one browser; the oldest is void.
const REQUESTS_MAX: i64 = 20;
/// The time of the last use is kept to the minute: not every page is a write.
const SEEN_EVERY: i64 = 60;

const COLUMNS: &str = "sessions.id, sessions.created_at, last_seen_at,
    users.name, passphrase_hash, scopes, is_owner, users.created_at";

impl Store {
    /// Signs `user` in at the browser with `cookie`; says whether that could still be done. Where `proved`
    /// is a hash that they knew the passphrase of, it has to be theirs at this moment: another passphrase
    /// signs out whoever knew the one before, and also who is just signing in with it.
    pub(crate) fn add_session(
        &self,
        cookie: Digest,
        user: &str,
        proved: Option<&str>,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        let now = seconds(now);
        self.change(|state| {
            let added = state.execute(
                "INSERT INTO sessions (cookie, user, created_at, last_seen_at)
                 SELECT ?1, name, ?2, ?2 FROM users WHERE name = ?3 AND (?4 IS NULL OR passphrase_hash = ?4)",
                params![cookie.as_bytes(), now, user, proved],
            )?;
            state.execute(
                "DELETE FROM sessions WHERE user = ?1 AND id NOT IN
                     (SELECT id FROM sessions WHERE user = ?1 ORDER BY last_seen_at DESC, id DESC LIMIT ?2)",
                params![user, SESSIONS_MAX],
            )?;
            Ok(added > 0)
        })
    }

    /// Who is signed in at the browser with `cookie`.
    pub(crate) fn session(&self, cookie: Digest, now: SystemTime) -> Result<Option<Session>, StoreError> {
        let at = seconds(now);
        let found = self.read(|state| {
            let query =
                format!("SELECT {COLUMNS} FROM sessions JOIN users ON users.name = sessions.user WHERE cookie = ?");
            state.prepare_cached(&query)?.query_row([cookie.as_bytes()], session).optional()
        })?;
        let Some(session) = found.filter(|session| is_alive(session, at)) else { return Ok(None) };
        if at - seconds(session.last_seen_at) >= SEEN_EVERY {
            self.change(|state| {
                state.execute("UPDATE sessions SET last_seen_at = ? WHERE id = ?", [at, session.id]).map(drop)
            })?;
        }
        Ok(Some(session))
    }

    /// Where `user` is signed in, the last used first.
    pub(crate) fn sessions(&self, user: &str, now: SystemTime) -> Result<Vec<Session>, StoreError> {
        let all: Vec<Session> = self.read(|state| {
            let query = format!(
                "SELECT {COLUMNS} FROM sessions JOIN users ON users.name = sessions.user WHERE user = ?
                 ORDER BY last_seen_at DESC, sessions.id DESC"
            );
            state.prepare_cached(&query)?.query_map([user], session)?.collect()
        })?;
        Ok(all.into_iter().filter(|session| is_alive(session, seconds(now))).collect())
    }

    /// Signs one browser of `user` out; says whether it was signed in.
    pub(crate) fn end_session(&self, user: &str, id: i64) -> Result<bool, StoreError> {
        self.change(|state| Ok(state.execute("DELETE FROM sessions WHERE user = ? AND id = ?", params![user, id])? > 0))
    }

    /// Signs all browsers of `user` out but `keep`.
    pub(crate) fn end_sessions(&self, user: &str, keep: Option<i64>) -> Result<(), StoreError> {
        self.change(|state| {
            state.execute("DELETE FROM sessions WHERE user = ? AND id IS NOT ?", params![user, keep]).map(drop)
        })
    }

    /// Keeps a request until its user answers.
    pub(crate) fn add_request(
        &self,
        id: Digest,
        session: i64,
        request: &AuthorizationRequest,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_string(request).expect("text is JSON");
        self.change(|state| {
            state.execute(
                "INSERT INTO requests (id, session, request, created_at) VALUES (?, ?, ?, ?)",
                params![id.as_bytes(), session, text, seconds(now)],
            )?;
            state.execute(
                "DELETE FROM requests WHERE session = ?1 AND id NOT IN
                     (SELECT id FROM requests WHERE session = ?1 ORDER BY created_at DESC LIMIT ?2) AND id <> ?3",
                params![session, REQUESTS_MAX, id.as_bytes()],
            )?;
            Ok(())
        })
    }

    /// The request `id` of the browser's `session`, if it still waits.
    pub(crate) fn request(
        &self,
        id: Digest,
        session: i64,
        now: SystemTime,
    ) -> Result<Option<AuthorizationRequest>, StoreError> {
        self.read(|state| request(state, id, session, now))
    }

    /// The same, which does not wait any more; one caller gets it.
    pub(crate) fn take_request(
        &self,
        id: Digest,
        session: i64,
        now: SystemTime,
    ) -> Result<Option<AuthorizationRequest>, StoreError> {
        self.change(|state| {
            let found = request(state, id, session, now)?;
            state.execute("DELETE FROM requests WHERE id = ? AND session = ?", params![id.as_bytes(), session])?;
            Ok(found)
        })
    }
}

pub(super) fn request(
    state: &Connection,
    id: Digest,
    session: i64,
    now: SystemTime,
) -> rusqlite::Result<Option<AuthorizationRequest>> {
    let now = seconds(now);
    // One from the future is from before a clock was set back, and nobody knows how old it is.
    let query = "SELECT request FROM requests WHERE id = ? AND session = ? AND created_at > ? AND created_at <= ?";
    let read = |row: &Row<'_>| parsed(serde_json::from_str(&row.get::<_, String>(0)?), 0);
    let values = params![id.as_bytes(), session, now - length(REQUEST_LIFE), now];
    state.prepare_cached(query)?.query_row(values, read).optional()
}

fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session { id: row.get(0)?, created_at: time(row.get(1)?), last_seen_at: time(row.get(2)?), user: user(row, 3)? })
}

fn is_alive(session: &Session, now: i64) -> bool {
    now < seconds(session.last_seen_at) + length(SESSION_IDLE)
        && now < seconds(session.created_at) + length(SESSION_LIFE)
}
