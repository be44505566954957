//! The look at every call: whether an access token is good.

use std::{path::PathBuf, sync::Mutex, time::SystemTime};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Access, Store, StoreError, open, parsed, seconds, time};
use crate::{authserver::opaque::Digest, sync::Locked as _};

/// Connections that are kept for reading: more read at once only where more threads run.
const KEPT_MAX: usize = 16;

/// Connections that only read, so that no reader waits for a writer's disk.
pub(super) struct Readers {
    path: PathBuf,
    free: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, free: Mutex::default() }
    }

    /// Reads on a connection of the caller's own.
    pub(super) fn with<R>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R, StoreError> {
        let free = self.free.locked().pop();
        let connection = match free {
            Some(connection) => connection,
            None => open::open(&self.path, open::PATIENCE)?,
        };
        let result = read(&connection)?;
        let mut free = self.free.locked();
        if free.len() < KEPT_MAX {
            free.push(connection);
        }
        Ok(result)
    }
}

impl Store {
    /// What `token` is good for at `resource`; `None`: nothing. A revocation by any process holds at once.
    pub(crate) fn access(&self, token: Digest, resource: &str, now: SystemTime) -> Result<Option<Access>, StoreError> {
        const QUERY: &str = "SELECT grants.id, user, client_id, access_tokens.scopes, access_tokens.expires_at
             FROM access_tokens JOIN grants ON grants.id = access_tokens.grant_id
             WHERE hash = ?1 AND resource = ?2 AND access_tokens.expires_at > ?3";
        let read = |row: &Row<'_>| {
            Ok(Access {
                grant: row.get(0)?,
                user: row.get(1)?,
                client_id: row.get(2)?,
                scopes: parsed(row.get_ref(3)?.as_str().unwrap_or_default().parse(), 3)?,
                expires_at: time(row.get(4)?),
            })
        };
        let values = params![token.as_bytes(), resource, seconds(now)];
        self.read(|state| state.prepare_cached(QUERY)?.query_row(values, read).optional())
    }
}
