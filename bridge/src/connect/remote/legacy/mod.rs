//! A server of the legacy era: sessions, a stream of its own words, and streams that are resumed
//! (MCP 2025-11-25, "Streamable HTTP").
//!
//! A session that the server forgets is opened again with the client's own handshake, and the message
//! that met with the loss is sent again: it was refused unread. What was under way in the old session
//! is lost with it, and whoever asked is told. What the client has set for the session's whole life is set
//! again, where the server still lets it; a session without it is better than none.

mod renewal;
mod session;
mod stream;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::{
    sync::{mpsc, oneshot},
    time::{timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use self::session::{Opening, Session, Wish, is_lost, result_of};
use super::{
    Foreign, Link, cancelled_id,
    client::{Heard, Ticket},
    failure::{Failure, refused_in},
    http::{Replied, Reply},
    incoming::{Incoming, one_line},
    sse::{Events, Place},
};
use crate::{
    message::{INTERNAL_ERROR, Message, Notification, Request},
    relay::translate::capabilities::initialize_params,
    sync::Locked as _,
};

/// How long a message waits for the notification before it: HTTP keeps no order, and a request must
/// not overtake `notifications/initialized`.
const ORDER_MAX: Duration = Duration::from_secs(5);
/// How long a message without an answer may take altogether.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the server may take to end the session: a client kills who does not end soon.
const DELETE_TIMEOUT: Duration = Duration::from_secs(1);

/// The server.
pub(crate) struct Legacy(Arc<Inner>);

struct Inner {
    link: Link,
    session: Mutex<Option<Arc<Session>>>,
    opening: Opening,
    renewing: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
    /// Ends all tasks.
    end: CancellationToken,
}

impl Legacy {
    pub(crate) fn new(link: Link) -> Self {
        Self(Arc::new(Inner {
            link,
            session: Mutex::default(),
            opening: Opening::default(),
            renewing: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
        }))
    }

    /// Sends `first`; gives it back where it is an `initialize` that a server of the modern era might
    /// have refused so.
    pub(crate) async fn begin(&self, first: Bytes) -> Option<Foreign> {
        match Message::parse(&first) {
            Ok(Message::Request(request)) if request.method == "initialize" => self.0.open(&request, &first).await,
            _ => {
                self.0.take(first).await;
                None
            }
        }
    }

    /// Whether the server opens a session; it is ended again.
    pub(crate) async fn answers(&self) -> bool {
        let params = initialize_params("{}", None);
        let line = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{params}}}"#);
        match self.0.shake_hands(&line.into()).await {
            Ok((session, _)) => {
                *self.0.session.locked() = Some(Arc::new(session));
                self.0.leave().await;
                true
            }
            Err(failure) => {
                debug!(%failure, "the server does not speak the legacy era");
                false
            }
        }
    }

    /// Carries lines until there are no more, or until everything is to end; then ends the session.
    pub(crate) async fn run(&self, lines: &mut mpsc::Receiver<Bytes>) {
        let Inner { link, tasks, end, .. } = &*self.0;
        loop {
            let line = tokio::select! {
                () = link.closing.cancelled() => break,
                line = lines.recv() => line,
            };
            let Some(line) = line else { break };
            tokio::select! {
                () = link.closing.cancelled() => break,
                () = self.0.take(line) => {}
            }
        }
        link.wind_up().await;
        end.cancel();
        tasks.close();
        tasks.wait().await;
        self.0.leave().await;
    }
}

