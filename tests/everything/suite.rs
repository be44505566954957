//! The conformance suite's tools that need nothing from the client.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    content::{WAV, embedded, image, text},
    server::{Call, Change},
    tools::{Tool, contents, fail, say, schema},
    wire::Outcome,
};

/// Between the steps of a tool that reports them.
const STEP: Duration = Duration::from_millis(50);

pub(crate) const TOOLS: &[Tool] = &[
    Tool::new("test_simple_text", "One text", |_| say("This is a simple text response for testing.")),
    Tool::new("test_image_content", "One image", |_| contents(json!([image()]))),
    Tool::new("test_audio_content", "One sound", |_| {
        contents(json!([{ "type": "audio", "data": WAV, "mimeType": "audio/wav" }]))
    }),
    Tool::new("test_embedded_resource", "One embedded resource", |_| {
        let inner = "This is an embedded resource content.";
        contents(json!([embedded("test://embedded-resource", "text/plain", inner)]))
    }),
    Tool::new("test_multiple_content_types", "Text, image and resource", |_| {
        let inner = r#"{"test":"data","value":123}"#;
        let resource = embedded("test://mixed-content-resource", "application/json", inner);
        contents(json!([text("Multiple content types test:"), image(), resource]))
    }),
    Tool::new("test_tool_with_logging", "Sends three log messages", logging),
    Tool::new("test_logging_tool", "Sends three log messages", logging),
    Tool::new("test_tool_with_progress", "Reports 0, 50 and 100 of 100", progress),
    Tool::new("test_error_handling", "Always fails", |_| fail("This tool intentionally returns an error for testing")),
    Tool::new("test_reconnection", "Answers after 300 ms, in which a stream may be closed and resumed", |call| {
        call.pause(Duration::from_millis(300))?;
        say("Reconnection test completed successfully.")
    }),
    Tool::new("json_schema_2020_12_tool", "Has a schema with keywords that are easily lost", |_| say("Accepted."))
        .takes(json_schema),
    Tool::new("test_x_mcp_header", "Has arguments that are headers too", |call| {
        say(&format!("region={}", call.argument::<String>("region").unwrap_or_default()))
    })
    .takes(|| {
        schema(
            json!({
                "region": { "type": "string", "x-mcp-header": "Region" },
                "priority": { "type": "integer", "x-mcp-header": "Priority" },
                "urgent": { "type": "boolean", "x-mcp-header": "Urgent" },
                "note": { "type": "string" },
            }),
            &[],
        )
    }),
    Tool::new("test_trigger_tool_change", "Makes the tool `appeared` come or go", |call| {
        toggle(call, &call.server.more_tools, Change::Tools)
    }),
    Tool::new("test_trigger_prompt_change", "Makes the prompt `appeared` come or go", |call| {
        toggle(call, &call.server.more_prompts, Change::Prompts)
    }),
];

fn logging(call: &Call) -> Outcome {
    call.log("info", "Tool execution started");
    call.pause(STEP)?;
    call.log("info", "Tool processing data");
    call.pause(STEP)?;
    call.log("info", "Tool execution completed");
    say("Tool with logging executed successfully")
}

fn progress(call: &Call) -> Outcome {
    call.progress(0, 100);
    call.pause(STEP)?;
    call.progress(50, 100);
    call.pause(STEP)?;
    call.progress(100, 100);
    say("Tool with progress executed successfully")
}

fn toggle(call: &Call, more: &AtomicBool, change: Change<'_>) -> Outcome {
    more.fetch_xor(true, SeqCst);
    say(&format!("notifications: {}", call.server.changed(change)))
}

fn json_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })
}
