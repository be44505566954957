use std::{panic, path::Path, sync::Mutex, thread, time::UNIX_EPOCH};

use url::Url;

use super::*;
use crate::{login::record::Client, secret::Secret};

pub(in crate::login) fn record(token: &str) -> Record {
    Record {
        issuer: "https://as.example".to_owned(),
        resource: None,
        client: Client { id: "client".to_owned(), secret: None, secret_in_form: false, redirect_uri: None },
        token_endpoint: Url::parse("https://as.example/token").expect("a URL"),
        revocation_endpoint: None,
        scopes: Vec::new(),
        subject: None,
        email: None,
        access_token: Secret::new(token.to_owned()),
        refresh_token: None,
        expires_at: None,
    }
}

pub(in crate::login) fn full_record(token: &str) -> Record {
    let text = || Some(format!("{token} text"));
    Record {
        resource: Some("https://mcp.example/mcp".to_owned()),
        client: Client {
            id: "https://client.example/metadata".to_owned(),
            secret: Some(Secret::new(format!("{token} client"))),
            secret_in_form: true,
            redirect_uri: text(),
        },
        revocation_endpoint: Some(Url::parse("https://as.example/revoke").expect("a URL")),
        scopes: vec!["a".to_owned(), "b".to_owned()],
        subject: text(),
        email: text(),
        refresh_token: Some(Secret::new(format!("{token} refresh"))),
        expires_at: Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
        ..record(token)
    }
}

pub(in crate::login) fn slot(account: &str) -> Slot {
    Slot { account: account.to_owned(), server: Some("https://mcp.example/mcp".to_owned()) }
}

/// Secrets in memory, and a crash after so many calls.
#[derive(Clone, Default)]
struct Crashing {
    secrets: Arc<Memory>,
    crash_after: Arc<Mutex<Option<usize>>>,
}

impl Crashing {
    fn step<R>(&self, step: impl FnOnce() -> R) -> R {
        let result = step();
        let mut left = self.crash_after.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &mut *left {
            Some(0) => panic!("crash"),
            Some(left) => *left -= 1,
            None => {}
        }
        result
    }
}

impl Vault for Crashing {
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.step(|| self.secrets.read(name))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.step(|| self.secrets.write(name, bytes))
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.step(|| self.secrets.delete(name))
    }
}

fn file_store(scratch: &Path) -> Store {
    Store::open(StoreKind::File, "test", Some(scratch.join("state"))).expect("a store")
}

fn token(store: &Store, slot: &Slot) -> Option<String> {
    store.load(slot).expect("readable").map(|record| record.access_token.expose().clone())
}

#[test]
fn what_is_saved_is_found_listed_and_forgotten() {
    let scratch = tempfile::tempdir().expect("a folder");
    let memory = Store::open(StoreKind::Memory, "test", None).expect("a store");
    for store in [memory, file_store(scratch.path())] {
        let (one, two) = (slot("one"), slot("two"));
        assert!(store.list().expect("empty").is_empty() && token(&store, &one).is_none());
        store.forget(&one).expect("nothing to forget");
        let stamp = store.stamp();
        store.save(&one, &full_record("1"), UNIX_EPOCH + Duration::from_secs(7)).expect("saved");
        store.save(&two, &full_record("2"), UNIX_EPOCH).expect("saved");
        assert_ne!(store.stamp(), stamp);

        let entry = store.find(&one).expect("readable").expect("there");
        assert_eq!((&entry.slot, entry.scopes.len()), (&one, 2));
        assert_eq!(entry.saved_at, UNIX_EPOCH + Duration::from_secs(7));
        assert_eq!(store.list().expect("readable").len(), 2);
        assert_eq!((token(&store, &one).as_deref(), token(&store, &two).as_deref()), (Some("1"), Some("2")));

        assert!(!store.end(&one, &Generation::none(), "revoked").expect("another one"), "it was replaced");
        assert_eq!(store.ended(&one).expect("readable"), None);
        store.forget(&one).expect("forgotten");
        assert_eq!((token(&store, &one), token(&store, &two).as_deref()), (None, Some("2")));
        assert_eq!(store.list().expect("readable").len(), 1);
    }
}

