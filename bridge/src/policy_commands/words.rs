//! Other people's words in texts of ours: on one line, and with nothing that cannot be seen.

use std::fmt::Write as _;

/// Longest comment about one thing, in characters.
const REMARK_MAX: usize = 100;

/// Whether `char` cannot be seen, ends a line, or changes how others are shown: what is read would
/// not be what is there.
fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// `text` with escapes for what cannot be seen.
pub(crate) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for char in text.chars() {
        if is_hidden(char) { visible.extend(char.escape_unicode()) } else { visible.push(char) }
    }
    visible
}

/// [`visible`], in backticks.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", visible(text))
}

/// `text` as a TOML basic string.
pub(super) fn toml(text: &str) -> String {
    let mut toml = String::with_capacity(text.len() + 2);
    toml.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => toml.extend(['\\', char]),
            _ if is_hidden(char) => {
                // Writing to a string does not fail.
                let _ = write!(toml, "\\U{:08X}", u32::from(char));
            }
            _ => toml.push(char),
        }
    }
    toml.push('"');
    toml
}

/// `text` as a TOML key.
pub(super) fn toml_key(text: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !text.is_empty() && text.bytes().all(bare) { text.to_owned() } else { toml(text) }
}

/// The first line of `text` that says something, fit for a comment: without what cannot be seen, cut
/// when it is long. Empty if it says nothing.
pub(super) fn remark(text: &str) -> String {
    let ends_line = |char: char| matches!(char, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let seen = |line: &str| {
        let spaced = line.replace('\t', " ");
        let seen: String = spaced.chars().filter(|char| !is_hidden(*char)).collect();
        seen.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let line = text.split(ends_line).map(seen).find(|line| !line.is_empty()).unwrap_or_default();
    match line.char_indices().nth(REMARK_MAX) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn remarks_are_one_line_of_what_can_be_seen() {
        for (text, expected) in [
            ("", ""),
            (" \n\t\r\n", ""),
            ("Reads\ta  file.\nNot this", "Reads a file."),
            ("\r\n\r\nafter empty lines", "after empty lines"),
            ("a\u{b}b", "a"),
            ("a\u{2028}b", "a"),
            ("a\u{202e}b\u{1b}[31mc\0d\u{7f}", "ab[31mcd"),
        ] {
            assert_eq!(remark(text), expected, "{text:?}");
        }
        assert_eq!(remark(&"é".repeat(101)), format!("{}…", "é".repeat(100)));
        assert_eq!(remark(&"é".repeat(100)), "é".repeat(100));
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        assert_eq!(visible("a\u{202e}\n\"é\\"), "a\\u{202e}\\u{a}\"é\\");
        assert_eq!(toml("a\u{202e}\n\"é\\"), r#""a\U0000202E\U0000000A\"é\\""#);
        assert_eq!(
            (toml_key("a-b_1"), toml_key("a.b"), toml_key("")),
            ("a-b_1".into(), "\"a.b\"".into(), "\"\"".into())
        );
    }

    proptest! {
        #[test]
        fn toml_reads_back_what_was_written(text in any::<String>()) {
            let line = format!("{} = {} # {}", toml_key(&text), toml(&text), remark(&text));
            let table: toml::Table = line.parse().expect("a line of TOML");
            prop_assert_eq!(table.get(&text).and_then(|value| value.as_str()), Some(text.as_str()));
            prop_assert_eq!(line.lines().count(), 1);
        }
    }
}
