//! Server-sent events (the WHATWG HTML standard, "Server-sent events").

use std::{
    convert::Infallible,
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
    http::respond::Body,
    relay::session::Stream,
    token::{BearerToken, TokenVerifier, VerifiedToken, VerifyError},
};

/// One message as an event. JSON text has no line breaks outside white space, where they mean
/// nothing, so they become spaces.
pub(super) fn event(message: &[u8]) -> Bytes {
    let mut event = Vec::with_capacity(message.len() + 24);
    event.extend_from_slice(b"event: message\ndata: ");
    event.extend(message.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    event.extend_from_slice(b"\n\n");
    event.into()
}

/// A stream of one message that then ends.
pub(super) fn single(message: &[u8]) -> Body {
    Either::Left(Full::new(event(message)))
}

/// What keeps a session's stream entitled to live.
pub(super) struct Watch {
    /// The session's side of it.
    pub(super) stream: Stream,
    /// Who verifies the token again.
    pub(super) verifier: Arc<dyn TokenVerifier>,
    /// The token that opened it; `None` where none is needed.
    pub(super) token: Option<BearerToken>,
    /// What the token said.
    pub(super) verified: Arc<VerifiedToken>,
    /// Time between two comments, and between two looks at the token.
    pub(super) keep_alive: Duration,
}

/// The stream of a legacy session for messages of the server's own accord.
///
/// It begins with a comment at once, because a proxy may hold the response back until its first
/// byte. At every keep-alive the token is verified again: a stream must not outlive its token or
/// its user's consent. It ends with its session, too.
///
/// A task looks after it, and ends with it: on HTTP/2, nobody asks a body for more while its client
/// leaves no window, so a stream that looked after itself would keep its session for ever then.
pub(super) fn session_stream(watch: Watch) -> Body {
    let (comments, mut taken) = mpsc::channel(1);
    tokio::spawn(watch.keep(comments));
    let opening = stream::iter([COMMENT]);
    let comments = opening.chain(stream::poll_fn(move |cx| taken.poll_recv(cx)));
    let frames = comments.map(|comment| Ok::<_, Infallible>(Frame::data(Bytes::from_static(comment))));
    Either::Right(StreamBody::new(frames).boxed_unsync())
}

const COMMENT: &[u8] = b": keep-alive\n\n";

impl Watch {
    /// Sends a comment at every keep-alive until the stream has to end, or the client has left.
    async fn keep(mut self, comments: mpsc::Sender<&'static [u8]>) {
        let mut ticks = interval_at(Instant::now() + self.keep_alive, self.keep_alive);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let alive = tokio::select! {
                () = comments.closed() => false,
                alive = self.wait(&mut ticks) => alive,
            };
            if !alive {
                return;
            }
            // A client that has not taken the last comment needs no other.
            let _ = comments.try_send(COMMENT);
        }
    }

    /// Waits for the next comment's time; `false` when the stream has to end.
    async fn wait(&mut self, ticks: &mut Interval) -> bool {
        let left = self.verified.expires_at.map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
        let expiry = left.filter(|left| *left < ticks.period());
        let expired = async {
            match expiry {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = expired => return false,
            () = self.stream.ended() => return false,
            _ = ticks.tick() => {}
        }
        self.is_still_good().await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_data() {
        assert_eq!(event(b"{\"a\":\r\n1}"), "event: message\ndata: {\"a\":  1}\n\n");
    }
}
