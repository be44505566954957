//! Lines to a process.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io::IoSlice,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf as _, Bytes, buf::Chain};
use memchr::memchr2;
use tokio::{
    io::AsyncWrite,
    sync::{Notify, Semaphore, SemaphorePermit, TryAcquireError},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{backend::child::Orders, sync::Locked as _};

/// Lines that may wait for a process that does not read: enough for a burst, and past it whoever
/// sends is made to wait.
const QUEUE_MAX_LINES: usize = 64;

/// Writes lines to the standard input of a process. Clones write to the same queue, in order.
///
/// A line for which the pipe has room is written by whoever sends it: a task for that would first have
/// to be woken. The others wait for the task.
///
/// When the process's handle or the last clone is dropped, the standard input is closed after the
/// lines that are queued.
#[derive(Clone)]
pub struct Input {
    pipe: Arc<Pipe>,
    end: CancellationToken,
    _in_use: Arc<DropGuard>,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("waiting", &self.pipe.state.locked().waiting.len()).finish_non_exhaustive()
    }
}

impl Input {
    /// Writes or queues `line`, without its line end, and waits while the queue is full. Cancel-safe:
    /// then the line is not sent.
    ///
    /// A line break inside of `line` is sent as a space: one line stays one.
    ///
    /// # Errors
    /// [`Ended`] when the process no longer reads.
    pub async fn send(&self, line: Bytes) -> Result<(), Ended> {
        match self.try_room() {
            Ok(room) => self.pipe.put(one_line(line), room),
            Err(TrySendError::Ended(ended)) => Err(ended),
            Err(TrySendError::Full) => tokio::select! {
                biased;
                () = self.end.cancelled() => Err(Ended),
                room = self.pipe.room.acquire() => self.pipe.put(one_line(line), room.map_err(|_| Ended)?),
            },
        }
    }

    /// Sends `line` like [`send`](Self::send), if there is room.
    ///
    /// # Errors
    /// [`TrySendError`] when there is none, or the process no longer reads.
    pub fn try_send(&self, line: Bytes) -> Result<(), TrySendError> {
        let room = self.try_room()?;
        Ok(self.pipe.put(one_line(line), room)?)
    }

    /// Waits until the process turns out not to read any more, although nobody has closed its input; gives
    /// whether lines are lost that were queued before. Cancel-safe.
    pub(crate) async fn refused(&self) -> bool {
        self.pipe.refused.cancelled().await;
        self.pipe.state.locked().has_lost
    }

    fn try_room(&self) -> Result<SemaphorePermit<'_>, TrySendError> {
        if self.end.is_cancelled() {
            return Err(TrySendError::Ended(Ended));
        }
        self.pipe.room.try_acquire().map_err(|error| match error {
            TryAcquireError::NoPermits => TrySendError::Full,
            TryAcquireError::Closed => TrySendError::Ended(Ended),
        })
    }
}

/// The process has ended, is being ended, or has closed its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process no longer reads its standard input")]
pub struct Ended;

/// Why a line could not be queued at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError {
    /// Too many lines wait already.
    #[error("the process reads its standard input too slowly: {QUEUE_MAX_LINES} lines wait")]
    Full,
    /// Nobody will read it.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// An input, and the task that writes what cannot be written at once to `pipe`.
pub(super) fn open(
    pipe: impl AsyncWrite + Send + Unpin + 'static,
    orders: Orders,
) -> (Input, impl Future<Output = ()> + Send) {
    let state = State { pipe: Some(Box::new(pipe)), waiting: VecDeque::new(), has_lost: false };
    let pipe = Arc::new(Pipe {
        state: Mutex::new(state),
        room: Semaphore::new(QUEUE_MAX_LINES),
        filled: Notify::new(),
        unused: CancellationToken::new(),
        refused: CancellationToken::new(),
    });
    let in_use = Arc::new(pipe.unused.clone().drop_guard());
    let input = Input { pipe: Arc::clone(&pipe), end: orders.end.clone(), _in_use: in_use };
    // From here on, so that the pipe is closed even if the task never runs.
    let closing = Closing(pipe);
    let writing = async move {
        tokio::select! {
            biased;
            () = orders.over.cancelled() => {}
            () = closing.0.write(&orders.end) => {}
        }
    };
    (input, writing)
}

/// The pipe, and what waits for room in it.
struct Pipe {
    state: Mutex<State>,
    /// A permit for each line that may still be queued. Closed with the pipe.
    room: Semaphore,
    /// Something waits that did not before.
    filled: Notify,
    /// No input is left.
    unused: CancellationToken,
    /// A line could not be written.
    refused: CancellationToken,
}

struct State {
    /// `None` when it is closed.
    pipe: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Lines, the first perhaps without its beginning.
    waiting: VecDeque<Line>,
    /// Of what waited, some could not be written.
    has_lost: bool,
}

type Line = Chain<Bytes, &'static [u8]>;

impl Pipe {
    /// Writes `line`, as far as nothing waits before it and the process reads; the rest of it waits.
    fn put(&self, line: Bytes, room: SemaphorePermit<'_>) -> Result<(), Ended> {
        let mut state = self.state.locked();
        let was_empty = state.waiting.is_empty();
        if state.pipe.is_none() {
            return Err(Ended);
        }
        state.waiting.push_back(line.chain(b"\n"));
        room.forget();
        if was_empty {
            // Who is to be woken when there is room is said by the task, which looks again.
            match self.poll_write(&mut state, &mut Context::from_waker(Waker::noop())) {
                Poll::Pending => self.filled.notify_one(),
                Poll::Ready(written) => written?,
            }
        }
        Ok(())
    }

