//! YAML: read by a parser that says where everything stands, and edited as text.
//!
//! A new entry becomes the first of its mapping, because that place is known exactly: after the line with the
//! mapping's key. Where the last entry ends, with its comments and block scalars, is a matter of taste.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::clients::{
    format::{FormatError, Slot, Splices, cut, line_end, line_start, newline, quoted},
    tree::{Position, Tree, repeated},
};

// What people write has a handful; a file that is made to exhaust the stack has no end.
const MAX_DEPTH: usize = 64;

/// A value and where it stands, in bytes.
struct Node {
    span: Range<usize>,
    kind: Kind,
}

enum Kind {
    Scalar(Tree),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Alias(usize),
}

pub(super) fn parse(text: &str) -> Result<Tree, FormatError> {
    Ok(match document(text)? {
        Some(root) => match root.tree() {
            Tree::Null => Tree::Map(Vec::new()),
            tree => tree,
        },
        None => Tree::Map(Vec::new()),
    })
}

pub(super) fn insert(text: &str, slot: Slot<'_>, entry: &Tree) -> Result<String, FormatError> {
    let root = document(text)?;
    let newline = newline(text);
    let mut splices = Splices::default();
    let servers = match &root {
        Some(root) if root.is_braced(text) => return Err(unusual(text, root, "the file is written in braces")),
        Some(root) => root.member(slot.servers),
        None => None,
    };
    match servers {
        None => {
            if root.is_some() && text.lines().any(|line| line.trim_end() == "...") {
                return Err(FormatError::Unusual {
                    at: Position::of(text, text.len()),
                    why: "the document has an end marker".to_owned(),
                });
            }
            let gap = if text.is_empty() || text.ends_with('\n') { "" } else { newline };
            let column = root.as_ref().map_or(0, |root| column(text, root.span.start));
            let lines = block(
                &Tree::Map(vec![(slot.servers.to_owned(), Tree::Map(vec![(slot.name.to_owned(), entry.clone())]))]),
                column,
                2,
                newline,
            );
            splices.put(text.len()..text.len(), format!("{gap}{lines}"));
        }
        Some((key, value)) => {
            let column_of_key = column(text, key.span.start);
            let member = Tree::Map(vec![(slot.name.to_owned(), entry.clone())]);
            match &value.kind {
                Kind::Map(members) if value.is_braced(text) => {
                    let open = value.span.start + 1;
                    let comma = if members.is_empty() { "" } else { ", " };
                    splices.put(open..open, format!("{}: {}{comma}", plain_or_quoted(slot.name), flow(entry)));
                }
                Kind::Map(members) => {
                    let (first, inner) = members.first().ok_or(FormatError::Damage)?;
                    let child = column(text, first.span.start);
                    let at = line_end(text, key.span.start);
                    if line_start(text, first.span.start) < at {
                        return Err(unusual(text, value, "the entries start on the line of their key"));
                    }
                    let step = match &inner.kind {
                        Kind::Map(members) if !inner.is_braced(text) => members
                            .first()
                            .map(|(key, _)| column(text, key.span.start))
                            .and_then(|column| column.checked_sub(child)),
                        _ => None,
                    };
                    splices.put(at..at, block(&member, child, step.filter(|step| *step > 0).unwrap_or(2), newline));
                }
                Kind::Scalar(Tree::Null) if value.span.is_empty() => {
                    let at = line_end(text, key.span.end);
                    let gap = if text[..at].ends_with('\n') { "" } else { newline };
                    splices.put(at..at, format!("{gap}{}", block(&member, column_of_key + 2, 2, newline)));
                }
                _ => {
                    let what = format!("`{}` should be a mapping", slot.servers);
                    return Err(FormatError::Broken { at: Position::of(text, value.span.start), what });
                }
            }
        }
    }
    Ok(splices.apply(text))
}

pub(super) fn remove(text: &str, slot: Slot<'_>) -> Result<String, FormatError> {
    let root = document(text)?.ok_or(FormatError::Damage)?;
    let (servers_key, servers) = root.member(slot.servers).ok_or(FormatError::Damage)?;
    let Kind::Map(members) = &servers.kind else { return Err(FormatError::Damage) };
    let index = members.iter().position(|(key, _)| key.is(slot.name)).ok_or(FormatError::Damage)?;
    let mut splices = Splices::default();
    if servers.is_braced(text) {
        let spans: Vec<_> = members.iter().map(|(key, value)| key.span.start..value.span.end).collect();
        splices.put(cut(&spans, index), "");
        return Ok(splices.apply(text));
    }
    let (key, _) = &members[index];
    let start = line_start(text, key.span.start);
    if !text[start..key.span.start].chars().all(|c| c == ' ') {
        return Err(unusual(text, key, "the entry shares its line"));
    }
    // Up to what comes next in the file; but comments before that are not the entry's, unless they are indented as its
    // content is.
    let Kind::Map(top) = &root.kind else { return Err(FormatError::Damage) };
    let after = top.iter().map(|(key, _)| key).find(|key| key.span.start > servers_key.span.start);
    let next = members.get(index + 1).map(|(key, _)| key).or(after);
    let mut end = next.map_or(text.len(), |next| line_start(text, next.span.start));
    let indent = column(text, key.span.start);
    while let Some(last) =
        text[start..end].trim_end_matches(['\r', '\n']).rfind('\n').map(|newline| start + newline + 1)
    {
        let line = &text[last..end];
        let content = line.trim_start();
        let is_outside = content.is_empty() || (content.starts_with('#') && line.len() - content.len() <= indent);
        if last <= line_start(text, key.span.start) || !is_outside {
            break;
        }
        end = last;
    }
    splices.put(start..end, "");
    if members.len() == 1 {
        // Nothing would be null, which is no mapping.
        let colon = text[servers_key.span.end..]
            .find(':')
            .map(|at| servers_key.span.end + at + 1)
            .ok_or(FormatError::Damage)?;
        splices.put(colon..colon, " {}");
    }
    Ok(splices.apply(text))
}

