//! Why a program did not start, for whoever wrote its name into the settings.

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use crate::backend::child::Program;

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A name without a folder, in no folder of `PATH`.
    #[error("`{command}` is in no folder of PATH ({path}); install it, or give its full path")]
    NotInPath {
        /// The name.
        command: String,
        /// Where it was looked for.
        path: String,
    },
    /// A path where there is nothing.
    #[error(
        "there is no file `{0}`; check the path, which begins at the folder where the server \
         starts unless it is a full one"
    )]
    NotFound(String),
    /// The file is there, and what should run it is not.
    #[error(
        "the file `{0}` is there, and the program that should run it is not; check its first line \
         (`#!`), or for which system it was built"
    )]
    NoInterpreter(String),
    /// The file may not be run.
    #[error("`{0}` is not executable; {remedy}", remedy = remedies::EXECUTABLE)]
    NotExecutable(String),
    /// The file is no program.
    #[error("`{0}` is no program for this system; {remedy}", remedy = remedies::PROGRAM)]
    NotAProgram(String),
    /// The folder to start in.
    #[error("`{command}` cannot run in the folder `{}`: {error}; create it, or choose another", folder.display())]
    WorkingDir {
        /// The command.
        command: String,
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
    /// File descriptors have run out.
    #[error(
        "too many files are open ({error}); {remedy}serve fewer at once", remedy = remedies::FILES
    )]
    TooManyFiles {
        /// The command.
        command: String,
        /// Which limit.
        error: io::Error,
    },
    /// Processes or memory have run out.
    #[error(
        "the system has no room for another process ({error}); {remedy}serve fewer at once", remedy = remedies::PROCESSES
    )]
    TooManyProcesses {
        /// The command.
        command: String,
        /// Which limit.
        error: io::Error,
    },
    /// The undertaker was closed.
    #[error("no program is started any more: the bridge is shutting down")]
    Closing,
    /// Something else.
    #[error("`{command}` cannot be run: {error}")]
    Other {
        /// The command.
        command: String,
        /// What the system says.
        error: io::Error,
    },
}

/// What to do about it, on this system.
#[cfg(not(windows))]
mod remedies {
    pub(super) const EXECUTABLE: &str = "allow it with `chmod +x`, and check who may enter its folder";
    pub(super) const PROGRAM: &str = "a script needs a first line like `#!/bin/sh`";
    pub(super) const FILES: &str = "raise the limit (`ulimit -n`, LimitNOFILE=), or ";
    pub(super) const PROCESSES: &str = "raise the limit (`ulimit -u`, TasksMax=), or ";
}

/// What to do about it, on this system.
#[cfg(windows)]
mod remedies {
    pub(super) const EXECUTABLE: &str = "check that it is no folder, and who may open it (`icacls FILE`)";
    pub(super) const PROGRAM: &str = "a script needs the program that runs it before it, as in `node server.js`";
    pub(super) const FILES: &str = "";
    pub(super) const PROCESSES: &str = "";
}

impl SpawnError {
    /// Looks at what the system says, and at the files, for what went wrong.
    pub(super) fn explain(program: &Program, error: io::Error) -> Self {
        let command = program.command.to_string_lossy().escape_debug().to_string();
        if let Some(folder) = &program.working_dir {
            let fault = match folder.metadata() {
                Ok(found) if found.is_dir() => None,
                Ok(_) => Some(io::ErrorKind::NotADirectory.into()),
                Err(error) => Some(error),
            };
            if let Some(error) = fault {
                return Self::WorkingDir { command, folder: folder.clone(), error };
            }
        }
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::NotFound, _) if program.is_installed() => Self::NoInterpreter(command),
            (io::ErrorKind::NotFound, _) if program.has_folder() => Self::NotFound(command),
            (io::ErrorKind::NotFound, _) => {
                Self::NotInPath { command, path: program.path().to_string_lossy().into_owned() }
            }
            (io::ErrorKind::PermissionDenied, _) => Self::NotExecutable(command),
            (_, Some(code)) => match kind_of(code) {
                Some(Kind::Format) => Self::NotAProgram(command),
                Some(Kind::Files) => Self::TooManyFiles { command, error },
                Some(Kind::Processes) => Self::TooManyProcesses { command, error },
                None => Self::Other { command, error },
            },
            _ => Self::Other { command, error },
        }
    }
}

