//! Reads what a child writes and brings it to whom it belongs.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::mpsc::{Sender, error::TrySendError};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Asked, Audience, Ended, Note, Notice, Pipe, answer, id_text, our_id, refusal, table::Settled, with};
use crate::{
    backend::child::{Output, OutputError},
    message::{Message, Notification, Request, shown},
};

/// Banners on stdout are common and short. More than this is a program that does not speak the
/// protocol, or one that writes its log there.
const STRAY_LINES_MAX: usize = 100;
const STRAY_BYTES_MAX: usize = 256 * 1024;

/// A subscription's notifications carry its id in `_meta` under this key.
const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

/// Reads until the child ends, breaks the protocol, or `stop`.
pub(super) async fn read(pipe: Arc<Pipe>, mut output: Output, stop: CancellationToken) {
    let ended = tokio::select! {
        () = stop.cancelled() => Ended("it is not needed any more".into()),
        ended = pipe.read_all(&mut output) => ended,
    };
    pipe.table().end_with(ended);
    pipe.ended.cancel();
}

impl Pipe {
    async fn read_all(&self, output: &mut Output) -> Ended {
        let (mut lines, mut bytes) = (0, 0);
        loop {
            let line = match output.next().await {
                Ok(line) => line,
                Err(OutputError::TooLong { max }) => {
                    return self.misbehaved(format!("it wrote a message of more than {max} bytes (--max-message-bytes)"));
                }
                Err(_) => return self.left().await,
            };
            match Message::parse(&line) {
                Ok(Message::Response(response)) => {
                    let part = |raw: &RawValue| line.slice_ref(raw.get().as_bytes());
                    let outcome = response.outcome.map(part).map_err(part);
                    let id = response.id.as_json().parse().ok();
                    if !id.is_some_and(|id| self.table().settle(id, Settled::Answered(outcome))) {
                        debug!(child = self.name, "an answer to no open request");
                    }
                }
                Ok(Message::Notification(notification)) => self.notified(&line, &notification).await,
                Ok(Message::Request(request)) => self.asked(&line, &request).await,
                Err(error) => {
                    (lines, bytes) = (lines + 1, bytes + line.len());
                    if lines > STRAY_LINES_MAX || bytes > STRAY_BYTES_MAX {
                        return self.misbehaved("it writes lines to stdout that are no JSON-RPC messages".to_owned());
                    }
                    let beginning = String::from_utf8_lossy(&line[..line.len().min(256)]);
                    warn!(child = self.name, line = shown(&beginning), %error, "skipped a line on stdout that is no message");
                }
            }
        }
    }

    /// The child has closed its output: what it said about its end.
    async fn left(&self) -> Ended {
        // An output that is closed while the process lives is an end, too; its owner ends the rest.
        let Some(handle) = self.handle.upgrade() else { return Ended("it ended".into()) };
        let patience = std::time::Duration::from_millis(250);
        match tokio::time::timeout(patience, handle.ended()).await {
            Ok(how) => Ended(how.to_string().into()),
            Err(_) => Ended("it closed its output".into()),
        }
    }

    fn misbehaved(&self, why: String) -> Ended {
        warn!(child = self.name, "ending it: {why}");
        if let Some(handle) = self.handle.upgrade() {
            handle.kill();
        }
        Ended(why.into())
    }

    async fn notified(&self, line: &Bytes, notification: &Notification<'_>) {
        let params = &notification.params;
        let method = notification.method.as_ref();
        let slice = params.raw.map(|raw| line.slice_ref(raw.get().as_bytes()));
        let notice = |params| Note::Notice(Notice { method: method.to_owned(), params });
        let (notes, aside, note) = match method {
            "notifications/progress" => {
                let token = params.members.get("progressToken").and_then(our_id);
                let found = token.and_then(|id| {
                    let table = self.table();
                    let open = table.get(id)?;
                    let written = with(&params.members, "progressToken", open.progress_token.as_deref()?);
                    Some((open.notes.clone(), open.aside, written))
                });
                let Some((notes, aside, written)) = found else { return };
                (notes, aside, notice(Some(written.into())))
            }
            "notifications/cancelled" => {
                let id = params.members.get("requestId").and_then(our_id);
                if id.is_some_and(|id| self.table().settle(id, Settled::Closed)) {
                    return;
                }
                self.audience.listener().notified(Notice { method: method.to_owned(), params: slice });
                return;
            }
            _ => match params.meta.get(SUBSCRIPTION_ID).map(our_id) {
                Some(id) => {
                    let found = id.and_then(|id| {
                        let table = self.table();
                        let open = table.get(id)?;
                        let meta = with(&params.meta, SUBSCRIPTION_ID, &open.client_id);
                        Some((open.notes.clone(), open.aside, with(&params.members, "_meta", &meta)))
                    });
                    let Some((notes, aside, written)) = found else { return };
                    (notes, aside, notice(Some(written.into())))
                }
                None => match (&self.audience, self.table().newest()) {
                    (Audience::Owner(_), Some(open)) if !is_change(method) => (open.notes.clone(), false, notice(slice)),
                    (audience, _) => {
                        audience.listener().notified(Notice { method: method.to_owned(), params: slice });
                        return;
                    }
                },
            },
        };
        self.note(notes, aside, note).await;
    }

    async fn asked(&self, line: &Bytes, request: &Request<'_>) {
        let id = id_text(&request.id);
        if request.method == "ping" {
            // Not waited for: a child that writes and does not read would hold us, and we it.
            let _ = self.input.try_send(answer(&id, Ok(b"{}")));
            return;
        }
        let params = request.params.raw.map(|raw| line.slice_ref(raw.get().as_bytes()));
        let asked = Asked { id, method: request.method.clone().into_owned(), params };
        let refused = match &self.audience {
            Audience::Shared(_) => Some(asked),
            Audience::Owner(listener) => {
                let notes = self.table().newest().map(|open| open.notes.clone());
                match notes {
                    Some(notes) => match notes.send(Note::Asked(asked)).await {
                        Ok(()) => None,
                        Err(unsent) => match unsent.0 {
                            Note::Asked(asked) => Some(asked),
                            Note::Notice(_) => None,
                        },
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

    async fn note(&self, notes: Sender<Note>, aside: bool, note: Note) {
        match &self.audience {
            // A slow client slows down its own child.
            Audience::Owner(_) if !aside => {
                let _ = notes.send(note).await;
            }
            Audience::Owner(_) | Audience::Shared(_) => {
                if let Err(TrySendError::Full(_)) = notes.try_send(note) {
                    debug!(child = self.name, "a client reads too slowly; a notification is lost");
                }
            }
        }
    }
}

/// What is about the server and not about a request, whenever it comes.
fn is_change(method: &str) -> bool {
    method.ends_with("/list_changed") || method == "notifications/resources/updated"
}
