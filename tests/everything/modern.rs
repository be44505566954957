//! The modern era: no handshake, every request says everything, and `subscriptions/listen`.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    content,
    legacy::is_call,
    server::{Change, Era, Server, held, severity},
    tools,
    wire::{self, Failure, Message, Object, Outcome, Reply, field},
};

const VERSION: &str = "2026-07-28";
pub(crate) const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub(crate) const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
pub(crate) const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

pub(crate) fn receive(server: &Arc<Server>, message: Message) {
    match message {
        Message::Request { id, method, params } => {
            let outcome = check(&method, &params).and_then(|()| match method.as_str() {
                method if is_call(method) => server.call(&id, method, params).map(|()| None),
                "subscriptions/listen" => listen(server, &id, &params).map(|()| None),
                _ => answer(server, &method, &params).map(Some),
            });
            match outcome {
                // What runs or listens answers for itself.
                Ok(None) => {}
                Ok(Some(reply)) => server.respond(&id, Ok(reply)),
                Err(failure) => server.respond(&id, Err(failure)),
            }
        }
        Message::Notification { method, params } if method == "notifications/cancelled" => server.cancel(&params),
        // There are no requests of ours that it could answer.
        Message::Notification { .. } | Message::Response { .. } => {}
        Message::Broken { id: Some(id), failure } => server.respond(&id, Err(failure)),
        // An id of null is no id in this revision.
        Message::Broken { id: None, failure: Failure::Error { code, message, .. } } => {
            wire::send(&json!({ "jsonrpc": "2.0", "error": { "code": code, "message": message } }).to_string());
        }
        Message::Broken { id: None, failure: Failure::Cancelled } => {}
    }
}

/// What must be right before it matters what is asked.
fn check(method: &str, params: &Object) -> Result<(), Failure> {
    let supported = json!({ "supported": [VERSION] });
    if method == "initialize" {
        let text = format!("method not found: initialize; this server supports {VERSION} only");
        return Err(Failure::with(-32601, &text, &supported));
    }
    let invalid = |what: &str| Failure::error(-32602, &format!("params._meta is incomplete: {what}"));
    let meta: Object = field(params, "_meta").ok_or_else(|| invalid("it is missing"))?;
    let version: String = field(&meta, PROTOCOL_VERSION).ok_or_else(|| invalid("no protocolVersion"))?;
    let capabilities: Option<Value> = field(&meta, CLIENT_CAPABILITIES);
    if !capabilities.is_some_and(|capabilities| capabilities.is_object()) {
        return Err(invalid("no clientCapabilities"));
    }
    if version != VERSION {
        let data = json!({ "supported": [VERSION], "requested": version });
        return Err(Failure::with(-32022, "unsupported protocol version", &data));
    }
    if meta.contains_key(LOG_LEVEL) && field::<String>(&meta, LOG_LEVEL).is_none_or(|level| severity(&level).is_none())
    {
        return Err(Failure::error(-32602, "that is not a log level"));
    }
    Ok(())
}

fn answer(server: &Server, method: &str, params: &Object) -> Outcome {
    let value = match method {
        "server/discover" => cacheable(json!({
            "supportedVersions": [VERSION],
            "capabilities": crate::capabilities(),
            "instructions": crate::INSTRUCTIONS,
        })),
        "tools/list" => cacheable(json!({ "tools": tools::list(server) })),
        "prompts/list" => cacheable(json!({ "prompts": content::prompts(server) })),
        "resources/list" => cacheable(json!({ "resources": content::resources() })),
        "resources/templates/list" => cacheable(json!({ "resourceTemplates": content::templates() })),
        "resources/read" => {
            let uri: String = field(params, "uri").ok_or_else(|| Failure::error(-32602, "params.uri is missing"))?;
            let missing = || Failure::with(-32602, "resource not found", &json!({ "uri": uri }));
            cacheable(json!({ "contents": content::read(&uri).ok_or_else(missing)? }))
        }
        "completion/complete" => content::complete(params)?,
        _ => return Err(Failure::unknown_method(method)),
    };
    Ok(Reply::Value(value))
}

/// Adds the caching hints. Private: half of what is here depends on who asks.
fn cacheable(mut result: Value) -> Value {
    result["ttlMs"] = json!(0);
    result["cacheScope"] = json!("private");
    result
}

/// An open `subscriptions/listen` request.
pub(crate) struct Listener {
    pub(crate) id: String,
    filter: Value,
}

fn listen(server: &Server, id: &str, params: &Object) -> Result<(), Failure> {
    let wanted: Value = field(params, "notifications")
        .filter(Value::is_object)
        .ok_or_else(|| Failure::error(-32602, "params.notifications must be an object"))?;
    let mut filter = json!({});
    for key in ["toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions"] {
        if wanted[key] == json!(true) || wanted[key].is_array() {
            filter[key] = wanted[key].clone();
        }
    }
    if let Some(uris) = filter["resourceSubscriptions"].as_array_mut() {
        uris.retain(|uri| uri != content::UNWATCHED);
    }
    let listener = Listener { id: id.to_owned(), filter };
    // Under the lock: nothing else may come before the acknowledgement.
    let mut listeners = held(&server.listeners);
    let acknowledged = json!({ "notifications": listener.filter });
    listener.send("notifications/subscriptions/acknowledged", acknowledged);
    listeners.push(listener);
    Ok(())
}

impl Listener {
    /// Sends `change` if it was asked for; says whether it was.
    pub(crate) fn notify(&self, change: Change<'_>) -> bool {
        let wanted = match change {
            Change::Tools => self.filter["toolsListChanged"] == json!(true),
            Change::Prompts => self.filter["promptsListChanged"] == json!(true),
            Change::Resources => self.filter["resourcesListChanged"] == json!(true),
            Change::Updated(uri) => self.filter["resourceSubscriptions"]
                .as_array()
                .is_some_and(|uris| uris.iter().any(|known| known == uri)),
        };
        if wanted {
            let (method, params) = change.notification();
            self.send(method, params);
        }
        wanted
    }

    fn send(&self, method: &str, mut params: Value) {
        params["_meta"] = self.tag();
        wire::notify(method, &params);
    }

    fn tag(&self) -> Value {
        // An id is a string or an integer of at most 64 bits in every client that listens here.
        let id = serde_json::from_str(&self.id).unwrap_or(Value::Null);
        json!({ SUBSCRIPTION_ID: id })
    }
}

/// Ends all subscriptions from this side: with a result, or without one.
pub(crate) fn end_listening(server: &Server, gracefully: bool) -> usize {
    if server.era == Era::Legacy {
        return 0;
    }
    let ended = std::mem::take(&mut *held(&server.listeners));
    for listener in &ended {
        if gracefully {
            server.respond(&listener.id, Ok(Reply::Value(json!({ "_meta": listener.tag() }))));
        } else {
            let id = listener.tag()[SUBSCRIPTION_ID].clone();
            listener.send("notifications/cancelled", json!({ "requestId": id }));
        }
    }
    ended.len()
}
