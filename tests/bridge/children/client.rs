//! A client of either era on one connection, which sees everything that comes to it.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};

use super::rig::LONG;
use crate::common::{
    http::{Connection, Request, Response},
    mcp::{self, LEGACY, MODERN, meta},
};

/// A client with its own connection and its own ids, which begin at 1.
pub(super) struct Client {
    address: SocketAddr,
    pub(super) token: String,
    /// A legacy client's.
    pub(super) session: Option<String>,
    /// What a modern client says about itself with every request.
    pub(super) meta: Value,
    pub(super) last_id: u64,
    connection: Option<Connection>,
}

/// All that came for one request.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) head: Response,
    /// The messages in order; the answer is the last.
    pub(super) messages: Vec<Value>,
}

impl Client {
    pub(super) fn modern(address: SocketAddr, token: &str) -> Self {
        Self { address, token: token.to_owned(), session: None, meta: meta(), last_id: 0, connection: None }
    }

    pub(super) fn legacy(address: SocketAddr, token: &str) -> Self {
        Self::legacy_with(address, token, &json!({}))
    }

    /// A legacy client with these capabilities.
    pub(super) fn legacy_with(address: SocketAddr, token: &str, capabilities: &Value) -> Self {
        let mut client = Self::modern(address, token);
        client.meta = json!({});
        let reply = client.initialize(capabilities);
        assert_eq!(reply.head.status, 200, "{reply:?}");
        client.session = reply.head.header("Mcp-Session-Id").map(str::to_owned);
        client.notify("notifications/initialized", &json!({}));
        client
    }

    /// Sends `initialize` and nothing more.
    pub(super) fn initialize(&mut self, capabilities: &Value) -> Reply {
        let params = json!({
            "protocolVersion": LEGACY,
            "capabilities": capabilities,
            "clientInfo": { "name": "black-box", "version": "1.0.0" },
        });
        let request = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        self.exchange(&mcp::post().bearer(&self.token).json(&request))
    }

    /// The same client with another user's token.
    pub(super) fn with_token_of(&self, other: &Self) -> Self {
        Self {
            address: self.address,
            token: other.token.clone(),
            session: self.session.clone(),
            meta: self.meta.clone(),
            last_id: self.last_id,
            connection: None,
        }
    }

    pub(super) fn is_legacy(&self) -> bool {
        self.session.is_some()
    }

    /// Has the modern client declare these capabilities.
    pub(super) fn can(mut self, capabilities: Value) -> Self {
        self.meta["io.modelcontextprotocol/clientCapabilities"] = capabilities;
        self
    }

    /// A message, as a request with all headers that this client has to send.
    pub(super) fn post(&self, message: &Value) -> Request {
        let post = mcp::post().bearer(&self.token).json(message);
        if let Some(session) = &self.session {
            return post.header("MCP-Protocol-Version", LEGACY).header("Mcp-Session-Id", session);
        }
        let method = message["method"].as_str().unwrap_or_default();
        let post = post.header("MCP-Protocol-Version", MODERN).header("Mcp-Method", method);
        match message["params"]["name"].as_str().or(message["params"]["uri"].as_str()) {
            Some(name) if message.get("id").is_some() => post.header("Mcp-Name", name),
            _ => post,
        }
    }

