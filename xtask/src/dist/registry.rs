//! What the packages of npm and PyPI and the manifests have in common: what a program says of itself, where a
//! release is, and what the registry of MCP servers calls the calculator.

use std::path::Path;

use anyhow::Context as _;

use super::{REPOSITORY, Release};

/// The bridge in one line.
pub(super) const BRIDGE: &str = "Puts any stdio MCP server on the network as an OAuth 2.1-protected endpoint";
/// The calculator in one line.
pub(super) const CALCULATOR: &str = "A calculator as an MCP server over stdio";

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
                description: BRIDGE,
                keywords: &["mcp", "model-context-protocol", "oauth", "proxy", "bridge"],
            },
            Self {
                name: "mcp-calculator",
                file: &release.binaries.calculator,
                description: CALCULATOR,
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
            .replace("MCP_NAME", &mcp_name()?)
            .replace("REPOSITORY", REPOSITORY))
    }
}

/// Whose the repository is, at GitHub.
pub(super) fn owner() -> anyhow::Result<&'static str> {
    let path = REPOSITORY.strip_prefix("https://github.com/").and_then(|path| path.split_once('/'));
    path.map(|(owner, _)| owner).with_context(|| format!("{REPOSITORY} is not at GitHub; change Cargo.toml"))
}

/// What the registry of MCP servers calls the calculator. It looks for this in the packages of npm and PyPI, to
/// see that they belong to who registers it.
pub(super) fn mcp_name() -> anyhow::Result<String> {
    Ok(format!("io.github.{}/mcp-calculator", owner()?))
}

/// Where `file` of the release `version` is downloaded from; the scripts in `installers` say the same.
pub(super) fn address(version: &str, file: &str) -> String {
    format!("{REPOSITORY}/releases/download/v{version}/{file}")
}
