//! The TOML file.

use std::{
    fs::File,
    io::{self, Read},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::config::{
    policy::{self, RawPolicy},
    problem::Problem,
    raw::Layer,
    reader::{Reader, integer},
    settings::{ALL, Kind, Setting},
    source::{Source, Written},
    table::{self, Table},
};

/// A larger file is not a settings file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The text of the file at `path`.
pub(super) fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 1 MiB, so it is no settings file"));
    }
    Ok(text)
}

/// What a file says.
#[derive(Default)]
pub(super) struct Said {
    /// Values by the setting's key.
    pub(super) layer: Layer<Written>,
    pub(super) policy: Option<RawPolicy>,
    pub(super) policy_place: Option<Source>,
    pub(super) tables: Option<Vec<Table>>,
}

/// What `text` says, if it is TOML; `path` is for the places of values and problems.
pub(super) fn parse(text: &str, path: &str, problems: &mut Vec<Problem>) -> Option<Said> {
    let mut reader = Reader::new(text, path);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        // The error's own display would show the line, which may hold a misplaced secret.
        let offset = error.span().map_or(0, |span| span.start);
        reader.problem(offset, format!("not TOML: {}", error.message()));
    }
    let said = errors.is_empty().then(|| document(table.get_ref(), &mut reader));
    problems.extend(reader.problems());
    said
}

/// What the whole file says.
fn document(document: &DeTable<'_>, reader: &mut Reader<'_>) -> Said {
    let mut said = Said::default();
    for (key, value) in document {
        let (name, offset) = (key.get_ref().as_ref(), key.span().start);
        let setting = ALL.iter().find(|setting| setting.key == name);
        match setting {
            _ if name == policy::KEY => {
                said.policy_place = Some(reader.source(offset));
                said.policy = policy::parse(value, policy::KEY, reader);
            }
            _ if name == table::KEY => said.tables = table::parse(value, offset, reader),
            Some(setting) if setting.has_key() => keep(setting, key, value, &mut said.layer, reader),
            Some(setting) if setting.kind == Kind::Secret => reader.problem(
                offset,
                format!(
                    "`{name}` is a secret and does not belong into this file; put it into the environment \
                         variable {}, or into a file of its own that `{name}_file` names",
                    setting.variable()
                ),
            ),
            _ => {
                let tables = [policy::KEY, table::KEY];
                reader.unknown(key, ALL.iter().filter(|s| s.has_key()).map(|s| s.key).chain(tables));
            }
        }
    }
    said
}

/// Puts the value of `setting` into `layer`, if it has the form of one.
pub(super) fn keep(
    setting: &'static Setting,
    key: &Spanned<impl AsRef<str>>,
    value: &Spanned<DeValue<'_>>,
    layer: &mut Layer<Written>,
    reader: &mut Reader<'_>,
) {
    let offset = key.span().start;
    match texts(setting, value.get_ref()) {
        Ok(texts) => {
            layer.insert(setting.key, Written { texts, source: reader.source(offset) });
        }
        Err(error) => reader.problem(offset, format!("`{}` {error}", setting.key)),
    }
}

/// The value as text, which the setting's own parser judges.
fn texts(setting: &Setting, value: &DeValue<'_>) -> Result<Vec<String>, &'static str> {
    match (setting.kind, value) {
        (Kind::Many | Kind::Variables | Kind::Command, DeValue::Array(values)) => {
            values.iter().map(|value| scalar(value.get_ref())).collect()
        }
        // A text would have to be taken apart as a shell does, and every shell does it differently.
        (Kind::Command, _) => Err("takes a list, like [\"npx\", \"-y\", \"a-server\"]"),
        (_, value) => Ok(vec![scalar(value)?]),
    }
}

/// One value as text.
pub(super) fn scalar(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Integer(_) => integer(value).map(|value| value.to_string()).ok_or("is too large a number"),
        DeValue::Array(_) => Err("takes one value, not a list"),
        DeValue::Float(_) | DeValue::Datetime(_) => Err("takes a text or a whole number; put a text in quotes"),
        DeValue::Table(_) => Err("takes one value, not a table"),
    }
}
