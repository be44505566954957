//! Server-sent events (the WHATWG HTML standard, "Server-sent events").

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use crate::{
    backend::{Answered, Item},
    http::{places::Taken, respond::Body},
    relay::{Streaming, line::Everything, session::Stream},
    telemetry::metrics::GaugeGuard,
    token::{BearerToken, TokenVerifier, VerifiedToken, VerifyError},
};

/// One message as an event. JSON text has no line breaks outside white space, where they mean
/// nothing, so they become spaces.
pub(super) fn event(message: &[u8]) -> Bytes {
    named("message", message)
}

fn named(name: &str, data: &[u8]) -> Bytes {
    let mut event = Vec::with_capacity(name.len() + data.len() + 17);
    event.extend_from_slice(b"event: ");
    event.extend_from_slice(name.as_bytes());
    event.extend_from_slice(b"\ndata: ");
    event.extend(data.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    event.extend_from_slice(b"\n\n");
    event.into()
}

/// A stream of one message that then ends.
pub(super) fn single(message: &[u8]) -> Body {
    Either::Left(Full::new(event(message)))
}

/// What a stream says, and what keeps it entitled to live.
pub(super) struct Watch {
    /// What it says.
    pub(super) source: Source,
    /// Who verifies the token again.
    pub(super) verifier: Arc<dyn TokenVerifier>,
    /// The token that opened it; `None` where none is needed.
    pub(super) token: Option<BearerToken>,
    /// What the token said.
    pub(super) verified: Arc<VerifiedToken>,
    /// Time between two comments, and between two looks at the token.
    pub(super) keep_alive: Duration,
}

/// Where the messages of a stream come from.
pub(super) enum Source {
    /// What a legacy session's server says of its own accord.
    Session(Stream),
    /// The answer to one request, and what comes before it.
    Reply {
        /// The messages. Dropping them says that the client is gone.
        streaming: Streaming,
        /// What is done with the answer before it is sent.
        last: Box<dyn Fn(Answered) -> Bytes + Send>,
        /// What the request takes up, and its count among streams.
        _held: (Taken, GaugeGuard),
    },
    /// All that a client of HTTP+SSE hears.
    Everything {
        /// Where it sends its messages, which is what the stream says first.
        endpoint: String,
        /// What comes then.
        everything: Everything,
    },
}

/// A stream of messages as they come.
///
/// It begins with a comment if there is nothing to say at once, because a proxy may hold the response
/// back until its first byte. At every keep-alive the token is verified again: a stream must not
/// outlive its token or its user's consent.
///
/// A task looks after it, and ends with it: on HTTP/2, nobody asks a body for more while its client
/// leaves no window, so a stream that looked after itself would keep what it holds for ever then.
pub(super) fn stream(watch: Watch) -> Body {
    let (events, mut taken) = mpsc::channel(EVENTS_AT_ONCE);
    tokio::spawn(watch.keep(events));
    let events = stream::poll_fn(move |cx| taken.poll_recv(cx));
    let frames = events.map(|event| Ok::<_, Infallible>(Frame::data(event)));
    Either::Right(StreamBody::new(frames).boxed_unsync())
}

/// Events that a client has not taken yet, after which its server waits.
const EVENTS_AT_ONCE: usize = 4;

const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// What happens next on a stream.
enum Next {
    Message(Bytes),
    Last(Bytes),
    Quiet,
    End,
}

impl Watch {
    /// Sends what there is, and a comment at every keep-alive, until the stream has to end or the
    /// client has left.
    async fn keep(mut self, events: mpsc::Sender<Bytes>) {
        let first = match &mut self.source {
            Source::Session(_) => None,
            Source::Reply { streaming, .. } => streaming.first.take().map(|first| event(&first)),
            Source::Everything { endpoint, .. } => Some(named("endpoint", endpoint.as_bytes())),
        };
        let _ = events.send(first.unwrap_or(COMMENT)).await;
        let mut ticks = interval_at(Instant::now() + self.keep_alive, self.keep_alive);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                () = events.closed() => return,
                next = self.next(&mut ticks) => next,
            };
            let goes_on = match next {
                Next::Message(message) => self.deliver(event(&message), &events, &mut ticks).await,
                Next::Last(message) => {
                    self.deliver(event(&message), &events, &mut ticks).await;
                    return;
                }
                Next::Quiet => {
                    // A client that has not taken the last comment needs no other.
                    let _ = events.try_send(COMMENT);
                    true
                }
                Next::End => return,
            };
            if !goes_on {
                return;
            }
        }
    }

    async fn next(&mut self, ticks: &mut Interval) -> Next {
        let alive = tokio::select! {
            next = self.source.next() => return next,
            alive = tick(&self.verified, ticks) => alive,
        };
        if alive && self.is_still_good().await { Next::Quiet } else { Next::End }
    }

    /// Waits until the client takes an event; `false` when it is gone, or the stream has to end. One
    /// that takes nothing is entitled to its stream no longer than others.
    async fn deliver(&mut self, event: Bytes, events: &mpsc::Sender<Bytes>, ticks: &mut Interval) -> bool {
        let mut room = pin!(events.reserve());
        loop {
            let alive = tokio::select! {
                // What there is room for is not lost to an end that comes at the same time.
                biased;
                room = &mut room => {
                    return room.map(|room| room.send(event)).is_ok();
                }
                () = self.source.ended() => return false,
                alive = tick(&self.verified, ticks) => alive,
            };
            if !alive || !self.is_still_good().await {
                return false;
            }
        }
    }

    async fn is_still_good(&mut self) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        match self.verifier.verify(token, SystemTime::now()).await {
            Ok(verified) => {
                self.verified = verified;
                true
            }
            // An outage of the authorization server must not log everybody out.
            Err(VerifyError::Unavailable(_)) => true,
            Err(VerifyError::Inactive(_)) => false,
        }
    }
}

/// Waits for the next tick, or until the token of `verified` has expired: `false`. Cancel-safe.
async fn tick(verified: &VerifiedToken, ticks: &mut Interval) -> bool {
    let left = verified.expires_at.map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
    match left.filter(|left| *left < ticks.period()) {
        Some(left) => tokio::select! {
            () = tokio::time::sleep(left) => false,
            _ = ticks.tick() => true,
        },
        None => {
            ticks.tick().await;
            true
        }
    }
}

impl Source {
    /// Waits for the next message, or for the end. Cancel-safe.
    async fn next(&mut self) -> Next {
        match self {
            Self::Session(stream) => tokio::select! {
                () = stream.ended() => Next::End,
                message = stream.next_message() => Next::Message(message),
            },
            Self::Reply { streaming, last, .. } => match streaming.rest.recv().await {
                Some(Item::Message(message)) => Next::Message(message),
                Some(Item::Last(answered)) => Next::Last(last(answered)),
                None => Next::End,
            },
            Self::Everything { everything, .. } => everything.next().await.map_or(Next::End, Next::Message),
        }
    }

    /// Waits until there is no use in saying more. Cancel-safe.
    async fn ended(&mut self) {
        match self {
            Self::Session(stream) => stream.ended().await,
            Self::Reply { .. } => std::future::pending().await,
            Self::Everything { everything, .. } => everything.ended().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_data() {
        assert_eq!(event(b"{\"a\":\r\n1}"), "event: message\ndata: {\"a\":  1}\n\n");
    }
}
