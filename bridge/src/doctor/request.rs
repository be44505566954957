//! What a client of each era sends.

use http::{HeaderName, Method, header};
use serde_json::{Value, json};
use url::Url;

use super::fetch::Ask;

/// The modern era's revision.
pub(super) const MODERN: &str = "2026-07-28";

/// The legacy era's last revision.
pub(super) const LEGACY: &str = "2025-11-25";

pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(super) const METHOD: HeaderName = HeaderName::from_static("mcp-method");
pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// What the specification has clients accept.
pub(super) const BOTH_TYPES: &str = "application/json, text/event-stream";

/// A legacy session, as far as the server has them.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    pub(super) id: Option<String>,
    pub(super) version: String,
}

impl Session {
    /// `ask` as a request of this session.
    pub(super) fn mark(&self, ask: Ask) -> Ask {
        let ask = ask.header(VERSION, &self.version);
        match &self.id {
            Some(id) => ask.header(SESSION, id),
            None => ask,
        }
    }
}

/// The legacy era's first request.
pub(super) fn initialize(url: &Url) -> Ask {
    let client = json!({ "name": "mcp-bridge doctor", "version": env!("CARGO_PKG_VERSION") });
    let params = json!({ "protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client });
    post(url, &json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }))
}

/// A legacy message; requests have an id, notifications have none.
pub(super) fn legacy(url: &Url, session: &Session, method: &str, id: Option<u32>) -> Ask {
    let mut message = json!({ "jsonrpc": "2.0", "method": method });
    if let Some(id) = id {
        message["id"] = id.into();
    }
    session.mark(post(url, &message))
}

/// The legacy era's stream of what the server says by itself.
pub(super) fn legacy_stream(url: &Url, session: &Session) -> Ask {
    session.mark(Ask::get(url).header(header::ACCEPT, "text/event-stream"))
}

/// The end of a legacy session.
pub(super) fn legacy_end(url: &Url, session: &Session) -> Ask {
    session.mark(Ask::new(Method::DELETE, url))
}

/// A modern request, with the headers that mirror it.
pub(super) fn modern(url: &Url, method: &str, mut params: Value) -> Ask {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": { "name": "mcp-bridge doctor", "version": env!("CARGO_PKG_VERSION") },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    post(url, &json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))
        .header(VERSION, MODERN)
        .header(METHOD, method)
}

fn post(url: &Url, message: &Value) -> Ask {
    let label = message["method"].as_str().unwrap_or_default();
    Ask::new(Method::POST, url).header(header::ACCEPT, BOTH_TYPES).body(
        label,
        "application/json",
        message.to_string().into_bytes(),
    )
}
