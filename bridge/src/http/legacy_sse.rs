//! HTTP+SSE, the transport of 2024-11-05 (MCP 2024-11-05, "HTTP with SSE"): a client opens a stream,
//! is told there where to send its messages, and hears everything on the stream.
//!
//! What the gate asks of every request it has asked before it comes here.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, Response, StatusCode, Uri, request::Parts};
use mcp_calculator::server::Era;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    backend::{Answer, Answered, Conversation, Item, Opened, Reply},
    http::{
        body,
        gate::{Gate, User},
        headers::Accepts,
        places::Taken,
        record::Record,
        respond::{self, Body, Refusal},
        sse,
    },
    message::{INTERNAL_ERROR, INVALID_REQUEST, Message, Request},
    policy::Permit,
    relay::{
        Client,
        line::{Line, Voice},
        session::{InUse, SessionId},
    },
    telemetry::labels::MethodLabel,
    token::VerifiedToken,
};

/// Names the session in the query of a POST, as the SDKs of the time did.
const SESSION_KEY: &str = "sessionId";

impl Gate {
    /// Opens a session with its stream, which says first where messages go.
    pub(super) fn open_line(
        &self,
        headers: &HeaderMap,
        user: User,
        record: &mut Record<'_>,
    ) -> Result<Response<Body>, Refusal> {
        record.label = MethodLabel::Get;
        if !Accepts::of(headers).events {
            return Err(Refusal::NotAcceptable { offered: "text/event-stream" });
        }
        let opened = self.sessions.open_line(&user.verified, Instant::now());
        let (session, everything) = opened.map_err(|_| Refusal::SessionsFull { id: "null".to_owned() })?;
        let endpoint = format!("{}?{SESSION_KEY}={}", self.paths.messages(), session.header_value());
        record.allowed = true;
        let source = sse::Source::Everything { endpoint, everything };
        Ok(self.stream(source, user.token, user.verified))
    }

    /// Takes one message: 202, and whatever it leads to is said on the session's stream. What is wrong
    /// with the HTTP request or its token is told here, as at the MCP endpoint.
    pub(super) async fn take_message<B>(
        &self,
        head: &Parts,
        body: &mut Option<B>,
        user: User,
        record: &mut Record<'_>,
    ) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        body::check_type(&head.headers)?;
        // Before the body: whoever has no session has nothing to say here.
        let (line, in_use) = self.line(&head.uri, &user.verified).ok_or_else(gone)?;
        let body = body.take().ok_or(Refusal::BrokenBody)?;
        let body = body::read(&head.headers, body, &self.limits).await?;
        let User { verified: caller, place, .. } = user;
        match Message::parse(&body).map_err(Refusal::Unparsable)? {
            Message::Request(request) => {
                record.asks(&request.method, request.params.target.as_deref());
                let taken = Taken { place, in_use: Some(in_use) };
                if !line.say(self.voice(request, &line, &caller, taken, record)).await? {
                    return Err(gone());
                }
            }
            Message::Notification(notification) => {
                record.asks(&notification.method, None);
                let permit = self.judge.permit_notification(notification, &caller, record).await?;
                self.relay.notify(&permit, &*line).await;
            }
            Message::Response(response) => {
                record.label = MethodLabel::Response;
                record.allowed = true;
                line.respond(&response).await;
            }
        }
        Ok(respond::empty(StatusCode::ACCEPTED))
    }

    fn line(&self, uri: &Uri, caller: &VerifiedToken) -> Option<(Arc<Line>, InUse)> {
        self.sessions.line(&session_of(uri)?, caller, Instant::now())
    }

    /// Judges a request and begins to carry it out; gives what the stream will say about it.
    async fn voice(
        &self,
        request: Request<'_>,
        line: &Arc<Line>,
        caller: &Arc<VerifiedToken>,
        taken: Taken,
        record: &mut Record<'_>,
    ) -> Result<Voice, Refusal> {
        let permit = match self.judge.permit(request, caller, Era::Legacy, record).await {
            Ok(permit) => permit,
            Err(refusal) => {
                let Some(message) = respond::as_message(&refusal, &self.challenges) else { return Err(refusal) };
                self.note_refusal(&refusal, record);
                return Ok(voice(one(message), taken));
            }
        };
        if permit.request().method == "initialize" {
            return Ok(self.opening(&permit, line, caller, taken));
        }
        let conversation = Arc::clone(line) as Arc<dyn Conversation>;
        // Nothing outlives the stream that has the place.
        let client = Client { caller, era: Era::Legacy, streams: true, conversation: Some(&conversation), held: None };
        let shown = self.shown(&permit, caller);
        Ok(match self.relay.begin(&permit, client).await {
            Reply::Whole(answered) => voice(one(shown(answered).into_answer().message), taken),
            Reply::Stream(items) => voice(several(items, shown), taken),
        })
    }

    /// Begins the session's conversation. A server may take its time to start, so that happens when
    /// the stream listens to what is returned, and ends with the stream.
    fn opening(&self, permit: &Permit<'_>, line: &Arc<Line>, caller: &Arc<VerifiedToken>, taken: Taken) -> Voice {
        let id = permit.request().id.to_json();
        if !line.begin() {
            let text = "Invalid Request: this session has been initialized; open another stream";
            return voice(one(Answer::error(&id, INVALID_REQUEST, text, None).message), taken);
        }
        let (relay, line, caller, permit) =
            (Arc::clone(&self.relay), Arc::clone(line), Arc::clone(caller), permit.keep());
        let opening = async move {
            let Some(permit) = permit.permit() else {
                line.opened(None);
                return Answer::error(&id, INTERNAL_ERROR, "Internal error", None).message;
            };
            let client = Client { caller: &caller, era: Era::Legacy, streams: true, conversation: None, held: None };
            let Opened { reply, conversation } = relay.open(&permit, client).await;
            // Before the answer, after which the client may send more.
            line.opened(conversation);
            reply.into_answer().message
        };
        voice(stream::once(opening), taken)
    }
}

