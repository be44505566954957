//! Legacy sessions with a modern server: the bridge is the legacy server that the client sees.

mod listening;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, try_join_all},
};
use mcp_calculator::server::Era;
use serde_json::value::RawValue;
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::timeout,
};

use super::{
    Served,
    ask::{self, Ask},
    children::{Child, StartError},
    kind::{Kind, Opening},
    listen,
    out::{self, Gone, Out},
    session::Session,
};
use crate::{
    backend::{
        Answer, Answered, Call, Conversation, Held, Opened, Reply, code_of,
        link::{Event, Exchange, Note, Notice},
    },
    edit::{Edit, Envelope},
    era::requested_version,
    message::{INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, Notification, Object, Params, Response, shown, text},
    relay::{
        owner::Owner,
        translate::{
            capabilities::{client_capabilities, initialize_result},
            errors::legacy_error,
            input::{Asked, asked, refusal, request_message, retry_params},
            messages::{LogLevel, Place, place},
            requests::{Route, route},
            results::plain_result,
            subscriptions::{Listen, all_lists},
        },
    },
    token::VerifiedToken,
};

/// How often one request may come back for more input. A person gives up before that.
const ROUNDS_MAX: usize = 32;

/// A legacy session and its modern server.
struct Adapted {
    served: Arc<Served>,
    caller: Arc<VerifiedToken>,
    session: Arc<Session>,
    /// What the client can do, as a modern client would declare it.
    capabilities: String,
    client_info: Option<String>,
    log_level: Mutex<Option<LogLevel>>,
    child: AsyncMutex<Option<Arc<Child>>>,
    /// What the client wants to hear of; whoever listens for it learns of changes.
    wanted: watch::Sender<Listen>,
    /// What the server was last asked for and has acknowledged, and what of it it grants.
    acknowledged: watch::Sender<(Listen, Listen)>,
}

/// Opens a session of a client that has sent `initialize`.
pub(super) async fn open(served: &Arc<Served>, call: Call<'_>) -> Opened {
    let id = call.request.id.as_json();
    let members = &call.request.params.members;
    let Some(version) = requested_version(&call.request.params) else {
        let answer = Answer::error(id, INVALID_PARAMS, "Invalid params: `protocolVersion` must be a string", None);
        return Opened { reply: Answered::Served(answer), conversation: None };
    };
    let adapted = Adapted {
        served: Arc::clone(served),
        caller: Arc::clone(call.caller),
        session: Arc::new(Session::new()),
        capabilities: client_capabilities(members.get("capabilities").map_or("{}", RawValue::get)),
        client_info: members.get("clientInfo").map(|info| info.get().to_owned()),
        log_level: Mutex::new(None),
        child: AsyncMutex::new(None),
        wanted: watch::Sender::new(Listen::default()),
        acknowledged: watch::Sender::new(Default::default()),
    };
    let child = match timeout(call.timeout, adapted.living()).await {
        Ok(Ok(child)) => child,
        Ok(Err(error)) => return Opened { reply: served.not_started(id, &error), conversation: None },
        Err(_) => return Opened { reply: Answered::TimedOut(out::late(id, call.timeout)), conversation: None },
    };
    let discovered = match child.opening() {
        Opening::Modern(result) => std::str::from_utf8(result).ok(),
        _ => None,
    };
    let Some(result) = discovered.and_then(|discovered| initialize_result(discovered, &version)) else {
        let answer =
            Answer::error(id, INTERNAL_ERROR, "Internal error: the server says nothing of use about itself", None);
        return Opened { reply: Answered::Served(answer), conversation: None };
    };
    adapted.wanted.send_replace(all_lists(&listen::capabilities(&child)));
    let adapted = Arc::new(adapted);
    served.tasks.spawn(Arc::clone(&adapted).listen());
    let reply = Answered::Served(Answer::result(id, &result));
    Opened { reply, conversation: Some(Arc::new(AdaptedSession(adapted))) }
}

impl Adapted {
    /// The session's server, or a new one if it has died: a modern server keeps nothing that the
    /// next one would have to be told.
    async fn living(&self) -> Result<Arc<Child>, StartError> {
        let mut kept = self.child.lock().await;
        if let Some(child) = kept.as_ref().filter(|child| child.link().end().is_none()) {
            return Ok(Arc::clone(child));
        }
        *kept = None;
        let owner = Owner::of(&self.caller);
        let child = if self.served.is_shared() {
            self.served.child_for(&owner, &self.caller, &Kind::Modern).await?
        } else {
            Arc::new(self.served.take_child(&owner, &self.caller, &Kind::Modern, None).await?)
        };
        *kept = Some(Arc::clone(&child));
        Ok(child)
    }

