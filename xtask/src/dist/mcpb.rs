//! The calculator as a bundle for Claude Desktop: a zip with a manifest, opened with a double click.
//!
//! There is one per platform and processor, because a manifest can name no processor. It is not signed
//! inside: the signature would stand behind the end of the zip, where strict readers refuse it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{
    REPOSITORY, Release, Target,
    archive::{self, Entry},
    checksums, documents,
};

/// `mcp-calculator-VERSION-TARGET.mcpb`, and its checksum.
pub(super) fn make(release: &Release) -> anyhow::Result<Vec<PathBuf>> {
    let manifest = manifest(release)?;
    let executable = release.target.executable("mcp-calculator");
    let mut entries = vec![
        Entry::text("manifest.json", format!("{manifest:#}\n")),
        Entry::text("icon.png", release.read("installers/mcpb/icon.png")?),
        Entry::program(format!("server/{executable}"), &release.binaries.calculator)?,
    ];
    for text in ["LICENSE-APACHE", "LICENSE-MIT", "PRIVACY.md"] {
        entries.push(Entry::text(text, release.read(text)?));
    }
    let bundle = release.output.join(format!("mcp-calculator-{}-{}.mcpb", release.version, release.target));
    archive::zip(&bundle, &entries, release.epoch)?;
    let checksum = checksums::beside(&bundle)?;
    Ok(vec![bundle, checksum])
}

/// `installers/mcpb/manifest.json`, with what depends on the release and on what the program offers.
fn manifest(release: &Release) -> anyhow::Result<Value> {
    let path = release.root.join("installers/mcpb/manifest.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let platform = match release.target {
        Target::LinuxX64 | Target::LinuxArm64 => "linux",
        Target::Macos => "darwin",
        Target::WindowsX64 | Target::WindowsArm64 => "win32",
    };
    let text = text
        .replace("{repository}", REPOSITORY)
        .replace("{version}", &release.version)
        .replace("{platform}", platform)
        .replace("{executable}", &release.target.executable("mcp-calculator"));
    let mut manifest: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    manifest["tools"] = tools(&documents::runnable(release)?.calculator)?;
    Ok(manifest)
}

/// What `calculator` answers to `tools/list`, as far as a manifest has a place for it.
///
/// # Errors
/// A tool that the directory of bundles would refuse: without a title, a description, or a word on
/// whether it changes anything.
fn tools(calculator: &Path) -> anyhow::Result<Value> {
    let answer = ask(calculator)?;
    let tools = answer["result"]["tools"].as_array().with_context(|| format!("no list of tools: {answer}"))?;
    ensure!(!tools.is_empty(), "the calculator has no tools");
    let mut listed = Vec::new();
    for tool in tools {
        let is_complete = tool["title"].is_string()
            && tool["description"].is_string()
            && tool["annotations"]["readOnlyHint"].is_boolean();
        ensure!(is_complete, "a tool needs a title, a description and readOnlyHint: {tool}");
        listed.push(json!({ "name": tool["name"], "description": tool["description"] }));
    }
    Ok(listed.into())
}

/// Starts `calculator` as a client does, and returns its answer to `tools/list`.
fn ask(calculator: &Path) -> anyhow::Result<Value> {
    let requests = [
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "xtask", "version": "1" } } }),
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" }),
    ];
    let mut process = Command::new(calculator)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", calculator.display()))?;
    let mut input = process.stdin.take().context("the program has no input")?;
    for request in requests {
        writeln!(input, "{request}").context("the calculator does not read")?;
    }
    // The program answers what it has read, and ends with its input.
    drop(input);
    let output = process.wait_with_output().context("the calculator does not answer")?;
    ensure!(output.status.success(), "the calculator failed: {}", output.status);
    let answers = String::from_utf8(output.stdout).context("the calculator did not write text")?;
    answers
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|answer| answer["id"] == 2)
        .with_context(|| format!("the calculator did not answer tools/list: {answers}"))
}
