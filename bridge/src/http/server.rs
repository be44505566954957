//! Sockets: accepting, deadlines, HTTP/1.1 and HTTP/2, TLS, and a shutdown that loses nothing.

use std::{
    convert::Infallible,
    fs, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Request, header::CONNECTION};
use hyper::{
    body::Incoming,
    rt::{Read, Write},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    config::{Limits, TlsFiles},
    http::{again, quiet::Activity, site::Site},
    telemetry::metrics::{self, Metrics},
};

/// How long clients that keep a connection busy get to notice that it closes, before idle
/// connections are closed without a word: longer than a client's pause between two calls under load.
const DRAIN_NOTICE: Duration = Duration::from_millis(250);

/// How often idle sessions and rate counters are looked through.
const TIDY_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait after accepting failed, which is when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Requests at once on one HTTP/2 connection; all connections together have their own bound.
const MAX_STREAMS: u32 = 128;

/// How a client that is gone without a word is noticed on HTTP/2.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long a quiet HTTP/2 connection has to acknowledge that it closes.
const QUIET_NOTICE: Duration = Duration::from_secs(1);

/// What one connection needs, shared by all.
struct Shared {
    site: Arc<Site>,
    limits: Limits,
    tls: Option<TlsAcceptor>,
    metrics: Arc<Metrics>,
    /// Stop reusing connections.
    closing: AtomicBool,
    /// Close what is idle.
    idle_closing: CancellationToken,
}

/// A site that is served: its connections, and their end.
pub struct Serving {
    shared: Arc<Shared>,
    connections: TaskTracker,
    slots: Arc<Semaphore>,
    aborting: CancellationToken,
}

impl Serving {
    /// Serves `site`, as soon as connections are [accepted](Self::accept).
    pub fn new(site: Arc<Site>, limits: Limits, tls: Option<TlsAcceptor>, metrics: Arc<Metrics>) -> Self {
        Self {
            connections: TaskTracker::new(),
            slots: Arc::new(Semaphore::new(limits.max_connections)),
            aborting: CancellationToken::new(),
            shared: Arc::new(Shared {
                site,
                limits,
                tls,
                metrics,
                closing: AtomicBool::new(false),
                idle_closing: CancellationToken::new(),
            }),
        }
    }

