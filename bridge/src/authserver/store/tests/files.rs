//! What becomes of the files when things go wrong.

use super::*;

#[test]
fn nothing_in_the_files_is_a_secret() {
    let world = World::new();
    let secrets = [Purpose::Access, Purpose::Refresh, Purpose::Code, Purpose::Session].map(opaque::new);
    let [access, code, cookie] = [0, 2, 3].map(|index: usize| Digest::of(secrets[index].expose()));
    let refresh = RefreshDigest::of(secrets[1].expose()).expect("it is one");
    world.store.add_session(cookie, "owner", None, at(0)).expect("added");
    let (id, request) = (digest(Purpose::Request), asked("a"));
    world.store.add_request(id, world.session, &request, at(0)).expect("kept");
    let new = NewGrant { user: "owner", request: &request, scopes: &request.scopes };
    world.store.grant(id, world.session, new, code, at(0)).expect("written").expect("it waited");
    world.exchange_as(code, at(0), |exchange| (exchange.access, exchange.refresh) = (access, refresh)).expect("good");
    let mut files = 0;
    for entry in fs::read_dir(world.folder.path().join("state")).expect("a folder") {
        let bytes = fs::read(entry.expect("an entry").path()).expect("readable");
        files += 1;
        for secret in &secrets {
            let found = bytes.windows(secret.expose().len()).any(|window| window == secret.expose().as_bytes());
            assert!(!found);
        }
    }
    assert!(files >= 2, "the log of writes is looked at too");
}

#[test]
fn a_locked_state_is_told_and_not_waited_for_without_end() {
    let world = World::new();
    let folder = world.folder.path().join("state");
    let patient = Store::open_patiently(&folder, Duration::from_millis(50)).expect("opened");
    let lock = Connection::open(folder.join("authserver.db")).expect("opened");
    lock.execute_batch("BEGIN IMMEDIATE").expect("locked");
    assert!(matches!(patient.tidy(at(0)), Err(StoreError::Busy)));
    assert!(patient.owner().expect("who reads is not in the way").is_some());
    lock.execute_batch("ROLLBACK").expect("unlocked");
    patient.tidy(at(0)).expect("as before");
}

#[test]
fn a_full_disk_changes_nothing_that_was_there() {
    let world = World::new();
    let (access, _) = world.exchange(world.code(at(0)), at(0)).expect("good");
    {
        let connection = world.store.0.writer.lock().expect("no panic");
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("readable");
        connection.pragma_update(None, "max_page_count", pages).expect("set");
    }
    let mut failed = None;
    for number in 0..100 {
        if let Err(error) = world.store.add_client(&client(&format!("{number}-{}", "x".repeat(900))), at(0)) {
            failed = Some(error);
            break;
        }
    }
    assert!(matches!(failed, Some(StoreError::Full)), "{failed:?}");
    assert!(world.is_good(access, at(1)));
}

#[test]
fn garbage_and_newer_files_are_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    drop(Store::open(&state).expect("made"));
    let path = state.join("authserver.db");
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(state.join(format!("authserver.db{suffix}")));
    }
    let good = fs::read(&path).expect("readable");
    let garbage = b"this is no database, but somebody's only copy of something".repeat(100);
    fs::write(&path, &garbage).expect("written");
    let error = Store::open(&state).err().expect("it is none");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(fs::read(&path).expect("readable"), garbage);
    fs::write(&path, &good).expect("written");
    Connection::open(&path).expect("opened").pragma_update(None, "user_version", 99).expect("set");
    let error = Store::open(&state).err().expect("too new");
    assert!(matches!(error, StoreError::Newer { found: 99, known: 2, .. }), "{error}");
}

#[test]
fn the_layout_of_before_is_brought_up_to_date() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    drop(Store::open(&state).expect("made"));
    let path = state.join("authserver.db");
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(state.join(format!("authserver.db{suffix}")));
    }
    // So it keeps its rights.
    fs::write(&path, "").expect("written");
    let before = Connection::open(&path).expect("opened");
    before.execute_batch(include_str!("../schema.sql")).expect("made");
    let client = serde_json::to_string(&client("a")).expect("text is JSON");
    before
        .execute_batch(&format!(
            "INSERT INTO users VALUES ('owner', 'hash', NULL, 1, 0);
             INSERT INTO grants VALUES (1, 'owner', 'a', '{client}', 'https://c.example/cb', '{RESOURCE}', 'op:add',
                 1800000000, NULL, 1800001000);
             INSERT INTO refresh_tokens (hash, grant_id, created_at) VALUES (x'00', 1, 1800000000);
             INSERT INTO approvals VALUES (x'00', 'WXYZ-2345', NULL, 1800000000);
             PRAGMA user_version = 1;"
        ))
        .expect("filled");
    drop(before);
    let store = Store::open(&state).expect("brought up to date");
    let grants = store.grants(Some("owner"), at(0)).expect("readable");
    assert_eq!((grants.len(), grants[0].client.id.as_str()), (1, "a"));
    store.tidy(at(0)).expect("as any other");
}

#[cfg(unix)]
#[test]
fn what_others_can_open_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    drop(Store::open(&state).expect("made"));
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&state), mode(&state.join("authserver.db"))), (0o700, 0o600));
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    set(&state, 0o755);
    let error = Store::open(&state).err().expect("others can open it").to_string();
    assert!(error.contains("can be opened by other users") && error.contains("chmod 700"), "{error}");
    set(&state, 0o700);
    set(&state.join("authserver.db"), 0o644);
    assert!(matches!(Store::open(&state), Err(StoreError::Exposed { .. })));
    set(&state.join("authserver.db"), 0o600);
    assert!(Store::open_existing(&state).expect("good again").is_some());
    assert!(Store::open_existing(&folder.path().join("other")).expect("nothing").is_none());
}
