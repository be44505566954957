//! The smallest legacy server: a handshake, and one tool `ok` that takes nothing.

use std::io::{BufRead, Write};

use serde_json::{Value, json};

/// What is different about one misbehaving server.
#[derive(Default)]
pub(crate) struct Tiny {
    /// What comes before the answer of each call: it gets the number of the call, from 1 on. Its text
    /// replaces the answer's, if it gives one; it must need no escapes in JSON.
    pub(crate) before: Option<Box<dyn Fn(u64) -> Option<String>>>,
    /// What comes after the answer of each call.
    pub(crate) after: Option<Box<dyn Fn(u64)>>,
    /// Lines that come instead of the answer to a request, in one piece, if it gives some.
    pub(crate) instead: Option<Instead>,
}

/// What a server says to a request in place of its answer.
type Instead = Box<dyn Fn(&Value) -> Option<String>>;

impl Tiny {
    /// Serves until the end of stdin.
    pub(crate) fn serve(&self) {
        let mut calls = 0;
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let message: Value = serde_json::from_str(&line).unwrap_or_default();
            let (Some(id), Some(method)) = (message.get("id"), message["method"].as_str()) else { continue };
            if let Some(lines) = self.instead.as_ref().and_then(|instead| instead(&message)) {
                print(&lines);
                continue;
            }
            let answer = match method {
                "initialize" => result(&json!({
                    "protocolVersion": "2025-11-25",
                    "capabilities": { "tools": {} },
                    "serverInfo": { "name": "faulty", "version": env!("CARGO_PKG_VERSION") },
                })),
                "ping" => result(&json!({})),
                "tools/list" => result(&json!({ "tools": [
                    { "name": "ok", "description": "Says ok", "inputSchema": { "type": "object" } },
                ] })),
                "tools/call" if message["params"]["name"] == "ok" => {
                    calls += 1;
                    let text = self.before.as_ref().and_then(|before| before(calls)).unwrap_or("ok".to_owned());
                    // Written by hand: escaping a long text would take seconds.
                    format!(r#""result":{{"content":[{{"type":"text","text":"{text}"}}]}}"#)
                }
                _ => format!(r#""error":{}"#, json!({ "code": -32601, "message": format!("no method {method}") })),
            };
            print(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},{answer}}}\n"));
            if let Some(after) = self.after.as_ref().filter(|_| method == "tools/call") {
                after(calls);
            }
        }
    }
}

fn result(value: &Value) -> String {
    format!(r#""result":{value}"#)
}

/// Writes `text` to stdout, as it is. Whether anybody reads it is not this program's problem.
pub(crate) fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes one line to stderr.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
