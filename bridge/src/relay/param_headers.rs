//! `Mcp-Param-…` headers, which mirror arguments of `tools/call` (MCP 2026-07-28, "Streamable HTTP":
//! Custom Headers from Tool Parameters).
//!
//! Whoever routes by a header and whoever runs the tool must see the same value, so a header that
//! differs from the body is refused, and so is one that is missing.

mod decimal;

use std::{borrow::Cow, collections::HashMap};

use serde::Deserialize;
use serde_json::{Map, Value as Json, value::RawValue};

use self::decimal::Decimal;
use crate::{
    era::{EnvelopeError, Garbled, Value, decoded, encoded},
    message::{Object, shown, text},
};

/// Which headers mirror which arguments, for each tool of a server.
#[derive(Clone, Debug, Default)]
pub struct ToolHeaders(HashMap<String, Vec<Mirrored>>);

/// One argument with a header.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mirrored {
    /// The whole name of the header.
    header: String,
    /// The names that lead to the argument; at least one.
    path: Vec<String>,
}

/// A tool whose annotations break the rules: clients do not see it, and none of its headers is
/// recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTool {
    /// The tool.
    pub name: String,
    /// What is wrong, for the log.
    pub reason: String,
}

impl ToolHeaders {
    /// Reads one page of tools, which replace those of the same names; says which are invalid.
    pub fn add_page(&mut self, result: &str) -> Vec<InvalidTool> {
        let mut invalid = Vec::new();
        for tool in tools(result) {
            let Ok(Tool { name, input_schema }) = serde_json::from_str(tool.get()) else {
                continue;
            };
            self.0.remove(&name);
            // Few tools have annotations; the schemas of all others need no reading.
            let Some(schema) = input_schema.filter(|schema| schema.get().contains(ANNOTATION)) else {
                continue;
            };
            match mirrored(schema) {
                Ok(mirrored) if mirrored.is_empty() => {}
                Ok(mirrored) => {
                    self.0.insert(name, mirrored);
                }
                Err(reason) => invalid.push(InvalidTool { name, reason }),
            }
        }
        invalid
    }

    /// The headers that mirror the arguments of a call, each with its value as a header has it ("Value
    /// Encoding"). What no header may mirror has none.
    pub fn mirror(&self, tool: &str, arguments: Option<&Object<'_>>) -> Vec<(&str, String)> {
        let mirrored = self.0.get(tool).into_iter().flatten();
        let spelled = mirrored.filter_map(|Mirrored { header, path }| {
            // A key that is there twice is the server's to refuse.
            let value = value_at(arguments, path).ok().flatten()?;
            Some((header.as_str(), spelled(value)?))
        });
        spelled.collect()
    }

    /// Whether no tool has such headers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks the headers of a call against its arguments. `header` finds a header's value by name,
    /// in any case. Headers that mirror nothing are not looked at.
    ///
    /// # Errors
    /// [`EnvelopeError::HeaderMismatch`] for the first header that is missing, garbled, or not what
    /// the body says.
    pub fn check<'h>(
        &self,
        tool: &str,
        arguments: Option<&Object<'_>>,
        header: impl Fn(&str) -> Value<'h>,
    ) -> Result<(), EnvelopeError> {
        let mismatch = |detail: String| Err(EnvelopeError::HeaderMismatch(detail));
        for Mirrored { header: name, path } in self.0.get(tool).into_iter().flatten() {
            let header = match header(name) {
                Some(Ok(value)) => Some(decoded(name, value)?),
                Some(Err(Garbled)) => {
                    return mismatch(format!("the header {name} is there twice or has invalid characters"));
                }
                None => None,
            };
            let argument = argument(arguments, path).map_err(|RepeatedKey| {
                EnvelopeError::HeaderMismatch(format!("the argument of the header {name} is there twice"))
            })?;
            match (header, argument) {
                (None, Argument::None) => {}
                (Some(_), Argument::None) => {
                    return mismatch(format!("the header {name} is there and its argument is not"));
                }
                (_, Argument::Unsafe) => {
                    return mismatch(format!("the argument of the header {name} is beyond what a header may mirror"));
                }
                (None, _) => return mismatch(format!("the header {name} is missing")),
                (Some(header), argument) if !argument.is(&header) => {
                    return mismatch(format!("the header {name} says {}, the body something else", shown(&header)));
                }
                (Some(_), _) => {}
            }
        }
        Ok(())
    }
}

/// What the body has for a header.
enum Argument<'a> {
    /// Nothing that a header can mirror: absent, `null`, or no primitive value, which is the tool's
    /// to refuse.
    None,
    Text(Cow<'a, str>),
    Boolean(bool),
    Number(Decimal),
    /// An integer that not every client can represent: clients leave its header out, so nothing
    /// shows that a proxy has seen it.
    Unsafe,
}

impl Argument<'_> {
    fn is(&self, header: &str) -> bool {
        match self {
            Self::None | Self::Unsafe => false,
            Self::Text(text) => text == header,
            Self::Boolean(value) => header == if *value { "true" } else { "false" },
            Self::Number(number) => Decimal::parse(header).is_some_and(|header| header == *number),
        }
    }
}

struct RepeatedKey;

