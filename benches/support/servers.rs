//! The servers that are measured, and the stub authorization server behind one of them.

use std::{convert::Infallible, net::SocketAddr, process::Command};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

use super::child::Server;

/// The one resource that the stub's tokens are for.
const PUBLIC_URL: &str = "http://localhost:8808";

/// What the bare server answers where there is no bridge to take an answer from.
pub(crate) const SAMPLE_ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"13"}],"isError":false,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"Calculator","version":"1.0.0"}}}}"#;

/// First arguments by which the bench program starts as one of its own servers.
const BARE: &str = "hidden-bare-server";
const STUB: &str = "hidden-introspection-stub";

/// A token that the stub knows: `name` makes it another token, `scopes` are in its answer.
///
/// The scopes are part of the token because the stub keeps no state; a colon is no token character.
pub(crate) fn token(name: &str, scopes: &[&str]) -> String {
    format!("bench.{name}.{}", scopes.join("~").replace(':', "_"))
}

/// Runs as one of the hidden servers until SIGTERM, if the program was started as one; says whether
/// it was.
pub(crate) fn run_if_hidden() -> Result<bool> {
    let mut arguments = std::env::args().skip(1);
    let answer: Answerer = match arguments.next().as_deref() {
        Some(BARE) => {
            let body = Bytes::from(arguments.next().context("the answer is missing")?);
            Box::leak(Box::new(move |_: &[u8]| body.clone()))
        }
        Some(STUB) => &introspect,
        _ => return Ok(false),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(answer))?;
    Ok(true)
}

/// From a request's body to the answer's.
type Answerer = &'static (dyn Fn(&[u8]) -> Bytes + Send + Sync);

/// Plain hyper on a free port, as lean as it gets.
#[expect(clippy::print_stderr, reason = "this is how the parent learns the port")]
async fn serve(answer: Answerer) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    eprintln!("listening on http://{}/mcp", listener.local_addr()?);
    let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = end.recv() => return Ok(()),
        };
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| async move {
                let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let mut response = Response::new(Full::new(answer(&body)));
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Ok::<_, Infallible>(response)
            });
            // A client that goes away is no failure of the server.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Answers an introspection request (RFC 7662 §2.1) from the token alone.
fn introspect(form: &[u8]) -> Bytes {
    let token = form
        .split(|&byte| byte == b'&')
        .find_map(|field| field.strip_prefix(b"token="))
        .and_then(|token| std::str::from_utf8(token).ok())
        .unwrap_or_default();
    // `~` is one of the characters that a form encodes.
    let token = token.replace("%7E", "~");
    let Some((name, scopes)) = token.strip_prefix("bench.").and_then(|rest| rest.split_once('.')) else {
        return Bytes::from_static(br#"{"active":false}"#);
    };
    let scopes = scopes.replace('~', " ").replace('_', ":");
    format!(
        r#"{{"active":true,"sub":"bench","client_id":"{name}","username":"bench@example.com","scope":"{scopes}","aud":"{PUBLIC_URL}/mcp","exp":4102444800,"token_type":"Bearer"}}"#
    )
    .into()
}

/// Starts the bare server; every answer of it is `body`.
pub(crate) fn bare(body: &str) -> Result<Server> {
    Server::start(bare_command(body)?)
}

/// The command of the bare server.
pub(crate) fn bare_command(body: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([BARE, body]);
    Ok(command)
}

/// Starts the stub introspection endpoint.
pub(crate) fn stub() -> Result<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(STUB);
    Server::start(command)
}

/// How the bridge verifies tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Auth {
    /// Not at all.
    Off,
    /// By asking the stub at this address; an answer is kept for `cache`.
    Introspection { stub: SocketAddr, cache: &'static str },
}

/// The command of the bridge, serving the calculator in process without limits that a load run hits.
pub(crate) fn bridge_command(auth: Auth, log_level: &str) -> Result<Command> {
    let program = env!("CARGO_BIN_EXE_mcp-bridge");
    if !std::path::Path::new(program).exists() {
        bail!("{program} is not built; run this through cargo bench");
    }
    let mut command = Command::new(program);
    command.args(["serve", "--listen", "127.0.0.1:0", "--log-level", log_level, "--rate-limit", "0"]);
    command.args(["--max-sessions-per-principal", "2000"]);
    match auth {
        Auth::Off => {
            command.args(["--auth", "none"]);
        }
        Auth::Introspection { stub, cache } => {
            command.args(["--auth", "introspection", "--public-url", PUBLIC_URL]);
            command.args(["--issuer", &format!("http://{stub}")]);
            command.args(["--introspection-url", &format!("http://{stub}/introspect")]);
            command.args(["--introspection-client-id", "bench", "--introspection-cache", cache]);
            command.env("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET", "bench");
        }
    }
    Ok(command)
}