pub(super) fn set(text: &str, slot: Slot<'_>, member: &str, value: &str) -> Result<String, FormatError> {
    let root = document(text)?.ok_or(FormatError::Damage)?;
    let entry = root.member(slot.servers).and_then(|(_, servers)| servers.member(slot.name));
    let (key, node) = entry.and_then(|(_, entry)| entry.member(member)).ok_or(FormatError::Damage)?;
    // A block scalar starts on the next line, and what stands there is not in quotes.
    let is_on_one_line = line_start(text, key.span.start) == line_start(text, node.span.end);
    if !is_on_one_line {
        return Err(unusual(text, node, "the program's path is not on the line of its key; change it by hand"));
    }
    let mut splices = Splices::default();
    splices.put(node.span.clone(), plain_or_quoted(value));
    Ok(splices.apply(text))
}

impl Node {
    fn tree(&self) -> Tree {
        match &self.kind {
            Kind::Scalar(tree) => tree.clone(),
            Kind::Alias(anchor) => Tree::Other(format!("*{anchor}")),
            Kind::List(elements) => Tree::List(elements.iter().map(Self::tree).collect()),
            Kind::Map(members) => Tree::Map(members.iter().map(|(key, value)| (key.name(), value.tree())).collect()),
        }
    }

    /// A key as text; one that is no text gets a name that no text has.
    fn name(&self) -> String {
        match &self.kind {
            Kind::Scalar(Tree::Text(text)) => text.clone(),
            Kind::Scalar(Tree::Number(number)) => number.clone(),
            _ => format!("\0{:?}", self.tree()),
        }
    }

    fn is(&self, name: &str) -> bool {
        self.name() == name
    }

    fn member(&self, name: &str) -> Option<(&Node, &Node)> {
        match &self.kind {
            Kind::Map(members) => members.iter().find(|(key, _)| key.is(name)).map(|(key, value)| (key, value)),
            _ => None,
        }
    }

    /// Written as `{…}` or `[…]`.
    fn is_braced(&self, text: &str) -> bool {
        matches!(self.kind, Kind::Map(_) | Kind::List(_)) && text[self.span.start..].starts_with(['{', '['])
    }
}

/// The one document of the text, `None` if there is nothing in it.
fn document(text: &str) -> Result<Option<Node>, FormatError> {
    let mut reader = Reader {
        text,
        offsets: text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(),
        parser: Parser::new_from_str(text),
    };
    let mut root = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamStart | Event::Nothing | Event::DocumentStart(_) | Event::DocumentEnd => {}
            Event::StreamEnd => break,
            event if root.is_none() => root = Some(reader.node(event, span, 0)?),
            _ => {
                let why = "the file has several documents".to_owned();
                return Err(FormatError::Unusual { at: Position::of(text, reader.range(span).start), why });
            }
        }
    }
    match &root {
        Some(Node { kind: Kind::Map(_) | Kind::Scalar(Tree::Null), .. }) | None => {
            Ok(root.filter(|root| matches!(root.kind, Kind::Map(_))))
        }
        Some(root) => Err(FormatError::Broken {
            at: Position::of(text, root.span.start),
            what: "the file should be a mapping".to_owned(),
        }),
    }
}

