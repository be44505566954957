//! What is found while settings are read.

use std::path::Path;

use crate::config::{
    parse::Parsed,
    problem::{Problem, escaped},
    raw::Raw,
    report::Row,
    settings::{ALL, Kind, Setting, is_inherited, is_per_server},
    source::{Source, Written},
    table::Table,
};

/// Keeps what is found while settings are read.
pub(super) struct Resolver<'r> {
    pub(super) raw: &'r Raw,
    /// The `[[server]]` whose settings are read; it goes before everything else.
    pub(super) table: Option<&'r Table>,
    pub(super) problems: Vec<Problem>,
    /// What is allowed and worth a second look.
    pub(super) warnings: Vec<String>,
    /// Values that other settings imply, for the report.
    pub(super) implied: Vec<(&'static Setting, String, Source)>,
}

impl<'r> Resolver<'r> {
    pub(super) fn new(raw: &'r Raw, problems: Vec<Problem>) -> Self {
        Self { raw, table: None, problems, warnings: Vec::new(), implied: Vec::new() }
    }

    /// What the strongest source says about `setting`.
    pub(super) fn written(&self, setting: &Setting) -> Option<&'r Written> {
        match self.table {
            Some(table) if is_inherited(setting) => table.layer.get(setting.key).or_else(|| self.raw.written(setting)),
            Some(table) => table.layer.get(setting.key),
            None => self.raw.written(setting),
        }
    }

    /// The value of `setting`, or its default. `None` when there is neither, and when it is wrong;
    /// then there is a problem.
    pub(super) fn value<T>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        let parsed = match self.written(setting) {
            Some(written) => match written.texts.as_slice() {
                [text] if !text.is_empty() => parse(text),
                _ => Err("is empty; give it a value, or leave it out".into()),
            },
            None => parse(setting.default?),
        };
        self.keep(setting, parsed)
    }

    /// The values of a setting that takes many; wrong ones are left out, each with a problem.
    pub(super) fn values<T>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Parsed<T>) -> Vec<T> {
        let texts = self.written(setting).map_or(&[][..], |written| &written.texts);
        texts.iter().filter_map(|text| self.keep(setting, parse(text))).collect()
    }

    fn keep<T>(&mut self, setting: &Setting, parsed: Parsed<T>) -> Option<T> {
        parsed.map_err(|what| self.problem(setting, what)).ok()
    }

    /// Adds a problem with `setting`, wherever it was written.
    pub(super) fn problem(&mut self, setting: &Setting, what: impl Into<String>) {
        let place = self.written(setting).map(|written| written.source.clone());
        let what = match &place {
            // A line does not name the setting; flag and variable do.
            Some(Source::File { .. }) => format!("`{}`: {}", setting.key, what.into()),
            _ => what.into(),
        };
        let problem = Problem { place, what };
        // Several servers may have the same value from the same place.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    pub(super) fn is_written(&self, setting: &Setting) -> bool {
        self.written(setting).is_some()
    }

    /// Every setting with its value and source, for people; with several servers, without what each
    /// has for itself.
    pub(super) fn rows(&self) -> Vec<Row> {
        let shown = |setting: &&Setting| self.raw.tables.is_none() || is_inherited(setting);
        ALL.iter().copied().filter(shown).map(|setting| self.row(setting)).collect()
    }

    /// The settings that the current `[[server]]` may have of its own.
    pub(super) fn table_rows(&self) -> Vec<Row> {
        ALL.iter().copied().filter(|setting| is_per_server(setting)).map(|setting| self.row(setting)).collect()
    }

    fn row(&self, setting: &'static Setting) -> Row {
        let implied = self.implied.iter().find(|(implied, ..)| implied.key == setting.key);
        let (value, source) = match (implied, self.written(setting)) {
            (Some((_, value, source)), _) => (value.clone(), source.clone()),
            (None, Some(written)) if written.texts.is_empty() => ("none".into(), written.source.clone()),
            (None, Some(written)) => (joined(setting, &written.texts), written.source.clone()),
            (None, None) => (setting.default.unwrap_or("not set").into(), Source::Default),
        };
        Row { key: setting.key, value: escaped(&value), source: source.to_string() }
    }
}

/// The texts of a value as the report shows them.
fn joined(setting: &Setting, texts: &[String]) -> String {
    match setting.kind {
        // What stands behind `=` is often a secret.
        Kind::Variables => {
            let name =
                |text: &String| text.split_once('=').map_or_else(|| text.clone(), |(name, _)| format!("{name}=…"));
            texts.iter().map(name).collect::<Vec<_>>().join(", ")
        }
        Kind::Command => {
            let quoted = |text: &String| {
                let plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '\'');
                if plain { text.clone() } else { format!("'{text}'") }
            };
            texts.iter().map(quoted).collect::<Vec<_>>().join(" ")
        }
        _ => texts.join(", "),
    }
}

/// Warns when every user of the machine can read the secret in `path`.
pub(super) fn warn_if_readable_by_all(r: &mut Resolver<'_>, setting: &Setting, path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        const READABLE_BY_OTHERS: u32 = 0o004;
        let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        if mode & READABLE_BY_OTHERS != 0 {
            r.warnings.push(format!(
                "{}: every user of this machine can read {}; chmod 600 it",
                setting.key,
                escaped(&path.to_string_lossy())
            ));
        }
    }
    #[cfg(windows)]
    warn_if_outside_profile(r, setting, path);
}

/// Warns when other users of the machine may be able to open `path`.
///
/// Only the folders of a user's profile are closed to others on Windows, by access lists that what is
/// made in them inherits. Nothing here reads such lists.
#[cfg(windows)]
pub(super) fn warn_if_outside_profile(r: &mut Resolver<'_>, setting: &Setting, path: &Path) {
    let is_inside = |profile: directories::BaseDirs| {
        std::path::absolute(path).is_ok_and(|path| path.starts_with(profile.home_dir()))
    };
    if !directories::BaseDirs::new().is_some_and(is_inside) {
        r.warnings.push(format!(
            "{}: {} is outside of your profile, and other users of this machine may be able to read it; see \
             with `icacls` who may, or move it into your profile",
            setting.key,
            escaped(&path.to_string_lossy())
        ));
    }
}
