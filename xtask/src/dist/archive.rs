//! The plain archive: a folder with the programs and their documents; and the writing of archives.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use flate2::{Compression, GzBuilder};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{Release, documents, read, rfc3339};

/// A file in an archive.
#[derive(Debug)]
pub(crate) struct Entry {
    /// With `/` between folders, on every platform.
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
    pub(crate) executable: bool,
}

impl Entry {
    pub(crate) fn text(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), content: content.into(), executable: false }
    }

    /// The program at `file`, to be found at `path`.
    pub(crate) fn program(path: impl Into<String>, file: &Path) -> anyhow::Result<Self> {
        Ok(Self { path: path.into(), content: read(file)?, executable: true })
    }

    fn mode(&self) -> u32 {
        if self.executable { 0o755 } else { 0o644 }
    }
}

/// `mcp-bridge-VERSION-TARGET.tar.gz`, or `.zip` for Windows.
pub(super) fn make(release: &Release) -> anyhow::Result<Vec<PathBuf>> {
    let name = format!("mcp-bridge-{}-{}", release.version, release.target);
    let mut entries = Vec::new();
    for program in release.binaries.all() {
        let file = program.file_name().context("a program has a name")?.to_string_lossy();
        entries.push(Entry::program(format!("{name}/{file}"), program)?);
    }
    for document in documents::all(release)? {
        entries.push(Entry::text(format!("{name}/{}", document.path), document.content));
    }
    let path = if release.target.is_windows() {
        let path = release.output.join(format!("{name}.zip"));
        zip(&path, &entries, release.epoch)?;
        path
    } else {
        let path = release.output.join(format!("{name}.tar.gz"));
        tar_gz(&path, &entries, release.epoch)?;
        path
    };
    Ok(vec![path])
}

/// Writes a .tar.gz that has the same bytes for the same entries and time.
pub(crate) fn tar_gz(path: &Path, entries: &[Entry], epoch: u64) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    // No time and no name in the head of the gzip.
    let mut tar = tar::Builder::new(GzBuilder::new().mtime(0).write(file, Compression::best()));
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(entry.content.len() as u64);
        header.set_mode(entry.mode());
        header.set_mtime(epoch);
        tar.append_data(&mut header, &entry.path, entry.content.as_slice())
            .with_context(|| format!("cannot pack {}", entry.path))?;
    }
    tar.into_inner()?.finish()?.flush()?;
    Ok(())
}

/// Writes a .zip that has the same bytes for the same entries.
///
/// Its times are those of the release: a zip knows none before 1980 and no time zone.
pub(crate) fn zip(path: &Path, entries: &[Entry], epoch: u64) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut zip = ZipWriter::new(file);
    let time = dos_time(epoch)?;
    for entry in entries {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(9))
            .last_modified_time(time)
            .unix_permissions(entry.mode());
        zip.start_file(&entry.path, options).with_context(|| format!("cannot pack {}", entry.path))?;
        zip.write_all(&entry.content)?;
    }
    zip.finish()?;
    Ok(())
}

fn dos_time(epoch: u64) -> anyhow::Result<zip::DateTime> {
    let text = rfc3339(epoch);
    let part = |range: std::ops::Range<usize>| -> anyhow::Result<u16> {
        text.get(range).and_then(|part| part.parse().ok()).with_context(|| format!("not a time: {text}"))
    };
    let (month, day, hour) = (part(5..7)? as u8, part(8..10)? as u8, part(11..13)? as u8);
    zip::DateTime::from_date_and_time(part(0..4)?, month, day, hour, part(14..16)? as u8, part(17..19)? as u8)
        .with_context(|| format!("a zip cannot say {text}"))
}
