//! A client of one era and a server of the other: the bridge's own translation between them, as it
//! serves commands, with the remote server in the place of a command's processes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mcp_calculator::server::Era;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info};

use super::{
    remote::{
        Foreign, Link,
        client::{Client, Ticket},
        http::MESSAGE_MAX_BYTES,
        legacy::Legacy,
        modern::Modern,
    },
    stdio::Stdio,
    straight,
};
use crate::{
    backend::{
        Answered, Backend, Call, Conversation, Item, Opened, Reply,
        child::{Process, SpawnError, Start, Streams, Undertaker},
    },
    config::server::Isolation,
    edit::Edit,
    message::{IDENTITY_KEY, Message, Notification, Request},
    relay::command::{Command, Settings},
    scope::ScopeSet,
    telemetry::metrics::Metrics,
    token::{TokenVerifier as _, VerifiedToken, nobody::Nobody},
};

/// How long the server may take to show that it speaks the other era.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);
/// Sessions with the server at once: one for the client, and some for looking.
const SESSIONS_MAX: usize = 4;
/// Nothing is ended for want of use: its only user decides about the whole program.
const IDLE: Duration = Duration::from_secs(100 * 24 * 60 * 60);
/// How long the end of all sessions may take.
const END_TIMEOUT: Duration = Duration::from_millis(1200);

/// Whether the server answers in the era that is not the client's, and not in that.
pub(super) async fn is_possible(link: &Link, client: Era) -> bool {
    let asked = async {
        match client {
            Era::Legacy => Modern::new(link.clone()).answers().await,
            // An error of the first request may be about that request alone.
            Era::Modern => !Modern::new(link.clone()).answers().await && Legacy::new(link.clone()).answers().await,
        }
    };
    timeout(PROBE_TIMEOUT, asked).await.unwrap_or(false)
}

/// Carries messages between the eras until the end; `first` is the request that showed the need.
pub(super) async fn relay(link: &Link, first: Foreign, client: Era, lines: &mut mpsc::Receiver<Bytes>) {
    info!(?client, "the server speaks the other era; translating");
    let Some(face) = Face::new(link, client) else {
        return first.ticket.fail(&first.failure).await;
    };
    face.request(first.ticket, first.line).await;
    loop {
        let line = tokio::select! {
            () = link.closing.cancelled() => break,
            line = lines.recv() => line,
        };
        let Some(line) = line else { break };
        face.take(line).await;
    }
    link.wind_up().await;
    face.end().await;
}

/// The client's side of the translation.
struct Face {
    link: Link,
    era: Era,
    command: Arc<Command>,
    undertaker: Undertaker,
    caller: Arc<VerifiedToken>,
    /// What a legacy client speaks to.
    conversation: tokio::sync::Mutex<Option<Arc<dyn Conversation>>>,
    tasks: TaskTracker,
    over: CancellationToken,
}

impl Face {
    fn new(link: &Link, era: Era) -> Option<Self> {
        // Without random numbers there is no TLS either.
        let undertaker = Undertaker::unwatched().ok()?;
        let settings = Settings {
            program: Arc::new(Remote(link.clone())),
            isolation: Isolation::Session,
            pool: 0,
            pool_idle: IDLE,
            max_children: SESSIONS_MAX,
            tell_apart: false,
            start_timeout: PROBE_TIMEOUT,
            idle: IDLE,
            metrics: Arc::new(Metrics::default()),
        };
        let command = Arc::new(Command::new(settings, undertaker.clone()));
        let caller = Nobody::new(ScopeSet::default()).without_token()?;
        let (tasks, over) = (TaskTracker::new(), CancellationToken::new());
        Some(Self { link: link.clone(), era, command, undertaker, caller, conversation: None.into(), tasks, over })
    }

    /// One line of the client's.
    async fn take(&self, line: Bytes) {
        match Message::parse(&line) {
            Err(error) => self.link.refuse(&error).await,
            Ok(Message::Request(request)) => {
                let awaited = request.method != "subscriptions/listen";
                match self.link.client.open(request.id.as_json(), awaited) {
                    Ok(ticket) => self.request(ticket, line.clone()).await,
                    Err(refusal) => self.link.client.tell(refusal).await,
                }
            }
            Ok(Message::Notification(notification)) => self.notify(&notification).await,
            Ok(Message::Response(response)) => {
                if let Some(conversation) = self.conversation().await {
                    conversation.respond(&response).await;
                }
            }
        }
    }

    async fn conversation(&self) -> Option<Arc<dyn Conversation>> {
        self.conversation.lock().await.clone()
    }

    async fn notify(&self, notification: &Notification<'_>) {
        if let Some(conversation) = self.conversation().await {
            conversation.notify(notification).await;
        }
        if let Some(id) = super::remote::cancelled_id(notification) {
            self.link.client.cancel(id);
        }
    }

