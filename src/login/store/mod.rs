//! Where sign-ins are kept.
//!
//! Secrets are in the keyring, in files or in memory; a list without secrets is beside them, so that
//! nobody is asked for a password to see who is signed in. Several processes use both at once: what is
//! written is whole for its readers, writers of one slot take turns, and a program that is killed
//! between two steps loses nothing and leaves nothing that is not removed at the next step.
//!
//! Everything here blocks: async code calls it in `spawn_blocking`.

mod attempt;
mod error;
mod file;
mod folder;
mod index;
mod keyring;
mod lock;
mod memory;
mod wire;
mod worker;

#[cfg(test)]
pub(in crate::login) mod tests;

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub use self::{
    attempt::Attempt,
    error::StoreError,
    index::{Ended, Entry, Generation, Stamp},
    lock::Guard,
};
use self::{
    attempt::Attempts,
    file::Files,
    folder::Folder,
    index::{Index, SignedIn},
    keyring::Keyring,
    lock::Locks,
    memory::Memory,
};
use crate::login::record::{Record, Slot};

/// A keyring may be asking a person for the password.
const KEYRING_PATIENCE: Duration = Duration::from_secs(60);
/// Another process may be waiting for its keyring, and then comes to its own end.
const SAVE_PATIENCE: Duration = Duration::from_secs(75);

/// Where secrets are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum StoreKind {
    /// In the keyring of the operating system.
    #[default]
    Keyring,
    /// In files that only this user can read, unencrypted.
    File,
    /// Nowhere: they end with the process.
    Memory,
}

/// For what a slot is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Renewing the tokens: two at once can make a server revoke both.
    Refresh,
    /// Asking the user to sign in: one browser tab, not two.
    SignIn,
}

/// What keeps named secrets. A write is whole or not at all; deleting what is not there is no error.
trait Vault: Send + Sync {
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError>;
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError>;
    fn delete(&self, name: &str) -> Result<(), StoreError>;
}

/// The sign-ins of one program; clones share it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    kind: StoreKind,
    index: Index,
    locks: Locks,
    attempts: Attempts,
    vault: Box<dyn Vault>,
    /// The lists of the other kinds.
    others: Vec<(StoreKind, Index)>,
    /// Where all kinds have their folders; none in memory.
    state: Option<Folder>,
}

impl Store {
    /// The sign-ins of `application`, which is the service in the keyring and the folder for state.
    ///
    /// `state` replaces the platform's folder, as in tests and containers. Nothing is opened or
    /// created before it is needed.
    ///
    /// # Errors
    /// [`StoreError::NoFolder`].
    pub fn open(kind: StoreKind, application: &str, state: Option<PathBuf>) -> Result<Self, StoreError> {
        let folder = match (kind, state) {
            (StoreKind::Memory, _) => return Ok(Self::in_memory()),
            (_, Some(state)) => Folder::new(state),
            (_, None) => Folder::of_application(application)?,
        };
        let mut store = match kind {
            StoreKind::File => Inner::in_folder(kind, &folder, Files(folder.folder("file").folder("tokens"))),
            _ => Inner::in_folder(kind, &folder, Keyring::new(application, KEYRING_PATIENCE)),
        };
        let others = [StoreKind::Keyring, StoreKind::File].into_iter().filter(|other| *other != kind);
        store.others = others.map(|other| (other, index(other, &folder).0)).collect();
        Ok(Self(Arc::new(store)))
    }

    fn in_memory() -> Self {
        Self(Arc::new(Inner {
            kind: StoreKind::Memory,
            index: Index::Memory(Default::default()),
            locks: Locks::Memory(Arc::default()),
            attempts: Attempts::Memory(Default::default()),
            vault: Box::new(Memory::default()),
            others: Vec::new(),
            state: None,
        }))
    }

    /// Where the secrets are.
    #[must_use]
    pub fn kind(&self) -> StoreKind {
        self.0.kind
    }

