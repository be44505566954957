//! The audit file: who asked for what through which client, and whether it was allowed.
//!
//! One JSON object per line. A record is written *before* what it allows runs, and a request whose
//! record cannot be written is refused: an audit that a full disk switches off is one that an
//! attacker can switch off. What the call then led to is in the log under the same `request_id`.

use std::{
    borrow::Cow,
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use crate::{
    scope::ScopeSet,
    sync::Locked as _,
    telemetry::{labels::AuditOutcome, metrics::Metrics},
};

/// Records that may wait for the disk; what comes on top waits before it is queued.
const QUEUE_MAX: usize = 1024;

/// A peer's text is cut here: names and identifiers are shorter, and a file must not grow by a
/// request body per refused request.
const TEXT_MAX_BYTES: usize = 256;

/// One error line per minute says that the disk is full as well as one per request.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// One decision, as it is written.
///
/// Texts are cut at 256 bytes. There is no place for tokens or session identifiers.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When it was decided.
    pub time: SystemTime,
    /// The request's identifier in our log; never the peer's JSON-RPC id.
    pub request_id: &'a str,
    /// The server that was asked, where there are several.
    pub server: Option<&'a str>,
    /// `sub` of the verified token.
    pub subject: Option<&'a str>,
    /// `client_id` of the verified token.
    pub client_id: Option<&'a str>,
    /// E-mail address of the verified token.
    pub email: Option<&'a str>,
    /// The JSON-RPC method.
    pub method: &'a str,
    /// The tool, prompt or resource.
    pub tool: Option<&'a str>,
    /// The value of the argument that decided the policy's answer.
    pub operation: Option<&'a str>,
    /// What was decided.
    pub decision: Decision,
    /// Scopes that the token lacked.
    pub missing: Option<&'a ScopeSet>,
    /// The HTTP status, where it is known: it is not before an allowed call has run.
    pub status: Option<u16>,
    /// The arguments as they were sent; written only where the settings ask for it.
    pub arguments: Option<&'a RawValue>,
}

/// What was decided about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It may run.
    Allowed,
    /// It did not run.
    Refused,
}

