//! A server of the modern era: each request is a POST of its own, with headers that mirror it, and to
//! close it is to cancel it (MCP 2026-07-28, "Streamable HTTP").

mod headers;
mod listen;
mod tools;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use self::tools::Tools;
use super::{
    Foreign, Link, cancelled_id,
    client::{Heard, Ticket},
    failure::{Failure, refused_in},
    http::Reply,
    incoming::{Incoming, one_line},
    sse::{Events, Place},
};
use crate::{
    edit::Edit,
    era::{HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION},
    message::{METHOD_NOT_FOUND, Message, Notification, Params, Request},
};

/// How long the first request may keep the others waiting: which era the server speaks shows in its
/// refusal, and a refusal is quick.
const VERDICT_MAX: Duration = Duration::from_secs(10);
/// How long a message without an answer may take.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(30);
/// Pages of `tools/list` that are asked for on our own account.
const PAGES_MAX: usize = 32;

/// The server.
pub(crate) struct Modern(Arc<Inner>);

struct Inner {
    link: Link,
    tools: Tools,
    tasks: TaskTracker,
    end: CancellationToken,
}

impl Modern {
    pub(crate) fn new(link: Link) -> Self {
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        Self(Arc::new(Inner { link, tools: Tools::default(), tasks, end }))
    }

    /// Sends `first`, a request; gives it back where a server of the legacy era might have refused it
    /// so.
    pub(crate) async fn begin(&self, first: Bytes) -> Option<Foreign> {
        let (verdict, foreign) = oneshot::channel();
        self.0.take(first, Some(verdict)).await;
        // No verdict is one, too: the server speaks the era, or takes its time.
        timeout(VERDICT_MAX, foreign).await.ok()?.ok()
    }

    /// Carries lines until there are no more, or until everything is to end.
    pub(crate) async fn run(&self, lines: &mut mpsc::Receiver<Bytes>) {
        let Inner { link, tasks, end, .. } = &*self.0;
        loop {
            let line = tokio::select! {
                () = link.closing.cancelled() => break,
                line = lines.recv() => line,
            };
            let Some(line) = line else { break };
            self.0.take(line, None).await;
        }
        link.wind_up().await;
        end.cancel();
        tasks.close();
        tasks.wait().await;
    }
}

