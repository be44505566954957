//! `[[server]]` of the file: one of several servers, and what it has of its own.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::config::{
    policy::{self, RawPolicy},
    reader::Reader,
    settings::{ALL, Setting, is_per_server},
    source::{Layer, Source, Written},
    values::{keep, scalar},
};

/// The tables' key in the file.
pub(super) const KEY: &str = "server";

/// What the policy of a server is called in the file.
const POLICY_KEY: &str = "server.policy";

/// What one `[[server]]` says.
pub(super) struct Table {
    /// Where it begins.
    pub(super) place: Source,
    /// Its `name`, not yet checked.
    pub(super) name: Option<Written>,
    /// Its values by the setting's key.
    pub(super) layer: Layer<Written>,
    /// Its own policy.
    pub(super) policy: Option<RawPolicy>,
}

/// Reads the tables, which the file has at `offset`; `None` when there are none. What is wrong is
/// added to `reader`.
pub(super) fn parse(value: &Spanned<DeValue<'_>>, offset: usize, reader: &mut Reader<'_>) -> Option<Vec<Table>> {
    let Some(array) = value.get_ref().as_array().filter(|array| !array.is_empty()) else {
        reader.problem(offset, "write each server as [[server]]".into());
        return None;
    };
    let mut tables = Vec::with_capacity(array.len());
    for value in array.iter() {
        match value.get_ref().as_table() {
            Some(table) => tables.push(parse_table(table, value.span().start, reader)),
            None => reader.problem(value.span().start, "a server is a table: [[server]]".into()),
        }
    }
    Some(tables)
}

fn parse_table(members: &DeTable<'_>, start: usize, reader: &mut Reader<'_>) -> Table {
    let mut table = Table { place: reader.source(start), name: None, layer: Layer::new(), policy: None };
    for (key, value) in members {
        let (name, offset) = (key.get_ref().as_ref(), key.span().start);
        let setting: Option<&'static Setting> = ALL.iter().copied().find(|setting| setting.key == name);
        match setting {
            _ if name == policy::KEY => table.policy = policy::parse(value, POLICY_KEY, reader),
            _ if name == "name" => match scalar(value.get_ref()) {
                Ok(text) => table.name = Some(Written { texts: vec![text], source: reader.source(offset) }),
                Err(error) => reader.problem(offset, format!("`name` {error}")),
            },
            Some(setting) if is_per_server(setting) => keep(setting, key, value, &mut table.layer, reader),
            Some(setting) if setting.has_key() => {
                let what = format!("`{name}` is for all servers together; write it above the first [[server]]");
                reader.problem(offset, what);
            }
            _ => {
                let known = ALL.iter().filter(|setting| is_per_server(setting)).map(|setting| setting.key);
                reader.unknown(key, known.chain(["name", policy::KEY]));
            }
        }
    }
    table
}
