//! What both kinds of legacy sessions have: requests that are open, and questions to the client.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{ask::without_identity, outbox::Outbox};
use crate::{
    backend::link::Notice,
    edit::Edit,
    message::{Params, Response},
};

/// The state of one legacy session that its client can see.
pub(super) struct Session {
    /// Messages for its stream.
    pub(super) outbox: Outbox,
    /// The session has ended.
    pub(super) ended: CancellationToken,
    requests: Mutex<HashMap<String, CancellationToken>>,
    /// By the numbers under which the client knows them.
    questions: Mutex<HashMap<u64, Question>>,
    last_question: AtomicU64,
}

/// A question that the client has not answered yet.
struct Question {
    answer: oneshot::Sender<Outcome>,
    asker: Option<Asker>,
}

/// A legacy server's name for a question of its own. Another process of the same session may have
/// the same id for another question.
#[derive(PartialEq, Eq)]
pub(super) struct Asker {
    /// The number of its process.
    pub(super) process: u32,
    /// Its id for the question, as JSON text.
    pub(super) id: String,
}

/// A client's answer: a result or an error object, as JSON text.
pub(super) type Outcome = Result<Bytes, Bytes>;

/// Questions that a session may leave unanswered; the protocol has no such bound, memory has.
const QUESTIONS_MAX: usize = 256;

/// Resources that a session may be subscribed to, and how long their URIs may be: together they are
/// what one session may have us remember.
const SUBSCRIPTIONS_MAX: usize = 1024;
const URI_BYTES_MAX: usize = 4096;

/// A session wants to hear of too much.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMuch {
    #[error("a session has at most {SUBSCRIPTIONS_MAX} subscriptions; end one first")]
    Subscriptions,
    #[error("the URI of a subscription has at most {URI_BYTES_MAX} bytes")]
    Uri,
}

/// Whether a session with so many subscriptions may have this one, too.
pub(super) fn may_subscribe(known: usize, uri: &str) -> Result<(), TooMuch> {
    if uri.len() > URI_BYTES_MAX {
        return Err(TooMuch::Uri);
    }
    if known >= SUBSCRIPTIONS_MAX { Err(TooMuch::Subscriptions) } else { Ok(()) }
}

impl Session {
    pub(super) fn new() -> Self {
        Self {
            outbox: Outbox::default(),
            ended: CancellationToken::new(),
            requests: Mutex::default(),
            questions: Mutex::default(),
            last_question: AtomicU64::new(0),
        }
    }

    /// Enters a request under the client's id, until what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>, id: &str) -> InFlight {
        let cancelled = self.ended.child_token();
        lock(&self.requests).insert(id.to_owned(), cancelled.clone());
        InFlight { session: Arc::clone(self), id: id.to_owned(), cancelled }
    }

    /// The client has cancelled a request.
    pub(super) fn cancel(&self, params: &Params<'_>) {
        let Some(id) = params.members.get("requestId") else { return };
        if let Some(cancelled) = lock(&self.requests).get(id.get()) {
            cancelled.cancel();
        }
    }

    /// Enters a question to the client under a number that no other of this session has had; its
    /// answer comes through what is returned, or none will come. `None` when too many are open, or the
    /// session has ended.
    pub(super) fn ask(&self, asker: Option<Asker>) -> Option<(u64, oneshot::Receiver<Outcome>)> {
        let (answer, answered) = oneshot::channel();
        let mut questions = lock(&self.questions);
        questions.retain(|_, question| !question.answer.is_closed());
        if questions.len() >= QUESTIONS_MAX || self.ended.is_cancelled() {
            return None;
        }
        let number = self.last_question.fetch_add(1, Ordering::Relaxed) + 1;
        questions.insert(number, Question { answer, asker });
        Some((number, answered))
    }

    /// The client has answered something.
    pub(super) fn answer(&self, response: &Response<'_>) {
        let number = response.id.as_json().parse().ok();
        let question = number.and_then(|number: u64| lock(&self.questions).remove(&number));
        if let Some(Question { answer, .. }) = question {
            let result = |raw: &RawValue| Bytes::from(without_identity(raw.get()));
            let error = |raw: &RawValue| Bytes::copy_from_slice(raw.get().as_bytes());
            // Whoever asked may have left.
            let _ = answer.send(response.outcome.map(result).map_err(error));
        }
    }

    /// What the client hears of a notification of this process. One that withdraws a question names
    /// it as the client knows it; `None` if the client does not wait to answer that.
    pub(super) fn heard(&self, process: u32, notice: &Notice) -> Option<Bytes> {
        if notice.method != "notifications/cancelled" {
            return Some(notice.message());
        }
        let asker = Some(Asker { process, id: notice.withdrawn()? });
        let number = {
            let mut questions = lock(&self.questions);
            let (number, _) = questions.iter().find(|(_, question)| question.asker == asker)?;
            let number = *number;
            questions.remove(&number);
            number
        };
        let mut params = Edit::parse(std::str::from_utf8(notice.params.as_deref()?).ok()?)?;
        let params = params.set("requestId", number.to_string()).to_json();
        Some(Notice { method: notice.method.clone(), params: Some(params.into()) }.message())
    }

    /// A process has ended: nobody waits for the answers to its questions.
    pub(super) fn gone(&self, process: u32) {
        let is_its = |question: &Question| question.asker.as_ref().is_some_and(|asker| asker.process == process);
        lock(&self.questions).retain(|_, question| !is_its(question));
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
pub(super) struct InFlight {
    session: Arc<Session>,
    id: String,
    cancelled: CancellationToken,
}

impl InFlight {
    /// Waits until the client cancels it, or its session ends. Cancel-safe.
    pub(super) async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        lock(&self.session.requests).remove(&self.id);
    }
}

/// What a server asks during one request. Dropping it takes back what is not answered: nobody waits for that
/// when the request is cancelled, or took too long.
pub(super) struct Questions {
    session: Arc<Session>,
    numbers: Vec<u64>,
}

impl Questions {
    pub(super) fn new(session: &Arc<Session>) -> Self {
        Self { session: Arc::clone(session), numbers: Vec::new() }
    }

    /// Asks the client, like [`Session::ask`].
    pub(super) fn ask(&mut self, asker: Asker) -> Option<(u64, oneshot::Receiver<Outcome>)> {
        let (number, answered) = self.session.ask(Some(asker))?;
        let open = lock(&self.session.questions);
        // A request may ask for as long as it likes, and is answered most of the time.
        self.numbers.retain(|number| open.contains_key(number));
        self.numbers.push(number);
        Some((number, answered))
    }

    /// Leaves them to the client, which may still answer.
    pub(super) fn keep(&mut self) {
        self.numbers.clear();
    }
}

impl Drop for Questions {
    fn drop(&mut self) {
        let mut open = lock(&self.session.questions);
        for number in &self.numbers {
            open.remove(number);
        }
    }
}
