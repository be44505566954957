//! Reads what a child writes and brings it to whom it belongs.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::{
    sync::mpsc::{Sender, error::TrySendError},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    Asked, Audience, Ended, Note, Notice, Pipe, our_id, refusal,
    table::{Open, Settled},
};
use crate::{
    backend::{
        child::{Output, OutputError},
        response,
    },
    edit::Edit,
    era::SUBSCRIPTION_KEY,
    message::{Message, Notification, Object, Request, shown},
};

/// Banners on stdout are common and short. More than this without one message in between is a program
/// that does not speak the protocol. One that also writes its log there is spared, or a long life would
/// be its end.
pub(super) const STRAY_LINES_MAX: usize = 100;
const STRAY_BYTES_MAX: usize = 256 * 1024;

/// After so many warnings about one child's stray lines it is known what it does.
const STRAY_WARNINGS_MAX: usize = 100;

/// How long a child that has closed its output may take to end: how it ended says more.
const END_FOLLOWS: Duration = Duration::from_millis(250);

/// How long a child that does not read any more may take to say why: longer than that.
const REASON_FOLLOWS: Duration = Duration::from_millis(500);

/// Reads until the child ends, breaks the protocol, or `stop`.
pub(super) async fn read(pipe: Arc<Pipe>, mut output: Output, stop: CancellationToken) {
    let ended = tokio::select! {
        () = stop.cancelled() => Ended("it is not needed any more".into()),
        ended = pipe.read_all(&mut output) => ended,
        ended = pipe.refused() => ended,
    };
    pipe.table().end_with(ended);
    pipe.ended.cancel();
}

impl Pipe {
    async fn read_all(&self, output: &mut Output) -> Ended {
        let mut strays = Strays::default();
        loop {
            let line = match output.next().await {
                Ok(line) => line,
                Err(OutputError::TooLong { max }) => {
                    return self
                        .misbehaved(format!("it wrote a message of more than {max} bytes (--max-message-bytes)"));
                }
                Err(_) => return self.left().await,
            };
            match Message::parse(&line) {
                Ok(message) => {
                    strays.forget();
                    self.heard(&line, message).await;
                }
                Err(_) if is_error_of_no_request(&line) => {
                    strays.forget();
                    debug!(child = self.name, "it could not read something, and says so to no request");
                }
                Err(error) => {
                    if strays.add(line.len()) {
                        return self.misbehaved("it writes lines to stdout that are no JSON-RPC messages".to_owned());
                    }
                    let beginning = String::from_utf8_lossy(&line[..line.len().min(256)]);
                    let line = shown(&beginning);
                    if strays.ever <= STRAY_WARNINGS_MAX {
                        warn!(child = self.name, line, %error, "skipped a line on stdout that is no message");
                    } else {
                        debug!(child = self.name, line, %error, "skipped a line on stdout that is no message");
                    }
                }
            }
        }
    }

    /// Brings `message`, which `line` is, to whom it belongs.
    async fn heard(&self, line: &Bytes, message: Message<'_>) {
        match message {
            Message::Response(response) => {
                let part = |raw: &RawValue| line.slice_ref(raw.get().as_bytes());
                let outcome = response.outcome.map(part).map_err(part);
                let id = response.id.as_json().parse().ok();
                if !id.is_some_and(|id| self.table().settle(id, Settled::Answered(outcome))) {
                    debug!(child = self.name, "an answer to no open request");
                }
            }
            Message::Notification(notification) => self.notified(&notification).await,
            Message::Request(request) => self.asked(&request).await,
        }
    }

    /// The child has closed its output: what it said about its end.
    async fn left(&self) -> Ended {
        // An output that is closed while the process lives is an end, too; its owner ends the rest.
        let Some(handle) = self.handle.upgrade() else { return Ended("it ended".into()) };
        match timeout(END_FOLLOWS, handle.ended()).await {
            Ok(how) => Ended(how.to_string().into()),
            Err(_) => Ended("it closed its output".into()),
        }
    }

    /// The child lives and does not read its input any more. It gets no other request, and what it has read
    /// it may still answer; it has ended only where that cannot be told.
    async fn refused(&self) -> Ended {
        let is_lost = self.input.refused().await;
        sleep(REASON_FOLLOWS).await;
        let ended = Ended("it does not read its input any more".into());
        warn!(child = self.name, "it gets no other request: {ended}");
        if is_lost {
            return ended;
        }
        self.table().close_with(ended);
        self.ended.cancel();
        std::future::pending().await
    }

    fn misbehaved(&self, why: String) -> Ended {
        warn!(child = self.name, "ending it: {why}");
        if let Some(handle) = self.handle.upgrade() {
            handle.kill();
        }
        Ended(why.into())
    }

