//! What the packages of Linux systems hold: one list of files, for .deb and .rpm.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use flate2::{Compression, GzBuilder};

use super::{Release, documents, read};

/// The packages' name, and the service's.
pub(super) const NAME: &str = "mcp-bridge";
/// One line, as both formats want it: no article, a capital letter, no full stop.
pub(super) const SUMMARY: &str = "MCP servers on the network, behind OAuth 2.1";
/// The format wants an address; questions go to the repository, as SECURITY.md says.
pub(super) const MAINTAINER: &str = "The mcp-calculator developers <maintainers@mcp-bridge.invalid>";

/// Which systems a package is for, where they disagree about folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Debian, Ubuntu and their kin
    Debian,
    /// Fedora, RHEL, openSUSE and their kin
    Rpm,
}

/// What a package manager does with a file, besides putting it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Replaced by the next version.
    Plain,
    /// Belongs to the administrator once it was changed.
    Configuration,
    /// May be left out where space is short.
    Documentation,
    /// What the package may be used for; is never left out.
    Licence,
}

/// A file of a package.
#[derive(Debug)]
pub(super) struct File {
    /// Without the leading `/`.
    pub(super) path: String,
    pub(super) content: Vec<u8>,
    /// Permission bits.
    pub(super) mode: u16,
    pub(super) kind: Kind,
}

impl File {
    pub(super) fn new(path: impl Into<String>, content: impl Into<Vec<u8>>, kind: Kind) -> Self {
        Self { path: path.into(), content: content.into(), mode: 0o644, kind }
    }

    fn executable(mut self) -> Self {
        self.mode = 0o755;
        self
    }
}

/// Everything that both kinds of packages hold, sorted by path.
pub(super) fn files(release: &Release, family: Family) -> anyhow::Result<Vec<File>> {
    let static_file = |name: &str| release.read_text(&format!("installers/systemd/{name}"));
    let mut files = Vec::new();
    for program in release.binaries.all() {
        let name = program.file_name().context("a program has a name")?.to_string_lossy();
        files.push(File::new(format!("usr/bin/{name}"), read(program)?, Kind::Plain).executable());
    }
    files.push(File::new("usr/sbin/mcp-bridge-admin", static_file("mcp-bridge-admin")?, Kind::Plain).executable());
    files.push(File::new(
        "usr/share/man/man8/mcp-bridge-admin.8.gz",
        gzip(static_file("mcp-bridge-admin.8")?.as_bytes())?,
        Kind::Documentation,
    ));
    files.push(File::new("usr/lib/systemd/system/mcp-bridge.service", static_file("mcp-bridge.service")?, Kind::Plain));
    files.push(File::new("etc/mcp-bridge/bridge.toml", static_file("bridge.toml")?, Kind::Configuration));
    for name in ["command.conf", "low-port.conf"] {
        let path = format!("usr/share/doc/{NAME}/examples/{name}");
        files.push(File::new(path, static_file(name)?, Kind::Documentation));
    }
    for document in documents::all(release)? {
        files.extend(place(document.path, document.content, family)?);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Where a document of every package belongs on these systems; `None`: nowhere.
fn place(document: &str, content: Vec<u8>, family: Family) -> anyhow::Result<Option<File>> {
    let (folder, name) = document.split_once('/').unwrap_or(("", document));
    let stem = name.split('.').next().unwrap_or(name);
    let file = match (folder, name.rsplit_once('.').map_or("", |(_, ending)| ending)) {
        ("man", _) => File::new(format!("usr/share/man/man1/{name}.gz"), gzip(&content)?, Kind::Documentation),
        ("completions", "bash") => {
            File::new(format!("usr/share/bash-completion/completions/{stem}"), content, Kind::Plain)
        }
        ("completions", "fish") => {
            File::new(format!("usr/share/fish/vendor_completions.d/{name}"), content, Kind::Plain)
        }
        ("completions", "") => {
            let folder = match family {
                Family::Debian => "vendor-completions",
                Family::Rpm => "site-functions",
            };
            File::new(format!("usr/share/zsh/{folder}/{name}"), content, Kind::Plain)
        }
        // PowerShell has no folder that it reads by itself.
        ("completions", "ps1") => return Ok(None),
        ("", "md") if name == "CHANGELOG.md" => {
            File::new(format!("usr/share/doc/{NAME}/changelog.gz"), gzip(&content)?, Kind::Documentation)
        }
        ("", "md") => File::new(format!("usr/share/doc/{NAME}/{name}"), content, Kind::Documentation),
        ("", _) if name.starts_with("LICENSE") => match family {
            // Debian has one file `copyright` instead.
            Family::Debian => return Ok(None),
            Family::Rpm => File::new(format!("usr/share/licenses/{NAME}/{name}"), content, Kind::Licence),
        },
        _ => bail!("{document} has no place in a package"),
    };
    Ok(Some(file))
}

/// The folders of `files`, each once, parents first.
pub(super) fn folders(files: &[File]) -> Vec<&str> {
    let mut folders: Vec<&str> = Vec::new();
    for file in files {
        folders.extend(file.path.match_indices('/').map(|(end, _)| &file.path[..end]));
    }
    folders.sort_unstable();
    folders.dedup();
    folders
}

/// The version as both package managers sort it: `0.2.0-rc.1` comes before `0.2.0`.
pub(super) fn version(release: &Release) -> String {
    release.version.replacen('-', "~", 1)
}

/// Compresses `content`: the same bytes for the same content.
pub(super) fn gzip(content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(content)?;
    Ok(gzip.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_has_its_place() {
        let check = |document: &str, family, expected: Option<&str>| {
            let file = place(document, Vec::new(), family).expect(document);
            assert_eq!(file.as_ref().map(|file| file.path.as_str()), expected, "{document}");
        };
        check("man/mcp-bridge.1", Family::Rpm, Some("usr/share/man/man1/mcp-bridge.1.gz"));
        check("completions/mcp-bridge.bash", Family::Rpm, Some("usr/share/bash-completion/completions/mcp-bridge"));
        check(
            "completions/mcp-bridge.fish",
            Family::Debian,
            Some("usr/share/fish/vendor_completions.d/mcp-bridge.fish"),
        );
        check("completions/_mcp-bridge", Family::Debian, Some("usr/share/zsh/vendor-completions/_mcp-bridge"));
        check("completions/_mcp-bridge", Family::Rpm, Some("usr/share/zsh/site-functions/_mcp-bridge"));
        check("completions/mcp-bridge.ps1", Family::Debian, None);
        check("CHANGELOG.md", Family::Debian, Some("usr/share/doc/mcp-bridge/changelog.gz"));
        check("README.md", Family::Rpm, Some("usr/share/doc/mcp-bridge/README.md"));
        check("LICENSE-MIT", Family::Debian, None);
        check("LICENSE-MIT", Family::Rpm, Some("usr/share/licenses/mcp-bridge/LICENSE-MIT"));
        assert!(place("something.else", Vec::new(), Family::Debian).is_err());
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let files = ["usr/bin/b", "usr/bin/a", "etc/x/y"].map(|path| File::new(path, "", Kind::Plain));
        assert_eq!(folders(&files), ["etc", "etc/x", "usr", "usr/bin"]);
    }
}
