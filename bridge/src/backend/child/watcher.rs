//! The end of children whose bridge was killed.
//!
//! A bridge that gets SIGKILL, or runs out of memory, cannot end its children, and of those that wait
//! for something else than their input nobody would. The kernel's own answer (`PR_SET_PDEATHSIG`)
//! reaches no grandchildren, and ends children when the *thread* that started them ends. So, before
//! its first child, the bridge starts itself once more as a watcher, which waits for the end of a
//! pipe that only the bridge holds, and then kills every process that has the bridge's mark in its
//! environment: children, what they have started, and also what has left their groups. Nothing is
//! registered, so there is no moment in which a child is missed.
//!
//! Processes that overwrite or clear their environment, or run as another user, are not found.

use std::{
    env, fs,
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    process::{self, Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;

use crate::{backend::child::INSTANCE_VARIABLE, telemetry::alarm::OncePerMinute};

/// The hidden subcommand that is the watcher.
pub const SUBCOMMAND: &str = "watch-children";

/// The time between two looks at all processes.
const PAUSE: Duration = Duration::from_millis(20);

/// So many looks in a row must find nobody: who was about to start when the bridge ended shows up
/// within a few milliseconds.
const QUIET_LOOKS: u32 = 3;

/// How long the watcher looks. Only a process that cannot be killed lasts longer than a look or two.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// The watcher, seen from the bridge.
pub(super) struct Watcher {
    instance: String,
    running: Mutex<Option<Child>>,
    failed: OncePerMinute,
}

impl Watcher {
    /// A watcher over the processes that are marked with `instance`. It is not started yet.
    pub(super) fn new(instance: &str) -> Self {
        Self { instance: instance.to_owned(), running: Mutex::default(), failed: OncePerMinute::default() }
    }

    /// Starts it if it does not run. A bridge that cannot have one serves all the same: it takes two
    /// faults to leave a child behind.
    pub(super) fn ensure(&self) {
        let mut running = self.lock();
        if running.as_mut().is_some_and(|watcher| matches!(watcher.try_wait(), Ok(None))) {
            return;
        }
        match start(&self.instance) {
            Ok(watcher) => *running = Some(watcher),
            Err(error) if self.failed.is_due() => {
                warn!(%error, "no watcher: children will survive this process if it is killed");
            }
            Err(_) => {}
        }
    }

    /// Lets it look after what is left, and end. Does not wait for that.
    pub(super) fn dismiss(&self) {
        // Its standard input is closed with the value.
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts this program as a watcher, with a pipe as its only tie to this process: nothing else keeps
/// it, and it keeps nothing else.
fn start(instance: &str) -> io::Result<Child> {
    // The file itself, whatever an update has put in its place.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("mcp-bridge").arg(SUBCOMMAND).env_clear().env(INSTANCE_VARIABLE, instance);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    // Ctrl-C is for the foreground group, and must not reach it.
    command.process_group(0).spawn()
}

/// The watcher itself: waits until standard input ends, then kills whoever has the mark that stands
/// in [`INSTANCE_VARIABLE`]. Takes a twentieth of a second if there is nobody, and
/// [`LOOK_MAX`] at most.
///
/// # Errors
/// Without a mark, or where signals cannot be withstood.
pub fn watch() -> io::Result<()> {
    let Some(instance) = env::var_os(INSTANCE_VARIABLE).filter(|instance| !instance.is_empty()) else {
        return Err(io::Error::other(format!("`{SUBCOMMAND}` is started by `serve`, not by hand")));
    };
    // `/proc/self/exe` would make it "exe" in lists of processes. It is only a name.
    let _ = fs::write("/proc/self/comm", "mcp-watcher");
    // A service manager that stops the bridge signals the watcher too, which must outlive it. Nobody
    // reads these streams, but as long as the runtime lives, so do the handlers.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()] {
        let _ = signal(kind)?;
    }
    drop(entered);

    // A pipe that cannot be read has no bridge at its other end either.
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());

    let mark = [INSTANCE_VARIABLE.as_bytes(), b"=", instance.as_bytes()].concat();
    let deadline = Instant::now() + LOOK_MAX;
    let mut quiet = 0;
    while quiet < QUIET_LOOKS && Instant::now() < deadline {
        quiet = if kill_marked(&mark) > 0 { 0 } else { quiet + 1 };
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Kills every other process that has `mark`, a `NAME=value`, in its environment, and counts them.
fn kill_marked(mark: &[u8]) -> usize {
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let others = numbers.filter(|number| u32::try_from(*number) != Ok(process::id()));
    others.filter_map(Pid::from_raw).filter(|pid| kill_if_marked(*pid, mark)).count()
}

fn kill_if_marked(pid: Pid, mark: &[u8]) -> bool {
    // Held before the environment is read, so that whoever gets the same number later is not killed.
    let held = pidfd_open(pid, PidfdFlags::empty());
    let mut environment = Vec::new();
    let read = fs::File::open(format!("/proc/{}/environ", pid.as_raw_nonzero()))
        .and_then(|mut file| file.read_to_end(&mut environment));
    // A zombie's is empty; a stranger's cannot be read.
    if read.is_err() || !environment.split(|byte| *byte == 0).any(|variable| variable == mark) {
        return false;
    }
    match held {
        Ok(held) => pidfd_send_signal(held, Signal::KILL),
        // Kernels before 5.3, and some sandboxes.
        Err(_) => kill_process(pid, Signal::KILL),
    }
    .is_ok()
}
