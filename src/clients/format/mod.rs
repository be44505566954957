//! Edits of one entry in the text of a file. All else keeps every byte.

pub(crate) mod json;
mod toml;
mod yaml;

use crate::clients::tree::{Position, Tree};

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json(json::Dialect),
    Toml,
    Yaml,
}

/// Why a text cannot be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("line {}, column {}: {what}", .at.line, .at.column)]
    Broken { at: Position, what: String },
    /// A good file, in which the entry cannot be touched without a risk for the rest.
    #[error("line {}, column {}: {why}", .at.line, .at.column)]
    Unusual { at: Position, why: String },
    /// A mistake of ours, noticed before it did harm.
    #[error("the edit would have changed more than its entry")]
    Damage,
}

/// Where an entry stands: the member of the file with all servers, and the name in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot<'a> {
    pub(crate) servers: &'a str,
    pub(crate) name: &'a str,
}

impl Format {
    /// What the text says; nothing at all is an empty object.
    pub(crate) fn parse(self, text: &str) -> Result<Tree, FormatError> {
        match self {
            Self::Json(dialect) => json::parse(text, dialect),
            Self::Toml => toml::parse(text),
            Self::Yaml => yaml::parse(text),
        }
    }

    /// The entry in `slot`, if there is one.
    pub(crate) fn entry(self, text: &str, slot: Slot<'_>) -> Result<Option<Tree>, FormatError> {
        let tree = self.parse(text)?;
        Ok(tree.get(slot.servers).and_then(|servers| servers.get(slot.name)).cloned())
    }

    /// The text with `entry` in `slot`, which is empty.
    pub(crate) fn insert(self, text: &str, slot: Slot<'_>, entry: &Tree) -> Result<String, FormatError> {
        let before = self.parse(text)?;
        let edited = match self {
            Self::Json(dialect) => json::insert(text, dialect, slot, entry),
            Self::Toml => toml::insert(text, slot, entry),
            Self::Yaml => yaml::insert(text, slot, entry),
        }?;
        let after = self.parse(&edited).map_err(|_| FormatError::Damage)?;
        let is_there = after.get(slot.servers).and_then(|servers| servers.get(slot.name)) == Some(entry);
        check(is_there && is_within(text, &edited), &before, &after, slot).map(|()| edited)
    }

    /// The text without the entry in `slot`, in which there is one.
    pub(crate) fn remove(self, text: &str, slot: Slot<'_>) -> Result<String, FormatError> {
        let before = self.parse(text)?;
        let edited = match self {
            Self::Json(dialect) => json::remove(text, dialect, slot),
            Self::Toml => toml::remove(text, slot),
            Self::Yaml => yaml::remove(text, slot),
        }?;
        let after = self.parse(&edited).map_err(|_| FormatError::Damage)?;
        let is_gone = after.get(slot.servers).and_then(|servers| servers.get(slot.name)).is_none();
        check(is_gone, &before, &after, slot).map(|()| edited)
    }

    /// The text with another value for the text `member` of the entry in `slot`.
    pub(crate) fn set(self, text: &str, slot: Slot<'_>, member: &str, value: &str) -> Result<String, FormatError> {
        let before = self.parse(text)?;
        let edited = match self {
            Self::Json(dialect) => json::set(text, dialect, slot, member, value),
            Self::Toml => toml::set(text, slot, member, value),
            Self::Yaml => yaml::set(text, slot, member, value),
        }?;
        let after = self.parse(&edited).map_err(|_| FormatError::Damage)?;
        let entry = after.get(slot.servers).and_then(|servers| servers.get(slot.name));
        let is_set = entry.and_then(|entry| entry.get(member)).and_then(Tree::as_text) == Some(value);
        check(is_set, &before, &after, slot).map(|()| edited)
    }
}

/// That nothing but the entry has changed. What we know about three languages may be wrong; then nothing is written.
fn check(holds: bool, before: &Tree, after: &Tree, slot: Slot<'_>) -> Result<(), FormatError> {
    let rest = |tree: &Tree| tree.clone().without(slot.servers, slot.name);
    if holds && rest(before) == rest(after) { Ok(()) } else { Err(FormatError::Damage) }
}

/// Whether `after` has everything that `before` has, comments included, in its order.
fn is_within(before: &str, after: &str) -> bool {
    let mut rest = after.chars();
    before.chars().filter(|c| !c.is_whitespace() && *c != ',').all(|wanted| rest.any(|c| c == wanted))
}

/// What an edit of text is made of. Ranges do not overlap.
#[derive(Debug, Default)]
struct Splices(Vec<(std::ops::Range<usize>, String)>);

impl Splices {
    fn put(&mut self, range: std::ops::Range<usize>, text: impl Into<String>) {
        self.0.push((range, text.into()));
    }

    fn apply(mut self, text: &str) -> String {
        self.0.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        let mut text = text.to_owned();
        for (range, with) in self.0 {
            text.replace_range(range, &with);
        }
        text
    }
}

/// Takes one of several members out of braces: `spans` are all of them in order, `index` is the one.
fn cut(spans: &[std::ops::Range<usize>], index: usize) -> std::ops::Range<usize> {
    match (index.checked_sub(1).and_then(|before| spans.get(before)), spans.get(index + 1)) {
        (_, Some(next)) => spans[index].start..next.start,
        (Some(before), None) => before.end..spans[index].end,
        (None, None) => spans[index].clone(),
    }
}

/// How lines end in `text`: as its first one does.
fn newline(text: &str) -> &'static str {
    match text.split_once('\n') {
        Some((first, _)) if first.ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

/// The start of the line that `offset` is in.
fn line_start(text: &str, offset: usize) -> usize {
    text[..offset].rfind('\n').map_or(0, |newline| newline + 1)
}

/// The start of the line after the one that `offset` is in, or the end of the text.
fn line_end(text: &str, offset: usize) -> usize {
    text[offset..].find('\n').map_or(text.len(), |newline| offset + newline + 1)
}

/// A text in double quotes, as JSON, TOML and YAML all read it.
fn quoted(text: &str) -> String {
    // JSON's escapes are those of the others, too; DEL is the one control character that only TOML wants escaped.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests;
