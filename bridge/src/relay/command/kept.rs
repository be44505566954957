//! Children that live from one request to the next: one for all, or one for each owner.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::{
    children::{Child, StartError},
    kind::Kind,
};
use crate::relay::owner::{Owner, Principal};

/// Whose a kept child is; `None` for everybody's.
pub(super) type Key = (Option<Owner>, Kind);

/// The kept children of one program.
pub(super) struct Kept {
    idle: Duration,
    table: Mutex<HashMap<Key, Arc<Keep>>>,
}

#[derive(Default)]
struct Keep {
    /// Held while a child is being started, so that one is started and not two.
    child: AsyncMutex<Option<Arc<Child>>>,
    last_use: Mutex<Option<Instant>>,
}

impl Keep {
    /// Whether there is a child that nobody uses. To be asked while the table is locked, so that nobody
    /// begins to.
    fn is_idle(self: &Arc<Self>) -> bool {
        let child = self.child.try_lock();
        let is_unused = |kept: &Arc<Child>| Arc::strong_count(kept) == 1;
        Arc::strong_count(self) == 1 && child.is_ok_and(|child| child.as_ref().is_some_and(is_unused))
    }
}

impl Kept {
    /// Keeps each child until it was not used for `idle`.
    pub(super) fn new(idle: Duration) -> Self {
        Self { idle, table: Mutex::default() }
    }

    /// The child for `key`: the one that lives, else a new one from `start`. Cancel-safe.
    ///
    /// # Errors
    /// [`StartError`]
    pub(super) async fn get<F>(&self, key: Key, start: impl FnOnce() -> F) -> Result<Arc<Child>, StartError>
    where
        F: Future<Output = Result<Child, StartError>>,
    {
        let keep = Arc::clone(lock(&self.table).entry(key).or_default());
        *lock(&keep.last_use) = Some(Instant::now());
        let mut kept = keep.child.lock().await;
        if let Some(child) = kept.as_ref().filter(|child| child.link().end().is_none()) {
            return Ok(Arc::clone(child));
        }
        // A dead one makes room before the next is started.
        *kept = None;
        let child = Arc::new(start().await?);
        *kept = Some(Arc::clone(&child));
        Ok(child)
    }

    /// Ends the children that have died, and those that belong to somebody who has not used them
    /// for long. One for everybody stays.
    pub(super) fn tidy(&self) {
        lock(&self.table).retain(|(owner, _), keep| {
            let Ok(mut kept) = keep.child.try_lock() else { return true };
            let Some(child) = kept.as_ref() else { return Arc::strong_count(keep) > 1 };
            if child.link().end().is_some() {
                *kept = None;
                return Arc::strong_count(keep) > 1;
            }
            let used = Arc::strong_count(child) > 1 || Arc::strong_count(keep) > 1;
            let idle = lock(&keep.last_use).is_none_or(|last_use| last_use.elapsed() >= self.idle);
            owner.is_none() || used || !idle
        });
    }

    /// Ends the child that nobody uses for longest, of this user if there is one; whether there was one. One
    /// for everybody stays.
    pub(super) fn give_up_idle(&self, of: Option<&Principal>) -> bool {
        let mut table = lock(&self.table);
        let may_go = |owner: &Owner| of.is_none_or(|principal| owner.principal() == *principal);
        let idle = table.iter().filter(|((owner, _), keep)| owner.as_ref().is_some_and(may_go) && keep.is_idle());
        let oldest = idle.min_by_key(|(_, keep)| *lock(&keep.last_use)).map(|(key, _)| key.clone());
        let given_up = oldest.and_then(|key| table.remove(&key));
        drop(table);
        given_up.is_some()
    }

    /// Ends them all.
    pub(super) fn clear(&self) {
        lock(&self.table).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
