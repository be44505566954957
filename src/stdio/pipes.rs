//! Standard input and output, without threads where they are pipes.
//!
//! A client that starts this program gives it pipes. The reactor waits for those, so that a call is
//! handed from thread to thread nowhere; anything else is read and written by the runtime's threads.
//! The pipes are opened anew for that, because not to wait is a property of what is open, which other
//! programs may share with us.

use tokio::io::{AsyncRead, AsyncWrite};

/// Where requests are read.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;
/// Where answers are written.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// Standard input. Must be called in a runtime.
pub fn input() -> Input {
    #[cfg(target_os = "linux")]
    if let Ok(pipe) = tokio::net::unix::pipe::OpenOptions::new().open_receiver("/proc/self/fd/0") {
        return Box::new(pipe);
    }
    Box::new(tokio::io::stdin())
}

/// Standard output. Must be called in a runtime.
pub fn output() -> Output {
    #[cfg(target_os = "linux")]
    if let Ok(pipe) = tokio::net::unix::pipe::OpenOptions::new().open_sender("/proc/self/fd/1") {
        return Box::new(pipe);
    }
    Box::new(tokio::io::stdout())
}
