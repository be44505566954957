use std::{
    any::Any,
    collections::HashMap,
    sync::{Mutex, PoisonError, mpsc},
};

use keyring_core::{
    Credential,
    api::{CredentialApi, CredentialStoreApi},
    mock,
};

use super::*;

const SOON: Duration = Duration::from_secs(20);

/// A keyring whose calls all fail from the one on for which `budget` has nothing left.
#[derive(Clone)]
struct Faulty {
    items: Arc<mock::Store>,
    budget: Arc<Mutex<usize>>,
}

struct FaultyItem {
    item: Entry,
    budget: Arc<Mutex<usize>>,
}

impl Faulty {
    fn new() -> Self {
        Self { items: mock::Store::new().expect("a mock"), budget: Arc::new(Mutex::new(usize::MAX)) }
    }

    fn allow(&self, calls: usize) {
        *self.budget.lock().expect("no panic") = calls;
    }

    fn keyring(&self, max_item_bytes: Option<usize>, doubtful: bool) -> Keyring {
        let store: Arc<CredentialStore> = Arc::new(self.clone());
        let worker = Worker::new(SOON, move || Ok(Arc::clone(&store)));
        Keyring { application: "test".to_owned(), worker, max_item_bytes, doubtful }
    }

    /// The names of all items.
    fn names(&self) -> Vec<String> {
        let mut items = self.items.inner.lock().expect("no panic");
        let has_secret = |item: &&Arc<mock::Cred>| {
            item.inner.lock().unwrap_or_else(PoisonError::into_inner).get_mut().secret.is_some()
        };
        let mut names: Vec<_> =
            items.get_mut().iter().filter(has_secret).map(|item| item.specifiers.1.clone()).collect();
        names.sort();
        names
    }
}

impl FaultyItem {
    fn spend(&self) -> Result<(), Error> {
        let mut budget = self.budget.lock().expect("no panic");
        let broken = || Error::PlatformFailure("it has been switched off".into());
        *budget = budget.checked_sub(1).ok_or_else(broken)?;
        Ok(())
    }
}

impl CredentialStoreApi for Faulty {
    fn vendor(&self) -> String {
        "test".to_owned()
    }

    fn id(&self) -> String {
        "test".to_owned()
    }

