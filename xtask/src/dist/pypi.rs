//! Wheels for PyPI: `uvx mcp-calculator`, `pipx install mcp-bridge-server`.
//!
//! A wheel is a zip with the program as a script and a list of what is in it (PyPA, "Binary distribution
//! format"). It is written here because that is less than telling a build tool of Python about programs
//! that are built already. One per program and platform; there is no source distribution.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::{
    REPOSITORY, Release, Target,
    archive::{self, Entry},
    registry::{Program, Start},
};

/// The oldest Python whose pip knows the tags of all platforms.
const PYTHON: &str = ">=3.8";

/// What the package of a program is called there, where `mcp-bridge` is another project.
fn package(program: &str) -> &str {
    if program == "mcp-bridge" { "mcp-bridge-server" } else { program }
}

/// A wheel for each program.
pub(super) fn make(release: &Release) -> anyhow::Result<Vec<PathBuf>> {
    Program::all(release).iter().map(|program| wheel(release, program)).collect()
}

fn wheel(release: &Release, program: &Program<'_>) -> anyhow::Result<PathBuf> {
    let version = version(&release.version)?;
    let name = format!("{}-{version}", package(program.name).replace('-', "_"));
    let info = format!("{name}.dist-info");
    let platforms = platforms(release.target);
    let script = release.target.executable(program.name);
    let mut entries = vec![Entry::program(format!("{name}.data/scripts/{script}"), program.file)?];
    for text in ["LICENSE-APACHE", "LICENSE-MIT"] {
        entries.push(Entry::text(format!("{info}/licenses/{text}"), release.read(text)?));
    }
    entries.push(Entry::text(format!("{info}/METADATA"), metadata(release, program, &version)?));
    entries.push(Entry::text(format!("{info}/WHEEL"), tags(release, platforms)));
    let record = record(&entries, &info)?;
    entries.push(Entry::text(format!("{info}/RECORD"), record));
    let path = release.output.join(format!("{name}-py3-none-{}.whl", platforms.join(".")));
    archive::zip(&path, &entries, release.epoch)?;
    Ok(path)
}

fn metadata(release: &Release, program: &Program<'_>, version: &str) -> anyhow::Result<String> {
    let Program { name: script, description, keywords, .. } = program;
    let name = package(script);
    let from = ["--from", name, script];
    let arguments = if name == *script { &from[2..] } else { &from };
    let readme = program.readme(release, &Start { command: "uvx", arguments })?;
    Ok(format!(
        "Metadata-Version: 2.4\n\
         Name: {name}\n\
         Version: {version}\n\
         Summary: {description}\n\
         Keywords: {keywords}\n\
         Author: The mcp-calculator developers\n\
         License-Expression: MIT OR Apache-2.0\n\
         License-File: LICENSE-APACHE\n\
         License-File: LICENSE-MIT\n\
         Requires-Python: {PYTHON}\n\
         Project-URL: Source, {REPOSITORY}\n\
         Project-URL: Issues, {REPOSITORY}/issues\n\
         Description-Content-Type: text/markdown\n\
         \n\
         {readme}",
        keywords = keywords.join(","),
    ))
}

fn tags(release: &Release, platforms: &[&str]) -> String {
    let mut text = format!("Wheel-Version: 1.0\nGenerator: mcp-bridge {}\nRoot-Is-Purelib: false\n", release.version);
    for platform in platforms {
        text.push_str(&format!("Tag: py3-none-{platform}\n"));
    }
    text
}

/// The path, hash and size of everything, besides those of the list itself.
fn record(entries: &[Entry], info: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    for entry in entries {
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(&entry.content));
        writeln!(text, "{},sha256={hash},{}", entry.path, entry.content.len())?;
    }
    writeln!(text, "{info}/RECORD,,")?;
    Ok(text)
}

/// Where programs for `target` run, to pip. Static programs need neither glibc nor musl, but these are the
/// only names that PyPI takes; the oldest versions leave nobody out.
fn platforms(target: Target) -> &'static [&'static str] {
    match target {
        Target::LinuxX64 => &["manylinux_2_17_x86_64", "manylinux2014_x86_64", "musllinux_1_1_x86_64"],
        Target::LinuxArm64 => &["manylinux_2_17_aarch64", "manylinux2014_aarch64", "musllinux_1_1_aarch64"],
        Target::Macos => &["macosx_11_0_universal2"],
        Target::WindowsX64 => &["win_amd64"],
        Target::WindowsArm64 => &["win_arm64"],
    }
}

/// A version as Python writes it (PEP 440): `1.0.0-rc.1` is `1.0.0rc1`.
pub(super) fn version(version: &str) -> anyhow::Result<String> {
    let Some((release, candidate)) = version.split_once('-') else { return Ok(version.to_owned()) };
    let (kind, number) = candidate.split_once('.').unwrap_or((candidate, "0"));
    let kind = match kind {
        "alpha" => "a",
        "beta" => "b",
        "rc" => "rc",
        _ => bail!("Python has no version like {version}; use -alpha.N, -beta.N or -rc.N"),
    };
    let number: u32 = number.parse().with_context(|| format!("not a number in the version {version}: {number}"))?;
    Ok(format!("{release}{kind}{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_writes_versions_its_own_way() {
        for (cargo, python) in [
            ("0.1.0", Some("0.1.0")),
            ("1.0.0-rc.1", Some("1.0.0rc1")),
            ("1.0.0-beta.12", Some("1.0.0b12")),
            ("1.0.0-alpha", Some("1.0.0a0")),
            ("1.0.0-nightly.1", None),
            ("1.0.0-rc.x", None),
        ] {
            assert_eq!(version(cargo).ok().as_deref(), python, "{cargo}");
        }
    }
}
