//! `mcp-bridge` as a child process.

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    PATIENCE,
    authorization_server::{AuthorizationServer, CLIENT_ID, CLIENT_SECRET},
    http::{Request, Response},
};

/// A command line that is being put together; nothing is inherited from the test's environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommandLine {
    arguments: Vec<String>,
    /// What follows `--`.
    rest: Vec<String>,
    environment: Vec<(String, String)>,
    /// A folder that is on a disk of its own, and the disk's options.
    disk: Option<(PathBuf, &'static str)>,
}

impl CommandLine {
    pub(crate) fn new(subcommand: &str) -> Self {
        Self { arguments: vec![subcommand.to_owned()], ..Self::default() }
    }

    /// `serve` on a free loopback port, logging JSON from debug upwards.
    pub(crate) fn serve() -> Self {
        Self::new("serve").flag("--listen", "127.0.0.1:0").flag("--log-format", "json").flag("--log-level", "debug")
    }

    /// Adds a flag; one given before is replaced, unless it may be repeated.
    pub(crate) fn flag(mut self, name: &str, value: impl AsRef<str>) -> Self {
        const REPEATABLE: [&str; 6] =
            ["--allowed-origin", "--allowed-host", "--accepted-audience", "--trusted-proxy", "--env", "--header"];
        if !REPEATABLE.contains(&name)
            && let Some(at) = self.arguments.iter().position(|argument| argument == name)
        {
            self.arguments.drain(at..at + 2);
        }
        self.arguments.extend([name.to_owned(), value.as_ref().to_owned()]);
        self
    }

    /// Adds a flag that has no value.
    pub(crate) fn switch(mut self, name: &str) -> Self {
        self.arguments.push(name.to_owned());
        self
    }

    /// The command to serve, after all flags.
    pub(crate) fn command_to_serve(mut self, command: &[&str]) -> Self {
        self.rest = command.iter().map(|part| (*part).to_owned()).collect();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Introspection at `server`, everything given explicitly.
    pub(crate) fn introspection(self, server: &AuthorizationServer) -> Self {
        self.flag("--auth", "introspection")
            .flag("--issuer", server.issuer())
            .flag("--introspection-url", server.introspection_url())
            .flag("--introspection-client-id", CLIENT_ID)
            .env("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET", CLIENT_SECRET)
    }

    /// Puts `folder`, with what is in it, on a disk of its own that only this process sees: of 1 MiB, and
    /// mounted anew with `options` before the program starts. [`Bridge::disk`] is the way to it.
    pub(crate) fn disk(mut self, folder: PathBuf, options: &'static str) -> Self {
        self.disk = Some((folder, options));
        self
    }

    pub(crate) fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_mcp-bridge");
        let mut command = match &self.disk {
            None => Command::new(program),
            Some((folder, options)) => {
                const MOUNT: &str = "set -e; copy=$(mktemp -d); cp -a \"$1/.\" \"$copy\"
                    mount -t tmpfs -o size=1m,mode=700 none \"$1\"; cp -a \"$copy/.\" \"$1\"; rm -rf \"$copy\"
                    mount -o \"remount,$2\" \"$1\"; shift 2; exec \"$@\"";
                let mut command = Command::new("/usr/bin/unshare");
                command.args(namespaces()).args(["--", "/bin/sh", "-c", MOUNT, "sh"]);
                command.arg(folder).args([*options, program]);
                command
            }
        };
        command.args(&self.arguments);
        if !self.rest.is_empty() {
            command.arg("--").args(&self.rest);
        }
        command.env_clear().envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it and waits until it listens.
    pub(crate) fn spawn(&self) -> Bridge {
        Bridge::start(self)
    }

    /// Runs it to its end, which must come within [`PATIENCE`].
    pub(crate) fn run(&self) -> Output {
        let mut child = self.command().spawn().expect("the program starts");
        let stdout = read_all(child.stdout.take());
        let stderr = read_all(child.stderr.take());
        let status = match wait_at_most(&mut child, PATIENCE) {
            Some(status) => status,
            None => {
                let _ = child.kill();
                let _ = child.wait();
                let text = String::from_utf8_lossy(&stderr.join().expect("a reading thread")).into_owned();
                panic!("it did not end by itself: {self:?}\n{text}");
            }
        };
        let join = |reader: std::thread::JoinHandle<Vec<u8>>| reader.join().expect("a reading thread");
        Output { status, stdout: join(stdout), stderr: join(stderr) }
    }
}

/// Flags of unshare for mounts of one's own; whoever is not root needs to be it there.
fn namespaces() -> &'static [&'static str] {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if is_root { &["--mount"] } else { &["--mount", "--user", "--map-root-user"] }
}

fn read_all(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    let mut stream = stream.expect("the stream is piped");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read up to an error is what the test looks at.
        let _ = stream.read_to_end(&mut bytes);
        bytes
    })
}