impl Inner {
    /// One line of the client's.
    async fn take(self: &Arc<Self>, line: Bytes, verdict: Option<oneshot::Sender<Foreign>>) {
        match Message::parse(&line) {
            Err(error) => self.link.refuse(&error).await,
            Ok(Message::Request(request)) => {
                let listens = request.method == "subscriptions/listen";
                match self.link.client.open(request.id.as_json(), !listens) {
                    Ok(ticket) => {
                        let inner = Arc::clone(self);
                        self.spawn(async move { inner.answer(ticket, line.clone(), verdict).await });
                    }
                    Err(refusal) => self.link.client.tell(refusal).await,
                }
            }
            Ok(Message::Notification(notification)) => match cancelled_id(&notification) {
                // Its task ends, and with it its POST.
                Some(id) => {
                    self.link.client.cancel(id);
                }
                None => self.notify(&notification, line.clone()),
            },
            Ok(Message::Response(_)) => debug!("dropped an answer: servers of this era ask nothing"),
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

    /// The protocol has none of these; extensions may.
    fn notify(self: &Arc<Self>, notification: &Notification<'_>, line: Bytes) {
        let headers = headers::of_message(&notification.method, &notification.params);
        let inner = Arc::clone(self);
        self.spawn(async move {
            match timeout(NOTIFY_TIMEOUT, inner.link.http.post(&headers, line)).await {
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => warn!(%failure, "the server did not take a notification"),
                Err(_) => warn!("the server took too long to take a notification"),
            }
        });
    }

    /// Has a request answered, whatever comes; or hands it back, where the era may be to blame.
    async fn answer(self: Arc<Self>, ticket: Ticket, line: Bytes, verdict: Option<oneshot::Sender<Foreign>>) {
        let Ok(Message::Request(request)) = Message::parse(&line) else { return };
        let limit = self.link.request_timeout;
        let answered = tokio::select! {
            biased;
            () = ticket.closed.cancelled() => return,
            answered = self.exchange(&ticket, &request, &line, verdict.is_some()) => answered,
        };
        let Err(failure) = answered else { return };
        if let Some(verdict) = verdict
            && might_be_legacy(&failure, &request.method)
        {
            // Whoever waited has gone on when it took too long.
            match verdict.send(Foreign { ticket, line: line.clone(), failure }) {
                Ok(()) => {}
                Err(Foreign { ticket, failure, .. }) => ticket.fail(&failure).await,
            }
            return;
        }
        debug!(method = %request.method, %failure, ?limit, "a request failed");
        ticket.fail(&failure).await;
    }

    /// With `is_first`, an error of the server's is a [`Failure`] here, too: it may be about the era.
    async fn exchange(
        &self,
        ticket: &Ticket,
        request: &Request<'_>,
        line: &Bytes,
        is_first: bool,
    ) -> Result<(), Failure> {
        let headers = headers::of_request(request, &self.tools.headers());
        if request.method == "subscriptions/listen" {
            return self.subscribe(ticket, &headers, line).await;
        }
        let limit = self.link.request_timeout;
        let answered = async {
            match self.ask(ticket, request, &headers, line, is_first).await {
                Err(Failure::Refused(refused)) if refused.code == HEADER_MISMATCH && request.method == "tools/call" => {
                    // The tool may want headers that we have not heard of: the client has not listed
                    // it, or it has changed. Nothing has run.
                    self.list_tools(&request.params).await?;
                    let anew = headers::of_request(request, &self.tools.headers());
                    if anew == headers {
                        return Err(Failure::Refused(refused));
                    }
                    self.ask(ticket, request, &anew, line, is_first).await
                }
                answered => answered,
            }
        };
        // To give up closes the POST, which tells the server.
        timeout(limit, answered).await.unwrap_or(Err(Failure::TimedOut(limit)))
    }

    /// Posts a request and brings everything that comes of it to the client.
    async fn ask(
        &self,
        ticket: &Ticket,
        request: &Request<'_>,
        headers: &HeaderMap,
        line: &Bytes,
        is_first: bool,
    ) -> Result<(), Failure> {
        let looked_at = |message: Bytes| {
            if !is_first && request.method != "tools/list" {
                return Ok(message);
            }
            let line = one_line(message).map_err(Failure::Protocol)?;
            match refused_in(&line).filter(|_| is_first) {
                Some(refused) => Err(Failure::Refused(refused)),
                None if request.method == "tools/list" => Ok(self.tools.learn(line)),
                None => Ok(line),
            }
        };
        match self.link.http.post(headers, line.clone()).await?.reply {
            Reply::Message(message) => match self.hear(looked_at(message)?, ticket).await? {
                Heard::Answer => Ok(()),
                Heard::Other => Err(Failure::Protocol("it answered something else than the request".to_owned())),
            },
            Reply::Events(mut events) => {
                let mut place = Place::default();
                while let Some(data) = events.next(&mut place).await? {
                    if !data.is_empty() && self.hear(looked_at(data)?, ticket).await? == Heard::Answer {
                        return Ok(());
                    }
                }
                Err(Failure::Ended)
            }
            Reply::Accepted => Err(Failure::Protocol("it answered the request without an answer".to_owned())),
        }
    }

    async fn hear(&self, message: Bytes, ticket: &Ticket) -> Result<Heard, Failure> {
        self.link.client.hear(message, Some(ticket)).await
    }

    /// Asks for the tools on our own account, with what the client says of itself in `params`.
    async fn list_tools(&self, params: &Params<'_>) -> Result<(), Failure> {
        let meta = Edit::parse(&format!(r#"{{"_meta":{}}}"#, params.meta.to_json()))
            .map(|mut edit| edit.meta_remove("progressToken").to_json());
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let meta = meta.as_deref().unwrap_or("{}");
            let mut edit = Edit::parse(meta).unwrap_or_default();
            if let Some(cursor) = &cursor {
                edit.set("cursor", cursor.as_str());
            }
            let line =
                format!(r#"{{"jsonrpc":"2.0","id":"mcp-bridge","method":"tools/list","params":{}}}"#, edit.to_json());
            let headers = headers::of_message("tools/list", params);
            let answer = match self.link.http.post(&headers, line.into()).await?.reply {
                Reply::Message(message) => one_line(message).map_err(Failure::Protocol)?,
                Reply::Events(events) => answer_of(events).await?,
                Reply::Accepted => return Ok(()),
            };
            self.tools.learn(answer.clone());
            cursor = next_cursor(&answer);
            if cursor.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// The answer on a stream, without what comes before it.
async fn answer_of(mut events: Events) -> Result<Bytes, Failure> {
    let mut place = Place::default();
    while let Some(data) = events.next(&mut place).await? {
        let line = one_line(data).map_err(Failure::Protocol)?;
        if let Ok(Incoming::Answer { .. }) = Incoming::parse(std::str::from_utf8(&line).unwrap_or_default()) {
            return Ok(line);
        }
    }
    Err(Failure::Ended)
}

/// Where the next page begins, as JSON text.
fn next_cursor(answer: &Bytes) -> Option<String> {
    match Incoming::parse(std::str::from_utf8(answer).ok()?).ok()? {
        Incoming::Answer { outcome: Ok(result), .. } => {
            let edit = Edit::parse(result.get())?;
            edit.get("nextCursor").filter(|cursor| cursor.starts_with('"')).map(str::to_owned)
        }
        _ => None,
    }
}

/// Whether a server of the legacy era might refuse `method` so (MCP 2026-07-28, "Backward
/// Compatibility"). Which it is shows when it is asked as such.
fn might_be_legacy(failure: &Failure, method: &str) -> bool {
    match failure {
        Failure::Refused(refused) => {
            let is_modern = [HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION].contains(&refused.code)
                || (refused.code == METHOD_NOT_FOUND
                    && refused.status == StatusCode::NOT_FOUND
                    && method != "server/discover");
            !is_modern
        }
        Failure::Status { status, .. } => matches!(
            *status,
            StatusCode::BAD_REQUEST
                | StatusCode::NOT_FOUND
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::NOT_ACCEPTABLE
        ),
        _ => false,
    }
}
