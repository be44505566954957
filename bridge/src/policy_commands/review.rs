//! What a policy allows of what a server offers, and where the two do not fit. Pure.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::words::quoted;
use crate::{
    config::policy::{RawPolicy, RawRule},
    message::Message,
    offer::{Argument, Entry, Offer, Tool},
    policy::{Policy, Rule, Target, pattern_matches},
    scope::ScopeSet,
};

/// What is to say about one server's policy.
pub(super) struct Review {
    /// What the server is called.
    pub(super) server: String,
    pub(super) rules: Vec<Judged<Ruled>>,
    /// What everything needs that no rule is about; `None` denies it.
    pub(super) default: Need,
    pub(super) tools: Vec<Called>,
    pub(super) prompts: Vec<Judged<String>>,
    pub(super) resources: Vec<Judged<String>>,
    /// By their templates.
    pub(super) templates: Vec<Judged<String>>,
    /// What is likely a mistake, each on one line.
    pub(super) warnings: Vec<String>,
}

/// A rule and its place.
pub(super) struct Ruled {
    /// The line of the settings file, unless it is a rule of our own.
    pub(super) line: Option<usize>,
    /// `tool`, `prompt` or `resource`.
    pub(super) kind: &'static str,
    pub(super) pattern: String,
    pub(super) when: Vec<(String, Value)>,
}

/// Something and what it needs.
pub(super) struct Judged<T> {
    pub(super) what: T,
    pub(super) need: Need,
}

/// A tool and what its calls need.
pub(super) struct Called {
    pub(super) name: String,
    /// By the arguments that rules look at; the last is every other call.
    pub(super) calls: Vec<Judged<Vec<(String, Value)>>>,
}

/// What is needed for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// No rule is about it.
    Denied,
    /// These scopes, of which those are missing. Without a user, all are.
    Scopes {
        /// All.
        needed: ScopeSet,
        /// Those that the user does not have.
        missing: ScopeSet,
    },
}

impl Need {
    fn of(needed: Option<ScopeSet>, held: Option<&ScopeSet>) -> Self {
        match (needed, held) {
            (None, _) => Self::Denied,
            (Some(needed), None) => Self::Scopes { missing: needed.clone(), needed },
            (Some(needed), Some(held)) => Self::Scopes { missing: held.missing(&needed), needed },
        }
    }
}

/// Judges everything in `offer` by `policy`, for a user with the scopes `held`, or for nobody in
/// particular. `raw` is the policy as the file has it, if it has one.
pub(super) fn review(
    server: &str,
    policy: &Policy,
    raw: Option<&RawPolicy>,
    offer: &Offer,
    held: Option<&ScopeSet>,
) -> Review {
    let need = |method: &str, params: Value| Need::of(needed(policy, method, &params), held);
    let judged = |entry: &Entry, method: &str, key: &str| Judged {
        what: entry.id.clone(),
        need: need(method, json!({ key: entry.id })),
    };
    let lines = raw.map_or(&[][..], |raw| &raw.rules).iter().map(|rule: &RawRule| Some(rule.line));
    let rules = policy.rules().iter().zip(lines.chain(std::iter::repeat(None)));
    let rule = |(rule, line): (&Rule, Option<usize>)| {
        let (kind, pattern) = target(rule);
        let ruled = Ruled { line, kind, pattern: pattern.to_owned(), when: rule.when.clone() };
        Judged { what: ruled, need: Need::of(Some(rule.scopes.clone()), held) }
    };
    let tool = |tool: &Tool| {
        let call = |when: Vec<(String, Value)>| {
            let arguments: Map<String, Value> = when.iter().cloned().collect();
            Judged { need: need("tools/call", json!({ "name": tool.name, "arguments": arguments })), what: when }
        };
        Called { name: tool.name.clone(), calls: conditions(policy, &tool.name).into_iter().map(call).collect() }
    };
    let rules: Vec<Judged<Ruled>> = rules.map(rule).collect();
    Review {
        server: server.to_owned(),
        default: Need::of(policy.default_scopes().cloned(), held),
        tools: offer.tools.iter().map(tool).collect(),
        prompts: offer.prompts.iter().map(|entry| judged(entry, "prompts/get", "name")).collect(),
        resources: offer.resources.iter().map(|entry| judged(entry, "resources/read", "uri")).collect(),
        // Its expressions stand for texts that no rule is likely to have.
        templates: offer.templates.iter().map(|entry| judged(entry, "resources/read", "uri")).collect(),
        warnings: warnings(policy, &rules, offer),
        rules,
    }
}

/// What the policy says of a request itself.
fn needed(policy: &Policy, method: &str, params: &Value) -> Option<ScopeSet> {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    match Message::parse(request.as_bytes()) {
        Ok(Message::Request(request)) => policy.needs(&request).map(Cow::into_owned),
        // What cannot be asked for is not allowed.
        _ => None,
    }
}

