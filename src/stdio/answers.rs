//! What is written for a line that was read.

use std::{future::poll_fn, hint::black_box, io, sync::Arc, task::Poll};

use rmcp::model::ErrorData;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::{
    Access,
    lines::Line,
    message::{self, Message, Request},
};
use crate::server::{self, Call, Given};

/// How much is kept of answers before they are written: what a client that sends many requests at
/// once gets with one write.
const MAX_KEPT_BYTES: usize = 16 * 1024;

/// Answers lines with the functions of [`server`], one after the other.
pub(super) struct Answers<W> {
    output: W,
    /// Answers that are not written yet.
    kept: Vec<u8>,
    access: Option<Arc<dyn Access>>,
    /// Whether a client of the legacy era has introduced itself.
    initialized: bool,
    /// Whether the client has just asked what is here.
    greeted: bool,
}

impl<W: AsyncWrite + Unpin> Answers<W> {
    /// Writes to `output` what `access` allows, or everything without it.
    pub(super) fn new(output: W, access: Option<Arc<dyn Access>>) -> Self {
        Self { output, kept: Vec::new(), access, initialized: false, greeted: false }
    }

    /// Answers `line`, if it is to be answered. The answer may wait for [`Self::flush`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn answer(&mut self, line: &Line) -> io::Result<()> {
        match message::read(line, self.initialized) {
            Message::Ignored => return Ok(()),
            Message::Refused(id, error) => self.keep_error(id, &error)?,
            Message::Request(id, request) => match self.result(request).await? {
                Ok(result) => self.keep(id, "result", &result),
                Err(error) => self.keep_error(Some(id), &error)?,
            },
        }
        if self.kept.len() < MAX_KEPT_BYTES { Ok(()) } else { self.flush().await }
    }

    /// Writes what is kept.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.kept.is_empty() {
            return Ok(());
        }
        self.output.write_all(&self.kept).await?;
        self.kept.clear();
        // An id may be long.
        self.kept.shrink_to(MAX_KEPT_BYTES);
        self.output.flush().await?;
        if std::mem::take(&mut self.greeted) {
            rehearse();
        }
        Ok(())
    }

    /// The result, as JSON text, or the error of `request`.
    async fn result(&mut self, request: Request<'_>) -> io::Result<Result<String, ErrorData>> {
        Ok(Ok(match request {
            Request::Initialize { protocol_version } => {
                (self.initialized, self.greeted) = (true, true);
                serde_json::to_string(&server::initialize(&protocol_version))?
            }
            Request::Ping => "{}".to_owned(),
            Request::Discover => {
                self.greeted = true;
                serde_json::to_string(server::discover())?
            }
            Request::ListTools(era) => serde_json::to_string(server::list_tools(era))?,
            Request::CallTool { era, name, arguments } => {
                let call = match Call::read(&name, Given::Text(arguments)) {
                    Ok(call) => call,
                    Err(error) => return Ok(Err(error)),
                };
                match self.check(call.needed_scope()).await? {
                    Ok(()) => call.answer(era, None),
                    Err(why) => server::refusal(era, &why),
                }
            }
        }))
    }

    /// Whether a call that needs `scope` may be carried out. Nobody waits with it: what is kept is
    /// written first, should that take its time.
    async fn check(&mut self, scope: Option<&'static str>) -> io::Result<Result<(), String>> {
        let Some((access, scope)) = self.access.clone().zip(scope) else { return Ok(Ok(())) };
        let mut check = access.check(scope);
        match poll_fn(|context| Poll::Ready(check.as_mut().poll(context))).await {
            Poll::Ready(checked) => Ok(checked),
            Poll::Pending => {
                self.flush().await?;
                Ok(check.await)
            }
        }
    }

    /// An error; its id is `null` if the request's could not be read (JSON-RPC 2.0, section 5).
    fn keep_error(&mut self, id: Option<&str>, error: &ErrorData) -> serde_json::Result<()> {
        self.keep(id.unwrap_or("null"), "error", &serde_json::to_string(error)?);
        Ok(())
    }

    /// An answer: `member` is `result` or `error`, and `id` and `value` are JSON text.
    fn keep(&mut self, id: &str, member: &str, value: &str) {
        for part in [r#"{"jsonrpc":"2.0","id":"#, id, ",\"", member, "\":", value, "}\n"] {
            self.kept.extend_from_slice(part.as_bytes());
        }
    }
}

/// The call that is rehearsed.
pub(super) const REHEARSED: &[u8] = br#"{"jsonrpc":"2.0","id":0,"method":"tools/call","params":{"name":"calculator","arguments":{"operation":"add","a":1.5,"b":2},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;

/// Does what a call does, while nobody waits for it: calls will follow, and page faults for what it
/// touches for the first time would make the first of them half as long again.
fn rehearse() {
    if let Message::Request(_, Request::CallTool { era, name, arguments }) =
        message::read(&Line::Complete(REHEARSED.to_vec()), true)
        && let Ok(call) = Call::read(&name, Given::Text(arguments))
    {
        black_box(call.result(era));
    }
}
