//! The legacy era: a handshake, then a session that lasts as long as the process.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    content,
    server::{Server, held, severity},
    tools,
    wire::{Failure, Message, Object, Outcome, Reply, field},
};

const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

pub(crate) fn receive(server: &Arc<Server>, message: Message) {
    match message {
        Message::Request { id, method, params } if is_call(&method) && is_initialized(server) => {
            if let Err(failure) = server.call(&id, &method, params) {
                server.respond(&id, Err(failure));
            }
        }
        Message::Request { id, method, params } => server.respond(&id, answer(server, &method, &params)),
        Message::Notification { method, params } if method == "notifications/cancelled" => server.cancel(&params),
        Message::Notification { .. } => {}
        Message::Response { id, answer } => server.answered(&id, answer),
        Message::Broken { id, failure } => server.respond(id.as_deref().unwrap_or("null"), Err(failure)),
    }
}

/// Whether it may take long, and ask the client.
pub(crate) fn is_call(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get")
}

fn is_initialized(server: &Server) -> bool {
    held(&server.client).is_some()
}

fn answer(server: &Server, method: &str, params: &Object) -> Outcome {
    let value = match method {
        "initialize" => initialize(server, params)?,
        "ping" => json!({}),
        "server/discover" => return Err(Failure::unknown_method(method)),
        _ if !is_initialized(server) => return Err(Failure::error(-32600, "initialize first")),
        "tools/list" => json!({ "tools": tools::list(server) }),
        "prompts/list" => json!({ "prompts": content::prompts(server) }),
        "resources/list" => json!({ "resources": content::resources() }),
        "resources/templates/list" => json!({ "resourceTemplates": content::templates() }),
        "resources/read" => {
            let uri = uri(params)?;
            let missing = || Failure::with(-32002, "resource not found", &json!({ "uri": uri }));
            json!({ "contents": content::read(&uri).ok_or_else(missing)? })
        }
        "resources/subscribe" => {
            let uri = uri(params)?;
            if uri == content::UNWATCHED {
                return Err(Failure::error(-32602, "nobody can subscribe to that"));
            }
            held(&server.subscribed).insert(uri);
            json!({})
        }
        "resources/unsubscribe" => {
            held(&server.subscribed).remove(&uri(params)?);
            json!({})
        }
        "completion/complete" => content::complete(params)?,
        "logging/setLevel" => {
            let level = field::<String>(params, "level").and_then(|level| severity(&level));
            *held(&server.level) = level.ok_or_else(|| Failure::error(-32602, "params.level is not a log level"))?;
            json!({})
        }
        _ => return Err(Failure::unknown_method(method)),
    };
    Ok(Reply::Value(value))
}

fn initialize(server: &Server, params: &Object) -> Result<Value, Failure> {
    let wanted = field::<String>(params, "protocolVersion")
        .ok_or_else(|| Failure::error(-32602, "params.protocolVersion must be a string"))?;
    let capabilities: Value = field(params, "capabilities")
        .filter(Value::is_object)
        .ok_or_else(|| Failure::error(-32602, "params.capabilities must be an object"))?;
    let mut client = held(&server.client);
    // A session has one handshake: whoever sends a second one has mixed up two sessions.
    if client.is_some() {
        return Err(Failure::error(-32600, "already initialized"));
    }
    *client = Some(json!({ "capabilities": capabilities }));
    let version = if VERSIONS.contains(&wanted.as_str()) { &wanted } else { VERSIONS[3] };
    Ok(json!({
        "protocolVersion": version,
        "capabilities": crate::capabilities(),
        "serverInfo": crate::identity(),
        "instructions": crate::INSTRUCTIONS,
    }))
}

fn uri(params: &Object) -> Result<String, Failure> {
    field(params, "uri").ok_or_else(|| Failure::error(-32602, "params.uri must be a string"))
}