    fn envelope<'e>(&'e self, level: Option<LogLevel>) -> Envelope<'e> {
        Envelope {
            capabilities: &self.capabilities,
            client_info: self.client_info.as_deref(),
            log_level: level.map(LogLevel::as_str),
        }
    }

    async fn work(&self, request: &Ask, local: Local, out: &Out) {
        let empty = || Ok(Bytes::from_static(b"{}"));
        match (route(Era::Legacy, &request.method), request.method.as_str(), local) {
            (Route::Forward, _, local) => self.forward(request, local.params, out).await,
            (Route::Bridge, "ping", _) => out.served(&empty()).await,
            (Route::Bridge, "logging/setLevel", Local { level: Some(level), .. }) => {
                *lock(&self.log_level) = Some(level);
                out.served(&empty()).await;
            }
            (Route::Bridge, "logging/setLevel", _) => {
                out.error(INVALID_PARAMS, "Invalid params: no such log level").await
            }
            (Route::Bridge, "resources/subscribe", Local { uri: Some(uri), .. }) => self.subscribe(uri, out).await,
            (Route::Bridge, "resources/unsubscribe", Local { uri: Some(uri), .. }) => {
                self.wanted.send_modify(|wanted| wanted.resources.retain(|known| *known != uri));
                // Whoever subscribes again has to wait for a new acknowledgement.
                self.acknowledged.send_modify(|(asked, _)| asked.resources.retain(|known| *known != uri));
                out.served(&empty()).await;
            }
            (Route::Bridge, "resources/subscribe" | "resources/unsubscribe", _) => {
                out.error(INVALID_PARAMS, "Invalid params: `uri` must be a string").await;
            }
            (_, method, _) => out.error(METHOD_NOT_FOUND, &format!("Method not found: {}", shown(method))).await,
        }
    }

    /// Legacy request, modern server: as often as it asks for input.
    async fn forward(&self, request: &Ask, params: String, out: &Out) {
        let mut attempt = params.clone();
        let mut progress = None;
        for _ in 0..ROUNDS_MAX {
            let child = match self.living().await {
                Ok(child) => child,
                Err(error) => return self.served.unavailable(out, &error).await,
            };
            let mut exchange = match request.send(child.link(), Some(&attempt)).await {
                Ok(exchange) => exchange,
                Err(ended) => return out.lost(&ended).await,
            };
            let Some(outcome) = follow(&mut exchange, &child, &mut progress, out).await else { return };
            let result = match outcome {
                Ok(result) => result,
                Err(error) => return self.failure(request, &error, out).await,
            };
            let Ok(result) = std::str::from_utf8(&result) else {
                return out.error(INTERNAL_ERROR, "Internal error: the server's result is not text").await;
            };
            self.served.seen_result(&request.method, &Bytes::copy_from_slice(result.as_bytes()));
            match asked(result) {
                Ok(None) => {
                    return match plain_result(&request.method, result) {
                        Some(result) => out.served(&Ok(result.into())).await,
                        None => out.error(INTERNAL_ERROR, "Internal error: the server's result is not complete").await,
                    };
                }
                Ok(Some(questions)) => match self.ask_client(&questions, request.streams, out).await {
                    Ok(answers) => attempt = retry_params(&params, &answers, questions.state.map(RawValue::get)),
                    Err(error) => return out.served(&Err(error)).await,
                },
                Err(error) => return out.error(INTERNAL_ERROR, &format!("Internal error: {error}")).await,
            }
        }
        out.error(INTERNAL_ERROR, "Internal error: the server asks for input again and again").await;
    }

    /// Asks the client, all at once, and waits for all its answers; or for its first refusal.
    /// One that does not read a stream as its answer, or has left it, is asked on that of the session.
    async fn ask_client(
        &self,
        questions: &Asked<'_>,
        streams: bool,
        out: &Out,
    ) -> Result<Vec<(String, String)>, Bytes> {
        let _turn = out.turn_of_client();
        let mut waiting = Vec::new();
        for question in &questions.requests {
            let entered = self.session.ask(None);
            let (number, answered) =
                entered.ok_or_else(|| error_object("too many requests wait for this client's answer"))?;
            let message = request_message(number, &question.method, question.params.map(RawValue::get));
            let message = Bytes::from(message);
            if !streams || !out.message(message.clone()).await {
                self.session.outbox.put(message);
            }
            waiting.push((question, answered));
        }
        let answers = waiting.into_iter().map(|(question, answered)| async move {
            let answer = match answered.await {
                Ok(Ok(result)) => String::from_utf8_lossy(&result).into_owned(),
                Ok(Err(error)) => refusal(&question.method).map(str::to_owned).ok_or(error)?,
                Err(_) => return Err(error_object("the session has ended")),
            };
            Ok((question.key.clone().into_owned(), answer))
        });
        try_join_all(answers).await
    }

    async fn failure(&self, request: &Ask, error: &Bytes, out: &Out) {
        let text = std::str::from_utf8(error).unwrap_or("{}");
        let edit = Edit::parse(text);
        let data = edit.as_ref().and_then(|error| error.get("data"));
        let translated = legacy_error(&request.method, code_of(error), data);
        out.served(&Err(super::translated_error(text, translated).into())).await;
    }
}

