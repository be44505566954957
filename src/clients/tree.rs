//! What a configuration file says, whatever it is written in.

use std::collections::HashSet;

/// A value of a JSON, TOML or YAML file; objects keep their order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
    /// What only one of the languages has: dates, aliases, tagged values; as text to compare by.
    Other(String),
}

impl Tree {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(members) => members.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// This without the member `name` of the member `key`, and without `key` when nothing else is there.
    pub(crate) fn without(mut self, key: &str, name: &str) -> Self {
        if let Self::Map(members) = &mut self {
            if let Some((_, Self::Map(entries))) = members.iter_mut().find(|(member, _)| member == key) {
                entries.retain(|(entry, _)| entry != name);
            }
            let is_empty = |value: &Self| matches!(value, Self::Null) || *value == Self::Map(Vec::new());
            members.retain(|(member, value)| member != key || !is_empty(value));
        }
        self
    }
}

/// A place in a file, for people: both count from one, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The line.
    pub(crate) line: usize,
    /// The column.
    pub(crate) column: usize,
}

impl Position {
    /// Where byte `offset` of `text` is.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = &text[..text.floor_char_boundary(offset.min(text.len()))];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self { line: before.matches('\n').count() + 1, column: before[start..].chars().count() + 1 }
    }
}

/// The first name that occurs twice.
pub(crate) fn repeated<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<usize> {
    let mut seen = HashSet::new();
    names.into_iter().position(|name| !seen.insert(name))
}
