//! Reviews as text: tables for people, JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    review::{Called, Judged, Need, Review, Ruled},
    words::{toml, toml_key, visible},
};
use crate::scope::ScopeSet;

/// One long name shall not push every verdict off the screen.
const NAME_WIDTH_MAX: usize = 60;

/// The reviews as tables; `held` is what the user has, if it is about one.
pub(super) fn text(reviews: &[Review], held: Option<&ScopeSet>) -> String {
    let parts: Vec<String> = reviews.iter().map(|review| one(review, reviews.len() > 1, held)).collect();
    parts.join("\n")
}

fn one(review: &Review, is_one_of_several: bool, held: Option<&ScopeSet>) -> String {
    let mut text = String::new();
    if is_one_of_several {
        add(&mut text, &format!("server {}\n", visible(&review.server)));
    }
    let words = Words { is_about_a_user: held.is_some() };
    let heading = match held {
        None => "needs".to_owned(),
        Some(held) if held.is_empty() => "without any scope".to_owned(),
        Some(held) => format!("with {held}"),
    };
    let mut rules: Vec<[String; 2]> =
        review.rules.iter().map(|rule| [shown_rule(&rule.what), words.of(&rule.need)]).collect();
    rules.push(["everything else".to_owned(), words.of(&review.default)]);
    table(&mut text, ["rule", &heading], &rules);

    let mut offered: Vec<[String; 2]> = Vec::new();
    for tool in &review.tools {
        offered.push([format!("tool {}", visible(&tool.name)), words.of_calls(tool)]);
    }
    for (kind, entries) in
        [("prompt", &review.prompts), ("resource", &review.resources), ("template", &review.templates)]
    {
        offered.extend(entries.iter().map(|entry| [format!("{kind} {}", visible(&entry.what)), words.of(&entry.need)]));
    }
    text.push('\n');
    table(&mut text, ["offered", &heading], &offered);
    if !review.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &review.warnings {
        add(&mut text, &format!("warning: {warning}"));
    }
    text
}

/// Arguments that a rule looks at.
type When = Vec<(String, Value)>;

/// How verdicts are told.
struct Words {
    is_about_a_user: bool,
}

impl Words {
    fn of(&self, need: &Need) -> String {
        match need {
            Need::Denied => "denied: no rule".to_owned(),
            Need::Scopes { missing, .. } if !missing.is_empty() => format!("needs {missing}"),
            Need::Scopes { .. } if self.is_about_a_user => "allowed".to_owned(),
            Need::Scopes { .. } => "any valid token".to_owned(),
        }
    }

    /// `allowed when operation = "add" or "subtract"; "divide" needs op:div; otherwise denied: no rule`
    fn of_calls(&self, tool: &Called) -> String {
        let Some((otherwise, calls)) = tool.calls.split_last() else { return String::new() };
        let otherwise = self.of(&otherwise.need);
        // What leads to the same stands together, and first what is allowed.
        let mut verdicts: Vec<(String, Vec<&When>)> = Vec::new();
        for Judged { what, need } in calls {
            let verdict = self.of(need);
            match verdicts.iter_mut().find(|(known, _)| *known == verdict) {
                Some((_, conditions)) => conditions.push(what),
                None => verdicts.push((verdict, vec![what])),
            }
        }
        if verdicts.iter().all(|(verdict, _)| *verdict == otherwise) {
            return otherwise;
        }
        let is_open = |verdict: &str| !verdict.starts_with("needs ") && !verdict.starts_with("denied");
        verdicts.sort_by_key(|(verdict, _)| !is_open(verdict));
        let mut key = None;
        let mut parts: Vec<String> = Vec::new();
        for (verdict, conditions) in &verdicts {
            let conditions: Vec<String> = conditions.iter().map(|when| shown_condition(when, &mut key)).collect();
            let conditions = conditions.join(" or ");
            parts.push(match is_open(verdict) {
                true => format!("{verdict} when {conditions}"),
                false => format!("{conditions} {verdict}"),
            });
        }
        parts.push(format!("otherwise {otherwise}"));
        parts.join("; ")
    }
}

