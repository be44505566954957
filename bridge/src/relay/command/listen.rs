//! `subscriptions/listen`: what modern clients hear of changes.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde_json::value::RawValue;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::{
    Served,
    ask::{self, Ask},
    children::Child,
    kind::{Kind, Opening},
    out::Out,
    request::Modern,
};
use crate::{
    backend::link::{Event, Listener, Note, Notice, Outgoing},
    edit::Edit,
    era::SUBSCRIPTION_KEY,
    message::{INVALID_PARAMS, Params},
    relay::translate::subscriptions::{Listen, acknowledged, grantable, listen_result, subscribed},
};

/// Changes that one subscriber has not heard of yet. A change that is lost then is one of many.
const CHANGES_AT_ONCE: usize = 64;

/// How long a server may take to end a subscription that nobody needs any more.
const UNSUBSCRIBE_PATIENCE: Duration = Duration::from_secs(5);

/// Modern client, modern server: passes straight through, under the client's own id.
pub(super) async fn pass(served: &Served, ask: &Ask, params: &str, out: &Out) {
    let child = match served.child_for(&ask.owner, &ask.caller, &Kind::Modern).await {
        Ok(child) => child,
        Err(error) => return served.unavailable(out, &error).await,
    };
    let mut exchange = match ask.send(child.link(), Some(params)).await {
        Ok(exchange) => exchange,
        Err(ended) => return out.lost(&ended).await,
    };
    loop {
        match exchange.next().await {
            Event::Note(Note::Notice(notice)) => {
                out.message(notice.message()).await;
            }
            Event::Note(Note::Asked(asked)) => {
                let _ = child.link().refuse(&asked, "a modern server does not send requests").await;
            }
            Event::Answer(Ok(result)) => {
                let text = std::str::from_utf8(&result).ok();
                let ours =
                    text.and_then(Edit::parse).map(|mut edit| edit.meta_set(SUBSCRIPTION_KEY, &ask.id).to_json());
                return out.served(&Ok(ours.map_or(result.clone(), Into::into))).await;
            }
            Event::Answer(error) => return out.served(&error).await,
            Event::Closed => return out.served(&Ok(listen_result(&ask.id).into())).await,
            Event::Lost(ended) => return out.lost(&ended).await,
        }
    }
}

/// Modern client, legacy server: subscriptions and changes become one stream.
pub(super) async fn translated(served: &Served, request: &Modern, out: &Out) {
    let ask = &request.ask;
    let wanted = match &request.legacy.listen {
        Some(Ok(listen)) => listen,
        Some(Err(why)) => return out.error(INVALID_PARAMS, &format!("Invalid params: {why}")).await,
        None => return,
    };
    let kind = served.legacy_kind(&request.legacy.capabilities);
    let child = match served.child_for(&ask.owner, &ask.caller, &kind).await {
        Ok(child) => child,
        Err(error) => return served.unavailable(out, &error).await,
    };
    let mut granted = grantable(wanted, &capabilities(&child));
    let (changes, mut heard) = mpsc::channel(CHANGES_AT_ONCE);
    let _hearing = child.ear().hear(Arc::new(Tap(changes)));
    let mut subscriptions = Vec::new();
    // A child that is for all has no single user.
    let identity = (!served.is_shared()).then(|| ask::identity(&ask.caller));
    for uri in std::mem::take(&mut granted.resources) {
        // What the server refuses is not granted; the acknowledgement says so.
        if let Some(subscription) = Subscription::begin(&child, &uri, identity.clone(), &served.tasks).await {
            subscriptions.push(subscription);
            granted.resources.push(uri);
        }
    }
    if !out.message(acknowledged(&granted, &ask.id).into()).await {
        return;
    }
    loop {
        tokio::select! {
            () = child.link().ended() => {
                let unknown = || crate::backend::link::Ended("it ended".into());
                return out.lost(&child.link().end().unwrap_or_else(unknown)).await;
            }
            notice = heard.recv() => {
                let Some(notice) = notice else { return };
                if wants(&granted, &notice) {
                    let params = notice.params.as_deref().and_then(|params| std::str::from_utf8(params).ok());
                    let params = Some(subscribed(params, &ask.id).into());
                    out.message(Notice { method: notice.method, params }.message()).await;
                }
            }
        }
    }
}

/// Whether a notification belongs to a subscription.
pub(super) fn wants(listen: &Listen, notice: &Notice) -> bool {
    let raw = notice.params.as_ref().and_then(|params| serde_json::from_slice::<&RawValue>(params).ok());
    Params::parse(&notice.method, raw).is_ok_and(|params| listen.wants(&notice.method, &params))
}

/// What a server says it can do, as a JSON object.
pub(super) fn capabilities(child: &Child) -> String {
    let (Opening::Modern(opening) | Opening::Legacy(opening)) = child.opening() else {
        return "{}".to_owned();
    };
    let edit = std::str::from_utf8(opening).ok().and_then(Edit::parse);
    edit.as_ref().and_then(|edit| edit.get("capabilities")).map_or(Cow::Borrowed("{}"), Cow::Borrowed).into_owned()
}

/// A subscription to one resource at a legacy server. Dropping the last one of a resource ends it.
pub(super) struct Subscription {
    child: Arc<Child>,
    uri: String,
    /// The subscriber, where the server may know who that is.
    identity: Option<String>,
    tasks: TaskTracker,
}

impl Subscription {
    /// Subscribes, if nobody has through this child; `None` if the server refuses. `identity` is the
    /// subscriber's, as a JSON object, if the child is theirs alone.
    pub(super) async fn begin(
        child: &Arc<Child>,
        uri: &str,
        identity: Option<String>,
        tasks: &TaskTracker,
    ) -> Option<Self> {
        let watchers = child.watchers(uri);
        let mut count = watchers.count.lock().await;
        if *count == 0 && !tell(child, "resources/subscribe", uri, identity.as_deref()).await {
            return None;
        }
        *count += 1;
        Some(Self { child: Arc::clone(child), uri: uri.to_owned(), identity, tasks: tasks.clone() })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.child.link().end().is_some() {
            return;
        }
        let (child, uri) = (Arc::clone(&self.child), std::mem::take(&mut self.uri));
        let identity = self.identity.take();
        self.tasks.spawn(async move {
            let watchers = child.watchers(&uri);
            let mut count = watchers.count.lock().await;
            *count -= 1;
            if *count == 0 {
                let telling = tell(&child, "resources/unsubscribe", &uri, identity.as_deref());
                let _ = timeout(UNSUBSCRIBE_PATIENCE, telling).await;
            }
        });
    }
}

/// Sends a request about a resource; whether it was granted.
async fn tell(child: &Child, method: &str, uri: &str, identity: Option<&str>) -> bool {
    let outgoing = Outgoing { method, client_id: "0", progress_token: None, takes_strays: false, cancellable: true };
    let params = Edit::default().set("uri", crate::message::quoted(uri)).identity(identity).to_json();
    let Ok(mut exchange) = child.link().request(outgoing, |_| Some(params)).await else { return false };
    loop {
        match exchange.next().await {
            Event::Note(_) => {}
            Event::Answer(outcome) => return outcome.is_ok(),
            Event::Closed | Event::Lost(_) => return false,
        }
    }
}

/// Brings what a child says to a subscriber.
pub(super) struct Tap(pub(super) mpsc::Sender<Notice>);

impl Listener for Tap {
    fn notified(&self, notice: Notice) {
        if self.0.try_send(notice).is_err() {
            debug!("a subscriber reads too slowly, or has left; a change is lost");
        }
    }
}
