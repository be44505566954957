//! From a permitted message to its answer.

pub mod command;
pub mod filter;
pub mod line;
pub(crate) mod owner;
pub mod param_headers;
pub mod session;
pub mod translate;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mcp_calculator::server::Era;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::{
    backend::{Answered, Backend, Call, Conversation, Held, Item, Opened, Reply},
    era::{EnvelopeError, Value},
    message::Request,
    policy::{NotificationPermit, Permit},
    token::{NotReady, VerifiedToken},
};

/// Carries permitted messages to the backend.
pub struct Relay {
    backend: Arc<dyn Backend>,
    request_timeout: Duration,
    patience: Duration,
}

/// How a client speaks, and what it reads.
#[derive(Clone, Copy)]
pub struct Client<'c> {
    /// Whose requests these are.
    pub caller: &'c Arc<VerifiedToken>,
    /// The era of this request.
    pub era: Era,
    /// Whether it reads an event stream as its answer.
    pub streams: bool,
    /// What a legacy session speaks to.
    pub conversation: Option<&'c Arc<dyn Conversation>>,
    /// What the request takes up, where it may outlive its client.
    pub held: Option<&'c dyn Held>,
}

/// What came of a permitted message.
#[derive(Debug)]
pub enum Outcome {
    /// One message.
    Answered(Answered),
    /// Several messages, or one that takes its time.
    Streaming(Streaming),
    /// The client has cancelled it meanwhile, and gets no answer.
    Cancelled,
}

/// The messages of one reply.
#[derive(Debug)]
pub struct Streaming {
    /// The one that is there already.
    pub first: Option<Bytes>,
    /// The others. Dropping it says that the client is gone.
    pub rest: mpsc::Receiver<Item>,
}

impl Relay {
    /// A relay to `backend`, which has at most `request_timeout` for an answer. A client that reads
    /// streams gets one when it has waited for `patience`, so that it and proxies see signs of life.
    pub fn new(backend: Arc<dyn Backend>, request_timeout: Duration, patience: Duration) -> Self {
        Self { backend, request_timeout, patience }
    }

    /// Has a permitted request carried out. Dropping the future or the stream says that the client is
    /// gone, which cancels the request in the modern era.
    pub async fn call(&self, permit: &Permit<'_>, client: Client<'_>) -> Outcome {
        let begun = Instant::now();
        match self.begin(permit, client).await {
            Reply::Whole(answered) => Outcome::Answered(answered),
            Reply::Stream(rest) if client.streams => stream(rest, self.patience.saturating_sub(begun.elapsed())).await,
            Reply::Stream(rest) => whole(rest).await,
        }
    }

    /// The same for a client that does not wait for the first message: what is returned is the
    /// answer only where that is there at once.
    pub async fn begin(&self, permit: &Permit<'_>, client: Client<'_>) -> Reply {
        let call = self.call_of(permit, client);
        match client.conversation {
            Some(conversation) => conversation.call(call).await,
            None => self.backend.call(call).await,
        }
    }

    /// Passes a permitted notification on to what its session speaks to.
    pub async fn notify(&self, permit: &NotificationPermit<'_>, conversation: &dyn Conversation) {
        conversation.notify(permit.notification()).await;
    }

    /// Opens a legacy session: carries out a permitted `initialize`.
    pub async fn open(&self, permit: &Permit<'_>, client: Client<'_>) -> Opened {
        self.backend.open(self.call_of(permit, client)).await
    }

    /// Compares headers that mirror arguments of a tool with the arguments.
    ///
    /// # Errors
    /// [`EnvelopeError::HeaderMismatch`]
    pub fn check_arguments<'h>(
        &self,
        request: &Request<'_>,
        header: &dyn Fn(&str) -> Value<'h>,
    ) -> Result<(), EnvelopeError> {
        self.backend.check_arguments(request, header)
    }

    /// Whether the answer to `request`, of the modern era, is of no use but as a stream.
    pub fn only_streams(&self, request: &Request<'_>) -> bool {
        self.backend.only_streams(request)
    }

    /// Whether requests can be answered.
    ///
    /// # Errors
    /// [`NotReady`] says why not.
    pub async fn ready(&self) -> Result<(), NotReady> {
        self.backend.ready().await
    }

    /// Ends what outlives requests. To be called now and then.
    pub fn tidy(&self) {
        self.backend.tidy();
    }

    /// Ends subscriptions in good order, for the shutdown.
    pub fn end_streams(&self) {
        self.backend.end_streams();
    }

    /// Ends everything, when nothing is accepted any more.
    pub async fn shut_down(&self) {
        self.backend.shut_down().await;
    }

    fn call_of<'a>(&self, permit: &'a Permit<'_>, client: Client<'a>) -> Call<'a> {
        Call {
            request: permit.request(),
            caller: client.caller,
            era: client.era,
            streams: client.streams,
            timeout: self.request_timeout,
            patience: self.patience,
            held: client.held,
        }
    }
}

/// One message needs no stream, and tunnels hold streams back.
async fn stream(mut rest: mpsc::Receiver<Item>, patience: Duration) -> Outcome {
    match timeout(patience, rest.recv()).await {
        Ok(Some(Item::Last(answered))) => Outcome::Answered(answered),
        Ok(Some(Item::Message(first))) => Outcome::Streaming(Streaming { first: Some(first), rest }),
        Ok(None) => Outcome::Cancelled,
        Err(_) => Outcome::Streaming(Streaming { first: None, rest }),
    }
}

/// The answer alone, for clients that read nothing else.
async fn whole(mut rest: mpsc::Receiver<Item>) -> Outcome {
    loop {
        match rest.recv().await {
            Some(Item::Message(_)) => {}
            Some(Item::Last(answered)) => return Outcome::Answered(answered),
            None => return Outcome::Cancelled,
        }
    }
}
