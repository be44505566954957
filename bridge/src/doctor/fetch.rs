//! Raw HTTP: redirects are told and not followed, errors keep their cause, everything is bounded.

use std::{error::Error, io, net::IpAddr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use hyper_util::client::proxy::matcher::Matcher;
use mcp_calculator::secret::Secret;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::{
    guard::{Guard, Refused, resolve},
    tls,
    words::shown,
};
use crate::resource::is_loopback;

/// What the strictest client waits for discovery, registration and tokens.
pub(super) const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Metadata documents are a few KiB; nothing of an answer beyond this changes what we say.
const BODY_MAX: usize = 64 * 1024;

/// Says who we are, where no client is imitated.
const OUR_AGENT: &str = concat!("mcp-bridge/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the name {0} does not resolve")]
    Dns(String),
    #[error("the connection is refused")]
    Refused,
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("{}", .0.what)]
    Tls(tls::Explained),
    /// A server sent us to where we do not go.
    #[error("it was not asked: {0}")]
    NotAsked(Refused),
    #[error("the connection failed: {0}")]
    Other(String),
}

/// What is to be sent.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
    is_with_token: bool,
    /// What the body is, in a word.
    label: String,
}

impl Ask {
    pub(super) fn new(method: Method, url: &Url) -> Self {
        let headers = HeaderMap::from_iter([(header::USER_AGENT, HeaderValue::from_static(OUR_AGENT))]);
        Self { method, url: url.clone(), headers, body: Vec::new(), is_with_token: false, label: String::new() }
    }

