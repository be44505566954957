//! Legacy tools that send a request to the client, and wait for its answer.

use serde_json::{Value, json};

use crate::{
    server::{Call, Era},
    tools::{Tool, fail, say, schema},
    wire::Outcome,
};

pub(crate) const TOOLS: &[Tool] = &[
    Tool::new("test_sampling", "Asks the client's model", sampling)
        .takes(|| schema(json!({ "prompt": { "type": "string" } }), &["prompt"]))
        .only(Era::Legacy),
    Tool::new("test_elicitation", "Asks the user for a name and an address", |call| {
        let properties = json!({
            "username": { "type": "string", "description": "User's response" },
            "email": { "type": "string", "description": "User's email address" },
        });
        let message: String = call.argument("message").unwrap_or_default();
        elicit(call, &message, &schema(properties, &["username", "email"]), "User response:")
    })
    .takes(|| schema(json!({ "message": { "type": "string" } }), &["message"]))
    .only(Era::Legacy),
    Tool::new("test_elicitation_sep1034_defaults", "Asks the user, with defaults of every type", |call| {
        let message = "Please review and update the form fields with defaults";
        elicit(call, message, &defaults(), "Elicitation completed:")
    })
    .only(Era::Legacy),
    Tool::new("test_elicitation_sep1330_enums", "Asks the user, with enumerations of every kind", |call| {
        elicit(call, "Please select options from the enum fields", &enumerations(), "Elicitation completed:")
    })
    .only(Era::Legacy),
    Tool::new("test_list_roots", "Asks for the client's roots", |call| {
        ask(call, "roots", "roots/list", &json!({}), |roots| format!("Roots: {}", roots["roots"]))
    })
    .only(Era::Legacy),
];

fn sampling(call: &Call) -> Outcome {
    let prompt: String = call.argument("prompt").unwrap_or_default();
    let params = json!({
        "messages": [{ "role": "user", "content": { "type": "text", "text": prompt } }],
        "maxTokens": 100,
    });
    ask(call, "sampling", "sampling/createMessage", &params, |answer| {
        format!("LLM response: {}", answer["content"]["text"].as_str().unwrap_or_default())
    })
}

fn elicit(call: &Call, message: &str, schema: &Value, prefix: &str) -> Outcome {
    let params = json!({ "message": message, "requestedSchema": schema });
    ask(call, "elicitation", "elicitation/create", &params, |answer| {
        let action = answer["action"].as_str().unwrap_or_default();
        format!("{prefix} action={action}, content={}", answer["content"])
    })
}

/// Asks, and says the answer in the words of `put`.
fn ask(call: &Call, capability: &str, method: &str, params: &Value, put: impl Fn(&Value) -> String) -> Outcome {
    if !call.client_can(capability) {
        return fail(&format!("the client did not declare the capability {capability}"));
    }
    match call.ask(method, params)? {
        Ok(answer) => say(&put(&answer)),
        Err(error) => fail(&format!("the client refused: {error}")),
    }
}

fn defaults() -> Value {
    let properties = json!({
        "name": { "type": "string", "default": "John Doe" },
        "age": { "type": "integer", "default": 30 },
        "score": { "type": "number", "default": 95.5 },
        "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
        "verified": { "type": "boolean", "default": true },
    });
    schema(properties, &[])
}

fn enumerations() -> Value {
    let plain = ["option1", "option2", "option3"];
    let titled = |word: &str| {
        json!([
            { "const": "value1", "title": format!("First {word}") },
            { "const": "value2", "title": format!("Second {word}") },
            { "const": "value3", "title": format!("Third {word}") },
        ])
    };
    let properties = json!({
        "untitledSingle": { "type": "string", "enum": plain },
        "titledSingle": { "type": "string", "oneOf": titled("Option") },
        "legacyEnum": { "type": "string", "enum": ["opt1", "opt2", "opt3"],
                        "enumNames": ["Option One", "Option Two", "Option Three"] },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": plain } },
        "titledMulti": { "type": "array", "items": { "anyOf": titled("Choice") } },
    });
    schema(properties, &[])
}