    /// Accepts connections from `listener` and serves them. Never ends by itself; dropping the future
    /// ends the accepting, and loses no connection.
    pub async fn accept(&self, listener: &TcpListener) {
        let mut tidy = tokio::time::interval(TIDY_INTERVAL);
        loop {
            let slot = tokio::select! {
                _ = tidy.tick() => {
                    self.shared.site.tidy();
                    continue;
                }
                // Without a free slot nothing is accepted: the system's queue holds the rest.
                slot = Arc::clone(&self.slots).acquire_owned() => slot.expect("the semaphore is never closed"),
            };
            tokio::select! {
                _ = tidy.tick() => self.shared.site.tidy(),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.start(stream, peer, slot),
                    Err(error) => {
                        warn!(%error, "cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn start(&self, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
        let (shared, aborting) = (Arc::clone(&self.shared), self.aborting.child_token());
        self.connections.spawn(async move {
            let _slot = slot;
            aborting.run_until_cancelled(connection(stream, peer, shared)).await;
        });
    }

    /// Takes what the system has accepted for us and there is room for, which counts as accepted, and stops
    /// listening.
    pub async fn close(&self, listener: TcpListener) {
        self.shared.closing.store(true, Ordering::Relaxed);
        while let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            let Ok(Ok((stream, peer))) = timeout(Duration::ZERO, listener.accept()).await else { break };
            self.start(stream, peer, slot);
        }
    }

    /// Finishes what was accepted, for at most the drain time-out; then ends what is behind the gates.
    ///
    /// Every connection's task is joined before this returns, or aborted when the time-out has passed.
    pub async fn drain(self) {
        let Self { shared, connections, aborting, .. } = self;
        shared.closing.store(true, Ordering::Relaxed);
        shared.site.end_streams();
        connections.close();
        let drained = async {
            if timeout(DRAIN_NOTICE, connections.wait()).await.is_err() {
                shared.idle_closing.cancel();
                connections.wait().await;
            }
        };
        if timeout(shared.limits.drain_timeout, drained).await.is_err() {
            warn!(connections = connections.len(), "the drain time-out has passed; ending what is left");
            aborting.cancel();
            connections.wait().await;
        }
        shared.site.shut_down().await;
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let _counted = shared.metrics.connection();
    tune(&stream, shared.limits.write_timeout);
    let deadline = Instant::now() + shared.limits.header_timeout;
    let mut byte = [0];
    let first = tokio::select! {
        // What has come is served, also at the end.
        biased;
        first = timeout_at(deadline, stream.peek(&mut byte)) => first,
        () = shared.idle_closing.cancelled() => return debug!("closing a connection that has sent nothing"),
    };
    match first {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return debug!(%error, "a connection broke before its first request"),
        Err(_) => return debug!("a connection sent nothing in time"),
    }
    let Some(acceptor) = shared.tls.clone() else {
        match timeout_at(deadline, speaks_http2(&stream)).await {
            Ok(Ok(http2)) => exchange(stream, http2, peer.ip(), &shared).await,
            Ok(Err(error)) => debug!(%error, "a connection broke before its first request"),
            Err(_) => debug!("a connection sent too little in time"),
        }
        return;
    };
    match timeout_at(deadline, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            exchange(stream, http2, peer.ip(), &shared).await;
        }
        Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
        Err(_) => debug!("a TLS handshake was not finished in time"),
    }
}

/// Says what the system is to do about a connection by itself.
fn tune(stream: &TcpStream, write_timeout: Duration) {
    // Without it an answer in two segments waits for the client's delayed acknowledgement: 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    // What is sent to a client that has vanished fits into the system's buffer, and nobody but the system
    // notices that it never arrives: by itself after a quarter of an hour.
    #[cfg(target_os = "linux")]
    {
        // The system takes no more than that.
        let millis = i32::try_from(write_timeout.as_millis()).unwrap_or(i32::MAX).unsigned_abs();
        if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, millis) {
            debug!(%error, "cannot set TCP_USER_TIMEOUT");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = write_timeout;
}

/// Whether a client begins with HTTP/2's preface (RFC 9113 §3.4); its first bytes stay unread.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // No method of HTTP/1.1 that is served begins like this.
    const ENOUGH: usize = 3;
    // Only a client that sends single bytes makes this wait.
    const PAUSE: Duration = Duration::from_millis(5);
    let mut first = [0; ENOUGH];
    loop {
        let seen = stream.peek(&mut first).await?;
        if seen == 0 || !PREFACE.starts_with(&first[..seen]) {
            return Ok(false);
        }
        if seen == ENOUGH {
            return Ok(true);
        }
        sleep(PAUSE).await;
    }
}

async fn exchange<S>(stream: S, http2: bool, peer: IpAddr, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(shared.limits.write_timeout));
    let io = TokioIo::new(Box::pin(stream));
    let ended = if http2 {
        exchange_http2(io, peer, shared).await
    } else {
        again::at_once(exchange_http1(io, peer, shared)).await
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended with an error");
    }
}

async fn exchange_http1<I>(io: I, peer: IpAddr, shared: &Shared) -> hyper::Result<()>
where
    I: Read + Write + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| async move {
        let mut response = shared.site.handle(request, peer).await;
        if shared.closing.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(response)
    });
    // A token of its own: every wake-up of the connection looks at it, and would take its lock.
    let closing = shared.idle_closing.child_token();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header_timeout)
        .max_header_size(shared.limits.max_header_bytes);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    tokio::select! {
        // It has to read what has come before it can tell whether it is idle.
        biased;
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

async fn exchange_http2<I>(io: I, peer: IpAddr, shared: &Arc<Shared>) -> hyper::Result<()>
where
    I: Read + Write + Unpin + Send + 'static,
{
    let activity = Activity::new();
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, asked) = (Arc::clone(shared), activity.asked());
        async move {
            let response = shared.site.handle(request, peer).await;
            Ok::<_, Infallible>(response.map(|body| asked.answers(body)))
        }
    });
    let limits = &shared.limits;
    let closing = shared.idle_closing.child_token();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    // An idle event stream says something at every keep-alive.
    let stalled = limits.keep_alive + limits.write_timeout;
    let ended = tokio::select! {
        // As on HTTP/1.1.
        biased;
        ended = connection.as_mut() => Some(ended),
        () = activity.quiet(limits.header_timeout, stalled) => None,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => Some(ended),
                () = activity.quiet(limits.header_timeout, stalled) => None,
            }
        }
    };
    match ended {
        Some(ended) => ended,
        None => {
            debug!("closing a connection on which nothing happens");
            // What arrives at this moment is still answered; who does not listen is not waited for.
            connection.as_mut().graceful_shutdown();
            timeout(QUIET_NOTICE, connection).await.unwrap_or(Ok(()))
        }
    }
}

