//! What a server says to nobody in particular, and who hears it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::backend::link::{Asked, Listener, Notice};

/// The listener of one child: all that have been added hear. A child may live before it has an
/// owner; until then nobody hears.
#[derive(Default)]
pub(super) struct Ear {
    listeners: Mutex<Vec<(u64, Arc<dyn Listener>)>>,
}

impl Ear {
    /// From now on, `listener` hears, until what is returned is dropped.
    pub(super) fn hear(self: &Arc<Self>, listener: Arc<dyn Listener>) -> Hearing {
        let mut listeners = self.lock();
        let number = listeners.last().map_or(0, |(number, _)| number + 1);
        listeners.push((number, listener));
        Hearing { ear: Arc::downgrade(self), number }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Arc<dyn Listener>)>> {
        // Nothing panics while it holds the lock.
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> Vec<Arc<dyn Listener>> {
        self.lock().iter().map(|(_, listener)| Arc::clone(listener)).collect()
    }
}

impl Listener for Ear {
    fn notified(&self, notice: Notice) {
        for listener in self.listeners() {
            listener.notified(notice.clone());
        }
    }

    fn asked(&self, mut asked: Asked) -> Option<Asked> {
        for listener in self.listeners() {
            asked = listener.asked(asked)?;
        }
        Some(asked)
    }
}

/// A listener's place. Dropping it ends the hearing.
pub(super) struct Hearing {
    ear: Weak<Ear>,
    number: u64,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        if let Some(ear) = self.ear.upgrade() {
            ear.lock().retain(|(number, _)| *number != self.number);
        }
    }
}