    fn build(&self, service: &str, user: &str, _: Option<&HashMap<&str, &str>>) -> Result<Entry, Error> {
        let item = self.items.build(service, user, None)?;
        let item: Arc<Credential> = Arc::new(FaultyItem { item, budget: Arc::clone(&self.budget) });
        Ok(Entry::new_with_credential(item))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl CredentialApi for FaultyItem {
    fn set_secret(&self, secret: &[u8]) -> Result<(), Error> {
        self.spend()?;
        self.item.set_secret(secret)
    }

    fn get_secret(&self) -> Result<Vec<u8>, Error> {
        self.spend()?;
        self.item.get_secret()
    }

    fn delete_credential(&self) -> Result<(), Error> {
        self.spend()?;
        self.item.delete_credential()
    }

    fn get_credential(&self) -> Result<Option<Arc<Credential>>, Error> {
        unreachable!("not used")
    }

    fn get_specifiers(&self) -> Option<(String, String)> {
        self.item.get_specifiers()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn read(keyring: &Keyring) -> Option<Vec<u8>> {
    keyring.read("x").expect("readable").map(|secret| secret.to_vec())
}

fn secret(fill: u8, size: usize) -> Vec<u8> {
    let mut secret = vec![fill; size];
    secret[0] = b'{';
    secret
}

#[test]
fn a_crash_at_any_step_loses_neither_the_old_secret_nor_the_new_one() {
    const SIZES: [usize; 4] = [10, 100, 101, 700];
    for (before, after) in SIZES.iter().flat_map(|before| SIZES.map(|after| (*before, after))) {
        let (old, new, newest) = (secret(1, before), secret(2, after), secret(3, 300));
        for calls in 0.. {
            let faulty = Faulty::new();
            let keyring = faulty.keyring(Some(100), false);
            keyring.write("x", &old).expect("written");
            faulty.allow(calls);
            let written = keyring.write("x", &new);
            let is_done = *faulty.budget.lock().expect("no panic") > 0;
            faulty.allow(usize::MAX);

            let expected = if written.is_ok() { &new } else { &old };
            assert_eq!(read(&keyring).as_ref(), Some(expected), "{before} → {after} bytes, {calls} calls");
            keyring.write("x", &newest).expect("written");
            assert_eq!(read(&keyring).as_ref(), Some(&newest), "{before} → {after} bytes, {calls} calls");
            // 300 bytes at 84 a part.
            assert_eq!(faulty.names().len(), 5, "{before} → {after} bytes, {calls} calls: {:?}", faulty.names());
            keyring.delete("x").expect("deleted");
            assert_eq!(faulty.names(), [""; 0]);
            if is_done {
                break;
            }
        }
    }
}

#[test]
fn a_crash_at_any_step_of_deleting_leaves_nothing_behind() {
    for calls in 0.. {
        let faulty = Faulty::new();
        let keyring = faulty.keyring(Some(100), true);
        keyring.write("x", &secret(1, 700)).expect("written");
        faulty.allow(calls);
        let deleted = keyring.delete("x");
        faulty.allow(usize::MAX);
        keyring.delete("x").expect("deleted");
        assert_eq!(faulty.names(), [""; 0], "{calls} calls");
        if deleted.is_ok() {
            break;
        }
    }
}

#[test]
fn parts_of_two_generations_are_never_put_together() {
    let faulty = Faulty::new();
    let keyring = faulty.keyring(Some(100), false);
    keyring.write("x", &secret(1, 300)).expect("written");
    let first = keyring.get("x.a.0").expect("readable").expect("a part");
    keyring.write("x", &secret(2, 300)).expect("written");
    keyring.write("x", &secret(3, 300)).expect("written");
    keyring.set("x.a.0", &first).expect("written");
    let error = keyring.read("x").expect_err("mixed");
    assert_eq!(error.to_string(), "cannot read the sign-in: parts of it are missing in the keyring; sign in again");
}

#[test]
fn where_items_may_be_long_there_is_one() {
    let faulty = Faulty::new();
    let keyring = faulty.keyring(None, true);
    keyring.write("x", &secret(1, 65_536)).expect("written");
    assert_eq!(faulty.names(), ["x"]);
    assert_eq!(read(&keyring), Some(secret(1, 65_536)));
    assert!(keyring.read("y").expect("absent").is_none());
    assert_eq!(faulty.names(), ["x"], "the probe is gone");
}

#[test]
fn windows_credentials_hold_what_they_are_given() {
    let faulty = Faulty::new();
    let keyring = faulty.keyring(Some(2560), false);
    keyring.write("x", &secret(1, 20_000)).expect("written");
    let sizes = faulty.names().into_iter().map(|name| keyring.get(&name).expect("readable").expect("there").len());
    assert!(sizes.into_iter().all(|size| size <= 2560));
    assert_eq!(read(&keyring), Some(secret(1, 20_000)));
}

#[test]
fn an_absent_entry_is_no_sign_out_where_nothing_can_be_kept() {
    let faulty = Faulty::new();
    let keyring = faulty.keyring(None, true);
    // Reading finds nothing; then writing fails.
    faulty.allow(1);
    let error = keyring.read("x").expect_err("unusable");
    assert!(matches!(error, StoreError::Keyring(_)), "{error}");
}

#[test]
fn a_prompt_that_nobody_answers_ends_with_a_message() {
    let (answer, answered) = mpsc::channel::<()>();
    let answered = Mutex::new(answered);
    let patience = Duration::from_millis(1);
    let worker = Worker::new(patience, move || {
        answered.lock().expect("no panic").recv().ok();
        Err(StoreError::NoCollection)
    });
    let keyring = Keyring { application: "test".to_owned(), worker, max_item_bytes: None, doubtful: true };
    for _ in 0..100 {
        let error = keyring.read("x").expect_err("hangs");
        assert!(matches!(error, StoreError::Unanswered(_)), "{error}");
    }
    drop(answer);
}

#[test]
fn a_panic_in_the_library_is_an_error_and_not_the_end() {
    let worker = Worker::new(SOON, || ());
    worker.call(|()| panic!("on purpose")).expect_err("a panic");
    assert_eq!(worker.call(|()| 1).expect("another thread"), 1);
}

#[test]
fn errors_show_no_secret() {
    for error in [
        Error::BadEncoding(b"CANARY".to_vec()),
        Error::BadDataFormat(b"CANARY".to_vec(), "x".into()),
        Error::NoStorageAccess("SS error: prompt dismissed".into()),
    ] {
        let error = explain(&error);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("CANARY") && !shown.contains("67, 65"), "{shown}");
    }
}
