//! A fake authorization server: RFC 8414 metadata, RFC 7662 introspection, a JWK set, and every way
//! in which a real one fails.

use std::{
    collections::HashMap,
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{PATIENCE, http};

pub(crate) const CLIENT_ID: &str = "bridge-client";
pub(crate) const CLIENT_SECRET: &str = "canary-client-secret-5c1d";

/// Where a path under the origin makes the issuer, as with the reference system's provider.
pub(crate) const ISSUER_PATH: &str = "/oauth/2.1";

/// A way to fail when asked about a token.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status with a JSON error.
    Status(u16),
    /// 302 to this URL.
    Redirect(String),
    /// 200 with this content type and body.
    Answer(&'static str, Vec<u8>),
    /// 200, then one byte of the answer now and then, never all.
    Drip,
    /// No answer at all.
    Hang,
    /// The connection is reset.
    Reset,
    /// The right answer, late.
    Late(Duration),
}

/// One introspection request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Question {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The form's fields, decoded, in order.
    pub(crate) fn form(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    /// Client id and secret from `Authorization: Basic`, read as RFC 6749 §2.3.1 writes them.
    pub(crate) fn credentials(&self) -> Option<(String, String)> {
        let encoded = self.header("Authorization")?.strip_prefix("Basic ")?;
        let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (id, secret) = pair.split_once(':')?;
        Some((form_decode(id)?, form_decode(secret)?))
    }
}

/// Undoes form encoding, and refuses what form encoding would not have left as it is.
fn form_decode(text: &str) -> Option<String> {
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*-._+%~".contains(&byte)) {
        return None;
    }
    let pair = format!("k={text}");
    let (_, value) = url::form_urlencoded::parse(pair.as_bytes()).next()?;
    Some(value.into_owned())
}

#[derive(Default)]
struct State {
    client: (String, String),
    answers: HashMap<String, String>,
    fault: Option<Fault>,
    held: bool,
    stopped: bool,
    questions: Vec<Question>,
    asking: usize,
    most_asking: usize,
    keys: Vec<Value>,
    key_requests: usize,
    issuer_in_metadata: Option<String>,
    without_metadata: bool,
}

struct Shared {
    origin: String,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test thread panicked inside the server")
    }

    /// Waits while `condition` holds and the server runs, for at most `patience`.
    fn wait_while(&self, patience: Duration, condition: impl Fn(&State) -> bool) {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, patience, |state| !state.stopped && condition(state));
        drop(waited.expect("no test thread panicked inside the server"));
    }
}

/// A running fake; it ends with the value.
pub(crate) struct AuthorizationServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl AuthorizationServer {
    pub(crate) fn start() -> Self {
        Self::start_for(CLIENT_ID, CLIENT_SECRET)
    }

    /// A server that knows one client of its introspection endpoint.
    pub(crate) fn start_for(client_id: &str, client_secret: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = State { client: (client_id.to_owned(), client_secret.to_owned()), ..State::default() };
        let shared = Shared { origin: format!("http://{address}"), state: Mutex::new(state), changed: Condvar::new() };
        let shared = Arc::new(shared);
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.state().stopped {
                    return;
                }
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || serve(&shared, &stream));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.shared.origin
    }

    pub(crate) fn issuer(&self) -> String {
        format!("{}{ISSUER_PATH}", self.shared.origin)
    }

    pub(crate) fn introspection_url(&self) -> String {
        format!("{}/introspect", self.issuer())
    }

    /// Answers questions about `token` with `answer`; all other tokens are inactive.
    pub(crate) fn set(&self, token: &str, answer: &Value) {
        self.set_raw(token, &answer.to_string());
    }

    /// The same with an answer that need not be JSON, nor have unique keys.
    pub(crate) fn set_raw(&self, token: &str, answer: &str) {
        self.shared.state().answers.insert(token.to_owned(), answer.to_owned());
    }

    pub(crate) fn revoke(&self, token: &str) {
        self.shared.state().answers.remove(token);
    }

    /// From now on every question ends in `fault`; `None` ends that.
    pub(crate) fn fail(&self, fault: impl Into<Option<Fault>>) {
        self.shared.state().fault = fault.into();
        self.shared.changed.notify_all();
    }

    /// From now on questions wait.
    pub(crate) fn hold(&self) {
        self.shared.state().held = true;
    }

    /// All questions are answered, those that wait too.
    pub(crate) fn release(&self) {
        self.shared.state().held = false;
        self.shared.changed.notify_all();
    }

    pub(crate) fn questions(&self) -> Vec<Question> {
        self.shared.state().questions.clone()
    }

    pub(crate) fn question_count(&self) -> usize {
        self.shared.state().questions.len()
    }

    /// How many questions were open at once, at most.
    pub(crate) fn most_asking(&self) -> usize {
        self.shared.state().most_asking
    }

    /// Publishes these keys.
    pub(crate) fn set_keys(&self, keys: Vec<Value>) {
        self.shared.state().keys = keys;
    }

    /// How often the JWK set was fetched.
    pub(crate) fn key_requests(&self) -> usize {
        self.shared.state().key_requests
    }

    /// Makes the metadata name another issuer than the one they were asked for.
    pub(crate) fn claim_issuer(&self, issuer: &str) {
        self.shared.state().issuer_in_metadata = Some(issuer.to_owned());
    }

    /// Makes the metadata answer 404, or come back.
    pub(crate) fn hide_metadata(&self, hidden: bool) {
        self.shared.state().without_metadata = hidden;
    }
}

