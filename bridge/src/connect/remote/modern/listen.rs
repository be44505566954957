//! Subscriptions: streams that are opened again when the network loses them.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::value::RawValue;
use tokio::time::{sleep_until, timeout};
use tracing::{debug, info};

use super::Inner;
use crate::{
    connect::remote::{
        BackOff,
        client::{Heard, Ticket},
        failure::Failure,
        http::Reply,
        incoming::{Incoming, one_line},
        sse::{Events, Place},
    },
    era::SUBSCRIPTION_KEY,
    message::Object,
};

/// The longest wait before a subscription is made again. It is tried for as long as the client wants it.
const PAUSE_MAX: Duration = Duration::from_secs(60);

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// How far a subscription has come.
#[derive(Default)]
struct Progress {
    /// What the server has agreed to, as a JSON object; the client has been told.
    agreed: Option<String>,
    /// The connection is not the first.
    is_again: bool,
}

impl Inner {
    /// Keeps a subscription until the server ends it. A first attempt that fails is the client's to
    /// know; a stream that is lost later is opened again.
    pub(super) async fn subscribe(&self, ticket: &Ticket, headers: &HeaderMap, line: &Bytes) -> Result<(), Failure> {
        let mut progress = Progress::default();
        let mut back_off = BackOff::new(PAUSE_MAX);
        let limit = self.link.request_timeout;
        loop {
            let replied = timeout(limit, self.link.http.post(headers, line.clone())).await;
            let heard = match replied.unwrap_or(Err(Failure::TimedOut(limit))) {
                Ok(replied) => match replied.reply {
                    Reply::Message(message) => self.hear(message, ticket).await,
                    Reply::Events(events) => self.read_changes(*events, ticket, &mut progress, &mut back_off).await,
                    Reply::Accepted => Err(Failure::Protocol("it answered the request without an answer".to_owned())),
                },
                Err(failure) => Err(failure),
            };
            match heard {
                Ok(Heard::Result | Heard::Refusal) => return Ok(()),
                Ok(Heard::Other) if progress.agreed.is_none() => return Err(Failure::Ended),
                Ok(Heard::Other) => debug!("a subscription's stream ended without a word; subscribing again"),
                Err(failure)
                    if progress.agreed.is_some()
                        && (failure.is_passing() || matches!(failure, Failure::TimedOut(_))) =>
                {
                    debug!(%failure, "a subscription's stream is lost; subscribing again");
                }
                Err(failure) => return Err(failure),
            }
            progress.is_again = true;
            sleep_until(back_off.next(None)).await;
        }
    }

    async fn read_changes(
        &self,
        mut events: Events,
        ticket: &Ticket,
        progress: &mut Progress,
        back_off: &mut BackOff,
    ) -> Result<Heard, Failure> {
        let mut place = Place::default();
        while let Some(data) = events.next(&mut place).await? {
            if data.is_empty() {
                continue;
            }
            let line = one_line(data).map_err(Failure::Protocol)?;
            if let Some(agreed) = acknowledged(&line) {
                back_off.forget();
                if progress.is_again && progress.agreed.as_deref() == Some(&agreed) {
                    info!("subscribed again");
                    self.tell_of_gap(ticket, &agreed).await;
                    continue;
                }
                progress.agreed = Some(agreed);
            }
            let heard = self.hear(line, ticket).await?;
            if heard.is_answer() {
                return Ok(heard);
            }
        }
        Ok(Heard::Other)
    }

    /// What changed while nobody listened is not known, so everything may have: the client looks anew.
    async fn tell_of_gap(&self, ticket: &Ticket, agreed: &str) {
        let Ok(agreed) = serde_json::from_str::<Object<'_>>(agreed) else { return };
        let meta = format!(r#""_meta":{{"{SUBSCRIPTION_KEY}":{}}}"#, ticket.id);
        let mut lines = Vec::new();
        let mut add = |list: &str, rest: &str| {
            lines.push(format!(r#"{{"jsonrpc":"2.0","method":"notifications/{list}","params":{{{rest}{meta}}}}}"#));
        };
        for (kind, value) in agreed.iter() {
            match (kind, value.get()) {
                ("toolsListChanged", "true") => add("tools/list_changed", ""),
                ("promptsListChanged", "true") => add("prompts/list_changed", ""),
                ("resourcesListChanged", "true") => add("resources/list_changed", ""),
                ("resourceSubscriptions", uris) => {
                    let uris: Vec<&RawValue> = serde_json::from_str(uris).unwrap_or_default();
                    uris.iter().for_each(|uri| add("resources/updated", &format!(r#""uri":{},"#, uri.get())));
                }
                _ => {}
            }
        }
        for line in lines {
            self.link.client.tell(line.into()).await;
        }
    }
}

/// What the server has agreed to, if `line` says so.
fn acknowledged(line: &Bytes) -> Option<String> {
    match Incoming::parse(std::str::from_utf8(line).ok()?).ok()? {
        Incoming::Notification { method, params } if method == ACKNOWLEDGED => {
            let params: Object<'_> = serde_json::from_str(params?.get()).ok()?;
            Some(params.get("notifications")?.get().to_owned())
        }
        _ => None,
    }
}
