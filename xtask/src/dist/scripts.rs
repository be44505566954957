//! The scripts that download the archive, check it and install the programs: for every platform the same.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, ensure};

use super::{REPOSITORY, Release};

/// `install.sh` and `install.ps1`, as they are in `installers`.
///
/// # Errors
/// One of them downloads from another place than the repository's.
pub(super) fn make(release: &Release) -> anyhow::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for name in ["install.sh", "install.ps1"] {
        let text = release.read_text(&format!("installers/{name}"))?;
        let addresses: Vec<&str> = text.split("https://github.com/").skip(1).collect();
        let wanted = REPOSITORY.trim_start_matches("https://github.com/");
        ensure!(
            addresses.len() == 2 && addresses.iter().all(|address| address.starts_with(wanted)),
            "installers/{name} downloads from elsewhere than Cargo.toml says: {REPOSITORY}"
        );
        let path = release.output.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        made.push(path);
    }
    Ok(made)
}
