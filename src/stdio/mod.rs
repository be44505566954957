//! The calculator on stdin and stdout: a strict reader, and the functions of [`server`](crate::server).
//!
//! Requests are answered one after the other, in the order in which they came: each takes
//! microseconds, and so two requests with one id, or an answer that overtakes another, cannot be.

mod answers;
#[cfg(windows)]
pub mod console;
pub mod lines;
mod message;
pub mod pipes;

use std::{io, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};

use self::{
    answers::Answers,
    lines::{Lines, MAX_LINE_BYTES},
};

/// How long, after a signal, an answer may take to be written: the client may have stopped reading.
const SIGNAL_GRACE: Duration = Duration::from_millis(500);

/// How long what decides about calls may take to end: a client kills its servers after a few seconds.
const CLOSING_GRACE: Duration = Duration::from_secs(2);

/// Why the server could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// The runtime or its signal handlers could not be set up.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// Requests cannot be read.
    #[error("cannot read standard input")]
    Read(#[source] io::Error),
    /// Answers cannot be written.
    #[error("cannot write standard output")]
    Write(#[source] io::Error),
}

/// Decides what may be calculated.
pub trait Access: Send + Sync {
    /// Whether a call that needs `scope` may be carried out; the error is the text that the model and
    /// its user read. Must end by itself: everything behind the call waits for it.
    fn check(&self, scope: &'static str) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;

    /// Brings what it has begun to an end, when nothing will be asked any more.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }
}

/// Serves what `access` allows, or everything without it, until the end of the input, SIGTERM, SIGINT
/// (on Windows Ctrl-C, Ctrl-Break, or the end of its console), or until nobody reads the answers any more.
///
/// Everything that was read before the end of the input is answered before this returns.
///
/// # Errors
/// [`StdioError`]; a closed standard output is not an error.
pub fn serve(access: Option<Arc<dyn Access>>) -> Result<(), StdioError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StdioError::Runtime)?;
    let served = runtime.block_on(async {
        let lines = Lines::new(pipes::input(), MAX_LINE_BYTES);
        let answers = Answers::new(pipes::output(), access.clone());
        let stop = Notify::new();
        let mut answered = std::pin::pin!(answer(lines, answers, &stop));
        tokio::select! {
            answered = &mut answered => answered,
            signal = terminated() => {
                signal.map_err(StdioError::Runtime)?;
                stop.notify_one();
                // Past the grace there is nobody to write to, which is no failure of ours.
                tokio::time::timeout(SIGNAL_GRACE, answered).await.unwrap_or(Ok(()))
            }
        }
    });
    if let Some(access) = access {
        runtime.block_on(async { tokio::time::timeout(CLOSING_GRACE, access.close()).await.ok() });
    }
    // A thread of the runtime may sit in a read of standard input that nothing can interrupt.
    runtime.shutdown_background();
    served
}

/// Answers every line until the end of the input, or until `stop`.
///
/// A closed pipe ends it without an error: whoever asked has gone.
async fn answer(
    mut lines: Lines<impl AsyncRead + Unpin>,
    mut answers: Answers<impl AsyncWrite + Unpin>,
    stop: &Notify,
) -> Result<(), StdioError> {
    loop {
        let line = tokio::select! {
            biased;
            () = stop.notified() => return Ok(()),
            line = lines.next() => line.map_err(StdioError::Read)?,
        };
        let Some(mut line) = line else { return Ok(()) };
        let written = async {
            loop {
                answers.answer(&line).await?;
                match lines.at_hand() {
                    Some(next) => line = next,
                    None => return answers.flush().await,
                }
            }
        };
        match written.await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result.map_err(StdioError::Write)?,
        }
    }
}

/// Waits for a request to end that comes from the system or a keyboard.
#[cfg(unix)]
async fn terminated() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Waits for a request to end that comes from the system or a keyboard.
#[cfg(windows)]
async fn terminated() -> io::Result<()> {
    console::Console::listen()?.asks_to_end().await;
    Ok(())
}

#[cfg(test)]
mod tests;