#[test]
fn an_ended_sign_in_stays_known_until_its_user_ends_or_replaces_it() {
    let scratch = tempfile::tempdir().expect("a folder");
    let memory = Store::open(StoreKind::Memory, "test", None).expect("a store");
    for store in [memory, file_store(scratch.path())] {
        let slot = slot("a");
        for replaced in [false, true] {
            let entry = store.save(&slot, &full_record("1"), UNIX_EPOCH).expect("saved");
            assert!(store.end(&slot, &entry.generation, "revoked").expect("ended"));
            assert!(store.list().expect("readable").is_empty() && token(&store, &slot).is_none());
            let expected = Ended { reason: "revoked".to_owned(), issuer: entry.issuer, resource: entry.resource };
            assert_eq!(store.ended(&slot).expect("readable"), Some(expected));
            // Whoever comes late does not change how it ended.
            assert!(store.end(&slot, &entry.generation, "again").expect("ended"));
            assert_eq!(store.ended(&slot).expect("readable").expect("ended").reason, "revoked");
            if replaced {
                store.save(&slot, &record("2"), UNIX_EPOCH).expect("saved");
            } else {
                store.forget(&slot).expect("forgotten");
            }
            assert_eq!(store.ended(&slot).expect("readable"), None);
        }
    }
}

#[test]
fn a_store_that_can_keep_nothing_is_noticed_before_it_has_to() {
    let scratch = tempfile::tempdir().expect("a folder");
    let store = file_store(scratch.path());
    store.check(&slot("a")).expect("it can");
    assert_eq!(std::fs::read_dir(scratch.path().join("state/file/tokens")).expect("a folder").count(), 0);
    std::fs::remove_dir(scratch.path().join("state/file/tokens")).expect("empty");
    std::fs::write(scratch.path().join("state/file/tokens"), "in the way").expect("written");
    store.check(&slot("a")).expect_err("it cannot");
}

#[test]
fn a_sign_in_of_the_other_kind_is_found() {
    let scratch = tempfile::tempdir().expect("a folder");
    let files = file_store(scratch.path());
    let keyring = Store::open(StoreKind::Keyring, "test", Some(scratch.path().join("state"))).expect("a store");
    files.save(&slot("a"), &record("1"), UNIX_EPOCH).expect("saved");
    assert!(keyring.load(&slot("a")).expect("no keyring is needed").is_none());
    assert_eq!(keyring.elsewhere(&slot("a")), Some(StoreKind::File));
    assert_eq!((keyring.elsewhere(&slot("b")), files.elsewhere(&slot("a"))), (None, None));
}

#[test]
fn a_store_is_new_until_a_sign_in_was_kept_in_any_kind_of_it() {
    let scratch = tempfile::tempdir().expect("a folder");
    let state = scratch.path().join("state");
    let open = |kind| Store::open(kind, "test", Some(state.clone())).expect("a store");
    let (files, keyring) = (open(StoreKind::File), open(StoreKind::Keyring));
    assert!(files.is_new() && keyring.is_new());
    files.save(&slot("a"), &record("1"), UNIX_EPOCH).expect("saved");
    assert!(!files.is_new() && !keyring.is_new());
    files.forget(&slot("a")).expect("forgotten");
    assert!(!files.is_new() && !keyring.is_new(), "who was signed out is told so");

    // Where it cannot be seen, there may be one.
    std::fs::remove_dir_all(&state).expect("ours");
    std::fs::write(&state, "no folder").expect("written");
    assert!(!files.is_new() && !keyring.is_new());

    let memory = open(StoreKind::Memory);
    assert!(memory.is_new());
    memory.save(&slot("a"), &record("1"), UNIX_EPOCH).expect("saved");
    assert!(!memory.is_new());
}

#[test]
fn tokens_do_not_stay_with_an_issuer_that_was_left() {
    let scratch = tempfile::tempdir().expect("a folder");
    let store = file_store(scratch.path());
    let mut record = full_record("1");
    store.save(&slot("a"), &record, UNIX_EPOCH).expect("saved");
    record.issuer = "https://other.example".to_owned();
    record.access_token = Secret::new("2".to_owned());
    store.save(&slot("a"), &record, UNIX_EPOCH).expect("saved");
    let kept = std::fs::read_dir(scratch.path().join("state/file/tokens")).expect("a folder").count();
    assert_eq!((token(&store, &slot("a")).as_deref(), kept), (Some("2"), 1));
}

