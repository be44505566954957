//! The MCP requests that are measured, as bytes.

use std::net::SocketAddr;

use super::http::post;

/// The endpoint's path.
pub(crate) const PATH: &str = "/mcp";

/// What every modern request says about itself.
const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;

const ACCEPT: (&str, &str) = ("Accept", "application/json, text/event-stream");

/// A modern `tools/call` of the calculator with 5 and 8.
pub(crate) fn call(address: SocketAddr, token: &str, operation: &str) -> Vec<u8> {
    let params = format!(r#""name":"calculator","arguments":{{"operation":"{operation}","a":5,"b":8}}"#);
    modern(address, token, "tools/call", &[("Mcp-Name", "calculator")], &params)
}

/// A modern `tools/list`.
pub(crate) fn list(address: SocketAddr, token: &str) -> Vec<u8> {
    modern(address, token, "tools/list", &[], "")
}

fn modern(address: SocketAddr, token: &str, method: &str, more: &[(&str, &str)], params: &str) -> Vec<u8> {
    let comma = if params.is_empty() { "" } else { "," };
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}{comma}{META}}}}}"#);
    let authorization = format!("Bearer {token}");
    let mut headers = vec![
        ACCEPT,
        ("Authorization", authorization.as_str()),
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", method),
    ];
    headers.extend(more);
    post(PATH, address, &headers, &body)
}

/// A legacy `initialize`.
pub(crate) fn initialize(address: SocketAddr, token: &str) -> Vec<u8> {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
    post(PATH, address, &[ACCEPT, ("Authorization", &format!("Bearer {token}"))], body)
}

/// A legacy `notifications/initialized` in `session`.
pub(crate) fn initialized(address: SocketAddr, token: &str, session: &str) -> Vec<u8> {
    let headers = [
        ACCEPT,
        ("Authorization", &format!("Bearer {token}")),
        ("MCP-Protocol-Version", "2025-11-25"),
        ("Mcp-Session-Id", session),
    ];
    post(PATH, address, &headers, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
}
