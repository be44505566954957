//! Complaints that must be heard and must not fill the disk.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::sync::Locked as _;

/// Lets something through at most once per minute, so that a flood does not fill the disk.
#[derive(Debug, Default)]
pub(crate) struct OncePerMinute(Mutex<Option<Instant>>);

impl OncePerMinute {
    pub(crate) fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut last = self.0.locked();
        let due = last.is_none_or(|last| now - last >= Duration::from_secs(60));
        if due {
            *last = Some(now);
        }
        due
    }
}
