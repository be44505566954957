//! Places and problems in a TOML file.

use toml::{Spanned, de::DeValue};

use crate::config::{
    problem::{Problem, did_you_mean, shown},
    source::Source,
};

/// Knows where in a file something stands, and keeps what is wrong with it.
pub(super) struct Reader<'t> {
    text: &'t str,
    path: &'t str,
    found: Vec<(usize, Problem)>,
}

impl<'t> Reader<'t> {
    /// A reader of `text`; `path` is for the places of values and problems.
    pub(super) fn new(text: &'t str, path: &'t str) -> Self {
        Self { text, path, found: Vec::new() }
    }

    /// What was found to be wrong, in the order of the file.
    pub(super) fn problems(mut self) -> impl Iterator<Item = Problem> {
        self.found.sort_by_key(|(line, _)| *line);
        self.found.into_iter().map(|(_, problem)| problem)
    }

    /// The place of what begins at `offset`.
    pub(super) fn source(&self, offset: usize) -> Source {
        Source::File { path: self.path.to_owned(), line: self.line(offset) }
    }

    /// Adds a problem with what begins at `offset`.
    pub(super) fn problem(&mut self, offset: usize, what: String) {
        let line = self.line(offset);
        self.found.push((line, Problem::at(Source::File { path: self.path.to_owned(), line }, what)));
    }

    /// The line of the byte at `offset`, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    /// Says that `key` is none of `known`.
    pub(super) fn unknown<'k>(&mut self, key: &Spanned<impl AsRef<str>>, known: impl IntoIterator<Item = &'k str>) {
        let name = key.get_ref().as_ref();
        let advice = did_you_mean(name, known);
        self.problem(key.span().start, format!("`{}` is not a setting; {advice}", shown(name)));
    }
}

/// The whole number that `value` is, if it is one and fits.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}
