//! A process and its group.
//!
//! A group's id is its leader's process id, and a process id is free for others as soon as its
//! process has been waited for. So the leader, once it has exited, is left as a zombie until its
//! group has been killed, and no signal is sent after that: none can reach a stranger. This is why
//! the process is not tokio's, which waits for it in more than one place.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::{
    process::{ChildStderr, ChildStdin, ChildStdout},
    signal::unix::{self, SignalKind},
};

/// A process that leads a group of its own.
///
/// Dropping it kills the group; the leader then stays a zombie, because there is no time to wait:
/// that is for the end of the runtime only.
pub(super) struct Group {
    leader: Child,
    id: Pid,
    /// Some child of this process has changed its state.
    changes: unix::Signal,
    /// The leader has been waited for, so that its id may be a stranger's.
    reaped: bool,
}

/// The ends of a process's pipes.
pub(super) type Pipes = (ChildStdin, ChildStdout, ChildStderr);

impl Group {
    /// Starts `command`, whose standard streams must be piped. Must be called in a tokio runtime.
    pub(super) fn spawn(mut command: Command) -> io::Result<(Self, Pipes)> {
        // Listens before there is something to hear.
        let changes = unix::signal(SignalKind::child())?;
        let leader = command.process_group(0).spawn()?;
        let id = Pid::from_child(&leader);
        let mut group = Self { leader, id, changes, reaped: false };
        let leader = &mut group.leader;
        let missing = || io::Error::other("a standard stream is not piped");
        let stdin = ChildStdin::from_std(leader.stdin.take().ok_or_else(missing)?)?;
        let stdout = ChildStdout::from_std(leader.stdout.take().ok_or_else(missing)?)?;
        let stderr = ChildStderr::from_std(leader.stderr.take().ok_or_else(missing)?)?;
        Ok((group, (stdin, stdout, stderr)))
    }

    pub(super) fn id(&self) -> u32 {
        self.leader.id()
    }

    /// Waits until the leader has exited, and leaves it as it is. Cancel-safe.
    pub(super) async fn exited(&mut self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while !self.reaped {
            match waitid(WaitId::Pid(self.id), options) {
                Ok(Some(_)) => return,
                Ok(None) => _ = self.changes.recv().await,
                // Somebody else has waited for it, against all rules.
                Err(_) => self.reaped = true,
            }
        }
    }

    /// Asks all of the group to end.
    pub(super) fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Kills all of the group. Who is forking right now is killed together with the fork.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    /// Takes the exit status of a leader that has [`exited`](Self::exited). The group must have been
    /// killed before; from here on nothing can be.
    pub(super) fn reap(&mut self) -> Option<ExitStatus> {
        self.reaped = true;
        self.leader.try_wait().ok().flatten()
    }

    fn signal(&self, signal: Signal) {
        if !self.reaped {
            // Both fail only where there is nobody left, or who is left has become another user.
            let _ = kill_process_group(self.id, signal);
            // The leader itself may have joined another group.
            let _ = kill_process(self.id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