fn shown_rule(rule: &Ruled) -> String {
    let when =
        if rule.when.is_empty() { String::new() } else { format!(" when {}", shown_condition(&rule.when, &mut None)) };
    let line = rule.line.map(|line| format!("line {line}: ")).unwrap_or_default();
    format!("{line}{} {}{when}", rule.kind, visible(&rule.pattern))
}

/// `operation = "add"`; the value alone where `key` has just been named.
fn shown_condition(when: &[(String, Value)], key: &mut Option<String>) -> String {
    if let [(name, value)] = when {
        let named = key.as_deref() == Some(name);
        *key = Some(name.clone());
        return if named { shown_value(value) } else { format!("{} = {}", toml_key(name), shown_value(value)) };
    }
    *key = None;
    let parts = when.iter().map(|(name, value)| format!("{} = {}", toml_key(name), shown_value(value)));
    parts.collect::<Vec<_>>().join(" and ")
}

fn shown_value(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), toml)
}

fn table(text: &mut String, heading: [&str; 2], rows: &[[String; 2]]) {
    let width = rows.iter().map(|[name, _]| name.chars().count()).max().unwrap_or_default().min(NAME_WIDTH_MAX);
    let width = width.max(heading[0].len());
    add(text, &format!("{:width$}  {}", heading[0], heading[1]));
    for [name, verdict] in rows {
        add(text, &format!("{name:width$}  {verdict}"));
    }
}

fn add(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line}");
}

/// The reviews as one JSON object on several lines.
pub(super) fn json(reviews: &[Review]) -> String {
    let servers: Vec<Value> = reviews.iter().map(server_json).collect();
    format!("{:#}\n", json!({ "servers": servers }))
}

fn server_json(review: &Review) -> Value {
    let rule = |Judged { what, need }: &Judged<Ruled>| {
        let mut rule = json!({ what.kind: what.pattern, "when": when_json(&what.when), "line": what.line });
        judge(&mut rule, need);
        rule
    };
    let call = |Judged { what, need }: &Judged<When>| {
        let mut call = json!({ "when": when_json(what) });
        judge(&mut call, need);
        call
    };
    let tool = |tool: &Called| json!({ "name": tool.name, "calls": tool.calls.iter().map(call).collect::<Vec<_>>() });
    let entries = |entries: &[Judged<String>], key: &str| {
        let entry = |Judged { what, need }: &Judged<String>| {
            let mut entry = json!({ key: what });
            judge(&mut entry, need);
            entry
        };
        entries.iter().map(entry).collect::<Vec<_>>()
    };
    let mut default = json!({});
    judge(&mut default, &review.default);
    json!({
        "name": review.server,
        "rules": review.rules.iter().map(rule).collect::<Vec<_>>(),
        "everything_else": default,
        "tools": review.tools.iter().map(tool).collect::<Vec<_>>(),
        "prompts": entries(&review.prompts, "name"),
        "resources": entries(&review.resources, "uri"),
        "templates": entries(&review.templates, "uri_template"),
        "warnings": review.warnings,
    })
}

/// Adds `allowed`, and `needed` and `missing`, which are null where no scope helps.
fn judge(value: &mut Value, need: &Need) {
    let scopes = |scopes: &ScopeSet| scopes.iter().map(|scope| scope.as_str().to_owned()).collect::<Vec<_>>();
    let (allowed, needed, missing) = match need {
        Need::Denied => (false, None, None),
        Need::Scopes { needed, missing } => (missing.is_empty(), Some(scopes(needed)), Some(scopes(missing))),
    };
    value["allowed"] = allowed.into();
    value["needed"] = json!(needed);
    value["missing"] = json!(missing);
}

fn when_json(when: &[(String, Value)]) -> Value {
    when.iter().cloned().collect::<serde_json::Map<_, _>>().into()
}
