//! When a connection is quiet for too long.
//!
//! HTTP/2 has no time-out of hyper's own but the ping, which a client answers for ever without
//! asking for anything; and it reads an answer only as far as its window reaches. Without a bound,
//! a stranger keeps every place for a connection with three bytes each, and a stream that nobody
//! reads outlives the token it was opened with.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

/// What happens on one connection.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Requests whose answers have not begun.
    asked: usize,
    /// Answers that have begun and not ended.
    answering: usize,
    /// When something last happened.
    last: Instant,
}

impl Activity {
    /// A connection that has just begun.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { asked: 0, answering: 0, last: Instant::now() })))
    }

    /// Notes a request; its bounds are its own until the guard is dropped.
    pub(super) fn asked(self: &Arc<Self>) -> Asked {
        self.note(|state| state.asked += 1);
        Asked(Arc::clone(self))
    }

    /// Returns when nothing has been asked for `idle`, or when nothing of a begun answer has been
    /// taken for `stalled`. Cancel-safe.
    pub(super) async fn quiet(&self, idle: Duration, stalled: Duration) {
        loop {
            let now = Instant::now();
            let end = {
                let state = self.lock();
                let limit = if state.answering > 0 { stalled } else { idle };
                // A request that is being answered has bounds of its own; look again later.
                if state.asked > 0 { now + limit } else { state.last + limit }
            };
            if end <= now {
                return;
            }
            sleep_until(end).await;
        }
    }

    fn note(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.last = Instant::now();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request whose answer has not begun.
pub(super) struct Asked(Arc<Activity>);

impl Asked {
    /// The answer begins: `body` counts until it has been read to its end, or dropped.
    pub(super) fn answers<B>(self, body: B) -> Watched<B> {
        self.0.note(|state| state.answering += 1);
        Watched { body, activity: Arc::clone(&self.0) }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.note(|state| state.asked -= 1);
    }
}

/// A body of which every part that is taken counts as activity.
pub(super) struct Watched<B> {
    body: B,
    activity: Arc<Activity>,
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.activity.note(|_| {});
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        self.activity.note(|state| state.answering -= 1);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    const IDLE: Duration = Duration::from_secs(30);
    const STALLED: Duration = Duration::from_secs(45);

    async fn quiet_after(activity: &Activity) -> Duration {
        let started = Instant::now();
        activity.quiet(IDLE, STALLED).await;
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_nothing_is_quiet() {
        assert_eq!(quiet_after(&Activity::new()).await, IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_is_waited_for_and_an_unread_answer_is_not() {
        let activity = Activity::new();
        let asked = activity.asked();
        assert!(tokio::time::timeout(IDLE * 9, activity.quiet(IDLE, STALLED)).await.is_err());
        let mut body = asked.answers(Full::new(Bytes::from_static(b"answer")));
        assert_eq!(quiet_after(&activity).await, STALLED);
        body.frame().await.expect("a frame").expect("infallible");
        assert_eq!(quiet_after(&activity).await, STALLED);
        drop(body);
        assert_eq!(quiet_after(&activity).await, IDLE);
    }
}
