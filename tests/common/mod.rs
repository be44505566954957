//! What the black-box tests share: the programs as children, a fake authorization server, and a
//! client that sends exactly the bytes a test wants.

pub(crate) mod authorization_server;
pub(crate) mod bridge;
pub(crate) mod challenge;
pub(crate) mod http;
pub(crate) mod jwt;
pub(crate) mod mcp;
pub(crate) mod world;

use std::time::{Duration, Instant};

/// How long a test waits for something that must happen; only a failing test ever waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Looks every few milliseconds whether `event` has happened, for at most [`PATIENCE`].
///
/// # Panics
/// If it has not happened by then; `what` says what was waited for.
pub(crate) fn wait_until(what: &str, mut event: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !event() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Seconds since 1970, as JWT and introspection count time.
pub(crate) fn unix_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is past 1970").as_secs()
}
