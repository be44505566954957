//! A scripted HTTP server on loopback, for the tests of signing in.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    login::{
        fetch::{Fetcher, FetcherOptions},
        record::{Client, Record},
        registration::ClientOptions,
    },
    secret::Secret,
};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With its query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The first field of this name in the form.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        field(&self.body, name)
    }
}

/// The first field of this name in form-encoded `text`.
pub(crate) fn field(text: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(text.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// What to answer.
pub(crate) struct Reply(Vec<u8>);

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "Content-Type: application/json\r\n", &body.to_string())
    }

    pub(crate) fn new(status: u16, headers: &str, body: &str) -> Self {
        Self(
            format!(
                "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
            .into(),
        )
    }

    pub(crate) fn missing() -> Self {
        Self::new(404, "", "")
    }
}

/// A running server; it answers until the test ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers every request with what `answer` makes of it and of the server's own origin.
    pub(crate) fn start(answer: impl Fn(&Request, &str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let (answer, origin) = (Arc::new(answer), format!("http://{address}"));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, seen, origin) = (Arc::clone(&answer), Arc::clone(&seen), origin.clone());
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    seen.lock().expect("no test thread panicked").push(request.clone());
                    // The client may have left.
                    let _ = (&stream).write_all(&answer(&request, &origin).0);
                });
            }
        });
        Self { address, requests }
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no test thread panicked").clone()
    }

    /// The requests to `path`, query aside.
    pub(crate) fn requests_to(&self, path: &str) -> Vec<Request> {
        let requests = self.requests().into_iter();
        requests.filter(|request| request.target.split('?').next() == Some(path)).collect()
    }

    /// A fetcher for a sign-in at this server.
    pub(crate) fn fetcher(&self) -> Fetcher {
        fetcher(&self.origin())
    }
}

/// A fetcher for a sign-in at `server`.
pub(crate) fn fetcher(server: &str) -> Fetcher {
    let options = FetcherOptions { user_agent: "test/1".to_owned(), allow_private_addresses: false };
    Fetcher::new(&server.parse().expect(server), &options).expect("a fetcher")
}

fn read(stream: &TcpStream) -> Option<Request> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => break,
        }
    }
    let mut request = Request { method, target, headers, body: String::new() };
    let length = request.header("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_string(&mut request.body).ok()?;
    Some(request)
}

/// A server and its authorization server at one origin, which is `ORIGIN` in all that they say.
pub(crate) struct Provider {
    pub(crate) server: Server,
    script: Arc<Mutex<Script>>,
}

/// What a [`Provider`] says. Of several answers each is given once, and the last one from then on.
pub(crate) struct Script {
    pub(crate) resource: Value,
    pub(crate) metadata: Value,
    pub(crate) register: Vec<(u16, Value)>,
    pub(crate) token: Vec<(u16, Value)>,
    pub(crate) device: Vec<(u16, Value)>,
    pub(crate) revoke: Vec<(u16, Value)>,
}

impl Provider {
    /// One that does everything right; `change` makes it do something else.
    pub(crate) fn start(change: impl FnOnce(&mut Script)) -> Self {
        let mut script = Script {
            resource: json!({ "resource": "ORIGIN/mcp", "authorization_servers": ["ORIGIN"], "scopes_supported": ["read", "write"] }),
            metadata: json!({
                "issuer": "ORIGIN",
                "authorization_endpoint": "ORIGIN/authorize?tenant=1",
                "token_endpoint": "ORIGIN/token",
                "registration_endpoint": "ORIGIN/register",
                "device_authorization_endpoint": "ORIGIN/device",
                "revocation_endpoint": "ORIGIN/revoke",
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": true,
            }),
            register: vec![(201, json!({ "client_id": "registered" }))],
            token: vec![(
                200,
                json!({ "access_token": "canary-access", "token_type": "Bearer", "refresh_token": "canary-refresh", "expires_in": 60 }),
            )],
            device: vec![(
                200,
                json!({ "device_code": "canary-device", "user_code": "ABCD-EFGH", "verification_uri": "ORIGIN/enter", "expires_in": 600, "interval": 5 }),
            )],
            revoke: vec![(200, json!({}))],
        };
        change(&mut script);
        let script = Arc::new(Mutex::new(script));
        let told = Arc::clone(&script);
        let server = Server::start(move |request, origin| {
            let mut script = told.lock().expect("no test thread panicked");
            let (status, body) = match request.target.as_str() {
                "/.well-known/oauth-protected-resource/mcp" => (200, script.resource.clone()),
                "/.well-known/oauth-authorization-server" => (200, script.metadata.clone()),
                "/register" => next(&mut script.register),
                "/token" => next(&mut script.token),
                "/device" => next(&mut script.device),
                "/revoke" => next(&mut script.revoke),
                _ => return Reply::missing(),
            };
            Reply::new(status, "Content-Type: application/json\r\n", &body.to_string().replace("ORIGIN", origin))
        });
        Self { server, script }
    }

    /// From now on it says something else.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().expect("no test thread panicked"));
    }

    pub(crate) fn origin(&self) -> String {
        self.server.origin()
    }

    /// A sign-in that this provider gave to a public client.
    pub(crate) fn record(&self) -> Record {
        let at = |path: &str| format!("{}{path}", self.origin()).parse().expect("a URL");
        Record {
            issuer: self.origin(),
            resource: Some(format!("{}/mcp", self.origin())),
            client: Client { id: "known".to_owned(), secret: None, secret_in_form: false, redirect_uri: None },
            token_endpoint: at("/token"),
            revocation_endpoint: Some(at("/revoke")),
            scopes: vec!["read".to_owned()],
            subject: Some("alice".to_owned()),
            email: None,
            access_token: Secret::new("old-access".to_owned()),
            refresh_token: Some(Secret::new("old-refresh".to_owned())),
            expires_at: None,
        }
    }
}

fn next(answers: &mut Vec<(u16, Value)>) -> (u16, Value) {
    if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
}

/// A client of these tests that lets itself be registered.
pub(crate) fn client() -> ClientOptions {
    ClientOptions { registered: None, metadata_document: None, name: "Test".to_owned(), redirect_uri: None }
}
