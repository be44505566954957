//! A server of the modern era: each request is a POST of its own, with headers that mirror it, and to
//! close it is to cancel it (MCP 2026-07-28, "Streamable HTTP").

mod headers;
mod listen;
mod tools;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mcp_calculator::server::{CAPABILITIES_KEY, MODERN_VERSION, VERSION_KEY};
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
    era::{CLIENT_INFO_KEY, HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION},
    message::{METHOD_NOT_FOUND, Message, Notification, Params, Request},
    relay::translate::OURSELVES,
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

/// What the first request is to find out.
struct Verdict {
    /// It was refused as the other era might refuse it.
    refused: oneshot::Sender<Foreign>,
    /// The server speaks the era.
    spoken: CancellationToken,
}

impl Modern {
    pub(crate) fn new(link: Link) -> Self {
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        Self(Arc::new(Inner { link, tools: Tools::default(), tasks, end }))
    }

    /// Sends `first`, a request; gives it back where a server of the legacy era might have refused it
    /// so.
    pub(crate) async fn begin(&self, first: Bytes) -> Option<Foreign> {
        let (refused, foreign) = oneshot::channel();
        let spoken = CancellationToken::new();
        self.0.take(first, Some(Verdict { refused, spoken: spoken.clone() })).await;
        tokio::select! {
            () = spoken.cancelled() => None,
            // No verdict is one, too: the server speaks the era, or takes its time.
            foreign = timeout(VERDICT_MAX, foreign) => foreign.ok()?.ok(),
        }
    }

    /// Whether the server says what it is when it is asked.
    pub(crate) async fn answers(&self) -> bool {
        let params = discover_params();
        let line = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"server/discover","params":{params}}}"#);
        let headers = headers::of_message("server/discover", &Params::default());
        let asked = async {
            match self.0.link.http.post(&headers, line.into()).await?.reply {
                Reply::Message(message) => one_line(message).map_err(Failure::Protocol),
                Reply::Events(events) => answer_of(*events).await,
                Reply::Accepted => Err(Failure::Ended),
            }
        };
        let is_one = |answer: &Bytes| {
            let text = std::str::from_utf8(answer).unwrap_or_default();
            matches!(Incoming::parse(text), Ok(Incoming::Answer { outcome: Ok(result), .. })
                if result.get().contains("\"supportedVersions\""))
        };
        match asked.await {
            Ok(answer) => is_one(&answer),
            Err(failure) => {
                debug!(%failure, "the server does not speak the modern era");
                false
            }
        }
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
    async fn take(self: &Arc<Self>, line: Bytes, verdict: Option<Verdict>) {
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
    async fn answer(self: Arc<Self>, ticket: Ticket, line: Bytes, verdict: Option<Verdict>) {
        let Ok(Message::Request(request)) = Message::parse(&line) else { return };
        let limit = self.link.request_timeout;
        let answered = tokio::select! {
            biased;
            () = ticket.closed.cancelled() => return,
            answered = self.exchange(&ticket, &request, &line, verdict.as_ref()) => answered,
        };
        let Err(failure) = answered else { return };
        if let Some(verdict) = verdict
            && might_be_legacy(&failure, &request.method)
        {
            // Whoever waited has gone on when it took too long.
            match verdict.refused.send(Foreign { ticket, line: line.clone(), failure }) {
                Ok(()) => {}
                Err(Foreign { ticket, failure, .. }) => ticket.fail(&failure).await,
            }
            return;
        }
        debug!(method = %request.method, %failure, ?limit, "a request failed");
        ticket.fail(&failure).await;
    }

    /// With a `verdict` to be found, an error of the server's is a [`Failure`] here, too: it may be about
    /// the era.
    async fn exchange(
        &self,
        ticket: &Ticket,
        request: &Request<'_>,
        line: &Bytes,
        verdict: Option<&Verdict>,
    ) -> Result<(), Failure> {
        let headers = headers::of_request(request, &self.tools.headers());
        if request.method == "subscriptions/listen" {
            return self.subscribe(ticket, &headers, line).await;
        }
        let limit = self.link.request_timeout;
        let answered = async {
            match self.ask(ticket, request, &headers, line, verdict).await {
                Err(Failure::Refused(refused)) if refused.code == HEADER_MISMATCH && request.method == "tools/call" => {
                    // The tool may want headers that we have not heard of: the client has not listed
                    // it, or it has changed. Nothing has run.
                    let listed = self.list_tools(&request.params).await;
                    let anew = headers::of_request(request, &self.tools.headers());
                    if listed.is_err() || anew == headers {
                        return Err(Failure::Refused(refused));
                    }
                    self.ask(ticket, request, &anew, line, verdict).await
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
        verdict: Option<&Verdict>,
    ) -> Result<(), Failure> {
        let learnt = |line| if request.method == "tools/list" { self.tools.learn(line) } else { line };
        let looked_at = |message: Bytes| {
            if verdict.is_none() && request.method != "tools/list" {
                return Ok(message);
            }
            let line = one_line(message).map_err(Failure::Protocol)?;
            match (refused_in(&line), verdict) {
                (Some(refused), Some(_)) => Err(Failure::Refused(refused)),
                (_, Some(verdict)) => {
                    verdict.spoken.cancel();
                    Ok(learnt(line))
                }
                (_, None) => Ok(learnt(line)),
            }
        };
        match self.link.http.post(headers, line.clone()).await?.reply {
            Reply::Message(message) => match self.hear(looked_at(message)?, ticket).await? {
                Heard::Result | Heard::Refusal => Ok(()),
                Heard::Other => Err(Failure::Protocol("it answered something else than the request".to_owned())),
            },
            Reply::Events(mut events) => {
                let mut place = Place::default();
                while let Some(data) = events.next(&mut place).await? {
                    if !data.is_empty() && self.hear(looked_at(data)?, ticket).await?.is_answer() {
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
                Reply::Events(events) => answer_of(*events).await?,
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

/// What we say of ourselves when we ask for ourselves.
fn discover_params() -> String {
    format!(
        r#"{{"_meta":{{"{VERSION_KEY}":"{MODERN_VERSION}","{CLIENT_INFO_KEY}":{OURSELVES},"{CAPABILITIES_KEY}":{{}}}}}}"#
    )
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
