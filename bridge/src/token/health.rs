//! Whether tokens can be verified now, asked as rarely as that can be known.

use std::{future::Future, sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::{NotReady, lock};

/// An answer this young proves that the next question will be answered too.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// Whoever asks us more often than this gets the last answer again: `/readyz` must not become a
/// way to make us hammer the authorization server.
const ASK_AT_MOST_EVERY: Duration = Duration::from_secs(2);

/// What traffic has shown, and what we found when we asked for ourselves.
#[derive(Default)]
pub(super) struct Health {
    seen: Mutex<Seen>,
    // Held while asking: one question at a time, and the others take its answer.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Seen {
    good_at: Option<Instant>,
    asked: Option<(Instant, Result<(), NotReady>)>,
}

impl Health {
    /// A question was answered, with our credentials accepted.
    pub(super) fn good(&self) {
        lock(&self.seen).good_at = Some(Instant::now());
    }

    /// A question failed. That alone does not make us unready, since it may be the token's doing
    /// (a firewall before the authorization server refuses some); but the next one who wants to
    /// know must ask.
    pub(super) fn doubt(&self) {
        lock(&self.seen).good_at = None;
    }

    /// The state, by `ask` if nothing recent shows it.
    pub(super) async fn check(&self, ask: impl Future<Output = Result<(), NotReady>>) -> Result<(), NotReady> {
        let _turn = self.turn.lock().await;
        let now = Instant::now();
        {
            let seen = lock(&self.seen);
            if seen.good_at.is_some_and(|at| now - at < GOOD_FOR) {
                return Ok(());
            }
            if let Some((at, answer)) = &seen.asked
                && now - *at < ASK_AT_MOST_EVERY
            {
                return answer.clone();
            }
        }
        let answer = ask.await;
        lock(&self.seen).asked = Some((Instant::now(), answer.clone()));
        answer
    }
}
