//! How many processes each user has: those that are used, and those that have not ended yet.
//!
//! A process holds its place until it is over, which may take two grace periods after its last use. If
//! it did not count for its user until then, a user whose processes end slowly would take all places.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, futures::Notified};

use crate::relay::owner::Principal;

/// The users who have processes.
#[derive(Default)]
pub(super) struct Shares {
    table: Mutex<HashMap<Principal, Count>>,
    fewer: Notify,
}

#[derive(Default)]
struct Count {
    used: usize,
    held: usize,
}

/// Somebody uses as many as they may, and waiting would not help.
#[derive(Debug)]
pub(super) struct TooMany;

impl Shares {
    /// One more process of `principal`, who may have `most`; `None` when one of theirs has to end first.
    ///
    /// # Errors
    /// [`TooMany`] when all of them are in use.
    pub(super) fn take(
        self: &Arc<Self>,
        principal: &Principal,
        most: usize,
    ) -> Result<Option<(Using, Holding)>, TooMany> {
        let mut table = self.lock();
        let (used, held) = table.get(principal).map_or((0, 0), |count| (count.used, count.held));
        if used >= most {
            return Err(TooMany);
        }
        if held >= most {
            return Ok(None);
        }
        let count = table.entry(principal.clone()).or_default();
        count.used += 1;
        count.held += 1;
        let whose = || Whose { shares: Arc::clone(self), principal: principal.clone() };
        Ok(Some((Using(whose()), Holding(whose()))))
    }

    /// Waits until somebody has fewer.
    pub(super) fn fewer(&self) -> Notified<'_> {
        self.fewer.notified()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Principal, Count>> {
        // Nothing panics while it holds the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process is used. To be dropped when it is not any more.
pub(super) struct Using(Whose);

/// A process lives. To be dropped when it is over.
pub(super) struct Holding(Whose);

struct Whose {
    shares: Arc<Shares>,
    principal: Principal,
}

impl Whose {
    fn lower(&self, change: impl FnOnce(&mut Count)) {
        let mut table = self.shares.lock();
        if let Some(count) = table.get_mut(&self.principal) {
            change(count);
            if (count.used, count.held) == (0, 0) {
                table.remove(&self.principal);
            }
        }
        drop(table);
        self.shares.fewer.notify_waiters();
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        self.0.lower(|count| count.used -= 1);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.lower(|count| count.held -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{relay::owner::Owner, token::VerifiedToken};

    #[test]
    fn what_has_not_ended_counts_and_can_be_waited_for() {
        let shares = Arc::new(Shares::default());
        let [alice, bob] = ["alice", "bob"].map(|user| Owner::of(&VerifiedToken::of(user, "app")).principal());
        let take = |who| shares.take(who, 2);
        let (one, two) = (take(&alice), take(&alice));
        let (Ok(Some((using, holding))), Ok(Some(two))) = (one, two) else { panic!("there is room") };
        assert!(take(&alice).is_err() && take(&bob).is_ok_and(|taken| taken.is_some()));
        drop(using);
        assert!(take(&alice).is_ok_and(|taken| taken.is_none()), "it has to end first");
        drop(holding);
        assert!(take(&alice).is_ok_and(|taken| taken.is_some()));
        drop(two);
        assert!(shares.lock().is_empty(), "who has none takes no memory");
    }
}
