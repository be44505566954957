//! Lines of JSON-RPC: what comes in on stdin, and what goes out on stdout.

use std::{collections::BTreeMap, io::Write};

use serde_json::{Value, json, value::RawValue};

/// An object of which nothing but the keys is interpreted: values stay spelled as they came.
pub(crate) type Object = BTreeMap<String, Box<RawValue>>;

/// One line from the client. Ids are JSON text, so that they go back as they came.
pub(crate) enum Message {
    Request {
        id: String,
        method: String,
        params: Object,
    },
    Notification {
        method: String,
        params: Object,
    },
    /// To a request of ours; `Err` is its error object.
    Response {
        id: String,
        answer: Result<Value, Value>,
    },
    /// What cannot be any of these, and the id if it had one.
    Broken {
        id: Option<String>,
        failure: Failure,
    },
}

impl Message {
    pub(crate) fn parse(line: &[u8]) -> Self {
        let broken = |id, code, message: &str| Self::Broken { id, failure: Failure::error(code, message) };
        let Ok(mut object) = serde_json::from_slice::<Object>(line) else {
            let code = if serde_json::from_slice::<&RawValue>(line).is_ok() { -32600 } else { -32700 };
            return broken(None, code, "not a JSON-RPC object");
        };
        let id = object.remove("id").map(|id| id.get().to_owned());
        let Some(method) = object.remove("method") else {
            let part = |name| object.get(name).and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
            return match (id, part("result"), part("error")) {
                (Some(id), Some(result), None) => Self::Response { id, answer: Ok(result) },
                (Some(id), None, Some(error)) => Self::Response { id, answer: Err(error) },
                (id, ..) => broken(id, -32600, "neither a request nor a response"),
            };
        };
        let Ok(method) = serde_json::from_str::<String>(method.get()) else {
            return broken(id, -32600, "the method is not a string");
        };
        let params = match object.remove("params").map(|raw| serde_json::from_str::<Object>(raw.get())) {
            None => Object::new(),
            Some(Ok(params)) => params,
            Some(Err(_)) => return broken(id, -32602, "params must be an object"),
        };
        match id {
            Some(id) => Self::Request { id, method, params },
            None => Self::Notification { method, params },
        }
    }
}

/// The value of `key` in `object`, if it is there and of that type.
pub(crate) fn field<T: serde::de::DeserializeOwned>(object: &Object, key: &str) -> Option<T> {
    serde_json::from_str(object.get(key)?.get()).ok()
}

/// What a request comes to.
pub(crate) type Outcome = Result<Reply, Failure>;

/// A result.
pub(crate) enum Reply {
    /// What the era adds to every result is still to be added.
    Value(Value),
    /// JSON text that goes out as it is.
    Raw(String),
}

/// Why there is no result.
pub(crate) enum Failure {
    /// A JSON-RPC error; `data` is JSON text.
    Error { code: i64, message: String, data: Option<String> },
    /// Nobody waits for the answer, and none must be given.
    Cancelled,
}

impl Failure {
    pub(crate) fn error(code: i64, message: &str) -> Self {
        Self::Error { code, message: message.to_owned(), data: None }
    }

    pub(crate) fn with(code: i64, message: &str, data: &Value) -> Self {
        Self::Error { code, message: message.to_owned(), data: Some(data.to_string()) }
    }

    pub(crate) fn unknown_method(method: &str) -> Self {
        Self::error(-32601, &format!("method not found: {method}"))
    }
}

/// Answers request `id`.
pub(crate) fn respond(id: &str, outcome: Outcome) {
    match outcome {
        Ok(Reply::Value(value)) => send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{value}}}"#)),
        Ok(Reply::Raw(text)) => send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{text}}}"#)),
        Err(Failure::Error { code, message, data }) => {
            let data = data.map(|data| format!(r#","data":{data}"#)).unwrap_or_default();
            let message = Value::from(message);
            send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}{data}}}}}"#));
        }
        Err(Failure::Cancelled) => {}
    }
}

pub(crate) fn notify(method: &str, params: &Value) {
    send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string());
}

/// Writes one line, whole: other threads write too.
pub(crate) fn send(message: &str) {
    let mut stdout = std::io::stdout().lock();
    // A client that does not read any more will close our input next.
    let _ = stdout.write_all(format!("{message}\n").as_bytes()).and_then(|()| stdout.flush());
}