struct Reader<'t> {
    text: &'t str,
    /// Where each character starts, in bytes: the parser counts characters.
    offsets: Vec<usize>,
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), FormatError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.broken(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, FormatError> {
        let start = self.range(span);
        if depth > MAX_DEPTH {
            return Err(FormatError::Broken {
                at: Position::of(self.text, start.start),
                what: "nested too deeply".to_owned(),
            });
        }
        match event {
            Event::Scalar(value, style, _, tag) => {
                // The parser's span of a quoted text goes on to what comes next, over a comment.
                let end = match style {
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => quoted_end(self.text, start.start),
                    _ => start.start + self.text[start.clone()].trim_end().len(),
                };
                let start = start.start..end;
                let tree = match (tag, style) {
                    (Some(tag), _) => Tree::Other(format!("{tag} {value}")),
                    (None, ScalarStyle::Plain) => plain(&value),
                    (None, _) => Tree::text(value),
                };
                Ok(Node { span: start, kind: Kind::Scalar(tree) })
            }
            Event::Alias(anchor) => Ok(Node { span: start, kind: Kind::Alias(anchor) }),
            Event::SequenceStart(..) => {
                let mut elements = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, end) => {
                            return Ok(Node { span: start.start..self.range(end).end, kind: Kind::List(elements) });
                        }
                        (event, span) => elements.push(self.node(event, span, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut members = Vec::new();
                loop {
                    match self.next()? {
                        (Event::MappingEnd, end) => {
                            let node = Node { span: start.start..self.range(end).end, kind: Kind::Map(members) };
                            return self.without_repeats(node);
                        }
                        (event, span) => {
                            let key = self.node(event, span, depth + 1)?;
                            let (event, span) = self.next()?;
                            members.push((key, self.node(event, span, depth + 1)?));
                        }
                    }
                }
            }
            _ => Err(FormatError::Damage),
        }
    }

    fn without_repeats(&self, node: Node) -> Result<Node, FormatError> {
        let Kind::Map(members) = &node.kind else { return Ok(node) };
        let names: Vec<_> = members.iter().map(|(key, _)| key.name()).collect();
        match repeated(names.iter().map(String::as_str)) {
            None => Ok(node),
            Some(index) => {
                let what = format!("{:?} is there twice; remove one of them", names[index]);
                Err(FormatError::Broken { at: Position::of(self.text, members[index].0.span.start), what })
            }
        }
    }

    fn range(&self, span: Span) -> Range<usize> {
        let offset = |index: usize| self.offsets.get(index).copied().unwrap_or(self.text.len());
        offset(span.start.index())..offset(span.end.index())
    }

    fn broken(&self, error: &ScanError) -> FormatError {
        let at = self.offsets.get(error.marker().index()).copied().unwrap_or(self.text.len());
        FormatError::Broken { at: Position::of(self.text, at), what: error.info().to_owned() }
    }
}

/// Where the quoted text that starts at `start` ends, its quote included.
fn quoted_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let quote = bytes[start];
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match (*byte, bytes.get(at + 1)) {
            (b'\\', _) if quote == b'"' => at += 1,
            (b'\'', Some(b'\'')) if quote == b'\'' => at += 1,
            (byte, _) if byte == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn plain(value: &str) -> Tree {
    match value {
        "" | "~" | "null" | "Null" | "NULL" => Tree::Null,
        "true" | "True" | "TRUE" => Tree::Bool(true),
        "false" | "False" | "FALSE" => Tree::Bool(false),
        value
            if value.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
                && value.parse::<f64>().is_ok() =>
        {
            Tree::Number(value.to_owned())
        }
        value => Tree::text(value),
    }
}

/// A value as lines that are indented by `column`, its members by `step` more.
fn block(tree: &Tree, column: usize, step: usize, newline: &str) -> String {
    let indent = " ".repeat(column);
    match tree {
        Tree::Map(members) => members
            .iter()
            .map(|(key, value)| {
                let key = plain_or_quoted(key);
                match value {
                    Tree::Map(inner) if !inner.is_empty() => {
                        format!("{indent}{key}:{newline}{}", block(value, column + step, step, newline))
                    }
                    Tree::List(inner) if !inner.is_empty() => {
                        let lines = inner.iter().map(|element| format!("{indent}- {}{newline}", flow(element)));
                        format!("{indent}{key}:{newline}{}", lines.collect::<String>())
                    }
                    value => format!("{indent}{key}: {}{newline}", flow(value)),
                }
            })
            .collect(),
        other => format!("{indent}{}{newline}", flow(other)),
    }
}

fn flow(tree: &Tree) -> String {
    match tree {
        Tree::Null => "null".to_owned(),
        Tree::Bool(value) => value.to_string(),
        Tree::Number(number) => number.clone(),
        Tree::Text(text) | Tree::Other(text) => plain_or_quoted(text),
        Tree::List(elements) => format!("[{}]", elements.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Tree::Map(members) => {
            let members = members.iter().map(|(key, value)| format!("{}: {}", plain_or_quoted(key), flow(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Only what no reader, of any version of YAML, could take for anything but text stays without quotes.
fn plain_or_quoted(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'));
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if is_word && !reserved.iter().any(|word| text.eq_ignore_ascii_case(word)) { text.to_owned() } else { quoted(text) }
}

fn column(text: &str, offset: usize) -> usize {
    text[line_start(text, offset)..offset].chars().count()
}

fn unusual(text: &str, node: &Node, why: &str) -> FormatError {
    FormatError::Unusual { at: Position::of(text, node.span.start), why: why.to_owned() }
}
