//! How often passphrases may be guessed.
//!
//! Behind a tunnel everybody has one address, so the brake is for all together. A stranger who guesses
//! can make a user wait for up to a minute; whoever does not want that lets users sign in by the terminal.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sync::Locked as _;

/// Mistyped, so far.
const FREE: u32 = 5;
/// After the first that is not free; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Guesses that wait for the one that is being compared.
const WAITING_MAX: usize = 16;

/// The brake.
pub(super) struct Guesses {
    state: Arc<Mutex<State>>,
    /// Comparing takes memory and time: one at a time.
    turn: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    wrong: u32,
    not_before: Option<Instant>,
}

/// Somebody's turn to be compared. One that is dropped without a word counts as wrong.
#[derive(Debug)]
pub(super) struct Attempt {
    state: Arc<Mutex<State>>,
    is_told: bool,
    _turn: OwnedSemaphorePermit,
}

impl Guesses {
    pub(super) fn new() -> Self {
        Self {
            state: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    /// Waits for one's turn.
    ///
    /// # Errors
    /// How long to wait before the next guess.
    pub(super) async fn try_begin(&self) -> Result<Attempt, Duration> {
        let waiting = self.waiting.try_acquire().map_err(|_| FIRST_WAIT)?;
        self.state.locked().check(Instant::now())?;
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| FIRST_WAIT)?;
        drop(waiting);
        // Whoever was compared meanwhile may have been wrong.
        self.state.locked().check(Instant::now())?;
        Ok(Attempt { state: Arc::clone(&self.state), is_told: false, _turn: turn })
    }
}

impl Attempt {
    pub(super) fn failed(mut self) {
        self.is_told = true;
        self.state.locked().failed(Instant::now());
    }

    pub(super) fn succeeded(mut self) {
        self.is_told = true;
        *self.state.locked() = State::default();
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Who hangs up before the answer has guessed all the same.
        if !self.is_told {
            self.state.locked().failed(Instant::now());
        }
    }
}

impl State {
    fn check(&self, now: Instant) -> Result<(), Duration> {
        match self.not_before.and_then(|until| until.checked_duration_since(now)) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(()),
        }
    }

    fn failed(&mut self, now: Instant) {
        self.wrong = self.wrong.saturating_add(1);
        if self.wrong >= FREE {
            let doublings = (self.wrong - FREE).min(10);
            self.not_before = Some(now + (FIRST_WAIT * 2_u32.pow(doublings)).min(LONGEST_WAIT));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_guesses_take_longer_and_longer() {
        let (mut state, now) = (State::default(), Instant::now());
        for _ in 0..4 {
            state.failed(now);
            assert_eq!(state.check(now), Ok(()));
        }
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            state.failed(now);
            assert_eq!(state.check(now), Err(Duration::from_secs(wait)));
        }
        assert_eq!(state.check(now + Duration::from_secs(60)), Ok(()));
    }

    #[tokio::test]
    async fn one_is_compared_at_a_time_and_who_leaves_has_guessed() {
        let guesses = Guesses::new();
        let first = guesses.try_begin().await.expect("nobody has guessed");
        let mut second = Box::pin(guesses.try_begin());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        first.succeeded();
        drop(second.await.expect("its turn"));
        assert_eq!(guesses.state.locked().wrong, 1);
        for _ in 0..4 {
            guesses.try_begin().await.expect("free").failed();
        }
        assert!(guesses.try_begin().await.is_err());
        guesses.state.locked().not_before = None;
        guesses.try_begin().await.expect("later").succeeded();
        assert_eq!(guesses.state.locked().wrong, 0);
    }
}
