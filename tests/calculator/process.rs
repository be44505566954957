//! A running `mcp-calculator`.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::Duration,
};

use serde_json::{Value, json};

/// Longer than any answer takes on a busy machine; what hangs fails instead of hanging the tests.
const PATIENCE: Duration = Duration::from_secs(20);

/// The program without anything inherited.
pub(crate) fn command() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("mcp-calculator"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A server and the two ends of its pipes.
pub(crate) struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&mut command())
    }

    pub(crate) fn start_with(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        // Bounded, so that a test can stand for a client that does not read: the thread stops, too.
        let (sender, lines) = sync_channel(1024);
        std::thread::spawn(move || {
            for line in stdout.lines() {
                if sender.send(line.expect("stdout is UTF-8")).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin, lines }
    }

    /// One that was greeted by a legacy client.
    pub(crate) fn initialized() -> Self {
        let mut server = Self::start();
        assert!(server.ask(&initialize("2025-11-25"))["result"].is_object());
        server.write(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n");
        server
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(bytes).expect("the server reads");
    }

    /// Sends one line.
    pub(crate) fn send(&mut self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// Sends one line and waits for one.
    pub(crate) fn ask(&mut self, line: &str) -> Value {
        self.send(line);
        self.answer().unwrap_or_else(|| panic!("stdout closed after {line}"))
    }

    /// The next answer, `None` at the end of the output.
    pub(crate) fn answer(&mut self) -> Option<Value> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no answer in {PATIENCE:?}"),
        }
    }

    /// The next answer as it was written.
    pub(crate) fn raw_answer(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("an answer")
    }

    /// Whether everything that was sent so far is answered: a `ping` gets the next answer.
    pub(crate) fn has_nothing_more_to_say(&mut self) -> bool {
        self.ask(r#"{"jsonrpc":"2.0","id":"sync","method":"ping"}"#) == json!({"jsonrpc":"2.0","id":"sync","result":{}})
    }

    /// Ends the input.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The input, for another thread to write to and to end.
    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("stdin is open")
    }

    /// The process.
    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    /// Waits for the end: exit status, and what was said on stderr.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        wait(&mut self.child)
    }

    /// Ends the input and checks that nothing more is said, on either stream, and that all is well.
    pub(crate) fn finish(mut self) {
        self.close_stdin();
        assert_eq!(self.answer(), None);
        let (status, log) = self.wait();
        assert_eq!((status.code(), &*log), (Some(0), ""));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Has usually ended by itself; a failed test leaves nothing behind.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits for the end: exit status, and what was said on stderr.
pub(crate) fn wait(child: &mut Child) -> (ExitStatus, String) {
    let mut stderr = child.stderr.take().expect("a pipe");
    let (sender, log) = sync_channel(1);
    // Ends with the process: nobody else has the other end.
    std::thread::spawn(move || {
        let mut log = String::new();
        stderr.read_to_string(&mut log).expect("the log is UTF-8");
        sender.send(log).ok();
    });
    let Ok(log) = log.recv_timeout(PATIENCE) else {
        child.kill().expect("a child can be killed");
        panic!("still running after {PATIENCE:?}");
    };
    (child.wait().expect("a child can be waited for"), log)
}

/// Sends a signal.
#[cfg(unix)]
pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    assert!(sent.expect("kill exists").success());
}

/// A legacy greeting.
pub(crate) fn initialize(version: &str) -> String {
    request(
        "init",
        "initialize",
        json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } }),
    )
}

/// A request as clients write it.
pub(crate) fn request(id: &str, method: &str, params: Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

/// A request of the modern era.
pub(crate) fn modern(id: &str, method: &str, mut params: Value) -> String {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    request(id, method, params)
}

/// The parameters of a call of the tool.
pub(crate) fn call(operation: &str, a: f64, b: f64) -> Value {
    json!({ "name": "calculator", "arguments": { "operation": operation, "a": a, "b": b } })
}
