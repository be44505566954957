//! What answers permitted messages: the calculator in process, or a command's processes.

pub mod child;
pub mod in_process;
pub mod link;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use mcp_calculator::server::Era;

use crate::{
    era::{EnvelopeError, Value},
    message::{Notification, Request, Response},
    token::{NotReady, VerifiedToken},
};

/// Answers requests, each independent of every other, and opens legacy sessions.
pub trait Backend: Send + Sync {
    /// Answers a request of the modern era. Dropping the future or the reply cancels it.
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Reply>;

    /// Answers the `initialize` of a legacy session, which from then on speaks to what is returned.
    fn open<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Opened>;

    /// Compares the headers that mirror arguments of a tool with the arguments (MCP 2026-07-28,
    /// "Custom Headers from Tool Parameters").
    ///
    /// # Errors
    /// [`EnvelopeError::HeaderMismatch`] for the first header that says something else.
    fn check_arguments<'h>(
        &self,
        request: &Request<'_>,
        header: &dyn Fn(&str) -> Value<'h>,
    ) -> Result<(), EnvelopeError> {
        let _ = (request, header);
        Ok(())
    }

    /// Whether the answer to `request`, of the modern era, is of no use but as a stream.
    fn only_streams(&self, request: &Request<'_>) -> bool {
        let _ = request;
        false
    }

    /// Whether requests can be answered.
    ///
    /// # Errors
    /// [`NotReady`] says why not.
    fn ready(&self) -> BoxFuture<'_, Result<(), NotReady>> {
        std::future::ready(Ok(())).boxed()
    }

    /// Ends what outlives requests. To be called now and then.
    fn tidy(&self) {}

    /// Ends subscriptions in good order, for the shutdown; later ones end at once.
    fn end_streams(&self) {}

    /// Ends everything, when nothing is accepted any more.
    fn shut_down(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}

/// One legacy session's side of a backend.
pub trait Conversation: Send + Sync {
    /// Answers a request of the session.
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Reply>;

    /// Takes a notification of the client's.
    fn notify<'a>(&'a self, notification: &'a Notification<'a>) -> BoxFuture<'a, ()> {
        let _ = notification;
        std::future::ready(()).boxed()
    }

    /// Takes the client's answer to a request of the server's; one that nobody asked for is dropped.
    fn respond<'a>(&'a self, response: &'a Response<'a>) -> BoxFuture<'a, ()> {
        let _ = response;
        std::future::ready(()).boxed()
    }

    /// What the server says of its own accord, for the session's stream. A message is handed out
    /// once. Never ends by itself; cancel-safe.
    fn next_message(&self) -> BoxFuture<'_, Bytes> {
        std::future::pending().boxed()
    }

    /// Ends it: its session has ended.
    fn end(&self) {}
}

/// What `initialize` led to.
pub struct Opened {
    /// The answer to it.
    pub reply: Answered,
    /// What the session speaks to; `None` when there is to be no session.
    pub conversation: Option<Arc<dyn Conversation>>,
}

/// A permitted request and who makes it.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The request.
    pub request: &'a Request<'a>,
    /// Whose it is, as verified.
    pub caller: &'a Arc<VerifiedToken>,
    /// How the client speaks.
    pub era: Era,
    /// Whether the client reads an event stream as its answer.
    pub streams: bool,
    /// How long the answer may take.
    pub timeout: Duration,
    /// How long a client that reads a stream may wait for the first word.
    pub patience: Duration,
    /// What the request takes up, for who goes on when its client has left.
    pub held: Option<&'a dyn Held>,
}

/// What a request takes up of its user's share.
pub trait Held: Send + Sync {
    /// Takes it up until what is returned is dropped, too.
    fn keep(&self) -> Box<dyn Send>;
}

/// How a request is answered.
pub enum Reply {
    /// With one message that is there.
    Whole(Answered),
    /// With one message or more, as they come. The last one is [`Item::Last`]; a stream that ends
    /// without it belongs to a request that its client has cancelled. Dropping it says that the
    /// client is gone.
    Stream(mpsc::Receiver<Item>),
}

/// One part of a reply.
#[derive(Debug)]
pub enum Item {
    /// A message before the answer: a notification, or a request of the server's.
    Message(Bytes),
    /// The answer.
    Last(Answered),
}

/// An answer, and what it is worth.
#[derive(Clone, Debug)]
pub enum Answered {
    /// The server's own.
    Served(Answer),
    /// Ours, because the server took too long.
    TimedOut(Answer),
    /// Ours, because the server ended or broke the protocol in the middle of the request.
    Broken(Answer),
    /// Ours, because the server could not be asked; trying again after this time may help.
    Unavailable(Answer, Duration),
}

impl Answered {
    /// The same, with what a server said changed.
    pub fn map_served(self, change: impl FnOnce(Answer) -> Answer) -> Self {
        match self {
            Self::Served(answer) => Self::Served(change(answer)),
            ours => ours,
        }
    }

    /// The message, whoever wrote it.
    pub fn into_answer(self) -> Answer {
        let (Self::Served(answer) | Self::TimedOut(answer) | Self::Broken(answer) | Self::Unavailable(answer, _)) =
            self;
        answer
    }
}

/// The one message that answers a request.
#[derive(Clone)]
pub struct Answer {
    /// A JSON-RPC response with the request's id.
    pub message: Bytes,
    /// The JSON-RPC error code, if it is an error.
    pub error: Option<i64>,
}

impl fmt::Debug for Answer {
    /// Shows no content: it is the client's own business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("bytes", &self.message.len()).field("error", &self.error).finish()
    }
}

impl Answer {
    /// A result, as JSON text, for the request with `id`.
    pub fn result(id: &str, result: &str) -> Self {
        Self { message: response(id, Ok(result.as_bytes())), error: None }
    }

    /// What a server answered, for the request with `id`: a result or an error object, as JSON text.
    pub fn served(id: &str, outcome: &Result<Bytes, Bytes>) -> Self {
        let message = response(id, outcome.as_deref().map_err(|error| &**error));
        Self { message, error: outcome.as_ref().err().map(|error| code_of(error)) }
    }

    /// An error for the request with `id`; `id` is `null` where it could not be read.
    pub fn error(id: &str, code: i64, text: &str, data: Option<&serde_json::Value>) -> Self {
        let mut error = serde_json::json!({ "code": code, "message": text });
        if let Some(data) = data {
            error["data"] = data.clone();
        }
        Self { message: response(id, Err(error.to_string().as_bytes())), error: Some(code) }
    }
}

/// A response to the request with `id`: a result or an error object, all as JSON text.
fn response(id: &str, outcome: Result<&[u8], &[u8]>) -> Bytes {
    let (kind, content) = match outcome {
        Ok(result) => ("result", result),
        Err(error) => ("error", error),
    };
    let parts = [br#"{"jsonrpc":"2.0","id":"#, id.as_bytes(), br#",""#, kind.as_bytes(), br#"":"#, content, b"}"];
    parts.concat().into()
}

/// The code of a server's error object; internal error where it has none that fits.
pub(crate) fn code_of(error: &[u8]) -> i64 {
    #[derive(serde::Deserialize)]
    struct Coded<'e> {
        #[serde(borrow)]
        code: &'e RawValue,
    }
    let coded = serde_json::from_slice::<Coded<'_>>(error).ok();
    coded.and_then(|coded| coded.code.get().parse().ok()).unwrap_or(crate::message::INTERNAL_ERROR)
}
