//! Why a sign-in could not be kept or read.

use std::{io, path::PathBuf, time::Duration};

use thiserror::Error;

/// Why a sign-in could not be kept, read or forgotten.
///
/// None of these means "signed out": that is `None`.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Secret Service is reached through D-Bus, and there is none.
    #[error(
        "cannot reach the keyring: there is no D-Bus session here, as over SSH, in a container or in a \
         service; run this within a desktop session or under dbus-run-session, or use --token-store file"
    )]
    NoSession,
    /// Nobody on D-Bus offers Secret Service.
    #[error(
        "cannot reach the keyring: no Secret Service is running; start gnome-keyring, KWallet or \
         KeePassXC, or use --token-store file"
    )]
    NoService,
    /// There is a keyring service and no keyring in it. Reading then finds nothing, as if signed out.
    #[error(
        "cannot use the keyring: it has no default collection yet; log in to the desktop once or create \
         one (gnome-keyring-daemon --unlock, or Passwords and Keys), or use --token-store file"
    )]
    NoCollection,
    /// The keyring wants a password and nobody gave it.
    #[error(
        "cannot use the keyring: it is locked, and its password was not given ({0}); unlock it and try \
         again, or use --token-store file"
    )]
    Locked(String),
    /// The keyring's service hangs, or waits for a person.
    #[error(
        "the keyring has not answered within {} s; look for a window that asks for its password and try \
         again, or use --token-store file", .0.as_secs()
    )]
    Unanswered(Duration),
    /// The platform's own words.
    #[error("the keyring failed: {0}; check it with the tool of your system, or use --token-store file")]
    Keyring(String),
    /// What is kept is not what this program writes.
    #[error("cannot read {what}: {reason}; {remedy}")]
    Damaged {
        /// A path, or a sign-in.
        what: String,
        /// What is wrong with it. Quotes nothing.
        reason: String,
        /// What helps.
        remedy: &'static str,
    },
    /// A later version of this program has written it.
    #[error("cannot read {what}: its format {found} was written by a newer version of this program; update it")]
    Newer {
        /// A path, or a sign-in.
        what: String,
        /// The format that it has.
        found: u64,
    },
    /// Somebody else could read or replace what is kept.
    #[error("refusing to use {}: {problem}; {remedy}", path.display())]
    Exposed {
        /// Where.
        path: PathBuf,
        /// How.
        problem: &'static str,
        /// What helps.
        remedy: &'static str,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The platform names no folder for state, as where `HOME` is not set.
    #[error("cannot find the folder for sign-ins: this user has no home folder; set HOME, or name a state folder")]
    NoFolder,
    /// Another process holds what is needed.
    #[error("another process has been {0} for too long; end it, or try again")]
    Contended(&'static str),
}

impl StoreError {
    /// What helps where a file of ours cannot be understood.
    pub(super) const MOVE_AWAY: &str = "move it away and sign in again";
    /// What helps where a sign-in cannot be understood.
    pub(super) const SIGN_IN: &str = "sign in again";

    /// Whether another sign-in replaces what is wrong.
    pub(in crate::login) fn ends_with_a_sign_in(&self) -> bool {
        matches!(self, Self::Damaged { remedy, .. } if *remedy == Self::SIGN_IN)
    }

    /// Whether a person was asked for a password, and would be asked again by another try.
    pub(in crate::login) fn has_asked(&self) -> bool {
        matches!(self, Self::Locked(_) | Self::Unanswered(_))
    }

    /// The same once more: the keyring's library asks the platform only once whether it has one.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::NoSession => Self::NoSession,
            Self::NoService => Self::NoService,
            Self::NoCollection => Self::NoCollection,
            Self::Locked(cause) => Self::Locked(cause.clone()),
            Self::Keyring(cause) => Self::Keyring(cause.clone()),
            other => Self::Keyring(other.to_string()),
        }
    }
}
