//! What the operator sees: the log on stderr, numbers for Prometheus, and the audit file.

pub(crate) mod alarm;
pub mod audit;
pub mod labels;
pub mod metrics;
mod observer;
mod text;

use std::{
    io::{self, IsTerminal, Write},
    sync::{Arc, Condvar, LazyLock, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use mcp_calculator::terminal::shows_colours;
use prometheus_client::metrics::counter::Counter;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    filter::Targets,
    fmt::{self, MakeWriter, format::Writer, time::FormatTime},
    layer::SubscriberExt,
};

use crate::sync::Locked as _;

/// How much of the log may wait for a slow reader of stderr: some thousand lines. What comes on top
/// is lost and counted, because the alternative is a server that stands still and cannot say why.
const QUEUE_MAX_BYTES: usize = 1 << 20;

/// The least time between two writes. Under load, lines of that time become one write: waking the
/// thread for every line costs more than everything else in a request.
const WRITE_INTERVAL: Duration = Duration::from_millis(5);

/// How long the end of the process waits for stderr to take what is queued.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// How long to wait before stderr is tried again when it is non-blocking and full.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// Lines that were lost since the process started. The log is one per process, and so is this.
static LOST_LINES: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Starts the log: one line per event on stderr, as text or as flat JSON objects.
///
/// Our own crates log at `level`; libraries at `warn` or less, because some of them log message
/// contents below that. Lines go through a queue of at most 1 MiB to a thread of their own, so that
/// a pipe that nobody reads never stops the server: what does not fit is lost, counted, and
/// reported in a line of its own as soon as stderr takes lines again. A closed stderr loses all of
/// them and does no harm.
///
/// No line can be forged by a peer: control characters inside an event are written as escapes.
///
/// # Errors
/// When the process already has a log, or the thread cannot be started.
pub fn init(level: impl Into<LevelFilter>, json: bool) -> Result<Log, LogError> {
    let ansi = !json
        && io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && shows_colours();
    let lines = Lines::new(json, ansi);
    let queue = Arc::clone(&lines.0);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || queue.drain_into(io::stderr()))
        .map_err(LogError::Thread)?;
    tracing::subscriber::set_global_default(subscriber(level.into(), &lines)).map_err(|_| LogError::Twice)?;
    Ok(Log(lines))
}

/// Why the log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The process already has one.
    #[error("the log is already set up; call init once")]
    Twice,
    /// No thread to write it.
    #[error("cannot start the thread that writes the log")]
    Thread(#[source] io::Error),
}

/// The running log. Dropping it waits, at most a second, until stderr has taken what is queued.
#[must_use = "dropping it ends the log's life early: keep it until the process ends"]
pub struct Log(Lines);

impl Log {
    /// Says something to whoever sits at the terminal, as it is.
    pub fn tell(&self, text: &str) {
        text.lines().for_each(|line| self.0.0.push(line.as_bytes()));
    }

    /// Says where each server listens, in one line that no log level hides.
    ///
    /// Scripts and service managers wait for this line and read the address from it. As JSON, `url`
    /// and `resource` are those of the first; where there are several, `servers` has all of them.
    pub fn listening(&self, places: &[Listening], metrics_url: Option<&str>) {
        let line = if self.0.0.json {
            let mut line = serde_json::json!({ "message": "listening" });
            if let Some(Listening { url, resource, .. }) = places.first() {
                line["url"] = url.as_str().into();
                line["resource"] = resource.as_str().into();
            }
            if let Some(metrics_url) = metrics_url {
                line["metrics_url"] = metrics_url.into();
            }
            if places.len() > 1 {
                let all = places.iter().map(|Listening { name, url, resource }| {
                    serde_json::json!({ "name": name, "url": url, "resource": resource })
                });
                line["servers"] = all.collect();
            }
            format!("{line}\n")
        } else {
            let metrics = metrics_url.map(|url| format!(" (metrics on {url})")).unwrap_or_default();
            let urls: Vec<&str> = places.iter().map(|place| place.url.as_str()).collect();
            format!("mcp-bridge: listening on {}{metrics}\n", urls.join(", "))
        };
        self.0.0.push(line.as_bytes());
    }
}

/// Where one server listens.
#[derive(Clone, Debug)]
pub struct Listening {
    /// What it is called.
    pub name: String,
    /// Its local URL.
    pub url: String,
    /// The identifier of what it protects.
    pub resource: String,
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.0.wait_until_written(FLUSH_MAX);
    }
}

