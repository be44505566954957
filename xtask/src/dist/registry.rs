//! What the packages of npm and PyPI have in common: one per program, and what it says of itself.

use std::path::Path;

use super::{REPOSITORY, Release};

/// A program as registries show it.
pub(super) struct Program<'a> {
    pub(super) name: &'static str,
    pub(super) file: &'a Path,
    pub(super) description: &'static str,
    pub(super) keywords: &'static [&'static str],
}

/// How a registry's client starts a program.
pub(super) struct Start<'a> {
    pub(super) command: &'a str,
    pub(super) arguments: &'a [&'a str],
}

impl<'a> Program<'a> {
    pub(super) fn all(release: &'a Release) -> [Self; 2] {
        [
            Self {
                name: "mcp-bridge",
                file: &release.binaries.bridge,
                description: "Puts any stdio MCP server on the network as an OAuth 2.1-protected endpoint",
                keywords: &["mcp", "model-context-protocol", "oauth", "proxy", "bridge"],
            },
            Self {
                name: "mcp-calculator",
                file: &release.binaries.calculator,
                description: "A calculator as an MCP server over stdio",
                keywords: &["mcp", "model-context-protocol", "calculator"],
            },
        ]
    }

    /// The text that a registry shows: the one in `installers/registry`, for how it is started there.
    pub(super) fn readme(&self, release: &Release, start: &Start<'_>) -> anyhow::Result<String> {
        let text = release.read_text(&format!("installers/registry/{}.md", self.name))?;
        Ok(text
            .replace("\"COMMAND\"", &format!("\"{}\"", start.command))
            .replace("\"ARGUMENTS\"", &format!("\"{}\"", start.arguments.join("\", \"")))
            .replace("START", &format!("{} {}", start.command, start.arguments.join(" ")))
            .replace("REPOSITORY", REPOSITORY))
    }
}
