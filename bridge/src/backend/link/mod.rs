//! One child that speaks JSON-RPC: many requests over one pipe, each under an id of ours.
//!
//! Ids and progress tokens are always rewritten, so that clients whose ids collide can share a pipe
//! and a child can never answer what it was not asked. What a child says beside its answers goes to
//! the request it belongs to, where the message says so; else the [`Audience`] decides.

mod reader;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, Weak};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::table::{Open, Table};
use crate::{
    backend::{
        child::{Handle, Input, Process},
        response,
    },
    message::{METHOD_NOT_FOUND, Object, quoted},
    sync::Locked as _,
};

/// What a child says before its answer and the client has not read yet, in messages. A client that
/// reads slowly stops its own child; on a shared one it loses what does not fit.
const NOTES_AT_ONCE: usize = 64;

/// One living child. Dropping the last clone ends it and everything that it has started.
#[derive(Clone)]
pub struct Link(Arc<Owner>);

/// Keeps the process; only clones of the link hold it.
struct Owner {
    pipe: Arc<Pipe>,
    handle: Arc<Handle>,
    _reading: DropGuard,
}

/// What the reader shares with the link.
struct Pipe {
    name: String,
    input: Input,
    handle: Weak<Handle>,
    table: Mutex<Table>,
    audience: Audience,
    ended: CancellationToken,
}

/// Who hears what a child says to nobody in particular.
#[derive(Clone)]
pub enum Audience {
    /// The child has one owner: the request that was made last and is not answered yet, else the
    /// listener.
    Owner(Arc<dyn Listener>),
    /// The child is shared: notifications go to the listener only, and requests are refused, because
    /// they could reach the wrong client.
    Shared(Arc<dyn Listener>),
}

impl Audience {
    fn listener(&self) -> &dyn Listener {
        let (Self::Owner(listener) | Self::Shared(listener)) = self;
        listener.as_ref()
    }
}

/// Hears what belongs to no request. Called on the child's reading task: it must not block.
pub trait Listener: Send + Sync {
    /// The child has sent a notification.
    fn notified(&self, notice: Notice);

    /// The child has sent a request, which is to be answered through [`Link::respond`]; `Some` gives
    /// it back because nobody can.
    fn asked(&self, asked: Asked) -> Option<Asked> {
        Some(asked)
    }
}

/// A notification from a child.
#[derive(Clone)]
pub struct Notice {
    /// The method.
    pub method: String,
    /// The parameters as JSON text, if there are any.
    pub params: Option<Bytes>,
}

impl Notice {
    /// The question that the child withdraws with this, by its id as JSON text in the child's own
    /// spelling; `None` for every other notification.
    pub fn withdrawn(&self) -> Option<String> {
        if self.method != "notifications/cancelled" {
            return None;
        }
        let params: Object<'_> = serde_json::from_slice(self.params.as_deref()?).ok()?;
        params.get("requestId").map(|id| id.get().to_owned())
    }

    /// The whole message.
    pub fn message(&self) -> Bytes {
        message(None, &self.method, self.params.as_deref())
    }
}

/// A request from a child.
#[derive(Clone)]
pub struct Asked {
    /// The id, as JSON text in the child's own spelling.
    pub id: String,
    /// The method.
    pub method: String,
    /// The parameters as JSON text, if there are any.
    pub params: Option<Bytes>,
}

impl Asked {
    /// The whole message, under `id`.
    pub fn message(&self, id: &str) -> Bytes {
        message(Some(id), &self.method, self.params.as_deref())
    }
}

/// What a child says while a request of ours is open.
pub enum Note {
    /// A notification.
    Notice(Notice),
    /// A request.
    Asked(Asked),
}

/// What comes next of a request.
pub enum Event {
    /// Something before the answer.
    Note(Note),
    /// The answer: a result or an error object, as JSON text.
    Answer(Result<Bytes, Bytes>),
    /// The child says that it has ended the request without an answer (a subscription).
    Closed,
    /// There will be no answer, because of this.
    Lost(Ended),
}

/// The child is gone or unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Ended(pub Arc<str>);

/// What one request needs to be sent and answered.
pub struct Outgoing<'a> {
    /// The method.
    pub method: &'a str,
    /// The id under which the client knows the request, as JSON text.
    pub client_id: &'a str,
    /// The client's progress token as JSON text, if it gave one.
    pub progress_token: Option<&'a str>,
    /// Whether what the child says to nobody in particular may go to this request.
    pub takes_strays: bool,
    /// Whether the child is told when nobody waits any more.
    pub cancellable: bool,
}

impl Link {
    /// Speaks to `process`. `name` is for the log; `tasks` owns the reading task, which ends with
    /// the link or with the child.
    pub fn new(name: &str, process: Process, audience: Audience, tasks: &TaskTracker) -> Self {
        let handle = Arc::new(process.handle);
        let pipe = Arc::new(Pipe {
            name: name.to_owned(),
            input: process.input,
            handle: Arc::downgrade(&handle),
            table: Mutex::default(),
            audience,
            ended: CancellationToken::new(),
        });
        let reading = CancellationToken::new();
        tasks.spawn(reader::read(Arc::clone(&pipe), process.output, reading.clone()));
        Self(Arc::new(Owner { pipe, handle, _reading: reading.drop_guard() }))
    }

