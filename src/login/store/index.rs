//! The list of sign-ins: who and where, without secrets.
//!
//! It can be read without the keyring, so that listing never asks anybody for a password. For each
//! slot it names what may be left over of older sign-ins: a crash between two steps leaves nothing
//! behind that is not found and removed at the next one.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{
    error::StoreError,
    folder::{self, Folder},
    lock::{Guard, Locks},
    wire::{VERSION, Versioned, seconds},
};
use crate::login::record::Slot;

/// The name of the file.
const FILE: &str = "sign-ins.json";
/// Many times what reading, changing and writing a small file takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A sign-in as it is listed; it holds no secret.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Whose it is.
    pub slot: Slot,
    /// As in [`Record`](crate::login::Record).
    pub issuer: String,
    /// As in [`Record`](crate::login::Record).
    pub resource: Option<String>,
    /// As in [`Client`](crate::login::Client).
    pub client_id: String,
    /// As in [`Record`](crate::login::Record).
    pub scopes: Vec<String>,
    /// As in [`Record`](crate::login::Record).
    pub subject: Option<String>,
    /// As in [`Record`](crate::login::Record).
    pub email: Option<String>,
    /// When the access token ends, if that is known.
    pub expires_at: Option<SystemTime>,
    /// When it was kept.
    pub saved_at: SystemTime,
    /// Which of all that were ever kept here.
    pub generation: Generation,
    /// Which sign-in of the user's that goes back to: renewed tokens are of the family of those before.
    pub family: Generation,
}

/// A sign-in that its user has not ended; it stays listed so that nothing goes on as if nobody had
/// ever signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How it ended, for people.
    pub reason: String,
    /// As in [`Record`](crate::login::Record).
    pub issuer: String,
    /// As in [`Record`](crate::login::Record).
    pub resource: Option<String>,
}

/// Tells what was kept from what was kept before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation(String);

impl Generation {
    pub(super) fn new() -> Self {
        Self(random())
    }

    /// That of what was never kept.
    pub(in crate::login) fn none() -> Self {
        Self(String::new())
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 64 bits that have not been seen before.
pub(super) fn random() -> String {
    format!("{:016x}", getrandom::u64().expect("the operating system has random numbers"))
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Content {
    version: u64,
    pub(super) slots: Vec<Row>,
}

/// What is known of one slot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    account: String,
    server: Option<String>,
    pub(super) signed_in: Option<SignedIn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ended: Option<Ended>,
    /// Names under which there may be secrets that belong to no sign-in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) leftovers: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SignedIn {
    pub(super) issuer: String,
    pub(super) resource: Option<String>,
    pub(super) client_id: String,
    pub(super) scopes: Vec<String>,
    pub(super) subject: Option<String>,
    pub(super) email: Option<String>,
    #[serde(with = "seconds")]
    pub(super) expires_at: Option<SystemTime>,
    #[serde(with = "seconds")]
    pub(super) saved_at: Option<SystemTime>,
    pub(super) generation: Generation,
    /// Missing where a version wrote it that did not know families: then every generation is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) family: Option<Generation>,
}

impl Content {
    /// What is known of `slot`.
    pub(super) fn row(&self, slot: &Slot) -> Option<&Row> {
        self.slots.iter().find(|row| row.is_of(slot))
    }

    /// The same, made where there is none.
    pub(super) fn row_mut(&mut self, slot: &Slot) -> &mut Row {
        let at = self.slots.iter().position(|row| row.is_of(slot)).unwrap_or_else(|| {
            let (account, server) = (slot.account.clone(), slot.server.clone());
            self.slots.push(Row { account, server, signed_in: None, ended: None, leftovers: Vec::new() });
            self.slots.len() - 1
        });
        &mut self.slots[at]
    }
}

impl Row {
    fn is_of(&self, slot: &Slot) -> bool {
        (&self.account, &self.server) == (&slot.account, &slot.server)
    }

    pub(super) fn slot(&self) -> Slot {
        Slot { account: self.account.clone(), server: self.server.clone() }
    }

    /// The sign-in, if there is one.
    pub(super) fn entry(&self) -> Option<Entry> {
        let signed_in = self.signed_in.clone()?;
        Some(Entry {
            slot: self.slot(),
            issuer: signed_in.issuer,
            resource: signed_in.resource,
            client_id: signed_in.client_id,
            scopes: signed_in.scopes,
            subject: signed_in.subject,
            email: signed_in.email,
            expires_at: signed_in.expires_at,
            saved_at: signed_in.saved_at.unwrap_or(SystemTime::UNIX_EPOCH),
            family: signed_in.family.unwrap_or_else(|| signed_in.generation.clone()),
            generation: signed_in.generation,
        })
    }
}

/// Where the list is.
#[derive(Debug)]
pub(super) enum Index {
    File(Folder, Locks),
    Memory(Mutex<(u64, Content)>),
}

/// Which version of the list was seen: cheaper than to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Absent,
    File(folder::Stamp),
    Memory(u64),
}

impl Index {
    pub(super) fn stamp(&self) -> Stamp {
        Stamp(match self {
            Self::File(folder, _) => folder.stamp(FILE).map_or(Kind::Absent, Kind::File),
            Self::Memory(list) => Kind::Memory(list.lock().unwrap_or_else(PoisonError::into_inner).0),
        })
    }

