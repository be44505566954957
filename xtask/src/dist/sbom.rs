//! What the programs of a platform are made of: a software bill of materials in CycloneDX's JSON.
//!
//! It is made from `cargo tree`, which names what is compiled into these two programs for this platform, and no
//! more. cargo-cyclonedx 0.5 was tried: it lists what only tests switch on, has the paths of the machine in it, and
//! writes beside the source.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{REPOSITORY, Target, msi, output, put, read, registry, rfc3339};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What stands between the columns of `cargo tree`.
const COLUMN: char = '\t';

/// `mcp-bridge-VERSION-TARGET.cdx.json`, for both programs.
pub(super) fn make(root: &Path, target: Target, epoch: u64, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut crates = Crates::default();
    for triple in target.triples() {
        let mut tree = crate::cargo();
        tree.current_dir(root).args(["tree", "--locked", "--package", "mcp-bridge", "--package", "mcp-calculator"]);
        tree.args(["--edges", "normal", "--target", triple, "--prefix", "depth"]);
        tree.args(["--format", &["", "{p}", "{l}", "{r}"].join(&COLUMN.to_string())]);
        crates.add(&output(&mut tree)?)?;
    }
    let lock = read(&root.join("Cargo.lock"))?;
    let checksums = checksums(&String::from_utf8_lossy(&lock));
    let mut bom = crates.describe(root, target, epoch, &checksums)?;
    // Two that differ have two numbers, and the same one has the same.
    let number = msi::guid(Sha256::new_with_prefix(bom.to_string())).to_lowercase();
    bom["serialNumber"] = json!(format!("urn:uuid:{number}"));
    let path = folder.join(format!("mcp-bridge-{VERSION}-{target}.cdx.json"));
    put(&path, format!("{bom:#}\n").as_bytes(), 0o644, epoch)?;
    Ok(vec![path])
}

/// A crate by its name and version: `serde 1.0.229`.
type Id = String;

/// What `cargo tree` says of a crate.
#[derive(Debug, Default, PartialEq, Eq)]
struct Crate {
    licence: String,
    repository: String,
    /// Where its source is, if that is this repository.
    folder: Option<PathBuf>,
    needs: BTreeSet<Id>,
}

#[derive(Debug, Default)]
struct Crates(BTreeMap<Id, Crate>);

impl Crates {
    /// Adds what `tree` says: a line for each crate, with its depth.
    fn add(&mut self, tree: &str) -> anyhow::Result<()> {
        // The crates above the line, outermost first.
        let mut above: Vec<Id> = Vec::new();
        for line in tree.lines().filter(|line| !line.is_empty()) {
            let mut columns = line.trim_end_matches(" (*)").split(COLUMN);
            let mut column = || columns.next().with_context(|| format!("cargo tree says something else: {line}"));
            let depth: usize = column()?.parse().with_context(|| format!("no depth: {line}"))?;
            let package = column()?;
            let (licence, repository) = (column()?, column()?);
            let mut words = package.splitn(3, ' ');
            let (name, version) = words.next().zip(words.next()).with_context(|| format!("no version: {line}"))?;
            let id = format!("{name} {}", version.trim_start_matches('v'));
            let place = words.next().and_then(|place| place.trim_start_matches('(').strip_suffix(')'));
            let found = self.0.entry(id.clone()).or_default();
            found.licence = licence.replace('/', " OR ");
            found.repository = repository.to_owned();
            found.folder = place.map(PathBuf::from).filter(|folder| folder.is_absolute());
            ensure!(depth <= above.len(), "cargo tree leaves out what is above: {line}");
            above.truncate(depth);
            if let Some(parent) = above.last().and_then(|parent| self.0.get_mut(parent)) {
                parent.needs.insert(id.clone());
            }
            above.push(id);
        }
        Ok(())
    }

