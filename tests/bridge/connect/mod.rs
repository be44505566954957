//! `mcp-bridge connect` against scripted servers: what a lost connection, a forgetful server or a
//! broken one may not do to a client.

#[cfg(target_os = "linux")]
pub(crate) mod desktop;
pub(crate) mod rig;

mod answers;
mod modern;
mod session;

use std::time::Duration;

use serde_json::{Value, json};

use self::rig::{Answering, Asked, Connect, Remote, initialize, request};
use crate::common::mcp::{LEGACY, MODERN, meta};

const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

/// A modern request.
fn modern(id: u64, method: &str, mut params: Value) -> Value {
    params["_meta"] = meta();
    request(id, method, params)
}

fn call(id: u64, name: &str) -> Value {
    request(id, "tools/call", json!({ "name": name, "arguments": {} }))
}

fn result(id: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [] } })
}

/// A legacy server that shakes hands and gives the session `s1`, `s2`, …; all else is `rest`'s.
fn legacy(rest: impl Fn(&Asked, Answering<'_>) + Send + Sync + 'static) -> Remote {
    let sessions = std::sync::atomic::AtomicUsize::new(0);
    Remote::start(move |asked, answering| match (asked.http.as_str(), asked.method()) {
        ("POST", "initialize") => {
            let number = sessions.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            answering.json(200, &[("Mcp-Session-Id", &format!("s{number}"))], &initialized(&asked.body["id"]));
        }
        ("POST", method) if method.starts_with("notifications/") => answering.status(202, &[]),
        ("DELETE", _) => answering.status(204, &[]),
        ("GET", _) if asked.header("last-event-id").is_none() => answering.status(405, &[]),
        _ => rest(asked, answering),
    })
}

fn initialized(id: &Value) -> Value {
    let server = json!({ "name": "scripted", "version": "1" });
    let result = json!({ "protocolVersion": LEGACY, "capabilities": { "tools": {} }, "serverInfo": server });
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}
