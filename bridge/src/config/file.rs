//! The TOML file.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
};

use toml::de::{DeTable, DeValue};

use crate::config::{
    policy::{self, RawPolicy},
    problem::Problem,
    reader::{Reader, integer},
    settings::{ALL, Kind, Setting},
    source::Written,
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

/// What a file says: values by the setting's key, and the policy.
type Said = (BTreeMap<&'static str, Written>, Option<RawPolicy>);

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
fn document(table: &DeTable<'_>, reader: &mut Reader<'_>) -> Said {
    let mut layer = BTreeMap::new();
    let mut policy = None;
    for (key, value) in table {
        let (name, offset) = (key.get_ref().as_ref(), key.span().start);
        let setting = ALL.iter().find(|setting| setting.key == name);
        match setting {
            _ if name == policy::KEY => policy = policy::parse(value, reader),
            Some(setting) if setting.has_key() => match texts(setting, value.get_ref()) {
                Ok(texts) => {
                    let source = reader.source(offset);
                    layer.insert(setting.key, Written { texts, source });
                }
                Err(error) => reader.problem(offset, format!("`{name}` {error}")),
            },
            Some(setting) if setting.kind == Kind::Secret => reader.problem(
                offset,
                format!(
                    "`{name}` is a secret and does not belong into this file; put it into the environment \
                         variable {}, or into a file of its own that `{name}_file` names",
                    setting.variable()
                ),
            ),
            _ => reader.unknown(key, ALL.iter().filter(|s| s.has_key()).map(|s| s.key).chain([policy::KEY])),
        }
    }
    (layer, policy)
}

/// The value as text, which the setting's own parser judges.
fn texts(setting: &Setting, value: &DeValue<'_>) -> Result<Vec<String>, &'static str> {
    match (setting.kind, value) {
        (Kind::Many, DeValue::Array(values)) => values.iter().map(|value| scalar(value.get_ref())).collect(),
        (_, value) => Ok(vec![scalar(value)?]),
    }
}

fn scalar(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Integer(_) => integer(value).map(|value| value.to_string()).ok_or("is too large a number"),
        DeValue::Array(_) => Err("takes one value, not a list"),
        DeValue::Float(_) | DeValue::Datetime(_) => Err("takes a text or a whole number; put a text in quotes"),
        DeValue::Table(_) => Err("takes one value, not a table"),
    }
}
