//! Clients that have registered themselves (RFC 7591).

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{RegisteredClient, Store, StoreError, length, parsed, seconds, time};
use crate::authserver::client::Client;

/// Clients that nobody has allowed anything yet: strangers make them, so there are only so many.
const STRANGERS_MAX: i64 = 100;
/// How long such a client is kept.
const STRANGER_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long any other is kept unused.
const UNUSED_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// The time of the last use is kept to the hour.
const USED_EVERY: i64 = 60 * 60;

impl Store {
    /// Keeps a client that has registered.
    pub(crate) fn add_client(&self, client: &Client, now: SystemTime) -> Result<(), StoreError> {
        let text = serde_json::to_string(client).expect("text is JSON");
        self.change(|state| {
            state.execute(
                "INSERT INTO clients (id, client, created_at) VALUES (?, ?, ?)",
                params![client.id, text, seconds(now)],
            )?;
            drop_stale(state, seconds(now))
        })
    }

    /// The client `id`, if it has registered.
    pub(crate) fn client(&self, id: &str, now: SystemTime) -> Result<Option<Client>, StoreError> {
        let now = seconds(now);
        let found = self.read(|state| {
            let read = |row: &Row<'_>| {
                let client: Client = parsed(serde_json::from_str(&row.get::<_, String>(0)?), 0)?;
                Ok((client, row.get::<_, Option<i64>>(1)?, row.get::<_, bool>(2)?))
            };
            let query = "SELECT client, last_used_at, approved_at IS NOT NULL FROM clients WHERE id = ?";
            state.prepare_cached(query)?.query_row([id], read).optional()
        })?;
        let Some((client, last_used_at, is_approved)) = found else { return Ok(None) };
        if is_approved && last_used_at.is_none_or(|used| now - used >= USED_EVERY) {
            self.change(|state| {
                state.execute("UPDATE clients SET last_used_at = ? WHERE id = ?", params![now, id]).map(drop)
            })?;
        }
        Ok(Some(client))
    }

    /// All that have registered, the newest first.
    pub(crate) fn clients(&self) -> Result<Vec<RegisteredClient>, StoreError> {
        self.read(|state| {
            let read = |row: &Row<'_>| {
                Ok(RegisteredClient {
                    client: parsed(serde_json::from_str(&row.get::<_, String>(0)?), 0)?,
                    created_at: time(row.get(1)?),
                    last_used_at: row.get::<_, Option<i64>>(2)?.map(time),
                    is_approved: row.get(3)?,
                })
            };
            let query = "SELECT client, created_at, last_used_at, approved_at IS NOT NULL FROM clients
                 ORDER BY created_at DESC, id";
            state.prepare_cached(query)?.query_map([], read)?.collect()
        })
    }

    /// Removes a client with all its grants, registered or not; says whether there was either.
    pub(crate) fn remove_client(&self, id: &str) -> Result<bool, StoreError> {
        self.change(|state| {
            let clients = state.execute("DELETE FROM clients WHERE id = ?", [id])?;
            let grants = state.execute("DELETE FROM grants WHERE client_id = ?", [id])?;
            Ok(clients + grants > 0)
        })
    }

    /// Lets clients register until then, where that is only for a while.
    pub(crate) fn open_registration(&self, until: SystemTime) -> Result<(), StoreError> {
        self.change(|state| {
            let query = "INSERT OR REPLACE INTO registration (id, open_until) VALUES (1, ?)";
            state.execute(query, [seconds(until)]).map(drop)
        })
    }

    pub(crate) fn registration_open_until(&self) -> Result<Option<SystemTime>, StoreError> {
        self.read(|state| {
            let found = state.query_row("SELECT open_until FROM registration", [], |row| row.get(0)).optional()?;
            Ok(found.map(time))
        })
    }
}

/// Drops the clients of strangers that are too old or too many, and those that nobody uses.
pub(super) fn drop_stale(state: &Connection, now: i64) -> rusqlite::Result<()> {
    state.execute(
        "DELETE FROM clients WHERE approved_at IS NULL AND (created_at <= ?1 OR id NOT IN
             (SELECT id FROM clients WHERE approved_at IS NULL ORDER BY created_at DESC LIMIT ?2))",
        [now - length(STRANGER_LIFE), STRANGERS_MAX],
    )?;
    state.execute(
        "DELETE FROM clients WHERE approved_at IS NOT NULL
             AND max(approved_at, coalesce(last_used_at, 0)) <= ?
             AND NOT EXISTS (SELECT 1 FROM grants WHERE client_id = clients.id)",
        [now - length(UNUSED_LIFE)],
    )?;
    Ok(())
}
