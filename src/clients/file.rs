//! Replacing a file so that nothing is ever lost: not by a crash, and not by somebody else who writes it, too.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

// Some clients keep their history in the same file; theirs have reached tens of megabytes.
const MAX_BYTES: u64 = 256 << 20;
// A client that writes all the time must not keep us forever.
const ATTEMPTS: usize = 5;
// Another install needs milliseconds for a file.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const BOM: &str = "\u{feff}";

/// Why a file could not be read or replaced; it is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot {what} {path}: {error}", path = .path.display())]
    Io { what: &'static str, path: PathBuf, error: io::Error },
    #[error("{} is a link to something that does not exist; remove the link or make its target", .0.display())]
    Dangling(PathBuf),
    #[error("{} is no regular file", .0.display())]
    NotAFile(PathBuf),
    #[error("{} is larger than 256 MiB", .0.display())]
    TooLarge(PathBuf),
    #[error("{path} is not in UTF-8 (line {line}); save it as UTF-8", path = .path.display())]
    Encoding { path: PathBuf, line: usize },
    #[cfg(unix)]
    #[error("{} belongs to another user, and its owner cannot be kept; run this as that user", .0.display())]
    Owner(PathBuf),
    #[error("another program keeps its lock on {}; try again when it has ended", .0.display())]
    Locked(PathBuf),
    #[error("{} was changed by another program each time we looked; close that program and try again", .0.display())]
    Restless(PathBuf),
}

/// A file as it was when somebody looked.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Where links lead to.
    target: PathBuf,
    bytes: Option<Vec<u8>>,
}

/// What became of a file.
#[derive(Debug)]
pub(crate) enum Replaced {
    /// There was nothing to change.
    Unchanged,
    /// It has the new text.
    Written {
        /// What it was before, unless it was not there.
        backup: Option<PathBuf>,
    },
}

impl Snapshot {
    /// Reads `path`, which need not exist.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let io_error = |error| FileError::Io { what: "read", path: path.to_owned(), error };
        // Windows itself says `\\?\C:\…`, which is for programs.
        let target = match dunce::canonicalize(path) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
                if is_link {
                    return Err(FileError::Dangling(path.to_owned()));
                }
                return Ok(Self { target: path.to_owned(), bytes: None });
            }
            Err(error) => return Err(io_error(error)),
        };
        if !fs::metadata(&target).map_err(io_error)?.is_file() {
            return Err(FileError::NotAFile(target));
        }
        let mut bytes = Vec::new();
        File::open(&target).map_err(io_error)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io_error)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(FileError::TooLarge(target));
        }
        Ok(Self { target, bytes: Some(bytes) })
    }

    /// Its text without a byte order mark; nothing if the file is not there.
    pub(crate) fn text(&self) -> Result<&str, FileError> {
        let bytes = self.bytes.as_deref().unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            FileError::Encoding { path: self.target.clone(), line }
        })?;
        Ok(text.strip_prefix(BOM).unwrap_or(text))
    }

    fn has_bom(&self) -> bool {
        self.bytes.as_deref().is_some_and(|bytes| bytes.starts_with(BOM.as_bytes()))
    }
}

/// Gives the file at `path` the text that `edit` makes of its present one; `None` leaves it alone.
///
/// Links are followed. The new text stands in a file of its own before it takes the old one's place in one step, with
/// the old one's mode and owner; the old one is kept beside. If the file changes meanwhile, all starts again.
pub(crate) fn replace<E: From<FileError>>(
    path: &Path,
    now: SystemTime,
    privacy: Privacy,
    edit: &mut dyn FnMut(&str) -> Result<Option<String>, E>,
) -> Result<Replaced, E> {
    replace_with(path, now, privacy, edit, &mut |_| {})
}

/// Who may read the new file, and what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privacy {
    /// Whoever could read the old one.
    AsBefore,
    /// Its owner alone: there are secrets in it. Elsewhere than on Unix, whoever could read the old one.
    Owner,
}

