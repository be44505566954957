//! How often passphrases may be guessed.
//!
//! Behind a tunnel everybody has one address, so the brake is for all together. A stranger who guesses
//! can make a user wait for up to a minute; whoever does not want that lets users sign in by the terminal.
//!
//! Wrong guesses are counted by the name they were for, and whoever signs in takes back those for their
//! own name alone: else a user could guess another's passphrase without end, by signing in between. The
//! brake looks at the sum, so it does not tell which names there are.

use std::{
    collections::HashMap,
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
/// How long after the last of them wrong guesses for one name are forgotten: whoever waits for that gets
/// far fewer than one in [`LONGEST_WAIT`].
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);
/// Guesses that wait for the one that is being compared.
const WAITING_MAX: usize = 16;

/// The brake.
pub(super) struct Guesses {
    state: Arc<Mutex<State>>,
    /// Comparing takes memory and time: one at a time.
    turn: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Whom a guess is for: a user, or with all other names nobody. So there are no more of them than users.
type Name = Option<String>;

#[derive(Debug, Default)]
struct State {
    wrong: HashMap<Name, Wrong>,
    not_before: Option<Instant>,
}

/// Wrong guesses for one name.
#[derive(Debug)]
struct Wrong {
    count: u32,
    last: Instant,
}

/// Somebody's turn to be compared. One that is dropped without a word counts as wrong.
#[derive(Debug)]
pub(super) struct Attempt {
    state: Arc<Mutex<State>>,
    name: Name,
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

    /// Waits for one's turn to guess the passphrase of `name`, where there is such a user.
    ///
    /// # Errors
    /// How long to wait before the next guess.
    pub(super) async fn try_begin(&self, name: Option<&str>) -> Result<Attempt, Duration> {
        let waiting = self.waiting.try_acquire().map_err(|_| FIRST_WAIT)?;
        self.state.locked().check(Instant::now())?;
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| FIRST_WAIT)?;
        drop(waiting);
        // Whoever was compared meanwhile may have been wrong.
        self.state.locked().check(Instant::now())?;
        let name = name.map(str::to_owned);
        Ok(Attempt { state: Arc::clone(&self.state), name, is_told: false, _turn: turn })
    }
}

impl Attempt {
    pub(super) fn failed(mut self) {
        self.fail();
    }

    pub(super) fn succeeded(mut self) {
        self.is_told = true;
        self.state.locked().wrong.remove(&self.name);
    }

    fn fail(&mut self) {
        self.is_told = true;
        self.state.locked().failed(self.name.take(), Instant::now());
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Who hangs up before the answer has guessed all the same.
        if !self.is_told {
            self.fail();
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

    fn failed(&mut self, name: Name, now: Instant) {
        self.wrong.retain(|_, wrong| now.duration_since(wrong.last) < FORGOTTEN_AFTER);
        let wrong = self.wrong.entry(name).or_insert(Wrong { count: 0, last: now });
        *wrong = Wrong { count: wrong.count.saturating_add(1), last: now };
        let all = self.wrong.values().fold(0_u32, |all, wrong| all.saturating_add(wrong.count));
        if all >= FREE {
            let doublings = (all - FREE).min(10);
            self.not_before = Some(now + (FIRST_WAIT * 2_u32.pow(doublings)).min(LONGEST_WAIT));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Option<&str> = Some("owner");

    fn fail(state: &mut State, name: Option<&str>, now: Instant) {
        state.failed(name.map(str::to_owned), now);
    }

    #[test]
    fn wrong_guesses_take_longer_and_longer_whoever_they_are_for() {
        let (mut state, now) = (State::default(), Instant::now());
        for name in [OWNER, None, Some("bob"), None] {
            fail(&mut state, name, now);
            assert_eq!(state.check(now), Ok(()));
        }
        for (wait, name) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().zip([OWNER, None].into_iter().cycle()) {
            fail(&mut state, name, now);
            assert_eq!(state.check(now), Err(Duration::from_secs(wait)));
        }
        assert_eq!(state.check(now + Duration::from_secs(60)), Ok(()));
    }

    #[test]
    fn wrong_guesses_are_forgotten_after_an_hour_without_more() {
        let (mut state, now) = (State::default(), Instant::now());
        for _ in 0..12 {
            fail(&mut state, OWNER, now);
        }
        let later = now + FORGOTTEN_AFTER;
        fail(&mut state, None, later);
        assert_eq!((state.check(later), state.wrong.len()), (Ok(()), 1));
    }

    #[tokio::test]
    async fn one_is_compared_at_a_time_and_who_leaves_has_guessed() {
        let guesses = Guesses::new();
        let first = guesses.try_begin(OWNER).await.expect("nobody has guessed");
        let mut second = Box::pin(guesses.try_begin(OWNER));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        first.succeeded();
        drop(second.await.expect("its turn"));
        for _ in 0..4 {
            guesses.try_begin(OWNER).await.expect("free").failed();
        }
        assert!(guesses.try_begin(OWNER).await.is_err());
        guesses.state.locked().not_before = None;
        guesses.try_begin(OWNER).await.expect("later").succeeded();
        assert!(guesses.state.locked().wrong.is_empty());
    }

    #[tokio::test]
    async fn who_signs_in_takes_back_no_guess_at_anybody_else() {
        let guesses = Guesses::new();
        for name in [OWNER, OWNER, None, Some("bob")] {
            guesses.try_begin(name).await.expect("free").failed();
        }
        guesses.try_begin(Some("bob")).await.expect("free").succeeded();
        guesses.try_begin(OWNER).await.expect("the fourth").failed();
        guesses.try_begin(OWNER).await.expect("the fifth").failed();
        assert!(guesses.try_begin(OWNER).await.is_err());
    }
}
