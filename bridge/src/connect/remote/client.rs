//! The client's side: what it waits for, and what it is told.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    failure::Failure,
    incoming::{Incoming, key, one_line},
};
use crate::{
    backend::Answer,
    message::{INVALID_REQUEST, shown},
    sync::Locked as _,
};

/// Requests under way at once. No client has near as many; one that sends more is told so.
const IN_FLIGHT_MAX: usize = 256;

/// The client: lines to it, and its open requests, each of which is answered once.
#[derive(Clone, Debug)]
pub(crate) struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lines: mpsc::Sender<Bytes>,
    open: Mutex<Open>,
    /// How many requests are waited for; subscriptions are not.
    waiting: watch::Sender<usize>,
}

/// What is open, by key. A client may use an id again as soon as it is answered, so each has a number
/// that tells it from its namesakes.
#[derive(Debug, Default)]
struct Open {
    requests: HashMap<String, (u64, CancellationToken)>,
    last: u64,
}

impl Open {
    /// Ends the request with `key`; with `number`, only if it is that one.
    fn end(&mut self, key: &str, number: Option<u64>) -> bool {
        let Some((found, _)) = self.requests.get(key) else { return false };
        if number.is_some_and(|number| number != *found) {
            return false;
        }
        if let Some((_, closed)) = self.requests.remove(key) {
            closed.cancel();
        }
        true
    }
}

/// An open request.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// Its id, as the client spelled it.
    pub(crate) id: String,
    key: String,
    number: u64,
    /// Cancelled when nobody waits for its answer any more.
    pub(crate) closed: CancellationToken,
    /// Whether the end waits for it.
    is_awaited: bool,
    client: Client,
}

/// What one message of the server's was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The answer to the request in question: a result.
    Result,
    /// The same: an error.
    Refusal,
    /// Something else.
    Other,
}

impl Heard {
    /// Whether it was the answer to the request in question.
    pub(crate) fn is_answer(self) -> bool {
        self != Self::Other
    }
}

impl Client {
    /// A client that reads `lines`.
    pub(crate) fn new(lines: mpsc::Sender<Bytes>) -> Self {
        Self(Arc::new(Inner { lines, open: Mutex::default(), waiting: watch::Sender::new(0) }))
    }

    /// Tells it one line. A client that is gone hears nothing, and its end ends the program.
    pub(crate) async fn tell(&self, line: Bytes) {
        let _ = self.0.lines.send(line).await;
    }

    /// Tells it `line`, the answer to the request with `key`, if that is still open; with `number`, only
    /// if it is that one.
    ///
    /// To end a request ends whoever brings its answer, and that may be the caller: there must be room
    /// for the line first, and nothing to wait for between the end and the line. Cancel-safe: dropped
    /// before that, the request is still open.
    async fn settle(&self, key: &str, number: Option<u64>, line: Bytes) -> bool {
        let room = self.0.lines.reserve().await;
        let was_open = self.0.open.locked().end(key, number);
        if let Ok(room) = room
            && was_open
        {
            room.send(line);
        }
        was_open
    }

    /// Opens the request with `id`. The end does not wait for one that is not `awaited`.
    ///
    /// # Errors
    /// The answer to it, when it cannot be opened.
    pub(crate) fn open(&self, id: &str, awaited: bool) -> Result<Ticket, Bytes> {
        let refused = |text: &str| Err(Answer::error(id, INVALID_REQUEST, text, None).message);
        let mut open = self.0.open.locked();
        if open.requests.len() == IN_FLIGHT_MAX {
            return refused("too many requests at once; wait for answers");
        }
        let key = key(id);
        let closed = CancellationToken::new();
        let number = open.last + 1;
        match open.requests.entry(key.clone()) {
            Entry::Occupied(_) => return refused("the id is that of a request which has no answer yet"),
            Entry::Vacant(place) => place.insert((number, closed.clone())),
        };
        open.last = number;
        drop(open);
        if awaited {
            self.0.waiting.send_modify(|waiting| *waiting += 1);
        }
        Ok(Ticket { id: id.to_owned(), key, number, closed, is_awaited: awaited, client: self.clone() })
    }

    /// Whether the request with `id` was open; then it is no more, and gets no answer.
    pub(crate) fn cancel(&self, id: &str) -> bool {
        self.0.open.locked().end(&key(id), None)
    }

    /// Waits until no request is waited for. Cancel-safe.
    pub(crate) async fn is_content(&self) {
        let mut waiting = self.0.waiting.subscribe();
        // The sender lives as long as `self`.
        let _ = waiting.wait_for(|waiting| *waiting == 0).await;
    }

    /// Brings a message of the server's to the client. `asked` is the request that it came for.
    ///
    /// # Errors
    /// [`Failure::Protocol`] for what is no message, or for an error about `asked` that does not name
    /// it.
    pub(crate) async fn hear(&self, message: Bytes, asked: Option<&Ticket>) -> Result<Heard, Failure> {
        let line = one_line(message).map_err(Failure::Protocol)?;
        let read = std::str::from_utf8(&line).unwrap_or_default();
        if read.starts_with('[') {
            return self.hear_all(&line, asked).await;
        }
        match Incoming::parse(read).map_err(Failure::Protocol)? {
            Incoming::Answer { id: "null", outcome: Err(error) } => match asked {
                Some(asked) => {
                    let answer = Answer::served(&asked.id, &Err(Bytes::copy_from_slice(error.get().as_bytes())));
                    asked.answer(answer.message).await;
                    return Ok(Heard::Refusal);
                }
                None => warn!("the server could not read something, and says so to no request"),
            },
            Incoming::Answer { id, outcome } => {
                let (key, heard) = (key(id), if outcome.is_ok() { Heard::Result } else { Heard::Refusal });
                if !self.settle(&key, None, line.clone()).await {
                    debug!(id = shown(id), "dropped an answer that nobody waits for");
                    return Ok(Heard::Other);
                }
                return Ok(if asked.is_some_and(|asked| asked.key == key) { heard } else { Heard::Other });
            }
            Incoming::Request | Incoming::Notification { .. } => self.tell(line).await,
        }
        Ok(Heard::Other)
    }

