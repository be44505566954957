//! A process and its Job Object, which keeps all that it starts, and dies with the last handle to it:
//! also when the bridge is killed.

use std::{
    io,
    process::{Command, ExitStatus},
};

use process_wrap::tokio::{ChildWrapper, CommandWrap, CreationFlags, JobObject, KillOnDrop};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use windows::Win32::System::Threading::CREATE_NO_WINDOW;

/// A process in a Job Object of its own. Dropping it kills all processes of the job.
pub(super) struct Group {
    job: Box<dyn ChildWrapper>,
    id: u32,
}

/// The ends of a process's pipes.
pub(super) type Pipes = (ChildStdin, ChildStdout, ChildStderr);

impl Group {
    /// Starts `command`, whose standard streams must be piped. Must be called in a tokio runtime.
    ///
    /// The process is suspended until it is in the job, so that nothing it starts can be outside. It gets
    /// a console of its own, which nobody sees: Ctrl-C in ours would end it while it still has to answer,
    /// and where we have none, each process would open a window.
    pub(super) fn spawn(command: Command) -> io::Result<(Self, Pipes)> {
        let mut command = CommandWrap::from(tokio::process::Command::from(command));
        let mut job = command.wrap(CreationFlags(CREATE_NO_WINDOW)).wrap(KillOnDrop).wrap(JobObject).spawn()?;
        let missing = || io::Error::other("a standard stream is not piped");
        let stdin = job.stdin().take().ok_or_else(missing)?;
        let stdout = job.stdout().take().ok_or_else(missing)?;
        let stderr = job.stderr().take().ok_or_else(missing)?;
        let id = job.id().ok_or_else(missing)?;
        Ok((Self { job, id }, (stdin, stdout, stderr)))
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Waits until the leader has exited. Cancel-safe.
    pub(super) async fn exited(&mut self) {
        // Of the inner process: the job's own wait is for all processes in it.
        let _ = self.job.inner_mut().wait().await;
    }

    /// There is no way to ask that every program understands.
    pub(super) fn terminate(&mut self) {
        self.kill();
    }

    /// Kills all processes of the job.
    pub(super) fn kill(&mut self) {
        // It fails only where there is nobody left.
        let _ = self.job.start_kill();
    }

    /// Takes the exit status of a leader that has [`exited`](Self::exited).
    pub(super) fn reap(&mut self) -> Option<ExitStatus> {
        self.job.inner_mut().try_wait().ok().flatten()
    }
}