impl Inner {
    /// One line of the client's.
    async fn take(self: &Arc<Self>, line: Bytes) {
        match Message::parse(&line) {
            Err(error) => self.link.refuse(&error).await,
            Ok(Message::Request(request)) if request.method == "initialize" => {
                if let Some(Foreign { ticket, failure, .. }) = self.open(&request, &line).await {
                    ticket.fail(&failure).await;
                }
            }
            Ok(Message::Request(request)) => match self.link.client.open(request.id.as_json(), true) {
                Ok(ticket) => {
                    let wish = self.opening.wish(&request.method, request.params.target.as_deref(), &line);
                    let inner = Arc::clone(self);
                    self.spawn(async move { inner.answer(&ticket, line.clone(), wish).await });
                }
                Err(refusal) => self.link.client.tell(refusal).await,
            },
            Ok(Message::Notification(notification)) => self.notify(&notification, line.clone()).await,
            Ok(Message::Response(_)) => {
                let inner = Arc::clone(self);
                self.spawn(async move { inner.deliver(line, "an answer of the client's").await });
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// The session as it is now.
    fn session(&self) -> Option<Arc<Session>> {
        self.session.locked().clone()
    }

    /// Passes a notification on, in its place among the others.
    async fn notify(self: &Arc<Self>, notification: &Notification<'_>, line: Bytes) {
        let inner = Arc::clone(self);
        let is_initialized = notification.method == "notifications/initialized";
        if is_initialized {
            self.opening.change(|said| said.initialized = Some(line.clone()));
        }
        let what = notification.method.clone().into_owned();
        let (sent, done) = oneshot::channel::<()>();
        self.spawn(async move {
            inner.deliver(line, &what).await;
            drop(sent);
        });
        // An error says that it is done.
        let _ = timeout(ORDER_MAX, done).await;
        if is_initialized && let Some(session) = self.session() {
            self.listen(session);
        }
        // The server has heard of it first: in this era, to close a stream cancels nothing.
        if let Some(id) = cancelled_id(notification) {
            self.link.client.cancel(id);
        }
    }

    /// Sends a message that has no answer. What goes wrong is logged: there is nobody to tell.
    async fn deliver(self: &Arc<Self>, line: Bytes, what: &str) {
        match timeout(NOTIFY_TIMEOUT, self.post_renewing(&line)).await {
            Ok(Ok((replied, _))) => {
                if let Reply::Message(_) | Reply::Events(_) = replied.reply {
                    debug!(what, "the server answered what has no answer");
                }
            }
            Ok(Err(failure)) => warn!(what, %failure, "the server did not take it"),
            Err(_) => warn!(what, "the server took too long to take it"),
        }
    }

    /// Has a request answered, whatever comes. `wish` is what it sets, if the server grants it.
    async fn answer(self: &Arc<Self>, ticket: &Ticket, line: Bytes, wish: Option<Wish>) {
        let limit = self.link.request_timeout;
        let answered = tokio::select! {
            biased;
            // Answered on another stream, or cancelled.
            () = ticket.closed.cancelled() => return,
            answered = timeout(limit, self.exchange(ticket, &line)) => answered,
        };
        match answered {
            Ok(Ok(heard)) => {
                if let Some(wish) = wish.filter(|_| heard == Heard::Result) {
                    self.opening.keep(wish);
                }
            }
            Ok(Err(failure)) => ticket.fail(&failure).await,
            Err(_) => {
                ticket.fail(&Failure::TimedOut(limit)).await;
                let cancelled = format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{},"reason":"timed out"}}}}"#,
                    ticket.id
                );
                self.deliver(cancelled.into(), "the end of a request that took too long").await;
            }
        }
    }

    async fn exchange(self: &Arc<Self>, ticket: &Ticket, line: &Bytes) -> Result<Heard, Failure> {
        let (replied, session) = self.post_renewing(line).await?;
        match replied.reply {
            Reply::Message(message) => match self.link.client.hear(message, Some(ticket)).await? {
                heard @ (Heard::Result | Heard::Refusal) => Ok(heard),
                Heard::Other => Err(Failure::Protocol("it answered something else than the request".to_owned())),
            },
            Reply::Events(events) => self.follow(ticket, *events, session.as_deref()).await,
            Reply::Accepted => Err(Failure::Protocol("it answered the request without an answer".to_owned())),
        }
    }

    /// Posts in the session as it is; once more in a new one, when the server has forgotten it.
    async fn post_renewing(self: &Arc<Self>, line: &Bytes) -> Result<(Replied, Option<Arc<Session>>), Failure> {
        let Some(session) = self.session() else {
            // A server may have something to say to whoever has not shaken hands.
            return Ok((self.link.http.post(&HeaderMap::new(), line.clone()).await?, None));
        };
        match self.link.http.post(&session.headers(), line.clone()).await {
            Err(failure) if is_lost(&session, &failure) => {
                let renewed = self.renew(&session).await?;
                let replied = self.link.http.post(&renewed.headers(), line.clone()).await?;
                Ok((replied, Some(renewed)))
            }
            replied => Ok((replied?, Some(session))),
        }
    }

    /// The client's own `initialize`.
    async fn open(self: &Arc<Self>, request: &Request<'_>, line: &Bytes) -> Option<Foreign> {
        let ticket = match self.link.client.open(request.id.as_json(), true) {
            Ok(ticket) => ticket,
            Err(refusal) => {
                self.link.client.tell(refusal).await;
                return None;
            }
        };
        self.leave().await;
        let failure = match timeout(self.link.request_timeout, self.shake_hands(line)).await {
            Ok(Ok((session, answer))) => {
                self.opening.change(|said| {
                    *said = session::Said { initialize: Some(line.clone()), ..session::Said::default() };
                });
                *self.session.locked() = Some(Arc::new(session));
                ticket.answer(answer).await;
                return None;
            }
            Ok(Err(failure)) => failure,
            Err(_) => Failure::TimedOut(self.link.request_timeout),
        };
        if might_be_modern(&failure) {
            return Some(Foreign { ticket, line: line.clone(), failure });
        }
        ticket.fail(&failure).await;
        None
    }

    /// Sends `initialize`; gives the session and the server's answer, on one line.
    async fn shake_hands(&self, initialize: &Bytes) -> Result<(Session, Bytes), Failure> {
        let Replied { reply, headers } = self.link.http.post(&HeaderMap::new(), initialize.clone()).await?;
        let answer = self.granted(reply).await?;
        let session = Session::new(&headers, result_of(std::str::from_utf8(&answer).unwrap_or_default())?)?;
        Ok((session, answer))
    }

    /// The answer to a request of our own, on one line, if it has a result.
    async fn granted(&self, reply: Reply) -> Result<Bytes, Failure> {
        let answer = match reply {
            Reply::Message(message) => one_line(message).map_err(Failure::Protocol)?,
            Reply::Events(events) => self.first_answer(*events).await?,
            Reply::Accepted => return Err(Failure::Protocol("it answered the request without an answer".to_owned())),
        };
        refused_in(&answer).map_or(Ok(answer), |refused| Err(Failure::Refused(refused)))
    }

    /// The answer on a stream; what comes before it is the client's to hear.
    async fn first_answer(&self, mut events: Events) -> Result<Bytes, Failure> {
        let mut place = Place::default();
        while let Some(data) = events.next(&mut place).await? {
            let line = one_line(data).map_err(Failure::Protocol)?;
            match Incoming::parse(std::str::from_utf8(&line).unwrap_or_default()) {
                Ok(Incoming::Answer { .. }) => return Ok(line),
                Ok(_) => self.link.client.tell(line).await,
                Err(_) if line.is_empty() => {}
                Err(error) => return Err(Failure::Protocol(error)),
            }
        }
        Err(Failure::Ended)
    }

    /// Ends the session, if there is one.
    async fn leave(&self) {
        let session = self.session.locked().take();
        if let Some(session) = session {
            self.end(&session).await;
        }
    }

    /// Ends `session` here, and at the server.
    async fn end(&self, session: &Session) {
        session.over.cancel();
        if !session.has_id() {
            return;
        }
        let deadline = tokio::time::Instant::now() + DELETE_TIMEOUT;
        match timeout_at(deadline, self.link.http.delete(&session.headers())).await {
            Ok(Ok(status)) => debug!(%status, "ended the session"),
            Ok(Err(failure)) => debug!(%failure, "could not end the session"),
            Err(_) => debug!("the server took too long to end the session"),
        }
    }
}

/// Whether a server of the modern era might refuse `initialize` so. Which it is shows when it is asked
/// as such.
fn might_be_modern(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(refused) => refused.code != INTERNAL_ERROR,
        Failure::Status { status, .. } => {
            matches!(*status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
        }
        _ => false,
    }
}
