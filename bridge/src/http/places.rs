//! How many requests may be answered at once: of all callers together, and of one.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::token::VerifiedToken;

/// The places of one endpoint.
pub(super) struct Places {
    all: Arc<Semaphore>,
    /// How many one user may take; `None` where nobody is told from others.
    share: Option<usize>,
    /// By a hash of the user; only those who have a place.
    taken: Mutex<HashMap<u64, usize>>,
    hasher: RandomState,
}

impl Places {
    /// `max` places. With `shared`, one user gets no more than half of them: a body that is sent
    /// slowly holds its place for as long as bodies may take, and must not shut out everybody else.
    pub(super) fn new(max: usize, shared: bool) -> Self {
        let share = shared.then(|| max.div_ceil(2));
        Self { all: Arc::new(Semaphore::new(max)), share, taken: Mutex::default(), hasher: RandomState::new() }
    }

    /// A place for one request of the bearer of `token`, until it is dropped; `None` when there is
    /// none left for this user. Whichever clients a user has, they share the places.
    pub(super) fn take(self: &Arc<Self>, token: &VerifiedToken) -> Option<Place> {
        let place = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let Some(share) = self.share else {
            return Some(Place { _place: place, of: None });
        };
        let user = self.hasher.hash_one((&token.issuer, token.principal()));
        let mut taken = self.lock();
        let count = taken.entry(user).or_default();
        if *count >= share {
            return None;
        }
        *count += 1;
        Some(Place { _place: place, of: Some((Arc::clone(self), user)) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        // Nothing panics while it holds the lock.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request's place.
pub(super) struct Place {
    _place: OwnedSemaphorePermit,
    of: Option<(Arc<Places>, u64)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((places, user)) = &self.of else { return };
        let mut taken = places.lock();
        if let Some(count) = taken.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                taken.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_takes_half_of_the_places_through_however_many_clients() {
        let places = Arc::new(Places::new(4, true));
        let (greedy, again) = (VerifiedToken::of("greedy", "a"), VerifiedToken::of("greedy", "b"));
        let held = [places.take(&greedy), places.take(&again)];
        assert!(held.iter().all(Option::is_some) && places.take(&again).is_none());
        let others = [places.take(&VerifiedToken::of("x", "a")), places.take(&VerifiedToken::of("y", "a"))];
        assert!(others.iter().all(Option::is_some) && places.take(&VerifiedToken::of("z", "a")).is_none());
        drop(held);
        assert!(places.take(&greedy).is_some());
        drop(others);
        assert!(places.lock().is_empty(), "nobody is remembered without a place");
    }

    #[test]
    fn a_single_place_and_an_unshared_room_can_be_used_up_by_one() {
        let alone = VerifiedToken::of("alone", "a");
        assert!(Arc::new(Places::new(1, true)).take(&alone).is_some());
        let unshared = Arc::new(Places::new(2, false));
        let held = [unshared.take(&alone), unshared.take(&alone)];
        assert!(held.iter().all(Option::is_some) && unshared.take(&alone).is_none());
    }
}