/// The answer of one attempt; `None` when the client has been told that there is none.
///
/// `progress` is how far the client knows the request to be: a server that asked begins anew, and
/// what a legacy client hears must increase ("Progress").
async fn follow(
    exchange: &mut Exchange,
    child: &Child,
    progress: &mut Option<f64>,
    out: &Out,
) -> Option<Result<Bytes, Bytes>> {
    loop {
        match exchange.next().await {
            Event::Note(Note::Notice(notice)) if notice.method == "notifications/progress" => {
                let reported = reported(&notice);
                if progress.is_none_or(|known| reported.is_none_or(|reported| reported > known)) {
                    *progress = reported.or(*progress);
                    out.message(notice.message()).await;
                }
            }
            Event::Note(Note::Notice(notice)) => {
                if place(&notice.method) == Place::Request {
                    out.message(notice.message()).await;
                }
            }
            Event::Note(Note::Asked(asked)) => {
                let _ = child.link().refuse(&asked, "a modern server does not send requests").await;
            }
            Event::Answer(outcome) => return Some(outcome),
            Event::Closed => {
                out.error(INTERNAL_ERROR, "Internal error: the server gave the request up").await;
                return None;
            }
            Event::Lost(ended) => {
                out.lost(&ended).await;
                return None;
            }
        }
    }
}

/// How far a `notifications/progress` says that its request is.
fn reported(notice: &Notice) -> Option<f64> {
    let params: Object<'_> = serde_json::from_slice(notice.params.as_deref()?).ok()?;
    params.get("progress")?.get().parse().ok()
}

fn error_object(message: &str) -> Bytes {
    serde_json::json!({ "code": INTERNAL_ERROR, "message": format!("Internal error: {message}") }).to_string().into()
}

/// What of a request the bridge needs to answer it itself, or to send it on.
struct Local {
    params: String,
    uri: Option<String>,
    level: Option<LogLevel>,
}

/// The session as its gate sees it.
struct AdaptedSession(Arc<Adapted>);

impl Conversation for AdaptedSession {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Reply> {
        let adapted = Arc::clone(&self.0);
        let identity = ask::identity(call.caller);
        let level = *lock(&adapted.log_level);
        let params: &Params<'_> = &call.request.params;
        let local = Local {
            params: ask::params(call.request, &identity).for_modern(&adapted.envelope(level)).to_json(),
            uri: params.members.get("uri").and_then(text).map(std::borrow::Cow::into_owned),
            level: LogLevel::said(params),
        };
        let request = Ask::of(&call);
        let timeout = Some(call.timeout);
        let held = call.held.map(Held::keep);
        // Before the task, which a cancellation may overtake.
        let in_flight = self.0.session.begin(&request.id);
        let reply =
            out::start(&self.0.served.tasks, request.id.clone(), timeout, Gone::GoesOn, move |out| async move {
                let _held = held;
                tokio::select! {
                    () = adapted.work(&request, local, &out) => {}
                    // What was cancelled is not answered.
                    () = in_flight.cancelled() => {}
                }
            });
        std::future::ready(Reply::Stream(reply)).boxed()
    }

    fn notify<'a>(&'a self, notification: &'a Notification<'a>) -> BoxFuture<'a, ()> {
        if notification.method == "notifications/cancelled" {
            self.0.session.cancel(&notification.params);
        }
        // A modern server takes no notifications from its client.
        std::future::ready(()).boxed()
    }

    fn respond<'a>(&'a self, response: &'a Response<'a>) -> BoxFuture<'a, ()> {
        self.0.session.answer(response);
        std::future::ready(()).boxed()
    }

    fn next_message(&self) -> BoxFuture<'_, Bytes> {
        self.0.session.outbox.take().boxed()
    }

    fn end(&self) {
        self.0.end();
    }
}

impl Drop for AdaptedSession {
    /// A session for which there was no room has a server and a task all the same.
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Adapted {
    fn end(&self) {
        self.session.end();
        if let Ok(mut child) = self.child.try_lock() {
            *child = None;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
