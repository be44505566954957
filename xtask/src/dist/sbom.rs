//! What the programs are made of, as CycloneDX documents: one for each program and kind of processor.
//!
//! `cargo-cyclonedx` writes them; it is installed into `target/tools` when it is missing. What depends on
//! this machine, the path of the repository, is taken out.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::{Release, put, run};

/// The version of the tool that is installed.
const TOOL_VERSION: &str = "0.5.9";

/// The newest revision of CycloneDX that the tool writes.
const SPEC_VERSION: &str = "1.5";

/// Where the tool puts its documents, by program: beside each manifest of the workspace.
const WRITTEN: [(&str, &str); 2] =
    [("mcp-bridge", "bridge/mcp-bridge_bin.cdx.json"), ("mcp-calculator", "mcp-calculator_bin.cdx.json")];

/// The chores have a manifest, too, and are not shipped.
const NOT_SHIPPED: &str = "xtask/xtask_bin.cdx.json";

/// `PROGRAM-VERSION-TRIPLE.cdx.json` for both programs.
pub(super) fn make(release: &Release) -> anyhow::Result<Vec<PathBuf>> {
    let tool = tool(&release.root)?;
    let mut made = Vec::new();
    for triple in release.target.triples() {
        let written = write(release, &tool, triple);
        // Whatever there is, also of a run that failed, does not stay among the source.
        let texts = WRITTEN.map(|(program, file)| (program, take(&release.root.join(file))));
        let _ = take(&release.root.join(NOT_SHIPPED));
        written?;
        for (program, text) in texts {
            let text = text.with_context(|| format!("cargo-cyclonedx wrote nothing about {program}"))?;
            let path = release.output.join(format!("{program}-{}-{triple}.cdx.json", release.version));
            put(&path, &portable(&text, &release.root)?, 0o644, release.epoch)?;
            made.push(path);
        }
    }
    Ok(made)
}

fn write(release: &Release, tool: &Path, triple: &str) -> anyhow::Result<()> {
    let mut command = Command::new(tool);
    command
        .current_dir(&release.root)
        .args(["cyclonedx", "--quiet", "--format", "json", "--spec-version", SPEC_VERSION])
        .args(["--describe", "binaries", "--no-build-deps", "--target", triple])
        .env("SOURCE_DATE_EPOCH", release.epoch.to_string());
    run(&mut command, "it has just been installed")
}

/// Reads a file and removes it.
fn take(path: &Path) -> std::io::Result<String> {
    let text = fs::read_to_string(path)?;
    fs::remove_file(path)?;
    Ok(text)
}

/// `text` without the path of the repository at `root`.
fn portable(text: &str, root: &Path) -> anyhow::Result<Vec<u8>> {
    let root = root.to_str().context("the path of the repository is not Unicode")?;
    let text = text.replace(&format!("path+file://{root}"), "path+file:///source");
    ensure!(!text.contains(root), "the path of the repository is in a document");
    Ok(text.into_bytes())
}

/// The tool, installed if it is not there in the right version.
fn tool(root: &Path) -> anyhow::Result<PathBuf> {
    let tools = root.join("target").join("tools");
    let tool = tools.join("bin").join(format!("cargo-cyclonedx{}", std::env::consts::EXE_SUFFIX));
    let version = Command::new(&tool).args(["cyclonedx", "--version"]).output();
    let is_right = |output: std::process::Output| {
        String::from_utf8_lossy(&output.stdout).split_whitespace().any(|word| word == TOOL_VERSION)
    };
    if !version.is_ok_and(is_right) {
        // Unoptimised: it is built more often than it is waited for.
        let mut install = crate::cargo();
        install
            .args(["install", "--quiet", "--locked", "--debug", "--force", "--root"])
            .arg(&tools)
            .arg(format!("cargo-cyclonedx@{TOOL_VERSION}"));
        run(&mut install, "install Rust with rustup").context("cannot install cargo-cyclonedx")?;
    }
    Ok(tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_the_machine_stays() {
        let root = Path::new("/home/u/bridge");
        let portable = |text| portable(text, root).map(|text| String::from_utf8(text).expect("text"));
        assert_eq!(
            portable(r#"{"bom-ref":"path+file:///home/u/bridge/bridge#mcp-bridge@1.0.0"}"#).expect("portable"),
            r#"{"bom-ref":"path+file:///source/bridge#mcp-bridge@1.0.0"}"#
        );
        assert!(portable(r#"{"url":"file:///home/u/bridge"}"#).is_err());
    }
}
