//! Where a value comes from.

use std::{collections::BTreeMap, fmt};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag, by its name without dashes.
    Flag(String),
    /// What follows `--` on the command line.
    Rest,
    /// An environment variable, by its name.
    Environment(String),
    /// A line of the file.
    File {
        /// The file's path, as it was given.
        path: String,
        /// The line, from 1.
        line: usize,
    },
    /// What other settings imply.
    Derived(&'static str),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Rest => f.write_str("the command after --"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Derived(why) => f.write_str(why),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value as it was written. It may hold a secret only where the setting is [`Kind::Variables`],
/// and `Debug` shows its place alone.
///
/// [`Kind::Variables`]: crate::config::settings::Kind::Variables
#[derive(Clone)]
pub(super) struct Written {
    /// One text; or any number for a setting that takes many.
    pub(super) texts: Vec<String>,
    pub(super) source: Source,
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// What one source says, by the setting's key.
pub(super) type Layer<T> = BTreeMap<&'static str, T>;
