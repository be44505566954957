//! The client's end of one request: what it is told, and how long it waits.

use std::{future::poll_fn, task::Poll, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::{
    backend::{Answer, Answered, Item, Reply, link::Ended},
    message::INTERNAL_ERROR,
};

/// Messages that a client has not read yet, after which its request waits for it.
const UNREAD_MAX: usize = 16;

/// A request whose server shows signs of life may take this many times as long as one that is quiet.
const LIFE_EXTENDS: u32 = 60;

/// What a request's task tells its client.
pub(super) struct Out {
    id: String,
    items: mpsc::Sender<Item>,
    clock: watch::Sender<Clock>,
    timeout: Duration,
}

/// When a request has taken too long.
#[derive(Clone, Copy)]
struct Clock {
    due: Instant,
    /// Answers that the server waits for; the clock stands still meanwhile.
    turns_of_client: usize,
}

/// Runs `work` on a task of its own until it is done, takes too long, or its client has gone where that
/// cancels it. `id` is the client's, as JSON text.
pub(super) fn start<W, F>(
    tasks: &TaskTracker,
    id: String,
    timeout: Option<Duration>,
    gone: Gone,
    work: W,
) -> mpsc::Receiver<Item>
where
    W: FnOnce(Out) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (items, reply) = mpsc::channel(UNREAD_MAX);
    let client = items.clone();
    let running = run(id, timeout, items, work);
    tasks.spawn(until_gone(running, client, gone));
    reply
}

/// Runs `work` like [`start`], for a client whose going cancels it, and as long as the client waits for
/// the first word not on a task of its own: that would be woken for the answer only to wake whoever has
/// the client. With `patience` the client reads a stream, and has it after that time at the latest.
pub(super) async fn begin<W, F>(
    tasks: &TaskTracker,
    id: String,
    timeout: Option<Duration>,
    patience: Option<Duration>,
    work: W,
) -> Reply
where
    W: FnOnce(Out) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (items, mut reply) = mpsc::channel(UNREAD_MAX);
    let client = items.clone();
    let mut running = Box::pin(run(id, timeout, items, work));
    let Some(patience) = patience else {
        let whole = poll_fn(|context| {
            let done = running.as_mut().poll(context).is_ready();
            loop {
                match reply.try_recv() {
                    Ok(Item::Last(answered)) => return Poll::Ready(Some(answered)),
                    Ok(Item::Message(_)) => {}
                    Err(_) if done => return Poll::Ready(None),
                    Err(_) => return Poll::Pending,
                }
            }
        });
        return whole.await.map_or(Reply::Stream(reply), Reply::Whole);
    };
    let first_word = poll_fn(|context| {
        let done = running.as_mut().poll(context).is_ready();
        if done || !reply.is_empty() { Poll::Ready(done) } else { Poll::Pending }
    });
    if !tokio::time::timeout(patience, first_word).await.unwrap_or(false) {
        tasks.spawn(until_gone(running, client, Gone::Cancels));
    }
    Reply::Stream(reply)
}

/// What happens to a request whose client is gone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// It is cancelled: in the modern era, closing the stream says so.
    Cancels,
    /// It goes on: a legacy client that loses its connection has not cancelled (MCP 2025-11-25,
    /// "Sending Messages to the Server").
    GoesOn,
}

async fn until_gone(running: impl Future<Output = ()>, client: mpsc::Sender<Item>, gone: Gone) {
    tokio::select! {
        () = running => {}
        () = client.closed(), if gone == Gone::Cancels => {}
    }
}

