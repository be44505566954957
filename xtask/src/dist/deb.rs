//! The Debian package.
//!
//! A .deb is two archives and a line in a third (deb(5)), so this writes it by itself: cargo-deb takes
//! longer to build than everything else here, and what dpkg-deb makes depends on the version of
//! liblzma. lintian and dpkg judge the result in tests/packages/parts/deb.

use std::{fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, bail};
use md5::{Digest as _, Md5};
use tar::EntryType;

use super::{
    Release, Target, hex,
    linux::{self, Family, File, Kind, MAINTAINER, NAME, SUMMARY, gzip},
    rfc3339,
};

/// `mcp-bridge_VERSION-REVISION_ARCHITECTURE.deb`
pub(super) fn make(release: &Release) -> anyhow::Result<Vec<PathBuf>> {
    let architecture = architecture(release.target)?;
    let version = format!("{}-{}", linux::version(release), release.revision);
    let files = files(release, &version)?;

    let mut control = vec![
        ("control", control(release, &version, architecture, &files)?, 0o644),
        ("md5sums", md5sums(&files)?, 0o644),
        ("conffiles", configuration(&files), 0o644),
    ];
    for script in ["postinst", "postrm", "prerm"] {
        control.push((script, release.read_text(&format!("installers/deb/{script}"))?, 0o755));
    }
    let mut archive = Archive::new(release.epoch);
    archive.folder("")?;
    for (name, text, mode) in control {
        archive.file(name, text.as_bytes(), mode)?;
    }
    let control = archive.finish()?;

    let mut archive = Archive::new(release.epoch);
    archive.folder("")?;
    // Everything in the order of its path, which puts folders before what is in them.
    let mut entries: Vec<(&str, Option<&File>)> = linux::folders(&files).into_iter().map(|path| (path, None)).collect();
    entries.extend(files.iter().map(|file| (file.path.as_str(), Some(file))));
    entries.sort_unstable_by_key(|(path, _)| *path);
    for (path, file) in entries {
        match file {
            None => archive.folder(path)?,
            Some(file) => archive.file(path, &file.content, file.mode)?,
        }
    }
    let data = archive.finish()?;

    let path = release.output.join(format!("{NAME}_{version}_{architecture}.deb"));
    let members: [(&str, &[u8]); 3] =
        [("debian-binary", b"2.0\n"), ("control.tar.gz", &control), ("data.tar.gz", &data)];
    fs::write(&path, ar(&members, release.epoch)).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(vec![path])
}

/// Debian's word for the processor.
pub(super) fn architecture(target: Target) -> anyhow::Result<&'static str> {
    match target {
        Target::LinuxX64 => Ok("amd64"),
        Target::LinuxArm64 => Ok("arm64"),
        other => bail!("{other} has no Debian packages"),
    }
}

/// What all packages hold, and what Debian alone wants.
fn files(release: &Release, version: &str) -> anyhow::Result<Vec<File>> {
    let mut files = linux::files(release, Family::Debian)?;
    let own = |name: &str| release.read_text(&format!("installers/deb/{name}"));
    files.push(File::new(format!("usr/share/doc/{NAME}/copyright"), own("copyright")?, Kind::Licence));
    files.push(File::new(format!("usr/share/lintian/overrides/{NAME}"), own("lintian-overrides")?, Kind::Plain));
    let changelog = format!(
        "{NAME} ({version}) unstable; urgency=medium\n\n  * Package of version {}; changelog.gz says what is new.\n\n \
         -- {MAINTAINER}  {}\n",
        release.version,
        date(release.epoch)?,
    );
    let path = format!("usr/share/doc/{NAME}/changelog.Debian.gz");
    files.push(File::new(path, gzip(changelog.as_bytes())?, Kind::Documentation));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn control(release: &Release, version: &str, architecture: &str, files: &[File]) -> anyhow::Result<String> {
    // In units of 1024 bytes; each file and folder takes one more.
    let installed: usize = files.iter().map(|file| file.content.len().div_ceil(1024)).sum();
    let installed = installed + linux::folders(files).len();
    let mut text = format!(
        "Package: {NAME}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: {MAINTAINER}\n\
         Installed-Size: {installed}\n{}Description: {SUMMARY}\n",
        release.read_text("installers/deb/control")?,
    );
    for line in release.read_text("installers/deb/description")?.lines() {
        // A paragraph ends with a line that only has a full stop.
        writeln!(text, " {}", if line.is_empty() { "." } else { line })?;
    }
    Ok(text)
}

fn md5sums(files: &[File]) -> anyhow::Result<String> {
    let mut text = String::new();
    for file in files.iter().filter(|file| file.kind != Kind::Configuration) {
        writeln!(text, "{}  {}", hex(&Md5::digest(&file.content)), file.path)?;
    }
    Ok(text)
}

fn configuration(files: &[File]) -> String {
    let files = files.iter().filter(|file| file.kind == Kind::Configuration);
    files.map(|file| format!("/{}\n", file.path)).collect()
}

/// A date as changelogs have it: `Thu, 26 Nov 2026 13:20:00 +0000`.
fn date(epoch: u64) -> anyhow::Result<String> {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = rfc3339(epoch);
    let parts: Vec<&str> = text.split(['-', 'T', 'Z']).collect();
    let [year, month, day, clock, _] = parts[..] else { bail!("not a time: {text}") };
    let month = month.parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?));
    let month = month.with_context(|| format!("not a time: {text}"))?;
    // 1 January 1970 was a Thursday.
    let weekday = DAYS[(epoch / (24 * 60 * 60) % 7) as usize];
    Ok(format!("{weekday}, {day} {month} {year} {clock} +0000"))
}

