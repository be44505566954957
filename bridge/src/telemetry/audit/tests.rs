use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, SystemTime},
};

use serde_json::{Value, value::RawValue};

use super::{Audit, AuditError, Decision, Durable, QUEUE_MAX, Record, Sink, ends_torn, line};
use crate::telemetry::metrics::Metrics;

fn record(request_id: &str) -> Record<'_> {
    Record {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_007),
        request_id,
        server: None,
        subject: Some("user-1"),
        client_id: None,
        email: None,
        method: "tools/call",
        tool: Some("calculator"),
        operation: Some("divide"),
        decision: Decision::Allowed,
        missing: None,
        status: None,
        arguments: None,
    }
}

fn written(record: &Record<'_>, arguments: bool) -> (String, Value) {
    let line = String::from_utf8(line(record, arguments)).expect("UTF-8");
    assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
    assert!(!line.trim_end_matches('\n').contains(char::is_control), "{line:?}");
    let value = serde_json::from_str(&line).expect(&line);
    (line, value)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("readable");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("whole lines: {line:?}"))).collect()
}

fn audit(path: &Path, metrics: &Arc<Metrics>) -> Result<Audit, AuditError> {
    Audit::open(path, false, Arc::clone(metrics))
}

fn counted(metrics: &Metrics, outcome: &str) -> String {
    let name = format!("mcp_bridge_audit_records_total{{outcome=\"{outcome}\"}} ");
    let text = metrics.render();
    text.lines().find_map(|line| line.strip_prefix(&name)).expect("the counter").to_owned()
}

#[test]
fn a_record_says_who_what_and_whether() {
    let missing = "op:div op:add".parse().expect("scopes");
    let full = Record {
        server: Some("math"),
        client_id: Some("claude"),
        email: Some("a@b.example"),
        decision: Decision::Refused,
        missing: Some(&missing),
        status: Some(403),
        ..record("r-1")
    };
    assert_eq!(
        written(&full, false).0,
        "{\"time\":\"2023-11-14T22:13:20.007Z\",\"request_id\":\"r-1\",\"server\":\"math\",\"subject\":\"user-1\",\"client_id\":\"claude\",\
         \"email\":\"a@b.example\",\"method\":\"tools/call\",\"tool\":\"calculator\",\"operation\":\"divide\",\
         \"decision\":\"refused\",\"missing\":\"op:div op:add\",\"status\":403}\n"
    );
    assert_eq!(
        written(&record("r-2"), false).0,
        "{\"time\":\"2023-11-14T22:13:20.007Z\",\"request_id\":\"r-2\",\"subject\":\"user-1\",\
         \"method\":\"tools/call\",\"tool\":\"calculator\",\"operation\":\"divide\",\"decision\":\"allowed\"}\n"
    );
}

