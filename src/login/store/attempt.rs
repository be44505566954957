//! What processes tell each other of sign-ins that failed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{error::StoreError, folder::Folder, wire::seconds};

/// A failed attempt to sign in, or one that is going on; holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it failed.
    #[serde(with = "seconds")]
    pub at: Option<SystemTime>,
    /// How it failed, for people.
    pub reason: String,
    /// Tells it from others.
    pub id: String,
    /// Whether it is going on, as far as anybody has said: with the lock for signing in free, whoever made
    /// it was killed.
    #[serde(default)]
    pub is_under_way: bool,
}

impl Attempt {
    /// An attempt that failed now.
    #[must_use]
    pub fn failed(at: SystemTime, reason: String) -> Self {
        Self { at: Some(at), reason, id: super::index::random(), is_under_way: false }
    }

    /// An attempt that begins now, and counts as failed if nothing else is ever said of it.
    #[must_use]
    pub fn under_way(at: SystemTime) -> Self {
        Self { is_under_way: true, ..Self::failed(at, "the last sign-in was not brought to its end".to_owned()) }
    }
}

#[derive(Debug)]
pub(super) enum Attempts {
    Files(Folder),
    Memory(Mutex<HashMap<String, Attempt>>),
}

impl Attempts {
    pub(super) fn last(&self, slot: &str) -> Result<Option<Attempt>, StoreError> {
        match self {
            // One that cannot be understood is an old one: this is a courtesy, not a record.
            Self::Files(folder) => {
                Ok(folder.read(&file(slot))?.and_then(|attempt| serde_json::from_slice(&attempt).ok()))
            }
            Self::Memory(attempts) => Ok(attempts.lock().unwrap_or_else(PoisonError::into_inner).get(slot).cloned()),
        }
    }

    pub(super) fn note(&self, slot: &str, failed: Option<&Attempt>) -> Result<(), StoreError> {
        match (self, failed) {
            (Self::Files(folder), None) => folder.remove(&file(slot)),
            (Self::Files(folder), Some(attempt)) => {
                folder.write(&file(slot), &serde_json::to_vec(attempt).expect("text and numbers are JSON"))
            }
            (Self::Memory(attempts), failed) => {
                let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
                match failed {
                    None => attempts.remove(slot),
                    Some(attempt) => attempts.insert(slot.to_owned(), attempt.clone()),
                };
                Ok(())
            }
        }
    }
}

fn file(slot: &str) -> String {
    format!("{slot}.failed")
}
