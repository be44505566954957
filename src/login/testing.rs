//! A scripted HTTP server on loopback, for the tests of signing in.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;

use crate::login::fetch::{Fetcher, FetcherOptions};

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
