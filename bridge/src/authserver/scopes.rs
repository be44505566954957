//! What there is to allow, in words.

use std::collections::BTreeMap;

use crate::scope::{Scope, ScopeSet};

/// A resource, as the user who is asked sees it.
#[derive(Clone, Debug)]
pub struct Protected {
    /// Its identifier (RFC 8707 §2).
    pub uri: String,
    /// What it is called.
    pub name: String,
    /// What clients may ask for.
    pub scopes: ScopeSet,
    /// What that lets them do, by scope.
    pub words: BTreeMap<String, String>,
}

impl Protected {
    /// What `scope` lets a client do.
    pub(super) fn describe(&self, scope: &Scope) -> String {
        self.words.get(scope.as_str()).cloned().unwrap_or_else(|| format!("Do what needs “{scope}” at {}", self.name))
    }

    /// What of `asked` there is. Nothing asked, or only what clients ask every server for: everything.
    /// `None` where nothing of it exists.
    pub(super) fn asked(&self, asked: Option<&str>) -> Option<ScopeSet> {
        let asked: Vec<&str> = asked.unwrap_or_default().split_ascii_whitespace().collect();
        let known: ScopeSet = self.scopes.iter().filter(|scope| asked.contains(&scope.as_str())).cloned().collect();
        if !known.is_empty() {
            return Some(known);
        }
        let is_common = |scope: &&str| ["offline_access", "openid", "profile", "email"].contains(scope);
        asked.iter().all(is_common).then(|| self.scopes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_cut_to_what_there_is() {
        let protected = Protected {
            uri: "https://h.example/mcp".into(),
            name: "Calculator".into(),
            scopes: "op:add op:div".parse().expect("scopes"),
            words: BTreeMap::from([("op:add".into(), "Add two numbers".into())]),
        };
        let asked = |text: Option<&str>| protected.asked(text).map(|scopes| scopes.to_string());
        for (text, expected) in [
            (None, Some("op:add op:div")),
            (Some(""), Some("op:add op:div")),
            (Some("offline_access openid"), Some("op:add op:div")),
            (Some("op:div"), Some("op:div")),
            (Some("op:div nothing offline_access"), Some("op:div")),
            (Some("nothing"), None),
            (Some("nothing openid"), None),
        ] {
            assert_eq!(asked(text).as_deref(), expected, "{text:?}");
        }
        assert_eq!(protected.describe(&"op:add".parse().expect("a scope")), "Add two numbers");
        assert_eq!(protected.describe(&"op:div".parse().expect("a scope")), "Do what needs “op:div” at Calculator");
    }
}
