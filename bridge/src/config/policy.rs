//! `[policy]` of the file, checked for form.

use std::collections::BTreeMap;

/// What the file says about who may call what. [`crate::config::Config`] holds it with every scope
/// a scope token and every rule with exactly one target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawPolicy {
    /// What a call needs that no rule names, as scopes with spaces between; `None` denies it.
    pub default_scopes: Option<String>,
    /// The rules, in the order of the file.
    pub rules: Vec<RawRule>,
}

/// One `[[policy.rule]]`: exactly one of `tool`, `prompt` and `resource` is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawRule {
    /// A glob over tool names.
    pub tool: Option<String>,
    /// A glob over prompt names.
    pub prompt: Option<String>,
    /// A glob over resource URIs.
    pub resource: Option<String>,
    /// Arguments that must have exactly these values; strings, numbers and booleans. Only with
    /// `tool`.
    pub when: BTreeMap<String, serde_json::Value>,
    /// What such a call needs; none at all means any valid token.
    pub scopes: Vec<String>,
    /// Where the rule begins in the file, from 1.
    pub line: usize,
}
