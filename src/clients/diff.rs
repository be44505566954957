//! A diff for people to look at before anything is written, without the secrets of other entries.

use std::collections::HashSet;

use similar::{ChangeTag, TextDiff};

use crate::clients::format::Format;

// The line before and after say where it is; more would show what is nobody's business.
const CONTEXT: usize = 1;
const HIDDEN: &str = "…";

/// The unified diff from `before` to `after`. Only lines of `ours` are shown in full; of all others only what they are
/// about: a screen is shared, and a terminal's output copied into a bug report.
pub(crate) fn diff(format: Format, file: &str, before: &str, after: &str, ours: &str) -> String {
    let ours: HashSet<&str> = ours.lines().map(bare).collect();
    let diff = TextDiff::from_lines(before, after);
    let mut text = format!("--- {file}\n+++ {file}\n");
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        text += &format!("{}\n", hunk.header());
        for change in hunk.iter_changes() {
            let sign = match change.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            };
            let line = change.value().trim_end_matches(['\r', '\n']);
            let shown = if ours.contains(bare(line)) { line.to_owned() } else { masked(format, line) };
            text += &format!("{sign}{shown}\n");
        }
    }
    text
}

/// A line without what depends on its neighbours.
fn bare(line: &str) -> &str {
    line.trim().trim_end_matches(',')
}

fn masked(format: Format, line: &str) -> String {
    let content = line.trim_start();
    let indent = &line[..line.len() - content.len()];
    let masked = match format {
        Format::Json(_) => masked_json(content),
        Format::Toml => masked_toml(content),
        Format::Yaml => masked_yaml(content),
    };
    format!("{indent}{masked}")
}

/// What an entry starts is no secret, and the reason to look.
fn is_shown(key: &str) -> bool {
    matches!(key, "command" | "cmd" | "type" | "enabled")
}

fn masked_json(line: &str) -> String {
    let mut shown = String::new();
    let mut rest = line;
    let mut show_value = false;
    while let Some(first) = rest.chars().next() {
        match first {
            '"' => {
                let Some(length) = string_length(rest) else { return shown + HIDDEN };
                let (string, after) = rest.split_at(length);
                let is_key = after.trim_start().starts_with(':');
                match is_key || show_value {
                    true => shown += string,
                    false => shown.extend(["\"", HIDDEN, "\""]),
                }
                show_value = is_key && is_shown(string.trim_matches('"'));
                rest = after;
            }
            '{' | '}' | '[' | ']' | ',' | ':' | ' ' | '\t' => {
                // A list of arguments may follow `command`, too.
                show_value &= matches!(first, ':' | ' ' | '\t');
                shown.push(first);
                rest = &rest[1..];
            }
            // A comment may hold an entry that is switched off.
            '/' | '*' => return shown + HIDDEN,
            _ => {
                let length = rest.find(['{', '}', '[', ']', ',', ':', ' ', '\t', '"']).unwrap_or(rest.len());
                shown += HIDDEN;
                rest = &rest[length..];
            }
        }
    }
    shown
}

/// The length of the string literal that `text` starts with.
fn string_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return Some(at + 1),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

fn masked_toml(line: &str) -> String {
    if line.is_empty() || (line.starts_with('[') && line.ends_with(']') && !line.contains(['=', ','])) {
        return line.to_owned();
    }
    match line.split_once('=') {
        Some((key, _)) if is_shown(key.trim()) && !key.starts_with('#') => line.to_owned(),
        Some((key, _)) if is_plain_key(key.trim()) => format!("{key}= {HIDDEN}"),
        _ => HIDDEN.to_owned(),
    }
}

fn masked_yaml(line: &str) -> String {
    let (dash, member) = line.strip_prefix("- ").map_or(("", line), |member| ("- ", member));
    match member.split_once(':') {
        _ if line.is_empty() => String::new(),
        Some((key, value)) if is_plain_key(key) && (value.trim().is_empty() || is_shown(key)) => line.to_owned(),
        Some((key, value)) if is_plain_key(key) && value.starts_with(' ') => format!("{dash}{key}: {HIDDEN}"),
        _ => format!("{dash}{HIDDEN}"),
    }
}

fn is_plain_key(key: &str) -> bool {
    // What is longer is more likely a value that is continued here.
    !key.is_empty()
        && key.len() <= 64
        && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | '\''))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::format::json::Dialect;

    #[test]
    fn values_that_are_not_ours_are_not_shown() {
        let check = |format, line: &str, expected: &str| assert_eq!(masked(format, line), expected, "{line}");
        let json = Format::Json(Dialect::Lenient);
        check(
            json,
            r#"  "a": {"command": "npx", "args": ["--key", "s"], "env": {"K": "s\"s"}},"#,
            r#"  "a": {"command": "npx", "args": ["…", "…"], "env": {"K": "…"}},"#,
        );
        check(json, r#"    "K": "secret" // was: other"#, r#"    "K": "…" …"#);
        check(json, r"  // K: secret", "  …");
        check(json, r"  still in a comment: secret", "  … … … …: …");
        check(json, r#"  "unfinished secret"#, "  …");
        check(json, r#"  "n": 12345, "t": true"#, r#"  "n": …, "t": …"#);
        check(json, r#"  "command": ["sh", "secret"]"#, r#"  "command": ["…", "…"]"#);
        check(json, "\t}", "\t}");
        check(Format::Toml, "[mcp_servers.other.env]", "[mcp_servers.other.env]");
        check(Format::Toml, r#"K = "secret""#, "K = …");
        check(Format::Toml, r#"command = "npx""#, r#"command = "npx""#);
        check(Format::Toml, r#"# command = "npx --key=secret""#, "…");
        check(Format::Toml, r#""secret","#, "…");
        check(Format::Toml, "", "");
        check(Format::Yaml, "  other:", "  other:");
        check(Format::Yaml, "    K: secret", "    K: …");
        check(Format::Yaml, "    - --key=secret", "    - …");
        check(Format::Yaml, "    - K: secret", "    - K: …");
        check(Format::Yaml, "    cmd: npx", "    cmd: npx");
        check(Format::Yaml, "    secret block scalar", "    …");
        check(Format::Yaml, "    # K: secret", "    …");
        check(Format::Yaml, "other: {cmd: npx, envs: {K: secret}}", "other: …");
    }
}