    /// Writes what waits, until `end` or no input is left and nothing waits.
    async fn write(&self, end: &CancellationToken) {
        loop {
            let written = poll_fn(|context| {
                let mut state = self.state.locked();
                let written = ready!(self.poll_write(&mut state, context));
                state.has_lost |= written.is_err();
                Poll::Ready(written)
            });
            if written.await.is_err() {
                return;
            }
            tokio::select! {
                biased;
                () = self.filled.notified() => {}
                () = self.unused.cancelled() => return,
                () = end.cancelled() => return,
            }
        }
    }

    /// Writes what waits. What goes wrong closes the pipe.
    fn poll_write(&self, state: &mut State, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while let (Some(line), Some(pipe)) = (state.waiting.front_mut(), &mut state.pipe) {
            let mut parts = [IoSlice::new(&[]); 2];
            let count = line.chunks_vectored(&mut parts);
            match ready!(Pin::new(pipe).poll_write_vectored(context, &parts[..count])) {
                Ok(written) if written > 0 => line.advance(written),
                _ => {
                    self.close(state);
                    self.refused.cancel();
                    return Poll::Ready(Err(Ended));
                }
            }
            if !line.has_remaining() {
                state.waiting.pop_front();
                self.room.add_permits(1);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn close(&self, state: &mut State) {
        state.pipe = None;
        state.waiting.clear();
        self.room.close();
    }
}

/// Closes the pipe when it is dropped.
struct Closing(Arc<Pipe>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close(&mut self.0.state.locked());
    }
}

/// `line` with spaces for line breaks, of which there are usually none.
fn one_line(line: Bytes) -> Bytes {
    if memchr2(b'\n', b'\r', &line).is_none() {
        return line;
    }
    line.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt as _, DuplexStream, duplex},
        time::timeout,
    };

    use super::*;

    /// How long to wait for what must happen; only a failing test ever waits this long.
    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_line_break_inside_cannot_make_two_lines() {
        for (line, expected) in [("{}", "{}"), ("{\n\"a\":\r\n1}", "{ \"a\":  1}"), ("\n", " "), ("", "")] {
            assert_eq!(one_line(Bytes::from(line)), expected);
        }
    }

    fn opened(room_bytes: usize) -> (Input, impl Future<Output = ()> + Send, DuplexStream, CancellationToken) {
        let (ours, theirs) = duplex(room_bytes);
        let [end, kill, over] = [(); 3].map(|()| CancellationToken::new());
        let (input, writing) = open(ours, Orders { end: end.clone(), kill, over });
        (input, writing, theirs, end)
    }

    #[tokio::test]
    async fn what_the_pipe_has_no_room_for_comes_whole_and_in_order() {
        for room_bytes in [1, 7, 100, 100_000] {
            let (input, writing, mut theirs, _) = opened(room_bytes);
            let writing = tokio::spawn(writing);
            let sending = tokio::spawn(async move {
                for number in 0..1000 {
                    input.send(format!("line {number}").into()).await.expect("it reads");
                }
            });
            let mut read = String::new();
            theirs.read_to_string(&mut read).await.expect("it is text");
            let expected: String = (0..1000).map(|number| format!("line {number}\n")).collect();
            assert!(read == expected, "with room for {room_bytes}");
            sending.await.expect("all was sent");
            writing.await.expect("it ends with the last input");
        }
    }

    #[tokio::test]
    async fn who_does_not_read_is_sent_so_much_and_no_more() {
        let (input, writing, mut theirs, end) = opened(2);
        for _ in 0..QUEUE_MAX_LINES {
            assert_eq!(input.try_send("line".into()), Ok(()));
        }
        assert_eq!(input.try_send("line".into()), Err(TrySendError::Full));
        end.cancel();
        assert_eq!(input.try_send("line".into()), Err(TrySendError::Ended(Ended)));
        assert_eq!(input.send("line".into()).await, Err(Ended));
        let mut read = String::new();
        let (_, outcome) = tokio::join!(writing, theirs.read_to_string(&mut read));
        outcome.expect("it is text");
        assert_eq!(read, "line\n".repeat(QUEUE_MAX_LINES), "what was queued before the end");
    }

    #[tokio::test]
    async fn nobody_waits_for_who_is_gone() {
        let (input, writing, theirs, _) = opened(2);
        drop(theirs);
        for _ in 0..2 {
            assert_eq!(input.send("line".into()).await, Err(Ended));
        }
        let refused = timeout(PATIENCE, input.refused()).await;
        assert_eq!(refused, Ok(false), "who has sent it knows");
        drop(writing);
        let (input, writing, _theirs, _) = opened(2);
        drop(writing);
        assert_eq!(input.send("line".into()).await, Err(Ended));
    }

    #[tokio::test]
    async fn what_was_queued_for_who_is_gone_is_told_to_be_lost() {
        let (input, writing, theirs, _) = opened(2);
        assert_eq!(input.send("it is queued".into()).await, Ok(()));
        drop(theirs);
        writing.await;
        let refused = timeout(PATIENCE, input.refused()).await;
        assert_eq!(refused, Ok(true));
    }
}
