//! Which tools there are, and what makes one.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};

use crate::{
    asking,
    content::text,
    own, rounds,
    server::{Call, Server},
    suite,
    wire::{Outcome, Reply},
};

/// A tool, alike in both eras.
pub(crate) struct Tool {
    name: &'static str,
    description: &'static str,
    schema: fn() -> Value,
    pub(crate) run: fn(&Call) -> Outcome,
}

impl Tool {
    /// A tool without arguments.
    pub(crate) const fn new(name: &'static str, description: &'static str, run: fn(&Call) -> Outcome) -> Self {
        Self { name, description, schema: || schema(json!({}), &[]), run }
    }

    pub(crate) const fn takes(self, schema: fn() -> Value) -> Self {
        Self { schema, ..self }
    }
}

/// A schema of arguments.
pub(crate) fn schema(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

/// There while `more_tools` is set. It has a header, so that an old list of tools is noticed.
const APPEARED: Tool = Tool::new("appeared", "Comes and goes with test_trigger_tool_change", |_| say("Here for now."))
    .takes(|| schema(json!({ "place": { "type": "string", "x-mcp-header": "Place" } }), &[]));

fn all(server: &Server) -> impl Iterator<Item = &'static Tool> {
    let more: &[Tool] = if server.more_tools.load(SeqCst) { &[APPEARED] } else { &[] };
    // The suite takes the first tool and calls it without arguments.
    [suite::TOOLS, asking::TOOLS, rounds::TOOLS, own::TOOLS, more].into_iter().flatten()
}

pub(crate) fn list(server: &Server) -> Vec<Value> {
    let describe =
        |tool: &Tool| json!({ "name": tool.name, "description": tool.description, "inputSchema": (tool.schema)() });
    all(server).map(describe).collect()
}

pub(crate) fn find(server: &Server, name: &str) -> Option<&'static Tool> {
    all(server).find(|tool| tool.name == name)
}

/// A result of one text.
pub(crate) fn say(words: &str) -> Outcome {
    contents(json!([text(words)]))
}

pub(crate) fn contents(contents: Value) -> Outcome {
    Ok(Reply::Value(json!({ "content": contents })))
}

/// A failure that a model is to read.
pub(crate) fn fail(words: &str) -> Outcome {
    Ok(Reply::Value(json!({ "content": [text(words)], "isError": true })))
}
