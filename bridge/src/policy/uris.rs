//! Rules about resources, and all that a server may take a URI for (RFC 3986 §6).
//!
//! Servers that parse URIs look for another text than the one that was sent: `FILE:///a` and
//! `file:///%61` are `file:///a` to them. Which server does so cannot be known, so a request has to be
//! allowed in every reading.

use percent_encoding::percent_decode_str;
use url::Url;

use super::pattern_matches;
use crate::scope::ScopeSet;

/// Who needs more than this hides something.
const READINGS_MAX: usize = 8;
/// In bytes, of each of them: no server has longer ones, and each is gone through several times.
const LEN_MAX: usize = 16 * 1024;

/// A rule about resources, with its pattern in every reading.
#[derive(Clone, Debug)]
pub(super) struct ResourceRule {
    patterns: Vec<String>,
    /// The same without regard to case.
    folded: Vec<String>,
    scopes: ScopeSet,
}

impl ResourceRule {
    pub(super) fn new(pattern: &str, scopes: &ScopeSet) -> Self {
        let mut patterns = readings(pattern).unwrap_or_else(|| vec![pattern.to_owned()]);
        // A star that was encoded stands for itself.
        let stars = |text: &str| text.matches('*').count();
        patterns.retain(|reading| stars(reading) == stars(pattern));
        let folded = patterns.iter().map(|pattern| pattern.to_lowercase()).collect();
        Self { patterns, folded, scopes: scopes.clone() }
    }
}

/// What all readings of `uri` need together; `Err` when it has more than can be known.
///
/// A reading that no rule is about needs the default scopes, and makes this `None` without them. Rules
/// about what differs by case only add their scopes, and allow nothing by themselves: the server's
/// files may be on a disk that ignores case, or not.
pub(super) fn needed(
    rules: &[ResourceRule],
    default_scopes: Option<&ScopeSet>,
    uri: &str,
) -> Result<Option<ScopeSet>, Unreadable> {
    let mut needed = ScopeSet::default();
    for reading in readings(uri).ok_or(Unreadable)? {
        let folded = reading.to_lowercase();
        let mut is_ruled = false;
        for rule in rules {
            let is_meant = rule.patterns.iter().any(|pattern| pattern_matches(pattern, &reading));
            if is_meant || rule.folded.iter().any(|pattern| pattern_matches(pattern, &folded)) {
                needed.extend(rule.scopes.iter().cloned());
            }
            is_ruled |= is_meant;
        }
        match (is_ruled, default_scopes) {
            (true, _) => {}
            (false, Some(scopes)) => needed.extend(scopes.iter().cloned()),
            (false, None) => return Ok(None),
        }
    }
    Ok(Some(needed))
}

/// A server could take the URI for something that is not foreseen here.
#[derive(Debug)]
pub(super) struct Unreadable;

/// All readings of `uri`, itself first: as a parser writes it, decoded, and without empty segments, each
/// of these again as long as that makes another text.
fn readings(uri: &str) -> Option<Vec<String>> {
    let mut readings = vec![uri.to_owned()];
    let mut next = 0;
    while let Some(reading) = readings.get(next) {
        if next == READINGS_MAX || reading.len() > LEN_MAX || is_rewritable(reading) {
            return None;
        }
        let decoded = percent_decode_str(reading).decode_utf8().ok()?.into_owned();
        let parsed = Url::parse(reading).ok().map(String::from);
        for found in [Some(decoded), parsed, Some(without_empty_segments(reading))].into_iter().flatten() {
            if !readings.contains(&found) {
                readings.push(found);
            }
        }
        next += 1;
    }
    Some(readings)
}

/// Whether a server may take `uri` for another one in a way that it shares with no other: with dot
/// segments, with other separators than slashes, or with what it may leave out.
fn is_rewritable(uri: &str) -> bool {
    uri.contains('\\')
        || uri.chars().any(char::is_control)
        || uri.trim() != uri
        || uri.split(['/', '?', '#']).any(|segment| matches!(segment, "." | ".."))
}

/// With one slash for several in the path, as file systems read them.
fn without_empty_segments(uri: &str) -> String {
    let (path, rest) = uri.split_at(uri.find(['?', '#']).unwrap_or(uri.len()));
    let after_scheme = path.find(':').map_or(0, |colon| colon + 1);
    let is_hierarchical = path[after_scheme..].starts_with("//");
    let start = after_scheme + if is_hierarchical { 2 } else { 0 };
    let mut clean = path[..start].to_owned();
    for letter in path[start..].chars() {
        if letter != '/' || !clean[start..].ends_with('/') {
            clean.push(letter);
        }
    }
    clean + rest
}
