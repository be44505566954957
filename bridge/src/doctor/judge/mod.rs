//! What an answer means for the clients that people use. Pure: answers in, findings out.
//!
//! What clients do is from their vendors' documents and public issue threads (autumn 2026); what
//! servers must do is from MCP 2025-11-25 and 2026-07-28, and from the RFCs named beside the rule.

pub(super) mod cors;
pub(super) mod door;
pub(super) mod issuer;
pub(super) mod network;
pub(super) mod registration;
pub(super) mod resource;
pub(super) mod speech;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::{
    fetch::{Answer, Reply},
    walls,
    words::quoted,
};

/// The JSON object that a metadata document is, or why it is none.
type Read = Result<Map<String, Value>, String>;

fn document(reply: &Reply) -> Read {
    let answer = reply.as_ref().map_err(ToString::to_string)?;
    if let Some(wall) = walls::recognise(answer) {
        return Err(wall.what.to_owned());
    }
    if answer.status.is_redirection() {
        let target = answer.header(http::header::LOCATION).unwrap_or_default();
        return Err(format!("{} to {}, which careful clients do not follow", answer.status.as_u16(), quoted(target)));
    }
    if answer.status != http::StatusCode::OK {
        return Err(format!("it answers {}", answer.status));
    }
    match serde_json::from_slice(&answer.body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("it is JSON and no object".to_owned()),
        Err(_) => Err(not_json(answer)),
    }
}

/// What an answer is that should have been JSON.
fn not_json(answer: &Answer) -> String {
    match walls::page_title(answer) {
        Some(title) => format!("it is an HTML page titled {}", quoted(&title)),
        None => "it is not JSON".to_owned(),
    }
}

/// The strings of an array, if it is one.
fn strings(value: Option<&Value>) -> Option<Vec<String>> {
    let array = value?.as_array()?;
    Some(array.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}
