use std::{
    io::{self, Write},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tracing::level_filters::LevelFilter;

use super::{LOST_LINES, Lines, Listening, Log, QUEUE_MAX_BYTES, Queue, subscriber, write_patiently};
use crate::sync::Locked as _;

/// Long enough that only a hang reaches it.
const HANG: Duration = Duration::from_secs(20);

fn logged(level: LevelFilter, json: bool, events: impl FnOnce()) -> String {
    let lines = Lines::new(json, false);
    crate::telemetry::switch_on_all_events();
    tracing::subscriber::with_default(subscriber(level, &lines), events);
    String::from_utf8(taken(&lines.0)).expect("UTF-8")
}

fn taken(queue: &Queue) -> Vec<u8> {
    std::mem::take(&mut queue.state.locked().lines)
}

#[test]
fn libraries_stay_at_warn_whatever_our_own_level_is() {
    let events = || {
        tracing::trace!(target: "mcp_bridge::http", "our trace");
        tracing::trace!(target: "mcp_calculator::server", "calculator trace");
        tracing::info!(target: "rmcp::service", "library info");
        tracing::warn!(target: "hyper::proto", "library warning");
        tracing::error!(target: "mcp_bridge", "our error");
    };
    let cases = [
        (LevelFilter::TRACE, vec!["our trace", "calculator trace", "library warning", "our error"]),
        (LevelFilter::INFO, vec!["library warning", "our error"]),
        (LevelFilter::ERROR, vec!["our error"]),
        (LevelFilter::OFF, vec![]),
    ];
    for (level, expected) in cases {
        let log = logged(level, false, events);
        assert_eq!(log.lines().count(), expected.len(), "{level}: {log}");
        for (line, text) in log.lines().zip(expected) {
            assert!(line.ends_with(text), "{level}: {line}");
        }
    }
}

#[test]
fn json_lines_are_flat() {
    let log = logged(LevelFilter::INFO, true, || tracing::info!(status = 403, tool = "calc\n", "answered"));
    let line: serde_json::Value = serde_json::from_str(&log).expect(&log);
    assert_eq!(line["message"], "answered");
    assert_eq!(line["status"], 403);
    assert_eq!(line["tool"], "calc\n");
    assert_eq!(line["level"], "INFO");
    assert_eq!(log.lines().count(), 1);
}

#[test]
fn text_lines_have_fields_after_the_message_and_quote_texts() {
    let log = logged(LevelFilter::INFO, false, || {
        tracing::info!(plain = "a b", odd = "a\"b\\c\nd", none = None::<&str>, shown = %"x y", count = 3, "it happened");
    });
    let expected = r#" INFO mcp_bridge::telemetry::tests: it happened plain="a b" odd="a\"b\\c\nd" shown=x y count=3"#;
    assert!(log.trim_end().ends_with(expected), "{log}");
}

#[test]
fn a_peer_cannot_forge_a_line() {
    let evil = "x\n2026-01-01T00:00:00Z  INFO mcp_bridge: forged\r\u{1b}[2J\u{7}\0";
    let log = logged(LevelFilter::INFO, false, || tracing::info!(tool = %evil, note = evil, "{evil}"));
    assert_eq!(log.matches('\n').count(), 1, "{log:?}");
    assert!(log.bytes().all(|byte| byte >= b' ' || byte == b'\n'), "{log:?}");
    assert!(log.contains("x\\n2026-01-01T00:00:00Z"), "{log}");
}

#[test]
fn listening_is_one_line_in_either_format() {
    let line = |json, count, metrics| {
        let lines = Lines::new(json, false);
        // Not dropped, because nothing drains this queue.
        let log = std::mem::ManuallyDrop::new(Log(lines.clone()));
        let place = |name: &str, url: &str| Listening {
            name: name.into(),
            url: url.into(),
            resource: "https://h.example/mcp".into(),
        };
        let places = [place("a", "http://127.0.0.1:1/mcp"), place("b", "http://127.0.0.1:1/b")];
        log.listening(&places[..count], metrics);
        String::from_utf8(taken(&lines.0)).expect("UTF-8")
    };
    let metrics = Some("http://127.0.0.1:2/metrics");
    assert_eq!(line(false, 1, None), "mcp-bridge: listening on http://127.0.0.1:1/mcp\n");
    assert_eq!(
        line(false, 1, metrics),
        "mcp-bridge: listening on http://127.0.0.1:1/mcp (metrics on http://127.0.0.1:2/metrics)\n"
    );
    let json = |count, metrics| serde_json::from_str::<serde_json::Value>(&line(true, count, metrics)).expect("JSON");
    let mut expected = serde_json::json!({
        "message": "listening", "url": "http://127.0.0.1:1/mcp", "resource": "https://h.example/mcp",
    });
    assert_eq!(json(1, None), expected);
    expected["metrics_url"] = "http://127.0.0.1:2/metrics".into();
    assert_eq!(json(1, metrics), expected);
    let several = "mcp-bridge: listening on http://127.0.0.1:1/mcp, http://127.0.0.1:1/b\n";
    assert_eq!(line(false, 2, None), several);
    expected["servers"] = serde_json::json!([
        { "name": "a", "url": "http://127.0.0.1:1/mcp", "resource": "https://h.example/mcp" },
        { "name": "b", "url": "http://127.0.0.1:1/b", "resource": "https://h.example/mcp" },
    ]);
    assert_eq!(json(2, metrics), expected);
}

/// A stderr that takes nothing until it is told to, and then reports what it takes.
struct Stuck {
    released: mpsc::Receiver<()>,
    taken: mpsc::Sender<Vec<u8>>,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // An error means that the test has released it for good.
        let _ = self.released.recv();
        self.taken.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_stderr_loses_lines_and_says_so_but_never_blocks() {
    let lines = Lines::new(false, false);
    let (release, released) = mpsc::channel();
    let (taken, written) = mpsc::channel();
    let queue = Arc::clone(&lines.0);
    thread::spawn(move || queue.drain_into(Stuck { released, taken }));

    let lost_before = LOST_LINES.get();
    let line = [b'x'; 1023];
    let pushed = 4 * QUEUE_MAX_BYTES / 1024;
    for _ in 0..pushed {
        lines.0.push(&line);
    }
    assert!(lines.0.state.locked().lines.len() <= QUEUE_MAX_BYTES + 1024);
    lines.0.wait_until_written(Duration::from_millis(1));

    drop(release);
    lines.0.wait_until_written(HANG);
    let text: Vec<u8> = written.try_iter().flatten().collect();
    let text = String::from_utf8(text).expect("UTF-8");
    let lost: usize = text
        .lines()
        .filter_map(|line| line.split_once("lost="))
        .map(|(_, count)| count.parse::<usize>().expect("a count"))
        .sum();
    let kept = text.lines().filter(|line| line.len() == line.matches('x').count()).count();
    assert!(lost > 0);
    assert_eq!(kept + lost, pushed);
    assert!(LOST_LINES.get() >= lost_before + lost as u64);
}

#[test]
fn a_broken_stderr_does_not_end_the_log() {
    struct Broken(mpsc::Sender<()>);
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.0.send(()).expect("the test listens");
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::new(true, false);
    let (tried, tries) = mpsc::channel();
    let queue = Arc::clone(&lines.0);
    thread::spawn(move || queue.drain_into(Broken(tried)));
    for _ in 0..3 {
        lines.0.push(b"{}\n");
        tries.recv_timeout(HANG).expect("the line is tried");
        lines.0.wait_until_written(HANG);
    }
}

#[test]
fn a_non_blocking_stderr_is_waited_for() {
    struct Hiccups(Vec<u8>, u32);
    impl Write for Hiccups {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            match self.1 % 3 {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                1 => Err(io::ErrorKind::Interrupted.into()),
                _ => self.0.write(&bytes[..1]),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut out = Hiccups(Vec::new(), 0);
    write_patiently(&mut out, b"abc\n").expect("written");
    assert_eq!(out.0, b"abc\n");
}

/// The process-wide log, in processes of its own: this test, started again, is what logs.
#[cfg(unix)]
#[test]
fn no_stderr_stops_a_process_that_logs() {
    use std::process::{Command, Stdio};

    const CHILD: &str = "MCP_BRIDGE_TEST_LOGS";
    const LINES: usize = 200;
    if let Ok(text) = std::env::var(CHILD) {
        let log = super::init(LevelFilter::INFO, false).expect("the first in this process");
        assert!(matches!(super::init(LevelFilter::INFO, false), Err(super::LogError::Twice)));
        for number in 0..LINES {
            tracing::info!(number, "{}", text.repeat(1000));
        }
        drop(log);
        return;
    }

    let this = "telemetry::tests::no_stderr_stops_a_process_that_logs";
    let child = |redirection: &str, text: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec \"$0\" \"$@\" {redirection}")]);
        command.arg(std::env::current_exe().expect("a test program")).args(["--exact", this, "--nocapture"]);
        command.env(CHILD, text).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started")
    };
    assert!(child("2>&-", "closed").wait().expect("ended").success());
    // Over a megabyte, more than a pipe takes, and nobody reads it while the process lives.
    assert!(child("", "unread").wait().expect("ended").success());

    let output = child("", "read").wait_with_output().expect("ended");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let numbers: Vec<&str> = text.lines().filter_map(|line| line.split_once("number=")).map(|(_, n)| n).collect();
    assert_eq!(numbers, (0..LINES).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(output.status.success());
}