#[test]
fn arguments_are_written_only_when_asked_for_and_stay_on_the_line() {
    let arguments = RawValue::from_string("{\n\t\"a\": 1.50,\r\n\"b\": \"\u{85}\u{2028}\u{202e}\\n\"}".into());
    let arguments = arguments.expect("JSON");
    let record = Record { arguments: Some(&arguments), ..record("r") };
    let (without, _) = written(&record, false);
    assert!(!without.contains("1.50"), "{without}");
    let (with, _) = written(&record, true);
    assert!(
        with.contains(r#""arguments":{  "a": 1.50,  "b": "\u0085\u2028\u202e\n"}"#),
        "white space and invisible characters change, values do not: {with}"
    );
}

#[test]
fn no_text_of_a_peer_can_forge_or_flood_the_file() {
    let evil = "x\",\"decision\":\"allowed\"}\n{\"time\":\"\u{1b}[2J\0\u{7f}\u{9b}\u{2029}";
    let (_, value) = written(&Record { method: evil, tool: Some(evil), subject: Some(evil), ..record(evil) }, false);
    for key in ["request_id", "subject", "method", "tool"] {
        assert_eq!(value[key], evil);
    }
    let long = "ä".repeat(100_000);
    let (flood, value) = written(&Record { method: &long, operation: Some(&long), ..record("r") }, false);
    assert!(flood.len() < 1_000, "{}", flood.len());
    assert_eq!(value["method"], format!("{}…", "ä".repeat(128)));
}

#[tokio::test]
async fn concurrent_records_are_whole_lines_and_none_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let metrics = Arc::new(Metrics::new());
    let audit = Arc::new(audit(&path, &metrics).expect("opened"));
    // More at once than the queue takes, so that some have to wait for a place.
    let count = QUEUE_MAX + 500;
    let tasks: Vec<_> = (0..count)
        .map(|index| {
            let audit = Arc::clone(&audit);
            tokio::spawn(async move { audit.record(&record(&index.to_string())).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("written");
    }
    let ids: BTreeSet<String> = lines(&path).iter().map(|line| line["request_id"].to_string()).collect();
    assert_eq!(ids.len(), count);
    assert_eq!(lines(&path).len(), count);
    assert_eq!(counted(&metrics, "written"), count.to_string());
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_a_new_file_and_an_old_one_grows() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let metrics = Arc::new(Metrics::new());
    for request_id in ["first", "second"] {
        let audit = audit(&path, &metrics).expect("opened");
        audit.record(&record(request_id)).await.expect("written");
        audit.shutdown().await.expect("flushed");
    }
    assert_eq!(path.metadata().expect("exists").permissions().mode() & 0o777, 0o600);
    assert_eq!(lines(&path).len(), 2);
}

#[tokio::test]
async fn rotation_goes_on_in_a_new_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let rotated = dir.path().join("audit.jsonl.1");
    let audit = audit(&path, &Arc::default()).expect("opened");
    audit.record(&record("before")).await.expect("written");
    fs::rename(&path, &rotated).expect("renamed");
    audit.record(&record("between")).await.expect("written");
    audit.reopen().await.expect("reopened");
    audit.record(&record("after")).await.expect("written");
    let ids = |path| lines(path).iter().map(|line| line["request_id"].to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&rotated), ["\"before\"", "\"between\""]);
    assert_eq!(ids(&path), ["\"after\""]);

    // Where the new file cannot be opened, the old one goes on.
    fs::rename(&path, dir.path().join("audit.jsonl.2")).expect("renamed");
    fs::create_dir(&path).expect("created");
    assert!(matches!(audit.reopen().await, Err(AuditError::NotAFile(_))));
    audit.record(&record("later")).await.expect("written");
    assert_eq!(ids(&dir.path().join("audit.jsonl.2")), ["\"after\"", "\"later\""]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_refuses_the_request() {
    let metrics = Arc::new(Metrics::new());
    let audit = audit(Path::new("/dev/full"), &metrics).expect("opened");
    for _ in 0..3 {
        assert!(matches!(audit.record(&record("r")).await, Err(AuditError::NotWritten)));
    }
    assert_eq!(counted(&metrics, "failed"), "3");
    assert_eq!(counted(&metrics, "written"), "0");
    audit.shutdown().await.expect("a device has nothing to flush");
}

#[test]
fn what_cannot_be_appended_to_is_refused_at_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let metrics = Arc::new(Metrics::new());
    let error = audit(dir.path(), &metrics).expect_err("a directory");
    assert!(error.to_string().contains("is not a regular file"), "{error}");
    let nowhere = dir.path().join("no/such/audit.jsonl");
    let error = audit(&nowhere, &metrics).expect_err("no such directory");
    assert!(error.to_string().contains(&nowhere.display().to_string()), "{error}");
    assert!(matches!(error, AuditError::Open { .. }));
}

#[tokio::test]
async fn after_shutdown_nothing_is_accepted() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let audit = audit(&path, &Arc::default()).expect("opened");
    audit.record(&record("last")).await.expect("written");
    audit.flush().await.expect("flushed");
    audit.shutdown().await.expect("flushed");
    assert!(matches!(audit.record(&record("late")).await, Err(AuditError::Closed)));
    assert!(matches!(audit.shutdown().await, Err(AuditError::Closed)));
    assert_eq!(lines(&path).len(), 1);
}

/// A disk that takes `room` bytes, reports what it has, and waits for permission before each write.
#[derive(Clone)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Default)]
struct DiskState {
    bytes: Vec<u8>,
    room: usize,
    gate: Option<mpsc::Receiver<()>>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gate = self.0.lock().expect("no panic").gate.take();
        if let Some(gate) = gate {
            // Released when the test drops the other end.
            let _ = gate.recv();
        }
        let mut disk = self.0.lock().expect("no panic");
        let count = bytes.len().min(disk.room);
        if count == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.room -= count;
        disk.bytes.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Durable for Disk {
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

fn on_disk(disk: &Disk) -> Audit {
    let sink = Sink { out: disk.clone(), torn: false };
    Audit::start(sink, false, Arc::default(), || Err(AuditError::Closed)).expect("started")
}

#[tokio::test]
async fn a_line_cut_by_a_full_disk_stays_one_broken_line() {
    let disk = Disk(Arc::new(Mutex::new(DiskState { room: 10, ..DiskState::default() })));
    let audit = on_disk(&disk);
    assert!(matches!(audit.record(&record("cut")).await, Err(AuditError::NotWritten)));
    // Room for the line end that mends, and not for more.
    disk.0.lock().expect("no panic").room = 1;
    assert!(matches!(audit.record(&record("lost")).await, Err(AuditError::NotWritten)));
    disk.0.lock().expect("no panic").room = 10_000;
    audit.record(&record("whole")).await.expect("written");
    let text = String::from_utf8(disk.0.lock().expect("no panic").bytes.clone()).expect("UTF-8");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[1].contains("\"request_id\":\"whole\"") && lines[1].ends_with('}'));
}

#[tokio::test]
async fn a_file_cut_by_a_crash_goes_on_with_a_new_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    assert!(!ends_torn(&path));
    fs::write(&path, "{\"time\":").expect("written");
    assert!(ends_torn(&path));
    let audit = audit(&path, &Arc::default()).expect("opened");
    audit.record(&record("r")).await.expect("written");
    audit.shutdown().await.expect("flushed");
    let text = fs::read_to_string(&path).expect("readable");
    assert!(text.starts_with("{\"time\":\n{\"time\":\"2023"), "{text}");
    assert!(!ends_torn(&path));
}

#[tokio::test]
async fn shutdown_writes_what_was_accepted_while_the_disk_was_stuck() {
    let (release, gate) = mpsc::channel();
    let state = DiskState { room: usize::MAX, gate: Some(gate), ..DiskState::default() };
    let disk = Disk(Arc::new(Mutex::new(state)));
    let audit = Arc::new(on_disk(&disk));
    let start = |index: usize| {
        let audit = Arc::clone(&audit);
        tokio::spawn(async move { audit.record(&record(&index.to_string())).await })
    };
    // One with the writer and the others in the queue, which then is full.
    let accepted: Vec<_> = (0..=QUEUE_MAX).map(start).collect();
    while audit.queue.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    let waiting = start(QUEUE_MAX + 1);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(release);
    for record in accepted {
        record.await.expect("no panic").expect("written");
    }
    waiting.await.expect("no panic").expect("it waited for a place");
    audit.shutdown().await.expect("flushed");
    let text = String::from_utf8(disk.0.lock().expect("no panic").bytes.clone()).expect("UTF-8");
    assert_eq!(text.lines().count(), QUEUE_MAX + 2);
}
