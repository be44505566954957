//! `[policy]` of the file, checked for form.

use std::collections::BTreeMap;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    config::reader::{Reader, integer},
    policy::{Policy, Rule, Target},
    scope::{Scope, ScopeSet},
};

/// The table's key in the file.
pub(super) const KEY: &str = "policy";

/// What the file says about who may call what. [`crate::config::Config`] holds it with every scope
/// a scope token and every rule with exactly one target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawPolicy {
    /// What a call needs that no rule names; `None` denies it.
    pub default_scopes: Option<ScopeSet>,
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
    pub scopes: ScopeSet,
    /// Where the rule begins in the file, from 1.
    pub line: usize,
}

impl RawPolicy {
    /// What the rules mean.
    pub fn policy(&self) -> Policy {
        let mut rules = Vec::with_capacity(self.rules.len());
        for raw in &self.rules {
            let targets = [
                raw.tool.clone().map(Target::Tool),
                raw.prompt.clone().map(Target::Prompt),
                raw.resource.clone().map(Target::Resource),
            ];
            rules.extend(targets.into_iter().flatten().map(|target| Rule {
                target,
                when: raw.when.clone().into_iter().collect(),
                scopes: raw.scopes.clone(),
            }));
        }
        Policy::new(rules, self.default_scopes.clone())
    }
}

/// Reads the table that is called `name` in the file; `None` when it is not one. What is wrong is
/// added to `reader`.
pub(super) fn parse(value: &Spanned<DeValue<'_>>, name: &str, reader: &mut Reader<'_>) -> Option<RawPolicy> {
    let Some(table) = value.get_ref().as_table() else {
        reader.problem(value.span().start, format!("`policy` is a table: [{name}] and [[{name}.rule]]"));
        return None;
    };
    let mut policy = RawPolicy::default();
    for (key, value) in table {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("default_scopes", _) => policy.default_scopes = Some(scopes(value, reader)),
            ("rule", DeValue::Array(rules)) => {
                for rule in rules.iter() {
                    match rule.get_ref().as_table() {
                        Some(table) => policy.rules.push(parse_rule(table, rule.span().start, reader)),
                        None => reader.problem(rule.span().start, format!("a rule is a table: [[{name}.rule]]")),
                    }
                }
            }
            ("rule", _) => reader.problem(key.span().start, format!("write each rule as [[{name}.rule]]")),
            _ => reader.unknown(key, ["default_scopes", "rule"]),
        }
    }
    Some(policy)
}

fn parse_rule(table: &DeTable<'_>, start: usize, reader: &mut Reader<'_>) -> RawRule {
    let mut rule = RawRule { line: reader.line(start), ..RawRule::default() };
    let mut has_scopes = false;
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "tool" => rule.tool = target(key, value, reader),
            "prompt" => rule.prompt = target(key, value, reader),
            "resource" => rule.resource = target(key, value, reader),
            "when" => rule.when = conditions(value, reader),
            "scopes" => (rule.scopes, has_scopes) = (scopes(value, reader), true),
            _ => reader.unknown(key, ["tool", "prompt", "resource", "when", "scopes"]),
        }
    }
    let targets = ["tool", "prompt", "resource"].into_iter().filter(|name| table.contains_key(*name)).count();
    if targets != 1 {
        reader.problem(start, "a rule has exactly one of `tool`, `prompt` and `resource`".into());
    }
    if table.contains_key("when") && !table.contains_key("tool") {
        reader.problem(start, "`when` compares a tool's arguments; it needs `tool`".into());
    }
    if !has_scopes {
        reader.problem(start, "a rule needs `scopes`; `scopes = []` lets in any valid token".into());
    }
    rule
}

fn target(key: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<String> {
    let text = value.get_ref().as_str().filter(|text| !text.is_empty());
    if text.is_none() {
        reader.problem(
            key.span().start,
            format!("`{}` takes a text, like \"calculator\" or \"*\"", key.get_ref().as_ref()),
        );
    }
    text.map(str::to_owned)
}

/// Exact values by argument name.
fn conditions(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> BTreeMap<String, serde_json::Value> {
    let Some(table) = value.get_ref().as_table().filter(|table| !table.is_empty()) else {
        let what = "`when` takes argument values, like { operation = \"divide\" }; leave it out for every call";
        reader.problem(value.span().start, what.into());
        return BTreeMap::new();
    };
    let mut conditions = BTreeMap::new();
    for (name, value) in table {
        let expected = match value.get_ref() {
            DeValue::String(text) => Some(serde_json::Value::from(text.as_ref())),
            DeValue::Boolean(value) => Some((*value).into()),
            DeValue::Float(float) => {
                float.as_str().parse().ok().and_then(serde_json::Number::from_f64).map(serde_json::Value::Number)
            }
            value => integer(value).map(serde_json::Value::from),
        };
        match expected {
            Some(expected) => {
                conditions.insert(name.get_ref().to_string(), expected);
            }
            None => reader.problem(value.span().start, "`when` compares with a text, a number, true or false".into()),
        }
    }
    conditions
}

/// A list of scopes, or one text with spaces between them.
fn scopes(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> ScopeSet {
    let mut scopes = ScopeSet::default();
    let mut take = |text: &str, offset: usize, reader: &mut Reader<'_>| match text.parse::<Scope>() {
        Ok(scope) => scopes.extend([scope]),
        Err(error) => reader.problem(offset, error.to_string()),
    };
    match value.get_ref() {
        DeValue::String(text) => text.split_whitespace().for_each(|text| take(text, value.span().start, reader)),
        DeValue::Array(values) => {
            for value in values.iter() {
                match value.get_ref().as_str() {
                    Some(text) => take(text, value.span().start, reader),
                    None => reader.problem(value.span().start, "a scope is a text".into()),
                }
            }
        }
        _ => reader.problem(value.span().start, "scopes are a list of texts, like [\"op:div\"]".into()),
    }
    scopes
}
