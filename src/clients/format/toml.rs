//! TOML. A table may stand anywhere, so that a new one goes to the end and nothing else moves.

use std::ops::Range;

use toml_edit::{Document, Item, Key, Table, TableLike, Value};

use crate::clients::{
    format::{FormatError, Slot, Splices, cut, line_end, line_start, newline, quoted},
    tree::{Position, Tree},
};

pub(super) fn parse(text: &str) -> Result<Tree, FormatError> {
    Ok(table_tree(document(text)?.as_table()))
}

fn table_tree(table: &dyn TableLike) -> Tree {
    Tree::Map(table.iter().map(|(key, item)| (key.to_owned(), item_tree(item))).collect())
}

fn item_tree(item: &Item) -> Tree {
    match item {
        Item::None => Tree::Null,
        Item::Value(value) => value_tree(value),
        Item::Table(table) => table_tree(table),
        Item::ArrayOfTables(tables) => Tree::List(tables.iter().map(|table| table_tree(table)).collect()),
    }
}

fn value_tree(value: &Value) -> Tree {
    match value {
        Value::String(text) => Tree::text(text.value()),
        Value::Integer(number) => Tree::Number(number.value().to_string()),
        Value::Float(number) => Tree::Number(format!("{:?}", number.value())),
        Value::Boolean(value) => Tree::Bool(*value.value()),
        Value::Datetime(time) => Tree::Other(time.value().to_string()),
        Value::Array(array) => Tree::List(array.iter().map(value_tree).collect()),
        Value::InlineTable(table) => table_tree(table),
    }
}

pub(super) fn insert(text: &str, slot: Slot<'_>, entry: &Tree) -> Result<String, FormatError> {
    let document = document(text)?;
    let mut splices = Splices::default();
    match document.get(slot.servers) {
        None | Some(Item::Table(_)) => {
            let newline = newline(text);
            let gap = match text {
                "" => String::new(),
                text if text.ends_with("\n\n") || text.ends_with("\n\r\n") => String::new(),
                text if text.ends_with('\n') => newline.to_owned(),
                _ => newline.repeat(2),
            };
            let Tree::Map(members) = entry else { return Err(FormatError::Damage) };
            let lines =
                members.iter().map(|(key, value)| format!("{} = {}{newline}", bare_or_quoted(key), inline(value)));
            let head = format!("[{}.{}]{newline}", bare_or_quoted(slot.servers), bare_or_quoted(slot.name));
            splices.put(text.len()..text.len(), gap + &head + &lines.collect::<String>());
        }
        Some(Item::Value(Value::InlineTable(servers))) => {
            let member = format!("{} = {}", bare_or_quoted(slot.name), inline(entry));
            let last = servers.iter().filter_map(|(_, value)| value.span()).map(|span| span.end).max();
            match (last, servers.span()) {
                (Some(end), _) => splices.put(end..end, format!(", {member}")),
                (None, Some(span)) => splices.put(span.start + 1..span.end - 1, format!(" {member} ")),
                (None, None) => return Err(FormatError::Damage),
            }
        }
        Some(item) => {
            let what = format!("`{}` should be a table", slot.servers);
            return Err(FormatError::Broken { at: Position::of(text, item.span().map_or(0, |span| span.start)), what });
        }
    }
    Ok(splices.apply(text))
}

