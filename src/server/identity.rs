//! What does not change while the program runs: who the server is and what it offers.

use std::sync::{Arc, LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rmcp::model::{
    CacheScope, DiscoverResult, Icon, Implementation, InitializeResult, ListToolsResult, MetaObject, ProtocolVersion,
    ServerCapabilities, Tool, ToolAnnotations, ToolsCapability,
};
use serde_json::{json, value::RawValue};

use super::{Era, MODERN_VERSION, TOOL_NAME};
use crate::calculator::Operation;

const TITLE: &str = "Calculator";
const DESCRIPTION: &str = "Adds, subtracts, multiplies and divides numbers in double precision";
const TOOL_DESCRIPTION: &str = "Perform basic math operations";
const INSTRUCTIONS: &str = "Use the `calculator` tool instead of calculating yourself. Each call does one operation \
     on two numbers; chain calls for longer expressions. Numbers are IEEE 754 doubles, so 0.1 + 0.2 is \
     0.30000000000000004; round for display where that matters.";

// What is advertised changes only with the program itself, so an hour costs nobody anything; it is
// the example of the specification, too (server/discover, 2026-07-28).
const TTL_MS: u64 = 3_600_000;

/// The key under which a modern result names its server.
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

static INITIALIZE: LazyLock<InitializeResult> = LazyLock::new(|| {
    InitializeResult::new(capabilities()).with_server_info(implementation()).with_instructions(INSTRUCTIONS)
});

static DISCOVER: LazyLock<DiscoverResult> = LazyLock::new(|| {
    // Modern versions only, as the TypeScript SDK's servers have it: a client takes one of these
    // for its next request's `_meta`, where a legacy version has no meaning.
    let versions = vec![ProtocolVersion::V_2026_07_28];
    let mut result = DiscoverResult::new(versions, capabilities())
        .with_ttl_ms(TTL_MS)
        .with_cache_scope(CacheScope::Public)
        .with_server_info(implementation());
    result.instructions = Some(INSTRUCTIONS.to_owned());
    result
});

static LEGACY_TOOLS: LazyLock<ListToolsResult> = LazyLock::new(|| {
    let mut result = ListToolsResult::with_all_items(vec![tool()]);
    result.result_type = None;
    result
});

static MODERN_TOOLS: LazyLock<ListToolsResult> = LazyLock::new(|| {
    let mut result =
        ListToolsResult::with_all_items(vec![tool()]).with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public);
    result.meta = Some(RESULT_META.clone());
    result
});

/// `_meta` of modern results: the server's name without its icon, because it is in every answer.
pub(super) static RESULT_META: LazyLock<MetaObject> = LazyLock::new(|| {
    let mut meta = MetaObject::default();
    meta.insert(SERVER_INFO.to_owned(), json!({ "name": TITLE, "title": TITLE, "version": env!("CARGO_PKG_VERSION") }));
    meta
});

/// [`RESULT_META`] as JSON text.
pub(super) static RESULT_META_JSON: LazyLock<Box<RawValue>> =
    LazyLock::new(|| serde_json::value::to_raw_value(&*RESULT_META).expect("a map with text keys always serialises"));

/// The answer to `initialize` (legacy era).
///
/// A legacy version that we know is agreed to; to any other the newest legacy version is offered,
/// as the handshake asks.
pub fn initialize(requested_version: &str) -> InitializeResult {
    let agreed = ProtocolVersion::KNOWN_VERSIONS
        .iter()
        .find(|version| version.as_str() == requested_version && version.has_initialize())
        .cloned()
        .unwrap_or(ProtocolVersion::LATEST_WITH_INITIALIZE);
    INITIALIZE.clone().with_protocol_version(agreed)
}

/// The answer to `server/discover` (modern era).
pub fn discover() -> &'static DiscoverResult {
    debug_assert_eq!(DISCOVER.supported_versions[0].as_str(), MODERN_VERSION);
    &DISCOVER
}

/// The answer to `tools/list`: one tool, one page.
pub fn list_tools(era: Era) -> &'static ListToolsResult {
    match era {
        Era::Legacy => &LEGACY_TOOLS,
        Era::Modern => &MODERN_TOOLS,
    }
}

fn capabilities() -> ServerCapabilities {
    let mut capabilities = ServerCapabilities::default();
    capabilities.tools = Some(ToolsCapability::default());
    capabilities
}

fn implementation() -> Implementation {
    Implementation::new(TITLE, env!("CARGO_PKG_VERSION"))
        .with_title(TITLE)
        .with_description(DESCRIPTION)
        .with_icons(vec![icon()])
}

fn icon() -> Icon {
    let svg = include_str!("icon.svg").trim_end();
    Icon::new(format!("data:image/svg+xml;base64,{}", STANDARD.encode(svg)))
        .with_mime_type("image/svg+xml")
        .with_sizes(vec!["any".to_owned()])
}

fn tool() -> Tool {
    let schema = rmcp::object!({
        "type": "object",
        "properties": {
            "operation": {
                "type": "string",
                "enum": Operation::ALL.map(Operation::as_str),
                "description": "What to do with a and b: a + b, a - b, a * b or a / b",
            },
            "a": { "type": "number", "description": "The first number" },
            "b": { "type": "number", "description": "The second number; not 0 when dividing" },
        },
        "required": ["operation", "a", "b"],
        "additionalProperties": false,
    });
    // The title is in both places because clients of 2025-03-26 know the annotation only.
    let annotations =
        ToolAnnotations::with_title(TITLE).read_only(true).destructive(false).idempotent(true).open_world(false);
    Tool::new(TOOL_NAME, TOOL_DESCRIPTION, Arc::new(schema))
        .with_title(TITLE)
        .with_annotations(annotations)
        .with_icons(vec![icon()])
}
