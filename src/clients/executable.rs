//! The path under which a client will find this program tomorrow.

use std::path::{Component, Path, PathBuf};

use crate::clients::environment::{Environment, Platform};

/// Why a path should not stand in a client's file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecutableError {
    /// The operating system does not say, or not in Unicode.
    #[error("cannot find out where this program is: {0}")]
    Unknown(String),
    /// It will not be there for long.
    #[error("{path} is {what}, and the client would lose its server with it; {mend}, or use --force", path = .path.display())]
    Passing {
        /// The program.
        path: PathBuf,
        /// The kind of folder.
        what: &'static str,
        /// What to do about it.
        mend: &'static str,
    },
}

/// The path of this program, as it is to be written.
///
/// That is the one by which it was called, links and all, if it really leads here: package managers keep a link such
/// as `/opt/homebrew/bin/mcp-calculator` while the version's own folder behind it goes with the next upgrade.
///
/// # Errors
/// When the path cannot be known, or not be written.
pub fn this_program(environment: &Environment) -> Result<PathBuf, ExecutableError> {
    let unknown = |error: std::io::Error| ExecutableError::Unknown(error.to_string());
    let current = std::env::current_exe().map_err(unknown)?;
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let is_this = |path: &Path| match (path.canonicalize(), current.canonicalize()) {
        (Ok(path), Ok(current)) => path == current,
        _ => false,
    };
    let path = lookup(environment, &called).filter(|path| is_this(path)).unwrap_or(current);
    match path.to_str() {
        Some(_) => Ok(path),
        None => Err(ExecutableError::Unknown("its path is not in Unicode".to_owned())),
    }
}

/// What the name of a program ends in on Windows: what can be started of `PATHEXT`'s default, in its order.
const ENDINGS_ON_WINDOWS: [&str; 4] = [".com", ".exe", ".bat", ".cmd"];

/// Where `command` is: as a path from here, or else in the folders of `PATH`. An absolute path, its links not followed.
pub fn lookup(environment: &Environment, command: &Path) -> Option<PathBuf> {
    let endings: &[&str] = match environment.platform() {
        // Beside `npx.cmd` there is an `npx`, which is a script for other systems.
        Platform::Windows if !ends_as_program(command) => &ENDINGS_ON_WINDOWS,
        Platform::Windows | Platform::Linux | Platform::MacOs => &[""],
    };
    let find = |path: PathBuf| {
        let with = |ending: &&str| {
            let mut path = path.clone().into_os_string();
            path.push(ending);
            PathBuf::from(path)
        };
        endings.iter().map(with).find(|path| is_program(path)).and_then(|path| std::path::absolute(path).ok())
    };
    if command.components().count() != 1 || command.is_absolute() || command.starts_with(".") {
        return find(command.to_owned());
    }
    std::env::split_paths(environment.variable("PATH")?).map(|folder| folder.join(command)).find_map(find)
}

fn ends_as_program(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    ENDINGS_ON_WINDOWS.iter().any(|known| ending.eq_ignore_ascii_case(&known[1..]))
}

fn is_program(path: &Path) -> bool {
    #[cfg(unix)]
    let may_run =
        |metadata: &std::fs::Metadata| std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o111 != 0;
    #[cfg(not(unix))]
    let may_run = |_: &std::fs::Metadata| true;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && may_run(&metadata))
}