    pub(super) fn get(url: &Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// Sets a field; a value that cannot stand in one is left out.
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(super) fn body(mut self, label: &str, content_type: &'static str, body: Vec<u8>) -> Self {
        label.clone_into(&mut self.label);
        self.body = body;
        self.header(header::CONTENT_TYPE, content_type)
    }

    /// Says of the question, where it is shown, what is special about it.
    pub(super) fn with_note(mut self, note: &str) -> Self {
        self.label = format!("{}, {note}", self.label);
        self
    }

    /// With the user's token, if there is one and the URL is of the typed origin.
    pub(super) fn with_token(mut self) -> Self {
        self.is_with_token = true;
        self
    }

    /// How it is shown. Never with a token.
    pub(super) fn shown(&self) -> String {
        let label = if self.label.is_empty() { String::new() } else { format!(" {}", self.label) };
        let token = if self.is_with_token { ", with a token" } else { "" };
        format!("{} {}{label}{token}", self.method, shown(self.url.as_str()))
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// An answer, or why there is none.
pub(super) type Reply = Result<Answer, Trouble>;

impl Answer {
    /// A field's text; of a repeated one, the first.
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The media type without its parameters, in lower case.
    pub(super) fn media_type(&self) -> String {
        let value = self.header(header::CONTENT_TYPE).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; of an event stream, its last message.
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        if self.media_type() == "text/event-stream" {
            let text = self.text();
            let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
            return data.filter_map(|data| serde_json::from_str(data.trim()).ok()).next_back();
        }
        serde_json::from_slice(&self.body).ok()
    }

    /// How it is shown: status, the fields that decide, and the beginning of the body.
    pub(super) fn shown(&self) -> String {
        let mut parts = vec![shown(&self.status.to_string())];
        for name in [header::WWW_AUTHENTICATE, header::LOCATION, header::ALLOW, header::ACCESS_CONTROL_ALLOW_ORIGIN] {
            for value in self.headers.get_all(&name) {
                parts.push(format!("{name}: {}", shown(&String::from_utf8_lossy(value.as_bytes()))));
            }
        }
        let body = self.text();
        if !body.trim().is_empty() {
            parts.push(format!("{}: {}", shown(&self.media_type()), shown(&body)));
        }
        parts.join("; ")
    }
}

/// How a reply is shown.
pub(super) fn reply_shown(reply: &Reply) -> String {
    match reply {
        Ok(answer) => answer.shown(),
        Err(trouble) => trouble.to_string(),
    }
}

/// An answer whose body is still coming.
pub(super) struct Stream {
    /// With an empty body.
    pub(super) head: Answer,
    response: reqwest::Response,
}

impl Stream {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`Trouble`], also when nothing comes within `wait`.
    pub(super) async fn next(&mut self, wait: Duration) -> Result<Option<Vec<u8>>, Trouble> {
        let chunk = timeout(wait, self.response.chunk()).await.map_err(|_| Trouble::Timeout(wait))?;
        Ok(chunk.map_err(|error| Trouble::of(&error, ""))?.map(Into::into))
    }
}

/// Sends questions.
pub(super) struct Http {
    client: reqwest::Client,
    /// For this machine: no proxy is meant to see what goes there, and a token least of all.
    direct: reqwest::Client,
    typed: Url,
    /// Where the typed host was before the first request.
    found: Result<Vec<IpAddr>, io::ErrorKind>,
    guard: Guard,
    token: Option<HeaderValue>,
    proxies: Matcher,
}

impl Http {
    /// A client for the walk around `typed`. `token` goes to its origin and nowhere else, and not over plain http
    /// beyond this machine.
    pub(super) async fn new(typed: &Url, token: Option<&Secret<String>>) -> Result<Self, reqwest::Error> {
        tls::install_crypto_provider();
        let proxies = Matcher::from_env();
        let found = resolve(typed).await.map_err(|error| error.kind());
        let guard = Guard::new(typed, found.as_deref().unwrap_or_default(), hosts(&proxies));
        let builder = || {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(REQUEST_MAX)
                .tcp_nodelay(true)
                .dns_resolver(guard.clone())
        };
        let build = |builder: &dyn Fn() -> reqwest::ClientBuilder| match builder().build() {
            // A container without trust roots can examine plain http all the same.
            Err(_) if typed.scheme() == "http" => builder().tls_certs_only([]).build(),
            built => built,
        };
        let (client, direct) = (build(&builder)?, build(&|| builder().no_proxy())?);
        let mut http = Self { client, direct, typed: typed.clone(), found, guard, token: None, proxies };
        if let Some(token) = token {
            http.set_token(token);
        }
        Ok(http)
    }

    /// From now on, [`Ask::with_token`] sends this token, where nobody else can read it.
    pub(super) fn set_token(&mut self, token: &Secret<String>) {
        self.token = if self.is_safe_for_tokens() { bearer(token) } else { None };
    }

    /// Whether a token can be sent to the typed server without others reading it.
    pub(super) fn is_safe_for_tokens(&self) -> bool {
        self.guard.is_safe_for_tokens()
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Where the typed host was before the first request, wherever that is.
    pub(super) fn found(&self) -> &Result<Vec<IpAddr>, io::ErrorKind> {
        &self.found
    }

    /// Of these, where it may be asked.
    pub(super) fn known(&self) -> &[IpAddr] {
        self.guard.known()
    }

    /// Whether a URL that the server names may be opened, as far as one can say without resolving its name.
    pub(super) fn may_ask(&self, url: &Url) -> bool {
        self.guard.check(url).is_ok()
    }

    /// The proxy from the environment that stands before `url`, without its password.
    pub(super) fn proxy(&self, url: &Url) -> Option<String> {
        if is_loopback(url) {
            return None;
        }
        let found = self.proxies.intercept(&url.as_str().parse().ok()?)?;
        let uri = found.uri();
        Some(format!("{}://{}", uri.scheme_str().unwrap_or("http"), uri.authority()?.as_str().rsplit('@').next()?))
    }

    /// Asks, and reads the answer as far as we read.
    pub(super) async fn send(&self, ask: &Ask) -> Reply {
        let deadline = Instant::now() + REQUEST_MAX;
        let late = |_| Trouble::Timeout(REQUEST_MAX);
        let mut stream = timeout_at(deadline, self.open(ask)).await.map_err(late)??;
        let mut answer = stream.head;
        loop {
            let chunk = timeout_at(deadline, stream.response.chunk()).await.map_err(late)?;
            let Some(chunk) = chunk.map_err(|error| Trouble::of(&error, host(&ask.url)))? else { break };
            answer.body.extend_from_slice(&chunk);
            // A stream that has said its message need not end.
            if answer.body.len() >= BODY_MAX || (answer.media_type() == "text/event-stream" && has_answer(&answer)) {
                answer.body.truncate(BODY_MAX);
                break;
            }
        }
        Ok(answer)
    }

    /// Asks, and gives the answer as soon as its head is here; at most [`REQUEST_MAX`].
    pub(super) async fn open(&self, ask: &Ask) -> Result<Stream, Trouble> {
        let host_text = host(&ask.url);
        self.guard.check(&ask.url).map_err(Trouble::NotAsked)?;
        let mut headers = ask.headers.clone();
        if let Some(token) = &self.token
            && ask.is_with_token
            && ask.url.origin() == self.typed.origin()
        {
            headers.insert(header::AUTHORIZATION, token.clone());
        }
        let client = if is_loopback(&ask.url) { &self.direct } else { &self.client };
        let mut request = client.request(ask.method.clone(), ask.url.clone()).headers(headers);
        if !ask.body.is_empty() {
            request = request.body(ask.body.clone());
        }
        let sent = timeout(REQUEST_MAX, request.send()).await.map_err(|_| Trouble::Timeout(REQUEST_MAX))?;
        let response = sent.map_err(|error| Trouble::of(&error, host_text))?;
        let head = Answer {
            status: response.status(),
            version: response.version(),
            headers: response.headers().clone(),
            body: Vec::new(),
        };
        Ok(Stream { head, response })
    }
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// Whether a JSON-RPC answer, and not only a notification, has come.
fn has_answer(answer: &Answer) -> bool {
    let ends = answer.body.ends_with(b"\n\n") || answer.body.ends_with(b"\r\n\r\n");
    ends && answer.json().is_some_and(|json| json.get("method").is_none())
}

fn bearer(token: &Secret<String>) -> Option<HeaderValue> {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The hosts of the proxies that are asked for.
fn hosts(proxies: &Matcher) -> Vec<String> {
    // For a name that stands in no list of exceptions.
    let uris = ["http://server.invalid/", "https://server.invalid/"].map(http::Uri::from_static);
    let found = uris.iter().filter_map(|uri| proxies.intercept(uri));
    found.filter_map(|proxy| proxy.uri().host().map(str::to_owned)).collect()
}

impl Trouble {
    /// What lies at the bottom of `error`, which happened with `host`.
    fn of(error: &reqwest::Error, host: &str) -> Self {
        let mut innermost: &(dyn Error + 'static) = error;
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(cause) = next {
            innermost = cause;
            if let Some(refused) = cause.downcast_ref::<Refused>() {
                return Self::NotAsked(refused.clone());
            }
            if let Some(tls_error) = cause.downcast_ref::<rustls::Error>() {
                return Self::Tls(tls::explain(tls_error, &[], host));
            }
            next = match cause.downcast_ref::<io::Error>() {
                Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Self::Refused,
                // Its own `source` leaves out what it wraps.
                Some(error) => error.get_ref().map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source()),
                None => cause.source(),
            };
        }
        if error.is_dns() {
            return Self::Dns(host.to_owned());
        }
        if error.is_timeout() {
            return Self::Timeout(REQUEST_MAX);
        }
        Self::Other(shown(&innermost.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What a public server names in its metadata must not make us knock at the local network.
    #[tokio::test]
    async fn a_public_server_cannot_send_us_to_this_machine() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let typed = Url::parse("http://1.1.1.1/mcp").expect("a URL");
        let http = Http::new(&typed, None).await.expect("a client");
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
            let url = Url::parse(&format!("https://{host}:{port}/")).expect("a URL");
            let reply = http.send(&Ask::get(&url)).await;
            assert!(matches!(reply, Err(Trouble::NotAsked(Refused::Address(_)))), "{host}: {reply:?}");
        }
        let nobody = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
        assert!(nobody.is_err(), "somebody knocked");
    }

    #[test]
    fn messages_of_event_streams() {
        for (body, expected) in [
            ("event: message\ndata: {\"id\":1}\n\n", Some(1)),
            ("data: {\"id\":1}\r\n\r\n", Some(1)),
            (": hello\n\ndata: {\"method\":\"x\"}\n\ndata: {\"id\":2}\n\n", Some(2)),
            ("data: {\"method\":\"x\"}\n\n", None),
            ("data: {\"id\":1}\n", None),
            (": hello\n\n", None),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))]);
            let body = body.as_bytes().to_vec();
            let answer = Answer { status: StatusCode::OK, version: Version::HTTP_11, headers, body };
            let id = answer.json().and_then(|json| json.get("id")?.as_i64());
            assert_eq!(has_answer(&answer).then_some(id).flatten(), expected, "{}", answer.text());
        }
    }
}
