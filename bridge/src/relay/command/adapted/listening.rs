//! What a legacy client hears of changes at its modern server.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::value::RawValue;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::{
    super::{listen, out::Out, session},
    Adapted,
};
use crate::{
    backend::link::{Ended, Event, Note, Notice, Outgoing},
    message::{INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, Params},
    relay::translate::{
        messages::{Place, place},
        subscriptions::{Listen, grantable, listen_filter, listen_params, unsubscribed},
    },
};

/// How long the answer to `resources/subscribe` waits for the server to acknowledge.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);

/// Pauses before a subscription that the server has ended is begun again: the first, and the longest
/// for a server that ends it again and again, which may have to be started each time.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

impl Adapted {
    pub(super) async fn subscribe(&self, uri: String, out: &Out) {
        let child = match self.living().await {
            Ok(child) => child,
            Err(error) => return self.served.unavailable(out, &error).await,
        };
        let single = Listen { resources: vec![uri.clone()], ..Listen::default() };
        if grantable(&single, &listen::capabilities(&child)).resources.is_empty() {
            return out.error(METHOD_NOT_FOUND, "Method not found: the server has no subscriptions").await;
        }
        let known = self.wanted.borrow().resources.iter().filter(|known| **known != uri).count();
        if let Err(error) = session::may_subscribe(known, &uri) {
            return out.error(INVALID_PARAMS, &format!("Invalid params: {error}")).await;
        }
        self.wanted.send_if_modified(|wanted| {
            let new = !wanted.resources.contains(&uri);
            if new {
                wanted.resources.push(uri.clone());
            }
            new
        });
        // Changes that come after the answer must not be missed.
        let mut acknowledged = self.acknowledged.subscribe();
        let is_granted = async {
            let answered = acknowledged.wait_for(|(asked, _)| asked.resources.contains(&uri)).await;
            answered.is_ok_and(|answered| answered.1.resources.contains(&uri))
        };
        let is_granted = timeout(ACKNOWLEDGED_WITHIN, is_granted).await == Ok(true);
        if is_granted {
            return out.served(&Ok(Bytes::from_static(b"{}"))).await;
        }
        self.wanted.send_modify(|wanted| wanted.resources.retain(|known| *known != uri));
        out.error(INTERNAL_ERROR, "Internal error: the server does not grant this subscription").await;
    }

    /// Keeps a subscription at the server as the client wants it, until the session ends.
    pub(super) async fn listen(self: Arc<Self>) {
        let ended = self.session.ended.clone();
        ended.run_until_cancelled(self.keep_listening()).await;
    }

    async fn keep_listening(&self) {
        let mut wanted = self.wanted.subscribe();
        let mut pause = PAUSE_MIN;
        let mut earlier: Option<BoxFuture<'_, ()>> = None;
        loop {
            let listen = wanted.borrow_and_update().clone();
            if listen.is_empty() {
                earlier = None;
                if wanted.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let (grant, mut granted) = oneshot::channel();
            let mut newer = self.listen_once(listen.clone(), grant).map(drop).boxed();
            let mut granted_at = None;
            let has_ended = loop {
                tokio::select! {
                    // Between the end of one and the beginning of the next, changes would be lost.
                    Ok(granted) = &mut granted, if granted_at.is_none() => {
                        earlier = None;
                        granted_at = Some(Instant::now());
                        self.acknowledged.send_replace((listen.clone(), granted));
                    }
                    () = &mut newer => break true,
                    () = end_of(&mut earlier) => earlier = None,
                    changed = wanted.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        break false;
                    }
                }
            };
            if !has_ended {
                // One that is not acknowledged has nothing to say that the one before it has not.
                if granted_at.is_some() {
                    earlier = Some(newer);
                }
                continue;
            }
            // A server that ends it, or does not have it, is asked again in a while.
            earlier = None;
            if granted_at.is_some_and(|at| at.elapsed() >= pause) {
                pause = PAUSE_MIN;
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                changed = wanted.changed() => if changed.is_err() { return },
            }
            // What has changed meanwhile is seen in the next round.
        }
    }

    /// Listens until the server ends it. `grant` learns what the server acknowledges.
    async fn listen_once(&self, listen: Listen, grant: oneshot::Sender<Listen>) -> Result<(), Ended> {
        let mut grant = Some(grant);
        let Ok(child) = self.living().await else { return Ok(()) };
        let outgoing = Outgoing {
            method: "subscriptions/listen",
            client_id: "0",
            progress_token: None,
            takes_strays: false,
            cancellable: true,
        };
        let params = listen_params(&listen, &self.envelope(None));
        let mut exchange = child.link().request(outgoing, |_| Some(params)).await?;
        loop {
            match exchange.next().await {
                Event::Note(Note::Notice(notice)) if notice.method == "notifications/subscriptions/acknowledged" => {
                    if let Some(grant) = grant.take() {
                        // Who waits for it is gone together with this.
                        let _ = grant.send(granted(&notice).unwrap_or_default());
                    }
                }
                Event::Note(Note::Notice(notice)) => {
                    if place(&notice.method) == Place::Subscription {
                        let params = notice.params.as_deref().and_then(|params| std::str::from_utf8(params).ok());
                        let params = params.map(|params| unsubscribed(params).into());
                        self.session.outbox.put(Notice { method: notice.method, params }.message());
                    }
                }
                Event::Note(Note::Asked(asked)) => {
                    child.link().refuse(&asked, "a modern server does not send requests").await?;
                }
                Event::Answer(Err(_)) => {
                    // It does not have subscriptions, whatever it says of itself: not asked again.
                    self.session.ended.cancelled().await;
                }
                Event::Answer(Ok(_)) | Event::Closed => return Ok(()),
                Event::Lost(ended) => return Err(ended),
            }
        }
    }
}

/// Waits for the end of a subscription, if there is one.
async fn end_of(listening: &mut Option<BoxFuture<'_, ()>>) {
    match listening {
        Some(listening) => listening.await,
        None => std::future::pending().await,
    }
}

/// What of a subscription a `notifications/subscriptions/acknowledged` grants.
fn granted(notice: &Notice) -> Option<Listen> {
    let raw: &RawValue = serde_json::from_slice(notice.params.as_deref()?).ok()?;
    listen_filter(&Params::parse(&notice.method, Some(raw)).ok()?).ok()
}
