//! What stands for a process: a task of this program that reads and writes lines.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    io::{DuplexStream, duplex},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::backend::child::{ExitDescription, Handle, Output, Pipe, Process, Program, SpawnError, Undertaker, input};

/// How much a pipe in memory holds before its writer waits: what one of the system's holds.
const PIPE_BYTES: usize = 64 << 10;

/// Gives processes, or what stands for them.
pub trait Start: Send + Sync {
    /// What the log calls them.
    fn name(&self) -> &str;

    /// How long each step of ending one may take.
    fn grace(&self) -> Duration;

    /// Starts one, as [`Program::spawn`] does.
    ///
    /// # Errors
    /// [`SpawnError`]
    fn start(
        &self,
        identity: &[(&'static str, String)],
        undertaker: &Undertaker,
        until_over: Box<dyn Send + Sync>,
    ) -> Result<Process, SpawnError>;
}

impl Start for Program {
    fn name(&self) -> &str {
        &self.name
    }

    fn grace(&self) -> Duration {
        self.grace
    }

    fn start(
        &self,
        identity: &[(&'static str, String)],
        undertaker: &Undertaker,
        until_over: Box<dyn Send + Sync>,
    ) -> Result<Process, SpawnError> {
        self.spawn(identity, undertaker, until_over)
    }
}

/// The standard streams of what stands for a process, from its side, and the order to end.
pub(crate) struct Streams {
    /// Lines to it; ends when it is to end, or when nobody has something to say any more.
    pub(crate) stdin: DuplexStream,
    /// Lines from it.
    pub(crate) stdout: DuplexStream,
    /// Cancelled when it is to end.
    pub(crate) end: CancellationToken,
}

impl Undertaker {
    /// Has `work` stand for a process, until it is done or killed. Lines of more than `max_line_bytes`
    /// are too long, as with a [`Program`]. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`SpawnError::Closing`]
    pub(crate) fn adopt<F: Future<Output = ()> + Send + 'static>(
        &self,
        max_line_bytes: usize,
        until_over: Box<dyn Send + Sync>,
        work: impl FnOnce(Streams) -> F,
    ) -> Result<Process, SpawnError> {
        // From the far end of the numbers, where the system has no processes.
        static LAST_ID: AtomicU32 = AtomicU32::new(u32::MAX);
        let orders = self.orders()?;
        let (to_it, stdin) = duplex(PIPE_BYTES);
        let (stdout, from_it) = duplex(PIPE_BYTES);
        let (tell, ended) = watch::channel(None);
        let (input, writing) = input::open(to_it, orders.clone());
        let output = Output::new(Pipe::Memory(from_it), max_line_bytes, orders.over.clone());
        let working = work(Streams { stdin, stdout, end: orders.end.clone() });
        let (kill, over) = (orders.kill.clone(), orders.over.clone());
        let tasks = self.tasks();
        tasks.spawn(writing);
        tasks.spawn(async move {
            tokio::select! {
                () = kill.cancelled() => {}
                () = working => {}
            }
            over.cancel();
            drop(until_over);
            tell.send_replace(Some(ExitDescription(None)));
        });
        let id = LAST_ID.fetch_sub(1, Ordering::Relaxed);
        Ok(Process { input, output, handle: Handle { id, orders, ended } })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn lines_go_both_ways_and_the_handle_ends_it() {
        let undertaker = Undertaker::unwatched().expect("random numbers");
        let (over, is_over) = tokio::sync::oneshot::channel::<()>();
        let process = undertaker.adopt(100, Box::new(over), |Streams { mut stdin, mut stdout, end }| async move {
            let mut said = [0; 3];
            stdin.read_exact(&mut said).await.expect("a line");
            stdout.write_all(&said).await.expect("a reader");
            end.cancelled().await;
            stdout.write_all(b"bye\n").await.expect("a reader");
        });
        let Process { input, mut output, handle } = process.expect("it is not closed");
        input.send(Bytes::from_static(b"hi")).await.expect("it reads");
        assert_eq!(output.next().await.expect("a line"), "hi");
        assert!(!handle.has_ended());
        drop(handle);
        assert_eq!(output.next().await.expect("a line"), "bye");
        is_over.await.expect_err("what was held is dropped");
        undertaker.close(Duration::from_secs(1)).await;
        assert!(undertaker.adopt(100, Box::new(()), |_| async {}).is_err());
    }
}
