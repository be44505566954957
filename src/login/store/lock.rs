//! Locks between processes, which end with the process that holds them.

use std::{
    collections::HashSet,
    fs::{File, TryLockError},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{error::StoreError, folder::Folder};

/// Between two looks at a lock that somebody else holds: short against a request to a token endpoint,
/// long against a look.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Where locks are.
#[derive(Clone, Debug)]
pub(super) enum Locks {
    /// Between processes: locked files.
    Files(Folder),
    /// Within one process.
    Memory(Arc<Held>),
}

/// The names that are locked, and who waits.
#[derive(Debug, Default)]
pub(super) struct Held {
    names: Mutex<HashSet<String>>,
    released: Condvar,
}

/// A held lock; released when dropped, or when the process ends.
#[derive(Debug)]
pub struct Guard {
    held: Handle,
    waited: bool,
}

#[derive(Debug)]
enum Handle {
    File { _locked: File },
    Memory(Arc<Held>, String),
}

impl Guard {
    /// Whether somebody else had it first, so that what was read before may be old.
    #[must_use]
    pub fn waited(&self) -> bool {
        self.waited
    }
}

impl Locks {
    /// Waits for the lock `name` until `deadline`; `doing` is what its holder does.
    pub(super) fn acquire(&self, name: &str, doing: &'static str, deadline: Instant) -> Result<Guard, StoreError> {
        match self {
            Self::Files(folder) => in_file(folder, name, doing, deadline),
            Self::Memory(held) => in_memory(held, name, doing, deadline),
        }
    }
}

fn in_file(folder: &Folder, name: &str, doing: &'static str, deadline: Instant) -> Result<Guard, StoreError> {
    let file = folder.lock_file(name)?;
    let mut waited = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Guard { held: Handle::File { _locked: file }, waited }),
            Err(TryLockError::WouldBlock) => waited = true,
            Err(TryLockError::Error(source)) => {
                return Err(StoreError::File { doing: "lock", path: folder.path(name), source });
            }
        }
        // The standard library has no lock with a time limit.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(StoreError::Contended(doing));
        }
        thread::sleep(left.min(LOOK_AGAIN));
    }
}

fn in_memory(held: &Arc<Held>, name: &str, doing: &'static str, deadline: Instant) -> Result<Guard, StoreError> {
    let mut waited = false;
    let mut names = held.names.lock().unwrap_or_else(PoisonError::into_inner);
    while names.contains(name) {
        waited = true;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(StoreError::Contended(doing));
        }
        names = held.released.wait_timeout(names, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    names.insert(name.to_owned());
    Ok(Guard { held: Handle::Memory(Arc::clone(held), name.to_owned()), waited })
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A file is unlocked by being closed.
        if let Handle::Memory(held, name) = &self.held {
            held.names.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
            held.released.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> (tempfile::TempDir, [Locks; 2]) {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(scratch.path().join("locks"));
        (scratch, [Locks::Files(folder), Locks::Memory(Arc::default())])
    }

    #[test]
    fn a_held_lock_excludes_others_until_it_is_dropped() {
        let (_scratch, both) = both();
        for locks in both {
            let long = Instant::now() + Duration::from_secs(20);
            let first = locks.acquire("a", "testing", long).expect("free");
            assert!(!first.waited());
            locks.acquire("b", "testing", Instant::now()).expect("another lock is free");
            let error = locks.acquire("a", "renewing", Instant::now()).expect_err("held");
            assert_eq!(error.to_string(), "another process has been renewing for too long; end it, or try again");
            let second = thread::spawn({
                let locks = locks.clone();
                move || locks.acquire("a", "testing", long).map(drop)
            });
            drop(first);
            second.join().expect("no panic").expect("free again");
        }
    }
}
