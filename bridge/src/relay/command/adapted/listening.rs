//! What a legacy client hears of changes at its modern server.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::time::timeout;

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

/// A pause before a subscription that the server has ended is begun again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

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
        loop {
            let listen = wanted.borrow_and_update().clone();
            if !listen.is_empty() {
                tokio::select! {
                    // A server that ends it, or does not have it, is asked again in a while.
                    () = async {
                        let _ = self.listen_once(&listen).await;
                        tokio::time::sleep(LISTEN_AGAIN).await;
                    } => continue,
                    changed = wanted.changed() => if changed.is_err() { return },
                }
            } else if wanted.changed().await.is_err() {
                return;
            }
        }
    }

    async fn listen_once(&self, listen: &Listen) -> Result<(), Ended> {
        let Ok(child) = self.living().await else { return Ok(()) };
        let outgoing = Outgoing {
            method: "subscriptions/listen",
            client_id: "0",
            progress_token: None,
            takes_strays: false,
            cancellable: true,
        };
        let params = listen_params(listen, &self.envelope(None));
        let mut exchange = child.link().request(outgoing, |_| Some(params)).await?;
        loop {
            match exchange.next().await {
                Event::Note(Note::Notice(notice)) if notice.method == "notifications/subscriptions/acknowledged" => {
                    let granted = granted(&notice).unwrap_or_default();
                    self.acknowledged.send_replace((listen.clone(), granted));
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

/// What of a subscription a `notifications/subscriptions/acknowledged` grants.
fn granted(notice: &Notice) -> Option<Listen> {
    let raw: &RawValue = serde_json::from_slice(notice.params.as_deref()?).ok()?;
    listen_filter(&Params::parse(&notice.method, Some(raw)).ok()?).ok()
}