    /// A batch, which a server of 2025-03-26 may send.
    async fn hear_all(&self, batch: &Bytes, asked: Option<&Ticket>) -> Result<Heard, Failure> {
        let unreadable = |error| Failure::Protocol(format!("its message cannot be read ({error})"));
        let mut messages: Vec<&RawValue> = serde_json::from_slice(batch).map_err(unreadable)?;
        // What ends the request comes last: whoever brings the others ends with it.
        messages.sort_by_cached_key(|message| asked.is_some_and(|asked| asked.is_answered_by(message.get())));
        let mut heard = Heard::Other;
        for message in messages {
            if message.get().starts_with('[') {
                return Err(Failure::Protocol("its batch has a batch in it".to_owned()));
            }
            let message = batch.slice_ref(message.get().as_bytes());
            let one = Box::pin(self.hear(message, asked)).await?;
            if one.is_answer() {
                heard = one;
            }
        }
        Ok(heard)
    }
}

impl Ticket {
    /// Answers the request, unless it is answered or cancelled already.
    pub(crate) async fn answer(&self, line: Bytes) {
        self.client.settle(&self.key, Some(self.number), line).await;
    }

    /// Whether `message` would answer it.
    fn is_answered_by(&self, message: &str) -> bool {
        match Incoming::parse(message) {
            Ok(Incoming::Answer { id: "null", outcome }) => outcome.is_err(),
            Ok(Incoming::Answer { id, .. }) => key(id) == self.key,
            _ => false,
        }
    }

    /// Answers it with an error.
    pub(crate) async fn fail(&self, failure: &Failure) {
        self.answer(failure.answer(&self.id)).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // One that ends without an answer was cancelled, or the program ends.
        self.client.0.open.locked().end(&self.key, Some(self.number));
        if self.is_awaited {
            self.client.0.waiting.send_modify(|waiting| *waiting -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client reads that is one line behind when the answer comes to a request which ends with it.
    async fn read_late<F: Future<Output = ()>>(bring: impl FnOnce(Client, Arc<Ticket>) -> F) -> Vec<String> {
        let (sender, mut lines) = mpsc::channel(1);
        let client = Client::new(sender);
        let ticket = Arc::new(client.open("1", true).expect("a free id"));
        client.tell(Bytes::from_static(b"behind")).await;
        let bringing = async {
            tokio::select! {
                biased;
                () = ticket.closed.cancelled() => {}
                () = bring(client.clone(), Arc::clone(&ticket)) => {}
            }
        };
        let reading = async {
            let mut read = Vec::new();
            while let Some(line) = lines.recv().await {
                let is_last = line.starts_with(br#"{"id":1,"#) || line.windows(7).any(|part| part == br#""code":"#);
                read.push(String::from_utf8_lossy(&line).into_owned());
                if is_last {
                    break;
                }
            }
            read
        };
        let both = async { tokio::join!(biased; bringing, reading).1 };
        tokio::time::timeout(std::time::Duration::from_secs(60), both).await.expect("an answer in spite of all")
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_still_gets_every_answer() {
        const ANSWER: &str = r#"{"id":1,"result":{}}"#;
        let heard = |message: &'static str| {
            read_late(async move |client, ticket: Arc<Ticket>| {
                let heard = client.hear(Bytes::from_static(message.as_bytes()), Some(&ticket)).await;
                assert!(heard.is_ok_and(Heard::is_answer));
            })
        };
        assert_eq!(heard(ANSWER).await, ["behind", ANSWER]);
        let refusal = heard(r#"{"id":null,"error":{"code":1}}"#).await;
        assert!(refusal[1].contains(r#""id":1"#), "{refusal:?}");
        // A batch in which the answer is not the last.
        let batch = heard(r#"[{"id":1,"result":{}},{"method":"a"},{"method":"b"}]"#).await;
        assert_eq!(batch, ["behind", r#"{"method":"a"}"#, r#"{"method":"b"}"#, ANSWER]);
        let answered = read_late(async |_, ticket: Arc<Ticket>| {
            ticket.answer(Bytes::from_static(ANSWER.as_bytes())).await;
        });
        assert_eq!(answered.await, ["behind", ANSWER]);
        let failed = read_late(async |_, ticket: Arc<Ticket>| ticket.fail(&Failure::Ended).await).await;
        assert!(failed[1].contains("stream ended"), "{failed:?}");
    }

    #[tokio::test]
    async fn an_answer_after_a_cancellation_is_not_told() {
        let (sender, mut lines) = mpsc::channel(1);
        let client = Client::new(sender);
        let ticket = client.open("1", true).expect("a free id");
        assert!(client.cancel("1"));
        let heard = client.hear(Bytes::from_static(br#"{"id":1,"result":{}}"#), Some(&ticket)).await;
        assert_eq!(heard.ok(), Some(Heard::Other));
        ticket.answer(Bytes::from_static(b"{}")).await;
        assert!(lines.try_recv().is_err());
    }
}
