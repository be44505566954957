use std::{fs, panic::AssertUnwindSafe, time::UNIX_EPOCH};

use super::*;

const NOW: SystemTime = UNIX_EPOCH;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("f.json");
    (folder, file)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("Unicode")).collect();
    names.sort();
    names
}

fn append(text: &str) -> Result<Option<String>, FileError> {
    Ok(Some(format!("{text}+")))
}

#[test]
fn a_crash_before_the_last_step_leaves_the_old_file_whole() {
    let (folder, file) = folder();
    fs::write(&file, "old").expect("a file");
    let crashed = std::panic::catch_unwind(AssertUnwindSafe(|| {
        replace_with(&file, NOW, Privacy::AsBefore, &mut append, &mut |step| {
            assert_ne!(step, Step::Ready, "the power goes")
        })
    }));
    assert!(crashed.is_err());
    assert_eq!(fs::read_to_string(&file).expect("a file"), "old");
    let backup = "f.json.1970-01-01T00-00-00Z.bak";
    assert_eq!(names(folder.path()), ["f.json", backup]);
    assert_eq!(fs::read_to_string(folder.path().join(backup)).expect("a file"), "old");
}

#[test]
fn what_a_client_writes_meanwhile_is_not_overwritten() {
    for moment in [Step::Edited, Step::Ready] {
        let (folder, file) = folder();
        fs::write(&file, "old").expect("a file");
        let mut writes = 0;
        let replaced = replace_with(&file, NOW, Privacy::AsBefore, &mut append, &mut |step| {
            if step == moment && writes < 2 {
                writes += 1;
                fs::write(&file, format!("client {writes}")).expect("a file");
            }
        });
        assert!(matches!(replaced, Ok(Replaced::Written { backup: Some(_) })), "{replaced:?}");
        assert_eq!(fs::read_to_string(&file).expect("a file"), "client 2+");
        // What was kept for the attempts in vain is gone again.
        assert_eq!(names(folder.path()).len(), 2, "{:?}", names(folder.path()));
    }
}

#[test]
fn a_file_that_never_rests_is_left_to_its_writer() {
    let (folder, file) = folder();
    fs::write(&file, "old").expect("a file");
    let mut writes = 0;
    let replaced = replace_with(&file, NOW, Privacy::AsBefore, &mut append, &mut |_| {
        writes += 1;
        fs::write(&file, format!("client {writes}")).expect("a file");
    });
    assert!(matches!(replaced, Err(FileError::Restless(_))), "{replaced:?}");
    assert_eq!(fs::read_to_string(&file).expect("a file"), format!("client {writes}"));
    assert_eq!(names(folder.path()), ["f.json"]);
}

#[test]
fn a_file_that_appears_meanwhile_is_not_overwritten() {
    let (_folder, file) = folder();
    let mut is_first = true;
    let replaced = replace_with(&file, NOW, Privacy::AsBefore, &mut append, &mut |step| {
        if step == Step::Ready && std::mem::take(&mut is_first) {
            fs::write(&file, "client").expect("a file");
        }
    });
    assert!(replaced.is_ok(), "{replaced:?}");
    assert_eq!(fs::read_to_string(&file).expect("a file"), "client+");
}

#[test]
fn backups_of_one_second_do_not_replace_each_other() {
    let (folder, file) = folder();
    fs::write(&file, "old").expect("a file");
    for _ in 0..3 {
        replace(&file, NOW, Privacy::AsBefore, &mut append).expect("it is replaced");
    }
    assert_eq!(fs::read_to_string(&file).expect("a file"), "old+++");
    assert_eq!(names(folder.path()).len(), 4);
}

#[test]
fn a_byte_order_mark_stays_and_is_not_seen() {
    let (_folder, file) = folder();
    fs::write(&file, "\u{feff}old").expect("a file");
    let mut seen = String::new();
    replace::<FileError>(&file, NOW, Privacy::AsBefore, &mut |text| {
        seen = text.to_owned();
        append(text)
    })
    .expect("it is replaced");
    assert_eq!((seen.as_str(), fs::read_to_string(&file).expect("a file").as_str()), ("old", "\u{feff}old+"));
}

#[test]
fn a_folder_in_the_place_of_a_file_is_refused() {
    let (folder, _) = folder();
    assert!(matches!(replace(folder.path(), NOW, Privacy::AsBefore, &mut append), Err(FileError::NotAFile(_))));
}

#[cfg(unix)]
#[test]
fn secrets_are_not_for_others_to_read_and_nor_is_what_was_there_before() {
    use std::os::unix::fs::PermissionsExt as _;

    for (privacy, mode, expected) in [
        (Privacy::Owner, 0o644, 0o600),
        (Privacy::Owner, 0o660, 0o600),
        (Privacy::Owner, 0o400, 0o400),
        (Privacy::AsBefore, 0o644, 0o644),
    ] {
        let (folder, file) = folder();
        fs::write(&file, "old").expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a mode");
        replace(&file, NOW, privacy, &mut append).expect("it is replaced");
        for name in names(folder.path()) {
            let metadata = fs::metadata(folder.path().join(&name)).expect("a file");
            assert_eq!(metadata.permissions().mode() & 0o777, expected, "{name}, {privacy:?}, {mode:o}");
        }
    }
}