/// Errors that have no name in the standard library.
enum Kind {
    Format,
    Files,
    Processes,
}

#[cfg(unix)]
fn kind_of(code: i32) -> Option<Kind> {
    use rustix::io::Errno;
    match Errno::from_raw_os_error(code) {
        Errno::NOEXEC => Some(Kind::Format),
        Errno::MFILE | Errno::NFILE => Some(Kind::Files),
        Errno::AGAIN | Errno::NOMEM => Some(Kind::Processes),
        _ => None,
    }
}

#[cfg(windows)]
fn kind_of(code: i32) -> Option<Kind> {
    // The numbers of winerror.h, in this order: ERROR_BAD_EXE_FORMAT; ERROR_TOO_MANY_OPEN_FILES;
    // ERROR_NOT_ENOUGH_MEMORY, ERROR_OUTOFMEMORY, ERROR_NO_SYSTEM_RESOURCES, ERROR_COMMITMENT_LIMIT,
    // ERROR_NOT_ENOUGH_QUOTA.
    match code {
        193 => Some(Kind::Format),
        4 => Some(Kind::Files),
        8 | 14 | 1450 | 1455 | 1816 => Some(Kind::Processes),
        _ => None,
    }
}

impl Program {
    /// The file to start where the command is a name to look up; `None` leaves it to the system.
    ///
    /// So it is known without asking for each folder of `PATH` in a fork of this process, and on
    /// Windows, which itself looks for `npx.exe` only, `npx` is found as `npx.cmd`.
    pub(super) fn locate(&self) -> Option<PathBuf> {
        if self.has_folder() {
            return None;
        }
        let mut folders = env::split_paths(&self.path()).collect::<Vec<_>>();
        if cfg!(windows) {
            // Where Windows looks, too.
            folders.extend(env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned)));
        }
        // Relative ones begin at a folder that is not ours. On Windows they are variables that nobody
        // has replaced, as in `%NODE%`, and lead nowhere.
        folders
            .iter()
            .take_while(|folder| cfg!(windows) || folder.is_absolute())
            .filter(|folder| folder.is_absolute())
            .flat_map(|folder| ENDINGS.iter().map(|ending| with_ending(folder.join(&self.command), ending)))
            .find(|file| is_executable(file))
    }

    fn has_folder(&self) -> bool {
        Path::new(&self.command).components().count() > 1
    }

    /// Whether there is something to start, as far as that shows without starting it.
    pub(crate) fn is_installed(&self) -> bool {
        let file = || self.working_dir.as_deref().unwrap_or(Path::new("")).join(&self.command);
        if self.has_folder() { file().exists() } else { self.locate().is_some() }
    }

    fn path(&self) -> OsString {
        let is_path = |name: &OsString| if cfg!(windows) { name.eq_ignore_ascii_case("PATH") } else { name == "PATH" };
        let path = self.environment.iter().rev().find(|(name, _)| is_path(name));
        path.map(|(_, value)| value.clone()).unwrap_or_default()
    }
}

/// What may stand after the name of a command.
#[cfg(not(windows))]
const ENDINGS: &[&str] = &[""];

/// What may stand after the name of a command: what can be started of `PATHEXT`'s default, in its order. A
/// name with one of these has it already; one without any is a script for another system.
#[cfg(windows)]
const ENDINGS: &[&str] = &["", ".com", ".exe", ".bat", ".cmd"];

fn with_ending(file: PathBuf, ending: &str) -> PathBuf {
    let mut file = file.into_os_string();
    file.push(ending);
    file.into()
}

#[cfg(unix)]
fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(windows)]
fn is_executable(file: &Path) -> bool {
    let is_startable = |ending: &std::ffi::OsStr| {
        ENDINGS.iter().any(|known| known.get(1..).is_some_and(|known| ending.eq_ignore_ascii_case(known)))
    };
    file.extension().is_some_and(is_startable) && file.is_file()
}
