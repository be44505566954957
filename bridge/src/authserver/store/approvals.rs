//! Browsers that wait to be signed in from a terminal.

use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension as _, Row, params};

use super::{Approval, Store, StoreError, length, seconds};
use crate::authserver::opaque::Digest;

/// Who is at the terminal has this long.
pub(super) const LIFE: Duration = Duration::from_secs(5 * 60);
/// Browsers that wait at once; the oldest makes room.
const WAITING_MAX: i64 = 20;

impl Store {
    /// Lets `browser` wait under `code`.
    pub(crate) fn add_approval(&self, browser: Digest, code: &str, now: SystemTime) -> Result<(), StoreError> {
        self.change(|state| {
            state.execute(
                "INSERT OR REPLACE INTO approvals (browser, code, approved_for, created_at) VALUES (?, ?, NULL, ?)",
                params![browser.as_bytes(), code, seconds(now)],
            )?;
            state.execute(
                "DELETE FROM approvals WHERE browser NOT IN
                     (SELECT browser FROM approvals ORDER BY created_at DESC LIMIT ?) AND browser <> ?",
                params![WAITING_MAX, browser.as_bytes()],
            )?;
            Ok(())
        })
    }

    /// How `browser` waits.
    pub(crate) fn approval(&self, browser: Digest, now: SystemTime) -> Result<Option<Approval>, StoreError> {
        let now = seconds(now);
        self.read(|state| {
            let query =
                "SELECT code, approved_for FROM approvals WHERE browser = ? AND created_at > ? AND created_at <= ?";
            let values = params![browser.as_bytes(), now - length(LIFE), now];
            state.prepare_cached(query)?.query_row(values, approval).optional()
        })
    }

    /// Everybody who waits and is not approved yet, the newest first.
    pub(crate) fn waiting_approvals(&self, now: SystemTime) -> Result<Vec<Approval>, StoreError> {
        let now = seconds(now);
        self.read(|state| {
            let query = "SELECT code, approved_for FROM approvals
                 WHERE approved_for IS NULL AND created_at > ? AND created_at <= ? ORDER BY created_at DESC";
            state.prepare_cached(query)?.query_map([now - length(LIFE), now], approval)?.collect()
        })
    }

    /// Lets whoever waits under `code` sign in as `user`; says whether somebody does.
    pub(crate) fn approve(&self, code: &str, user: &str, now: SystemTime) -> Result<bool, StoreError> {
        let now = seconds(now);
        self.change(|state| {
            let approved = state.execute(
                "UPDATE approvals SET approved_for = ? WHERE code = ? AND created_at > ? AND created_at <= ?",
                params![user, code, now - length(LIFE), now],
            )?;
            Ok(approved > 0)
        })
    }

    /// As whom `browser` may sign in, once.
    pub(crate) fn take_approval(&self, browser: Digest, now: SystemTime) -> Result<Option<String>, StoreError> {
        // A page that waits asks often, and nearly always in vain.
        if self.approval(browser, now)?.is_none_or(|approval| approval.approved_for.is_none()) {
            return Ok(None);
        }
        self.change(|state| {
            let query = "DELETE FROM approvals WHERE browser = ? AND approved_for IS NOT NULL RETURNING approved_for";
            state.query_row(query, [browser.as_bytes()], |row| row.get(0)).optional()
        })
    }
}

fn approval(row: &Row<'_>) -> rusqlite::Result<Approval> {
    Ok(Approval { code: row.get(0)?, approved_for: row.get(1)? })
}
