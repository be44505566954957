//! `[scopes]` of the file: what each scope lets a client do, in words for the user who is asked.

use std::collections::BTreeMap;

use toml::{Spanned, de::DeValue};

use crate::{config::reader::Reader, scope::Scope};

/// The table's key in the file.
pub(super) const KEY: &str = "scopes";

/// Longer than this nobody reads before clicking.
const WORDS_MAX: usize = 200;

/// Reads the table. What is wrong is added to `reader`.
pub(super) fn parse(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    let mut scopes = BTreeMap::new();
    let Some(table) = value.get_ref().as_table() else {
        let what = "`scopes` is a table of descriptions: [scopes], then lines like \"op:add\" = \"Add two numbers\"";
        reader.problem(value.span().start, what.into());
        return scopes;
    };
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        if let Err(error) = name.parse::<Scope>() {
            reader.problem(key.span().start, error.to_string());
            continue;
        }
        match value.get_ref().as_str().filter(|text| is_description(text)) {
            Some(text) => {
                scopes.insert(name.to_owned(), text.to_owned());
            }
            None => {
                let what = "a scope's description is one line of at most 200 characters, like \"Add two numbers\"";
                reader.problem(value.span().start, what.into());
            }
        }
    }
    scopes
}

fn is_description(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= WORDS_MAX && !text.chars().any(char::is_control)
}