    /// Sends a request. `params` makes its parameters, as JSON text, from our id, which is the
    /// progress token too.
    ///
    /// Waits while the child's input is full. Cancel-safe: a request that is given up is cancelled.
    ///
    /// # Errors
    /// [`Ended`] when the child is gone.
    pub async fn request(
        &self,
        outgoing: Outgoing<'_>,
        params: impl FnOnce(u64) -> Option<String>,
    ) -> Result<Exchange, Ended> {
        let (notes, noted) = mpsc::channel(NOTES_AT_ONCE);
        let (answer, answered) = oneshot::channel();
        let id = self.pipe().table().open(Open {
            notes,
            answer,
            client_id: outgoing.client_id.to_owned(),
            progress_token: outgoing.progress_token.map(str::to_owned),
            takes_strays: outgoing.takes_strays,
            is_subscription: outgoing.method == "subscriptions/listen",
            is_hushed: false,
        })?;
        let exchange = Exchange {
            id,
            link: self.clone(),
            notes: noted,
            notes_open: true,
            answer: answered,
            stashed: None,
            cancellable: outgoing.cancellable,
            done: false,
        };
        let line = message(Some(&id.to_string()), outgoing.method, params(id).as_deref().map(str::as_bytes));
        self.send(line).await?;
        Ok(exchange)
    }

    /// Sends a notification.
    ///
    /// # Errors
    /// [`Ended`] when the child is gone.
    pub async fn notify(&self, method: &str, params: Option<&[u8]>) -> Result<(), Ended> {
        self.send(message(None, method, params)).await
    }

    /// Answers a request of the child's, whose id is given as JSON text, with a result or an error
    /// object.
    ///
    /// # Errors
    /// [`Ended`] when the child is gone.
    pub async fn respond(&self, id: &str, outcome: Result<&[u8], &[u8]>) -> Result<(), Ended> {
        self.send(response(id, outcome)).await
    }

    /// Answers that nobody can fulfil the child's request.
    ///
    /// # Errors
    /// [`Ended`] when the child is gone.
    pub async fn refuse(&self, asked: &Asked, why: &str) -> Result<(), Ended> {
        self.send(refusal(asked, why)).await
    }

    /// Why the child can answer nothing any more, if so.
    pub fn end(&self) -> Option<Ended> {
        self.pipe().table().end()
    }

    /// Waits until the child can answer nothing any more. Cancel-safe.
    pub async fn ended(&self) {
        self.pipe().ended.cancelled().await;
    }

    /// The process's number.
    pub fn process_id(&self) -> u32 {
        self.0.handle.id()
    }

    fn pipe(&self) -> &Pipe {
        &self.0.pipe
    }

    async fn send(&self, line: Bytes) -> Result<(), Ended> {
        if self.pipe().input.send(line).await.is_ok() {
            return Ok(());
        }
        // The reader knows best why, and learns of it soon.
        self.ended().await;
        Err(self.pipe().table().end().unwrap_or_else(|| Ended("it does not read its input any more".into())))
    }
}

impl Pipe {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.locked()
    }
}

/// A request that waits for its answer. Dropping it before tells the child that nobody waits.
pub struct Exchange {
    id: u64,
    link: Link,
    notes: mpsc::Receiver<Box<Note>>,
    notes_open: bool,
    answer: oneshot::Receiver<table::Settled>,
    stashed: Option<Event>,
    cancellable: bool,
    done: bool,
}

impl Exchange {
    /// Waits for what comes next. After an answer there is nothing more to ask for. Cancel-safe.
    pub async fn next(&mut self) -> Event {
        loop {
            if self.stashed.is_some() {
                // What was sent before the answer comes before it.
                if let Ok(note) = self.notes.try_recv() {
                    return Event::Note(*note);
                }
                self.done = true;
                return self.stashed.take().unwrap_or(Event::Closed);
            }
            tokio::select! {
                biased;
                note = self.notes.recv(), if self.notes_open => match note {
                    Some(note) => return Event::Note(*note),
                    None => self.notes_open = false,
                },
                settled = &mut self.answer => self.stashed = Some(match settled {
                    Ok(table::Settled::Answered(outcome)) => Event::Answer(outcome),
                    Ok(table::Settled::Closed) => Event::Closed,
                    Err(_) => {
                        let unknown = || Ended("it ended".into());
                        Event::Lost(self.link.end().unwrap_or_else(unknown))
                    }
                }),
            }
        }
    }

    /// Says whether the client is there to hear notifications. While it is not they are dropped: kept,
    /// they would fill the queue and stop the child. Its questions are kept.
    pub fn hush(&self, is_hushed: bool) {
        self.link.pipe().table().hush(self.id, is_hushed);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.done || !self.link.pipe().table().close(self.id) || !self.cancellable {
            return;
        }
        let params = format!(r#"{{"requestId":{}}}"#, self.id);
        // A child that does not even read cannot be told, and ends by other means.
        let _ = self.link.pipe().input.try_send(message(None, "notifications/cancelled", Some(params.as_bytes())));
    }
}

/// A request or notification.
fn message(id: Option<&str>, method: &str, params: Option<&[u8]>) -> Bytes {
    let mut line = Vec::with_capacity(64 + method.len() + params.map_or(0, <[u8]>::len));
    line.extend_from_slice(br#"{"jsonrpc":"2.0""#);
    if let Some(id) = id {
        line.extend_from_slice(br#","id":"#);
        line.extend_from_slice(id.as_bytes());
    }
    line.extend_from_slice(br#","method":"#);
    line.extend_from_slice(quoted(method).as_bytes());
    if let Some(params) = params {
        line.extend_from_slice(br#","params":"#);
        line.extend_from_slice(params);
    }
    line.push(b'}');
    line.into()
}

fn refusal(asked: &Asked, why: &str) -> Bytes {
    let error = format!(r#"{{"code":{METHOD_NOT_FOUND},"message":{}}}"#, quoted(why));
    response(&asked.id, Err(error.as_bytes()))
}

/// One of our ids, as a child repeats it.
fn our_id(raw: &RawValue) -> Option<u64> {
    raw.get().parse().ok()
}

#[cfg(all(test, unix))]
mod tests;
