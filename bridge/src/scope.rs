//! Scope tokens and sets of them (RFC 6749 §3.3).

use std::{collections::HashSet, fmt, str::FromStr, sync::Arc};

/// One scope token: `1*( %x21 / %x23-5B / %x5D-7E )`, so it needs no escaping in a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope(Arc<str>);

impl Scope {
    /// The token as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if !text.is_empty() && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidScope(text.escape_default().to_string()))
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not a scope token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a scope: use printable ASCII without spaces, quotes or backslashes")]
pub struct InvalidScope(String);

/// Scopes without repetition, in the order in which they were first named.
///
/// The order carries no meaning; it is kept so that a challenge reads as its policy was written.
#[derive(Clone, Debug, Default)]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// Whether there is no scope in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The scopes, in the order in which they were first named.
    pub fn iter(&self) -> std::slice::Iter<'_, Scope> {
        self.0.iter()
    }

    /// Whether `scope` is in the set.
    pub fn contains(&self, scope: &Scope) -> bool {
        self.0.contains(scope)
    }

    /// Whether every scope of `needed` is in the set.
    pub fn covers(&self, needed: &Self) -> bool {
        needed.iter().all(|scope| self.contains(scope))
    }

    /// The scopes of `needed` that are not in the set.
    pub fn missing(&self, needed: &Self) -> Self {
        needed.iter().filter(|scope| !self.contains(scope)).cloned().collect()
    }

    /// Reads scopes as a peer sends them: any white space between them, and what is not a scope
    /// token dropped, because it can never equal a scope that something needs.
    ///
    /// Takes time in proportion to `texts`, and keeps the first 256 scopes: what comes after them is
    /// not read, and grants nothing.
    pub fn from_peer<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let mut seen = HashSet::new();
        let words = texts.into_iter().flat_map(str::split_whitespace).filter(|word| seen.insert(*word));
        Self(words.filter_map(|word| word.parse().ok()).take(MAX_PEER_SCOPES).collect())
    }
}

/// No user consents to near as many operations. Every cached token holds its scopes, and every
/// request looks through them, so an authorization server must not be able to send thousands.
const MAX_PEER_SCOPES: usize = 256;

impl FromStr for ScopeSet {
    type Err = InvalidScope;

    /// Reads scopes as our own settings have them: one wrong token fails the whole text.
    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        text.split_whitespace().map(str::parse).collect()
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut set = Self::default();
        set.extend(scopes);
        set
    }
}

impl Extend<Scope> for ScopeSet {
    fn extend<I: IntoIterator<Item = Scope>>(&mut self, scopes: I) {
        for scope in scopes {
            if !self.contains(&scope) {
                self.0.push(scope);
            }
        }
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl PartialEq for ScopeSet {
    fn eq(&self, other: &Self) -> bool {
        self.covers(other) && other.covers(self)
    }
}

impl Eq for ScopeSet {}

impl serde::Serialize for ScopeSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ScopeSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(text: &str) -> ScopeSet {
        text.parse().expect("a valid test scope")
    }

    #[test]
    fn tokens_are_those_of_rfc_6749() {
        for good in ["op:add", "!", "a#b", "[", "]", "~", "https://h/scope"] {
            assert_eq!(good.parse::<Scope>().expect(good).as_str(), good);
        }
        for bad in ["", " ", "a b", "a\"b", "a\\b", "\u{7f}", "é", "a\n"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sets_split_on_any_white_space_and_keep_order_without_repetition() {
        assert_eq!(set(" b\t a\n\nb  c ").to_string(), "b a c");
        assert_eq!(set("   ").to_string(), "");
        assert!("a b\"c".parse::<ScopeSet>().is_err());
        assert_eq!(ScopeSet::from_peer(["a b\"c \u{e9} d", "", "d e\ta"]).to_string(), "a d e");
    }

    #[test]
    fn a_peer_with_endless_scopes_is_not_read_to_its_end() {
        let names: Vec<String> = (0..20_000).map(|number| format!("s{number}")).collect();
        let read = std::cell::Cell::new(0);
        let counted = names.iter().map(|name| {
            read.set(read.get() + 1);
            name.as_str()
        });
        let set = ScopeSet::from_peer(counted);
        assert_eq!((set.iter().count(), read.get()), (MAX_PEER_SCOPES, MAX_PEER_SCOPES));
        assert!(set.contains(&"s255".parse().expect("valid")));

        // What repeats takes no place, however often.
        let repeated = "a b ".repeat(10_000) + "last";
        assert_eq!(ScopeSet::from_peer([repeated.as_str()]).to_string(), "a b last");
    }

    #[test]
    fn covers_and_missing() {
        let held = set("op:add op:sub");
        assert!(held.covers(&set("op:sub")));
        assert!(held.covers(&set("")));
        assert!(!held.covers(&set("op:add op:div")));
        assert_eq!(held.missing(&set("op:div op:add op:mult")).to_string(), "op:div op:mult");
        assert_eq!(set("a b"), set("b a"));
        assert_ne!(set("a b"), set("a"));
    }

    proptest! {
        #[test]
        fn print_then_parse_is_identity(text in "\\PC{0,80}") {
            let peer = ScopeSet::from_peer([text.as_str()]);
            prop_assert_eq!(peer.to_string().parse::<ScopeSet>().expect("printed scopes parse"), peer);
        }
    }
}
