//! Where the browser brings the answer: a redirect URI on this machine (RFC 8252 §7.3).

mod page;
mod request;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use url::{Host, Url};

use self::request::{Expected, Verdict};
pub(crate) use self::{page::Page, request::Callback};
use crate::{login::address, secret::Secret};

/// A redirect URI on loopback: `http://127.0.0.1/callback`, with a port or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectUri {
    host: Local,
    /// `None`: any that is free.
    port: Option<u16>,
    path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Local {
    V4,
    V6,
    /// Some servers allow nothing else, although it is a name (RFC 8252 §8.3).
    Name,
}

impl Default for RedirectUri {
    fn default() -> Self {
        Self { host: Local::V4, port: None, path: "/callback".to_owned() }
    }
}

impl RedirectUri {
    /// The authority of it, which is also what `Host` has to be.
    fn authority(&self) -> String {
        let host = match self.host {
            Local::V4 => "127.0.0.1",
            Local::V6 => "[::1]",
            Local::Name => "localhost",
        };
        self.port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    pub(crate) fn with_any_port(&self) -> Self {
        Self { port: None, ..self.clone() }
    }
}

impl fmt::Display for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

impl FromStr for RedirectUri {
    type Err = LoopbackError;

    fn from_str(text: &str) -> Result<Self, LoopbackError> {
        let url = Url::parse(text).map_err(|_| LoopbackError::RedirectUri)?;
        let host = match url.host() {
            Some(Host::Ipv4(Ipv4Addr::LOCALHOST)) => Local::V4,
            Some(Host::Ipv6(Ipv6Addr::LOCALHOST)) => Local::V6,
            Some(Host::Domain(name)) if address::is_localhost(name) && name == "localhost" => Local::Name,
            _ => return Err(LoopbackError::RedirectUri),
        };
        let uri = Self { host, port: url.port(), path: url.path().to_owned() };
        // What the parser would change or drop, the authorization server would compare.
        let spelled = uri.to_string() == text || (uri.path == "/" && format!("{text}/") == uri.to_string());
        if url.scheme() == "http" && spelled { Ok(uri) } else { Err(LoopbackError::RedirectUri) }
    }
}

/// A listener for one answer.
///
/// It is bound to loopback, at a port that the system chooses unless the redirect URI has one. Whatever
/// does not come with the right path, host and state gets an error page, and changes nothing.
pub(crate) struct Listener {
    socket: TcpListener,
    /// The other address of `localhost`.
    second: Option<TcpListener>,
    uri: RedirectUri,
}

/// Browsers open a few connections ahead; more than these are somebody else's.
const CONNECTIONS_MAX: usize = 16;

/// A browser on this machine has sent its request by then.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Listener {
    /// Starts listening.
    ///
    /// # Errors
    /// [`LoopbackError::Bind`] if the port is taken.
    pub(crate) async fn bind(uri: &RedirectUri) -> Result<Self, LoopbackError> {
        let failed = |error: io::Error| LoopbackError::Bind { uri: uri.to_string(), error };
        let port = uri.port.unwrap_or(0);
        let socket = match uri.host {
            Local::V4 | Local::Name => TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await,
            Local::V6 => TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await,
        };
        let socket = socket.map_err(failed)?;
        let port = socket.local_addr().map_err(failed)?.port();
        let mut second = None;
        if uri.host == Local::Name {
            // `localhost` is both, to some browsers. Without IPv6 there is nobody to mistake for us.
            match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
                Ok(socket) => second = Some(socket),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(failed(error)),
                Err(_) => {}
            }
        }
        Ok(Self { socket, second, uri: RedirectUri { port: Some(port), ..uri.clone() } })
    }

    /// The redirect URI, with its port.
    pub(crate) fn uri(&self) -> &RedirectUri {
        &self.uri
    }

    /// Waits for the answer that carries `state`; nobody can give a second one.
    ///
    /// Waits without end: the caller has the deadline. Dropping it closes everything.
    pub(crate) async fn answer(self, state: &Secret<String>) -> (Callback, Browser) {
        let expected =
            Arc::new(Expected { authority: self.uri.authority(), path: self.uri.path.clone(), state: state.clone() });
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(ended) = connections.join_next() => {
                    if let Ok(Some(answer)) = ended {
                        return answer;
                    }
                }
                accepted = self.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok(stream) => {
                        connections.spawn(serve(stream, Arc::clone(&expected)));
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
            }
        }
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        let second = async {
            match &self.second {
                Some(socket) => socket.accept().await,
                None => std::future::pending().await,
            }
        };
        let (stream, _) = tokio::select! {
            accepted = self.socket.accept() => accepted?,
            accepted = second => accepted?,
        };
        Ok(stream)
    }
}

/// Reads one request; gives the answer if it is the one that is waited for.
async fn serve(mut stream: TcpStream, expected: Arc<Expected>) -> Option<(Callback, Browser)> {
    let verdict = tokio::time::timeout(REQUEST_PATIENCE, request::read(&mut stream, &expected)).await;
    match verdict {
        Ok(Ok(Verdict::Answer(callback))) => Some((callback, Browser(stream))),
        Ok(Ok(Verdict::Other(page))) => {
            Browser(stream).show(page).await;
            None
        }
        Ok(Err(_)) | Err(_) => None,
    }
}

/// The browser that brought the answer, waiting for a page.
pub(crate) struct Browser(TcpStream);

impl Browser {
    /// Shows `page` and closes the connection. A browser that has left already misses nothing else.
    pub(crate) async fn show(mut self, page: Page) {
        let _ = tokio::time::timeout(REQUEST_PATIENCE, page::write(&mut self.0, page)).await;
    }
}

/// Why no answer can be received.
#[derive(Debug, thiserror::Error)]
pub enum LoopbackError {
    /// Nothing that this program could listen at.
    #[error(
        "a redirect URI must be http://127.0.0.1, http://[::1] or http://localhost, with a path and perhaps a port"
    )]
    RedirectUri,
    /// Somebody else is there.
    #[error("cannot listen at {uri} for the browser's answer: {error}")]
    Bind {
        /// Where.
        uri: String,
        /// Why.
        error: io::Error,
    },
}
