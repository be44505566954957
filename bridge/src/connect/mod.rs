//! `mcp-bridge connect`: a remote streamable HTTP server for a client that speaks stdio.
//!
//! Nothing is asked of the server before the client has said something: its first request shows which
//! era it speaks. A server of the same era then gets every message as it is, and so does the client;
//! what HTTP adds is the business of `remote`.

pub mod authority;
pub mod flags;
pub(crate) mod remote;
mod settings;
pub(crate) mod sign_in;
mod stdio;
mod step_up;
mod translated;

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use mcp_calculator::{
    login::{ending::SignedOut, prompt::plain, store::StoreError},
    server::Era,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::settings::{Problems, Settings, VARIABLES, client_secret};
use self::{
    authority::{Authority, Nobody},
    flags::LogoutFlags,
    remote::{END_GRACE, Foreign, Link, http::Http, legacy::Legacy, modern::Modern},
    sign_in::SignedIn,
    stdio::Stdio,
};
use crate::{
    era::Mirror,
    message::Message,
    telemetry::{self, LogError},
};

/// How long it may take to end everything: SDKs kill a server two seconds after they have asked it to end.
const LEAVE_MAX: Duration = Duration::from_millis(1500);

/// How long the client may take to read what is left for it.
const WRITE_MAX: Duration = Duration::from_millis(250);

/// Why it cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No log.
    #[error("cannot set up the log")]
    Log(#[from] LogError),
    /// No signals.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// No place for sign-ins.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody is signed in.
    #[error("{0}")]
    SignIn(String),
    /// Somebody is still signed in.
    #[error(transparent)]
    SignOut(StoreError),
    /// No TLS: usually a machine without trust roots.
    #[error("cannot set up TLS; install the ca-certificates package, or set SSL_CERT_FILE")]
    Tls(#[source] reqwest::Error),
}

/// Relays standard input and output to the server until the client closes its side, or a signal comes.
///
/// # Errors
/// [`ConnectError`] when it cannot start. What goes wrong with a request is told to the client.
pub async fn connect(settings: Settings) -> Result<(), ConnectError> {
    let _log = telemetry::init(settings.log_level, false)?;
    let closing = CancellationToken::new();
    let signals = Signals::listen().map_err(ConnectError::Signals)?;
    tokio::spawn(signals.watch(closing.clone()));
    let authority = authority(&settings);
    let http = Http::new(settings.url, settings.headers, authority).map_err(ConnectError::Tls)?;
    let http = Arc::new(http);
    let Stdio { mut lines, ended, client, writer } = Stdio::open(closing.clone());
    let link =
        Link { http: Arc::clone(&http), client, request_timeout: settings.request_timeout, closing: closing.clone() };
    tokio::select! {
        () = relay(&link, &mut lines) => {}
        () = overdue(&closing, &ended) => warn!("the server holds up the end; leaving it"),
    }
    drop(lines);
    http.close().await;
    // Ends when the last who could tell the client something is gone.
    drop(link);
    if timeout(WRITE_MAX, writer).await.is_err() {
        warn!("the client does not read what was left for it");
    }
    Ok(())
}

/// Waits until the end has taken too long, whatever it waits for.
async fn overdue(closing: &CancellationToken, ended: &CancellationToken) {
    tokio::select! {
        () = closing.cancelled() => {}
        () = async { ended.cancelled().await; sleep(END_GRACE).await } => {}
    }
    sleep(LEAVE_MAX).await;
}

/// Signs in at the server now, and says who is signed in.
///
/// # Errors
/// [`ConnectError`]
pub async fn login(settings: Settings) -> Result<(), ConnectError> {
    let _log = telemetry::init(settings.log_level, false)?;
    let record = SignedIn::new(&settings)?.sign_in().await.map_err(|error| ConnectError::SignIn(error.to_string()))?;
    let who = record.email.as_deref().or(record.subject.as_deref()).unwrap_or("a user");
    let (who, issuer) = (plain(who), plain(&record.issuer));
    info!(who, issuer, scopes = plain(&record.scopes.join(" ")), "signed in");
    Ok(())
}

/// Revokes the tokens of a sign-in and forgets them; gives what to tell the user, and whether the tokens
/// may still work somewhere.
///
/// # Errors
/// [`ConnectError::SignOut`]
pub async fn logout(
    flags: &LogoutFlags,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(String, bool), ConnectError> {
    Ok(match sign_in::sign_out(flags, settings::state_dir(variable)).await.map_err(ConnectError::SignOut)? {
        SignedOut::Nobody => ("Not signed in there: nothing to do.\n".to_owned(), false),
        SignedOut::Revoked => ("Signed out: the tokens are revoked and forgotten.\n".to_owned(), false),
        SignedOut::Forgotten(why) => (format!("Signed out here, but the tokens are not revoked: {why}.\n"), true),
    })
}

/// Who gives out tokens: nobody, where the user has given credentials in a header.
fn authority(settings: &Settings) -> Arc<dyn Authority> {
    if settings.headers.contains_key(http::header::AUTHORIZATION) {
        return Arc::new(Nobody::Header);
    }
    match SignedIn::new(settings) {
        Ok(signed_in) => Arc::new(signed_in),
        // The server may want none.
        Err(error) => Arc::new(Nobody::Impossible(error.to_string())),
    }
}

/// Carries messages, in the client's era where the server speaks that, translated where it does not.
async fn relay(link: &Link, lines: &mut mpsc::Receiver<Bytes>) {
    while let Some((foreign, era)) = straight(link, lines).await {
        if translated::is_possible(link, era).await {
            return translated::relay(link, foreign, era, lines).await;
        }
        // A client that knows both eras goes on with the other one.
        warn!(failure = %foreign.failure, ?era, "the server refuses the client's first request");
        foreign.ticket.fail(&foreign.failure).await;
    }
}

/// Carries messages in the era of the first request, until the end; or gives that request back, where
/// a server of the other era might have refused it so.
async fn straight(link: &Link, lines: &mut mpsc::Receiver<Bytes>) -> Option<(Foreign, Era)> {
    let (first, era) = first_request(link, lines).await?;
    info!(?era, "the client speaks");
    match era {
        Era::Legacy => {
            let server = Legacy::new(link.clone());
            if let Some(foreign) = server.begin(first).await {
                return Some((foreign, era));
            }
            server.run(lines).await;
        }
        Era::Modern => {
            let server = Modern::new(link.clone());
            if let Some(foreign) = server.begin(first).await {
                return Some((foreign, era));
            }
            server.run(lines).await;
        }
    }
    None
}

/// The first request, and the era that it shows; `None` at the end. What is no message is refused.
async fn first_request(link: &Link, lines: &mut mpsc::Receiver<Bytes>) -> Option<(Bytes, Era)> {
    loop {
        let line = tokio::select! {
            () = link.closing.cancelled() => return None,
            line = lines.recv() => line?,
        };
        let era = match Message::parse(&line) {
            Ok(message @ Message::Request(_)) => Some(Mirror { version: None, method: None, name: None }.era(&message)),
            // Before the first request nothing can be meant by these.
            Ok(Message::Notification(_) | Message::Response(_)) => None,
            Err(error) => {
                link.refuse(&error).await;
                None
            }
        };
        if let Some(era) = era {
            return Some((line, era));
        }
    }
}

/// The requests to end that come from the system or a keyboard.
#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn watch(mut self, closing: CancellationToken) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        closing.cancel();
    }
}

#[cfg(windows)]
struct Signals(mcp_calculator::stdio::console::Console);

#[cfg(windows)]
impl Signals {
    fn listen() -> io::Result<Self> {
        mcp_calculator::stdio::console::Console::listen().map(Self)
    }

    async fn watch(mut self, closing: CancellationToken) {
        self.0.asks_to_end().await;
        closing.cancel();
    }
}