/// Does `work` until it is done or takes too long.
fn run<W, F>(
    id: String,
    timeout: Option<Duration>,
    items: mpsc::Sender<Item>,
    work: W,
) -> impl Future<Output = ()> + Send
where
    W: FnOnce(Out) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let unlimited = timeout.is_none();
    let timeout = timeout.unwrap_or(Duration::from_secs(60));
    let now = Instant::now();
    let (clock, mut watched) = watch::channel(Clock { due: now + timeout, turns_of_client: 0 });
    let last = now + timeout * LIFE_EXTENDS;
    async move {
        let client = items.clone();
        let out = Out { id: id.clone(), items, clock, timeout };
        tokio::select! {
            () = work(out) => {}
            () = passed(&mut watched, last), if !unlimited => {
                let answer = Item::Last(Answered::TimedOut(late(&id, timeout)));
                // The client may be the one that is slow.
                let _ = tokio::time::timeout(timeout, client.send(answer)).await;
            }
        }
    }
}

/// Waits until the request is due, however that changes, or `last` has passed.
async fn passed(clock: &mut watch::Receiver<Clock>, last: Instant) {
    loop {
        let Clock { due, turns_of_client } = *clock.borrow_and_update();
        let until = if turns_of_client > 0 { last } else { due.min(last) };
        tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            Ok(()) = clock.changed() => {}
        }
    }
}

impl Out {
    /// The request's id, as JSON text.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Passes a message on, which is a sign of life. `false` when the client is gone.
    pub(super) async fn message(&self, message: Bytes) -> bool {
        self.clock.send_modify(|clock| clock.due = Instant::now() + self.timeout);
        self.items.send(Item::Message(message)).await.is_ok()
    }

    /// The server waits for the client until what is returned is dropped; its time stands still
    /// meanwhile.
    pub(super) fn turn_of_client(&self) -> Turn {
        self.clock.send_modify(|clock| clock.turns_of_client += 1);
        Turn { clock: self.clock.clone(), timeout: self.timeout }
    }

    /// Answers with what a server said.
    pub(super) async fn served(&self, outcome: &Result<Bytes, Bytes>) {
        self.last(Answered::Served(Answer::served(&self.id, outcome))).await;
    }

    /// Answers with an error of ours.
    pub(super) async fn error(&self, code: i64, text: &str) {
        self.last(Answered::Served(Answer::error(&self.id, code, text, None))).await;
    }

    /// Answers that the server ended in the middle of the request.
    pub(super) async fn lost(&self, ended: &Ended) {
        self.last(Answered::Broken(lost(&self.id, ended))).await;
    }

    pub(super) async fn last(&self, answered: Answered) {
        let _ = self.items.send(Item::Last(answered)).await;
    }
}

/// The client's turn.
pub(super) struct Turn {
    clock: watch::Sender<Clock>,
    timeout: Duration,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.clock.send_modify(|clock| {
            clock.turns_of_client -= 1;
            clock.due = Instant::now() + self.timeout;
        });
    }
}

/// That the server took too long for the request with this id.
pub(super) fn late(id: &str, timeout: Duration) -> Answer {
    let text = format!("Internal error: no answer within {}", humantime::format_duration(timeout));
    Answer::error(id, INTERNAL_ERROR, &text, None)
}

