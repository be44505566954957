//! Other people's words in what we print.

use crate::policy_commands::words::visible;

/// Longest quotation, in characters: enough for a challenge with four scopes and a long host.
const QUOTE_MAX: usize = 300;

/// `text` on one line, with escapes for what cannot be seen, and cut when it is long.
pub(super) fn shown(text: &str) -> String {
    let text = visible(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    match text.char_indices().nth(QUOTE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// [`shown`], in backticks.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", shown(text))
}

/// `things` in one sentence.
pub(super) fn listed<T: AsRef<str>>(things: &[T]) -> String {
    things.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_cannot_drive_the_terminal() {
        for (text, expected) in
            [("plain", "`plain`"), ("a\u{1b}[2J\r\n\tb", "`a\\u{1b}[2J b`"), (" \u{202e}evil", "`\\u{202e}evil`")]
        {
            assert_eq!(quoted(text), expected);
        }
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), QUOTE_MAX + 1);
    }
}
