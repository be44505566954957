//! An authorization server for tests: answers what the test says, and remembers what it was asked.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use url::Url;

use super::{Audiences, BearerToken, lock, observer};
use crate::resource::ResourceUri;

pub(super) const RESOURCE: &str = "http://127.0.0.1:8808/mcp";
pub(super) const NOW_SECONDS: u64 = 1_800_000_000;

pub(super) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW_SECONDS)
}

pub(super) fn audiences() -> Audiences {
    let resource = ResourceUri::new("http://127.0.0.1:8808", "/mcp").expect("a valid resource");
    Audiences::new(&resource, ["urn:second".to_owned()])
}

pub(super) fn bearer(text: &str) -> BearerToken {
    let value = format!("Bearer {text}");
    BearerToken::from_authorization(std::iter::once(value.as_bytes())).expect("well-formed").expect("a bearer token")
}

/// One request as the stub read it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    /// By lower-case name.
    pub(super) headers: HashMap<String, String>,
    pub(super) body: String,
}

pub(super) enum Reply {
    /// Status, further header lines, body.
    Http(u16, &'static str, Vec<u8>),
    /// A body that never ends, one byte per second.
    Drip,
    /// Closes the connection without a word.
    Hangup,
    /// Never answers.
    Silence,
}

impl Reply {
    pub(super) fn json(body: impl ToString) -> Self {
        Self::status(200, body)
    }

    pub(super) fn status(status: u16, body: impl ToString) -> Self {
        Self::Http(status, "content-type: application/json\r\n", body.to_string().into_bytes())
    }
}

type Handler = Arc<dyn Fn(Request) -> BoxFuture<'static, Reply> + Send + Sync>;

pub(super) struct Stub {
    pub(super) url: Url,
    seen: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Stub {
    pub(super) async fn start<F>(handler: impl Fn(Request) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let handler: Handler = Arc::new(move |request| handler(request).boxed());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(serve(connection, Arc::clone(&handler), Arc::clone(&log)));
            }
        });
        Self { url: Url::parse(&format!("http://{address}")).expect("a URL"), seen, task }
    }

    /// One that answers everything alike.
    pub(super) async fn always(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Self {
        Self::start(move |_| std::future::ready(reply())).await
    }

    pub(super) fn at(&self, path: &str) -> Url {
        self.url.join(path).expect("a path")
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        lock(&self.seen).clone()
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.seen).len()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut connection: TcpStream, handler: Handler, log: Arc<Mutex<Vec<Request>>>) {
    let Some(request) = read(&mut connection).await else { return };
    lock(&log).push(request.clone());
    // What fails from here on, fails because the other side has had enough.
    match handler(request).await {
        Reply::Http(status, headers, body) => {
            let head =
                format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = connection.write_all(&[head.as_bytes(), &body].concat()).await;
        }
        Reply::Drip => {
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
            let _ = connection.write_all(head).await;
            while connection.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Reply::Hangup => {}
        Reply::Silence => std::future::pending().await,
    }
}

async fn read(connection: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head_len = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_len].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body_len = headers.get("content-length").map_or(Some(0), |len| len.parse().ok())?;
    let mut body = bytes.split_off(head_len + 4);
    while body.len() < body_len {
        if connection.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request { method: first.next()?, path: first.next()?, headers, body: String::from_utf8(body).ok()? })
}

/// Remembers what it was told.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) cache: Mutex<Vec<observer::CacheEvent>>,
    pub(super) introspected: Mutex<Vec<observer::IntrospectionResult>>,
    pub(super) fetched: Mutex<Vec<bool>>,
}

impl observer::Observer for Recorder {
    fn cache(&self, event: observer::CacheEvent) {
        lock(&self.cache).push(event);
    }

    fn introspected(&self, result: observer::IntrospectionResult, _took: Duration) {
        lock(&self.introspected).push(result);
    }

    fn keys_fetched(&self, fetched: bool, _took: Duration) {
        lock(&self.fetched).push(fetched);
    }
}
