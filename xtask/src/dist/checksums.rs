//! SHA-256 checksums, in the form that `sha256sum --check` reads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use super::{hex, read};

/// `SHA256SUMS`: a line for every file of `folder`, by name, besides checksums.
pub(super) fn make(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let list = folder.join("SHA256SUMS");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let is_checksum = path == list || path.extension().is_some_and(|extension| extension == "sha256");
        if path.is_file() && !is_checksum {
            files.push(path);
        }
    }
    files.sort();
    let lines = files.iter().map(|file| line(file)).collect::<anyhow::Result<String>>()?;
    fs::write(&list, lines).with_context(|| format!("cannot write {}", list.display()))?;
    Ok(vec![list])
}

/// `FILE.sha256` beside `file`.
pub(super) fn beside(file: &Path) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(format!("{}.sha256", file.display()));
    fs::write(&path, line(file)?).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The checksum of `file`, in hexadecimal digits.
///
/// # Errors
/// `FILE.sha256` beside it says another one.
pub(super) fn checked(file: &Path) -> anyhow::Result<String> {
    let line = line(file)?;
    let beside = PathBuf::from(format!("{}.sha256", file.display()));
    ensure!(
        !beside.exists() || read(&beside)? == line.as_bytes(),
        "{} is not what {} is about; make both again",
        file.display(),
        beside.display()
    );
    Ok(line[..64].to_owned())
}

fn line(file: &Path) -> anyhow::Result<String> {
    let name = file.file_name().context("a file has a name")?.to_str().context("the name is not Unicode")?;
    Ok(format!("{}  {name}\n", hex(&Sha256::digest(read(file)?))))
}
