//! The container image: an OCI image layout in a .tar, which needs no daemon to be made.
//!
//! It is three short JSON documents and a layer, so this writes it by itself: the crate `oci-spec` would
//! bring types for runtimes and registries, and seven more crates. skopeo and umoci judge the result in
//! tests/packages/parts/image.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::EntryType;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

use super::{
    REPOSITORY, Release, Target, hex,
    linux::{NAME, SUMMARY, gzip},
    read, rfc3339,
};

/// The user and the group of the programs; by number, so that Kubernetes can see that it is not root.
const NONROOT: u64 = 65532;
/// Where the embedded authorization server keeps what it knows; a volume belongs here.
const STATE: &str = "var/lib/mcp-bridge";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// `mcp-bridge-VERSION-TARGET.oci.tar`
pub(super) fn make(release: &Release) -> anyhow::Result<Vec<PathBuf>> {
    let architecture = architecture(release.target)?;
    let labels = labels(release);
    let tar = layer(release)?.tar(release.epoch)?;
    let mut blobs = Blobs::default();
    let layer = blobs.add(LAYER, gzip(&tar)?);
    let config = blobs.add(CONFIG, config(release, architecture, &labels, &tar).to_string().into_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer], "annotations": labels,
    });
    let mut manifest = blobs.add(MANIFEST, manifest.to_string().into_bytes());
    let name = format!("{}:{}", image_name(REPOSITORY)?, release.version);
    manifest["platform"] = json!({ "architecture": architecture, "os": "linux" });
    manifest["annotations"] = json!({
        "io.containerd.image.name": name, "org.opencontainers.image.ref.name": release.version,
    });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
    // What `docker load` reads where Docker does not keep its images in containerd.
    let for_docker = json!([{ "Config": path_of(&config), "RepoTags": [name], "Layers": [path_of(&layer)] }]);

    let mut archive = Tree::default();
    archive.file("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }).to_string(), 0o644);
    archive.file("index.json", index.to_string(), 0o644);
    archive.file("manifest.json", for_docker.to_string(), 0o644);
    for (path, content) in blobs.0 {
        archive.file(&path, content, 0o644);
    }
    let path = release.output.join(format!("{NAME}-{}-{}.oci.tar", release.version, release.target));
    fs::write(&path, archive.tar(release.epoch)?).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(vec![path])
}

/// The processor in an image's words.
pub(super) fn architecture(target: Target) -> anyhow::Result<&'static str> {
    match target {
        Target::LinuxX64 => Ok("amd64"),
        Target::LinuxArm64 => Ok("arm64"),
        other => bail!("{other} has no container image"),
    }
}

/// Where the image of a repository at GitHub is published; registries know no capital letters.
fn image_name(repository: &str) -> anyhow::Result<String> {
    let path = repository.strip_prefix("https://github.com/");
    let path = path.with_context(|| format!("{repository} has no container registry that is known here"))?;
    Ok(format!("ghcr.io/{}", path.to_lowercase()))
}

/// What people and registries read: labels of the image, annotations of its manifest.
fn labels(release: &Release) -> BTreeMap<&'static str, String> {
    let mut labels = BTreeMap::from([
        ("org.opencontainers.image.title", NAME.to_owned()),
        ("org.opencontainers.image.description", SUMMARY.to_owned()),
        ("org.opencontainers.image.version", release.version.clone()),
        ("org.opencontainers.image.licenses", "MIT OR Apache-2.0".to_owned()),
        ("org.opencontainers.image.source", REPOSITORY.to_owned()),
        ("org.opencontainers.image.url", REPOSITORY.to_owned()),
        ("org.opencontainers.image.documentation", format!("{REPOSITORY}#readme")),
        ("org.opencontainers.image.created", rfc3339(release.epoch)),
    ]);
    // Source from an archive has no commit.
    let commit = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(&release.root).output();
    if let Some(commit) = commit.ok().filter(|commit| commit.status.success()) {
        let commit = String::from_utf8_lossy(&commit.stdout).trim().to_owned();
        labels.insert("org.opencontainers.image.revision", commit);
    }
    labels
}

fn config(release: &Release, architecture: &str, labels: &BTreeMap<&str, String>, layer: &[u8]) -> Value {
    const SECOND: u64 = 1_000_000_000;
    let created = rfc3339(release.epoch);
    json!({
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": format!("{NONROOT}:{NONROOT}"),
            "ExposedPorts": { "8808/tcp": {} },
            "Env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                // A port is published from the container's own network, where loopback cannot be reached.
                "MCP_BRIDGE_LISTEN=0.0.0.0:8808",
                format!("MCP_BRIDGE_STATE_DIR=/{STATE}"),
            ],
            "Entrypoint": ["/usr/bin/mcp-bridge"],
            "Cmd": ["serve"],
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",
            // Not in OCI's specification; Docker reads it.
            "Healthcheck": {
                "Test": ["CMD", "/usr/bin/mcp-bridge", "health"],
                "Interval": 30 * SECOND,
                "Timeout": 10 * SECOND,
                "StartPeriod": 10 * SECOND,
                "Retries": 3,
            },
            "Labels": labels,
        },
        "rootfs": { "type": "layers", "diff_ids": [digest(layer)] },
        "history": [{ "created": created, "created_by": "cargo xtask dist image" }],
    })
}

