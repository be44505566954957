//! Secrets in the keyring of the operating system.
//!
//! A secret is one item where the platform lets it be: that is written in one step. Where it is too
//! long, it is split: the parts come first, then the head that names them, then those that the head
//! named before are deleted. Parts go into two sets in turn, so that a set is never overwritten while
//! a head names it, and what a crash leaves behind is found without a list.

use std::{sync::Arc, time::Duration};

use keyring_core::{CredentialStore, Entry, Error};
use zeroize::Zeroizing;

use super::{Vault, error::StoreError, index::random, worker::Worker};

/// Windows holds 2,560 bytes in a credential.
const MAX_ITEM_BYTES: Option<usize> = if cfg!(windows) { Some(2560) } else { None };
/// More than any sign-in needs; a damaged head cannot make us look for millions.
const MAX_PARTS: usize = 256;
/// How often a secret is read again that another process replaced meanwhile.
const READS: usize = 5;
/// What a head begins with that names parts; a whole secret begins with `{`.
const SPLIT: &str = "split";
/// Where it is tried whether anything can be kept.
const PROBE: &str = "probe";

type Store = Result<Arc<CredentialStore>, StoreError>;

/// The items of one application.
pub(super) struct Keyring {
    application: String,
    worker: Worker<Store>,
    max_item_bytes: Option<usize>,
    /// Whether the store also says "no entry" where nothing can be kept at all.
    doubtful: bool,
}

impl Keyring {
    /// The platform's keyring; nothing is asked of it before it is needed.
    pub(super) fn new(application: &str, patience: Duration) -> Self {
        Self {
            application: application.to_owned(),
            worker: Worker::new(patience, connect),
            max_item_bytes: MAX_ITEM_BYTES,
            doubtful: !cfg!(any(windows, target_os = "macos")),
        }
    }

    fn get(&self, item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        match self.call(item, |item| item.get_secret().map(Zeroizing::new))? {
            Ok(secret) => Ok(Some(secret)),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(explain(&error)),
        }
    }

    fn set(&self, item: &str, secret: &[u8]) -> Result<(), StoreError> {
        let secret = Zeroizing::new(secret.to_vec());
        self.call(item, move |item| item.set_secret(&secret))?.map_err(|error| explain(&error))
    }

    /// Whether there was one.
    fn remove(&self, item: &str) -> Result<bool, StoreError> {
        match self.call(item, Entry::delete_credential)? {
            Ok(()) => Ok(true),
            Err(Error::NoEntry) => Ok(false),
            Err(error) => Err(explain(&error)),
        }
    }

    fn call<R: Send + 'static>(
        &self,
        item: &str,
        call: impl FnOnce(&Entry) -> Result<R, Error> + Send + 'static,
    ) -> Result<Result<R, Error>, StoreError> {
        let (service, user) = (self.application.clone(), item.to_owned());
        self.worker.call(move |store| {
            let store = store.as_ref().map_err(StoreError::again)?;
            Ok(Entry::new_in_store(store, &service, &user).and_then(|item| call(&item)))
        })?
    }

    /// Secret Service finds nothing where it has no collection, as if its user were signed out: only
    /// writing tells.
    fn confirm_absence(&self) -> Result<(), StoreError> {
        if self.doubtful {
            self.set(PROBE, PROBE.as_bytes())?;
            self.remove(PROBE)?;
        }
        Ok(())
    }

    fn write_parts(&self, name: &str, bytes: &[u8], size: usize, before: Option<&Head>) -> Result<Split, StoreError> {
        let tag = random();
        let set = if before.and_then(Head::split).is_some_and(|before| before.set == 'a') { 'b' } else { 'a' };
        let chunks = bytes.chunks(size.saturating_sub(tag.len()).max(1));
        let split = Split { set, tag, parts: chunks.len() };
        if split.parts > MAX_PARTS {
            return Err(StoreError::Keyring("the sign-in is too large for it".to_owned()));
        }
        for (number, chunk) in chunks.enumerate() {
            let mut part = Zeroizing::new(Vec::with_capacity(split.tag.len() + chunk.len()));
            part.extend_from_slice(split.tag.as_bytes());
            part.extend_from_slice(chunk);
            self.set(&part_name(name, set, number), &part)?;
        }
        Ok(split)
    }

    fn read_parts(&self, name: &str, split: &Split) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let mut parts = Vec::with_capacity(split.parts);
        for number in 0..split.parts {
            let Some(part) = self.get(&part_name(name, split.set, number))? else { return Ok(None) };
            if !part.starts_with(split.tag.as_bytes()) {
                return Ok(None);
            }
            parts.push(part);
        }
        let contents = || parts.iter().map(|part| &part[split.tag.len()..]);
        let mut whole = Zeroizing::new(Vec::with_capacity(contents().map(<[u8]>::len).sum()));
        contents().for_each(|part| whole.extend_from_slice(part));
        Ok(Some(whole))
    }

    /// Deletes the parts that `head` does not name, from the last one down: so they stay findable,
    /// whenever it is interrupted.
    fn remove_parts(&self, name: &str, head: Option<&Split>) -> Result<(), StoreError> {
        for set in ['a', 'b'] {
            let first = head.filter(|head| head.set == set).map_or(0, |head| head.parts);
            let mut end = first;
            while end < MAX_PARTS && self.get(&part_name(name, set, end))?.is_some() {
                end += 1;
            }
            for number in (first..end).rev() {
                self.remove(&part_name(name, set, number))?;
            }
        }
        Ok(())
    }
}

