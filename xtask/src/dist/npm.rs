//! Packages for npm: `npx -y mcp-calculator` and `npx -y mcp-bridge`.
//!
//! For each program there is a package of its name, with a launcher, and one package per platform with
//! the program itself. npm installs the one for its machine, because they are optional dependencies with
//! `os` and `cpu`: nothing is downloaded by a script, so `ignore-scripts` and mirrors work.

use std::path::PathBuf;

use clap::ValueEnum as _;
use serde_json::{Map, Value, json};

use super::{
    REPOSITORY, Release, Target,
    archive::{self, Entry},
    registry::{Program, Start, mcp_name},
};

/// The organization at npm that the packages with the programs belong to.
const SCOPE: &str = "@mcp-bridge";

/// The oldest that the launcher was written for.
const NODE: &str = ">=18";

/// Two packages for the platform and two launchers, in the names that `npm pack` gives.
pub(super) fn make(release: &Release) -> anyhow::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for program in Program::all(release) {
        made.push(platform(release, &program)?);
        made.push(launcher(release, &program)?);
    }
    Ok(made)
}

/// The package with the program for one platform.
fn platform(release: &Release, program: &Program<'_>) -> anyhow::Result<PathBuf> {
    let name = package(program.name, release.target);
    let (os, cpu) = platforms(release.target);
    let executable = release.target.executable(program.name);
    let mut manifest = manifest(release, &name, &format!("{} for {}", program.name, release.target));
    manifest.insert("os".to_owned(), json!([os]));
    manifest.insert("cpu".to_owned(), json!(cpu));
    manifest.insert("files".to_owned(), json!(["bin"]));
    // Yarn would leave it in an archive, from which nothing can be started.
    manifest.insert("preferUnplugged".to_owned(), json!(true));
    let readme = format!("# {name}\n\nThe program of the package `{}`: install that one.\n", program.name);
    let entries = [Entry::program(format!("package/bin/{executable}"), program.file)?];
    pack(release, &name, &manifest, readme, entries)
}

/// The package that people name, the same for every platform.
fn launcher(release: &Release, program: &Program<'_>) -> anyhow::Result<PathBuf> {
    let name = program.name;
    let mut dependencies = Map::new();
    let mut packages = Map::new();
    for &target in Target::value_variants() {
        let package = package(name, target);
        let (os, cpus) = platforms(target);
        for cpu in cpus {
            packages.insert(format!("{os}-{cpu}"), json!(package));
        }
        dependencies.insert(package, json!(release.version));
    }
    let mut manifest = manifest(release, name, program.description);
    manifest.insert("bin".to_owned(), json!({ name: format!("bin/{name}.js") }));
    manifest.insert("engines".to_owned(), json!({ "node": NODE }));
    manifest.insert("files".to_owned(), json!(["bin"]));
    manifest.insert("keywords".to_owned(), json!(program.keywords));
    manifest.insert("optionalDependencies".to_owned(), Value::Object(dependencies));
    if name == "mcp-calculator" {
        manifest.insert("mcpName".to_owned(), json!(mcp_name()?));
    }

    let script = release
        .read_text("installers/npm/launcher.js")?
        .replace("PROGRAM", name)
        .replace("PACKAGES", &format!("{:#}", Value::Object(packages)))
        .replace("REPOSITORY", REPOSITORY);
    let script = Entry { path: format!("package/bin/{name}.js"), content: script.into_bytes(), executable: true };
    let readme = program.readme(release, &Start { command: "npx", arguments: &["-y", name] })?;
    pack(release, name, &manifest, readme, [script])
}

fn manifest(release: &Release, name: &str, description: &str) -> Map<String, Value> {
    let manifest = json!({
        "name": name,
        "version": release.version,
        "description": description,
        "license": "MIT OR Apache-2.0",
        "author": "The mcp-calculator developers",
        "homepage": format!("{REPOSITORY}#readme"),
        "bugs": format!("{REPOSITORY}/issues"),
        "repository": { "type": "git", "url": format!("git+{REPOSITORY}.git") },
        // What has a scope is private unless it says otherwise.
        "publishConfig": { "access": "public" },
    });
    match manifest {
        Value::Object(manifest) => manifest,
        _ => Map::new(),
    }
}

fn pack(
    release: &Release,
    name: &str,
    manifest: &Map<String, Value>,
    readme: String,
    files: impl IntoIterator<Item = Entry>,
) -> anyhow::Result<PathBuf> {
    let manifest = format!("{:#}\n", Value::Object(manifest.clone()));
    let mut entries = vec![Entry::text("package/package.json", manifest), Entry::text("package/README.md", readme)];
    for text in ["LICENSE-APACHE", "LICENSE-MIT"] {
        entries.push(Entry::text(format!("package/{text}"), release.read(text)?));
    }
    entries.extend(files);
    let file = name.trim_start_matches('@').replace('/', "-");
    let path = release.output.join(format!("{file}-{}.tgz", release.version));
    archive::tar_gz(&path, &entries, release.epoch)?;
    Ok(path)
}

/// `@mcp-bridge/mcp-calculator-linux-x64`
fn package(program: &str, target: Target) -> String {
    format!("{SCOPE}/{program}-{target}")
}

/// Node's words for the operating system and the processors of `target`.
fn platforms(target: Target) -> (&'static str, &'static [&'static str]) {
    match target {
        Target::LinuxX64 => ("linux", &["x64"]),
        Target::LinuxArm64 => ("linux", &["arm64"]),
        Target::Macos => ("darwin", &["arm64", "x64"]),
        Target::WindowsX64 => ("win32", &["x64"]),
        Target::WindowsArm64 => ("win32", &["arm64"]),
    }
}
