//! `server.json`: what the registry of MCP servers is told of the calculator.
//!
//! The container image is not in it: it starts the bridge.

use clap::ValueEnum as _;
use serde_json::json;

use super::{Files, VERSION};
use crate::dist::{
    REPOSITORY, Target, pypi,
    registry::{CALCULATOR, address, mcp_name},
};

const SCHEMA: &str = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json";

/// The text of `server.json`.
pub(super) fn describe(files: &Files) -> anyhow::Result<String> {
    let stdio = json!({ "type": "stdio" });
    let mut packages = vec![
        json!({
            "registryType": "npm",
            "identifier": "mcp-calculator",
            "version": VERSION,
            "runtimeHint": "npx",
            "transport": stdio,
        }),
        json!({
            "registryType": "pypi",
            "identifier": "mcp-calculator",
            "version": pypi::version(VERSION)?,
            "runtimeHint": "uvx",
            "transport": stdio,
        }),
    ];
    for &target in Target::value_variants() {
        let bundle = bundle(target);
        packages.push(json!({
            "registryType": "mcpb",
            "identifier": address(VERSION, &bundle),
            "fileSha256": files.checksum(&bundle)?,
            "transport": stdio,
        }));
    }
    let server = json!({
        "$schema": SCHEMA,
        "name": mcp_name()?,
        "title": "Calculator",
        "description": CALCULATOR,
        "version": VERSION,
        "websiteUrl": REPOSITORY,
        "repository": { "url": REPOSITORY, "source": "github" },
        "packages": packages,
    });
    Ok(format!("{server:#}\n"))
}

/// The name of the calculator's bundle for `target`.
pub(super) fn bundle(target: Target) -> String {
    format!("mcp-calculator-{VERSION}-{target}.mcpb")
}