/// Why something is not in the audit file.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be used.
    #[error("cannot open the audit file {}; its folder must exist and this user must be able to write there", path.display())]
    Open {
        /// The configured path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A pipe blocks its writer, a directory has no lines.
    #[error("the audit file {} is not a regular file; name one, or a path where one can be created", .0.display())]
    NotAFile(PathBuf),
    /// No thread to write it.
    #[error("cannot start the thread that writes the audit file")]
    Thread(#[source] io::Error),
    /// The record was not written: the disk is full, or worse. Its request must not run.
    #[error("the audit record could not be written")]
    NotWritten,
    /// The file was closed by [`Audit::shutdown`].
    #[error("the audit file is closed")]
    Closed,
}

/// The audit file, written by one thread of its own.
///
/// Safe to share; there is one writer, so lines never mix.
#[derive(Debug)]
pub struct Audit {
    arguments: bool,
    queue: mpsc::Sender<Job>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

enum Job {
    Write { line: Vec<u8>, done: oneshot::Sender<Result<(), AuditError>> },
    Reopen { done: oneshot::Sender<Result<(), AuditError>> },
    Flush { done: oneshot::Sender<Result<(), AuditError>> },
    Close { done: oneshot::Sender<Result<(), AuditError>> },
}

impl Audit {
    /// Whether [`Audit::open`] would take `path`, without creating it.
    ///
    /// # Errors
    /// As [`Audit::open`]; where there is no file yet, when there is no directory for it.
    pub fn check(path: &Path) -> Result<(), AuditError> {
        if path.exists() {
            return open(path).map(drop);
        }
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match directory.metadata() {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(AuditError::Open { path: path.to_owned(), source: io::ErrorKind::NotADirectory.into() }),
            Err(source) => Err(AuditError::Open { path: path.to_owned(), source }),
        }
    }

    /// Opens `path` for appending, readable by its owner only if it must be created.
    ///
    /// With `arguments`, records hold the arguments of calls; mind what is in them.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a file, or the thread cannot be started.
    pub fn open(path: &Path, arguments: bool, metrics: Arc<Metrics>) -> Result<Self, AuditError> {
        let path = path.to_owned();
        let file = open(&path)?;
        let sink = Sink { torn: ends_torn(&path), out: file };
        Self::start(sink, arguments, metrics, move || {
            let out = open(&path)?;
            Ok(Sink { torn: ends_torn(&path), out })
        })
    }

    fn start<W: Durable + Send + 'static>(
        sink: Sink<W>,
        arguments: bool,
        metrics: Arc<Metrics>,
        reopen: impl Fn() -> Result<Sink<W>, AuditError> + Send + 'static,
    ) -> Result<Self, AuditError> {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let writer = Writer { sink, reopen, metrics, unsaid: 0, complained: None };
        let writer = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(jobs))
            .map_err(AuditError::Thread)?;
        Ok(Self { arguments, queue, writer: Mutex::new(Some(writer)) })
    }

    /// Writes one record and returns when the system has taken it.
    ///
    /// Waits while the queue is full. It waits as long as the disk takes, so the caller's own
    /// deadline applies. Dropping the future while it waits for a place in the queue writes nothing;
    /// later, the record is written all the same.
    ///
    /// # Errors
    /// [`AuditError::NotWritten`] or [`AuditError::Closed`]: what the record allows must not run.
    pub async fn record(&self, record: &Record<'_>) -> Result<(), AuditError> {
        let line = line(record, self.arguments);
        self.ask(|done| Job::Write { line, done }).await
    }

    /// Opens the path again, after a log rotation moved the file away.
    ///
    /// Records that were accepted before are in the old file. When it fails, records keep going to
    /// the old one.
    ///
    /// # Errors
    /// As [`Audit::open`].
    pub async fn reopen(&self) -> Result<(), AuditError> {
        self.ask(|done| Job::Reopen { done }).await
    }

    /// Returns when every record that was accepted before is on the disk itself.
    ///
    /// # Errors
    /// [`AuditError::NotWritten`] when the disk does not confirm it.
    pub async fn flush(&self) -> Result<(), AuditError> {
        self.ask(|done| Job::Flush { done }).await
    }

    /// Writes what was accepted, refuses what comes later, and joins the thread.
    ///
    /// # Errors
    /// As [`Audit::flush`]; [`AuditError::Closed`] when it was called before.
    pub async fn shutdown(&self) -> Result<(), AuditError> {
        let flushed = self.ask(|done| Job::Close { done }).await;
        let writer = self.writer.locked().take();
        if let Some(writer) = writer {
            // The thread has answered and is about to end, or has ended: this wait is a moment.
            if tokio::task::spawn_blocking(move || writer.join()).await.is_err() {
                return Err(AuditError::Closed);
            }
        }
        flushed
    }

    async fn ask(&self, job: impl FnOnce(oneshot::Sender<Result<(), AuditError>>) -> Job) -> Result<(), AuditError> {
        let (done, answer) = oneshot::channel();
        self.queue.send(job(done)).await.map_err(|_| AuditError::Closed)?;
        answer.await.map_err(|_| AuditError::Closed)?
    }
}

/// `record` as one line, newline included.
fn line(record: &Record<'_>, arguments: bool) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        time: String,
        request_id: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        server: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        client_id: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        email: Option<Cow<'a, str>>,
        method: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tool: Option<Cow<'a, str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        operation: Option<Cow<'a, str>>,
        decision: Decision,
        #[serde(skip_serializing_if = "Option::is_none")]
        missing: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        arguments: Option<&'a RawValue>,
    }
    let line = Line {
        time: humantime::format_rfc3339_millis(record.time).to_string(),
        request_id: cut(record.request_id),
        server: record.server.map(cut),
        subject: record.subject.map(cut),
        client_id: record.client_id.map(cut),
        email: record.email.map(cut),
        method: cut(record.method),
        tool: record.tool.map(cut),
        operation: record.operation.map(cut),
        decision: record.decision,
        missing: record.missing.filter(|scopes| !scopes.is_empty()).map(ToString::to_string),
        status: record.status,
        arguments: record.arguments.filter(|_| arguments),
    };
    let json = serde_json::to_string(&line).expect("strings, numbers and valid JSON always serialise");
    on_one_line(json).into_bytes()
}

/// `text` up to 256 bytes, with a mark where it was cut.
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= TEXT_MAX_BYTES {
        return text.into();
    }
    format!("{}…", &text[..text.floor_char_boundary(TEXT_MAX_BYTES)]).into()
}

