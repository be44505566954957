//! What goes beside the programs: manual pages, completions, the texts of the repository.

use std::{path::PathBuf, process::Command};

use anyhow::Context as _;

use super::{Binaries, Release, Target, build, output};

/// A file of a package: where it belongs, and what is in it.
#[derive(Debug)]
pub(crate) struct Document {
    /// `man/mcp-bridge.1`, `completions/mcp-bridge.bash`, `README.md`, …
    pub(crate) path: &'static str,
    pub(crate) content: Vec<u8>,
}

/// The files of every package, besides the programs.
pub(crate) fn all(release: &Release) -> anyhow::Result<Vec<Document>> {
    let programs = runnable(release)?;
    let mut documents = Vec::new();
    let pages = [
        (
            &programs.bridge,
            [
                ("man/mcp-bridge.1", &["man"][..]),
                ("completions/mcp-bridge.bash", &["completions", "bash"]),
                ("completions/mcp-bridge.fish", &["completions", "fish"]),
                ("completions/_mcp-bridge", &["completions", "zsh"]),
                ("completions/mcp-bridge.ps1", &["completions", "powershell"]),
            ],
        ),
        (
            &programs.calculator,
            [
                ("man/mcp-calculator.1", &["man"][..]),
                ("completions/mcp-calculator.bash", &["completions", "bash"]),
                ("completions/mcp-calculator.fish", &["completions", "fish"]),
                ("completions/_mcp-calculator", &["completions", "zsh"]),
                ("completions/mcp-calculator.ps1", &["completions", "powershell"]),
            ],
        ),
    ];
    for (program, pages) in pages {
        for (path, arguments) in pages {
            let text = output(Command::new(program).args(arguments))?;
            documents.push(Document { path, content: text.into_bytes() });
        }
    }
    for path in ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        documents.push(Document { path, content: release.read(path)? });
    }
    Ok(documents)
}

/// The programs write their own manual pages: those of the release, or where they do not run here,
/// the same ones for this machine: `--host-binaries`, or a build.
pub(super) fn runnable(release: &Release) -> anyhow::Result<Binaries> {
    let folder: PathBuf = if release.target.runs_here() {
        release.binaries.bridge.parent().context("the programs have no folder")?.to_path_buf()
    } else if let Some(folder) = &release.host_binaries {
        folder.clone()
    } else {
        build::build(&release.root, Target::host(), &release.profile)?
    };
    Binaries::within(&folder, Target::host())
}