/// Serves `metrics` at `/metrics` on `listener` until `shutdown`.
pub async fn serve_metrics(listener: TcpListener, metrics: Arc<Metrics>, shutdown: CancellationToken) {
    // A scraper needs one connection; this many are enough for a few of them.
    let slots = Arc::new(Semaphore::new(16));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (Ok((stream, _)), Ok(slot)) = (accepted, Arc::clone(&slots).try_acquire_owned()) else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (metrics, shutdown) = (Arc::clone(&metrics), shutdown.clone());
        connections.spawn(async move {
            let _slot = slot;
            let service = service_fn(|request: Request<Incoming>| {
                let response = metrics_response(&request, &metrics);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(SCRAPE_TIMEOUT);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            shutdown.run_until_cancelled(connection).await;
        });
    }
    connections.close();
    connections.wait().await;
}

/// Scrapers come every minute or more often, and keep their connection.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(90);

fn metrics_response(
    request: &Request<Incoming>,
    metrics: &Metrics,
) -> http::Response<http_body_util::Full<bytes::Bytes>> {
    let found = request.uri().path() == "/metrics";
    let body = if found { metrics.render() } else { "metrics are at /metrics\n".to_owned() };
    let mut response = http::Response::new(http_body_util::Full::new(body.into()));
    let kind = if found { metrics::CONTENT_TYPE } else { "text/plain; charset=utf-8" };
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if !found {
        *response.status_mut() = http::StatusCode::NOT_FOUND;
    }
    response
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("cannot read {what} from {}: {cause}", path.display())]
    Unreadable {
        /// Certificate or key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// Certificate and key do not fit, or are of an unsupported kind.
    #[error("cannot use the TLS certificate and key: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Reads certificate chain and key for serving TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1.
///
/// # Errors
/// [`TlsError`] names the file and what is wrong with it.
pub fn tls_acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let unreadable = |what, path: &Path, cause: String| TlsError::Unreadable { what, path: path.to_owned(), cause };
    let read = |what, path: &Path| fs::read(path).map_err(|error| unreadable(what, path, error.to_string()));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read("the certificate", &files.cert)?)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable("the certificate", &files.cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(unreadable("the certificate", &files.cert, "there is no PEM certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&read("the private key", &files.key)?)
        .map_err(|error| unreadable("the private key", &files.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_gives_a_client_up_that_acknowledges_nothing_for_the_write_timeout() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("it is bound"));
        let (_client, accepted) = tokio::join!(client, listener.accept());
        let (stream, _) = accepted.expect("the client is there");
        for (write_timeout, millis) in [(Duration::from_millis(1500), 1500), (Duration::MAX, 0x7fff_ffff)] {
            tune(&stream, write_timeout);
            assert_eq!(rustix::net::sockopt::tcp_user_timeout(&stream).expect("it can be asked"), millis);
        }
        assert!(stream.nodelay().expect("it can be asked"));
    }
}
