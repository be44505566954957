//! What a process says on its standard error, for the log.
//!
//! It is read to its end whatever comes, because a process whose standard error is full stands
//! still; what is shown of it has bounds, because it is somebody else's text in the operator's log.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use memchr::memchr;
use tokio::{
    io::AsyncRead,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::backend::child::{LINGER, chunk};

/// How much of a line is shown.
const SHOWN_MAX_BYTES: usize = 1024;

/// Lines that are shown per [`WINDOW`]: a stack trace fits, a flood does not.
const SHOWN_MAX_LINES: u64 = 50;

/// The time over which lines are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// The target of the lines in the log.
const TARGET: &str = "mcp_bridge::child";

/// Hears what a process says on its standard error, line by line, before the log does.
pub trait Hears: fmt::Debug + Send + Sync {
    /// What the log shall show in place of `line`, which has harmless characters and is cut where it is
    /// long; `None` shows nothing. Must not wait.
    fn hear(&self, line: &str) -> Option<String>;

    /// Nothing more will be heard.
    fn end(&self);
}

/// Logs the lines from `pipe` until it is closed, or its process is over even though somebody else
/// still holds it. `hears`, if there is somebody, hears each line first.
pub(super) async fn log(
    mut pipe: impl AsyncRead + Unpin,
    child: String,
    pid: u32,
    over: CancellationToken,
    hears: Option<Arc<dyn Hears>>,
) {
    let mut lines = Lines { hears, ..Lines::new(Instant::now()) };
    let mut say = |said: Said<'_>| match said {
        Said::Line(line) => info!(target: TARGET, child, pid, line = &*line, "stderr"),
        Said::Dropped(count) => warn!(target: TARGET, child, pid, "stderr: … {count} lines dropped"),
    };
    let reading = async {
        loop {
            let due = lines.report_due();
            let reading =
                chunk::read(&mut pipe, chunk::CHUNK_BYTES, |chunk| lines.take(chunk, Instant::now(), &mut say));
            let read = match due {
                Some(due) => timeout_at(due, reading).await,
                None => Ok(reading.await),
            };
            match read {
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(_)) => {}
                Err(_) => lines.turn(Instant::now(), &mut say),
            }
        }
    };
    tokio::select! {
        biased;
        () = reading => {}
        () = async { over.cancelled().await; sleep(LINGER).await } => {}
    }
    lines.end(&mut say);
    if let Some(hears) = &lines.hears {
        hears.end();
    }
}

/// What is to be logged.
#[derive(Debug, PartialEq, Eq)]
enum Said<'l> {
    /// One line, of harmless characters; cut where it is long.
    Line(Cow<'l, str>),
    /// So many lines came too fast.
    Dropped(u64),
}

/// The bounds on what is shown.
struct Lines {
    /// What is shown of a line whose end was not read yet.
    begun: Vec<u8>,
    /// The line goes on past what is shown.
    cut: bool,
    /// Since when lines are counted.
    window: Instant,
    /// How many lines since.
    count: u64,
    /// Who hears every line first.
    hears: Option<Arc<dyn Hears>>,
}

impl Lines {
    fn new(now: Instant) -> Self {
        Self { begun: Vec::new(), cut: false, window: now, count: 0, hears: None }
    }

    /// When dropped lines are to be reported, if there are some.
    fn report_due(&self) -> Option<Instant> {
        (self.count > SHOWN_MAX_LINES).then(|| self.window + WINDOW)
    }

