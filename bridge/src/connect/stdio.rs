//! The client's side as a pipe: lines in, lines out, and nothing else on standard output.

use std::io;

use bytes::{Buf as _, Bytes};
use mcp_calculator::stdio::{
    lines::{Line, Lines},
    pipes,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::remote::{client::Client, http::MESSAGE_MAX_BYTES};
use crate::{backend::Answer, message::INVALID_REQUEST};

/// Lines that may wait on the way in. The next is read when there is room, so a client that sends
/// faster than the server takes waits at its own pipe.
const IN_MAX_LINES: usize = 16;
/// Lines that may wait on the way out, before the streams that they come from wait, too.
const OUT_MAX_LINES: usize = 64;

/// Both ends, running. Must be opened in a runtime.
pub(super) struct Stdio {
    /// What the client says, one message a line; it ends with standard input.
    pub(super) lines: mpsc::Receiver<Bytes>,
    /// Cancelled at the end of standard input.
    pub(super) ended: CancellationToken,
    /// Where it is told something.
    pub(super) client: Client,
    /// Writes what it is told, until nobody can tell it anything.
    pub(super) writer: tokio::task::JoinHandle<()>,
}

impl Stdio {
    /// Opens standard input and output. `gone` is cancelled when nobody reads the output any more.
    pub(super) fn open(gone: CancellationToken) -> Self {
        Self::over(pipes::input(), pipes::output(), gone)
    }

    /// The same with other pipes.
    pub(super) fn over(
        input: impl AsyncRead + Send + Unpin + 'static,
        output: impl AsyncWrite + Send + Unpin + 'static,
        gone: CancellationToken,
    ) -> Self {
        let (out, queue) = mpsc::channel(OUT_MAX_LINES);
        let writer = tokio::spawn(async move {
            if let Err(error) = write(queue, output).await
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                warn!(%error, "cannot write standard output");
            }
            gone.cancel();
        });
        let client = Client::new(out);
        let (sender, lines) = mpsc::channel(IN_MAX_LINES);
        let (told, ended) = (client.clone(), CancellationToken::new());
        let at_end = ended.clone().drop_guard();
        tokio::spawn(async move {
            let _at_end = at_end;
            if let Err(error) = read(input, sender, told).await {
                warn!(%error, "cannot read standard input");
            }
        });
        Self { lines, ended, client, writer }
    }
}

async fn read(input: impl AsyncRead + Unpin, lines: mpsc::Sender<Bytes>, client: Client) -> io::Result<()> {
    let mut input = Lines::new(input, MESSAGE_MAX_BYTES);
    loop {
        let next = tokio::select! {
            next = input.next() => next?,
            () = lines.closed() => return Ok(()),
        };
        match next {
            None => return Ok(()),
            Some(Line::Complete(line)) if line.trim_ascii().is_empty() => {}
            Some(Line::Complete(mut line)) => {
                line.pop_if(|last| *last == b'\r');
                if lines.send(line.into()).await.is_err() {
                    return Ok(());
                }
            }
            Some(Line::TooLong) => {
                let text = format!("the line has more than {} MiB", MESSAGE_MAX_BYTES >> 20);
                client.tell(Answer::error("null", INVALID_REQUEST, &text, None).message).await;
            }
        }
    }
}

/// Writes what is queued, and flushes whenever the queue is empty.
async fn write(mut queue: mpsc::Receiver<Bytes>, mut output: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut lines = Vec::new();
    while queue.recv_many(&mut lines, OUT_MAX_LINES).await > 0 {
        for line in lines.drain(..) {
            output.write_all_buf(&mut line.chain(&b"\n"[..])).await?;
        }
        output.flush().await?;
    }
    Ok(())
}
