//! Legacy sessions with a legacy server: nearly everything passes through.

mod voice;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use mcp_calculator::server::LEGACY_VERSIONS;
use tokio::{sync::Mutex as AsyncMutex, time::timeout};
use tracing::{debug, warn};

use super::{
    Served,
    ask::{self, Ask},
    children::{Child, StartError},
    ear::Hearing,
    kind::Kind,
    listen::Subscription,
    opening::LATE,
    out::{self, Gone, Out},
    session::{self, Questions, Session},
};
use crate::{
    backend::{
        Answer, Answered, Call, Conversation, Held, Opened, Reply,
        link::{Event, Exchange, Note, Outgoing},
    },
    edit::Edit,
    era::requested_version,
    message::{INVALID_PARAMS, Notification, Response, quoted, text},
    relay::translate::subscriptions::Listen,
    token::VerifiedToken,
};

/// Why a server is no use to a client that waits less long than it may take.
const LATE_FOR_CLIENT: &str = "it did not answer `initialize` in time (--request-timeout)";

/// A legacy session and its server.
pub(super) struct Native {
    served: Arc<Served>,
    caller: Arc<VerifiedToken>,
    session: Arc<Session>,
    /// How long a server may take for what the client tells it.
    timeout: Duration,
    /// What the client began with, for a server that has to be started again.
    initialize: String,
    /// The server; `None` until it has to be started again.
    child: AsyncMutex<Option<Seat>>,
    /// Where several sessions share a server, what this one has subscribed to.
    subscriptions: Mutex<HashMap<String, Subscription>>,
    shared_interest: Arc<Mutex<Listen>>,
}

/// A server, and this session's ear at it.
struct Seat {
    child: Arc<Child>,
    session: Arc<Session>,
    _hearing: Hearing,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.session.gone(self.child.link().process_id());
    }
}

/// Opens a session of a client that has sent `initialize`.
pub(super) async fn open(served: &Arc<Served>, call: Call<'_>) -> Opened {
    let identity = ask::identity(call.caller);
    let native = Native {
        served: Arc::clone(served),
        caller: Arc::clone(call.caller),
        session: Arc::new(Session::new()),
        timeout: call.timeout,
        initialize: ask::params(call.request, &identity).to_json(),
        child: AsyncMutex::new(None),
        subscriptions: Mutex::default(),
        shared_interest: Arc::default(),
    };
    let id = call.request.id.as_json();
    let started = timeout(call.timeout, native.start()).await;
    let reply = match started {
        Ok(Ok((seat, outcome))) => {
            let outcome = if served.is_shared() {
                outcome.map(|result| agreed(&call, &super::without_tasks(&result)))
            } else {
                outcome
            };
            *native.child.lock().await = Some(seat);
            Answered::Served(Answer::served(id, &outcome))
        }
        Ok(Err(Failure::Start(error))) => served.not_started(id, &error),
        Ok(Err(Failure::Lost(ended))) => Answered::Broken(out::lost(id, &ended)),
        Err(_) => {
            served.children.failed_for_one(LATE_FOR_CLIENT);
            served.look_again_soon();
            Answered::TimedOut(out::late(id, call.timeout))
        }
    };
    let good = matches!(&reply, Answered::Served(Answer { error: None, .. }));
    Opened { reply, conversation: good.then(|| Arc::new(NativeSession(Arc::new(native))) as Arc<dyn Conversation>) }
}

/// A shared server has been initialised once; a client that asked for another version gets that one,
/// because what later versions added is optional.
fn agreed(call: &Call<'_>, result: &Bytes) -> Bytes {
    let asked = requested_version(&call.request.params);
    let version = asked.filter(|asked| LEGACY_VERSIONS.contains(&asked.as_ref()));
    let Some(version) = version else { return result.clone() };
    let edit = std::str::from_utf8(result).ok().and_then(Edit::parse);
    edit.map_or(result.clone(), |mut edit| edit.set("protocolVersion", quoted(&version)).to_json().into())
}

enum Failure {
    Start(StartError),
    Lost(crate::backend::link::Ended),
}

