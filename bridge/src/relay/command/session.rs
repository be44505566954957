//! What both kinds of legacy sessions have: requests that are open, and questions to the client.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{ask::without_identity, outbox::Outbox};
use crate::{
    backend::link::Notice,
    message::{Params, Response},
};

/// The state of one legacy session that its client can see.
pub(super) struct Session {
    /// Messages for its stream.
    pub(super) outbox: Outbox,
    /// The session has ended.
    pub(super) ended: CancellationToken,
    requests: Mutex<HashMap<String, CancellationToken>>,
    questions: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
}

/// A client's answer: a result or an error object, as JSON text.
pub(super) type Outcome = Result<Bytes, Bytes>;

/// Questions that a session may leave unanswered; the protocol has no such bound, memory has.
const QUESTIONS_MAX: usize = 256;

impl Session {
    pub(super) fn new() -> Self {
        Self {
            outbox: Outbox::default(),
            ended: CancellationToken::new(),
            requests: Mutex::default(),
            questions: Mutex::default(),
        }
    }

    /// Enters a request under the client's id, until what is returned is dropped.
    pub(super) fn begin(&self, id: &str) -> InFlight<'_> {
        let cancelled = self.ended.child_token();
        lock(&self.requests).insert(id.to_owned(), cancelled.clone());
        InFlight { session: self, id: id.to_owned(), cancelled }
    }

    /// The client has cancelled a request.
    pub(super) fn cancel(&self, params: &Params<'_>) {
        let Some(id) = params.members.get("requestId") else { return };
        if let Some(cancelled) = lock(&self.requests).get(id.get()) {
            cancelled.cancel();
        }
    }

    /// Enters a question to the client under `id`; its answer comes through what is returned, or the
    /// session ends. `None` when too many are open.
    pub(super) fn ask(&self, id: &str) -> Option<oneshot::Receiver<Outcome>> {
        let (answer, answered) = oneshot::channel();
        let mut questions = lock(&self.questions);
        questions.retain(|_, answer| !answer.is_closed());
        if questions.len() >= QUESTIONS_MAX {
            return None;
        }
        questions.insert(id.to_owned(), answer);
        Some(answered)
    }

    /// The client has answered something.
    pub(super) fn answer(&self, response: &Response<'_>) {
        if let Some(answer) = lock(&self.questions).remove(response.id.as_json()) {
            let result = |raw: &RawValue| Bytes::from(without_identity(raw.get()));
            let error = |raw: &RawValue| Bytes::copy_from_slice(raw.get().as_bytes());
            // Whoever asked may have left.
            let _ = answer.send(response.outcome.map(result).map_err(error));
        }
    }

    /// The server does not want an answer any more, if this says so.
    pub(super) fn heard(&self, notice: &Notice) {
        if let Some(withdrawn) = notice.withdrawn() {
            lock(&self.questions).remove(&withdrawn);
        }
    }

    /// Ends all that is open.
    pub(super) fn end(&self) {
        self.ended.cancel();
        lock(&self.questions).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request that its client may cancel.
pub(super) struct InFlight<'s> {
    session: &'s Session,
    id: String,
    cancelled: CancellationToken,
}

impl InFlight<'_> {
    /// Waits until the client cancels it, or its session ends. Cancel-safe.
    pub(super) async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        lock(&self.session.requests).remove(&self.id);
    }
}