    /// Everybody who is signed in. Neither needs nor unlocks the keyring.
    ///
    /// # Errors
    /// An unreadable list.
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        Ok(self.0.index.read()?.slots.iter().filter_map(index::Row::entry).collect())
    }

    /// Of whom anything is kept: who is signed in, whose sign-in has [`ended`](Store::ended), and where
    /// something could not be deleted yet.
    ///
    /// # Errors
    /// An unreadable list.
    pub fn slots(&self) -> Result<Vec<Slot>, StoreError> {
        Ok(self.0.index.read()?.slots.iter().map(index::Row::slot).collect())
    }

    /// Who is signed in at `slot`. Neither needs nor unlocks the keyring.
    ///
    /// # Errors
    /// An unreadable list.
    pub fn find(&self, slot: &Slot) -> Result<Option<Entry>, StoreError> {
        Ok(self.0.index.read()?.row(slot).and_then(index::Row::entry))
    }

    /// How the sign-in at `slot` ended, if not by [`Store::forget`] and if no other has come since.
    ///
    /// # Errors
    /// An unreadable list.
    pub fn ended(&self, slot: &Slot) -> Result<Option<Ended>, StoreError> {
        Ok(self.0.index.read()?.row(slot).and_then(|row| row.ended.clone()))
    }

    /// Tries whether a sign-in could be kept at `slot`, before a user is bothered with one.
    ///
    /// # Errors
    /// Why it could not.
    pub fn check(&self, slot: &Slot) -> Result<(), StoreError> {
        let _alone = self.write_lock(slot)?;
        let name = format!("{}-probe", name_of_slot(slot));
        self.0.vault.write(&name, b"{}")?;
        self.0.vault.delete(&name)
    }

    /// The other kind of store that has a sign-in at `slot`, for who looks in the wrong one.
    #[must_use]
    pub fn elsewhere(&self, slot: &Slot) -> Option<StoreKind> {
        let has_it =
            |index: &Index| index.read().is_ok_and(|list| list.row(slot).and_then(index::Row::entry).is_some());
        self.0.others.iter().find(|(_, index)| has_it(index)).map(|(kind, _)| *kind)
    }

    /// Whether no sign-in was ever kept here, in this kind of store or another: as cheap as a look
    /// whether a file exists, so it may be asked where nothing may block.
    #[must_use]
    pub fn is_new(&self) -> bool {
        // Most users have not even the folder.
        self.0.state.as_ref().is_some_and(Folder::is_absent)
            || (self.0.index.is_new() && self.0.others.iter().all(|(_, index)| index.is_new()))
    }

    /// Which version of the list there is: while it stays the same, nobody has changed a sign-in.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.0.index.stamp()
    }

    /// The sign-in at `slot`, secrets included; `None` if there is none.
    ///
    /// # Errors
    /// Everything but being signed out; where there is no keyring, the error says what to do.
    pub fn load(&self, slot: &Slot) -> Result<Option<Record>, StoreError> {
        Ok(self.load_with_entry(slot)?.map(|(_, record)| record))
    }

    /// The same, with how it is listed.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn load_with_entry(&self, slot: &Slot) -> Result<Option<(Entry, Record)>, StoreError> {
        let Some(mut entry) = self.find(slot)? else { return Ok(None) };
        let bytes = loop {
            if let Some(bytes) = self.0.vault.read(&name_of(&entry))? {
                break bytes;
            }
            match self.find(slot)? {
                // Another process has moved it meanwhile.
                Some(moved) if moved.generation != entry.generation => entry = moved,
                // Somebody has deleted it with the system's own tool: that is signing out, too.
                _ => return Ok(None),
            }
        };
        let what = format!("the sign-in at {}", entry.issuer);
        let record = wire::decode(&bytes, &what)?;
        let is_as_listed =
            (&record.issuer, &record.resource, &record.client.id) == (&entry.issuer, &entry.resource, &entry.client_id);
        if !is_as_listed {
            let reason = "it is another one than the list says".to_owned();
            return Err(StoreError::Damaged { what, reason, remedy: StoreError::SIGN_IN });
        }
        Ok(Some((entry, record)))
    }

    /// Keeps `record` at `slot` in place of what was there; `now` is when its tokens were issued.
    ///
    /// # Errors
    /// Then what was there before is still there.
    pub fn save(&self, slot: &Slot, record: &Record, now: SystemTime) -> Result<Entry, StoreError> {
        let saved = self.save_where(slot, record, now, |_| Some(None))?;
        Ok(saved.expect("it is saved whatever is there"))
    }

    /// Keeps `record`, a sign-in that could not be kept when it was made, in place of one of the `family` that
    /// was there then; `None` if the user has signed in again or out since.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn save_late(
        &self,
        slot: &Slot,
        record: &Record,
        now: SystemTime,
        family: &Generation,
    ) -> Result<Option<Entry>, StoreError> {
        self.save_where(slot, record, now, |there| {
            let is_meant = there.map_or(*family == Generation::none(), |there| there.family == *family);
            is_meant.then_some(None)
        })
    }

    /// Keeps `record`, whose tokens were renewed from those of generation `from`; `None` if that is not
    /// there any more: a renewal must undo neither a sign-out nor another sign-in.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn save_renewed(
        &self,
        slot: &Slot,
        record: &Record,
        now: SystemTime,
        from: &Generation,
    ) -> Result<Option<Entry>, StoreError> {
        self.save_where(slot, record, now, |there| match there {
            None => (*from == Generation::none()).then_some(None),
            Some(there) => (there.generation == *from).then(|| Some(there.family.clone())),
        })
    }

    /// Saves if `family` says of what is there that it may be replaced, and by which family: `Some(None)` begins
    /// one.
    fn save_where(
        &self,
        slot: &Slot,
        record: &Record,
        now: SystemTime,
        family: impl FnOnce(Option<&Entry>) -> Option<Option<Generation>>,
    ) -> Result<Option<Entry>, StoreError> {
        let Inner { index, vault, .. } = &*self.0;
        let _alone = self.write_lock(slot)?;
        let before = self.find(slot)?;
        let Some(family) = family(before.as_ref()) else { return Ok(None) };
        let generation = Generation::new();
        let signed_in = SignedIn {
            issuer: record.issuer.clone(),
            resource: record.resource.clone(),
            client_id: record.client.id.clone(),
            scopes: record.scopes.clone(),
            subject: record.subject.clone(),
            email: record.email.clone(),
            expires_at: record.expires_at,
            saved_at: Some(now),
            family: Some(family.unwrap_or_else(|| generation.clone())),
            generation,
        };
        let name = name(slot, &record.issuer, record.resource.as_deref(), &record.client.id);
        let before = before.as_ref().map(name_of);
        if before.as_ref() != Some(&name) {
            // Should the next step be the last one, the secrets that it leaves are found by this.
            index.update(|list| add(&mut list.row_mut(slot).leftovers, &name))?;
        }
        vault.write(&name, &wire::encode(record))?;
        let mut entry = None;
        index.update(|list| {
            let row = list.row_mut(slot);
            row.signed_in = Some(signed_in);
            row.ended = None;
            row.leftovers.retain(|leftover| *leftover != name);
            if let Some(before) = before.filter(|before| *before != name) {
                add(&mut row.leftovers, &before);
            }
            entry = row.entry();
        })?;
        // It is kept; what is left of older ones can wait for the next time.
        if let Err(error) = self.sweep(slot) {
            tracing::warn!(%error, "an older sign-in could not be deleted");
        }
        Ok(entry)
    }

    /// Forgets the sign-in at `slot`, that it has ended, and whatever was left of older ones.
    ///
    /// # Errors
    /// Then it is still there.
    pub fn forget(&self, slot: &Slot) -> Result<(), StoreError> {
        self.forget_where(slot, |_| true, None).map(drop)
    }

    /// Deletes the sign-in at `slot`, which has ended without its user's doing, unless another one has
    /// come meanwhile; says whether it did. From then on it is [`Store::ended`].
    ///
    /// # Errors
    /// Then it is still there.
    pub fn end(&self, slot: &Slot, generation: &Generation, reason: &str) -> Result<bool, StoreError> {
        self.forget_where(slot, |entry| entry.generation == *generation, Some(reason))
    }

    fn forget_where(
        &self,
        slot: &Slot,
        is_meant: impl FnOnce(&Entry) -> bool,
        ended: Option<&str>,
    ) -> Result<bool, StoreError> {
        if self.0.index.read()?.row(slot).is_none() {
            return Ok(true);
        }
        let _alone = self.write_lock(slot)?;
        if let Some(entry) = self.find(slot)? {
            if !is_meant(&entry) {
                return Ok(false);
            }
            // The secrets first: as long as they are there, it is listed.
            self.0.vault.delete(&name_of(&entry))?;
            self.0.index.update(|list| {
                let row = list.row_mut(slot);
                row.signed_in = None;
                row.ended = ended.map(|reason| Ended {
                    reason: reason.to_owned(),
                    issuer: entry.issuer,
                    resource: entry.resource,
                });
            })?;
        } else if ended.is_none() {
            self.0.index.update(|list| list.row_mut(slot).ended = None)?;
        }
        self.sweep(slot)?;
        Ok(true)
    }

    /// Deletes what is left of older sign-ins at `slot`; its write lock is held.
    fn sweep(&self, slot: &Slot) -> Result<(), StoreError> {
        let list = self.0.index.read()?;
        let leftovers = list.row(slot).map_or(&[][..], |row| &row.leftovers);
        if leftovers.is_empty() {
            return Ok(());
        }
        leftovers.iter().try_for_each(|name| self.0.vault.delete(name))?;
        self.0.index.update(|list| list.row_mut(slot).leftovers.clear())
    }

    /// Waits until `deadline` for being the only one, of all processes, that does `purpose` at `slot`.
    ///
    /// # Errors
    /// [`StoreError::Contended`] at the deadline.
    pub fn lock(&self, slot: &Slot, purpose: Purpose, deadline: Instant) -> Result<Guard, StoreError> {
        let (purpose, doing) = match purpose {
            Purpose::Refresh => ("refresh", "renewing this sign-in"),
            Purpose::SignIn => ("sign-in", "waiting for this user to sign in"),
        };
        self.0.locks.acquire(&format!("{}.{purpose}", name_of_slot(slot)), doing, deadline)
    }

    fn write_lock(&self, slot: &Slot) -> Result<Guard, StoreError> {
        let name = format!("{}.write", name_of_slot(slot));
        self.0.locks.acquire(&name, "writing this sign-in", Instant::now() + SAVE_PATIENCE)
    }

    /// The last attempt to sign in at `slot`, if it failed.
    ///
    /// # Errors
    /// Unreadable state.
    pub fn failed_attempt(&self, slot: &Slot) -> Result<Option<Attempt>, StoreError> {
        self.0.attempts.last(&name_of_slot(slot))
    }

    /// Tells all processes how the last attempt to sign in at `slot` failed; `None`: it did not.
    ///
    /// # Errors
    /// Unwritable state.
    pub fn note_attempt(&self, slot: &Slot, failed: Option<&Attempt>) -> Result<(), StoreError> {
        let _alone = index::lock(&self.0.locks)?;
        self.0.attempts.note(&name_of_slot(slot), failed)
    }
}