    /// Whether nothing was ever listed.
    pub(super) fn is_new(&self) -> bool {
        match self {
            Self::File(folder, _) => folder.lacks(FILE),
            Self::Memory(list) => list.lock().unwrap_or_else(PoisonError::into_inner).0 == 0,
        }
    }

    pub(super) fn read(&self) -> Result<Content, StoreError> {
        match self {
            Self::File(folder, _) => read(folder),
            Self::Memory(list) => Ok(list.lock().unwrap_or_else(PoisonError::into_inner).1.clone()),
        }
    }

    /// Changes the list; nobody else changes it meanwhile. Slots of which nothing is known go.
    pub(super) fn update(&self, change: impl FnOnce(&mut Content)) -> Result<(), StoreError> {
        match self {
            Self::File(folder, locks) => {
                let _alone = lock(locks)?;
                let mut content = read(folder)?;
                apply(&mut content, change);
                let mut text = serde_json::to_vec_pretty(&content).expect("text and numbers are JSON");
                text.push(b'\n');
                folder.write(FILE, &text)
            }
            Self::Memory(list) => {
                let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
                list.0 += 1;
                apply(&mut list.1, change);
                Ok(())
            }
        }
    }
}

/// For writing small files beside the list, and the list.
pub(super) fn lock(locks: &Locks) -> Result<Guard, StoreError> {
    locks.acquire("sign-ins", "writing the list of sign-ins", Instant::now() + PATIENCE)
}

fn apply(content: &mut Content, change: impl FnOnce(&mut Content)) {
    content.version = VERSION;
    change(content);
    content.slots.retain(|row| row.signed_in.is_some() || row.ended.is_some() || !row.leftovers.is_empty());
}

fn read(folder: &Folder) -> Result<Content, StoreError> {
    let Some(bytes) = folder.read(FILE)? else { return Ok(Content::default()) };
    let what = || format!("the list of sign-ins {}", folder.path(FILE).display());
    // Never replaced by an empty one: it may be all that names what is in the keyring.
    let damaged = |error: serde_json::Error| StoreError::Damaged {
        what: what(),
        reason: format!("line {}, column {}: it is damaged", error.line(), error.column()),
        remedy: StoreError::MOVE_AWAY,
    };
    let Versioned { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if version != VERSION {
        return Err(StoreError::Newer { what: what(), found: version });
    }
    serde_json::from_slice(&bytes).map_err(damaged)
}
