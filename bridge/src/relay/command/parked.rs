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
    relay::owner::Owner,
};

/// How long a client has for an answer, which a person may have to give.
const PATIENCE: Duration = Duration::from_secs(600);

/// Parked requests at once. Each holds a process, or a request of one.
const PARKED_MAX: usize = 256;

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
        fingerprint: String,
    },
    /// A modern server whose `requestState` has to come back to it: it may keep the other half in its
    /// own memory.
    Server(Arc<Child>),
}

/// All that waits at one endpoint, by the state that the client was given.
#[derive(Default)]
pub(super) struct Parking(Mutex<HashMap<String, Entry>>);

struct Entry {
    owner: Owner,
    until: Instant,
    parked: Parked,
}

impl Parking {
    /// Parks something under `state` for `owner`; whether there was room.
    pub(super) fn park(&self, state: String, owner: Owner, parked: Parked) -> bool {
        let mut table = self.lock();
        let room = table.len() < PARKED_MAX;
        if room {
            table.insert(state, Entry { owner, until: Instant::now() + PATIENCE, parked });
        }
        room
    }

    /// Takes what waits under `state`, if it is the owner's. Nobody else can tell that it is there.
    pub(super) fn take(&self, state: &str, owner: &Owner) -> Option<Parked> {
        let mut table = self.lock();
        table.get(state).filter(|entry| entry.owner == *owner && entry.until > Instant::now())?;
        table.remove(state).map(|entry| entry.parked)
    }

    /// Gives up what has waited for too long.
    pub(super) fn tidy(&self) {
        let now = Instant::now();
        // What is given up tells its server so; not under the lock.
        let ended: Vec<Entry> = self.lock().extract_if(|_, entry| entry.until <= now).map(|(_, entry)| entry).collect();
        drop(ended);
    }

    /// Gives up everything.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A state that nobody can guess; `None` where the system gives no random numbers.
pub(super) fn new_state() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(format!("mcp-bridge:{:032x}", u128::from_be_bytes(bytes)))
}
