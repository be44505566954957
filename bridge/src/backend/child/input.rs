//! Lines to a process.

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::backend::child::Orders;

/// Lines that may wait for a process that does not read: enough for a burst, and past it whoever
/// sends is made to wait.
const QUEUE_MAX_LINES: usize = 64;

/// Writes lines to the standard input of a process. Clones write to the same queue, in order.
///
/// When the process's handle or the last clone is dropped, the standard input is closed after the
/// lines that are queued.
#[derive(Clone, Debug)]
pub struct Input {
    lines: mpsc::Sender<Bytes>,
    end: CancellationToken,
}

impl Input {
    /// Queues `line`, without its line end, and waits while the queue is full. Cancel-safe: then the
    /// line is not sent.
    ///
    /// A line break inside of `line` is sent as a space: one line stays one.
    ///
    /// # Errors
    /// [`Ended`] when the process no longer reads.
    pub async fn send(&self, line: Bytes) -> Result<(), Ended> {
        tokio::select! {
            biased;
            () = self.end.cancelled() => Err(Ended),
            sent = self.lines.send(one_line(line)) => sent.map_err(|_| Ended),
        }
    }

    /// Queues `line` like [`send`](Self::send), if there is room.
    ///
    /// # Errors
    /// [`TrySendError`] when there is none, or the process no longer reads.
    pub fn try_send(&self, line: Bytes) -> Result<(), TrySendError> {
        if self.end.is_cancelled() {
            return Err(TrySendError::Ended(Ended));
        }
        self.lines.try_send(one_line(line)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => TrySendError::Full,
            mpsc::error::TrySendError::Closed(_) => TrySendError::Ended(Ended),
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

/// An input, and the task that writes its lines to `pipe`.
pub(super) fn open(pipe: impl AsyncWrite + Unpin, orders: Orders) -> (Input, impl Future<Output = ()>) {
    let (sender, receiver) = mpsc::channel(QUEUE_MAX_LINES);
    let input = Input { lines: sender, end: orders.end.clone() };
    let writing = async move {
        tokio::select! {
            biased;
            () = orders.over.cancelled() => {}
            // Its end drops the pipe, which closes it.
            () = write(pipe, receiver, orders.end) => {}
        }
    };
    (input, writing)
}

async fn write(mut pipe: impl AsyncWrite + Unpin, mut lines: mpsc::Receiver<Bytes>, end: CancellationToken) {
    loop {
        let line = tokio::select! {
            biased;
            line = lines.recv() => line,
            () = end.cancelled() => {
                // What was queued before is still written.
                lines.close();
                lines.recv().await
            }
        };
        let Some(line) = line else { return };
        if pipe.write_all_buf(&mut line.chain(&b"\n"[..])).await.is_err() {
            return;
        }
    }
}

/// `line` with spaces for line breaks, of which there are usually none.
fn one_line(line: Bytes) -> Bytes {
    let breaks = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if !line.iter().any(breaks) {
        return line;
    }
    line.iter().map(|byte| if breaks(byte) { b' ' } else { *byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_inside_cannot_make_two_lines() {
        for (line, expected) in [("{}", "{}"), ("{\n\"a\":\r\n1}", "{ \"a\":  1}"), ("\n", " "), ("", "")] {
            assert_eq!(one_line(Bytes::from(line)), expected);
        }
    }
}
