//! The TOML file.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
};

use toml::de::DeTable;

use crate::config::{
    policy::{self, RawPolicy},
    problem::Problem,
    reader::Reader,
    scopes,
    settings::{ALL, Kind},
    source::{Layer, Source, Written},
    table::{self, Table},
    values::keep,
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
    pub(super) scopes: BTreeMap<String, String>,
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
            _ if name == scopes::KEY => said.scopes = scopes::parse(value, reader),
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
                let tables = [policy::KEY, table::KEY, scopes::KEY];
                reader.unknown(key, ALL.iter().filter(|s| s.has_key()).map(|s| s.key).chain(tables));
            }
        }
    }
    said
}