/// The arguments that rules about the tool look at, each set once, and at last none.
fn conditions(policy: &Policy, name: &str) -> Vec<Vec<(String, Value)>> {
    let mut conditions: Vec<Vec<(String, Value)>> = Vec::new();
    for rule in policy.rules().iter().filter(|rule| !rule.when.is_empty()) {
        if rule.is_about_tool(name) && !conditions.contains(&rule.when) {
            conditions.push(rule.when.clone());
        }
    }
    conditions.push(Vec::new());
    conditions
}

fn target(rule: &Rule) -> (&'static str, &str) {
    match &rule.target {
        Target::Tool(pattern) => ("tool", pattern),
        Target::Prompt(pattern) => ("prompt", pattern),
        Target::Resource(pattern) => ("resource", pattern),
    }
}

fn warnings(policy: &Policy, rules: &[Judged<Ruled>], offer: &Offer) -> Vec<String> {
    let mut warnings = Vec::new();
    for Judged { what: rule, .. } in rules {
        let place = rule.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        let mut warn = |what: String| warnings.push(format!("{place}{what}"));
        let tools: Vec<&Tool> = offer.tools.iter().filter(|tool| pattern_matches(&rule.pattern, &tool.name)).collect();
        match rule.kind {
            "tool" if tools.is_empty() => {
                let similar = did_you_mean(&rule.pattern, offer.tools.iter().map(|tool| &tool.name));
                warn(format!("the server has no tool {}{similar}", quoted(&rule.pattern)));
            }
            "tool" => rule.when.iter().filter_map(|(key, value)| unmet(&tools, key, value)).for_each(warn),
            "prompt" if !offer.prompts.iter().any(|prompt| pattern_matches(&rule.pattern, &prompt.id)) => {
                let similar = did_you_mean(&rule.pattern, offer.prompts.iter().map(|prompt| &prompt.id));
                warn(format!("the server has no prompt {}{similar}", quoted(&rule.pattern)));
            }
            "resource" if !is_about_a_resource(&rule.pattern, offer) => {
                let similar = did_you_mean(&rule.pattern, offer.resources.iter().map(|resource| &resource.id));
                warn(format!("the server lists no resource {}{similar}", quoted(&rule.pattern)));
            }
            _ => {}
        }
    }
    for tool in &offer.tools {
        if policy.rules().iter().any(|rule| rule.is_about_tool(&tool.name)) {
            continue;
        }
        let tool = quoted(&tool.name);
        match policy.default_scopes() {
            None => warnings.push(format!("no rule is about the tool {tool}, so nobody may call it")),
            // A policy of one scope for everything means what it says.
            Some(_) if policy.rules().is_empty() => {}
            Some(scopes) if scopes.is_empty() => {
                warnings.push(format!("no rule is about the tool {tool}; whoever has a token may call it"));
            }
            Some(scopes) => warnings.push(format!("no rule is about the tool {tool}; it needs {scopes}")),
        }
    }
    warnings
}

/// Why no call of any of `tools` has this value, if so.
fn unmet(tools: &[&Tool], key: &str, value: &Value) -> Option<String> {
    let arguments: Vec<&Vec<Argument>> = tools.iter().map(|tool| tool.arguments.as_ref()).collect::<Option<_>>()?;
    let same: Vec<&Argument> = arguments.iter().copied().flatten().filter(|argument| argument.name == key).collect();
    if same.is_empty() {
        let similar = did_you_mean(key, arguments.iter().copied().flatten().map(|argument| &argument.name));
        return Some(format!("no tool that this is about has an argument {}{similar}", quoted(key)));
    }
    let may_be = |argument: &&Argument| {
        argument.choices.is_empty() || argument.choices.iter().any(|choice| Some(choice.as_str()) == value.as_str())
    };
    if same.iter().any(may_be) {
        return None;
    }
    let similar = did_you_mean(value.as_str()?, same.iter().flat_map(|argument| &argument.choices));
    Some(format!("{} is never {}{similar}", quoted(key), quoted(value.as_str()?)))
}

/// Whether `pattern` fits a resource, or a template's resources.
fn is_about_a_resource(pattern: &str, offer: &Offer) -> bool {
    let fits = |template: &Entry| {
        let glob = super::draft::glob(&template.id);
        pattern_matches(pattern, &template.id) || pattern_matches(pattern, &glob) || pattern_matches(&glob, pattern)
    };
    offer.resources.iter().any(|resource| pattern_matches(pattern, &resource.id)) || offer.templates.iter().any(fits)
}

fn did_you_mean<'n>(name: &str, names: impl Iterator<Item = &'n String>) -> String {
    // As for the names of settings: slips of the keyboard, and not other words.
    const SIMILAR: f64 = 0.85;
    let similar = names.map(|known| (strsim::jaro(known, name), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    match similar {
        Some((similarity, known)) if similarity >= SIMILAR => format!("; did you mean {}?", quoted(known)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
