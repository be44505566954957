//! A client on pipes, and a server that does what a test says.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{ChildStdin, ExitStatus},
    sync::{
        Arc, Condvar, Mutex,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::common::{
    PATIENCE,
    bridge::CommandLine,
    http::{read_head, read_request_body},
    mcp::LEGACY,
};

pub(crate) fn request(id: u64, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

pub(crate) fn initialize(id: u64) -> Value {
    let client = json!({ "name": "black-box", "version": "1.0.0" });
    request(id, "initialize", json!({ "protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client }))
}

/// `mcp-bridge connect`, and the client's end of its pipes.
pub(crate) struct Connect {
    child: crate::driver::Guard,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Connect {
    pub(crate) fn line(url: &str) -> CommandLine {
        CommandLine::new("connect").switch(url).flag("--log-level", "trace").flag("--token-store", "memory")
    }

    pub(crate) fn to(url: &str) -> Self {
        Self::start(&Self::line(url))
    }

    pub(crate) fn start(line: &CommandLine) -> Self {
        let mut command = line.command();
        command.stdin(std::process::Stdio::piped());
        let mut child = crate::driver::Guard::spawn(&mut command);
        let stdin = child.0.stdin.take();
        let stdout = BufReader::new(child.0.stdout.take().expect("stdout is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        let mut stream = child.0.stderr.take().expect("stderr is piped");
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text);
            text
        });
        Self { child, stdin, lines, stderr: Some(stderr) }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.send_line(&message.to_string());
    }

    pub(crate) fn send_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("the input is open");
        writeln!(stdin, "{line}").expect("it reads");
    }

    /// The next message; what is none fails the test.
    pub(crate) fn next(&mut self) -> Value {
        self.next_within(PATIENCE)
    }

    /// The same for what may take longer than a machine needs.
    pub(crate) fn next_within(&mut self, patience: Duration) -> Value {
        match self.lines.recv_timeout(patience) {
            Ok(line) => serde_json::from_str(&line).unwrap_or_else(|error| panic!("no message ({error}): {line}")),
            Err(error) => {
                let _ = self.child.0.kill();
                panic!("no message ({error}):\n{}", self.log());
            }
        }
    }

    /// `initialize` with id 1, and what follows it.
    pub(crate) fn shake_hands(&mut self) {
        self.send(&initialize(1));
        let answer = self.next();
        assert_eq!(answer["result"]["protocolVersion"], LEGACY, "{answer}");
        self.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.0.id()
    }

    pub(crate) fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Closes its input and waits for a good end, at which nothing must be left to say; gives the log.
    pub(crate) fn end(mut self) -> String {
        self.close_input();
        self.ended()
    }

    /// Ends it with requests that nobody answers.
    pub(crate) fn end_hard(mut self) {
        self.signal("TERM");
        self.ended();
    }

    pub(crate) fn signal_and_wait(mut self, name: &str) {
        self.signal(name);
        self.ended();
    }

    fn signal(&mut self, name: &str) {
        let id = self.child.0.id().to_string();
        let killed = std::process::Command::new("/bin/kill").arg(format!("-{name}")).arg(id).env_clear().status();
        assert!(killed.expect("kill starts").success());
    }

    fn ended(&mut self) -> String {
        let status = self.status();
        let rest: Vec<String> = self.lines.iter().collect();
        let log = self.log();
        assert!(status.success() && rest.is_empty(), "{status} {rest:?}\n{log}");
        log
    }

    fn status(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.0.try_wait().expect("our own child") {
                return status;
            }
            if Instant::now() > deadline {
                let _ = self.child.0.kill();
                panic!("it does not end:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&mut self) -> String {
        self.stderr.take().map(|reader| reader.join().expect("a reading thread")).unwrap_or_default()
    }
}

/// A request that has come.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The HTTP method.
    pub(crate) http: String,
    pub(crate) path: String,
    headers: HashMap<String, String>,
    /// The body, `null` where there is none.
    pub(crate) body: Value,
    pub(crate) at: Instant,
    /// How many of the same HTTP method, JSON-RPC method and id came before.
    pub(crate) nth: usize,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The JSON-RPC method, empty where there is none.
    pub(crate) fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    fn is_like(&self, other: &Self) -> bool {
        (&self.http, self.method(), &self.body["id"]) == (&other.http, other.method(), &other.body["id"])
    }
}

#[derive(Default)]
struct Record {
    asked: Vec<Asked>,
    /// Streams whose reader has closed them.
    ends: usize,
}

/// A server on a loopback port; each connection brings one request.
pub(crate) struct Remote {
    address: SocketAddr,
    record: Arc<(Mutex<Record>, Condvar)>,
}

impl Remote {
    pub(crate) fn start(script: impl Fn(&Asked, Answering<'_>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let record: Arc<(Mutex<Record>, Condvar)> = Arc::default();
        let (script, recording) = (Arc::new(script), Arc::downgrade(&record));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(record) = recording.upgrade() else { return };
                let script = Arc::clone(&script);
                std::thread::spawn(move || answer(&stream, &record, &*script));
            }
        });
        Self { address, record }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The URL of a server that is not there any more.
    pub(crate) fn gone(self) -> String {
        let url = self.url();
        let Self { address, record } = self;
        drop(record);
        // The next connection finds that nobody keeps the record.
        let _ = TcpStream::connect(address).map(|mut stream| stream.read(&mut [0]));
        url
    }

    /// Everything that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.record.0.lock().expect("the record").asked.clone()
    }

    pub(crate) fn wait_for(&self, is_it: impl Fn(&Asked) -> bool) {
        self.wait_until(|record| record.asked.iter().any(&is_it));
    }

    /// Waits until so many streams were closed by their reader.
    pub(crate) fn wait_for_ends(&self, count: usize) {
        self.wait_until(|record| record.ends >= count);
    }

    fn wait_until(&self, is_so: impl Fn(&Record) -> bool) {
        let (lock, more) = &*self.record;
        let record = lock.lock().expect("the record");
        let (record, wait) = more.wait_timeout_while(record, PATIENCE, |record| !is_so(record)).expect("the record");
        assert!(!wait.timed_out(), "it did not come: {:?}", record.asked);
    }
}

fn answer(stream: &TcpStream, record: &(Mutex<Record>, Condvar), script: &(impl Fn(&Asked, Answering<'_>) + ?Sized)) {
    let mut reader = BufReader::new(stream);
    let Ok(Some((start, fields))) = read_head(&mut reader) else { return };
    let Ok(body) = read_request_body(&mut reader, &fields) else { return };
    let mut words = start.split(' ').map(str::to_owned);
    let (http, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers = fields.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let mut asked = Asked { http, path, headers, body, at: Instant::now(), nth: 0 };
    {
        let mut record = record.0.lock().expect("the record");
        asked.nth = record.asked.iter().filter(|earlier| earlier.is_like(&asked)).count();
        record.asked.push(asked.clone());
    }
    record.1.notify_all();
    script(&asked, Answering { stream, record });
}

/// The way to answer one request; what is not answered is hung up.
pub(crate) struct Answering<'s> {
    stream: &'s TcpStream,
    record: &'s (Mutex<Record>, Condvar),
}

impl<'s> Answering<'s> {
    pub(crate) fn raw(mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes());
    }

    pub(crate) fn hang_up(self) {}

    /// Says nothing until the client gives it up.
    pub(crate) fn say_nothing(self) {
        EventStream { stream: self.stream, record: self.record }.wait_for_its_end();
    }

    pub(crate) fn status(self, status: u16, headers: &[(&str, &str)]) {
        self.respond(status, headers, "");
    }

    pub(crate) fn text(self, status: u16, kind: &str, text: &str) {
        self.respond(status, &[("Content-Type", kind)], text);
    }

    pub(crate) fn json(self, status: u16, headers: &[(&str, &str)], body: &Value) {
        let headers = [headers, &[("Content-Type", "application/json; charset=utf-8")]].concat();
        self.respond(status, &headers, &body.to_string());
    }

    fn respond(self, status: u16, headers: &[(&str, &str)], body: &str) {
        let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        self.raw(&format!(
            "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
        ));
    }

    /// An event stream, up to the end of the connection.
    pub(crate) fn stream(self, headers: &[(&str, &str)]) -> EventStream<'s> {
        let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n{fields}\r\n");
        let mut stream = EventStream { stream: self.stream, record: self.record };
        stream.event(&head);
        stream
    }
}

/// A stream that is open.
pub(crate) struct EventStream<'s> {
    stream: &'s TcpStream,
    record: &'s (Mutex<Record>, Condvar),
}

impl EventStream<'_> {
    pub(crate) fn event(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes());
    }

    pub(crate) fn message(&mut self, message: &Value) {
        self.event(&format!("data: {message}\n\n"));
    }

    /// Waits until the reader closes it.
    pub(crate) fn wait_for_its_end(self) {
        let mut stream = self.stream;
        let _ = stream.read(&mut [0]);
        self.record.0.lock().expect("the record").ends += 1;
        self.record.1.notify_all();
    }
}
