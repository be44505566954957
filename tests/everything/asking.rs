//! The tools with which the suite's legacy scenarios ask the client, in either era's way.

use serde_json::{Value, json};

use crate::{
    rounds::{roots, round, sample, words},
    server::Call,
    tools::{Tool, schema},
    wire::Outcome,
};

pub(crate) const TOOLS: &[Tool] = &[
    Tool::new("test_sampling", "Asks the client's model", |call| {
        let prompt: String = call.argument("prompt").unwrap_or_default();
        let questions = [("answer", sample(&prompt, 100))];
        round(call, &questions, None, |inputs| format!("LLM response: {}", words(&inputs[0]["content"]["text"])))
    })
    .takes(|| schema(json!({ "prompt": { "type": "string" } }), &["prompt"])),
    Tool::new("test_elicitation", "Asks the user for a name and an address", |call| {
        let properties = json!({
            "username": { "type": "string", "description": "User's response" },
            "email": { "type": "string", "description": "User's email address" },
        });
        let message: String = call.argument("message").unwrap_or_default();
        elicit(call, &message, &schema(properties, &["username", "email"]), "User response:")
    })
    .takes(|| schema(json!({ "message": { "type": "string" } }), &["message"])),
    Tool::new("test_elicitation_sep1034_defaults", "Asks the user, with defaults of every type", |call| {
        let message = "Please review and update the form fields with defaults";
        elicit(call, message, &defaults(), "Elicitation completed:")
    }),
    Tool::new("test_elicitation_sep1330_enums", "Asks the user, with enumerations of every kind", |call| {
        elicit(call, "Please select options from the enum fields", &enumerations(), "Elicitation completed:")
    }),
    Tool::new("test_list_roots", "Asks for the client's roots", |call| {
        round(call, &[("roots", roots())], None, |inputs| format!("Roots: {}", inputs[0]["roots"]))
    }),
];

fn elicit(call: &Call, message: &str, schema: &Value, prefix: &str) -> Outcome {
    let params = json!({ "message": message, "requestedSchema": schema });
    let questions = [("form", json!({ "method": "elicitation/create", "params": params }))];
    round(call, &questions, None, |inputs| {
        format!("{prefix} action={}, content={}", words(&inputs[0]["action"]), inputs[0]["content"])
    })
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