fn wait_at_most(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Everything that came out on stderr, line by line, and whether it has ended.
#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

/// A bridge that listens; it is killed with the value.
pub(crate) struct Bridge {
    child: Child,
    log: Arc<Log>,
    announcement: Value,
    stdout: Option<std::thread::JoinHandle<Vec<u8>>>,
}

impl Bridge {
    fn start(line: &CommandLine) -> Self {
        let mut child = line.command().spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let stdout = read_all(child.stdout.take());
        let log = Arc::new(Log::default());
        let writing = Arc::clone(&log);
        std::thread::spawn(move || {
            for text in BufReader::new(stderr).lines().map_while(Result::ok) {
                writing.lines.lock().expect("the log").0.push(text);
                writing.more.notify_all();
            }
            writing.lines.lock().expect("the log").1 = true;
            writing.more.notify_all();
        });
        let mut bridge = Self { child, log, announcement: Value::Null, stdout: Some(stdout) };
        let announced = |text: &str| {
            let value = serde_json::from_str::<Value>(text).ok()?;
            (field(&value, "message") == Some(&Value::from("listening"))).then_some(value)
        };
        match bridge.wait_for(|lines| lines.iter().find_map(|text| announced(text))) {
            Some(value) => bridge.announcement = value,
            None => panic!("it does not listen: {line:?}\n{}", bridge.log_text()),
        }
        bridge
    }

    /// Waits until `find` finds something in the log; `None` after [`PATIENCE`] or at the log's end.
    fn wait_for<T>(&self, mut find: impl FnMut(&[String]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut guard = self.log.lines.lock().expect("the log");
        loop {
            if let Some(found) = find(&guard.0) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if guard.1 || left.is_zero() {
                return None;
            }
            guard = self.log.more.wait_timeout(guard, left).expect("the log").0;
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What this process sees at `path`, where that is on a disk of its own.
    pub(crate) fn disk(&self, path: &std::path::Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.id(), path.display()))
    }

    fn announced(&self, name: &str) -> &str {
        let value = field(&self.announcement, name).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no {name} in {}", self.announcement))
    }

    /// The URL that it says it listens on.
    pub(crate) fn url(&self) -> &str {
        self.announced("url")
    }

    /// The identifier of what it protects.
    pub(crate) fn resource(&self) -> &str {
        self.announced("resource")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        address_of(self.url())
    }

    pub(crate) fn metrics_address(&self) -> SocketAddr {
        address_of(self.announced("metrics_url"))
    }

    /// The metrics page.
    pub(crate) fn metrics(&self) -> String {
        Request::get("/metrics").send(self.metrics_address()).expect(200, "metrics").text().to_owned()
    }

    pub(crate) fn send(&self, request: &Request) -> Response {
        request.send(self.address())
    }

    pub(crate) fn log_text(&self) -> String {
        self.log.lines.lock().expect("the log").0.join("\n")
    }

    /// Every line of the log as JSON; all of them must be.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = self.log_text();
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
        text.lines().map(parse).collect()
    }

    /// Waits for an event in the log and returns it.
    pub(crate) fn wait_for_event(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let found = self.wait_for(|lines| {
            lines.iter().filter_map(|line| serde_json::from_str(line).ok()).find(|event| is_it(event))
        });
        found.unwrap_or_else(|| panic!("no event {what} in:\n{}", self.log_text()))
    }

    /// How often the calculator had run for others when it logged its `count`-th run for `subject`.
    /// The log is in order: whatever ran before that run is in it.
    pub(crate) fn runs_before(&self, subject: &str, count: usize) -> usize {
        let others = self.wait_for(|lines| {
            let (mut own, mut others) = (0, 0);
            for event in lines.iter().filter_map(|line| tool_run(line)) {
                match field(&event, "subject").and_then(Value::as_str) {
                    Some(who) if who == subject => own += 1,
                    _ => others += 1,
                }
                if own == count {
                    return Some(others);
                }
            }
            None
        });
        others.unwrap_or_else(|| panic!("the calculator does not log its runs:\n{}", self.log_text()))
    }

    /// Sends it a signal, like `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let killed =
            Command::new("/bin/kill").arg(format!("-{name}")).arg(self.child.id().to_string()).env_clear().status();
        assert!(killed.expect("kill starts").success());
    }

    pub(crate) fn sigterm(&self) {
        self.signal("TERM");
    }

    /// Waits for its end and for the last of its output.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = wait_at_most(&mut self.child, PATIENCE);
        let status = status.unwrap_or_else(|| panic!("it did not end:\n{}", self.log_text()));
        let mut guard = self.log.lines.lock().expect("the log");
        while !guard.1 {
            guard = self.log.more.wait_timeout(guard, PATIENCE).expect("the log").0;
        }
        status
    }

    /// What it wrote to stdout, after its end.
    pub(crate) fn stdout(&mut self) -> Vec<u8> {
        let reader = self.stdout.take().expect("stdout is read once");
        reader.join().expect("a reading thread")
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The event in `line` if the calculator says in it that it runs: its own debug event, one per call.
fn tool_run(line: &str) -> Option<Value> {
    let event = serde_json::from_str::<Value>(line).ok()?;
    let text = |name| field(&event, name).and_then(Value::as_str).unwrap_or_default();
    let runs = text("level") == "DEBUG" && text("target").starts_with("mcp_calculator");
    runs.then_some(event)
}

/// A field of a log event, whether the format nests fields or not.
pub(crate) fn field<'e>(event: &'e Value, name: &str) -> Option<&'e Value> {
    event.get(name).or_else(|| event.get("fields")?.get(name))
}

fn address_of(url: &str) -> SocketAddr {
    let (_, rest) = url.split_once("://").expect("a URL");
    let authority = rest.split('/').next().unwrap_or_default();
    authority.parse().unwrap_or_else(|_| panic!("no socket address in {url}"))
}

/// Whether something accepts connections at `address`.
pub(crate) fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// A directory that lives as long as the test, and files in it.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and returns its path as text.
    pub(crate) fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, contents).expect("a file in the temporary directory");
        // Programs rightly complain about keys and secrets that everybody can read.
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("our own file");
        path.to_str().expect("temporary paths are UTF-8").to_owned()
    }
}
