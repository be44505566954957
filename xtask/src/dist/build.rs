//! Building the programs of a platform.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use super::{Target, run};

/// Builds both programs, and returns the folder that they are in.
pub(super) fn build(root: &Path, target: Target, profile: &str) -> anyhow::Result<PathBuf> {
    let mut folders = Vec::new();
    for triple in target.triples() {
        let mut cargo = crate::cargo();
        cargo
            .current_dir(root)
            .args(["build", "--locked", "--package", "mcp-bridge", "--package", "mcp-calculator"])
            .args(["--profile", profile, "--target", triple])
            .env("CARGO_ENCODED_RUSTFLAGS", flags(root, target));
        run(&mut cargo, "install Rust with rustup").with_context(|| {
            format!("cannot build for {triple}; if its standard library is missing: rustup target add {triple}")
        })?;
        let folder = if profile == "dev" { "debug" } else { profile };
        folders.push(root.join("target").join(triple).join(folder));
    }
    join(root, target, folders)
}

/// No path of the machine in the program, and no need of libraries that the system may lack; between two
/// flags stands what is in no path.
fn flags(root: &Path, target: Target) -> String {
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
        .unwrap_or_default();
    let mut flags = vec![format!("--remap-path-prefix={}=/source", root.display())];
    if !home.is_empty() {
        flags.push(format!("--remap-path-prefix={home}=/cargo"));
    }
    if !matches!(target, Target::Macos) {
        flags.push("-Ctarget-feature=+crt-static".to_owned());
    }
    flags.join("\x1f")
}

/// macOS has one program for both of its processors; elsewhere there is one to begin with.
fn join(root: &Path, target: Target, mut folders: Vec<PathBuf>) -> anyhow::Result<PathBuf> {
    if folders.len() == 1 {
        return folders.pop().context("one folder");
    }
    let universal = root.join("target").join("universal");
    fs::create_dir_all(&universal).with_context(|| format!("cannot make {}", universal.display()))?;
    for name in ["mcp-bridge", "mcp-calculator"] {
        let name = target.executable(name);
        let mut lipo = Command::new("lipo");
        lipo.arg("-create").arg("-output").arg(universal.join(&name)).args(folders.iter().map(|f| f.join(&name)));
        run(&mut lipo, "it comes with Xcode's command line tools")?;
    }
    Ok(universal)
}
