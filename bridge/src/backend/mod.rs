//! What answers permitted messages: the calculator in process, and nothing else yet.

pub mod child;
pub mod in_process;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use mcp_calculator::server::Era;

use crate::{message::Request, token::VerifiedToken};

/// Answers one request at a time, each independent of every other.
pub trait Backend: Send + Sync {
    /// Answers `call`. Dropping the future cancels the request.
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Answer>;
}

/// A permitted request and who makes it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The request.
    pub request: &'a Request<'a>,
    /// Whose it is, as verified.
    pub caller: &'a VerifiedToken,
    /// How the client speaks.
    pub era: Era,
}

/// The one message that answers a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// A JSON-RPC response with the request's id.
    pub message: Bytes,
    /// The JSON-RPC error code, if it is an error.
    pub error: Option<i64>,
}

impl Answer {
    /// A result, as JSON text, for the request with `id`.
    pub fn result(id: &str, result: &str) -> Self {
        let message = [r#"{"jsonrpc":"2.0","id":"#, id, r#","result":"#, result, "}"].concat();
        Self { message: message.into(), error: None }
    }

    /// An error for the request with `id`; `id` is `null` where it could not be read.
    pub fn error(id: &str, code: i64, text: &str, data: Option<&serde_json::Value>) -> Self {
        let mut error = serde_json::json!({ "code": code, "message": text });
        if let Some(data) = data {
            error["data"] = data.clone();
        }
        let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
        Self { message: message.into(), error: Some(code) }
    }
}