    async fn notified(&self, notification: &Notification<'_>) {
        let params = &notification.params;
        let method = notification.method.as_ref();
        let written = || params.to_json().map(Bytes::from);
        let notice = |params| Note::Notice(Notice { method: method.to_owned(), params });
        let (notes, note) = match method {
            "notifications/progress" => {
                let token = params.members.get("progressToken").and_then(our_id);
                let found = token.and_then(|id| {
                    let table = self.table();
                    let open = table.get(id)?;
                    let token = open.progress_token.as_deref()?;
                    Some((open.hears()?, Edit::new(params).set("progressToken", token).to_json()))
                });
                let Some((notes, written)) = found else { return };
                (notes, notice(Some(written.into())))
            }
            // Subscriptions apart, a child withdraws a question of its own, and numbers those as it likes.
            "notifications/cancelled"
                if params
                    .members
                    .get("requestId")
                    .and_then(our_id)
                    .is_some_and(|id| self.table().end_subscription(id)) =>
            {
                return;
            }
            _ => match params.meta.get(SUBSCRIPTION_KEY).map(our_id) {
                Some(id) => {
                    let found = id.and_then(|id| {
                        let table = self.table();
                        let open = table.get(id)?;
                        let mut edit = Edit::new(params);
                        edit.meta_set(SUBSCRIPTION_KEY, open.client_id.as_str());
                        Some((open.notes.clone(), edit.to_json()))
                    });
                    let Some((notes, written)) = found else { return };
                    (notes, notice(Some(written.into())))
                }
                None => match (&self.audience, self.table().newest().and_then(Open::hears)) {
                    (Audience::Owner(_), Some(notes)) if !is_change(method) => (notes, notice(written())),
                    (audience, _) => {
                        audience.listener().notified(Notice { method: method.to_owned(), params: written() });
                        return;
                    }
                },
            },
        };
        self.note(notes, note).await;
    }

    async fn asked(&self, request: &Request<'_>) {
        let id = request.id.to_json();
        if request.method == "ping" {
            // Not waited for: a child that writes and does not read would hold us, and we it.
            let _ = self.input.try_send(response(&id, Ok(b"{}")));
            return;
        }
        let params = request.params.to_json().map(Bytes::from);
        let asked = Asked { id, method: request.method.clone().into_owned(), params };
        let refused = match &self.audience {
            Audience::Shared(_) => Some(asked),
            Audience::Owner(listener) => {
                let notes = self.table().newest_to_ask().map(|open| open.notes.clone());
                match notes {
                    Some(notes) => match self.patiently(&notes, Note::Asked(asked)).await {
                        Some(Note::Asked(asked)) => Some(asked),
                        Some(Note::Notice(_)) | None => None,
                    },
                    None => listener.asked(asked),
                }
            }
        };
        if let Some(asked) = refused {
            debug!(child = self.name, method = shown(&asked.method), "nobody can answer a request of the child's");
            let _ = self.input.try_send(refusal(&asked, "no client can answer this now"));
        }
    }

    async fn note(&self, notes: Sender<Box<Note>>, note: Note) {
        match &self.audience {
            Audience::Owner(_) => {
                if self.patiently(&notes, note).await.is_some() {
                    debug!(child = self.name, "nobody hears a notification any more");
                }
            }
            Audience::Shared(_) => {
                if let Err(TrySendError::Full(_)) = notes.try_send(Box::new(note)) {
                    debug!(child = self.name, "a client reads too slowly; a notification is lost");
                }
            }
        }
    }

    /// Brings `note` to a client that may be slow, and then slows down its own child; gives it back if
    /// it has not arrived.
    ///
    /// Waits no longer than the process lives: whoever else waits for an answer must learn of its end.
    /// What it wrote before is still read, and an answer among it arrives; notes that do not fit do not.
    /// A reader that is told to stop is dropped here as everywhere.
    async fn patiently(&self, notes: &Sender<Box<Note>>, note: Note) -> Option<Note> {
        let note = match notes.try_send(Box::new(note)) {
            Ok(()) => return None,
            Err(TrySendError::Closed(note)) => return Some(*note),
            Err(TrySendError::Full(note)) => note,
        };
        // While we hold the handle its process does not end with the link, but we end with the link.
        let Some(handle) = self.handle.upgrade() else { return Some(*note) };
        tokio::select! {
            biased;
            room = notes.reserve() => match room {
                Ok(room) => {
                    room.send(note);
                    None
                }
                Err(_) => Some(*note),
            },
            _ = handle.ended() => Some(*note),
        }
    }
}

/// What is about the server and not about a request, whenever it comes.
fn is_change(method: &str) -> bool {
    method.ends_with("/list_changed") || method == "notifications/resources/updated"
}

/// Whether `line` says that its sender could not read something (JSON-RPC 2.0 §5: the id is then null).
/// It answers nobody, and is a message all the same.
fn is_error_of_no_request(line: &[u8]) -> bool {
    let Ok(members) = serde_json::from_slice::<Object<'_>>(line) else { return false };
    let is = |key, expected| members.get(key).is_some_and(|raw| raw.get() == expected);
    is("jsonrpc", r#""2.0""#)
        && is("id", "null")
        && members.get("error").is_some_and(|error| error.get().starts_with('{'))
        && members.get("method").is_none()
}

/// Lines that are no messages.
#[derive(Default)]
struct Strays {
    lines: usize,
    bytes: usize,
    /// In the child's whole life.
    ever: usize,
}

impl Strays {
    /// Counts one; whether they are too many since the last message.
    fn add(&mut self, bytes: usize) -> bool {
        self.lines += 1;
        self.bytes += bytes;
        self.ever = self.ever.saturating_add(1);
        self.lines > STRAY_LINES_MAX || self.bytes > STRAY_BYTES_MAX
    }

    /// A message came.
    fn forget(&mut self) {
        (self.lines, self.bytes) = (0, 0);
    }
}
