//! Requests that wait for their client between two of its HTTP requests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::children::Child;
use crate::{
    backend::link::{Asked, Exchange},
    relay::{
        owner::{Owner, Principal},
        translate::requests::Fingerprint,
    },
};

/// How long a client has for an answer, which a person may have to give.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a server is kept for a retry that another one may well understand, too.
const SERVER_PATIENCE: Duration = Duration::from_secs(60);

/// Parked requests at once. Each holds a process, or a request of one.
const PARKED_MAX: usize = 256;

/// Of these, one user's: nobody is asked as many things at once.
const PARKED_MAX_EACH: usize = 16;

/// What waits.
pub(super) enum Parked {
    /// A call of a legacy server's that has asked its client something.
    Call {
        /// The call.
        exchange: Exchange,
        /// The server, for as long as it is needed.
        child: Arc<Child>,
        /// The questions that are not answered yet, by the keys under which the client knows them.
        questions: Vec<(String, Asked)>,
        /// What the retry has to be the same as.
        fingerprint: Fingerprint,
    },
    /// A modern server whose `requestState` has to come back to it: it may keep the other half in its
    /// own memory. Any other process may take the retry, so it can be given up.
    Server(Arc<Child>),
}

/// Why nothing is taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// Nothing of the owner's waits under this state. Nobody can tell whether something of another's does.
    Unknown,
    /// It is not what the owner means, and goes on waiting.
    Another,
}

/// All that waits at one endpoint, by whose it is and the state that the client was given.
pub(super) struct Parking(Table<Parked>);

impl Parking {
    /// `tell_apart`: whether principals are told apart, and each is bounded for the sake of the others.
    pub(super) fn new(tell_apart: bool) -> Self {
        Self(Table { most_each: if tell_apart { PARKED_MAX_EACH } else { PARKED_MAX }, entries: Mutex::default() })
    }

    /// Parks something under `state` for `owner`; whether there was room.
    pub(super) fn park(&self, state: String, owner: Owner, parked: Parked) -> bool {
        self.0.park(state, owner, parked)
    }

    /// Takes what waits under `state` for the owner, if it `is_it`.
    ///
    /// # Errors
    /// [`NotTaken`]
    pub(super) fn take_if(
        &self,
        state: &str,
        owner: &Owner,
        is_it: impl FnOnce(&Parked) -> bool,
    ) -> Result<Parked, NotTaken> {
        self.0.take_if(state, owner, is_it)
    }

    /// Gives up the server that has been parked for longest, of this user if there is one; whether there
    /// was one.
    pub(super) fn give_up_server(&self, of: Option<&Principal>) -> bool {
        let oldest = take_oldest(&mut self.0.lock(), of);
        oldest.is_some()
    }

    /// Gives up what has waited for too long.
    pub(super) fn tidy(&self) {
        let now = Instant::now();
        // What is given up tells its server so; not under the lock.
        let ended: Vec<_> = self.0.lock().extract_if(|_, entry| entry.until <= now).collect();
        drop(ended);
    }

    /// Gives up everything.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.0.lock());
        drop(all);
    }
}

/// What the table has to know about what waits.
trait Waits {
    /// How long it waits at most.
    fn patience(&self) -> Duration;

    /// Whether it makes room for others.
    fn gives_way(&self) -> bool;
}

impl Waits for Parked {
    fn patience(&self) -> Duration {
        if self.gives_way() { SERVER_PATIENCE } else { PATIENCE }
    }

    fn gives_way(&self) -> bool {
        matches!(self, Self::Server(_))
    }
}

/// A state may be made by a server, and two owners be given the same one.
type Entries<T> = HashMap<(Owner, String), Entry<T>>;

struct Table<T> {
    most_each: usize,
    entries: Mutex<Entries<T>>,
}

struct Entry<T> {
    until: Instant,
    parked: T,
}

impl<T: Waits> Table<T> {
    fn park(&self, state: String, owner: Owner, parked: T) -> bool {
        let principal = owner.principal();
        let key = (owner, state);
        let mut entries = self.lock();
        // What is given up tells its server so; not under the lock.
        let mut given_up: Vec<Option<Entry<T>>> = vec![entries.remove(&key)];
        let theirs = entries.keys().filter(|(owner, _)| owner.principal() == principal).count();
        if theirs >= self.most_each {
            given_up.push(take_oldest(&mut entries, Some(&principal)));
        } else if entries.len() >= PARKED_MAX {
            given_up.push(take_oldest(&mut entries, None));
        }
        let is_room = given_up.len() == 1 || given_up.iter().skip(1).any(Option::is_some);
        if is_room {
            entries.insert(key, Entry { until: Instant::now() + parked.patience(), parked });
        }
        drop(entries);
        is_room
    }