    async fn request(&self, ticket: Ticket, line: Bytes) {
        let Ok(Message::Request(request)) = Message::parse(&line) else { return };
        if self.era == Era::Legacy && request.method == "initialize" {
            return self.open(&ticket, &request).await;
        }
        let conversation = self.conversation().await;
        let answering = Answering {
            command: Arc::clone(&self.command),
            conversation,
            caller: Arc::clone(&self.caller),
            era: self.era,
            timeout: self.link.request_timeout,
            client: self.link.client.clone(),
        };
        let over = self.over.clone();
        let line = line.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = over.cancelled() => {}
                // To drop its reply cancels it.
                () = ticket.closed.cancelled() => {}
                () = answering.answer(&ticket, &line) => {}
            }
        });
    }

    /// The client's `initialize`.
    async fn open(&self, ticket: &Ticket, request: &Request<'_>) {
        let Opened { reply, conversation } =
            self.command.open(call(request, &self.caller, self.era, self.link.request_timeout)).await;
        if let Some(conversation) = conversation {
            let (speaking, client, over) = (Arc::clone(&conversation), self.link.client.clone(), self.over.clone());
            if let Some(earlier) = self.conversation.lock().await.replace(conversation) {
                earlier.end();
            }
            ticket.answer(reply.into_answer().message).await;
            self.tasks.spawn(async move {
                loop {
                    let message = tokio::select! {
                        () = over.cancelled() => return,
                        message = speaking.next_message() => message,
                    };
                    client.tell(message).await;
                }
            });
        } else {
            ticket.answer(reply.into_answer().message).await;
        }
    }

    async fn end(self) {
        if let Some(conversation) = self.conversation.lock().await.take() {
            conversation.end();
        }
        self.over.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let ended = async {
            self.command.shut_down().await;
            self.undertaker.close(END_TIMEOUT).await;
        };
        if timeout(END_TIMEOUT, ended).await.is_err() {
            debug!("the sessions with the server do not end");
        }
    }
}

/// One request's way.
struct Answering {
    command: Arc<Command>,
    conversation: Option<Arc<dyn Conversation>>,
    caller: Arc<VerifiedToken>,
    era: Era,
    timeout: Duration,
    client: Client,
}

impl Answering {
    async fn answer(&self, ticket: &Ticket, line: &Bytes) {
        let Ok(Message::Request(request)) = Message::parse(line) else { return };
        let call = call(&request, &self.caller, self.era, self.timeout);
        let reply = match &self.conversation {
            Some(conversation) => conversation.call(call).await,
            None => self.command.call(call).await,
        };
        match reply {
            Reply::Whole(answered) => ticket.answer(message(answered)).await,
            Reply::Stream(mut items) => {
                while let Some(item) = items.recv().await {
                    match item {
                        Item::Message(line) => self.client.tell(line).await,
                        Item::Last(answered) => return ticket.answer(message(answered)).await,
                    }
                }
            }
        }
    }
}

fn message(answered: Answered) -> Bytes {
    answered.into_answer().message
}

fn call<'a>(request: &'a Request<'a>, caller: &'a Arc<VerifiedToken>, era: Era, timeout: Duration) -> Call<'a> {
    Call { request, caller, era, streams: true, timeout, patience: Duration::ZERO, held: None }
}

/// The remote server, as what a command starts.
struct Remote(Link);

impl Start for Remote {
    fn name(&self) -> &str {
        "remote"
    }

    fn grace(&self) -> Duration {
        END_TIMEOUT / 2
    }

    fn start(
        &self,
        _identity: &[(&'static str, String)],
        undertaker: &Undertaker,
        until_over: Box<dyn Send + Sync>,
    ) -> Result<Process, SpawnError> {
        let link = self.0.clone();
        undertaker.adopt(MESSAGE_MAX_BYTES, until_over, |streams| serve(link, streams))
    }
}

/// One session with the server, in the era of what is said to it.
async fn serve(link: Link, Streams { stdin, stdout, end }: Streams) {
    let Stdio { lines: mut said, client, writer, .. } = Stdio::over(stdin, stdout, end.clone());
    let link = Link { client, closing: end, ..link };
    let (sender, mut lines) = mpsc::channel(1);
    let passing = async move {
        while let Some(line) = said.recv().await {
            if sender.send(without_identity(line)).await.is_err() {
                return;
            }
        }
    };
    let serving = async move {
        while let Some((foreign, _)) = straight(&link, &mut lines).await {
            foreign.ticket.fail(&foreign.failure).await;
        }
    };
    tokio::join!(passing, serving);
    // Ends with the last who could say something.
    let _ = writer.await;
}

/// `line` without what a command is told about its user: there is no verified user here, and it is
/// nobody's business on the network.
fn without_identity(line: Bytes) -> Bytes {
    let text = std::str::from_utf8(&line).unwrap_or_default();
    if !text.contains(IDENTITY_KEY) {
        return line;
    }
    let stripped = || {
        let mut message = Edit::parse(text)?;
        let params = Edit::parse(message.get("params")?)?.identity(None).to_json();
        Some(message.set("params", params).to_json().into())
    };
    stripped().unwrap_or(line)
}