impl Native {
    /// A server that has got the client's `initialize`, and its answer.
    async fn start(&self) -> Result<(Seat, Result<Bytes, Bytes>), Failure> {
        let owner = crate::relay::owner::Owner::of(&self.caller);
        if self.served.is_shared() {
            let child = self
                .served
                .child_for(&owner, &self.caller, &self.served.legacy_kind("{}"))
                .await
                .map_err(Failure::Start)?;
            let result = match child.opening() {
                super::kind::Opening::Legacy(result) => result.clone(),
                _ => Bytes::from_static(b"{}"),
            };
            let seat = self.seat(child);
            return Ok((seat, Ok(result)));
        }
        let taken = self.served.take_child(&owner, &self.caller, &Kind::Blank, None).await;
        let child = Arc::new(taken.map_err(Failure::Start)?);
        let seat = self.seat(Arc::clone(&child));
        let outgoing = Outgoing {
            method: "initialize",
            client_id: "0",
            progress_token: None,
            takes_strays: false,
            cancellable: false,
        };
        let params = self.initialize.clone();
        let initialized = async {
            let mut exchange = child.link().request(outgoing, |_| Some(params)).await?;
            loop {
                match exchange.next().await {
                    Event::Note(_) | Event::Closed => {}
                    Event::Answer(outcome) => return Ok(outcome),
                    Event::Lost(ended) => return Err(ended),
                }
            }
        };
        match timeout(self.served.children.start_timeout(), initialized).await {
            Ok(Ok(outcome)) => {
                if outcome.is_ok() {
                    self.served.children.answered();
                }
                Ok((seat, outcome))
            }
            Ok(Err(ended)) => {
                self.served.children.failed_for_one(&ended.to_string());
                self.served.look_again().await;
                Err(Failure::Lost(ended))
            }
            Err(_) => {
                self.served.look_again_soon();
                Err(Failure::Start(self.served.children.failed_for_one(LATE)))
            }
        }
    }

    /// The session's server; one that has died is started again, as the client first started it.
    async fn living(&self) -> Result<Arc<Child>, Failure> {
        let mut kept = self.child.lock().await;
        if let Some(seat) = kept.as_ref().filter(|seat| seat.child.link().end().is_none()) {
            return Ok(Arc::clone(&seat.child));
        }
        *kept = None;
        warn!(server = self.served.children.name(), "the server of a session has ended; it is started again");
        let (seat, outcome) = self.start().await?;
        if outcome.is_err() {
            let ended = crate::backend::link::Ended("its successor refused to begin".into());
            return Err(Failure::Lost(ended));
        }
        let child = Arc::clone(&seat.child);
        if self.served.is_shared() {
            self.subscribe_again(&child).await;
        } else {
            child.link().notify("notifications/initialized", None).await.map_err(Failure::Lost)?;
        }
        *kept = Some(seat);
        Ok(child)
    }

    async fn work(&self, request: &Ask, params: Option<String>, uri: Option<String>, out: &Out) {
        let child = match self.living().await {
            Ok(child) => child,
            Err(Failure::Start(error)) => return self.served.unavailable(out, &error).await,
            Err(Failure::Lost(ended)) => return out.lost(&ended).await,
        };
        if self.served.is_shared() {
            match (request.method.as_str(), uri) {
                // Tasks of all sessions are in one list, which is nobody's to see.
                (method, _) if method.starts_with("tasks/") => {
                    return out.error(crate::message::METHOD_NOT_FOUND, &super::modern::not_found(method)).await;
                }
                // The level of one would be the level of all, and nobody gets these messages.
                ("logging/setLevel", _) => return out.served(&Ok(Bytes::from_static(b"{}"))).await,
                ("resources/subscribe", Some(uri)) => return self.subscribe(&child, uri, out).await,
                ("resources/unsubscribe", Some(uri)) => {
                    drop(lock(&self.subscriptions).remove(&uri));
                    lock(&self.shared_interest).resources.retain(|known| *known != uri);
                    return out.served(&Ok(Bytes::from_static(b"{}"))).await;
                }
                _ => {}
            }
        }
        let exchange = match request.send(child.link(), params.as_deref()).await {
            Ok(exchange) => exchange,
            Err(ended) => return out.lost(&ended).await,
        };
        self.follow(request, &child, exchange, out).await;
    }

    async fn follow(&self, request: &Ask, child: &Arc<Child>, mut exchange: Exchange, out: &Out) {
        let mut questions = Questions::new(&self.session);
        loop {
            match exchange.next().await {
                Event::Note(Note::Notice(notice)) => {
                    if let Some(message) = self.session.heard(child.link().process_id(), &notice) {
                        out.message(message).await;
                    }
                }
                Event::Note(Note::Asked(asked)) => self.ask(child, asked, &mut questions, out).await,
                Event::Answer(outcome) => {
                    // The client may still answer: a question need not belong to the request that brought it.
                    questions.keep();
                    if let Ok(result) = &outcome {
                        self.served.seen_result(&request.method, result);
                    }
                    return out.served(&outcome).await;
                }
                Event::Closed => return,
                Event::Lost(ended) => {
                    // Also what it asked in its last moments, which was heard only now.
                    self.session.gone(child.link().process_id());
                    return out.lost(&ended).await;
                }
            }
        }
    }

