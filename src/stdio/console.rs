//! How Windows asks a program to end.

use std::io;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

/// What a keyboard, the window of a console, and the system say to a program that shall end.
///
/// Windows has no SIGTERM: a program that runs another one in a console group of its own sends it
/// Ctrl-Break.
#[derive(Debug)]
pub struct Console {
    interrupt: CtrlC,
    stop: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl Console {
    /// Listens from now on. Must be called in a runtime.
    ///
    /// # Errors
    /// Windows does not let it.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: ctrl_c()?, stop: ctrl_break()?, close: ctrl_close()?, shutdown: ctrl_shutdown()? })
    }

    /// Waits until one of them asks. Cancel-safe.
    ///
    /// When the console is closed or the system stops, Windows kills the program a few seconds later.
    pub async fn asks_to_end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.stop.recv() => {}
            _ = self.close.recv() => {}
            _ = self.shutdown.recv() => {}
        }
    }
}
