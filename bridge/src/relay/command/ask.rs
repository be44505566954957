//! One client's request, as a task of its own needs it.

use std::sync::Arc;

use crate::{
    backend::{
        Call,
        link::{Ended, Exchange, Link, Outgoing},
    },
    edit::Edit,
    message::{Request, push_quoted},
    relay::owner::Owner,
    token::VerifiedToken,
};

/// A request that outlives the message it came in.
pub(super) struct Ask {
    /// As JSON text.
    pub(super) id: String,
    pub(super) method: String,
    pub(super) owner: Owner,
    pub(super) caller: Arc<VerifiedToken>,
    /// The client's own token for progress, as JSON text.
    pub(super) progress_token: Option<String>,
    /// Whether the client reads messages before its answer.
    pub(super) streams: bool,
}

impl Ask {
    pub(super) fn of(call: &Call<'_>) -> Self {
        let request = call.request;
        Self {
            id: request.id.to_json(),
            method: request.method.clone().into_owned(),
            owner: Owner::of(call.caller),
            caller: Arc::clone(call.caller),
            progress_token: request.params.meta.get("progressToken").map(|token| token.get().to_owned()),
            streams: call.streams,
        }
    }

    /// Sends the request to a child, with these parameters.
    ///
    /// # Errors
    /// [`Ended`] when the child is gone, or the parameters have too many members.
    pub(super) async fn send(&self, link: &Link, params: Option<&str>) -> Result<Exchange, Ended> {
        let outgoing = Outgoing {
            method: &self.method,
            client_id: &self.id,
            progress_token: self.progress_token.as_deref(),
            takes_strays: self.streams && may_say_more(&self.method),
            cancellable: self.method != "initialize",
        };
        let with_token = match (&self.progress_token, params) {
            // A request without its parameters would be another request.
            (Some(_), Some(params)) => Some(Edit::parse(params).ok_or_else(|| Ended(TOO_MANY_MEMBERS.into()))?),
            _ => None,
        };
        let request = link.request(outgoing, |ours| match with_token {
            Some(mut edit) => Some(edit.progress_token(ours.to_string()).to_json()),
            None => params.map(str::to_owned),
        });
        request.await
    }
}

/// With what the bridge adds there can be more of them than anybody has to read.
const TOO_MANY_MEMBERS: &str = "the request was not sent, because its parameters have too many members";

/// Whether a server may have something to say before it answers: lists and the like are answered at
/// once, and must not draw what belongs to a longer request.
fn may_say_more(method: &str) -> bool {
    !matches!(method, "initialize" | "ping" | "logging/setLevel" | "completion/complete" | "server/discover")
        && !method.ends_with("/list")
        && !method.ends_with("subscribe")
        && method != "subscriptions/listen"
}

/// The request's parameters with what the bridge knows about the caller, and nothing that the client
/// says about that.
pub(super) fn params<'a>(request: &'a Request<'_>, identity: &'a str) -> Edit<'a> {
    let mut edit = Edit::new(&request.params);
    edit.identity(Some(identity));
    edit
}

/// A client's answer to a question of the server's, as JSON text, without what it says about itself
/// under the bridge's key. One that repeats keys says nothing, because who reads it may see either.
pub(super) fn without_identity(result: &str) -> String {
    match Edit::parse(result) {
        Some(mut edit) => edit.identity(None).to_json(),
        None if result.trim_start().starts_with('{') => "{}".to_owned(),
        None => result.to_owned(),
    }
}

/// The verified user, as a JSON object, for the server.
pub(super) fn identity(caller: &VerifiedToken) -> String {
    let mut json = String::with_capacity(256);
    json.push_str(r#"{"issuer":"#);
    push_quoted(&mut json, caller.issuer.as_str());
    for (key, value) in
        [(r#","subject":"#, &caller.subject), (r#","email":"#, &caller.email), (r#","client_id":"#, &caller.client_id)]
    {
        if let Some(value) = value {
            json.push_str(key);
            push_quoted(&mut json, value);
        }
    }
    json.push_str(r#","scopes":["#);
    for (index, scope) in caller.scopes.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        push_quoted(&mut json, scope.as_str());
    }
    json.push_str("]}");
    json
}

/// The verified user, for the environment of a process that is started for them.
pub(super) fn environment(caller: &VerifiedToken) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("MCP_BRIDGE_SUBJECT_ISSUER", caller.issuer.as_str().to_owned()),
        ("MCP_BRIDGE_SCOPES", caller.scopes.to_string()),
    ];
    for (name, value) in [
        ("MCP_BRIDGE_SUBJECT", &caller.subject),
        ("MCP_BRIDGE_EMAIL", &caller.email),
        ("MCP_BRIDGE_CLIENT_ID", &caller.client_id),
    ] {
        // A variable cannot hold a NUL; such a name is nobody's.
        variables.extend(value.as_ref().filter(|value| !value.contains('\0')).map(|value| (name, value.clone())));
    }
    variables
}
