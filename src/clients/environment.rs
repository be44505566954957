//! What the places of files depend on, as a value: every platform can be looked at from any other.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The operating systems that clients exist for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// Linux, and whatever else follows the XDG directories.
    Linux,
    /// macOS.
    MacOs,
    /// Windows.
    Windows,
}

impl Platform {
    /// The one this program was built for.
    pub const fn current() -> Self {
        if cfg!(windows) {
            Self::Windows
        } else if cfg!(target_os = "macos") {
            Self::MacOs
        } else {
            Self::Linux
        }
    }
}

/// The platform, the home folder, and the environment's variables.
///
/// Only what is Unicode: the files that paths are written to are.
#[derive(Debug, Clone)]
pub struct Environment {
    platform: Platform,
    home: PathBuf,
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The environment of this process; `None` where nobody says which folder is the user's home.
    pub fn of_this_process() -> Option<Self> {
        let home = std::env::home_dir().filter(|home| home.is_absolute() && home.to_str().is_some())?;
        let variables =
            std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        Some(Self { platform: Platform::current(), home, variables: variables.collect() })
    }

    /// One that is made up.
    pub fn new(platform: Platform, home: &str, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { platform, home: home.into(), variables }
    }

    pub(crate) fn platform(&self) -> Platform {
        self.platform
    }

    /// A variable that is set, and not to nothing.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        let is_it = |known: &str| match self.platform {
            // Names that differ in case only are one there, and PATH is usually called `Path`.
            Platform::Windows => known.eq_ignore_ascii_case(name),
            Platform::Linux | Platform::MacOs => known == name,
        };
        let (_, value) = self.variables.iter().find(|(known, _)| is_it(known))?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// A folder that a variable names. A relative one is nobody's: the clients start elsewhere.
    fn folder(&self, variable: &str) -> Option<PathBuf> {
        self.variable(variable).filter(|value| self.is_absolute(value)).map(PathBuf::from)
    }

    pub(crate) fn is_absolute(&self, path: &str) -> bool {
        match self.platform {
            Platform::Windows => {
                let bytes = path.as_bytes();
                path.starts_with(r"\\") || (bytes.len() > 2 && bytes[1] == b':' && matches!(bytes[2], b'\\' | b'/'))
            }
            Platform::Linux | Platform::MacOs => path.starts_with('/'),
        }
    }

    /// `base` and what is below it, with the separators of the platform.
    pub(crate) fn join(&self, base: &Path, below: &str) -> PathBuf {
        match self.platform {
            Platform::Windows => format!(r"{}\{}", base.display(), below.replace('/', r"\")).into(),
            Platform::Linux | Platform::MacOs => base.join(below),
        }
    }

    /// What is below the folder that `variable` names, else below `otherwise` in the home folder.
    pub(crate) fn below(&self, variable: Option<&str>, otherwise: &str, path: &str) -> PathBuf {
        let base = variable.and_then(|name| self.folder(name)).unwrap_or_else(|| match otherwise {
            "" => self.home.clone(),
            otherwise => self.join(&self.home, otherwise),
        });
        self.join(&base, path)
    }

    /// Where programs keep what they are told: `path` is below it.
    pub(crate) fn config(&self, path: &str) -> PathBuf {
        match self.platform {
            Platform::Linux => self.below(Some("XDG_CONFIG_HOME"), ".config", path),
            Platform::MacOs => self.below(None, "Library/Application Support", path),
            Platform::Windows => self.below(Some("APPDATA"), "AppData/Roaming", path),
        }
    }

    /// The same for programs that follow the XDG directories on macOS, too.
    pub(crate) fn xdg_config(&self, path: &str) -> PathBuf {
        match self.platform {
            Platform::Windows => self.config(path),
            Platform::Linux | Platform::MacOs => self.below(Some("XDG_CONFIG_HOME"), ".config", path),
        }
    }

    /// Folders whose content nobody promises to keep.
    pub(crate) fn temporary(&self) -> Vec<PathBuf> {
        match self.platform {
            Platform::Windows => ["TEMP", "TMP"].iter().filter_map(|name| self.folder(name)).collect(),
            Platform::Linux => vec![self.folder("TMPDIR").unwrap_or_else(|| "/tmp".into())],
            Platform::MacOs => {
                let fixed = ["/tmp", "/private/tmp", "/var/folders", "/private/var/folders"].map(PathBuf::from);
                fixed.into_iter().chain(self.folder("TMPDIR")).collect()
            }
        }
    }
}
