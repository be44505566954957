//! The calculator on stdin and stdout: rmcp's runtime behind a strict reader.
//!
//! Requests are answered one after the other, in the order in which they came: each takes
//! microseconds, and so two requests with one id, or an answer that overtakes another, cannot be.

#[cfg(windows)]
pub mod console;
pub mod lines;
mod message;
pub mod pipes;
mod service;
mod transport;

use std::{io, pin::Pin, sync::Arc, time::Duration};

use rmcp::service::serve_directly;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

use self::{service::Calculator, transport::Stdio};

/// How many answers may wait for a client that does not read, before its requests wait, too.
const QUEUED_ANSWERS: usize = 64;

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
    /// The task that serves ended by itself.
    #[error("the server task failed")]
    Task(#[source] tokio::task::JoinError),
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
        let (input, output) = (pipes::input(), pipes::output());
        let (answers, queue) = mpsc::channel(QUEUED_ANSWERS);
        let mut writer = tokio::spawn(write(queue, output));
        let (transport, mut failure) = Stdio::new(input, answers);
        let running = serve_directly(Calculator { access: access.clone() }, transport, None);
        let stop = running.cancellation_token();
        let mut waiting = std::pin::pin!(running.waiting());
        let finish = async {
            waiting.as_mut().await.map_err(StdioError::Task)?;
            (&mut writer).await.map_err(StdioError::Task)?.map_err(StdioError::Write)
        };
        let mut finish = std::pin::pin!(finish);
        tokio::select! {
            finished = &mut finish => finished?,
            signal = terminated() => {
                signal.map_err(StdioError::Runtime)?;
                stop.cancel();
                // Past the grace there is nobody to write to, which is no failure of ours.
                return tokio::time::timeout(SIGNAL_GRACE, finish).await.unwrap_or(Ok(()));
            }
        }
        failure.try_recv().map_or(Ok(()), |error| Err(StdioError::Read(error)))
    });
    if let Some(access) = access {
        runtime.block_on(async { tokio::time::timeout(CLOSING_GRACE, access.close()).await.ok() });
    }
    // A thread of the runtime may sit in a read of standard input that nothing can interrupt.
    runtime.shutdown_background();
    served
}

/// Writes what is queued, and flushes whenever the queue is empty.
///
/// A closed pipe ends it without an error: whoever asked has gone.
async fn write(mut queue: mpsc::Receiver<Vec<u8>>, mut output: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut answers = Vec::new();
    while queue.recv_many(&mut answers, QUEUED_ANSWERS).await > 0 {
        let written = async {
            output.write_all(&answers.concat()).await?;
            output.flush().await
        };
        match written.await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result?,
        }
        answers.clear();
    }
    Ok(())
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
