//! Between the lines and rmcp's runtime: hands over one request at a time and puts its own id back
//! on the answer.

use std::{
    future::{Future, pending, ready},
    io,
};

use rmcp::{
    RoleServer,
    model::{
        CallToolRequest, CallToolRequestParams, ClientCapabilities, ClientRequest, DiscoverRequest,
        DiscoverRequestParams, ErrorData, GetMeta as _, InitializeRequest, InitializeRequestParams, JsonRpcMessage,
        ListToolsRequest, PaginatedRequestParams, PingRequest, ProtocolVersion, RequestId,
    },
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::{
    io::AsyncRead,
    sync::{
        mpsc::{self, OwnedPermit},
        oneshot,
    },
};

use super::{
    lines::{Lines, MAX_LINE_BYTES},
    message::{self, Id, Message, Request},
    service::RawArguments,
};
use crate::server::Era;

/// The transport that rmcp's runtime reads from and writes to.
pub(super) struct Stdio<R> {
    lines: Lines<R>,
    answers: mpsc::Sender<Vec<u8>>,
    /// The request that the runtime is answering.
    answering: Option<Answering>,
    /// Whether a client of the legacy era has introduced itself.
    initialized: bool,
    /// Tells why reading or answering came to an end, if it was not the end of the input.
    failed: Option<oneshot::Sender<io::Error>>,
}

/// What is kept of a request until its answer comes.
struct Answering {
    id: Id,
    room: OwnedPermit<Vec<u8>>,
}

impl<R: AsyncRead + Unpin> Stdio<R> {
    /// Reads `input`; answers go to `answers`, one line each. The receiver gets the reason, should
    /// `input` fail.
    pub(super) fn new(input: R, answers: mpsc::Sender<Vec<u8>>) -> (Self, oneshot::Receiver<io::Error>) {
        let (failed, failure) = oneshot::channel();
        let lines = Lines::new(input, MAX_LINE_BYTES);
        (Self { lines, answers, answering: None, initialized: false, failed: Some(failed) }, failure)
    }

    fn fail(&mut self, error: io::Error) {
        if let Some(failed) = self.failed.take() {
            // Nobody listens only when the program is about to end anyway.
            failed.send(error).ok();
        }
    }
}

impl<R: AsyncRead + Unpin + Send> Transport<RoleServer> for Stdio<R> {
    type Error = io::Error;

    fn send(&mut self, message: TxJsonRpcMessage<RoleServer>) -> impl Future<Output = io::Result<()>> + Send + 'static {
        ready(self.answering.take().map_or(Ok(()), |Answering { id, room }| {
            // Put into the queue here and not in the future, so that answers keep their order.
            let line = match message {
                JsonRpcMessage::Response(response) => result_line(&id, &response.result),
                JsonRpcMessage::Error(error) => error_line(Some(&id), &error.error),
                // The calculator sends no requests and no notifications of its own.
                JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => return Ok(()),
            };
            room.send(line?);
            Ok(())
        }))
    }

    /// The next well-formed request. What is not one is answered or passed over here.
    ///
    /// Cancel-safe, as rmcp's runtime needs it: a line is taken only when there is room for its
    /// answer, and nothing waits after that.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        if self.answering.is_some() {
            // The runtime lets go of this future when it calls `send`, and then asks again.
            return pending().await;
        }
        loop {
            // Without a reader at the other end there is no use in going on.
            let room = self.answers.clone().reserve_owned().await.ok()?;
            let line = tokio::select! {
                line = self.lines.next() => line,
                () = self.answers.closed() => return None,
            };
            let refusal = match line.map(|line| line.map(|line| message::read(&line, self.initialized))) {
                Ok(Some(Message::Ignored)) => continue,
                Ok(Some(Message::Refused(id, error))) => error_line(id.as_deref(), &error),
                Ok(Some(Message::Request(id, request))) => {
                    self.initialized |= matches!(request, Request::Initialize { .. });
                    self.answering = Some(Answering { id, room });
                    // The client's own id is put back in `send`; there is never a second request.
                    return Some(JsonRpcMessage::request(typed(request), RequestId::Number(0)));
                }
                Ok(None) => return None,
                Err(error) => Err(error),
            };
            match refusal {
                Ok(line) => drop(room.send(line)),
                Err(error) => {
                    self.fail(error);
                    return None;
                }
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The request as rmcp's runtime wants it.
fn typed(request: Request) -> ClientRequest {
    let (mut typed, era): (ClientRequest, Era) = match request {
        Request::Initialize { protocol_version, client_info } => {
            // Read as text by our handler, which agrees to known versions only.
            let version = ProtocolVersion::KNOWN_VERSIONS.iter().find(|known| known.as_str() == protocol_version);
            let params = InitializeRequestParams::new(ClientCapabilities::default(), client_info)
                .with_protocol_version(version.cloned().unwrap_or_default());
            (ClientRequest::InitializeRequest(InitializeRequest::new(params)), Era::Legacy)
        }
        Request::Ping => (ClientRequest::PingRequest(PingRequest::default()), Era::Legacy),
        Request::Discover => {
            (ClientRequest::DiscoverRequest(DiscoverRequest::new(DiscoverRequestParams {})), Era::Modern)
        }
        Request::ListTools(era) => {
            let params = PaginatedRequestParams::default();
            (ClientRequest::ListToolsRequest(ListToolsRequest::with_param(params)), era)
        }
        Request::CallTool { era, name, arguments } => {
            let mut call = CallToolRequest::new(CallToolRequestParams::new(name));
            if let Some(arguments) = arguments {
                call.extensions.insert(RawArguments(arguments.into()));
            }
            (ClientRequest::CallToolRequest(call), era)
        }
    };
    if era == Era::Modern {
        // What the client wrote there was checked; the handler reads nothing else of it.
        let meta = typed.get_meta_mut();
        meta.set_protocol_version(ProtocolVersion::V_2026_07_28);
        meta.set_client_capabilities(ClientCapabilities::default());
    }
    typed
}

fn result_line(id: &RawValue, result: &impl Serialize) -> io::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct ResultLine<'a, T> {
        jsonrpc: &'static str,
        id: &'a RawValue,
        result: &'a T,
    }
    line(&ResultLine { jsonrpc: "2.0", id, result })
}

/// An error; its id is `null` if the request's could not be read (JSON-RPC 2.0, section 5).
fn error_line(id: Option<&RawValue>, error: &ErrorData) -> io::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct ErrorLine<'a> {
        jsonrpc: &'static str,
        id: Option<&'a RawValue>,
        error: &'a ErrorData,
    }
    line(&ErrorLine { jsonrpc: "2.0", id, error })
}

fn line(answer: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    Ok(line)
}
