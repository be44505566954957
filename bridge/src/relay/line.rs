//! Legacy sessions whose client hears everything on one stream (MCP 2024-11-05, "HTTP with SSE").
//!
//! Such a session is there before its `initialize`, ends with its stream, and answers each request on
//! it, as soon as the answer is there.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream, SelectAll},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::session::Stream;
use crate::{
    backend::{Answer, Answered, Call, Conversation, Reply},
    message::{INVALID_REQUEST, Notification, Response},
};

/// The messages that one request leads to, in order. Dropping it says that the client is gone.
pub type Voice = BoxStream<'static, Bytes>;

/// What such a session speaks to, begun or not, and its way to the client.
pub struct Line {
    voices: mpsc::UnboundedSender<Voice>,
    phase: watch::Sender<Phase>,
}

/// How far a session has come.
#[derive(Clone)]
enum Phase {
    /// No `initialize` yet, or none that succeeded.
    New,
    /// `initialize` is being answered.
    Beginning,
    /// It has been answered.
    Open(Arc<dyn Conversation>),
    /// The session is over.
    Ended,
}

impl Line {
    /// A line, and where what is said on it arrives.
    pub(super) fn new() -> (Arc<Self>, mpsc::UnboundedReceiver<Voice>) {
        // No bound of its own: who speaks holds a place among all requests until all is said.
        let (voices, arriving) = mpsc::unbounded_channel();
        (Arc::new(Self { voices, phase: watch::Sender::new(Phase::New) }), arriving)
    }

    /// Sends what `begin` leads to to the client; `false` when the stream is gone.
    ///
    /// Nothing is begun then, and a stream that is to end waits for what is.
    ///
    /// # Errors
    /// That of `begin`; nothing is said then.
    pub async fn say<E>(&self, begin: impl Future<Output = Result<Voice, E>>) -> Result<bool, E> {
        let (tell, told) = oneshot::channel::<Voice>();
        let promised = told.map(|voice| voice.unwrap_or_else(|_| stream::empty().boxed())).flatten_stream();
        if self.voices.send(promised.boxed()).is_err() {
            return Ok(false);
        }
        Ok(tell.send(begin.await?).is_ok())
    }

    /// Takes the one turn to answer `initialize`; `false` when it is taken, or the session is over.
    /// [`opened`](Self::opened) has to follow.
    pub fn begin(&self) -> bool {
        self.phase.send_if_modified(|phase| {
            let begins = matches!(phase, Phase::New);
            if begins {
                *phase = Phase::Beginning;
            }
            begins
        })
    }

    /// What `initialize` led to; without a conversation, the client may try again.
    pub fn opened(&self, conversation: Option<Arc<dyn Conversation>>) {
        let mut too_late = conversation.clone();
        self.phase.send_if_modified(|phase| {
            let waits = matches!(phase, Phase::Beginning);
            if waits {
                *phase = conversation.map_or(Phase::New, Phase::Open);
                too_late = None;
            }
            waits
        });
        if let Some(conversation) = too_late {
            conversation.end();
        }
    }

    fn conversation(&self) -> Option<Arc<dyn Conversation>> {
        match &*self.phase.borrow() {
            Phase::Open(conversation) => Some(Arc::clone(conversation)),
            Phase::New | Phase::Beginning | Phase::Ended => None,
        }
    }
}

/// What comes before `initialize` is refused or dropped here; everything else goes to the server.
impl Conversation for Line {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Reply> {
        async move {
            let Some(conversation) = self.conversation() else {
                let text = "Invalid Request: send initialize first, and wait for its answer";
                let answer = Answer::error(call.request.id.as_json(), INVALID_REQUEST, text, None);
                return Reply::Whole(Answered::Served(answer));
            };
            conversation.call(call).await
        }
        .boxed()
    }

