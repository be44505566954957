//! A server that is healthy until a test spoils it: MCP endpoint, metadata and authorization server
//! on one loopback port, in both eras.

use std::{
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::common::{
    PATIENCE, http,
    mcp::{LEGACY, MODERN},
};

/// The token of the healthy server's one user.
pub(crate) const TOKEN: &str = "canary-token-of-the-scripted-user";

/// A request as it arrived.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path == path
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// An answer to be written.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// How long the body is held back.
    pub(crate) held: Duration,
    /// Whether the connection stays open after the body, as streams do.
    pub(crate) goes_on: bool,
}

impl Said {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::of(status, "application/json", &body.to_string())
    }

    pub(crate) fn of(status: u16, content_type: &str, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
        Self { status, headers, body: body.to_owned(), held: Duration::ZERO, goes_on: false }
    }

    /// Puts one field in the place of all of this name; an empty one removes them.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Changes what is in a JSON body.
    pub(crate) fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        let mut json: Value = serde_json::from_str(&self.body).expect("a JSON body");
        change(&mut json);
        self.body = json.to_string();
        self
    }
}

/// What a test changes of an answer; it also gets the server's origin.
pub(crate) type Spoil = dyn Fn(&Asked, Said, &str) -> Said + Send + Sync;

/// A running server; it ends with the value.
pub(crate) struct Scripted {
    address: SocketAddr,
    origin: String,
    stopped: Arc<AtomicBool>,
}

impl Scripted {
    /// A server whose answers go through `spoil`.
    pub(crate) fn start(spoil: impl Fn(&Asked, Said, &str) -> Said + Send + Sync + 'static) -> Self {
        Self::over(None, "127.0.0.1", Arc::new(spoil))
    }

    /// A healthy server over TLS, known as `host`.
    pub(crate) fn tls(config: ServerConfig, host: &str) -> Self {
        Self::over(Some(Arc::new(config)), host, Arc::new(|_: &Asked, said: Said, _: &str| said))
    }

