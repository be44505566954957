//! JSON, as strict as the client that reads it.

use jsonc_parser::{
    CollectOptions, ParseOptions,
    ast::{ObjectPropName, Value},
    common::Ranged as _,
    cst::{CstInputValue, CstObject, CstRootNode},
    errors::ParseError,
    parse_to_ast,
};

use crate::clients::{
    format::{FormatError, Slot},
    tree::{Position, Tree, repeated},
};

/// What a file may have besides JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Strict,
    Comments,
    /// Comments, and commas after the last member.
    Lenient,
}

impl Dialect {
    fn options(self) -> ParseOptions {
        ParseOptions {
            allow_comments: self != Self::Strict,
            allow_trailing_commas: self == Self::Lenient,
            allow_loose_object_property_names: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            allow_bare_decimal_point_numbers: false,
            allow_non_finite_numbers: false,
            allow_extended_string_escapes: false,
        }
    }
}

pub(super) fn parse(text: &str, dialect: Dialect) -> Result<Tree, FormatError> {
    let parsed =
        parse_to_ast(text, &CollectOptions::default(), &dialect.options()).map_err(|error| broken(text, &error))?;
    match &parsed.value {
        None => Ok(Tree::Map(Vec::new())),
        Some(value @ Value::Object(_)) => tree(text, value),
        Some(value) => Err(expected_object(text, value.range().start, "the file")),
    }
}

fn tree(text: &str, value: &Value<'_>) -> Result<Tree, FormatError> {
    Ok(match value {
        Value::NullKeyword(_) => Tree::Null,
        Value::BooleanLit(value) => Tree::Bool(value.value),
        Value::NumberLit(number) => Tree::Number(number.value.to_owned()),
        Value::StringLit(string) => Tree::text(string.value.as_ref()),
        Value::Array(array) => {
            Tree::List(array.elements.iter().map(|element| tree(text, element)).collect::<Result<_, _>>()?)
        }
        Value::Object(object) => {
            if let Some(index) = repeated(object.properties.iter().map(|property| name(&property.name))) {
                let property = &object.properties[index];
                let what = format!("{:?} is there twice; remove one of them", name(&property.name));
                return Err(FormatError::Broken { at: Position::of(text, property.range.start), what });
            }
            let member = |property: &jsonc_parser::ast::ObjectProp<'_>| {
                Ok((name(&property.name).to_owned(), tree(text, &property.value)?))
            };
            Tree::Map(object.properties.iter().map(member).collect::<Result<_, _>>()?)
        }
    })
}

fn name<'a>(name: &'a ObjectPropName<'_>) -> &'a str {
    match name {
        ObjectPropName::String(string) => string.value.as_ref(),
        ObjectPropName::Word(word) => word.value,
    }
}

pub(super) fn insert(text: &str, dialect: Dialect, slot: Slot<'_>, entry: &Tree) -> Result<String, FormatError> {
    let root = root(text, dialect)?;
    let is_new = root.value().is_none();
    let top = root.object_value_or_create().ok_or(FormatError::Damage)?;
    let servers = match top.get(slot.servers) {
        None => top.object_value_or_create(slot.servers).ok_or(FormatError::Damage)?,
        Some(_) => servers(text, &root, dialect, slot)?,
    };
    servers.append(slot.name, input(entry));
    let edited = root.to_string();
    // Editors end a file with a newline; what was there before keeps its end.
    Ok(if is_new && !edited.ends_with('\n') { edited + super::newline(text) } else { edited })
}

pub(super) fn remove(text: &str, dialect: Dialect, slot: Slot<'_>) -> Result<String, FormatError> {
    let root = root(text, dialect)?;
    let entry = servers(text, &root, dialect, slot)?.get(slot.name).ok_or(FormatError::Damage)?;
    entry.remove();
    Ok(root.to_string())
}

pub(super) fn set(
    text: &str,
    dialect: Dialect,
    slot: Slot<'_>,
    member: &str,
    value: &str,
) -> Result<String, FormatError> {
    let root = root(text, dialect)?;
    let entry = servers(text, &root, dialect, slot)?.object_value(slot.name);
    let member = entry.and_then(|entry| entry.get(member)).ok_or(FormatError::Damage)?;
    member.set_value(CstInputValue::String(value.to_owned()));
    Ok(root.to_string())
}

fn root(text: &str, dialect: Dialect) -> Result<CstRootNode, FormatError> {
    CstRootNode::parse(text, &dialect.options()).map_err(|error| broken(text, &error))
}

fn servers(text: &str, root: &CstRootNode, dialect: Dialect, slot: Slot<'_>) -> Result<CstObject, FormatError> {
    let servers = root.object_value().and_then(|top| top.object_value(slot.servers));
    servers.ok_or_else(|| {
        let parsed = parse_to_ast(text, &CollectOptions::default(), &dialect.options()).ok();
        let offset = match parsed.and_then(|parsed| parsed.value) {
            Some(Value::Object(top)) => top
                .properties
                .iter()
                .find(|property| name(&property.name) == slot.servers)
                .map(|property| property.value.range().start),
            _ => None,
        };
        expected_object(text, offset.unwrap_or_default(), &format!("{:?}", slot.servers))
    })
}

fn input(tree: &Tree) -> CstInputValue {
    match tree {
        Tree::Null => CstInputValue::Null,
        Tree::Bool(value) => CstInputValue::Bool(*value),
        Tree::Number(number) => CstInputValue::Number(number.clone()),
        Tree::Text(text) | Tree::Other(text) => CstInputValue::String(text.clone()),
        Tree::List(elements) => CstInputValue::Array(elements.iter().map(input).collect()),
        Tree::Map(members) => {
            CstInputValue::Object(members.iter().map(|(key, value)| (key.clone(), input(value))).collect())
        }
    }
}

fn expected_object(text: &str, offset: usize, what: &str) -> FormatError {
    FormatError::Broken { at: Position::of(text, offset), what: format!("{what} should be an object, in braces") }
}

fn broken(text: &str, error: &ParseError) -> FormatError {
    let what = error.kind().to_string();
    // The library's texts are sentences; ours go on from a colon.
    let mut chars = what.chars();
    let what = chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default();
    FormatError::Broken { at: Position::of(text, error.range().start), what }
}
