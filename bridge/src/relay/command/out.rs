//! The client's end of one request: what it is told, and how long it waits.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::{
    backend::{Answer, Answered, Item, link::Ended},
    message::INTERNAL_ERROR,
};

/// Messages that a client has not read yet, after which its request waits for it.
const UNREAD_MAX: usize = 16;

/// A request whose server shows signs of life may take this many times as long as one that is quiet.
const LIFE_EXTENDS: u32 = 60;

/// What a request's task tells its client.
pub(super) struct Out {
    id: String,
    items: mpsc::Sender<Item>,
    /// When the request has taken too long; `None` while it is somebody else's turn.
    deadline: watch::Sender<Option<Instant>>,
    timeout: Duration,
}

/// What happens to a request whose client is gone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// It is cancelled: in the modern era, closing the stream says so.
    Cancels,
    /// It goes on: a legacy client that loses its connection has not cancelled (MCP 2025-11-25,
    /// "Sending Messages to the Server").
    GoesOn,
}

/// Runs `work` on a task of its own until it is done, takes too long, or its client has gone and
/// nobody wants it any more; then it is dropped. `id` is the client's, as JSON text.
pub(super) fn start<W, F>(
    tasks: &TaskTracker,
    id: String,
    timeout: Option<Duration>,
    gone: Gone,
    work: W,
) -> mpsc::Receiver<Item>
where
    W: FnOnce(Out) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let (items, reply) = mpsc::channel(UNREAD_MAX);
    let unlimited = timeout.is_none();
    let timeout = timeout.unwrap_or(Duration::from_secs(60));
    let now = Instant::now();
    let (deadline, mut due) = watch::channel((!unlimited).then(|| now + timeout));
    let last = now + timeout * LIFE_EXTENDS;
    tasks.spawn(async move {
        let client = items.clone();
        let out = Out { id: id.clone(), items, deadline, timeout };
        tokio::select! {
            () = work(out) => {}
            () = client.closed(), if gone == Gone::Cancels => {}
            () = passed(&mut due, last), if !unlimited => {
                let answer = Item::Last(Answered::TimedOut(late(&id, timeout)));
                // The client may be the one that is slow.
                let _ = tokio::time::timeout(timeout, client.send(answer)).await;
            }
        }
    });
    reply
}

/// Waits until the deadline, wherever it is moved, or `last` has passed.
async fn passed(due: &mut watch::Receiver<Option<Instant>>, last: Instant) {
    loop {
        let until = due.borrow_and_update().map_or(last, |due| due.min(last));
        tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            changed = due.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            },
        }
    }
}

impl Out {
    /// The request's id, as JSON text.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Passes a message on, which is a sign of life. `false` when the client is gone.
    pub(super) async fn message(&self, message: Bytes) -> bool {
        self.deadline.send_if_modified(|deadline| {
            let moved = deadline.is_some();
            *deadline = deadline.map(|_| Instant::now() + self.timeout);
            moved
        });
        self.items.send(Item::Message(message)).await.is_ok()
    }

    /// The server waits for the client until what is returned is dropped; its time stands still
    /// meanwhile.
    pub(super) fn turn_of_client(&self) -> Turn {
        let unlimited = self.deadline.send_replace(None).is_none();
        Turn { deadline: (!unlimited).then(|| self.deadline.clone()), timeout: self.timeout }
    }

    /// Answers with what a server said.
    pub(super) async fn served(&self, outcome: &Result<Bytes, Bytes>) {
        self.last(Answered::Served(Answer::served(&self.id, outcome))).await;
    }

    /// Answers with an error of ours.
    pub(super) async fn error(&self, code: i64, text: &str) {
        self.last(Answered::Served(Answer::error(&self.id, code, text, None))).await;
    }

    /// Answers that the server ended in the middle of the request.
    pub(super) async fn lost(&self, ended: &Ended) {
        self.last(Answered::Broken(lost(&self.id, ended))).await;
    }

    pub(super) async fn last(&self, answered: Answered) {
        let _ = self.items.send(Item::Last(answered)).await;
    }
}

/// The client's turn.
pub(super) struct Turn {
    deadline: Option<watch::Sender<Option<Instant>>>,
    timeout: Duration,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(deadline) = &self.deadline {
            deadline.send_replace(Some(Instant::now() + self.timeout));
        }
    }
}

/// That the server took too long for the request with this id.
pub(super) fn late(id: &str, timeout: Duration) -> Answer {
    let text = format!("Internal error: no answer within {}", humantime::format_duration(timeout));
    Answer::error(id, INTERNAL_ERROR, &text, None)
}

/// That the server ended in the middle of the request with this id.
pub(super) fn lost(id: &str, ended: &Ended) -> Answer {
    let text = format!("Internal error: the server ended before it answered: {ended}; try again");
    Answer::error(id, INTERNAL_ERROR, &text, None)
}