    fn take_if(&self, state: &str, owner: &Owner, is_it: impl FnOnce(&T) -> bool) -> Result<T, NotTaken> {
        let key = (owner.clone(), state.to_owned());
        let mut entries = self.lock();
        let entry = entries.get(&key).filter(|entry| entry.until > Instant::now()).ok_or(NotTaken::Unknown)?;
        if !is_it(&entry.parked) {
            return Err(NotTaken::Another);
        }
        entries.remove(&key).map(|entry| entry.parked).ok_or(NotTaken::Unknown)
    }

    fn lock(&self) -> MutexGuard<'_, Entries<T>> {
        // Nothing panics while it holds the lock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes away the oldest entry of those that give way: of one user's, or of all.
fn take_oldest<T: Waits>(entries: &mut Entries<T>, of: Option<&Principal>) -> Option<Entry<T>> {
    let may_go = |owner: &Owner| of.is_none_or(|principal| owner.principal() == *principal);
    let giving_way = entries.iter().filter(|((owner, _), entry)| entry.parked.gives_way() && may_go(owner));
    let oldest = giving_way.min_by_key(|(_, entry)| entry.until).map(|(key, _)| key.clone())?;
    entries.remove(&oldest)
}

/// A state that nobody can guess; `None` where the system gives no random numbers.
pub(super) fn new_state() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(format!("mcp-bridge:{:032x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::VerifiedToken;

    #[derive(Debug, PartialEq)]
    enum Thing {
        Call(u32),
        Server(u32),
    }

    impl Waits for Thing {
        fn patience(&self) -> Duration {
            PATIENCE
        }

        fn gives_way(&self) -> bool {
            matches!(self, Self::Server(_))
        }
    }

    fn owner(user: &str, client: &str) -> Owner {
        Owner::of(&VerifiedToken::of(user, client))
    }

    fn table() -> Table<Thing> {
        Table { most_each: 2, entries: Mutex::default() }
    }

    #[test]
    fn equal_states_of_two_owners_do_not_meet() {
        let (table, alice, bob) = (table(), owner("alice", "app"), owner("bob", "app"));
        for (number, owner) in [(1, &alice), (2, &bob)] {
            assert!(table.park("same".to_owned(), owner.clone(), Thing::Server(number)));
        }
        let take = |owner| table.take_if("same", owner, |_| true);
        let other_client = owner("alice", "other-app");
        assert_eq!(take(&other_client), Err(NotTaken::Unknown));
        assert_eq!((take(&alice), take(&bob)), (Ok(Thing::Server(1)), Ok(Thing::Server(2))));
        assert_eq!(take(&bob), Err(NotTaken::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_retry_does_not_lengthen_the_wait() {
        let (table, alice) = (table(), owner("alice", "app"));
        assert!(table.park("state".to_owned(), alice.clone(), Thing::Call(1)));
        tokio::time::advance(PATIENCE - Duration::from_secs(1)).await;
        assert_eq!(table.take_if("state", &alice, |_| false), Err(NotTaken::Another));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(table.take_if("state", &alice, |_| true), Err(NotTaken::Unknown));
    }

    #[test]
    fn one_user_does_not_take_the_room_of_all() {
        let table = table();
        let park = |user, client, state: &str, thing| table.park(state.to_owned(), owner(user, client), thing);
        assert!(park("alice", "app", "a", Thing::Call(1)) && park("alice", "other-app", "b", Thing::Server(2)));
        // What can be given up makes room, and then nothing more.
        assert!(park("alice", "app", "c", Thing::Call(3)));
        assert!(!park("alice", "third-app", "d", Thing::Call(4)));
        assert!(park("alice", "app", "c", Thing::Call(5)), "the same one again");
        assert!(park("bob", "app", "a", Thing::Call(6)));
        let left = |user, client, state: &str| table.take_if(state, &owner(user, client), |_| true);
        assert_eq!(left("alice", "app", "a"), Ok(Thing::Call(1)));
        assert_eq!(left("alice", "other-app", "b"), Err(NotTaken::Unknown));
        assert_eq!(left("alice", "app", "c"), Ok(Thing::Call(5)));
        assert_eq!(left("bob", "app", "a"), Ok(Thing::Call(6)));
    }
}
