//! One remote server, in one era: lines in, lines out.
//!
//! This is a server's standard input and output as far as anybody above can see. What HTTP adds
//! (sessions, streams, headers that mirror the body, statuses, tokens, lost connections) stays here,
//! and each request is answered exactly once, whatever becomes of it.

pub(crate) mod client;
pub(crate) mod failure;
pub(crate) mod http;
mod incoming;
pub(crate) mod legacy;
pub(crate) mod modern;
mod sse;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    client::{Client, Ticket},
    failure::Failure,
    http::Http,
};
use crate::{
    backend::Answer,
    message::{Notification, ParseError, text},
};

/// How long requests may go on when the client has closed its side, as one that pipes its requests in
/// does at once.
pub(crate) const END_GRACE: Duration = Duration::from_secs(10);

/// What a remote server is reached by.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Where it is.
    pub(crate) http: Arc<Http>,
    /// Whom it answers.
    pub(crate) client: Client,
    /// How long an answer may take.
    pub(crate) request_timeout: Duration,
    /// Cancelled when everything is to end at once.
    pub(crate) closing: CancellationToken,
}

/// A first request that was refused as a server of the other era would refuse it.
#[derive(Debug)]
pub(crate) struct Foreign {
    /// The request, still open.
    pub(crate) ticket: Ticket,
    /// As it was written.
    pub(crate) line: Bytes,
    /// How it was refused.
    pub(crate) failure: Failure,
}

impl Link {
    /// Says that a line of the client's was no message.
    pub(crate) async fn refuse(&self, error: &ParseError) {
        let id = error.id.as_deref().unwrap_or("null");
        self.client.tell(Answer::error(id, error.code, &error.detail, None).message).await;
    }

    /// Waits for the end: for requests that are under way, at most a while, or for `closing`.
    pub(crate) async fn wind_up(&self) {
        tokio::select! {
            () = self.closing.cancelled() => {}
            _ = tokio::time::timeout(END_GRACE, self.client.is_content()) => {}
        }
    }
}

/// Which request `notifications/cancelled` is about, as JSON text.
pub(crate) fn cancelled_id<'n>(notification: &'n Notification<'_>) -> Option<&'n str> {
    let id = notification.params.members.get("requestId")?.get();
    (notification.method == "notifications/cancelled").then_some(id)
}

/// Attempts to come back to something that is lost, each later than the one before.
#[derive(Debug)]
struct BackOff {
    failures: u32,
    max: Duration,
}

impl BackOff {
    /// The wait where the server has not said another one.
    const FIRST: Duration = Duration::from_secs(1);

    fn new(max: Duration) -> Self {
        Self { failures: 0, max }
    }

    /// It went well: the next failure is the first again.
    fn forget(&mut self) {
        self.failures = 0;
    }

    /// When to try next. What the server has said is kept to, and grows only when that did not help.
    fn next(&mut self, said: Option<Duration>) -> Instant {
        let base = said.unwrap_or(Self::FIRST);
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = (self.failures + 1).min(16);
        // A server that says 0 and closes at once shall not make us spin.
        let grown = base.max(Duration::from_millis(20)).saturating_mul(factor).min(self.max);
        Instant::now() + grown.max(base)
    }
}

/// The member `key` of a JSON object, if it is a string.
fn member_text(object: &str, key: &str) -> Option<String> {
    let object: crate::message::Object<'_> = serde_json::from_str(object).ok()?;
    object.get(key).and_then(text).map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_are_what_the_server_says_and_then_grow_to_a_bound() {
        let mut back_off = BackOff::new(Duration::from_secs(5));
        let mut wait =
            |said: Option<u64>| (back_off.next(said.map(Duration::from_millis)) - Instant::now()).as_millis();
        assert_eq!([wait(None), wait(None), wait(None), wait(None)], [1000, 2000, 4000, 5000]);
        back_off.forget();
        let mut wait =
            |said: Option<u64>| (back_off.next(said.map(Duration::from_millis)) - Instant::now()).as_millis();
        assert_eq!([wait(Some(500)), wait(Some(500)), wait(Some(60_000))], [500, 1000, 60_000]);
        assert_eq!(wait(Some(0)), 160);
        for _ in 0..100 {
            wait(Some(1));
        }
        assert_eq!(wait(Some(1)), 5000);
    }
}