/// A .tar.gz in memory, whose files belong to root.
struct Archive {
    tar: tar::Builder<Vec<u8>>,
    epoch: u64,
}

impl Archive {
    fn new(epoch: u64) -> Self {
        Self { tar: tar::Builder::new(Vec::new()), epoch }
    }

    fn folder(&mut self, path: &str) -> anyhow::Result<()> {
        let path = if path.is_empty() { "./".to_owned() } else { format!("./{path}/") };
        self.entry(&path, EntryType::Directory, 0o755, &[])
    }

    fn file(&mut self, path: &str, content: &[u8], mode: u16) -> anyhow::Result<()> {
        self.entry(&format!("./{path}"), EntryType::Regular, mode, content)
    }

    fn entry(&mut self, path: &str, kind: EntryType, mode: u16, content: &[u8]) -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        // Not set_path: it drops the `./` that dpkg writes and some programs look for.
        let name = &mut header.as_old_mut().name;
        let bytes = path.as_bytes();
        // The last byte is a zero.
        let Some(place) = name.get_mut(..bytes.len()).filter(|_| bytes.len() < 100) else {
            bail!("{path} is too long for a package");
        };
        place.copy_from_slice(bytes);
        header.set_entry_type(kind);
        header.set_mode(u32::from(mode));
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("root")?;
        header.set_mtime(self.epoch);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.tar.append(&header, content).with_context(|| format!("cannot pack {path}"))
    }

    fn finish(self) -> anyhow::Result<Vec<u8>> {
        gzip(&self.tar.into_inner()?)
    }
}

/// The outer archive (ar(5)): a header of text before each member, and members at even offsets.
fn ar(members: &[(&str, &[u8])], epoch: u64) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        bytes.extend(format!("{name:<16}{epoch:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 100_644, content.len()).bytes());
        bytes.extend_from_slice(content);
        if content.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_changelogs() {
        let check = |epoch, expected: &str| assert_eq!(date(epoch).expect("a date"), expected);
        check(0, "Thu, 01 Jan 1970 00:00:00 +0000");
        check(951_827_696, "Tue, 29 Feb 2000 12:34:56 +0000");
        check(1_795_699_200, "Thu, 26 Nov 2026 13:20:00 +0000");
    }

    #[test]
    fn members_begin_at_even_offsets() {
        let bytes = ar(&[("a", b"123"), ("b", b"")], 7);
        assert_eq!(bytes.len(), 8 + 60 + 4 + 60);
        assert_eq!(&bytes[8 + 60 + 4..][..16], b"b               ");
        assert_eq!(&bytes[8 + 58..][..2], b"`\n");
    }

    #[test]
    fn architectures_have_debian_names() {
        assert_eq!(architecture(Target::LinuxArm64).expect("is packaged"), "arm64");
        assert!(architecture(Target::Macos).is_err());
    }

    #[test]
    fn a_path_too_long_for_tar_is_an_error() {
        assert!(Archive::new(0).file(&"x".repeat(98), b"", 0o644).is_err());
        assert!(Archive::new(0).file(&"x".repeat(97), b"", 0o644).is_ok());
    }
}
