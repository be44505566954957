//! HTTP to one remote server.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use mcp_calculator::{login::challenge::Challenge, secret::Secret};
use reqwest::{Response, redirect};
use tokio::time::sleep;
use tracing::{debug, info};
use url::Url;

use super::{
    failure::{Failure, Refused},
    incoming::{Incoming, one_line},
    sse::Events,
};
use crate::{
    backend::code_of,
    connect::authority::{Authority, Refusal},
    message::shown,
    resource::is_loopback,
    token::install_crypto_provider,
};

/// A longer message is refused, as the bridge refuses one of a command.
pub(crate) const MESSAGE_MAX_BYTES: usize = 32 << 20;

/// How long a connection may take, name look-up and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Node closes a connection that was idle for 5 s, in the very moment in which we might use it; then a
/// call would be lost that must not be repeated.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// How often a silent connection is asked whether it is still there, and how long it may take to
/// answer. A stream may be silent for hours; a notebook that slept has lost it.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits before another attempt to connect: a network that comes back, a server that restarts. Nothing
/// was sent, so nothing can happen twice.
const CONNECT_PAUSES: [Duration; 3] = [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(2)];

/// A `Retry-After` up to this is waited for; a longer one is told to whoever asked.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// And so many of them for one message.
const RETRIES_MAX: usize = 3;

/// How often one message may ask for another token: one that is renewed may be refused like the one before,
/// and then the user can be asked, once.
const RENEWALS_MAX: usize = 2;

/// How often one message may have the user asked, for a sign-in or for more scopes (MCP, "Step-Up
/// Authorization Flow").
const ASKS_MAX: usize = 3;

/// What is shown of an error page.
const TEXT_MAX_BYTES: usize = 64 << 10;

/// The endpoint: one URL, the headers that every request has, and who gives out tokens.
#[derive(Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    authority: Arc<dyn Authority>,
}

/// What a message is answered with.
#[derive(Debug)]
pub(crate) enum Reply {
    /// One message.
    Message(Bytes),
    /// A stream of messages.
    Events(Box<Events>),
    /// Nothing: it was taken.
    Accepted,
}

/// A reply, and the headers that it came with.
#[derive(Debug)]
pub(crate) struct Replied {
    pub(crate) reply: Reply,
    pub(crate) headers: HeaderMap,
}

