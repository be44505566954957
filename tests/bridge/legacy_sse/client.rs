//! A client of HTTP+SSE, and what it sends.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::common::{
    bridge::Bridge,
    http::{Connection, Request, Response},
    mcp,
};

/// A client of 2024-11-05: its stream, and where it sends messages.
pub(crate) struct Client {
    pub(crate) stream: Connection,
    pub(crate) endpoint: String,
    pub(crate) token: String,
    pub(crate) address: SocketAddr,
}

pub(crate) fn get(path: &str) -> Request {
    Request::get(path).header("Accept", "text/event-stream")
}

pub(crate) fn post(endpoint: &str, message: &Value) -> Request {
    Request::post(endpoint).header("Content-Type", "application/json").json(message)
}

pub(crate) fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

pub(crate) fn tool(id: u64, name: &str, arguments: &Value) -> Value {
    request(id, "tools/call", &json!({ "name": name, "arguments": arguments }))
}

pub(crate) fn calculate(id: u64, operation: &str) -> Value {
    request(id, "tools/call", &mcp::arguments(operation))
}

pub(crate) fn initialize(id: u64, capabilities: &Value) -> Value {
    let client = json!({ "name": "black-box", "version": "1.0.0" });
    let params = json!({ "protocolVersion": "2024-11-05", "capabilities": capabilities, "clientInfo": client });
    request(id, "initialize", &params)
}

impl Client {
    /// Opens the stream and reads where messages go.
    pub(crate) fn open(bridge: &Bridge, token: &str) -> Self {
        let address = bridge.address();
        let (head, mut stream) = get("/mcp/sse").bearer(token).open(address);
        let head = head.expect(200, "the stream");
        assert_eq!(head.header("Content-Type"), Some("text/event-stream"));
        let first = stream.next_event().expect("a first event");
        let endpoint = first.strip_prefix("event: endpoint\ndata: ").unwrap_or_else(|| panic!("not first: {first}"));
        Self { stream, endpoint: endpoint.to_owned(), token: token.to_owned(), address }
    }

    /// The same with a conversation begun.
    pub(crate) fn begin(bridge: &Bridge, token: &str, capabilities: &Value) -> Self {
        let mut client = Self::open(bridge, token);
        client.send(&initialize(0, capabilities));
        let answer = client.next();
        assert_eq!(
            (&answer["id"], &answer["result"]["protocolVersion"]),
            (&json!(0), &json!("2024-11-05")),
            "{answer}"
        );
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        client
    }

    pub(crate) fn session(&self) -> &str {
        self.endpoint.split_once("?sessionId=").expect("a session in the query").1
    }

    pub(crate) fn try_send(&self, message: &Value) -> Response {
        post(&self.endpoint, message).bearer(&self.token).send(self.address)
    }

    /// Sends what is taken, with nothing in the answer.
    pub(crate) fn send(&self, message: &Value) {
        let response = self.try_send(message).expect(202, &message.to_string());
        assert!(response.body.is_empty(), "{response:?}");
    }

    /// The next message; `None` at the end of the stream.
    fn heard(&mut self) -> Option<Value> {
        loop {
            let event = self.stream.next_event()?;
            if let Some(data) = event.strip_prefix("event: message\ndata: ") {
                return Some(serde_json::from_str(data).expect("JSON"));
            }
            assert!(event.starts_with(':'), "{event}");
        }
    }

    pub(crate) fn next(&mut self) -> Value {
        self.heard().expect("the stream goes on")
    }

    pub(crate) fn call(&mut self, id: u64, name: &str, arguments: &Value) -> Value {
        self.send(&tool(id, name, arguments));
        self.next()
    }

    pub(crate) fn assert_ends(mut self, why: &str) {
        let said = self.heard();
        assert!(said.is_none(), "{why}: {said:?}");
    }
}