    fn describe(
        &self,
        root: &Path,
        target: Target,
        epoch: u64,
        checksums: &BTreeMap<Id, String>,
    ) -> anyhow::Result<Value> {
        let release = format!("pkg:github/{}/mcp-bridge@v{VERSION}", registry::owner()?);
        let reference = |id: &Id| -> anyhow::Result<String> {
            let (name, version) = id.split_once(' ').context("an id has a version")?;
            let found = self.0.get(id).with_context(|| format!("{name} is not in the tree"))?;
            Ok(match &found.folder {
                None => format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")),
                // No registry has these two, and one may have others of their names.
                Some(folder) if folder == root => format!("{release}#src"),
                Some(folder) => format!("{release}#{}", folder.strip_prefix(root)?.display()),
            })
        };
        let ours = self.0.iter().filter(|(_, found)| found.folder.is_some()).map(|(id, _)| reference(id));
        let mut dependencies = vec![json!({ "ref": release, "dependsOn": ours.collect::<anyhow::Result<Vec<_>>>()? })];
        let mut components = Vec::new();
        for (id, found) in &self.0 {
            let (name, version) = id.split_once(' ').context("an id has a version")?;
            let kind = if found.folder.is_some() { "application" } else { "library" };
            let purl = reference(id)?;
            let needs = found.needs.iter().map(reference).collect::<anyhow::Result<Vec<_>>>()?;
            let mut component =
                json!({ "type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl });
            if !found.licence.is_empty() {
                component["licenses"] = json!([{ "expression": found.licence }]);
            }
            if let Some(checksum) = checksums.get(id) {
                component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
            }
            if found.repository.starts_with("https://") {
                component["externalReferences"] = json!([{ "type": "vcs", "url": found.repository }]);
            }
            components.push(component);
            dependencies.push(json!({ "ref": purl, "dependsOn": needs }));
        }
        let properties: Vec<_> = target
            .triples()
            .iter()
            .map(|triple| json!({ "name": "cdx:rustc:sbom:target:triple", "value": triple }))
            .collect();
        Ok(json!({
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "timestamp": rfc3339(epoch),
                "lifecycles": [{ "phase": "build" }],
                "tools": { "components": [{ "type": "application", "name": "cargo xtask dist sbom", "version": VERSION }] },
                "component": {
                    "type": "application",
                    "bom-ref": release,
                    "name": "mcp-bridge",
                    "version": VERSION,
                    "purl": release,
                    "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                    "externalReferences": [{ "type": "vcs", "url": REPOSITORY }],
                },
                "properties": properties,
            },
            "components": components,
            "dependencies": dependencies,
        }))
    }
}

/// What `Cargo.lock` says that the archives of crates have to be.
fn checksums(lock: &str) -> BTreeMap<Id, String> {
    let value = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    lock.split("[[package]]")
        .filter_map(|package| {
            let (name, version) = (value(package, "name")?, value(package, "version")?);
            Some((format!("{name} {version}"), value(package, "checksum")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "0\tapp v0.1.0 (/here)\tMIT\t\n1\ta v1.0.0\tMIT/ISC\thttps://example.com/a\n\
        2\tb v2.0.0+c\tISC\t\n1\tmacros v3.0.0 (proc-macro)\tMIT\t\n\n0\ta v1.0.0\tMIT/ISC\thttps://example.com/a (*)\n";

    #[test]
    fn a_tree_says_who_needs_whom() {
        let mut crates = Crates::default();
        crates.add(TREE).expect("a tree");
        let needs = |id: &str| crates.0[id].needs.iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(crates.0.len(), 4);
        assert_eq!(needs("app 0.1.0"), ["a 1.0.0", "macros 3.0.0"]);
        assert_eq!(needs("a 1.0.0"), ["b 2.0.0+c"]);
        assert_eq!(crates.0["a 1.0.0"].licence, "MIT OR ISC");
        assert_eq!(crates.0["app 0.1.0"].folder.as_deref(), Some(Path::new("/here")));
        assert_eq!(crates.0["macros 3.0.0"].folder, None);
        for wrong in ["a v1.0.0", "1\ta v1.0.0\tMIT\t", "0\ta\tMIT\t"] {
            assert!(Crates::default().add(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_of_this_machine_is_described() {
        let mut crates = Crates::default();
        crates.add(TREE).expect("a tree");
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"00ff\"\n";
        let described =
            crates.describe(Path::new("/here"), Target::LinuxX64, 0, &checksums(lock)).expect("a description");
        let text = described.to_string();
        assert!(!text.contains("/here"), "{text}");
        assert_eq!(described["components"][0]["hashes"][0]["content"], "00ff");
        assert_eq!(described["components"][2]["purl"], "pkg:cargo/b@2.0.0%2Bc");
    }
}