impl Http {
    /// Talks to `url`, with `headers` in every request.
    ///
    /// Proxies are those of the environment, but for loopback addresses, where a proxy would get in
    /// clear what is never meant to leave the machine. Redirects are not followed.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(crate) fn new(url: Url, headers: HeaderMap, authority: Arc<dyn Authority>) -> Result<Self, reqwest::Error> {
        install_crypto_provider();
        let client = match Self::builder(&url).build() {
            // Plain http needs no trust roots, which a minimal container does not have.
            Err(_) if url.scheme() == "http" => Self::builder(&url).tls_certs_only([]).build()?,
            built => built?,
        };
        Ok(Self { client, url, headers, authority })
    }

    fn builder(url: &Url) -> reqwest::ClientBuilder {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("mcp-bridge/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE)
            .tcp_nodelay(true)
            .tcp_keepalive(KEEP_ALIVE)
            .tcp_keepalive_interval(KEEP_ALIVE_TIMEOUT)
            .tcp_keepalive_retries(2)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .http2_adaptive_window(true);
        if is_loopback(url) { builder.no_proxy() } else { builder }
    }

    /// Posts one message. Waits for the head of the answer, or for the whole of one that is JSON.
    ///
    /// # Errors
    /// [`Failure`], for every status but 2xx.
    pub(crate) async fn post(&self, headers: &HeaderMap, message: Bytes) -> Result<Replied, Failure> {
        self.post_as(headers, message, true).await
    }

    /// The same for what the user has not just wanted, and is asked for nothing for.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub(crate) async fn post_unasked(&self, headers: &HeaderMap, message: Bytes) -> Result<Replied, Failure> {
        self.post_as(headers, message, false).await
    }

    async fn post_as(&self, headers: &HeaderMap, message: Bytes, may_ask: bool) -> Result<Replied, Failure> {
        let mut headers = headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        replied(self.send(Method::POST, &headers, message, may_ask).await?).await
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// [`Failure`], also for an answer that is no stream.
    pub(crate) async fn get(&self, headers: &HeaderMap) -> Result<Events, Failure> {
        let mut headers = headers.clone();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        // It opens by itself, again and again.
        match replied(self.send(Method::GET, &headers, Bytes::new(), false).await?).await?.reply {
            Reply::Events(events) => Ok(*events),
            Reply::Message(_) | Reply::Accepted => Err(Failure::NotMcp("no event stream".to_owned())),
        }
    }

    /// Ends what goes on for tokens.
    pub(crate) async fn close(&self) {
        self.authority.close().await;
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`Failure`]
    pub(crate) async fn delete(&self, headers: &HeaderMap) -> Result<StatusCode, Failure> {
        // Nobody is asked to sign in for an end.
        let token = self.authority.token().await?;
        Ok(self.once(Method::DELETE, headers, Bytes::new(), token.as_ref()).await?.status())
    }

    /// Sends until the server neither asks for another token nor for patience; with `may_ask`, the user
    /// may be asked for the token.
    async fn send(&self, method: Method, headers: &HeaderMap, body: Bytes, may_ask: bool) -> Result<Response, Failure> {
        let mut token = self.authority.token().await?;
        let (mut renewals, mut step_ups, mut asked, mut retries) = (0, 0, 0, 0);
        loop {
            let response = self.connected(&method, headers, &body, token.as_ref()).await?;
            let status = response.status();
            let wanted = match status {
                StatusCode::UNAUTHORIZED if asked > 0 => {
                    self.authority.in_vain().await;
                    false
                }
                StatusCode::UNAUTHORIZED => {
                    renewals += 1;
                    renewals <= RENEWALS_MAX
                }
                StatusCode::FORBIDDEN if lacks_scope(&response) => {
                    step_ups += 1;
                    step_ups <= ASKS_MAX && asked < ASKS_MAX
                }
                _ => false,
            };
            if wanted {
                let refusal = Refusal { status, challenges: challenges(&response), may_ask };
                drop(response);
                debug!(%status, "asking for another token");
                let granted = self.authority.refused(refusal, token.as_ref()).await?;
                asked += usize::from(granted.by_user);
                token = Some(granted.token);
                continue;
            }
            match retry_after(&response).filter(|wait| *wait <= RETRY_AFTER_MAX) {
                Some(wait) if is_busy(status) && retries < RETRIES_MAX => {
                    retries += 1;
                    drop(response);
                    info!(%status, ?wait, "the server is busy; trying again when it says");
                    sleep(wait).await;
                }
                _ => return Ok(response),
            }
        }
    }

    async fn connected(
        &self,
        method: &Method,
        headers: &HeaderMap,
        body: &Bytes,
        token: Option<&Secret<String>>,
    ) -> Result<Response, Failure> {
        for pause in CONNECT_PAUSES {
            match self.once(method.clone(), headers, body.clone(), token).await {
                Err(Failure::Unreachable(cause)) => debug!(cause, "cannot connect; trying again"),
                sent => return sent,
            }
            sleep(pause).await;
        }
        self.once(method.clone(), headers, body.clone(), token).await
    }

    async fn once(
        &self,
        method: Method,
        headers: &HeaderMap,
        body: Bytes,
        token: Option<&Secret<String>>,
    ) -> Result<Response, Failure> {
        let has_body = !body.is_empty();
        let mut request = self.client.request(method, self.url.clone()).headers(self.headers.clone());
        request = request.headers(headers.clone());
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                .map_err(|_| Failure::Protocol("the access token has characters that no header may have".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        if has_body {
            request = request.body(body);
        }
        Ok(request.send().await?)
    }
}

fn is_busy(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// Whether a 403 asks for more scopes (RFC 6750 §3.1); every other one is final.
fn lacks_scope(response: &Response) -> bool {
    Challenge::read(challenges(response)).is_some_and(|challenge| challenge.asks_for_more())
}

/// The values of `WWW-Authenticate`.
fn challenges(response: &Response) -> Vec<String> {
    let values = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
    // Descriptions may hold any bytes, which must not hide what is around them.
    values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

/// `Retry-After` in seconds; its dates are for people (RFC 9110 §10.2.3).
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse::<u32>().ok().map(|seconds| Duration::from_secs(seconds.into()))
}

async fn replied(response: Response) -> Result<Replied, Failure> {
    let (status, headers) = (response.status(), response.headers().clone());
    if !status.is_success() {
        return Err(refusal(response).await);
    }
    let kind = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let essence = kind.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let reply = match essence.as_str() {
        _ if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) => Reply::Accepted,
        "text/event-stream" => Reply::Events(Box::new(Events::new(response, MESSAGE_MAX_BYTES))),
        "application/json" => match read(response, MESSAGE_MAX_BYTES).await? {
            body if body.trim_ascii().is_empty() => Reply::Accepted,
            body => Reply::Message(body),
        },
        _ if response.content_length() == Some(0) => Reply::Accepted,
        "" => return Err(Failure::NotMcp("something without a content type".to_owned())),
        other => return Err(Failure::NotMcp(shown(other))),
    };
    Ok(Replied { reply, headers })
}

async fn refusal(response: Response) -> Failure {
    let (status, retry_after) = (response.status(), retry_after(&response));
    if status.is_redirection() {
        let to = response.headers().get(header::LOCATION).map(HeaderValue::as_bytes).unwrap_or_default();
        // Servers put what they were asked with into the query, secrets too.
        let to = to.split(|byte| *byte == b'?').next().unwrap_or_default();
        return Failure::Redirect { status, to: shown(&String::from_utf8_lossy(to)) };
    }
    let is_html =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let Ok(body) = read(response, TEXT_MAX_BYTES).await else {
        return Failure::Status { status, retry_after, text: String::new() };
    };
    let Ok(line) = one_line(body) else { return Failure::Status { status, retry_after, text: String::new() } };
    let read = std::str::from_utf8(&line).unwrap_or_default();
    if let Ok(Incoming::Answer { id, outcome: Err(error) }) = Incoming::parse(read) {
        let code = code_of(error.get().as_bytes());
        let error = line.slice_ref(error.get().as_bytes());
        return Failure::Refused(Refused { status, code, error, names_request: id != "null" });
    }
    let text = if is_html || read.is_empty() { String::new() } else { shown(read) };
    Failure::Status { status, retry_after, text }
}

async fn read(mut response: Response, max: usize) -> Result<Bytes, Failure> {
    if response.content_length().is_some_and(|length| length > max as u64) {
        return Err(Failure::TooLong(max));
    }
    let Some(first) = response.chunk().await? else { return Ok(Bytes::new()) };
    let Some(second) = response.chunk().await? else { return Ok(first) };
    // Most answers came whole; only what did not is put together.
    let mut body = BytesMut::from(&first[..]);
    let mut next = Some(second);
    while let Some(chunk) = next {
        if body.len() + chunk.len() > max {
            return Err(Failure::TooLong(max));
        }
        body.extend_from_slice(&chunk);
        next = response.chunk().await?;
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::future::BoxFuture;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        connect::authority::{Grant, Granted, Unauthorized},
        sync::Locked as _,
    };

    /// Gives `t0` first, then `t1`, `t2`, …, and remembers why.
    #[derive(Default)]
    struct Numbers(Mutex<Vec<Refusal>>);

    impl Authority for Numbers {
        fn token(&self) -> BoxFuture<'_, Result<Option<Secret<String>>, Unauthorized>> {
            Box::pin(std::future::ready(Ok(Some(Secret::new("t0".to_owned())))))
        }

        fn refused<'a>(&'a self, refusal: Refusal, used: Option<&'a Secret<String>>) -> BoxFuture<'a, Granted> {
            let mut refusals = self.0.locked();
            assert_eq!(used.map(|used| used.expose().clone()), Some(format!("t{}", refusals.len())));
            refusals.push(refusal);
            // The first is a renewal, unless it is about scopes.
            let by_user = refusals.len() > 1 || refusals[0].status == StatusCode::FORBIDDEN;
            let token = Secret::new(format!("t{}", refusals.len()));
            Box::pin(std::future::ready(Ok(Grant { token, by_user })))
        }
    }

    /// Posts to a server that gives these answers, the last again and again: what came of it, which
    /// tokens the server saw, and what the authority was told.
    async fn post(answers: &'static [&'static str]) -> (Result<(), String>, Vec<String>, Vec<Refusal>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("its address"));
        let tokens: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&tokens);
        let server = tokio::spawn(async move {
            for answer in answers.iter().chain(std::iter::repeat(answers.last().expect("an answer"))) {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = Vec::new();
                while !request.ends_with(b"{}") {
                    stream.read_buf(&mut request).await.expect("a request");
                }
                let request = String::from_utf8(request).expect("text");
                let token = request.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
                seen.locked().push(token.unwrap_or_default().to_owned());
                let answer = format!("HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.expect("a reader");
            }
        });
        let numbers = Arc::new(Numbers::default());
        let authority: Arc<dyn Authority> = Arc::clone(&numbers) as _;
        let http = Http::new(url.parse().expect("a URL"), HeaderMap::new(), authority).expect("a client");
        let outcome = http.post(&HeaderMap::new(), Bytes::from_static(b"{}")).await;
        server.abort();
        let refusals = std::mem::take(&mut *numbers.0.locked());
        let tokens = std::mem::take(&mut *tokens.locked());
        (outcome.map(|_| ()).map_err(|failure| failure.to_string()), tokens, refusals)
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_at_most_twice_and_scopes_are_added_three_times() {
        const LACKS: &str = "403 Forbidden\r\nWWW-Authenticate: Bearer error=\"insufficient_scope\", scope=\"a\"";
        for (answers, is_good, expected) in [
            (&["202 Accepted"][..], true, &["t0"][..]),
            (
                &["401 Unauthorized\r\nWWW-Authenticate: Bearer a\r\nWWW-Authenticate: Basic", "202 Accepted"],
                true,
                &["t0", "t1"],
            ),
            (&["401 Unauthorized"], false, &["t0", "t1", "t2"]),
            (&["401 Unauthorized", LACKS, LACKS, "202 Accepted"], true, &["t0", "t1", "t2", "t3"]),
            (&[LACKS], false, &["t0", "t1", "t2", "t3"]),
            (&["403 Forbidden"], false, &["t0"]),
            (&["403 Forbidden\r\nWWW-Authenticate: Basic realm=\"Bearer error=insufficient_scope\""], false, &["t0"]),
            (
                &[
                    "403 Forbidden\r\nWWW-Authenticate: Bearer error_description=\"\u{e9}\", error=insufficient_scope",
                    "202 Accepted",
                ],
                true,
                &["t0", "t1"],
            ),
        ] {
            let (outcome, tokens, refusals) = post(answers).await;
            let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
            assert_eq!(
                (outcome.is_ok(), &tokens[..], refusals.len()),
                (is_good, expected, expected.len() - 1),
                "{outcome:?}"
            );
            if answers[0].contains("Authenticate: Bearer a\r\n") {
                assert_eq!(refusals[0].challenges, ["Bearer a", "Basic"]);
            }
        }
    }
}
