//! The file: made, checked, brought up to date.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::StoreError;

/// The file's name in the folder for state.
const FILE: &str = "authserver.db";
/// How long a writer waits for another process, whose changes take milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Each brings the layout from its own number to the next.
const MIGRATIONS: [&str; 2] = [include_str!("schema.sql"), include_str!("layout_2.sql")];

/// The layout that this version knows.
fn known() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// A connection for everything.
pub(super) fn connect(folder: &Path, patience: Duration) -> Result<(Connection, PathBuf), StoreError> {
    make_folder(folder)?;
    let path = folder.join(FILE);
    make_file(&path)?;
    for suffix in ["", "-wal", "-shm"] {
        check_private(&folder.join(format!("{FILE}{suffix}")), "chmod 600 it")?;
    }
    let damaged = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Damaged { path: path.clone() },
        _ => error.into(),
    };
    let mut connection = connection(&path, patience).map_err(damaged)?;
    let layout: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(damaged)?;
    if layout > known() {
        return Err(StoreError::Newer { path, found: layout, known: known() });
    }
    connection.pragma_update(None, "journal_mode", "wal").map_err(damaged)?;
    migrate(&mut connection)?;
    let is_whole = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    if is_whole.map_err(damaged)? != "ok" {
        return Err(StoreError::Damaged { path });
    }
    Ok((connection, path))
}

/// Whether anything was ever kept in `folder`.
pub(super) fn exists(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// A connection to the file that [`connect`] has made.
pub(super) fn open(path: &Path, patience: Duration) -> Result<Connection, StoreError> {
    Ok(connection(path, patience)?)
}

fn connection(path: &Path, patience: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(patience)?;
    // What was acknowledged survives a loss of power; what was deleted is overwritten.
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON; PRAGMA trusted_schema = OFF;",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    // Two processes may start at once; the second finds it done.
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let layout: u32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for migration in MIGRATIONS.iter().skip(layout as usize) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known())?;
    Ok(transaction.commit()?)
}

fn make_folder(folder: &Path) -> Result<(), StoreError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let failed = |source| StoreError::File { doing: "make the folder", path: folder.to_owned(), source };
    builder.create(folder).map_err(failed)?;
    check_private(folder, "chmod 700 it")
}

/// SQLite would make it readable for everybody, and gives its other files the rights of this one.
fn make_file(path: &Path) -> Result<(), StoreError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(StoreError::File { doing: "make", path: path.to_owned(), source }),
    }
}

#[cfg(unix)]
fn check_private(path: &Path, remedy: &'static str) -> Result<(), StoreError> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(StoreError::File { doing: "open", path: path.to_owned(), source }),
    };
    let exposed = |problem, remedy| Err(StoreError::Exposed { path: path.to_owned(), problem, remedy });
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return exposed("belongs to another user", "run this as its owner, or choose another --state-dir");
    }
    if metadata.mode() & 0o077 != 0 {
        return exposed("can be opened by other users", remedy);
    }
    Ok(())
}

/// On Windows the folders of a user's profile are closed to others already, by access lists; the
/// settings warn of any other.
#[cfg(windows)]
fn check_private(_: &Path, _: &'static str) -> Result<(), StoreError> {
    Ok(())
}