    fn take(&mut self, mut bytes: &[u8], now: Instant, say: &mut impl FnMut(Said<'_>)) {
        self.turn(now, say);
        while let Some(at) = memchr(b'\n', bytes) {
            self.append(&bytes[..at]);
            self.line(say);
            bytes = &bytes[at + 1..];
        }
        self.append(bytes);
    }

    /// Begins to count anew if it is time, and reports what was dropped before.
    fn turn(&mut self, now: Instant, say: &mut impl FnMut(Said<'_>)) {
        if now >= self.window + WINDOW {
            self.report(say);
            self.window = now;
        }
    }

    /// Shows what there is of a last line, and reports what was dropped.
    fn end(&mut self, say: &mut impl FnMut(Said<'_>)) {
        self.line(say);
        self.report(say);
    }

    fn report(&mut self, say: &mut impl FnMut(Said<'_>)) {
        let dropped = self.count.saturating_sub(SHOWN_MAX_LINES);
        if dropped > 0 {
            say(Said::Dropped(dropped));
        }
        self.count = 0;
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = SHOWN_MAX_BYTES - self.begun.len();
        self.cut |= bytes.len() > room;
        self.begun.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn line(&mut self, say: &mut impl FnMut(Said<'_>)) {
        let cut = std::mem::take(&mut self.cut);
        if !self.begun.trim_ascii().is_empty() {
            let instead = self.hears.as_ref().map(|hears| hears.hear(&shown(&self.begun, cut)));
            if !matches!(instead, Some(None)) {
                self.count += 1;
                if self.count <= SHOWN_MAX_LINES {
                    let line = instead.flatten().map_or_else(|| shown(&self.begun, cut), Cow::Owned);
                    say(Said::Line(line));
                }
            }
        }
        self.begun.clear();
    }
}

/// `line` as text. Of control characters the log escapes those that JSON does; the others, with which
/// some terminals can be steered as well, are replaced here.
fn shown(line: &[u8], cut: bool) -> Cow<'_, str> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = String::from_utf8_lossy(line);
    let steers = |character| matches!(character, '\x7f'..='\u{9f}');
    let text = if text.contains(steers) { text.replace(steers, "\u{fffd}").into() } else { text };
    if cut { format!("{}…", text.trim_end_matches('\u{fffd}')).into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of `pieces`, each of which comes so many milliseconds after the start.
    fn said(pieces: &[(u64, &[u8])]) -> Vec<String> {
        let mut said = Vec::new();
        let mut say = |one: Said<'_>| {
            said.push(match one {
                Said::Line(line) => line.into_owned(),
                Said::Dropped(count) => format!("{count} dropped"),
            })
        };
        let start = Instant::now();
        let mut lines = Lines::new(start);
        for (at, bytes) in pieces {
            lines.take(bytes, start + Duration::from_millis(*at), &mut say);
        }
        lines.end(&mut say);
        said
    }

    #[test]
    fn lines_are_put_together_and_the_last_needs_no_end() {
        assert_eq!(said(&[(0, b"one\ntw"), (1, b"o\r\n\n \nthr"), (2, b"ee")]), ["one", "two", "three"]);
    }

    #[test]
    fn a_long_line_is_cut() {
        let long = "ä".repeat(SHOWN_MAX_BYTES);
        let shown = format!("{}…", "ä".repeat(SHOWN_MAX_BYTES / 2));
        assert_eq!(said(&[(0, long.as_bytes()), (1, long.as_bytes()), (2, b"\nnext\n")]), [&shown, "next"]);
        // Half of a character is not shown.
        let shown = format!("x{}…", "ä".repeat(SHOWN_MAX_BYTES / 2 - 1));
        assert_eq!(said(&[(0, b"x"), (0, long.as_bytes())]), [shown]);
    }

    #[test]
    fn a_flood_is_counted_and_reported_once_per_window() {
        let flood = b"x\n".repeat(200);
        let said = said(&[(0, &flood), (500, &flood), (1000, b"y\n"), (1500, &flood)]);
        let mut expected = vec!["x"; 50];
        expected.extend(["350 dropped", "y"]);
        expected.extend(["x"; 49]);
        expected.push("151 dropped");
        assert_eq!(said, expected);
    }

    #[test]
    fn who_hears_a_line_first_says_what_is_shown_of_it() {
        #[derive(Debug, Default)]
        struct Listener(std::sync::Mutex<Vec<String>>);

        impl Hears for Listener {
            fn hear(&self, line: &str) -> Option<String> {
                self.0.lock().expect("what was heard").push(line.to_owned());
                (line != "secret").then(|| line.replace("secret", "…"))
            }

            fn end(&self) {}
        }

        let listener = Arc::new(Listener::default());
        let now = Instant::now();
        let mut lines = Lines { hears: Some(Arc::clone(&listener) as _), ..Lines::new(now) };
        let mut said = Vec::new();
        let mut say = |one: Said<'_>| said.push(format!("{one:?}"));
        lines.take(b"secret\n", now, &mut say);
        lines.take(&b"a secret\n".repeat(60), now, &mut say);
        lines.end(&mut say);
        assert_eq!(listener.0.lock().expect("what was heard").len(), 61, "those that are not shown, too");
        assert_eq!((said.len(), &*said[0], &*said[50]), (51, "Line(\"a …\")", "Dropped(10)"));
    }

    #[test]
    fn what_steers_a_terminal_does_not_reach_the_log() {
        assert_eq!(shown(b"a\xc2\x9b31mb\x7f", false), "a\u{fffd}31mb\u{fffd}");
        // The log escapes these itself.
        assert_eq!(shown(b"\x1b[31m", false), "\u{1b}[31m");
        assert_eq!(shown(b"\xff", false), "\u{fffd}");
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_lines_are_reported_although_no_other_line_comes() {
        let mut lines = Lines::new(Instant::now());
        lines.take(&b"x\n".repeat(51), Instant::now(), &mut |_| {});
        tokio::time::sleep_until(lines.report_due().expect("one was dropped")).await;
        let mut said = Vec::new();
        lines.turn(Instant::now(), &mut |one| said.push(format!("{one:?}")));
        assert_eq!(said, ["Dropped(1)"]);
        assert_eq!(lines.report_due(), None);
    }
}