/// Valid JSON as one line that no terminal or log reader takes for more than text.
///
/// A line break in valid JSON is only ever white space, and every other character replaced here can
/// only be inside a string, so the value stays the same.
fn on_one_line(json: String) -> String {
    let misleads = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !json.chars().any(misleads) {
        return json + "\n";
    }
    let mut line = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c if misleads(c) => write!(line, "\\u{:04x}", u32::from(c)).expect("a String takes every write"),
            c => line.push(c),
        }
    }
    line + "\n"
}

fn open(path: &Path) -> Result<File, AuditError> {
    // Looked at first, because opening a pipe that nobody reads blocks.
    let usable = |kind: std::fs::FileType| {
        #[cfg(unix)]
        if std::os::unix::fs::FileTypeExt::is_char_device(&kind) {
            return true;
        }
        kind.is_file()
    };
    if let Ok(metadata) = path.metadata()
        && !usable(metadata.file_type())
    {
        return Err(AuditError::NotAFile(path.to_owned()));
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|source| AuditError::Open { path: path.to_owned(), source })
}

/// Whether the last line of the file has no end, because a crash or a full disk cut it.
fn ends_torn(path: &Path) -> bool {
    let last_byte = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        io::Result::Ok(last[0])
    };
    // An empty file, a device, and a file that we may append to but not read count as whole.
    last_byte().is_ok_and(|byte| byte != b'\n')
}

/// What lines are written to: a file, or a test's idea of one.
trait Durable: Write {
    /// Returns when everything written is on the disk itself.
    fn sync(&self) -> io::Result<()>;
}

impl Durable for File {
    fn sync(&self) -> io::Result<()> {
        match self.sync_data() {
            // A device has no disk to wait for.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }
}

struct Sink<W> {
    out: W,
    /// The last line was written in part.
    torn: bool,
}

impl<W: Durable> Sink<W> {
    /// Writes `line` with one call. What a full disk cuts is ended by the next line's first byte, so
    /// that one broken line stays one.
    fn write(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        if self.torn {
            line.insert(0, b'\n');
        }
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.torn = rest[..count].last() != Some(&b'\n');
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

struct Writer<W, R> {
    sink: Sink<W>,
    reopen: R,
    metrics: Arc<Metrics>,
    /// Failures since the last complaint.
    unsaid: u64,
    complained: Option<Instant>,
}

impl<W: Durable, R: Fn() -> Result<Sink<W>, AuditError>> Writer<W, R> {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        // An asker that has gone away needs no answer, hence the ignored results.
        while let Some(job) = jobs.blocking_recv() {
            match job {
                Job::Write { line, done } => drop(done.send(self.write(line))),
                Job::Flush { done } => drop(done.send(self.sync())),
                Job::Reopen { done } => drop(done.send(self.reopen())),
                Job::Close { done } => {
                    jobs.close();
                    while let Some(job) = jobs.blocking_recv() {
                        match job {
                            Job::Write { line, done } => drop(done.send(self.write(line))),
                            Job::Flush { done } => drop(done.send(self.sync())),
                            Job::Reopen { done } | Job::Close { done } => drop(done.send(Err(AuditError::Closed))),
                        }
                    }
                    drop(done.send(self.sync()));
                }
            }
        }
    }

    fn write(&mut self, line: Vec<u8>) -> Result<(), AuditError> {
        match self.sink.write(line) {
            Ok(()) => {
                self.metrics.audit(AuditOutcome::Written, 1);
                Ok(())
            }
            Err(error) => {
                self.metrics.audit(AuditOutcome::Failed, 1);
                self.complain(&error);
                Err(AuditError::NotWritten)
            }
        }
    }

    fn sync(&mut self) -> Result<(), AuditError> {
        self.sink.out.sync().map_err(|error| {
            self.complain(&error);
            AuditError::NotWritten
        })
    }

    fn reopen(&mut self) -> Result<(), AuditError> {
        let fresh = (self.reopen)()?;
        let synced = self.sync();
        self.sink = fresh;
        synced
    }

    fn complain(&mut self, error: &io::Error) {
        self.unsaid += 1;
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL) {
            let failed = std::mem::take(&mut self.unsaid);
            tracing::error!(%error, failed, "cannot write the audit file; requests are refused until it can be written");
            self.complained = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
