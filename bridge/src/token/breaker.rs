//! Stops asking an authorization server that does not answer.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::lock;

/// One lost answer is noise; five in a row with none between are an outage.
const FAILURES_TO_OPEN: u32 = 5;
/// Long enough to let a server come up, short enough that nobody notices the rest of the outage.
const OPEN_FOR: Duration = Duration::from_secs(2);

/// A circuit breaker: after five failures in a row nothing passes for 2 s, then one probe at a
/// time until one succeeds.
#[derive(Debug)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Clone, Copy, Debug)]
enum State {
    Closed {
        failures: u32,
    },
    /// Half-open from `until` on.
    Open {
        until: Instant,
    },
    /// Half-open, and the one probe is under way.
    Probing,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State::Closed { failures: 0 }))
    }

    /// Whether asking makes no sense now. Takes no place.
    pub(super) fn is_open(&self) -> bool {
        match *lock(&self.0) {
            State::Closed { .. } => false,
            State::Open { until } => Instant::now() < until,
            State::Probing => true,
        }
    }

    /// Permission to ask once; held while asking. Dropping it without a word to
    /// [`Breaker::succeeded`] or [`Breaker::failed`] decides nothing: a caller that goes away
    /// says nothing about the server.
    pub(super) fn admit(&self) -> Option<Pass<'_>> {
        let mut state = lock(&self.0);
        match *state {
            State::Closed { .. } => Some(Pass { breaker: self, is_probe: false }),
            State::Open { until } if until <= Instant::now() => {
                *state = State::Probing;
                Some(Pass { breaker: self, is_probe: true })
            }
            State::Open { .. } | State::Probing => None,
        }
    }

    /// The server answered. True if that ends an outage.
    pub(super) fn succeeded(&self) -> bool {
        let before = std::mem::replace(&mut *lock(&self.0), State::Closed { failures: 0 });
        !matches!(before, State::Closed { .. })
    }

    /// The server did not answer. True if that is the moment an outage begins.
    pub(super) fn failed(&self) -> bool {
        let mut state = lock(&self.0);
        let open = State::Open { until: Instant::now() + OPEN_FOR };
        match *state {
            State::Closed { failures } if failures + 1 < FAILURES_TO_OPEN => {
                *state = State::Closed { failures: failures + 1 };
                false
            }
            State::Closed { .. } => {
                *state = open;
                true
            }
            State::Probing => {
                *state = open;
                false
            }
            // The questions that were under way when it opened come to their own end.
            State::Open { .. } => false,
        }
    }
}

/// See [`Breaker::admit`].
#[derive(Debug)]
pub(super) struct Pass<'b> {
    breaker: &'b Breaker,
    is_probe: bool,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.breaker.0);
        if self.is_probe && matches!(*state, State::Probing) {
            *state = State::Open { until: Instant::now() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Breaker {
        let breaker = Breaker::new();
        for failure in 1..=FAILURES_TO_OPEN {
            let _pass = breaker.admit().expect("closed");
            assert_eq!(breaker.failed(), failure == FAILURES_TO_OPEN);
        }
        assert!(breaker.is_open() && breaker.admit().is_none());
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn only_failures_in_a_row_open_it() {
        let breaker = Breaker::new();
        for _ in 0..3 * FAILURES_TO_OPEN {
            for _ in 1..FAILURES_TO_OPEN {
                assert!(!breaker.failed());
            }
            assert!(!breaker.succeeded());
        }
        assert!(breaker.admit().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_decides() {
        let breaker = open();
        tokio::time::advance(OPEN_FOR - Duration::from_millis(1)).await;
        assert!(breaker.admit().is_none());
        tokio::time::advance(Duration::from_millis(1)).await;

        let probe = breaker.admit().expect("half-open");
        assert!(breaker.admit().is_none(), "a second probe");
        assert!(!breaker.failed());
        drop(probe);
        assert!(breaker.admit().is_none(), "a failed probe opens it again");

        tokio::time::advance(OPEN_FOR).await;
        let probe = breaker.admit().expect("half-open again");
        assert!(breaker.succeeded());
        drop(probe);
        assert!(breaker.admit().is_some() && breaker.admit().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn abandoned_probe_makes_room_for_the_next() {
        let breaker = open();
        tokio::time::advance(OPEN_FOR).await;
        drop(breaker.admit().expect("half-open"));
        assert!(breaker.admit().is_some());
    }
}