/// The session that a query names, once.
fn session_of(uri: &Uri) -> Option<SessionId> {
    let mut named = uri.query()?.split('&').filter_map(|pair| pair.strip_prefix(SESSION_KEY)?.strip_prefix('='));
    let session = SessionId::parse(named.next()?.as_bytes())?;
    named.next().is_none().then_some(session)
}

fn gone() -> Refusal {
    Refusal::SessionUnknown { id: "null".to_owned() }
}

/// One message.
fn one(message: Bytes) -> impl Stream<Item = Bytes> + Send + 'static {
    stream::once(std::future::ready(message))
}

/// All messages of a reply.
fn several(
    mut items: mpsc::Receiver<Item>,
    shown: impl Fn(Answered) -> Answered + Send + 'static,
) -> impl Stream<Item = Bytes> + Send + 'static {
    stream::poll_fn(move |cx| items.poll_recv(cx)).map(move |item| match item {
        Item::Message(message) => message,
        Item::Last(answered) => shown(answered).into_answer().message,
    })
}

/// What is said about one request, which keeps what it has taken until the stream has taken all of it. So a
/// client that reads nothing uses up its user's share, and no more memory than that.
fn voice(said: impl Stream<Item = Bytes> + Send + 'static, taken: Taken) -> Voice {
    said.inspect(move |_| {
        let _held = &taken;
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_one_session() {
        let id = "0123456789abcdef0123456789abcdef";
        let parsed = SessionId::parse(id.as_bytes());
        for (query, expected) in [
            (format!("?sessionId={id}"), parsed),
            (format!("?x=1&sessionId={id}&y"), parsed),
            (format!("?sessionId={id}&sessionId={id}"), None),
            (format!("?sessionId=x&sessionId={id}"), None),
            (format!("?sessionid={id}"), None),
            (format!("?session_id={id}"), None),
            (format!("?xsessionId={id}"), None),
            (format!("?sessionId={id}0"), None),
            (format!("?sessionId={}", &id[1..]), None),
            ("?sessionId=".to_owned(), None),
            ("?sessionId".to_owned(), None),
            ("?".to_owned(), None),
            (String::new(), None),
        ] {
            let uri: Uri = format!("/mcp/messages{query}").parse().expect("a URI");
            assert_eq!(session_of(&uri), expected, "{query}");
        }
    }
}