/// Events at `level` from our crates and at `warn` from all others, as lines into `lines`.
fn subscriber(level: LevelFilter, lines: &Lines) -> Box<dyn Subscriber + Send + Sync> {
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_targets([("mcp_bridge", level), ("mcp_calculator", level)]);
    if !lines.0.json {
        return Box::new(text::Text::new(filter, level, lines.clone()));
    }
    let layer = fmt::layer().with_writer(lines.clone()).with_timer(Time);
    let registry = tracing_subscriber::registry().with(filter);
    Box::new(registry.with(layer.json().flatten_event(true).with_span_list(false)))
}

/// RFC 3339 in UTC with microseconds.
struct Time;

impl FormatTime for Time {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        write!(out, "{}", humantime::format_rfc3339_micros(SystemTime::now()))
    }
}

/// Where the subscriber writes: one call of `write` is one event.
#[derive(Clone)]
struct Lines(Arc<Queue>);

impl Lines {
    fn new(json: bool, ansi: bool) -> Self {
        Self(Arc::new(Queue { json, ansi, state: Mutex::default(), filled: Condvar::new(), written: Condvar::new() }))
    }
}

impl Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.push(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Whole lines on their way to stderr.
struct Queue {
    json: bool,
    ansi: bool,
    /// A panic while it is held leaves at worst one cut line behind; the log goes on.
    state: Mutex<State>,
    /// Lines wait for the thread.
    filled: Condvar,
    /// The thread has written what it took.
    written: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// Lines that did not fit since the thread last took some.
    lost: u64,
    /// The thread has taken lines and not yet written them.
    writing: bool,
    /// The thread sleeps until there are lines.
    waiting: bool,
}

impl Queue {
    /// Adds one event as one line, or counts it as lost when the queue is full. Never blocks on I/O.
    fn push(&self, event: &[u8]) {
        let body = event.strip_suffix(b"\n").unwrap_or(event);
        let mut state = self.state.locked();
        if state.lines.len() + body.len() > QUEUE_MAX_BYTES {
            state.lost += 1;
            LOST_LINES.inc();
            return;
        }
        // The least byte of a line is found many bytes at a time; one by one it takes ten times as long.
        let least = body.iter().fold(u8::MAX, |least, byte| least.min(*byte));
        if least >= b' ' {
            state.lines.extend_from_slice(body);
        } else {
            let harmless = |byte: &u8| *byte >= b' ' || *byte == b'\t' || (*byte == 0x1b && self.ansi);
            for byte in body {
                if harmless(byte) {
                    state.lines.push(*byte);
                } else {
                    state.lines.extend(byte.escape_ascii());
                }
            }
        }
        state.lines.push(b'\n');
        if std::mem::take(&mut state.waiting) {
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Writes what is queued to `out`, for as long as the process lives.
    fn drain_into(&self, mut out: impl Write) {
        let mut taken = Vec::new();
        loop {
            taken.clear();
            self.wait_for_lines();
            let lost = self.take(&mut taken);
            if lost > 0 {
                taken.extend_from_slice(self.lost_line(lost).as_bytes());
            }
            if write_patiently(&mut out, &taken).is_err() {
                LOST_LINES.inc_by(taken.iter().filter(|&&byte| byte == b'\n').count() as u64);
            }
            self.state.locked().writing = false;
            self.written.notify_all();
            thread::sleep(WRITE_INTERVAL);
        }
    }

    fn wait_for_lines(&self) {
        let mut state = self.state.locked();
        while state.lines.is_empty() {
            state.waiting = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Swaps the lines into `taken`, and returns how many were lost since.
    fn take(&self, taken: &mut Vec<u8>) -> u64 {
        let mut state = self.state.locked();
        std::mem::swap(&mut state.lines, taken);
        state.writing = true;
        std::mem::take(&mut state.lost)
    }

    fn lost_line(&self, lost: u64) -> String {
        let time = humantime::format_rfc3339_micros(SystemTime::now());
        let (target, message) = (module_path!(), "log lines were lost, because stderr is not read fast enough");
        if self.json {
            let line = serde_json::json!({
                "timestamp": time.to_string(), "level": "WARN", "target": target, "message": message, "lost": lost,
            });
            format!("{line}\n")
        } else {
            format!("{time}  WARN {target}: {message} lost={lost}\n")
        }
    }

    fn wait_until_written(&self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        let mut state = self.state.locked();
        while state.writing || !state.lines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// `write_all` that also waits where the file is non-blocking, as a terminal or pipe shared with
/// another program can be.
fn write_patiently(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

/// Lets a test with a subscriber of its own hear every event. Where there is no other subscriber, an
/// event that another thread reaches first is switched off for all.
#[cfg(test)]
pub(crate) fn switch_on_all_events() {
    // Others have done it already.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
}

#[cfg(test)]
mod tests;
