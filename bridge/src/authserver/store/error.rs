//! Why the state cannot be used.

use std::{io, path::PathBuf};

use rusqlite::ErrorCode;

/// Why the state of the authorization server cannot be used, or not be changed so.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder or the file cannot be made or opened.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    File {
        /// Make, open, …
        doing: &'static str,
        /// Folder or file.
        path: PathBuf,
        /// Why not; part of the text, because it is all there is to say.
        source: io::Error,
    },
    /// Others could read or change who may get in.
    #[error("`{}` {problem}, and it says who may use this server; {remedy}", path.display())]
    Exposed {
        /// Folder or file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// It is no database, or a broken one.
    #[error(
        "`{}` is damaged; put a backup in its place, or move it away to begin anew: then every client has to be \
         connected again", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A newer version has written it.
    #[error(
        "`{}` was written by a newer version of this program (its layout is {found}, and this version knows {known}); \
         use that version, or move the file away", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Another process keeps it locked.
    #[error("the state is locked by another program; end what holds it, like a backup that hangs")]
    Busy,
    /// The disk is full.
    #[error("there is no space left for the state; make some")]
    Full,
    /// It cannot be written.
    #[error("the state cannot be written; look at the rights of its folder, and whether the disk is read-only")]
    ReadOnly,
    /// Such a user is there already.
    #[error("there is a user of that name already")]
    Exists,
    /// The owner cannot be removed.
    #[error("the owner cannot be removed; another passphrase is made by `mcp-bridge owner reset`")]
    Owner,
    /// Anything else.
    #[error("the state cannot be used: {0}")]
    Other(rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DiskFull) => Self::Full,
            // SQLite makes a file beside its own before anything is read; where it cannot, it opens nothing.
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => Self::ReadOnly,
            _ => Self::Other(error),
        }
    }
}