#[test]
fn a_crash_between_any_two_steps_leaves_one_whole_sign_in_and_no_stray_secret() {
    for moves in [false, true] {
        for calls in 0..4 {
            let scratch = tempfile::tempdir().expect("a folder");
            let vault = Crashing::default();
            let folder = Folder::new(scratch.path().to_owned());
            let store = Store(Arc::new(Inner::in_folder(StoreKind::File, &folder, vault.clone())));
            let slot = slot("a");
            store.save(&slot, &full_record("old"), UNIX_EPOCH).expect("saved");
            let mut new = full_record("new");
            if moves {
                new.issuer = "https://other.example".to_owned();
            }
            *vault.crash_after.lock().expect("no panic") = Some(calls);
            let crash = panic::catch_unwind(panic::AssertUnwindSafe(|| store.save(&slot, &new, UNIX_EPOCH)));
            *vault.crash_after.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
            vault.crash_after.clear_poison();

            let now = token(&store, &slot).expect("nothing is lost");
            assert!(now == "new" || moves && crash.is_err() && now == "old", "{moves} {calls}: {now}");
            store.save(&slot, &full_record("next"), UNIX_EPOCH).expect("saved");
            assert_eq!(token(&store, &slot).as_deref(), Some("next"));
            assert_eq!(vault.secrets.len(), 1, "{moves} {calls}");
            store.forget(&slot).expect("forgotten");
            assert_eq!((vault.secrets.len(), store.list().expect("readable").len()), (0, 0));
        }
    }
}

#[test]
fn writers_lose_nothing_of_each_other() {
    let scratch = tempfile::tempdir().expect("a folder");
    thread::scope(|scope| {
        for writer in 0..8 {
            // A store of its own has files of its own, as another process has.
            let store = file_store(scratch.path());
            scope.spawn(move || {
                for round in 0..4 {
                    let name = format!("{writer}.{round}");
                    store.save(&slot(&name), &record(&name), UNIX_EPOCH).expect("saved");
                }
            });
        }
    });
    let list = file_store(scratch.path()).list().expect("readable");
    assert_eq!(list.len(), 32);
    assert!(
        list.iter().all(|entry| token(&file_store(scratch.path()), &entry.slot) == Some(entry.slot.account.clone()))
    );
}

#[test]
fn a_damaged_list_is_reported_and_never_replaced() {
    let scratch = tempfile::tempdir().expect("a folder");
    let store = file_store(scratch.path());
    store.save(&slot("a"), &record("1"), UNIX_EPOCH).expect("saved");
    let path = scratch.path().join("state/file/sign-ins.json");
    let mut said = String::new();
    for damaged in ["{\n\"version\": 1, \"slots\": [", "", "{\"version\": 2}", "[]"] {
        std::fs::write(&path, damaged).expect("written");
        let errors = [
            store.list().map(drop),
            store.save(&slot("b"), &record("2"), UNIX_EPOCH).map(drop),
            store.forget(&slot("a")),
        ];
        let errors = errors.map(|result| result.expect_err("damaged").to_string());
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
        said += &format!("{}\n", errors[0].replace(scratch.path().to_str().expect("UTF-8"), "…"));
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), damaged);
    }
    insta::assert_snapshot!(said, @"
    cannot read the list of sign-ins …/state/file/sign-ins.json: line 2, column 24: it is damaged; move it away and sign in again
    cannot read the list of sign-ins …/state/file/sign-ins.json: line 1, column 0: it is damaged; move it away and sign in again
    cannot read the list of sign-ins …/state/file/sign-ins.json: its format 2 was written by a newer version of this program; update it
    cannot read the list of sign-ins …/state/file/sign-ins.json: line 1, column 2: it is damaged; move it away and sign in again
    ");
}