/// That the server ended in the middle of the request with this id.
pub(super) fn lost(id: &str, ended: &Ended) -> Answer {
    let text = format!("Internal error: the server ended before it answered: {ended}; try again");
    Answer::error(id, INTERNAL_ERROR, &text, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    /// When a request is answered as too late whose task does `work`, in seconds from its start.
    async fn late_after<F: Future<Output = ()> + Send + 'static>(work: impl FnOnce(Out) -> F + Send + 'static) -> u64 {
        let begun = Instant::now();
        let mut reply = start(&TaskTracker::new(), "1".into(), Some(TIMEOUT), Gone::Cancels, work);
        loop {
            match reply.recv().await {
                Some(Item::Message(_)) => {}
                Some(Item::Last(Answered::TimedOut(_))) => return begun.elapsed().as_secs(),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_too_late_and_life_is_not() {
        let silent = late_after(|_out| std::future::pending()).await;
        assert_eq!(silent, 60);
        let lively = late_after(|out| async move {
            tokio::time::sleep(Duration::from_secs(50)).await;
            out.message("{}".into()).await;
            std::future::pending::<()>().await;
        });
        assert_eq!(lively.await, 110);
        let endless = late_after(|out| async move {
            loop {
                tokio::time::sleep(Duration::from_secs(50)).await;
                out.message("{}".into()).await;
            }
        });
        assert_eq!(endless.await, 60 * u64::from(LIFE_EXTENDS));
    }

    /// The first answer must not start the clock while a person still writes the second.
    #[tokio::test(start_paused = true)]
    async fn the_clock_stands_still_until_the_client_has_answered_everything() {
        let asked = late_after(|out| async move {
            let turns = [out.turn_of_client(), out.turn_of_client()];
            for turn in turns {
                tokio::time::sleep(Duration::from_secs(200)).await;
                drop(turn);
            }
            std::future::pending::<()>().await;
        });
        assert_eq!(asked.await, 460);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_gone_cancels_or_not() {
        for (gone, expected) in [(Gone::Cancels, false), (Gone::GoesOn, true)] {
            let tasks = TaskTracker::new();
            let (done, mut is_done) = mpsc::channel(1);
            let reply = start(&tasks, "1".into(), Some(TIMEOUT), gone, move |_out| async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let _ = done.send(()).await;
            });
            drop(reply);
            assert_eq!(is_done.recv().await.is_some(), expected);
        }
    }

    /// What a client that reads streams, or not, gets of `work`, and how many tasks run then.
    async fn begun<F>(streams: bool, work: impl FnOnce(Out) -> F + Send + 'static) -> (Reply, usize)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = TaskTracker::new();
        let patience = streams.then_some(TIMEOUT / 6);
        let reply = begin(&tasks, "1".into(), Some(TIMEOUT), patience, work).await;
        (reply, tasks.len())
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_streams_has_a_task() {
        let after = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        let begun_at = Instant::now();
        let (reply, tasks) = begun(true, move |out| async move {
            after(1).await;
            out.served(&Ok("{}".into())).await;
        })
        .await;
        let Reply::Stream(mut items) = reply else { panic!("a stream") };
        assert!(matches!(items.try_recv(), Ok(Item::Last(Answered::Served(_)))));
        assert_eq!((tasks, begun_at.elapsed().as_secs()), (0, 1));

        let (reply, tasks) = begun(true, move |out| async move {
            out.message("{}".into()).await;
            after(1).await;
            out.served(&Ok("{}".into())).await;
        })
        .await;
        let Reply::Stream(mut items) = reply else { panic!("a stream") };
        assert_eq!(tasks, 1);
        assert!(matches!(items.recv().await, Some(Item::Message(_))));
        assert!(matches!(items.recv().await, Some(Item::Last(_))));

        let begun_at = Instant::now();
        let (reply, tasks) = begun(true, move |_out| std::future::pending()).await;
        let Reply::Stream(mut items) = reply else { panic!("a stream") };
        assert_eq!((tasks, begun_at.elapsed().as_secs()), (1, 10), "its patience is over");
        assert!(matches!(items.recv().await, Some(Item::Last(Answered::TimedOut(_)))));
        assert_eq!(begun_at.elapsed().as_secs(), 60, "the clock does not begin anew with the task");
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_no_stream_gets_the_answer_alone() {
        let (reply, tasks) = begun(false, |out| async move {
            for _ in 0..UNREAD_MAX * 3 {
                assert!(out.message("{}".into()).await);
            }
            tokio::time::sleep(TIMEOUT / 2).await;
            out.served(&Ok("{}".into())).await;
        })
        .await;
        assert!(matches!(reply, Reply::Whole(Answered::Served(_))) && tasks == 0);
        let (reply, _) = begun(false, |_out| std::future::pending()).await;
        assert!(matches!(reply, Reply::Whole(Answered::TimedOut(_))));
        let (reply, _) = begun(false, |_out| std::future::ready(())).await;
        let Reply::Stream(mut items) = reply else { panic!("no answer") };
        assert!(items.recv().await.is_none(), "it was cancelled");
    }
}
