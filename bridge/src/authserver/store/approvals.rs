//! Codes of browsers that somebody at a terminal lets sign in.

use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension as _, params};

use super::{Store, StoreError, length, seconds};
use crate::authserver::approval_code::ApprovalCode;

/// A browser looks every few seconds, so the one that was meant is there by then.
pub(super) const LIFE: Duration = Duration::from_secs(5 * 60);

impl Store {
    /// Lets the browser that shows `code` sign in as `user`.
    pub(crate) fn approve(&self, code: &ApprovalCode, user: &str, now: SystemTime) -> Result<(), StoreError> {
        self.change(|state| {
            let query = "INSERT OR REPLACE INTO approvals (code, user, created_at) VALUES (?, ?, ?)";
            state.execute(query, params![code.as_str(), user, seconds(now)]).map(drop)
        })
    }

    /// As whom the browser may sign in that has shown one of `codes`, once.
    pub(crate) fn take_approval(
        &self,
        codes: &[ApprovalCode; 2],
        now: SystemTime,
    ) -> Result<Option<String>, StoreError> {
        const APPROVED: &str = "approvals WHERE code IN (?1, ?2) AND created_at > ?3 AND created_at <= ?4";
        let now = seconds(now);
        let values = params![codes[0].as_str(), codes[1].as_str(), now - length(LIFE), now];
        // A page that waits asks often, and nearly always in vain.
        let query = format!("SELECT 1 FROM {APPROVED}");
        if !self.read(|state| state.prepare_cached(&query)?.exists(values))? {
            return Ok(None);
        }
        self.change(|state| {
            let query = format!("DELETE FROM {APPROVED} RETURNING user");
            state.query_row(&query, values, |row| row.get(0)).optional()
        })
    }
}
