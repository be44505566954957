//! MCP requests of both eras, as conforming clients send them.

use serde_json::{Value, json};

use super::http::Request;

/// The modern era's revision.
pub(crate) const MODERN: &str = "2026-07-28";

/// The legacy era's last revision.
pub(crate) const LEGACY: &str = "2025-11-25";

const BOTH_TYPES: &str = "application/json, text/event-stream";

/// What every modern request says about itself.
pub(crate) fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": { "name": "black-box", "version": "1.0.0" },
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

/// A POST with the headers that both eras ask for.
pub(crate) fn post() -> Request {
    Request::post("/mcp").header("Content-Type", "application/json").header("Accept", BOTH_TYPES)
}

/// A modern request with id 1; `params` get their `_meta` unless they have one.
pub(crate) fn modern(method: &str, mut params: Value) -> Request {
    if params.get("_meta").is_none() {
        params["_meta"] = meta();
    }
    let mut request = post().header("MCP-Protocol-Version", MODERN).header("Mcp-Method", method);
    if method == "tools/call"
        && let Some(name) = params["name"].as_str()
    {
        request = request.header("Mcp-Name", name);
    }
    request.json(&json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))
}

/// The params of a calculator call.
pub(crate) fn arguments(operation: &str) -> Value {
    json!({ "name": "calculator", "arguments": { "operation": operation, "a": 6, "b": 3 } })
}

/// A modern call of the calculator: 6 `operation` 3.
pub(crate) fn call(operation: &str) -> Request {
    modern("tools/call", arguments(operation))
}

/// A legacy message in a session.
pub(crate) fn legacy(session: &str, message: &Value) -> Request {
    post().header("MCP-Protocol-Version", LEGACY).header("Mcp-Session-Id", session).json(message)
}

/// A legacy calculator call with id 2.
pub(crate) fn legacy_call(session: &str, operation: &str) -> Request {
    legacy(session, &json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": arguments(operation) }))
}

/// A legacy `initialize` with id 1.
pub(crate) fn initialize(version: &str) -> Request {
    post().json(&json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": version,
            "capabilities": {},
            "clientInfo": { "name": "black-box", "version": "1.0.0" },
        },
    }))
}

/// The text of a calculator's answer.
pub(crate) fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {answer}"))
}
