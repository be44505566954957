//! Prompts, resources and completions: the same in both eras.

use std::{collections::BTreeMap, sync::atomic::Ordering::SeqCst};

use serde_json::{Value, json};

use crate::{
    server::Server,
    wire::{Failure, Object, field},
};

/// One red pixel.
pub(crate) const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC";

/// Two samples of silence.
pub(crate) const WAV: &str = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQIAAACAgA==";

/// Nobody can subscribe to it.
pub(crate) const UNWATCHED: &str = "test://static-text";

pub(crate) fn prompts(server: &Server) -> Value {
    let argument = |name: &str| json!({ "name": name, "description": "A test argument", "required": true });
    let mut prompts = vec![
        json!({ "name": "test_simple_prompt", "description": "One text" }),
        json!({ "name": "test_prompt_with_arguments", "description": "A text with both arguments in it",
            "arguments": [argument("arg1"), argument("arg2")] }),
        json!({ "name": "test_prompt_with_embedded_resource", "description": "A resource and a text",
            "arguments": [argument("resourceUri")] }),
        json!({ "name": "test_prompt_with_image", "description": "An image and a text" }),
        json!({ "name": crate::rounds::PROMPT, "description": "Asks for its context first" }),
    ];
    if server.more_prompts.load(SeqCst) {
        prompts.push(json!({ "name": "appeared", "description": "Comes and goes with test_trigger_prompt_change" }));
    }
    Value::from(prompts)
}

/// The result of `prompts/get`.
pub(crate) fn prompt(server: &Server, params: &Object) -> Result<Value, Failure> {
    let name: String = field(params, "name").ok_or_else(|| Failure::error(-32602, "params.name must be a string"))?;
    let arguments: BTreeMap<String, String> = match params.contains_key("arguments") {
        true => field(params, "arguments").ok_or_else(|| Failure::error(-32602, "arguments must be strings"))?,
        false => BTreeMap::new(),
    };
    let argument = |name: &str| {
        let missing = || Failure::error(-32602, &format!("the argument {name} is missing"));
        arguments.get(name).ok_or_else(missing)
    };
    let contents = match name.as_str() {
        "test_simple_prompt" => vec![text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => {
            let (one, two) = (argument("arg1")?, argument("arg2")?);
            vec![text(&format!("Prompt with arguments: arg1='{one}', arg2='{two}'"))]
        }
        "test_prompt_with_embedded_resource" => {
            let uri = argument("resourceUri")?;
            let inner = "Embedded resource content for testing.";
            vec![embedded(uri, "text/plain", inner), text("Please process the embedded resource above.")]
        }
        "test_prompt_with_image" => vec![image(), text("Please analyze the image above.")],
        "appeared" if server.more_prompts.load(SeqCst) => vec![text("Here for now.")],
        _ => return Err(Failure::error(-32602, &format!("unknown prompt: {name}"))),
    };
    let messages: Vec<Value> = contents.iter().map(|content| json!({ "role": "user", "content": content })).collect();
    Ok(json!({ "messages": messages }))
}

pub(crate) fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

pub(crate) fn image() -> Value {
    json!({ "type": "image", "data": PNG, "mimeType": "image/png" })
}

pub(crate) fn embedded(uri: &str, mime_type: &str, text: &str) -> Value {
    json!({ "type": "resource", "resource": { "uri": uri, "mimeType": mime_type, "text": text } })
}

pub(crate) fn resources() -> Value {
    json!([
        { "uri": "test://static-text", "name": "static-text", "description": "A text", "mimeType": "text/plain" },
        { "uri": "test://static-binary", "name": "static-binary", "description": "An image",
          "mimeType": "image/png" },
        { "uri": "test://watched-resource", "name": "watched-resource",
          "description": "Something to subscribe to; the tool touch says that it changed", "mimeType": "text/plain" },
    ])
}

pub(crate) fn templates() -> Value {
    json!([{ "uriTemplate": "test://template/{id}/data", "name": "template", "description": "Data by number",
             "mimeType": "application/json" }])
}

/// The contents of a resource, if there is one.
pub(crate) fn read(uri: &str) -> Option<Value> {
    let text = |text: &str| json!([{ "uri": uri, "mimeType": "text/plain", "text": text }]);
    match uri {
        "test://static-text" => Some(text("This is the content of the static text resource.")),
        "test://static-binary" => Some(json!([{ "uri": uri, "mimeType": "image/png", "blob": PNG }])),
        "test://watched-resource" => Some(text("Watched resource content")),
        _ => {
            let id = uri.strip_prefix("test://template/")?.strip_suffix("/data")?;
            let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            Some(json!([{ "uri": uri, "mimeType": "application/json", "text": data.to_string() }]))
        }
    }
}

/// The result of `completion/complete`.
pub(crate) fn complete(params: &Object) -> Result<Value, Failure> {
    let parts: Option<(Value, Value)> = field(params, "ref").zip(field(params, "argument"));
    let (reference, argument) =
        parts.ok_or_else(|| Failure::error(-32602, "params.ref and params.argument are needed"))?;
    let known = match (reference["type"].as_str(), reference["name"].as_str(), reference["uri"].as_str()) {
        (Some("ref/prompt"), Some("test_prompt_with_arguments"), _) => &["paris", "park", "party", "test"][..],
        (Some("ref/resource"), _, Some("test://template/{id}/data")) => &["123", "456"],
        _ => return Err(Failure::error(-32602, "nothing is known by that reference")),
    };
    let begun = argument["value"].as_str().unwrap_or_default();
    let values: Vec<&&str> = known.iter().filter(|value| value.starts_with(begun)).collect();
    Ok(json!({ "completion": { "values": values, "total": values.len(), "hasMore": false } }))
}