/// The moments at which a test interferes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The new text has been made of the old one.
    Edited,
    /// Old and new text are on the disk, the old one in its place.
    Ready,
}

fn replace_with<E: From<FileError>>(
    path: &Path,
    now: SystemTime,
    privacy: Privacy,
    edit: &mut dyn FnMut(&str) -> Result<Option<String>, E>,
    step: &mut dyn FnMut(Step),
) -> Result<Replaced, E> {
    let mut lock = None;
    for _ in 0..ATTEMPTS {
        let before = Snapshot::read(path)?;
        let Some(text) = edit(before.text()?)? else { return Ok(Replaced::Unchanged) };
        let folder = before.target.parent().unwrap_or(Path::new("."));
        if before.bytes.is_none() {
            fs::create_dir_all(folder).map_err(|error| FileError::Io {
                what: "make the folder",
                path: folder.to_owned(),
                error,
            })?;
        }
        if lock.is_none() {
            lock = Some(lock::take(folder, &before.target)?);
            // Who had the lock before us may have changed what we read.
            if !is_as_before(path, &before)? {
                continue;
            }
        }
        step(Step::Edited);
        let bom = if before.has_bom() { BOM } else { "" };
        let new = write_beside(&before, folder, privacy, &[bom, &text])?;
        let backup = match &before.bytes {
            Some(bytes) => Some(back_up(&before.target, bytes, privacy, now)?),
            None => None,
        };
        step(Step::Ready);
        if !is_as_before(path, &before)? {
            // It holds what is not in the file any more, and nothing was done to that.
            backup.map(fs::remove_file);
            continue;
        }
        let moved = if backup.is_some() { new.persist(&before.target) } else { new.persist_noclobber(&before.target) };
        match moved {
            Ok(_) => {}
            Err(error) if backup.is_none() && error.error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(FileError::Io { what: "replace", path: before.target, error: error.error }.into()),
        }
        sync_folder(folder);
        return Ok(Replaced::Written { backup });
    }
    Err(FileError::Restless(path.to_owned()).into())
}

fn is_as_before(path: &Path, before: &Snapshot) -> Result<bool, FileError> {
    let now = Snapshot::read(path)?;
    Ok(now.target == before.target && now.bytes == before.bytes)
}

/// A file in the same folder, so that it can be moved in one step: complete, on the disk, with mode and owner of the
/// old one. What is new is for its owner alone, as servers' settings may hold secrets.
fn write_beside(
    before: &Snapshot,
    folder: &Path,
    privacy: Privacy,
    text: &[&str],
) -> Result<tempfile::NamedTempFile, FileError> {
    let io_error = |error| FileError::Io { what: "write beside", path: before.target.clone(), error };
    let name = before.target.file_name().unwrap_or_default();
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    let mut file = tempfile::Builder::new().prefix(&prefix).suffix(".new").tempfile_in(folder).map_err(io_error)?;
    for part in text {
        file.write_all(part.as_bytes()).map_err(io_error)?;
    }
    if before.bytes.is_some() {
        keep_owner_and_mode(&before.target, file.as_file(), privacy)?;
    }
    file.as_file().sync_all().map_err(io_error)?;
    Ok(file)
}

/// Keeps `bytes`, which were read from `target`, under a name with the time, as private as `target` is.
fn back_up(target: &Path, bytes: &[u8], privacy: Privacy, now: SystemTime) -> Result<PathBuf, FileError> {
    // Colons are no part of a name on Windows.
    let time = humantime::format_rfc3339_seconds(now).to_string().replace(':', "-");
    let mut count = 0;
    loop {
        let mut path = target.as_os_str().to_owned();
        path.push(format!(".{time}{}.bak", if count == 0 { String::new() } else { format!("-{count}") }));
        let path = PathBuf::from(path);
        let io_error = |error| FileError::Io { what: "write the backup", path: path.clone(), error };
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && count < 1000 => {
                count += 1;
                continue;
            }
            opened => opened.map_err(io_error)?,
        };
        let written =
            file.write_all(bytes).map_err(io_error).and_then(|()| keep_owner_and_mode(target, &file, privacy));
        if let Err(error) = written.and_then(|()| file.sync_all().map_err(io_error)) {
            // Half a backup is worse than none.
            fs::remove_file(&path).ok();
            return Err(error);
        }
        return Ok(path);
    }
}

