//! The installer for macOS, which only macOS can make.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, ensure};

use super::{Release, Target, documents, put, read, run, sign};

/// By this macOS knows the package; never to be changed.
const IDENTIFIER: &str = "mcp-bridge";
const INSTALL: &str = "install Xcode's command line tools";

/// Where the documents go, below `/usr/local`.
const PLACES: [(&str, &str); 12] = [
    ("man/mcp-bridge.1", "share/man/man1/mcp-bridge.1"),
    ("man/mcp-calculator.1", "share/man/man1/mcp-calculator.1"),
    ("completions/mcp-bridge.bash", "share/bash-completion/completions/mcp-bridge"),
    ("completions/mcp-calculator.bash", "share/bash-completion/completions/mcp-calculator"),
    ("completions/mcp-bridge.fish", "share/fish/vendor_completions.d/mcp-bridge.fish"),
    ("completions/mcp-calculator.fish", "share/fish/vendor_completions.d/mcp-calculator.fish"),
    ("completions/_mcp-bridge", "share/zsh/site-functions/_mcp-bridge"),
    ("completions/_mcp-calculator", "share/zsh/site-functions/_mcp-calculator"),
    ("README.md", "share/doc/mcp-bridge/README.md"),
    ("CHANGELOG.md", "share/doc/mcp-bridge/CHANGELOG.md"),
    ("LICENSE-APACHE", "share/doc/mcp-bridge/LICENSE-APACHE"),
    ("LICENSE-MIT", "share/doc/mcp-bridge/LICENSE-MIT"),
];

/// Whether it can be made at all, for `target`, on this machine.
///
/// # Errors
/// Says where it can.
pub(super) fn check(target: Target) -> anyhow::Result<()> {
    ensure!(target == Target::Macos, "a .pkg is for macOS; add --target macos");
    ensure!(cfg!(target_os = "macos"), "a .pkg can be made on macOS only: pkgbuild and productbuild are Apple's");
    Ok(())
}

/// `mcp-bridge-VERSION-macos.pkg`, for `/usr/local`, which is in everybody's `PATH`.
pub(super) fn make(release: &Release) -> anyhow::Result<Vec<PathBuf>> {
    let work = release.scratch("pkg")?;
    let prefix = work.join("root").join("usr").join("local");
    for program in release.binaries.all() {
        let name = program.file_name().context("a program has a name")?;
        put(&prefix.join("bin").join(name), &read(program)?, 0o755, release.epoch)?;
    }
    let documents = documents::all(release)?;
    for (path, place) in PLACES {
        let document = documents.iter().find(|document| document.path == path);
        let content = &document.with_context(|| format!("there is no {path}"))?.content;
        put(&prefix.join(place), content, 0o644, release.epoch)?;
    }
    let installers = release.root.join("installers").join("macos");
    put(
        &prefix.join("share/mcp-bridge/uninstall"),
        &release.read("installers/macos/uninstall")?,
        0o755,
        release.epoch,
    )?;

    // The version of macOS' package system: dots and numbers. A candidate has those of the release.
    let version = release.version.split(['-', '+']).next().unwrap_or_default();
    let component = work.join("mcp-bridge.pkg");
    let mut pkgbuild = Command::new("pkgbuild");
    pkgbuild.arg("--root").arg(work.join("root"));
    pkgbuild.args(["--identifier", IDENTIFIER, "--version", version, "--install-location", "/"]);
    // Files belong to root, whoever builds.
    pkgbuild.args(["--ownership", "recommended"]).arg(&component);
    run(&mut pkgbuild, INSTALL)?;

    let finished = release.output.join(format!("mcp-bridge-{}-{}.pkg", release.version, release.target));
    let mut productbuild = Command::new("productbuild");
    productbuild.arg("--distribution").arg(installers.join("distribution.xml")).arg("--package-path").arg(&work);
    if let Some(identity) = sign::variable("MACOS_SIGN_INSTALLER")? {
        productbuild.args(["--timestamp", "--sign", &identity]);
    }
    run(productbuild.arg(&finished), INSTALL)?;
    sign::notarize(&finished)?;
    Ok(vec![finished])
}