#[test]
fn the_list_names_no_secret() {
    let scratch = tempfile::tempdir().expect("a folder");
    let store = file_store(scratch.path());
    let mut record = full_record("CANARY");
    (record.subject, record.email, record.client.redirect_uri) = (None, None, None);
    store.save(&slot("a"), &record, UNIX_EPOCH).expect("saved");
    let list = std::fs::read_to_string(scratch.path().join("state/file/sign-ins.json")).expect("a list");
    assert!(!list.contains("CANARY"), "{list}");
    assert!(!format!("{store:?} {:?} {record:?}", store.list()).contains("CANARY"));
}

#[cfg(unix)]
#[test]
fn files_that_others_can_open_or_replace_are_refused() {
    use std::{fs, os::unix::fs::PermissionsExt as _};
    let scratch = tempfile::tempdir().expect("a folder");
    let store = file_store(scratch.path());
    store.save(&slot("a"), &record("1"), UNIX_EPOCH).expect("saved");
    let folder = scratch.path().join("state/file/tokens");
    let file = fs::read_dir(&folder).expect("a folder").next().expect("a file").expect("a file").path();
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let list = scratch.path().join("state/file/sign-ins.json");
    let modes = [&scratch.path().join("state"), &folder, &file, &list].map(|path| mode(path));
    assert_eq!(modes.map(|mode| format!("{mode:o}")), ["700", "700", "600", "600"]);
    for (path, wide, right) in [(&file, 0o640, 0o600), (&folder, 0o711, 0o700), (&list, 0o602, 0o600)] {
        let set = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
        set(wide);
        let error = store.load(&slot("a")).expect_err("others can open it");
        let expected = format!("refusing to use {}: other users can open it; chmod {right:o} it", path.display());
        assert_eq!(error.to_string(), expected);
        set(right);
        assert_eq!(token(&store, &slot("a")).as_deref(), Some("1"));
    }
}

#[test]
fn a_crash_while_writing_a_file_leaves_no_secret_behind() {
    let scratch = tempfile::tempdir().expect("a folder");
    let store = file_store(scratch.path());
    let slot = slot("a");
    let entry = store.save(&slot, &record("1"), UNIX_EPOCH).expect("saved");
    let folder = scratch.path().join("state/file/tokens");
    let unfinished = folder.join(format!(".new-{}.json", name_of(&entry)));
    for last in [false, true] {
        std::fs::write(&unfinished, "{\"version\":1, \"acc").expect("written");
        assert_eq!(token(&store, &slot).as_deref(), Some("1"));
        if last {
            store.forget(&slot).expect("forgotten");
        } else {
            store.save(&slot, &record("1"), UNIX_EPOCH).expect("saved");
        }
        assert!(!unfinished.exists());
    }
    assert_eq!(std::fs::read_dir(folder).expect("a folder").count(), 0);
}

#[test]
fn a_secret_that_is_not_the_listed_one_is_not_used() {
    let scratch = tempfile::tempdir().expect("a folder");
    let store = file_store(scratch.path());
    let slot = slot("a");
    store.save(&slot, &record("1"), UNIX_EPOCH).expect("saved");
    let entry = store.find(&slot).expect("readable").expect("there");
    let foreign = Record { issuer: "https://evil.example".to_owned(), ..record("2") };
    store.0.vault.write(&name_of(&entry), &wire::encode(&foreign)).expect("written");
    assert_eq!(
        store.load(&slot).expect_err("another one").to_string(),
        "cannot read the sign-in at https://as.example: it is another one than the list says; sign in again"
    );
}

#[test]
fn names_differ_wherever_anything_differs() {
    let slots = [("a", None), ("a", Some("")), ("as", None), ("a", Some("s")), ("s", Some("a"))];
    let slots = slots.map(|(account, server)| Slot { account: account.to_owned(), server: server.map(str::to_owned) });
    let mut names: Vec<String> = Vec::new();
    for slot in &slots {
        names.push(name_of_slot(slot));
        for (issuer, resource, client) in
            [("i", None, "c"), ("i", Some(""), "c"), ("ic", None, ""), ("", Some("i"), "c")]
        {
            names.push(name(slot, issuer, resource, client));
        }
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    let odd = Slot { account: "../ü\u{1b}[31m me@example.org".repeat(9), server: None };
    let name = name(&odd, "i", None, "c");
    assert!(
        name.len() <= 65 && name.chars().all(|char| char.is_ascii_alphanumeric() || "@.-_".contains(char)),
        "{name}"
    );
}
