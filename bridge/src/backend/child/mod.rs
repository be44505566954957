//! Processes that speak in lines: started, fed, heard, and ended with everything that they started.
//!
//! This is the layer under servers that speak over stdio. It knows processes and lines and not what
//! the lines say, so that each half can be read by itself: nothing here parses, and nothing above
//! handles a process id.
//!
//! One [`Program`] gives many [`Process`]es. Each has a group of its own (on Windows a Job Object),
//! and all that belongs to it ends when its [`Handle`] is dropped: first its input is closed, then
//! the group gets SIGTERM, then SIGKILL. A process that ends by itself takes its group along.
//! Whatever a child does, its end costs at most two grace periods, and no zombie stays behind.
//! Should the bridge itself be killed, the [`watcher`] ends its children (on Linux; on Windows the
//! job does; elsewhere they only see the end of their input).

mod chunk;
mod environment;
mod errors;
#[cfg_attr(windows, path = "group/windows.rs")]
#[cfg_attr(not(windows), path = "group/unix.rs")]
mod group;
mod input;
mod memory;
#[cfg(target_os = "linux")]
mod orphans;
mod output;
mod spawn_error;
mod undertaker;
#[cfg(target_os = "linux")]
pub mod watcher;

// They look into /proc.
#[cfg(all(test, target_os = "linux"))]
mod tests;

use std::{ffi::OsString, fmt, path::PathBuf, process::ExitStatus, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use errors::Hears;
pub use input::{Ended, Input, TrySendError};
pub use memory::Start;
pub(crate) use memory::Streams;
pub use output::{Output, OutputError, Pipe};
pub use spawn_error::SpawnError;
pub use undertaker::Undertaker;

/// Marks all processes of one bridge: 128 random bits in hexadecimal, which children inherit and the
/// watcher looks for.
pub const INSTANCE_VARIABLE: &str = "MCP_BRIDGE_INSTANCE";

/// What children find in their environment of ours: the mark, and the user that they were started
/// for. A bridge that is itself a child takes none of it for a setting.
pub const CHILD_VARIABLES: [&str; 6] = [
    INSTANCE_VARIABLE,
    "MCP_BRIDGE_SUBJECT",
    "MCP_BRIDGE_SUBJECT_ISSUER",
    "MCP_BRIDGE_EMAIL",
    "MCP_BRIDGE_SCOPES",
    "MCP_BRIDGE_CLIENT_ID",
];

/// How long a pipe may still be read after the process that wrote to it is over: whatever it wrote is
/// in the pipe by then, and a stranger that also holds the pipe must not keep us.
const LINGER: Duration = Duration::from_millis(50);

/// What to start: command, arguments, environment, working folder, and bounds.
#[derive(Clone, Debug)]
pub struct Program {
    /// What the log calls it.
    pub name: String,
    /// A path, or a name that is looked up in the `PATH` of [`environment`](Self::environment). A
    /// relative path begins at the working folder.
    pub command: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// All variables that it gets; nothing is inherited. [`Program::environment`] makes it.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts; `None`: where the bridge did.
    pub working_dir: Option<PathBuf>,
    /// A longer line of its output is [`OutputError::TooLong`].
    pub max_line_bytes: usize,
    /// How long each step of ending may take: after its input was closed, and after SIGTERM.
    pub grace: Duration,
    /// Who hears its standard error before the log does.
    pub hears: Option<Arc<dyn Hears>>,
}

/// A running process. Its parts are used, and dropped, independently.
#[derive(Debug)]
pub struct Process {
    /// Lines to it.
    pub input: Input,
    /// Lines from it.
    pub output: Output,
    /// Its life.
    pub handle: Handle,
}

/// The life of a process: dropping it ends the process and all that it has started, in the
/// background, within two grace periods.
#[derive(Debug)]
pub struct Handle {
    id: u32,
    orders: Orders,
    ended: watch::Receiver<Option<ExitDescription>>,
}

impl Handle {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits for the end, however it comes. Cancel-safe.
    pub async fn ended(&self) -> ExitDescription {
        let mut ended = self.ended.clone();
        // The sender is lost only with the runtime, which kills the process.
        let seen = ended.wait_for(Option::is_some).await.ok().and_then(|description| *description);
        seen.unwrap_or(ExitDescription(None))
    }

    /// Whether the process is over and its group killed.
    pub fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Kills it at once, with its group: for a process that misbehaves. Does not wait.
    pub fn kill(&self) {
        self.orders.kill.cancel();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.orders.end.cancel();
    }
}

/// How a process ended, as a short sentence without its subject: "exited with code 3".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitDescription(Option<ExitStatus>);

impl fmt::Display for ExitDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(status) = self.0 else { return f.write_str("ended, nobody saw how") };
        #[cfg(unix)]
        if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
            return write!(f, "was killed by signal {signal}");
        }
        match status.code() {
            Some(code) => write!(f, "exited with code {code}"),
            None => write!(f, "ended: {status}"),
        }
    }
}

/// What is told to the tasks of one process.
#[derive(Clone, Debug)]
struct Orders {
    /// Close its input, then be less and less patient.
    end: CancellationToken,
    /// Kill it.
    kill: CancellationToken,
    /// It is over: nothing will be written any more.
    over: CancellationToken,
}
