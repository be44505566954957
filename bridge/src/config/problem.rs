//! What is wrong with the settings, and where.

use std::fmt;

use crate::config::source::Source;

/// One thing that must be changed before the program can start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// Where it was written; `None` when it was written nowhere.
    pub place: Option<Source>,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Problem {
    pub(super) fn at(place: Source, what: String) -> Self {
        Self { place: Some(place), what }
    }

    pub(super) fn nowhere(what: impl Into<String>) -> Self {
        Self { place: None, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// Everything that is wrong with the settings: at least one problem. A single one prints as
/// itself, several as a list of lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [problem] = self.0.as_slice() {
            return problem.fmt(f);
        }
        write!(f, "{} problems with the settings", self.0.len())?;
        for problem in &self.0 {
            for (index, line) in problem.to_string().lines().enumerate() {
                let indent = if index == 0 { "- " } else { "  " };
                write!(f, "\n{}", format!("{indent}{line}").trim_end())?;
            }
        }
        Ok(())
    }
}

/// Advice for a name that nothing has: the most similar one of `names`, or where to find them.
pub(super) fn did_you_mean<T: AsRef<str>>(name: &str, names: impl IntoIterator<Item = T>) -> String {
    // The threshold finds slips of the keyboard and a missing or added `s`, not other words.
    const SIMILAR: f64 = 0.85;
    // What all environment variables begin with would make any two of them similar.
    fn distinct(name: &str) -> &str {
        name.strip_prefix("MCP_BRIDGE_").unwrap_or(name)
    }
    let similarity = |candidate: &T| strsim::jaro(distinct(candidate.as_ref()), distinct(name));
    let best = names.into_iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    match best {
        Some(best) if similarity(&best) >= SIMILAR => format!("did you mean `{}`?", best.as_ref()),
        _ => "`mcp-bridge serve --help` names all settings".into(),
    }
}

/// `text` on one line, without anything that a terminal would act on.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            // Trouble in a string literal, not on a terminal.
            '\\' | '\'' | '"' => escaped.push(char),
            _ => escaped.extend(char.escape_debug()),
        }
    }
    escaped
}

/// `text` as an error shows it: [`escaped`], and not too long.
pub(super) fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => escaped(&text[..end]) + "…",
        None => escaped(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_one_short_line() {
        assert_eq!(shown("a\n\u{1b}[31m\"b\"\\"), "a\\n\\u{1b}[31m\"b\"\\");
        assert_eq!(shown(&"x".repeat(100)), format!("{}…", "x".repeat(80)));
    }
}
