//! One question for everybody who asks it at the same time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};

use super::{Verdict, cache::TokenDigest, lock};

type Flight = Shared<BoxFuture<'static, Verdict>>;
type WeakFlight = WeakShared<BoxFuture<'static, Verdict>>;

/// The questions under way, by token.
///
/// Nobody owns a question: whoever waits for it drives it. It goes on when the caller that started
/// it goes away, and ends, unanswered, when the last one has gone.
#[derive(Default)]
pub(super) struct Flights {
    under_way: Mutex<HashMap<TokenDigest, (u64, WeakFlight)>>,
    next_number: std::sync::atomic::AtomicU64,
}

impl Flights {
    /// Joins the question about `key`, or starts the one that `ask` makes. True if it was joined.
    pub(super) fn join(
        self: &Arc<Self>,
        key: TokenDigest,
        ask: impl FnOnce() -> BoxFuture<'static, Verdict>,
    ) -> (Flight, bool) {
        let mut under_way = lock(&self.under_way);
        if let Some(flight) = under_way.get(&key).and_then(|(_, flight)| flight.upgrade()) {
            return (flight, true);
        }
        let number = self.next_number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let landing = Landing { flights: Arc::clone(self), key, number };
        let question = ask();
        let flight = async move {
            let _landing = landing;
            question.await
        }
        .boxed()
        .shared();
        if let Some(weak) = flight.downgrade() {
            under_way.insert(key, (number, weak));
        }
        (flight, false)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.under_way).len()
    }
}

/// Takes a question off the list when it is answered or given up.
struct Landing {
    flights: Arc<Flights>,
    key: TokenDigest,
    /// A later question about the same token has another number, and stays.
    number: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut under_way = lock(&self.flights.under_way);
        if under_way.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            under_way.remove(&self.key);
        }
    }
}
