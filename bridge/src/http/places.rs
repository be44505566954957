//! How many requests may be answered at once: of all callers together, and of one.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use crate::{backend::Held, relay::session::InUse, token::VerifiedToken};

/// The places of one endpoint.
pub(super) struct Places {
    /// How many one user may take; `None` where nobody is told from others.
    share: Option<usize>,
    /// One lock for both counts: every request takes it twice, on whichever thread.
    state: Mutex<State>,
    hasher: RandomState,
}

struct State {
    free: usize,
    /// By a hash of the user; only those who have a place.
    taken: HashMap<u64, usize, BuildHasherDefault<AsItIs>>,
}

/// A hasher for what is a keyed hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 is hashed");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Places {
    /// `max` places. With `shared`, one user gets no more than half of them: a body that is sent
    /// slowly holds its place for as long as bodies may take, and must not shut out everybody else.
    pub(super) fn new(max: usize, shared: bool) -> Self {
        let share = shared.then(|| max.div_ceil(2));
        Self { share, state: Mutex::new(State { free: max, taken: HashMap::default() }), hasher: RandomState::new() }
    }

    /// A place for one request of the bearer of `token`, until it is dropped; `None` when there is
    /// none left for this user. Whichever clients a user has, they share the places.
    pub(super) fn take(self: &Arc<Self>, token: &VerifiedToken) -> Option<Place> {
        let user = self.share.map(|share| (share, self.hasher.hash_one((&token.issuer, token.principal()))));
        let mut state = self.lock();
        if state.free == 0 {
            return None;
        }
        if let Some((share, user)) = user {
            let count = state.taken.entry(user).or_default();
            if *count >= share {
                return None;
            }
            *count += 1;
        }
        state.free -= 1;
        Some(Place { places: Arc::clone(self), user: user.map(|(_, user)| user), kept: OnceLock::new() })
    }

    fn release(&self, user: Option<u64>) {
        let mut state = self.lock();
        state.free += 1;
        let Some(user) = user else { return };
        if let Some(count) = state.taken.get_mut(&user) {
            *count -= 1;
            if *count == 0 {
                state.taken.remove(&user);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request's place.
pub(super) struct Place {
    places: Arc<Places>,
    user: Option<u64>,
    /// The same place where others keep it, too; the last one gives it back. Most requests end with
    /// their client, and need no counting.
    kept: OnceLock<Arc<Kept>>,
}

/// A place that somebody keeps after its request has been answered, or left.
pub(super) struct Kept {
    places: Arc<Places>,
    user: Option<u64>,
}

impl Place {
    /// Takes the place until what is returned is dropped, too.
    pub(super) fn keep(&self) -> Arc<Kept> {
        let kept = || Arc::new(Kept { places: Arc::clone(&self.places), user: self.user });
        Arc::clone(self.kept.get_or_init(kept))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.kept.get().is_none() {
            self.places.release(self.user);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.places.release(self.user);
    }
}

/// What a request takes up until it is answered, or goes on without its client.
pub(super) struct Taken {
    pub(super) place: Place,
    pub(super) in_use: Option<InUse>,
}

impl Held for Taken {
    fn keep(&self) -> Box<dyn Send> {
        Box::new((self.place.keep(), self.in_use.clone()))
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
        assert!(places.lock().taken.is_empty(), "nobody is remembered without a place");
    }

    #[test]
    fn a_place_is_free_when_the_last_who_keeps_it_has_ended() {
        let places = Arc::new(Places::new(2, true));
        let alice = VerifiedToken::of("alice", "a");
        let place = places.take(&alice).expect("room");
        let kept = [place.keep(), place.keep()];
        drop(place);
        assert!(places.take(&alice).is_none());
        drop(kept);
        let place = places.take(&alice).expect("room");
        drop(place.keep());
        assert!(places.take(&alice).is_none());
        drop(place);
        let state = places.lock();
        assert_eq!((state.free, state.taken.len()), (2, 0));
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