pub(super) fn remove(text: &str, slot: Slot<'_>) -> Result<String, FormatError> {
    let document = document(text)?;
    let mut splices = Splices::default();
    match document.get(slot.servers) {
        Some(Item::Table(servers)) => {
            let (key, item) = servers.get_key_value(slot.name).ok_or(FormatError::Damage)?;
            let mut blocks = Vec::new();
            match item {
                Item::Table(table) => blocks_of(text, table, &mut blocks)?,
                Item::Value(value) => blocks.push(lines(text, key_to_value(text, key, value)?)),
                _ => return Err(unusual(text, item.span())),
            }
            // The blank line before a table came with it.
            let first = blocks.iter().map(|block| block.start).min().unwrap_or_default();
            let blank = ["\r\n\r\n", "\n\n"]
                .into_iter()
                .find(|blank| text[..first].ends_with(blank))
                .map_or(0, |blank| blank.len() / 2);
            for block in blocks {
                let start = if block.start == first { first - blank } else { block.start };
                splices.put(start..block.end, "");
            }
        }
        Some(Item::Value(Value::InlineTable(servers))) => {
            let spans = servers.iter().map(|(name, _)| {
                let (key, item) = servers.get_key_value(name).ok_or(FormatError::Damage)?;
                let value = item.as_value().ok_or(FormatError::Damage)?;
                key_to_value(text, key, value)
            });
            let spans = spans.collect::<Result<Vec<_>, _>>()?;
            let index = servers.iter().position(|(name, _)| name == slot.name).ok_or(FormatError::Damage)?;
            splices.put(cut(&spans, index), "");
        }
        _ => return Err(FormatError::Damage),
    }
    Ok(splices.apply(text))
}

pub(super) fn set(text: &str, slot: Slot<'_>, member: &str, value: &str) -> Result<String, FormatError> {
    let document = document(text)?;
    let entry = document.get(slot.servers).and_then(|servers| servers.get(slot.name));
    let span = entry.and_then(|entry| entry.get(member)).and_then(Item::span).ok_or(FormatError::Damage)?;
    let mut splices = Splices::default();
    splices.put(span, quoted(value));
    Ok(splices.apply(text))
}

fn document(text: &str) -> Result<Document<&str>, FormatError> {
    Document::parse(text).map_err(|error| FormatError::Broken {
        at: Position::of(text, error.span().map_or(0, |span| span.start)),
        // It may go on with what was expected, on lines of its own.
        what: error.message().trim().replace('\n', "; "),
    })
}

/// The lines of a table and of those inside of it, each with its header.
fn blocks_of(text: &str, table: &Table, blocks: &mut Vec<Range<usize>>) -> Result<(), FormatError> {
    if table.is_dotted() {
        return Err(unusual(text, table.span()));
    }
    if !table.is_implicit() {
        let span = table.span().ok_or(FormatError::Damage)?;
        let ends = table.iter().filter_map(|(_, item)| item.as_value().and_then(Value::span)).map(|span| span.end);
        let end = ends.chain([span.end]).max().unwrap_or(span.end);
        blocks.push(lines(text, span.start..end));
    }
    for (_, item) in table.iter() {
        match item {
            Item::Table(inner) => blocks_of(text, inner, blocks)?,
            Item::ArrayOfTables(_) => return Err(unusual(text, item.span())),
            Item::None | Item::Value(_) => {}
        }
    }
    Ok(())
}

fn key_to_value(text: &str, key: &Key, value: &Value) -> Result<Range<usize>, FormatError> {
    match (key.span(), value.span()) {
        (Some(key), Some(value)) if key.start < value.end => Ok(key.start..value.end),
        (_, span) => Err(unusual(text, span)),
    }
}

/// Whole lines.
fn lines(text: &str, range: Range<usize>) -> Range<usize> {
    // A span may end with the newline itself.
    let last = range.start + text[range.clone()].trim_end().len();
    line_start(text, range.start)..line_end(text, last)
}

fn unusual(text: &str, span: Option<Range<usize>>) -> FormatError {
    let at = Position::of(text, span.map_or(0, |span| span.start));
    FormatError::Unusual {
        at,
        why: "the entry is written with dotted keys or as a list; take it out by hand".to_owned(),
    }
}

fn bare_or_quoted(key: &str) -> String {
    let is_bare =
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_bare { key.to_owned() } else { quoted(key) }
}

fn inline(tree: &Tree) -> String {
    match tree {
        Tree::Null => quoted(""),
        Tree::Bool(value) => value.to_string(),
        Tree::Number(number) => number.clone(),
        Tree::Text(text) | Tree::Other(text) => quoted(text),
        Tree::List(elements) => format!("[{}]", elements.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Tree::Map(members) if members.is_empty() => "{}".to_owned(),
        Tree::Map(members) => {
            let members = members.iter().map(|(key, value)| format!("{} = {}", bare_or_quoted(key), inline(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
    }
}
