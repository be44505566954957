//! Files that belong to one user and are replaced as a whole.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use directories::ProjectDirs;
use zeroize::Zeroizing;

use super::error::StoreError;

/// No list of sign-ins and no tokens come near it.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A folder of this user alone; created when something is first written.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The platform's folder for the state of `application`.
    pub(super) fn of_application(application: &str) -> Result<Self, StoreError> {
        let folders = ProjectDirs::from("", "", application).ok_or(StoreError::NoFolder)?;
        // Only Linux has a folder for state; elsewhere it is data that stays on this machine.
        Ok(Self(folders.state_dir().unwrap_or_else(|| folders.data_local_dir()).to_owned()))
    }

    pub(super) fn folder(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What identifies the present version of a file; `None` without one.
    pub(super) fn stamp(&self, name: &str) -> Option<Stamp> {
        let metadata = fs::metadata(self.path(name)).ok()?;
        Some(Stamp { modified: metadata.modified().ok(), size: metadata.len(), file: platform::file(&metadata) })
    }

    /// Whether there is certainly no such folder.
    pub(super) fn is_absent(&self) -> bool {
        is_absent(&self.0)
    }

    /// Whether there is certainly no file.
    pub(super) fn lacks(&self, name: &str) -> bool {
        is_absent(&self.path(name))
    }

    /// The content of a file; `None` without one.
    pub(super) fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let path = self.path(name);
        let failed = |source| StoreError::File { doing: "read", path: path.clone(), source };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        self.check()?;
        let metadata = file.metadata().map_err(failed)?;
        check_link(&path)?;
        check_private(&path, &metadata, "chmod 600 it")?;
        if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
            let what = path.display().to_string();
            let reason = "it is no file of this program".to_owned();
            return Err(StoreError::Damaged { what, reason, remedy: StoreError::MOVE_AWAY });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1));
        (&mut file).take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    /// Replaces a file as a whole: whoever reads it meanwhile, and whoever comes after a crash, sees
    /// the old content or the new one. Only one at a time may write a file.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.create()?;
        let (path, new) = (self.path(name), self.path(&unfinished(name)));
        let failed = |source| StoreError::File { doing: "write", path: path.clone(), source };
        // What a crash has left here, or somebody else has put here, is not written into.
        remove_file(&new)?;
        let mut file = private().create_new(true).open(&new).map_err(failed)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        drop(file);
        written.and_then(|()| fs::rename(&new, &path)).and_then(|()| self.sync()).map_err(|error| {
            // It may hold secrets; the error that counts is the first one.
            remove_file(&new).ok();
            failed(error)
        })
    }

    /// Removes a file, if there is one, and what a crash has left of its successor.
    pub(super) fn remove(&self, name: &str) -> Result<(), StoreError> {
        let (path, new) = (self.path(name), self.path(&unfinished(name)));
        if remove_file(&new)? | remove_file(&path)? {
            self.sync().map_err(|source| StoreError::File { doing: "remove", path, source })?;
        }
        Ok(())
    }

    /// A file to lock; it is never removed, because a lock on a removed file excludes nobody.
    pub(super) fn lock_file(&self, name: &str) -> Result<File, StoreError> {
        self.create()?;
        let path = self.path(name);
        private().create(true).truncate(false).open(&path).map_err(|source| StoreError::File {
            doing: "open",
            path,
            source,
        })
    }

    fn create(&self) -> Result<(), StoreError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let failed = |source| StoreError::File { doing: "create", path: self.0.clone(), source };
        builder.create(&self.0).map_err(failed)?;
        self.check()
    }

    fn check(&self) -> Result<(), StoreError> {
        check_link(&self.0)?;
        let metadata = fs::metadata(&self.0);
        let metadata = metadata.map_err(|source| StoreError::File { doing: "read", path: self.0.clone(), source })?;
        check_private(&self.0, &metadata, "chmod 700 it")
    }

    /// Makes the folder itself durable: without it a renamed file may come back after a crash.
    fn sync(&self) -> io::Result<()> {
        #[cfg(unix)]
        File::open(&self.0)?.sync_all()?;
        Ok(())
    }
}

/// What a file is called while it is written.
fn unfinished(name: &str) -> String {
    format!(".new-{name}")
}

/// How files are made that only their user can open; on Windows they inherit that from the profile.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Whether there was one.
fn remove_file(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StoreError::File { doing: "remove", path: path.to_owned(), source }),
    }
}

/// Which version of a file was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<std::time::SystemTime>,
    size: u64,
    file: u64,
}

fn is_absent(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// A link that somebody else has put there leads where somebody else wants.
fn check_link(path: &Path) -> Result<(), StoreError> {
    let metadata = fs::symlink_metadata(path);
    let metadata = metadata.map_err(|source| StoreError::File { doing: "read", path: path.to_owned(), source })?;
    if metadata.is_symlink() && !platform::is_ours(&metadata) {
        let (problem, remedy) = ("it is a symbolic link that belongs to another user", "remove it");
        return Err(StoreError::Exposed { path: path.to_owned(), problem, remedy });
    }
    Ok(())
}

fn check_private(path: &Path, metadata: &Metadata, remedy: &'static str) -> Result<(), StoreError> {
    let exposed = |problem, remedy| Err(StoreError::Exposed { path: path.to_owned(), problem, remedy });
    if !platform::is_ours(metadata) {
        return exposed("it belongs to another user", "remove it, or run this as its owner");
    }
    if !platform::is_private(metadata) {
        return exposed("other users can open it", remedy);
    }
    Ok(())
}

#[cfg(unix)]
mod platform {
    use std::{fs::Metadata, os::unix::fs::MetadataExt as _};

    pub(super) fn is_ours(metadata: &Metadata) -> bool {
        metadata.uid() == rustix::process::geteuid().as_raw()
    }

    pub(super) fn is_private(metadata: &Metadata) -> bool {
        metadata.mode() & 0o077 == 0
    }

    pub(super) fn file(metadata: &Metadata) -> u64 {
        metadata.ino()
    }
}

/// On Windows the folders of a user's profile are closed to others already, by access lists.
#[cfg(windows)]
mod platform {
    use std::fs::Metadata;

    pub(super) fn is_ours(_: &Metadata) -> bool {
        true
    }

    pub(super) fn is_private(_: &Metadata) -> bool {
        true
    }

    pub(super) fn file(_: &Metadata) -> u64 {
        0
    }
}
