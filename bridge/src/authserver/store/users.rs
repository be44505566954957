//! Who may sign in.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Store, StoreError, User, parsed, seconds, time};
use crate::scope::ScopeSet;

const COLUMNS: &str = "name, passphrase_hash, scopes, is_owner, created_at";

impl Store {
    /// Everybody, the owner first.
    pub(crate) fn users(&self) -> Result<Vec<User>, StoreError> {
        self.read(|state| {
            let query = format!("SELECT {COLUMNS} FROM users ORDER BY is_owner DESC, name");
            state.prepare_cached(&query)?.query_map([], |row| user(row, 0))?.collect()
        })
    }

    pub(crate) fn user(&self, name: &str) -> Result<Option<User>, StoreError> {
        self.read(|state| by(state, "name = ?", name))
    }

    pub(crate) fn owner(&self) -> Result<Option<User>, StoreError> {
        self.read(|state| by(state, "is_owner = ?", 1))
    }

    /// # Errors
    /// [`StoreError::Exists`].
    pub(crate) fn add_user(
        &self,
        name: &str,
        passphrase_hash: Option<&str>,
        scopes: Option<&ScopeSet>,
        is_owner: bool,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let scopes = scopes.map(ToString::to_string);
        let added = self.change(|state| {
            state.execute(
                "INSERT OR IGNORE INTO users (name, passphrase_hash, scopes, is_owner, created_at)
                 VALUES (?, ?, ?, ?, ?)",
                params![name, passphrase_hash, scopes, is_owner, seconds(now)],
            )
        })?;
        if added == 0 { Err(StoreError::Exists) } else { Ok(()) }
    }

    /// Gives a user another passphrase, and signs all their browsers out. Grants stay. Says whether there
    /// is such a user.
    pub(crate) fn set_passphrase(&self, name: &str, hash: &str) -> Result<bool, StoreError> {
        self.change(|state| set_passphrase(state, name, hash, None))
    }

    /// The same for who knew the passphrase of the hash `proved`, and stays signed in by the session
    /// `keep`; says whether it was still theirs, else nothing is changed.
    pub(crate) fn change_passphrase(
        &self,
        name: &str,
        proved: &str,
        hash: &str,
        keep: i64,
    ) -> Result<bool, StoreError> {
        self.change(|state| {
            let query = "SELECT 1 FROM users WHERE name = ? AND passphrase_hash = ?";
            Ok(state.prepare_cached(query)?.exists([name, proved])? && set_passphrase(state, name, hash, Some(keep))?)
        })
    }

    /// Removes a user with everything that comes from them; says whether there was one.
    ///
    /// # Errors
    /// [`StoreError::Owner`].
    pub(crate) fn remove_user(&self, name: &str) -> Result<bool, StoreError> {
        if self.user(name)?.is_some_and(|user| user.is_owner) {
            return Err(StoreError::Owner);
        }
        self.change(|state| Ok(state.execute("DELETE FROM users WHERE name = ? AND is_owner = 0", [name])? > 0))
    }
}

fn set_passphrase(state: &Connection, name: &str, hash: &str, keep: Option<i64>) -> rusqlite::Result<bool> {
    let known = state.execute("UPDATE users SET passphrase_hash = ? WHERE name = ?", [hash, name])?;
    state.execute("DELETE FROM sessions WHERE user = ? AND id IS NOT ?", params![name, keep])?;
    Ok(known > 0)
}

fn by(state: &Connection, condition: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<Option<User>> {
    let query = format!("SELECT {COLUMNS} FROM users WHERE {condition}");
    state.prepare_cached(&query)?.query_row([value], |row| user(row, 0)).optional()
}

/// A user from the columns of `row` from `first` on.
pub(super) fn user(row: &Row<'_>, first: usize) -> rusqlite::Result<User> {
    let scopes: Option<String> = row.get(first + 2)?;
    Ok(User {
        name: row.get(first)?,
        passphrase_hash: row.get(first + 1)?,
        scopes: scopes.map(|text| parsed(text.parse(), first + 2)).transpose()?,
        is_owner: row.get(first + 3)?,
        created_at: time(row.get(first + 4)?),
    })
}
