//! What asks a running bridge to end, or to open its audit file again.

use std::{io, sync::Arc};

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
#[cfg(unix)]
use tracing::error;

use crate::telemetry::audit::Audit;

/// The signals that a service manager sends.
#[cfg(unix)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Somebody started it by hand: a terminal that closes is their farewell.
    in_terminal: bool,
}

#[cfg(unix)]
impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            in_terminal: io::IsTerminal::is_terminal(&io::stderr()),
        })
    }

    /// Cancels `shutdown` at SIGTERM or SIGINT. SIGHUP reopens the audit file, and in a terminal ends it: that
    /// has been closed, and nobody knows any more that something is served.
    pub(super) async fn watch(mut self, audit: Option<Arc<Audit>>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hang_up.recv() => {
                    if self.in_terminal {
                        break;
                    }
                    reopen(audit.as_deref()).await;
                }
            }
        }
        shutdown.cancel();
    }
}

/// What a keyboard and the system send on Windows, which has nothing like SIGHUP: there a restart
/// opens the audit file anew.
#[cfg(windows)]
pub(super) struct Signals(mcp_calculator::stdio::console::Console);

#[cfg(windows)]
impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        mcp_calculator::stdio::console::Console::listen().map(Self)
    }

    pub(super) async fn watch(mut self, _audit: Option<Arc<Audit>>, shutdown: CancellationToken) {
        self.0.asks_to_end().await;
        shutdown.cancel();
    }
}

/// Opens the audit file again, after a log rotation.
#[cfg(unix)]
async fn reopen(audit: Option<&Audit>) {
    if let Some(audit) = audit
        && let Err(failure) = audit.reopen().await
    {
        error!(error = %failure, "cannot open the audit file again; records go to the old one");
    }
}