/// The whole file system: the programs need nothing else.
fn layer(release: &Release) -> anyhow::Result<Tree> {
    let mut tree = Tree::default();
    for program in release.binaries.all() {
        let name = program.file_name().context("a program has a name")?.to_string_lossy();
        tree.file(&format!("usr/bin/{name}"), read(program)?, 0o755);
    }
    for name in ["passwd", "group", "nsswitch.conf"] {
        tree.file(&format!("etc/{name}"), release.read(&format!("installers/image/{name}"))?, 0o644);
    }
    // The programs trust whom the system trusts, and ask no authorization server where that is nobody.
    tree.file("etc/ssl/certs/ca-certificates.crt", certificates(), 0o644);
    for (package, name, path) in [
        (NAME, "LICENSE-APACHE", "LICENSE-APACHE"),
        (NAME, "LICENSE-MIT", "LICENSE-MIT"),
        ("ca-certificates", "LICENSE-CDLA-Permissive-2.0", "installers/image/LICENSE-CDLA-Permissive-2.0"),
    ] {
        tree.file(&format!("usr/share/licenses/{package}/{name}"), release.read(path)?, 0o644);
    }
    tree.folder("tmp", 0o1777, 0);
    tree.folder("home/nonroot", 0o700, NONROOT);
    tree.folder(STATE, 0o700, NONROOT);
    Ok(tree)
}

/// Mozilla's root certificates, as `webpki-root-certs` has them at the version of `Cargo.lock`.
fn certificates() -> String {
    const COLUMNS: usize = 64;
    let mut text = String::new();
    for certificate in TLS_SERVER_ROOT_CERTS {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = STANDARD.encode(certificate);
        while !rest.is_empty() {
            let after = rest.split_off(rest.len().min(COLUMNS));
            text.push_str(&rest);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// Contents by their paths in the layout, which are their checksums.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Keeps `content`, and returns what others say of it.
    fn add(&mut self, media_type: &str, content: Vec<u8>) -> Value {
        let descriptor = json!({ "mediaType": media_type, "digest": digest(&content), "size": content.len() });
        self.0.insert(path_of(&descriptor), content);
        descriptor
    }
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content)))
}

fn path_of(descriptor: &Value) -> String {
    format!("blobs/{}", descriptor["digest"].as_str().unwrap_or_default().replacen(':', "/", 1))
}

/// Files and folders by their paths, which puts folders before what is in them.
#[derive(Default)]
struct Tree(BTreeMap<String, Node>);

struct Node {
    /// `None` is a folder.
    content: Option<Vec<u8>>,
    mode: u32,
    owner: u64,
}

impl Tree {
    fn file(&mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32) {
        self.add(path, Node { content: Some(content.into()), mode, owner: 0 });
    }

    fn folder(&mut self, path: &str, mode: u32, owner: u64) {
        self.add(path, Node { content: None, mode, owner });
    }

    fn add(&mut self, path: &str, node: Node) {
        for (end, _) in path.match_indices('/') {
            self.0.entry(path[..end].to_owned()).or_insert(Node { content: None, mode: 0o755, owner: 0 });
        }
        self.0.insert(path.to_owned(), node);
    }

    fn tar(&self, epoch: u64) -> anyhow::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, Node { content, mode, owner }) in &self.0 {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(if content.is_some() { EntryType::Regular } else { EntryType::Directory });
            header.set_mode(*mode);
            header.set_uid(*owner);
            header.set_gid(*owner);
            header.set_mtime(epoch);
            let content = content.as_deref().unwrap_or_default();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content).with_context(|| format!("cannot pack {path}"))?;
        }
        Ok(tar.into_inner()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_where_the_repository_is() {
        assert_eq!(image_name("https://github.com/OWNER/mcp-bridge").expect("a name"), "ghcr.io/owner/mcp-bridge");
        assert!(image_name("https://example.com/mcp-bridge").is_err());
    }

    #[test]
    fn other_platforms_have_no_image() {
        assert_eq!(architecture(Target::LinuxArm64).expect("has one"), "arm64");
        assert!(architecture(Target::Macos).is_err());
    }

    #[test]
    fn certificates_are_text_that_others_read() {
        let text = certificates();
        assert_eq!(text.matches("-----BEGIN CERTIFICATE-----\n").count(), TLS_SERVER_ROOT_CERTS.len());
        assert!(text.ends_with("-----END CERTIFICATE-----\n") && text.lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_keep_their_own_mode() {
        let mut tree = Tree::default();
        tree.file("a/b/c", "", 0o644);
        tree.folder("a/b", 0o700, 7);
        tree.file("a/b/d", "", 0o644);
        let paths: Vec<_> = tree.0.iter().map(|(path, node)| (path.as_str(), node.mode, node.owner)).collect();
        assert_eq!(paths, [("a", 0o755, 0), ("a/b", 0o700, 7), ("a/b/c", 0o644, 0), ("a/b/d", 0o644, 0)]);
    }
}