impl Vault for Keyring {
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        for _ in 0..READS {
            match self.get(name)?.map(Head::parse) {
                None => return self.confirm_absence().map(|()| None),
                Some(Head::Whole(secret)) => return Ok(Some(secret)),
                Some(Head::Split(split)) => {
                    // Parts that do not fit their head are being replaced: then there is a new head.
                    if let Some(secret) = self.read_parts(name, &split)? {
                        return Ok(Some(secret));
                    }
                }
            }
        }
        let reason = "parts of it are missing in the keyring".to_owned();
        Err(StoreError::Damaged { what: "the sign-in".to_owned(), reason, remedy: StoreError::SIGN_IN })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(size) = self.max_item_bytes else { return self.set(name, bytes) };
        let before = self.get(name)?.map(Head::parse);
        let split = if bytes.len() <= size {
            self.set(name, bytes)?;
            None
        } else {
            let split = self.write_parts(name, bytes, size, before.as_ref())?;
            self.set(name, split.to_string().as_bytes())?;
            Some(split)
        };
        // From here on the new secret is kept; what is left of the old one is found at the next write.
        if let Err(error) = self.remove_parts(name, split.as_ref()) {
            tracing::warn!(%error, "parts of an older sign-in are left in the keyring");
        }
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        // The head first: what has none is no sign-in.
        if !self.remove(name)? {
            self.confirm_absence()?;
        }
        if self.max_item_bytes.is_some() { self.remove_parts(name, None) } else { Ok(()) }
    }
}

/// What stands under a name.
enum Head {
    Whole(Zeroizing<Vec<u8>>),
    Split(Split),
}

/// Which parts make up a secret.
struct Split {
    set: char,
    /// Each part begins with it.
    tag: String,
    parts: usize,
}

impl Head {
    /// What is no list of parts is a whole secret; whether it is one of ours is found out later.
    fn parse(head: Zeroizing<Vec<u8>>) -> Self {
        Split::parse(&head).map_or(Self::Whole(head), Self::Split)
    }

    fn split(&self) -> Option<&Split> {
        match self {
            Self::Whole(_) => None,
            Self::Split(split) => Some(split),
        }
    }
}

impl Split {
    fn parse(head: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(head).ok()?.split(' ');
        let (SPLIT, set, tag, parts, None) = (words.next()?, words.next()?, words.next()?, words.next()?, words.next())
        else {
            return None;
        };
        let set = ['a', 'b'].into_iter().find(|known| set.chars().eq([*known]))?;
        let parts = parts.parse().ok().filter(|parts| *parts <= MAX_PARTS)?;
        Some(Self { set, tag: tag.to_owned(), parts })
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SPLIT} {} {} {}", self.set, self.tag, self.parts)
    }
}

fn part_name(name: &str, set: char, number: usize) -> String {
    format!("{name}.{set}.{number}")
}

fn connect() -> Store {
    let no_store = || StoreError::Keyring("this system has none".to_owned());
    match keyring::Entry::store_status() {
        Ok(()) => keyring_core::get_default_store().ok_or_else(no_store),
        Err(Error::PlatformFailure(error)) if cfg!(all(unix, not(target_os = "macos"))) => {
            // D-Bus answers so where it is there and nobody has this name.
            let answered = error.to_string().contains("ServiceUnknown");
            Err(if answered { StoreError::NoService } else { StoreError::NoSession })
        }
        Err(error) => Err(explain(error)),
    }
}

/// Only texts leave: some of the library's errors hold the secret, and their `Debug` shows it.
fn explain(error: &Error) -> StoreError {
    match error {
        // Secret Service's library says so where the alias of the default collection leads nowhere.
        Error::NoStorageAccess(cause) if cause.to_string().contains("result not returned") => StoreError::NoCollection,
        Error::NoStorageAccess(cause) => StoreError::Locked(cause.to_string()),
        Error::PlatformFailure(cause) if cause.to_string().contains("ServiceUnknown") => StoreError::NoService,
        Error::PlatformFailure(cause) => StoreError::Keyring(cause.to_string()),
        Error::BadEncoding(_) | Error::BadDataFormat(..) => StoreError::Keyring("an item is damaged".to_owned()),
        Error::Ambiguous(items) => StoreError::Keyring(format!("it has {} items of one name", items.len())),
        other => StoreError::Keyring(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