fn keep_owner_and_mode(original: &Path, file: &File, privacy: Privacy) -> Result<(), FileError> {
    let io_error = |error| FileError::Io { what: "keep the mode of", path: original.to_owned(), error };
    let metadata = fs::metadata(original).map_err(io_error)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let ours = file.metadata().map_err(io_error)?;
        // Under sudo, the client could not read its own file any more.
        if ours.uid() != metadata.uid() {
            fchown(file, Some(metadata.uid()), None).map_err(|_| FileError::Owner(original.to_owned()))?;
        }
        if ours.gid() != metadata.gid() {
            // A group that we are not in cannot be given; then the mode must not speak of another one.
            fchown(file, None, Some(metadata.gid())).map_err(|_| FileError::Owner(original.to_owned()))?;
        }
    }
    let permissions = match privacy {
        Privacy::AsBefore => metadata.permissions(),
        Privacy::Owner => for_owner(metadata.permissions()),
    };
    file.set_permissions(permissions).map_err(io_error)
}

/// Without what others may do.
#[cfg_attr(not(unix), expect(unused_mut, reason = "access lists come from the folder"))]
fn for_owner(mut permissions: fs::Permissions) -> fs::Permissions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        permissions.set_mode(permissions.mode() & !0o077);
    }
    permissions
}

#[cfg(unix)]
fn sync_folder(folder: &Path) {
    // The file is whole either way; this only makes its new name last. Some file systems cannot.
    File::open(folder).and_then(|folder| folder.sync_all()).ok();
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) {}

/// One at a time among the programs of this project.
mod lock {
    use super::{Duration, File, FileError, Instant, LOCK_PATIENCE, Path};

    /// Held until it is dropped.
    pub(super) struct Lock(#[expect(dead_code, reason = "held for its lock")] Option<File>);

    /// The folder itself is locked: a file for the lock would stay behind, or be removed under somebody's feet.
    #[cfg(unix)]
    pub(super) fn take(folder: &Path, target: &Path) -> Result<Lock, FileError> {
        let folder =
            File::open(folder).map_err(|error| FileError::Io { what: "open", path: folder.to_owned(), error })?;
        patiently(target, || match folder.try_lock() {
            Ok(()) => Some(true),
            Err(std::fs::TryLockError::WouldBlock) => None,
            // A file system without locks; whoever writes meanwhile is still noticed.
            Err(std::fs::TryLockError::Error(_)) => Some(false),
        })?;
        Ok(Lock(Some(folder)))
    }

    /// A file that nobody else can open, and that goes with its last handle.
    #[cfg(windows)]
    pub(super) fn take(folder: &Path, target: &Path) -> Result<Lock, FileError> {
        use std::os::windows::fs::OpenOptionsExt as _;
        const FILE_FLAG_DELETE_ON_CLOSE: u32 = 0x0400_0000;
        let path = folder.join(".mcp-install.lock");
        let mut held = None;
        patiently(target, || {
            let mut options = std::fs::OpenOptions::new();
            match options.write(true).create(true).share_mode(0).custom_flags(FILE_FLAG_DELETE_ON_CLOSE).open(&path) {
                Ok(file) => {
                    held = Some(file);
                    Some(true)
                }
                // Sharing violation, or its deletion is under way. Without a right to the folder, the write
                // will say so.
                Err(error) if matches!(error.raw_os_error(), Some(32 | 303)) => None,
                Err(_) => Some(false),
            }
        })?;
        Ok(Lock(held))
    }

    fn patiently(target: &Path, mut attempt: impl FnMut() -> Option<bool>) -> Result<(), FileError> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        while attempt().is_none() {
            if Instant::now() > deadline {
                return Err(FileError::Locked(target.to_owned()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