impl Inner {
    /// One kind of store below `state`, with a folder of its own.
    fn in_folder(kind: StoreKind, state: &Folder, vault: impl Vault + 'static) -> Self {
        let (index, locks, attempts) = index(kind, state);
        Self { kind, index, locks, attempts, vault: Box::new(vault), others: Vec::new(), state: Some(state.clone()) }
    }
}

/// The list of one kind of store, and what is beside it.
fn index(kind: StoreKind, state: &Folder) -> (Index, Locks, Attempts) {
    let folder = state.folder(&kind.to_string());
    let locks = folder.folder("locks");
    (Index::File(folder, Locks::Files(locks.clone())), Locks::Files(locks.clone()), Attempts::Files(locks))
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("kind", &self.0.kind).finish_non_exhaustive()
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyring => "keyring",
            Self::File => "file",
            Self::Memory => "memory",
        })
    }
}

fn add(leftovers: &mut Vec<String>, name: &str) {
    if leftovers.iter().all(|leftover| leftover != name) {
        leftovers.push(name.to_owned());
    }
}

fn name_of(entry: &Entry) -> String {
    name(&entry.slot, &entry.issuer, entry.resource.as_deref(), &entry.client_id)
}

/// Under which name a sign-in's secrets are kept: one for each slot, issuer, resource and client.
fn name(slot: &Slot, issuer: &str, resource: Option<&str>, client_id: &str) -> String {
    let parts = [Some(&*slot.account), slot.server.as_deref(), Some(issuer), resource, Some(client_id)];
    // Who looks into the keyring should recognise it.
    let is_plain = |char: &char| char.is_ascii_alphanumeric() || "@.-_".contains(*char);
    let account: String = slot.account.chars().filter(is_plain).take(32).collect();
    format!("{account}-{}", digest(&parts))
}

fn name_of_slot(slot: &Slot) -> String {
    digest(&[Some(&*slot.account), slot.server.as_deref()])
}

/// Platforms limit names, and URLs do not fit them: 128 bits that nobody can make collide.
fn digest(parts: &[Option<&str>]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        // Lengths keep parts apart, and the absent from the empty.
        digest.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        digest.update(part.unwrap_or_default());
    }
    digest.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
