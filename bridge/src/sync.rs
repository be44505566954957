//! Locks that are held for a moment.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock, poisoned or not.
///
/// For what is whole between any two statements of its holders: nothing that they do can panic half
/// way, and a panic elsewhere in a task must not take everybody else's requests with it.
pub(crate) trait Locked<T> {
    /// Waits for the lock. Not to be held across an `.await`.
    fn locked(&self) -> MutexGuard<'_, T>;
}

impl<T> Locked<T> for Mutex<T> {
    fn locked(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