impl Drop for AuthorizationServer {
    fn drop(&mut self) {
        self.shared.state().stopped = true;
        self.shared.changed.notify_all();
        // Wakes the accepting thread so that it sees the end.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(shared: &Shared, stream: &TcpStream) {
    let limits = stream.set_read_timeout(Some(PATIENCE * 3)).and(stream.set_nodelay(true));
    if limits.is_err() {
        return;
    }
    let mut reader = BufReader::new(stream);
    while let Ok(Some((start, headers))) = http::read_head(&mut reader) {
        if matches!(shared.state().fault, Some(Fault::Reset)) {
            // Closing with unread bytes makes the kernel send RST.
            return;
        }
        let Ok(body) = http::read_request_body(&mut reader, &headers) else { return };
        let mut words = start.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let question = Question { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() };
        let answer = if question.path.ends_with("/introspect") {
            introspect(shared, stream, question)
        } else {
            Some(document(shared, &question.path))
        };
        let Some(answer) = answer else { return };
        if (&*stream).write_all(&answer).is_err() {
            return;
        }
    }
}

/// Metadata and keys.
fn document(shared: &Shared, path: &str) -> Vec<u8> {
    let mut state = shared.state();
    let origin = &shared.origin;
    if let Some(issuer_path) = path.strip_prefix("/.well-known/oauth-authorization-server")
        && !state.without_metadata
    {
        let base = format!("{origin}{}", issuer_path.trim_end_matches('/'));
        let metadata = json!({
            "issuer": state.issuer_in_metadata.as_ref().unwrap_or(&base),
            "authorization_endpoint": format!("{base}/authorize"),
            "token_endpoint": format!("{base}/token"),
            "introspection_endpoint": format!("{base}/introspect"),
            "jwks_uri": format!("{base}/jwks"),
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
        });
        return response("200 OK", "application/json", metadata.to_string().as_bytes());
    }
    if path.ends_with("/jwks") {
        state.key_requests += 1;
        let keys = json!({ "keys": state.keys });
        return match state.fault {
            Some(_) => response("500 Broken", "text/plain", b"broken"),
            None => response("200 OK", "application/json", keys.to_string().as_bytes()),
        };
    }
    response("404 Not Found", "text/plain", b"not here")
}

/// The answer to a question, or `None` where the fault is that there is none.
fn introspect(shared: &Shared, stream: &TcpStream, question: Question) -> Option<Vec<u8>> {
    {
        let mut state = shared.state();
        state.questions.push(question.clone());
        state.asking += 1;
        state.most_asking = state.most_asking.max(state.asking);
    }
    shared.changed.notify_all();
    shared.wait_while(PATIENCE, |state| state.held);
    let fault = shared.state().fault.clone();
    let answer = match fault {
        None | Some(Fault::Reset) => Some(judge(shared, &question)),
        Some(Fault::Late(delay)) => {
            shared.wait_while(delay, |state| state.fault.is_some());
            Some(judge(shared, &question))
        }
        Some(Fault::Status(status)) => {
            let body = json!({ "error": "made_up", "active": true });
            Some(response(&format!("{status} Made-Up"), "application/json", body.to_string().as_bytes()))
        }
        Some(Fault::Redirect(location)) => {
            Some(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n").into_bytes())
        }
        Some(Fault::Answer(content_type, body)) => Some(response("200 OK", content_type, &body)),
        Some(Fault::Drip) => {
            drip(shared, stream);
            None
        }
        Some(Fault::Hang) => {
            shared.wait_while(PATIENCE * 2, |state| matches!(state.fault, Some(Fault::Hang)));
            None
        }
    };
    shared.state().asking -= 1;
    answer
}

/// What a healthy server says.
fn judge(shared: &Shared, question: &Question) -> Vec<u8> {
    let state = shared.state();
    if question.credentials().as_ref() != Some(&state.client) {
        return response("401 Unauthorized", "application/json", br#"{"error":"invalid_client"}"#);
    }
    let token = question.form().into_iter().find(|(name, _)| name == "token").map(|(_, token)| token);
    let known = token.and_then(|token| state.answers.get(&token));
    let answer = known.map_or(r#"{"active":false}"#, String::as_str);
    response("200 OK", "application/json", answer.as_bytes())
}

/// A byte at a time, slower than anyone should wait for, until the peer gives up.
fn drip(shared: &Shared, mut stream: &TcpStream) {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
    let mut sent = stream.write_all(head);
    let mut count = 0;
    while sent.is_ok() && count < 200 && !shared.state().stopped {
        shared.wait_while(Duration::from_millis(100), |state| !state.stopped);
        sent = stream.write_all(b" ");
        count += 1;
    }
    // What the peer sent after our question does not matter; reading it makes the close an orderly one.
    let _ = stream.set_nonblocking(true).and_then(|()| stream.read(&mut [0; 64]));
}

fn response(status: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
