//! Lines from a process.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use tokio::{
    io::{AsyncRead, DuplexStream, ReadBuf},
    process::ChildStdout,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::backend::child::{LINGER, chunk};

/// Reads lines from the standard output of a process.
#[derive(Debug)]
pub struct Output<R = Pipe> {
    lines: Lines<R>,
    over: CancellationToken,
}

/// Where lines come from.
#[derive(Debug)]
pub enum Pipe {
    /// A process.
    Process(ChildStdout),
    /// What stands for one in this process.
    Memory(DuplexStream),
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Process(pipe) => Pin::new(pipe).poll_read(context, buffer),
            Self::Memory(pipe) => Pin::new(pipe).poll_read(context, buffer),
        }
    }
}

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The process has ended, or has closed its standard output.
    #[error("the process has closed its standard output")]
    End,
    /// A line was longer than it may be. What follows it can still be read.
    #[error("the process wrote a line of more than {max} bytes")]
    TooLong {
        /// The most bytes that a line may have.
        max: usize,
    },
    /// The pipe failed.
    #[error("cannot read the standard output of the process")]
    Io(#[source] io::Error),
}

impl<R: AsyncRead + Unpin> Output<R> {
    pub(super) fn new(pipe: R, max_line_bytes: usize, over: CancellationToken) -> Self {
        let lines = Lines { pipe, max: max_line_bytes, buffer: BytesMut::new(), searched: 0, skipping: false };
        Self { lines, over }
    }

    /// The next line that is not empty, without its line end. A last line needs none. Cancel-safe.
    ///
    /// Ends with the process even if somebody else, who has left its group, holds the pipe.
    ///
    /// # Errors
    /// [`OutputError`]. After [`TooLong`](OutputError::TooLong), which comes before the rest of the
    /// line was read, the next call goes on after that line; the others are final.
    pub async fn next(&mut self) -> Result<Bytes, OutputError> {
        tokio::select! {
            biased;
            line = self.lines.next() => return line,
            () = self.over.cancelled() => {}
        }
        timeout(LINGER, self.lines.next()).await.unwrap_or(Err(OutputError::End))
    }
}

#[derive(Debug)]
struct Lines<R> {
    pipe: R,
    max: usize,
    /// What was read and not yet returned; never more than a line end over `max`, or one chunk.
    buffer: BytesMut,
    /// How much of `buffer` has no line end.
    searched: usize,
    /// The line was too long, and its rest is thrown away.
    skipping: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    async fn next(&mut self) -> Result<Bytes, OutputError> {
        loop {
            while let Some(line) = self.take_line() {
                if std::mem::take(&mut self.skipping) || line.is_empty() {
                    continue;
                }
                return if line.len() > self.max { Err(OutputError::TooLong { max: self.max }) } else { Ok(line) };
            }
            if self.skipping {
                self.buffer.clear();
                self.searched = 0;
            }
            // A line of the most bytes and its line end, which may be two.
            let most = self.max.saturating_add(2);
            let room = most - self.buffer.len();
            if room == 0 {
                self.buffer = BytesMut::new();
                self.searched = 0;
                self.skipping = true;
                return Err(OutputError::TooLong { max: self.max });
            }
            match chunk::read(&mut self.pipe, room, |chunk| self.buffer.extend_from_slice(chunk)).await {
                Ok(0) => return self.last(),
                Ok(_) => {}
                Err(error) => return Err(OutputError::Io(error)),
            }
        }
    }

    fn take_line(&mut self) -> Option<Bytes> {
        let Some(at) = memchr(b'\n', &self.buffer[self.searched..]) else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + at;
        self.searched = 0;
        // A long line's memory goes with it instead of being kept for the next one.
        let is_last = end + 1 == self.buffer.len();
        let mut line = if is_last { std::mem::take(&mut self.buffer) } else { self.buffer.split_to(end + 1) };
        line.truncate(end);
        Some(without_return(line))
    }

    fn last(&mut self) -> Result<Bytes, OutputError> {
        self.searched = 0;
        let line = without_return(self.buffer.split());
        match line.len() {
            0 => Err(OutputError::End),
            _ if std::mem::take(&mut self.skipping) => Err(OutputError::End),
            length if length > self.max => Err(OutputError::TooLong { max: self.max }),
            _ => Ok(line),
        }
    }
}

fn without_return(mut line: BytesMut) -> Bytes {
    if line.ends_with(b"\r") {
        line.truncate(line.len() - 1);
    }
    line.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything that comes of `written`, which arrives in pieces of at most `piece` bytes.
    fn read(written: &[u8], piece: usize, max: usize) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let mut output = Output::new(Pieces { rest: written, piece }, max, CancellationToken::new());
            let mut found = Vec::new();
            loop {
                found.push(match output.next().await {
                    Ok(line) => String::from_utf8_lossy(&line).into_owned(),
                    Err(OutputError::TooLong { .. }) => "too long".to_owned(),
                    Err(OutputError::End) => return found,
                    Err(OutputError::Io(error)) => panic!("{error}"),
                });
                let held = output.lines.buffer.len();
                assert!(held <= max + 2 + chunk::CHUNK_BYTES, "{held} bytes are held");
            }
        })
    }

    struct Pieces<'b> {
        rest: &'b [u8],
        piece: usize,
    }

    impl AsyncRead for Pieces<'_> {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            let count = self.piece.min(self.rest.len()).min(buffer.remaining());
            let (now, later) = self.rest.split_at(count);
            buffer.put_slice(now);
            self.rest = later;
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn lines_are_split_whatever_the_pieces() {
        for piece in [1, 2, 3, 100] {
            assert_eq!(read(b"a\nbc\r\n\n\r\nlast", piece, 4), ["a", "bc", "last"]);
            assert_eq!(read(b"1234\n1234\r\n12345\n12\n", piece, 4), ["1234", "1234", "too long", "12"]);
            assert_eq!(read(b"1\n123456789\n2\n", piece, 4), ["1", "too long", "2"]);
            assert_eq!(read(b"1\n12345", piece, 4), ["1", "too long"]);
            assert_eq!(read(b"1\n123456789", piece, 4), ["1", "too long"]);
            assert_eq!(read(b"", piece, 4), [""; 0]);
        }
    }

    proptest! {
        #[test]
        fn every_line_comes_once_and_in_order(
            lines in prop::collection::vec("[a-z]{1,30}", 0..20), piece in 1_usize..40, max in 1_usize..30,
        ) {
            let expected: Vec<_> = lines.iter().map(|line| if line.len() > max { "too long" } else { line }).collect();
            prop_assert_eq!(read((lines.join("\n") + "\n").as_bytes(), piece, max), expected);
        }
    }
}