    /// Hears of changes to `uri` from now on, and after what is returned is dropped if the session has
    /// subscribed to it by then.
    fn interest_in<'n>(&'n self, uri: &'n str) -> Interest<'n> {
        let interest = Interest { native: self, uri };
        interest.set(true);
        interest
    }

    /// What was subscribed to at a server that has died is subscribed to at the next.
    async fn subscribe_again(&self, child: &Arc<Child>) {
        let uris: Vec<String> = lock(&self.subscriptions).keys().cloned().collect();
        for uri in uris {
            // What it refuses now is not heard of any more, as if it had never changed.
            let subscription = Subscription::begin(child, &uri, None, &self.served.tasks).await;
            let mut subscriptions = lock(&self.subscriptions);
            let earlier = subscriptions.remove(&uri);
            subscriptions.extend(subscription.map(|subscription| (uri, subscription)));
            drop((subscriptions, earlier));
        }
    }

    async fn subscribe(&self, child: &Arc<Child>, uri: String, out: &Out) {
        let known = lock(&self.subscriptions).keys().filter(|known| **known != uri).count();
        if let Err(error) = session::may_subscribe(known, &uri) {
            return out.error(INVALID_PARAMS, &format!("Invalid params: {error}")).await;
        }
        // The server may report a change as soon as it has answered.
        let interest = self.interest_in(&uri);
        let subscription = Subscription::begin(child, &uri, None, &self.served.tasks).await;
        let is_granted = subscription.is_some();
        // An earlier one of the same resource is counted no more.
        let earlier = subscription.and_then(|begun| lock(&self.subscriptions).insert(uri.clone(), begun));
        drop((interest, earlier));
        if is_granted {
            out.served(&Ok(Bytes::from_static(b"{}"))).await;
        } else {
            out.error(crate::message::INTERNAL_ERROR, "Internal error: the server refuses this subscription").await;
        }
    }
}

/// A subscription that is asked for. Dropping it leaves the interest to those that the session has.
struct Interest<'n> {
    native: &'n Native,
    uri: &'n str,
}

impl Interest<'_> {
    fn set(&self, is_interested: bool) {
        let mut interest = lock(&self.native.shared_interest);
        interest.resources.retain(|known| known != self.uri);
        interest.resources.extend(is_interested.then(|| self.uri.to_owned()));
    }
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        let is_subscribed = lock(&self.native.subscriptions).contains_key(self.uri);
        self.set(is_subscribed);
    }
}

/// The session as its gate sees it.
struct NativeSession(Arc<Native>);

impl Conversation for NativeSession {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Reply> {
        let identity = ask::identity(call.caller);
        let params = ask::params(call.request, &identity).to_json();
        let request = Ask::of(&call);
        let uri = call.request.params.members.get("uri").and_then(text).map(std::borrow::Cow::into_owned);
        let native = Arc::clone(&self.0);
        let held = call.held.map(Held::keep);
        // Before the task, which a cancellation may overtake.
        let in_flight = self.0.session.begin(&request.id);
        let reply = out::start(
            &self.0.served.tasks,
            request.id.clone(),
            Some(call.timeout),
            Gone::GoesOn,
            move |out| async move {
                let _held = held;
                tokio::select! {
                    () = native.work(&request, Some(params), uri, &out) => {}
                    // What was cancelled is not answered.
                    () = in_flight.cancelled() => {}
                }
            },
        );
        std::future::ready(Reply::Stream(reply)).boxed()
    }

    fn notify<'a>(&'a self, notification: &'a Notification<'a>) -> BoxFuture<'a, ()> {
        async move {
            if notification.method == "notifications/cancelled" {
                return self.0.session.cancel(&notification.params);
            }
            if self.0.served.is_shared() {
                // What one client says about itself is not what all of them are.
                return;
            }
            let told = async {
                let child = self.0.child.lock().await.as_ref().map(|seat| Arc::clone(&seat.child));
                let Some(child) = child else { return };
                let params =
                    notification.params.is_given.then(|| Edit::new(&notification.params).identity(None).to_json());
                let _ = child.link().notify(&notification.method, params.as_deref().map(str::as_bytes)).await;
            };
            if timeout(self.0.timeout, told).await.is_err() {
                debug!("a server does not read its input; a notification is lost");
            }
        }
        .boxed()
    }

    fn respond<'a>(&'a self, response: &'a Response<'a>) -> BoxFuture<'a, ()> {
        self.0.session.answer(response);
        std::future::ready(()).boxed()
    }

    fn next_message(&self) -> BoxFuture<'_, Bytes> {
        self.0.session.outbox.take().boxed()
    }

    fn end(&self) {
        self.0.session.end();
        lock(&self.0.subscriptions).clear();
        // Whoever starts it again just now ends it, too, because the session is over.
        if let Ok(mut child) = self.0.child.try_lock() {
            *child = None;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