    fn notify<'a>(&'a self, notification: &'a Notification<'a>) -> BoxFuture<'a, ()> {
        async move {
            if let Some(conversation) = self.conversation() {
                conversation.notify(notification).await;
            }
        }
        .boxed()
    }

    fn respond<'a>(&'a self, response: &'a Response<'a>) -> BoxFuture<'a, ()> {
        async move {
            if let Some(conversation) = self.conversation() {
                conversation.respond(response).await;
            }
        }
        .boxed()
    }

    fn next_message(&self) -> BoxFuture<'_, Bytes> {
        async {
            let mut phases = self.phase.subscribe();
            let open = phases.wait_for(|phase| matches!(phase, Phase::Open(_))).await;
            let open = open.map(|phase| Phase::clone(&phase));
            match open {
                Ok(Phase::Open(conversation)) => conversation.next_message().await,
                _ => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn end(&self) {
        if let Phase::Open(conversation) = self.phase.send_replace(Phase::Ended) {
            conversation.end();
        }
    }
}

/// The stream of such a session: answers, what comes before them, and what the server says of its own
/// accord. Dropping it ends the session.
pub struct Everything {
    stream: Stream,
    arriving: mpsc::UnboundedReceiver<Voice>,
    speaking: SelectAll<Voice>,
    /// The server shuts down: what is being answered is answered yet.
    draining: bool,
}

impl Everything {
    pub(super) fn new(stream: Stream, arriving: mpsc::UnboundedReceiver<Voice>) -> Self {
        Self { stream, arriving, speaking: SelectAll::new(), draining: false }
    }

    /// Waits for the next message; `None` when the stream has to end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.draining && self.speaking.is_empty() {
                self.arriving.close();
                let voice = self.arriving.try_recv().ok()?;
                self.speaking.push(voice);
            }
            tokio::select! {
                () = self.stream.session_ended() => return None,
                () = self.stream.ended(), if !self.draining => self.draining = true,
                Some(voice) = self.arriving.recv() => self.speaking.push(voice),
                said = self.speaking.next(), if !self.speaking.is_empty() => {
                    if said.is_some() {
                        return said;
                    }
                }
                message = self.stream.next_message(), if !self.draining => return Some(message),
            }
        }
    }

    /// Waits until the session is over. Cancel-safe.
    pub async fn ended(&mut self) {
        self.stream.session_ended().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use tokio::time::Instant;

    use super::*;
    use crate::{relay::session::Sessions, telemetry::metrics::Metrics, token::VerifiedToken};

    /// Counts how often it was ended.
    #[derive(Default)]
    struct Ends(AtomicUsize);

    impl Conversation for Ends {
        fn call<'a>(&'a self, _: Call<'a>) -> BoxFuture<'a, Reply> {
            std::future::pending().boxed()
        }

        fn end(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What says `text`, unless it is nothing to begin with.
    async fn begun(count: &AtomicUsize, text: &'static str) -> Result<Voice, &'static str> {
        count.fetch_add(1, Ordering::Relaxed);
        let said = Bytes::from_static(text.as_bytes());
        if said.is_empty() { Err("refused") } else { Ok(stream::once(std::future::ready(said)).boxed()) }
    }

    #[tokio::test]
    async fn nothing_is_begun_whose_answer_nobody_hears() {
        let sessions = Arc::new(Sessions::new(Duration::MAX, 9, 9, Arc::new(Metrics::new())));
        let (alice, now, count) = (VerifiedToken::of("alice", "app"), Instant::now(), AtomicUsize::new(0));
        let (id, mut everything) = sessions.open_line(&alice, now).expect("room");
        let (line, _) = sessions.line(&id, &alice, now).expect("it lives");
        assert_eq!(line.say(begun(&count, "said")).await, Ok(true));
        assert_eq!(line.say(begun(&count, "")).await, Err("refused"));
        assert_eq!(everything.next().await.as_deref(), Some(&b"said"[..]));
        // In the moment between the end of what is heard and that of the session.
        sessions.end_streams();
        assert_eq!(everything.next().await, None);
        assert_eq!(line.say(begun(&count, "unheard")).await, Ok(false));
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_stream_that_is_to_end_waits_for_what_is_being_begun() {
        let sessions = Arc::new(Sessions::new(Duration::MAX, 9, 9, Arc::new(Metrics::new())));
        let (alice, now) = (VerifiedToken::of("alice", "app"), Instant::now());
        let (id, mut everything) = sessions.open_line(&alice, now).expect("room");
        let (line, _) = sessions.line(&id, &alice, now).expect("it lives");
        let (go_on, goes_on) = oneshot::channel::<()>();
        let mut saying = Box::pin(line.say(async {
            let _ = goes_on.await;
            begun(&AtomicUsize::new(0), "said").await
        }));
        assert!((&mut saying).now_or_never().is_none(), "it is being begun");
        sessions.end_streams();
        assert!(everything.next().now_or_never().is_none(), "and waited for");
        drop(go_on);
        assert_eq!(saying.await, Ok(true));
        assert_eq!(everything.next().await.as_deref(), Some(&b"said"[..]));
        assert_eq!(everything.next().await, None);
    }

    #[test]
    fn a_conversation_ends_with_its_line_whichever_comes_first() {
        for ended_first in [false, true] {
            let ((line, _arriving), ends) = (Line::new(), Arc::new(Ends::default()));
            let conversation = || Some(Arc::clone(&ends) as Arc<dyn Conversation>);
            assert!(line.begin() && !line.begin(), "one turn");
            line.opened(None);
            assert!(line.begin(), "a handshake that failed may be tried again");
            if ended_first {
                line.end();
            }
            line.opened(conversation());
            assert_eq!(
                (line.conversation().is_none(), ends.0.load(Ordering::Relaxed)),
                (ended_first, ended_first.into())
            );
            line.end();
            line.end();
            assert_eq!(ends.0.load(Ordering::Relaxed), 1);
            assert!(!line.begin() && line.conversation().is_none(), "it is over");
        }
    }
}
