//! What package managers and the registry of MCP servers want to know of a release: where its files are, and
//! their checksums.
//!
//! Most of it is fixed text, in `installers/homebrew`, `installers/scoop` and `installers/winget`; `{words}` in it
//! are filled in here.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::ValueEnum as _;

use super::{REPOSITORY, Target, checksums, epoch, linux, msi, read, registry, rfc3339};

mod server;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The templates, and what their files are called when they are filled in.
const TEMPLATES: [(&str, &str); 5] = [
    ("homebrew/mcp-bridge.rb", "mcp-bridge.rb"),
    ("scoop/mcp-bridge.json", "mcp-bridge.json"),
    ("winget/version.yaml", "{owner}.mcp-bridge.yaml"),
    ("winget/installer.yaml", "{owner}.mcp-bridge.installer.yaml"),
    ("winget/locale.en-US.yaml", "{owner}.mcp-bridge.locale.en-US.yaml"),
];

/// The filled-in templates, and `server.json`, from the files of the release that are in `output`.
///
/// # Errors
/// Names every file that is missing there, with the command that makes it.
pub(super) fn make(root: &Path, output: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let files = Files::within(output)?;
    let words = words(root, &files)?;
    let mut made = Vec::new();
    for (template, name) in TEMPLATES {
        let path = root.join("installers").join(template);
        let text = String::from_utf8(read(&path)?).with_context(|| format!("{} is not in UTF-8", path.display()))?;
        let text = fill(&text, &words).with_context(|| format!("cannot fill in {}", path.display()))?;
        made.push((fill(name, &words)?, text));
    }
    made.push(("server.json".to_owned(), server::describe(&files)?));
    made.into_iter()
        .map(|(name, text)| {
            let path = output.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        })
        .collect()
}

/// The files of a release that manifests name: their checksums by their names.
struct Files(BTreeMap<String, String>);

impl Files {
    fn within(output: &Path) -> anyhow::Result<Self> {
        let mut checksums = BTreeMap::new();
        let mut missing = Vec::new();
        for (name, artefact, target) in wanted() {
            let path = output.join(&name);
            if path.is_file() {
                checksums.insert(name, checksums::checked(&path)?);
            } else {
                missing.push(format!("{name} (make it with: cargo xtask dist {artefact} --target {target})"));
            }
        }
        ensure!(missing.is_empty(), "{} lacks {}", output.display(), missing.join(", "));
        Ok(Self(checksums))
    }

    fn checksum(&self, name: &str) -> anyhow::Result<&str> {
        self.0.get(name).map(String::as_str).with_context(|| format!("{name} is in no list of files"))
    }
}

/// The names of all files that manifests name, with what makes each.
fn wanted() -> Vec<(String, &'static str, Target)> {
    let mut wanted = vec![(installer(), "msi", Target::WindowsX64)];
    for &target in Target::value_variants() {
        wanted.push((archive(VERSION, target), "archive", target));
        wanted.push((server::bundle(target), "mcpb", target));
    }
    wanted
}

fn archive(version: &str, target: Target) -> String {
    format!("mcp-bridge-{version}-{target}.{}", if target.is_windows() { "zip" } else { "tar.gz" })
}

fn installer() -> String {
    format!("mcp-bridge-{VERSION}-{}.msi", Target::WindowsX64)
}

/// What the words in templates stand for.
fn words(root: &Path, files: &Files) -> anyhow::Result<BTreeMap<String, String>> {
    let date = rfc3339(epoch(root)?);
    let mut words: BTreeMap<String, String> = [
        ("version", VERSION),
        ("date", date.split('T').next().unwrap_or_default()),
        ("repository", REPOSITORY),
        ("owner", registry::owner()?),
        ("summary", linux::SUMMARY),
        ("bridge", registry::BRIDGE),
        ("product-code", &msi::product_code(VERSION, Target::WindowsX64)),
        ("upgrade-code", &upgrade_code(root)?),
    ]
    .map(|(word, meaning)| (word.to_owned(), meaning.to_owned()))
    .into();
    let mut add = |word: &str, file: &str| -> anyhow::Result<()> {
        words.insert(format!("url-{word}"), registry::address(VERSION, file));
        words.insert(format!("sha256-{word}"), files.checksum(file)?.to_owned());
        Ok(())
    };
    add("msi", &installer())?;
    for &target in Target::value_variants() {
        add(&target.to_string(), &archive(VERSION, target))?;
    }
    // Where Scoop finds a version that is not there yet; the word for it is Scoop's.
    for target in [Target::WindowsX64, Target::WindowsArm64] {
        let address = registry::address("$version", &archive("$version", target));
        words.insert(format!("next-{target}"), address);
    }
    Ok(words)
}

/// By what Windows knows the installers of all versions.
fn upgrade_code(root: &Path) -> anyhow::Result<String> {
    let path = root.join("installers/windows/mcp-bridge.wxs");
    let text = String::from_utf8_lossy(&read(&path)?).into_owned();
    let code = text.split_once("UpgradeCode=\"").and_then(|(_, rest)| rest.split('"').next());
    Ok(code.with_context(|| format!("{} has no UpgradeCode", path.display()))?.to_owned())
}

/// `text` with the meaning of each `{word}` in its place.
///
/// # Errors
/// A word that has no meaning. `#{…}` is Ruby's own, and words have small letters, digits and hyphens only.
fn fill(text: &str, words: &BTreeMap<String, String>) -> anyhow::Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let word = after.split('}').next().unwrap_or_default();
        let is_word = !word.is_empty()
            && word.len() < after.len()
            && word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if is_word && !before.ends_with('#') {
            filled.push_str(words.get(word).with_context(|| format!("nobody knows what {{{word}}} stands for"))?);
            rest = &after[word.len() + 1..];
        } else {
            filled.push('{');
            rest = after;
        }
    }
    Ok(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_filled_in_and_everything_else_stays() {
        let words = [("version", "1.2.3"), ("sha256-linux-x64", "00ff")]
            .map(|(word, meaning)| (word.to_owned(), meaning.to_owned()))
            .into();
        for (text, expected) in [
            ("v{version}!", Some("v1.2.3!")),
            ("{version}{sha256-linux-x64}", Some("1.2.300ff")),
            ("'{{version}}'", Some("'{1.2.3}'")),
            ("#{version} {} {\"a\":{}} {Upper} $version {", Some("#{version} {} {\"a\":{}} {Upper} $version {")),
            ("{version", Some("{version")),
            ("{verison}", None),
        ] {
            assert_eq!(fill(text, &words).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_what_makes_it() {
        let error = Files::within(Path::new("/nowhere")).err().expect("nothing is there").to_string();
        let expected =
            format!("mcp-bridge-{VERSION}-macos.tar.gz (make it with: cargo xtask dist archive --target macos)");
        assert!(error.contains(&expected), "{error}");
        assert_eq!(error.matches("make it with").count(), 11, "{error}");
    }
}
