//! What a server asks its client during a request: requests of its own in the legacy era, an
//! `input_required` result and a retry in the modern one ("Multi Round-Trip Requests").

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::capabilities::declares;
use crate::{
    edit::{Edit, is_absent},
    message::{Object, Params, quoted, text},
};

/// One question of a server's.
#[derive(Clone, Copy, Debug)]
pub struct InputRequest<'a> {
    /// The name under which the answer comes back; each of a result's once.
    pub key: &'a str,
    /// `elicitation/create`, `sampling/createMessage` or `roots/list`.
    pub method: &'a str,
    /// The parameters, as JSON text in the modern shape ([`modern_question`]).
    pub params: Option<&'a str>,
}

/// Whether a client can be asked during a request for `method` ("Supported Requests").
pub fn may_ask(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}

/// Whether a client with these capabilities can be asked this.
pub fn can_be_asked(method: &str, params: Option<&str>, capabilities: &str) -> bool {
    let declared = |path: &[&str]| declares(capabilities, path);
    let params = params.and_then(Edit::parse).unwrap_or_default();
    let says = |key: &str| !is_absent(params.get(key));
    match method {
        "roots/list" => declared(&["roots"]),
        "sampling/createMessage" if says("tools") || says("toolChoice") => declared(&["sampling", "tools"]),
        "sampling/createMessage" => declared(&["sampling"]),
        "elicitation/create" if params.get("mode") == Some(r#""url""#) => declared(&["elicitation", "url"]),
        // Clients from before there were modes say `{}` and mean forms.
        "elicitation/create" => {
            declared(&["elicitation", "form"]) || declared(&["elicitation"]) && !declared(&["elicitation", "url"])
        }
        _ => false,
    }
}

/// The parameters of a legacy server's question in the modern shape: without `elicitationId`, `task`
/// and a token for progress, none of which a modern client can use. `None` without parameters.
pub fn modern_question(params: Option<&str>) -> Option<String> {
    let mut edit = Edit::parse(params?)?;
    edit.remove("elicitationId").remove("task").meta_remove("progressToken");
    Some(edit.to_json())
}

/// The result that asks a modern client. `state` is text that the client gives back unchanged; one
/// of the two must be there.
pub fn input_required(requests: &[InputRequest<'_>], state: Option<&str>) -> String {
    let mut result = Edit::default();
    result.set("resultType", r#""input_required""#);
    if !requests.is_empty() {
        let mut questions = Edit::default();
        for InputRequest { key, method, params } in requests {
            let params = params.map(|params| format!(r#","params":{params}"#)).unwrap_or_default();
            questions.set(*key, format!(r#"{{"method":{}{params}}}"#, quoted(method)));
        }
        result.set("inputRequests", questions.to_json());
    }
    if let Some(state) = state {
        result.set("requestState", quoted(state));
    }
    result.to_json()
}

/// A modern client's answer to the question `key`: the result that a legacy client would have sent.
pub fn input_response<'p>(params: &Params<'p>, key: &str) -> Option<&'p RawValue> {
    let responses: Object<'p> = serde_json::from_str(params.members.get("inputResponses")?.get()).ok()?;
    responses.get(key).filter(|response| response.get().starts_with('{'))
}

/// The state that a modern client gives back. Whoever reads it has to check it: the client may have
/// made it up.
pub fn request_state<'p>(params: &Params<'p>) -> Option<Cow<'p, str>> {
    params.members.get("requestState").and_then(text)
}

/// The answer that stands for a legacy client's refusal to answer, if a modern server can be told:
/// `inputResponses` has no errors, but who was to fill in a form can dismiss it.
pub fn refusal(method: &str) -> Option<&'static str> {
    (method == "elicitation/create").then_some(r#"{"action":"cancel"}"#)
}

/// What a modern server asks.
#[derive(Debug, Default)]
pub struct Asked<'a> {
    /// The questions; none if the request is only to be sent again.
    pub requests: Vec<Question<'a>>,
    /// The state that has to be given back, as JSON text.
    pub state: Option<&'a RawValue>,
}

/// One question of a modern server's.
#[derive(Debug)]
pub struct Question<'a> {
    /// The name under which the answer goes back.
    pub key: Cow<'a, str>,
    /// The method.
    pub method: Cow<'a, str>,
    /// The parameters.
    pub params: Option<&'a RawValue>,
}

/// An `input_required` result that asks for nothing, or not in the way it has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server needs input and does not say which")]
pub struct AskedNothing;

/// What `result` asks for; `None` if it is of another kind.
///
/// # Errors
/// [`AskedNothing`], because to send such a request again would be a loop.
pub fn asked(result: &str) -> Result<Option<Asked<'_>>, AskedNothing> {
    // Almost no result asks. One that hides the word behind escapes is refused as a final result.
    if !result.contains("input_required") {
        return Ok(None);
    }
    let Ok(result) = serde_json::from_str::<Object<'_>>(result) else {
        return Ok(None);
    };
    if result.get("resultType").and_then(text).as_deref() != Some("input_required") {
        return Ok(None);
    }
    let state = result.get("requestState").filter(|state| state.get().starts_with('"'));
    let requests = match result.get("inputRequests") {
        Some(requests) => questions(requests).ok_or(AskedNothing)?,
        None => Vec::new(),
    };
    if requests.is_empty() && state.is_none() {
        return Err(AskedNothing);
    }
    Ok(Some(Asked { requests, state }))
}

fn questions(requests: &RawValue) -> Option<Vec<Question<'_>>> {
    let requests: Object<'_> = serde_json::from_str(requests.get()).ok()?;
    requests.into_iter().map(|(key, request)| question(key, request)).collect()
}

fn question<'a>(key: Cow<'a, str>, request: &'a RawValue) -> Option<Question<'a>> {
    let request: Object<'a> = serde_json::from_str(request.get()).ok()?;
    let method = request.get("method").and_then(text)?;
    let params = request.get("params").filter(|params| params.get() != "null");
    Some(Question { key, method, params })
}

/// The parameters of the retry: those of the request as a modern server got it, with the answers
/// (name and JSON text) and the state (JSON text) of this round and of no earlier one.
pub fn retry_params(original: &str, responses: &[(String, String)], state: Option<&str>) -> String {
    // We have written the original ourselves, so it is an object.
    let mut edit = Edit::parse(original).unwrap_or_default();
    edit.remove("inputResponses").remove("requestState");
    if !responses.is_empty() {
        let mut answers = Edit::default();
        for (key, response) in responses {
            answers.set(key.as_str(), response.as_str());
        }
        edit.set("inputResponses", answers.to_json());
    }
    if let Some(state) = state {
        edit.set("requestState", state);
    }
    edit.to_json()
}

/// A modern server's question as the request that a legacy client gets, the whole message.
///
/// Questions of mode `url` need an `elicitationId` in the legacy era: it is made of `id`, which the
/// session has given to nothing else.
pub fn request_message(id: u64, method: &str, params: Option<&str>) -> String {
    let mut edit = params.and_then(Edit::parse).unwrap_or_default();
    if method == "elicitation/create" && edit.get("mode") == Some(r#""url""#) {
        edit.set_default("elicitationId", format!(r#""mcp-bridge-{id}""#));
    }
    let params = if edit.keys().next().is_some() { format!(r#","params":{}"#, edit.to_json()) } else { String::new() };
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{}{params}}}"#, quoted(method))
}

#[cfg(test)]
mod tests;
