//! A walk through the bridge's main job, on this machine, with the real program.
//!
//! The authorization server is played by a few lines below: it knows one token of one user, who has
//! consented to adding and to nothing else. Everything else is what runs in production.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

/// Nothing here takes longer, on any machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// The one token that the played authorization server knows.
const TOKEN: &str = "alices-token";

/// Shows a stranger, a user and a user without consent at the bridge's door.
pub(crate) fn walk() -> anyhow::Result<()> {
    let bridge = Bridge::start()?;
    say("A stranger is turned away and told where to sign in:")?;
    bridge.call(None, "add", 6, 7, 401)?;
    say("The same call with Alice's token, which she let add:")?;
    bridge.call(Some(TOKEN), "add", 6, 7, 200)?;
    say("She did not consent to dividing, so the client is told what to ask her for:")?;
    bridge.call(Some(TOKEN), "divide", 6, 7, 403)?;
    say("Nothing listens any more. README.md shows how to serve your own users.")
}

/// The running bridge. Dropping it ends it.
struct Bridge {
    process: Child,
    log: mpsc::Receiver<String>,
    resource: String,
}

impl Bridge {
    fn start() -> anyhow::Result<Self> {
        // The bridge picks a free port; the authorization server then learns whose tokens it issues.
        let resource = Arc::new(OnceLock::new());
        let issuer = format!("http://{}", play_authorization_server(Arc::clone(&resource))?);
        let mut command = Command::new(binary()?);
        // The reader's own settings are not part of the tour.
        for (name, _) in env::vars_os().filter(|(name, _)| is_setting(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        let mut process = command
            .args(["serve", "--listen", "127.0.0.1:0", "--issuer", &issuer])
            .args(["--introspection-url", &format!("{issuer}/introspect"), "--introspection-client-id", "bridge"])
            .env("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET", "only-for-the-tour")
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start mcp-bridge")?;
        let stderr = process.stderr.take().context("stderr is piped")?;
        let (lines, log) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        let mut bridge = Self { process, log, resource: String::new() };
        let listening = bridge.log_line("listening on ")?;
        bridge.resource = listening.split_once("listening on ").map(|(_, url)| url.to_owned()).unwrap_or_default();
        resource.set(bridge.resource.clone()).ok().context("there is one bridge")?;
        Ok(bridge)
    }

    /// Calls the calculator and prints the exchange; fails unless the status is `expected`.
    fn call(&self, token: Option<&str>, operation: &str, a: u32, b: u32, expected: u16) -> anyhow::Result<()> {
        let body = json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {
                "name": "calculator",
                "arguments": { "operation": operation, "a": a, "b": b },
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
            },
        })
        .to_string();
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n\
             Mcp-Method: tools/call\r\nMcp-Name: calculator\r\n{authorization}Content-Length: {}\r\n\r\n{body}",
            self.authority(),
            body.len()
        );
        let who = if token.is_some() { "Authorization: Bearer …" } else { "no token" };
        say(&format!("  POST {}  calculator {{ {operation} {a} {b} }}  {who}", self.resource))?;
        let mut stream = TcpStream::connect(self.authority())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let (head, body) = response.split_once("\r\n\r\n").context("the answer has no end of headers")?;
        let status = head.lines().next().unwrap_or_default();
        say(&format!("  {status}"))?;
        for header in head.lines().filter(|line| line.to_ascii_lowercase().starts_with("www-authenticate:")) {
            say(&format!("  {header}"))?;
        }
        say(&format!("  {}", summary(body)))?;
        self.log_line("request_id")?;
        say("")?;
        ensure!(status.contains(&format!(" {expected} ")), "expected {expected}");
        Ok(())
    }

    /// Prints the log up to the first line with `text` in it, and returns that line.
    fn log_line(&self, text: &str) -> anyhow::Result<String> {
        loop {
            let line = self.log.recv_timeout(PATIENCE).context("mcp-bridge is silent; its last words are above")?;
            say(&format!("  log: {line}"))?;
            if line.contains(text) {
                return Ok(line);
            }
        }
    }
}

impl Bridge {
    fn authority(&self) -> &str {
        self.resource.split('/').nth(2).unwrap_or_default()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What of an answer a reader wants to see.
fn summary(body: &str) -> String {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    match (&value["result"]["content"], &value["error"]) {
        (Value::Array(content), _) => json!({ "content": content }).to_string(),
        (_, error) if error.is_object() => json!({ "error": error }).to_string(),
        _ => body.to_owned(),
    }
}

fn is_setting(variable: &str) -> bool {
    variable.starts_with("MCP_BRIDGE_") || variable.starts_with("PROPELAUTH_")
}

fn binary() -> anyhow::Result<PathBuf> {
    // target/debug/xtask → target/release/mcp-bridge
    let target = env::current_exe()?.parent().and_then(|folder| folder.parent()).map(PathBuf::from);
    let binary =
        target.context("no target folder")?.join("release").join(format!("mcp-bridge{}", env::consts::EXE_SUFFIX));
    ensure!(binary.exists(), "{} is missing", binary.display());
    Ok(binary)
}

/// Answers token introspection (RFC 7662) for Alice's one token, until the program ends.
fn play_authorization_server(resource: Arc<OnceLock<String>>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let resource = resource.get().cloned().unwrap_or_default();
            thread::spawn(move || introspect(stream, address, &resource));
        }
    });
    Ok(address)
}

fn introspect(mut stream: TcpStream, issuer: SocketAddr, resource: &str) -> anyhow::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            bail!("the request ended early");
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut form = String::new();
    reader.take(length).read_to_string(&mut form)?;
    let answer = if form.split('&').any(|field| field == format!("token={TOKEN}")) {
        json!({ "active": true, "sub": "alice", "username": "alice@example.com", "client_id": "tour",
                "iss": format!("http://{issuer}"), "aud": resource, "scope": "op:add" })
    } else {
        json!({ "active": false })
    }
    .to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    )?;
    Ok(())
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot print")
}
