//! Values of a TOML file as texts.

use toml::{Spanned, de::DeValue};

use crate::config::{
    reader::{Reader, integer},
    settings::{Kind, Setting},
    source::{Layer, Written},
};

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
