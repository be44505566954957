//! Secrets in files that only their user can read, for those who asked for it.

use zeroize::Zeroizing;

use super::{Vault, error::StoreError, folder::Folder};

/// A folder with one file per sign-in.
#[derive(Debug)]
pub(super) struct Files(pub(super) Folder);

impl Vault for Files {
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.0.read(&file(name))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.write(&file(name), bytes)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.0.remove(&file(name))
    }
}

fn file(name: &str) -> String {
    format!("{name}.json")
}