/// Follows `path` through nested objects.
fn value_at<'a>(arguments: Option<&Object<'a>>, path: &[String]) -> Result<Option<&'a RawValue>, RepeatedKey> {
    let [first, rest @ ..] = path else {
        return Ok(None);
    };
    let Some(mut value) = arguments.and_then(|arguments| arguments.get(first)) else {
        return Ok(None);
    };
    for key in rest {
        if !value.get().starts_with('{') {
            return Ok(None);
        }
        let object: Object<'a> = serde_json::from_str(value.get()).map_err(|_| RepeatedKey)?;
        match object.get(key) {
            Some(nested) => value = nested,
            None => return Ok(None),
        }
    }
    Ok(Some(value))
}

/// How a header says `value`; `None` for what no header says.
fn spelled(value: &RawValue) -> Option<String> {
    let json = value.get();
    match (text(value), json) {
        (Some(text), _) => Some(encoded(&text).into_owned()),
        (None, "true" | "false") => Some(json.to_owned()),
        (None, _) => {
            let number = Decimal::parse(json).filter(|number| !number.is_unsafe_integer())?;
            Some(number.to_integer().unwrap_or_else(|| json.to_owned()))
        }
    }
}

/// What the body has for a header at `path`.
fn argument<'a>(arguments: Option<&Object<'a>>, path: &[String]) -> Result<Argument<'a>, RepeatedKey> {
    let Some(value) = value_at(arguments, path)? else {
        return Ok(Argument::None);
    };
    Ok(match value.get() {
        "true" => Argument::Boolean(true),
        "false" => Argument::Boolean(false),
        json => match (text(value), Decimal::parse(json)) {
            (Some(text), _) => Argument::Text(text),
            (None, Some(number)) if number.is_unsafe_integer() => Argument::Unsafe,
            (None, Some(number)) => Argument::Number(number),
            (None, None) if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => Argument::Unsafe,
            (None, None) => Argument::None,
        },
    })
}

#[derive(Deserialize)]
struct Tool<'a> {
    name: String,
    #[serde(borrow, rename = "inputSchema")]
    input_schema: Option<&'a RawValue>,
}

fn tools(result: &str) -> Vec<&RawValue> {
    #[derive(Deserialize)]
    struct List<'a> {
        #[serde(borrow)]
        tools: Vec<&'a RawValue>,
    }
    serde_json::from_str::<List<'_>>(result).map(|list| list.tools).unwrap_or_default()
}

/// The annotated properties of an input schema, or why it is invalid.
fn mirrored(schema: &RawValue) -> Result<Vec<Mirrored>, String> {
    // Also refuses what is nested too deep to be walked safely.
    let schema: Map<String, Json> =
        serde_json::from_str(schema.get()).map_err(|error| format!("the input schema cannot be read: {error}"))?;
    let mut found = Vec::new();
    walk(&schema, Some(&mut Vec::new()), &mut found)?;
    for (index, Mirrored { header, .. }) in found.iter().enumerate() {
        if found.iter().take(index).any(|earlier| earlier.header.eq_ignore_ascii_case(header)) {
            return Err(format!("two properties have the header {header}"));
        }
    }
    Ok(found)
}

/// Looks for annotations in `schema` and below. `path` is how it is reached from the root, `None` if
/// not through `properties` alone.
fn walk(schema: &Map<String, Json>, mut path: Option<&mut Vec<String>>, to: &mut Vec<Mirrored>) -> Result<(), String> {
    if let Some(name) = schema.get(ANNOTATION) {
        match path.as_deref() {
            Some(path) if !path.is_empty() => to.push(annotated(schema, name, path)?),
            _ => return Err(format!("{ANNOTATION} is somewhere else than on a property")),
        }
    }
    for (keyword, value) in schema {
        match (keyword.as_str(), value) {
            ("properties", Json::Object(properties)) => {
                for (name, property) in properties {
                    let Json::Object(property) = property else {
                        continue;
                    };
                    if let Some(path) = path.as_deref_mut() {
                        path.push(name.clone());
                        walk(property, Some(&mut *path), to)?;
                        path.pop();
                    } else {
                        walk(property, None, to)?;
                    }
                }
            }
            // Their members' names are names, not keywords.
            (
                "$defs" | "definitions" | "dependencies" | "dependentSchemas" | "patternProperties",
                Json::Object(map),
            ) => {
                map.values().try_for_each(|schema| walk_unreachable(schema, to))?;
            }
            // Values, not schemas.
            ("default" | "const" | "enum" | "examples" | "dependentRequired", _) => {}
            (_, value) => walk_unreachable(value, to)?,
        }
    }
    Ok(())
}

fn walk_unreachable(value: &Json, to: &mut Vec<Mirrored>) -> Result<(), String> {
    match value {
        Json::Object(schema) => walk(schema, None, to),
        Json::Array(items) => items.iter().try_for_each(|item| walk_unreachable(item, to)),
        _ => Ok(()),
    }
}

fn annotated(schema: &Map<String, Json>, name: &Json, path: &[String]) -> Result<Mirrored, String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let place = shown(&path.join("."));
    let name = name.as_str().filter(|name| !name.is_empty() && name.bytes().all(token));
    let name = name.ok_or_else(|| format!("{ANNOTATION} of {place} is not a token"))?;
    let kind = schema.get("type").and_then(Json::as_str);
    if !matches!(kind, Some("string" | "integer" | "boolean")) {
        return Err(format!("{place} has a header and is not a string, an integer or a boolean"));
    }
    Ok(Mirrored { header: format!("Mcp-Param-{name}"), path: path.to_vec() })
}

const ANNOTATION: &str = "x-mcp-header";

#[cfg(test)]
mod tests;