    /// The next request, not yet sent. `params` may have a `_meta`, to which that of the client is added.
    pub(super) fn request(&mut self, method: &str, params: &Value) -> Request {
        self.last_id += 1;
        let mut params = params.clone();
        for (key, value) in self.meta.as_object().expect("an object") {
            params["_meta"][key] = value.clone();
        }
        self.post(&json!({ "jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params }))
    }

    /// Sends a request and reads everything that comes for it.
    pub(super) fn ask(&mut self, method: &str, params: &Value) -> Reply {
        let request = self.request(method, params);
        let reply = self.exchange(&request);
        if let Some(answer) = reply.messages.last() {
            assert_eq!(answer["id"], self.last_id, "the answer of another request: {reply:?}");
        }
        reply
    }

    /// Calls a tool.
    pub(super) fn call(&mut self, tool: &str, arguments: &Value) -> Reply {
        self.ask("tools/call", &json!({ "name": tool, "arguments": arguments }))
    }

    /// The text that a tool answers.
    pub(super) fn text(&mut self, tool: &str, arguments: &Value) -> String {
        self.call(tool, arguments).text()
    }

    /// Sends a request on a connection of its own, and reads only what the caller then reads.
    pub(super) fn begin(&mut self, tool: &str, arguments: &Value) -> Connection {
        let request = self.request("tools/call", &json!({ "name": tool, "arguments": arguments }));
        self.send_only(&request)
    }

    pub(super) fn send_only(&self, request: &Request) -> Connection {
        let mut connection = connect(self.address);
        connection.write(&request.bytes(self.address));
        connection
    }

    /// Sends a notification, which must be accepted.
    pub(super) fn notify(&mut self, method: &str, params: &Value) {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        let reply = self.exchange(&self.post(&message));
        assert_eq!(reply.head.status, 202, "{method}: {reply:?}");
    }

    /// Answers a request of the server's.
    pub(super) fn respond(&mut self, id: &Value, result: &Value) -> Reply {
        self.exchange(&self.post(&json!({ "jsonrpc": "2.0", "id": id, "result": result })))
    }

    /// The session's stream, past its first comment.
    pub(super) fn listen(&self) -> Connection {
        let mut connection = self.send_only(&self.bare("GET").header("Accept", "text/event-stream"));
        assert_eq!(connection.read_head().status, 200);
        assert_eq!(connection.next_event().as_deref(), Some(": keep-alive"));
        connection
    }

    /// A request without a body.
    pub(super) fn bare(&self, method: &str) -> Request {
        let request = Request::new(method, "/mcp").bearer(&self.token).header("MCP-Protocol-Version", LEGACY);
        request.header("Mcp-Session-Id", self.session.as_deref().unwrap_or_default())
    }

    /// Ends the session.
    pub(super) fn delete(&mut self) {
        let reply = self.exchange(&self.bare("DELETE"));
        assert_eq!(reply.head.status, 204, "{reply:?}");
    }

    /// Sends it on this client's connection and reads everything that comes for it.
    pub(super) fn exchange(&mut self, request: &Request) -> Reply {
        let address = self.address;
        let connection = self.connection.get_or_insert_with(|| connect(address));
        connection.write(&request.bytes(address));
        let reply = read_reply(connection);
        if reply.head.lists("Connection", "close") {
            self.connection = None;
        }
        reply
    }
}

impl Reply {
    /// The answer.
    pub(super) fn answer(&self) -> &Value {
        self.messages.last().unwrap_or_else(|| panic!("no answer: {self:?}"))
    }

    /// What came before the answer.
    pub(super) fn notes(&self) -> &[Value] {
        self.messages.split_last().map_or(&[], |(_, notes)| notes)
    }

    /// The text of a tool's answer.
    pub(super) fn text(&self) -> String {
        mcp::text(self.answer()).to_owned()
    }

    /// Asserts status and JSON-RPC error code, and gives the error's message.
    pub(super) fn error(&self, status: u16, code: i64) -> &str {
        assert_eq!((self.head.status, &self.answer()["error"]["code"]), (status, &json!(code)), "{self:?}");
        self.answer()["error"]["message"].as_str().unwrap_or_else(|| panic!("no message: {self:?}"))
    }
}

/// Reads a whole answer: JSON, a stream of events, or nothing.
pub(super) fn read_reply(connection: &mut Connection) -> Reply {
    let head = connection.read_head();
    let mut messages = Vec::new();
    if head.lists("Content-Type", "text/event-stream") {
        while let Some(event) = connection.next_event() {
            messages.extend(data(&event));
        }
    } else if head.status != 204 {
        let body = connection.read_body().expect("the body is complete");
        messages.extend(serde_json::from_slice::<Value>(&body));
    }
    Reply { head, messages }
}

/// The next message of a stream.
pub(super) fn next_message(connection: &mut Connection) -> Value {
    loop {
        let event = connection.next_event().expect("another event");
        if let Some(message) = data(&event) {
            return message;
        }
    }
}

/// The message in an event; a comment has none.
fn data(event: &str) -> Option<Value> {
    let data = event.lines().find_map(|line| line.strip_prefix("data: "))?;
    Some(serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")))
}

/// A connection that waits for as long as these tests do.
fn connect(address: SocketAddr) -> Connection {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(30)).expect("the bridge listens");
    let limits = stream.set_read_timeout(Some(LONG)).and(stream.set_write_timeout(Some(LONG)));
    limits.and(stream.set_nodelay(true)).expect("socket options");
    Connection::over(Box::new(stream))
}