    fn over(tls: Option<Arc<ServerConfig>>, host: &str, spoil: Arc<Spoil>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let origin = format!("{scheme}://{host}:{}", address.port());
        let stopped = Arc::new(AtomicBool::new(false));
        let (base, ended) = (origin.clone(), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (base, spoil, tls) = (base.clone(), Arc::clone(&spoil), tls.clone());
                std::thread::spawn(move || {
                    if stream.set_read_timeout(Some(PATIENCE * 6)).and(stream.set_nodelay(true)).is_err() {
                        return;
                    }
                    match tls {
                        None => serve(stream, &base, &*spoil),
                        Some(config) => {
                            let session = ServerConnection::new(config).expect("a session");
                            serve(StreamOwned::new(session, stream), &base, &*spoil);
                        }
                    }
                });
            }
        });
        Self { address, origin, stopped }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// What people type.
    pub(crate) fn url(&self) -> String {
        format!("{}/mcp", self.origin)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the accepting thread so that it sees the end.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(stream: impl Read + Write, origin: &str, spoil: &Spoil) {
    let mut reader = BufReader::new(stream);
    while let Ok(Some((start, headers))) = http::read_head(&mut reader) {
        let Ok(body) = http::read_request_body(&mut reader, &headers) else { return };
        let mut words = start.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let asked = Asked { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() };
        let said = spoil(&asked, healthy(&asked, origin), origin);
        let length = if said.goes_on { String::new() } else { format!("Content-Length: {}\r\n", said.body.len()) };
        let fields: String = said.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("HTTP/1.1 {} Said\r\n{fields}{length}\r\n", said.status);
        let out = reader.get_mut();
        if out.write_all(head.as_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
        // The fault of this test is that the answer is late.
        std::thread::sleep(said.held);
        if out.write_all(said.body.as_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
        if said.goes_on {
            // Until the client leaves.
            let _ = reader.read(&mut [0; 1]);
            return;
        }
    }
}

/// What everything is that is as it must be.
fn healthy(asked: &Asked, origin: &str) -> Said {
    let said = match (asked.method.as_str(), asked.path.as_str()) {
        ("OPTIONS", _) => Said::of(204, "text/plain", "")
            .with("Access-Control-Allow-Methods", "GET, POST, DELETE")
            .with("Access-Control-Allow-Headers", asked.header("Access-Control-Request-Headers")),
        (_, "/mcp") => endpoint(asked, origin),
        (_, "/.well-known/oauth-protected-resource/mcp" | "/.well-known/oauth-protected-resource") => Said::json(
            200,
            &json!({ "resource": format!("{origin}/mcp"), "authorization_servers": [origin], "scopes_supported": ["use"] }),
        ),
        (_, "/.well-known/oauth-authorization-server") => Said::json(
            200,
            &json!({
                "issuer": origin,
                "authorization_endpoint": format!("{origin}/authorize"),
                "token_endpoint": format!("{origin}/token"),
                "registration_endpoint": format!("{origin}/register"),
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "token_endpoint_auth_methods_supported": ["none"],
                "code_challenge_methods_supported": ["S256"],
                "client_id_metadata_document_supported": true,
                "authorization_response_iss_parameter_supported": true,
            }),
        ),
        ("POST", "/token") => Said::json(400, &json!({ "error": "invalid_request" })),
        ("POST", "/register") => {
            let mut registered = asked.json();
            registered["client_id"] = "made-for-you".into();
            registered["registration_access_token"] = "canary-registration-token".into();
            registered["registration_client_uri"] = format!("{origin}/register/made-for-you").into();
            Said::json(201, &registered)
        }
        ("DELETE", "/register/made-for-you") => Said::of(204, "text/plain", ""),
        _ => Said::of(404, "text/plain", "not here"),
    };
    said.with("Access-Control-Allow-Origin", "*")
        .with("Access-Control-Expose-Headers", "WWW-Authenticate, Mcp-Session-Id")
}

fn endpoint(asked: &Asked, origin: &str) -> Said {
    let metadata = format!("{origin}/.well-known/oauth-protected-resource/mcp");
    if asked.header("Authorization") != format!("Bearer {TOKEN}") {
        let error = if asked.header("Authorization").is_empty() { "" } else { "error=\"invalid_token\", " };
        let challenge = format!("Bearer {error}resource_metadata=\"{metadata}\", scope=\"use\"");
        return Said::json(401, &json!({ "error": "unauthorized" })).with("WWW-Authenticate", &challenge);
    }
    speak(asked)
}

/// What a user gets, or everybody at a server that asks nobody to sign in.
pub(crate) fn speak(asked: &Asked) -> Said {
    let message = asked.json();
    let result = |result: Value| Said::json(200, &json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }));
    match (asked.method.as_str(), message["method"].as_str().unwrap_or_default()) {
        ("POST", "initialize") => result(json!({
            "protocolVersion": LEGACY, "capabilities": { "tools": {} },
            "serverInfo": { "name": "scripted", "version": "1" },
        }))
        .with("Mcp-Session-Id", "canary-session"),
        ("POST", "server/discover") => result(json!({
            "resultType": "complete", "supportedVersions": [MODERN], "capabilities": { "tools": {} },
        })),
        ("POST", "tools/list") => {
            result(json!({ "tools": [{ "name": "echo\u{1b}[2J", "inputSchema": { "type": "object" } }] }))
        }
        ("POST", "subscriptions/listen") => {
            let acknowledged = json!({
                "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": { "notifications": {} },
            });
            Said { goes_on: true, ..Said::of(200, "text/event-stream", &format!("data: {acknowledged}\n\n")) }
        }
        ("POST", _) => Said::of(202, "text/plain", ""),
        ("DELETE", _) => Said::of(204, "text/plain", ""),
        _ => Said::of(405, "text/plain", ""),
    }
}