/// Refuses a path that will not last: a build's folder, a cache, or one for temporary files.
///
/// # Errors
/// [`ExecutableError::Passing`], with what to do.
pub fn check_lasting(environment: &Environment, path: &Path) -> Result<(), ExecutableError> {
    let text = path.to_string_lossy().replace('\\', "/");
    let parts: Vec<&str> = text.split('/').collect();
    let passing = |what, mend| Err(ExecutableError::Passing { path: path.to_owned(), what, mend });
    let target = parts.iter().position(|part| *part == "target");
    if target.is_some_and(|at| parts[at..].iter().any(|part| matches!(*part, "debug" | "release" | "dist"))) {
        return passing("in the folder of a build", "install the program first (cargo install --path .)");
    }
    // Where `npx`, `pnpm dlx`, `uvx` and `pipx run` keep what they fetch, until they tidy up.
    let is_cache =
        |part: &&str| matches!(*part, "_npx" | "dlx" | "archive-v0" | "environments-v2") || part.starts_with("bunx-");
    if parts.iter().any(is_cache) || text.contains("/pipx/.cache/") {
        return passing("in the cache of a package manager", "install the package for good");
    }
    let is_below = |folder: &PathBuf| {
        let plain = |path: &Path| path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>();
        let folder_text = folder.to_string_lossy().replace('\\', "/");
        plain(path).starts_with(plain(folder)) || text.starts_with(&format!("{}/", folder_text.trim_end_matches('/')))
    };
    if environment.temporary().iter().any(is_below) {
        return passing("in a folder for temporary files", "move the program to a place that lasts");
    }
    if environment.platform() == Platform::MacOs && text.contains("/AppTranslocation/") {
        return passing("where macOS shows what was just downloaded", "move the program to a place that lasts");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_goes_away_is_refused() {
        let linux = Environment::new(Platform::Linux, "/home/u", &[]);
        let mac = Environment::new(Platform::MacOs, "/Users/u", &[]);
        let windows = Environment::new(Platform::Windows, r"C:\Users\u", &[("TEMP", r"C:\Users\u\AppData\Local\Temp")]);
        let refused = |environment: &Environment, path: &str, expected: Option<&str>| {
            let what = match check_lasting(environment, Path::new(path)) {
                Err(ExecutableError::Passing { what, .. }) => Some(what),
                _ => None,
            };
            assert_eq!(what.is_some(), expected.is_some(), "{path}: {what:?}");
            assert!(what.zip(expected).is_none_or(|(what, part)| what.contains(part)), "{path}: {what:?}");
        };
        for path in [
            "/usr/bin/x",
            "/opt/homebrew/bin/x",
            "/home/u/.cargo/bin/x",
            "/home/u/target/x",
            "/home/u/debug/x",
            "/tmpfoo/x",
            "/home/tmp/x",
        ] {
            refused(&linux, path, None);
        }
        refused(&linux, "/home/u/p/target/debug/x", Some("build"));
        refused(&linux, "/home/u/p/target/x86_64-unknown-linux-musl/release/x", Some("build"));
        refused(&linux, "/home/u/.npm/_npx/abc/node_modules/p/x", Some("cache"));
        refused(&linux, "/home/u/.cache/uv/archive-v0/abc/bin/x", Some("cache"));
        refused(&linux, "/tmp/x", Some("temporary"));
        refused(&linux, "/tmp/.mount_abc/usr/bin/x", Some("temporary"));
        refused(&mac, "/var/folders/ab/cd/T/x", Some("temporary"));
        refused(&mac, "/private/var/folders/ab/AppTranslocation/cd/d/x", Some("temporary"));
        refused(&mac, "/usr/local/bin/x", None);
        refused(&windows, r"C:\Users\u\AppData\Local\Temp\x.exe", Some("temporary"));
        refused(&windows, r"C:\Users\u\p\target\release\x.exe", Some("build"));
        refused(&windows, r"C:\Users\u\AppData\Local\npm-cache\_npx\ab\x.exe", Some("cache"));
        refused(&windows, r"C:\Program Files\x\x.exe", None);
    }

    #[test]
    fn on_windows_the_ending_says_what_can_be_started() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["npx", "npx.cmd", "node.exe", "server.js", "script.v2.bat"] {
            let path = folder.path().join(name);
            std::fs::write(&path, "").expect("written");
            #[cfg(unix)]
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
        }
        let path = folder.path().to_str().expect("Unicode");
        let found = |platform, command: &str| {
            let found =
                lookup(&Environment::new(platform, path, &[("Path", path), ("PATHEXT", ".JS")]), Path::new(command));
            found.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        };
        for (command, expected) in [
            ("npx", Some("npx.cmd")),
            ("npx.cmd", Some("npx.cmd")),
            ("node", Some("node.exe")),
            ("script.v2", Some("script.v2.bat")),
            ("server", None),
            ("server.js", None),
        ] {
            assert_eq!(found(Platform::Windows, command).as_deref(), expected, "{command}");
        }
        assert_eq!(found(Platform::Linux, "npx"), None, "elsewhere the variable is called PATH and nothing else");
    }
}
