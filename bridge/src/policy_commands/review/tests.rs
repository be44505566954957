use super::{super::table, *};
use crate::{backend::in_process, offer::About};

fn offer() -> Offer {
    let argument = |name: &str, choices: &[&str]| Argument {
        name: name.into(),
        choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
    };
    let operation = argument("operation", &["add", "subtract", "multiply", "divide"]);
    let tool = |name: &str, arguments| Tool { name: name.into(), arguments, ..Tool::default() };
    let entry = |id: &str| Entry { id: id.into(), name: id.into(), about: About::default() };
    Offer {
        tools: vec![tool("calculator", Some(vec![operation, argument("a", &[])])), tool("evil\u{1b}[2J", None)],
        prompts: vec![entry("greet")],
        resources: vec![entry("test://a")],
        templates: vec![entry("test://t/{id}")],
    }
}

fn rule(target: Target, when: &[(&str, Value)], scopes: &str) -> Rule {
    let when = when.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Rule { target, when, scopes: scopes.parse().expect("scopes") }
}

fn tool(name: &str) -> Target {
    Target::Tool(name.into())
}

fn shown(policy: &Policy, held: Option<&str>) -> String {
    let held: Option<ScopeSet> = held.map(|scopes| scopes.parse().expect("scopes"));
    let review = review("server", policy, None, &offer(), held.as_ref());
    table::text(&[review], held.as_ref())
}

/// The verdict about `calculator`.
fn check(rules: Vec<Rule>, default: Option<&str>, held: Option<&str>, expected: &str) {
    let policy = Policy::new(rules, default.map(|scopes| scopes.parse().expect("scopes")));
    let text = shown(&policy, held);
    let line = text.lines().rev().find_map(|line| line.strip_prefix("tool calculator ")).map(str::trim);
    assert_eq!(line, Some(expected), "{text}");
}

#[test]
fn verdicts_say_what_is_allowed_and_what_is_missing() {
    let when = |operation: &str, scopes| rule(tool("calculator"), &[("operation", operation.into())], scopes);
    check(vec![], None, None, "denied: no rule");
    check(vec![], Some(""), None, "any valid token");
    check(vec![], Some("mcp"), None, "needs mcp");
    check(vec![], Some("mcp"), Some("mcp"), "allowed");
    check(vec![rule(tool("calc*"), &[], "a b")], None, Some("b"), "needs a");
    let two = || vec![when("add", "op:add"), when("divide", "op:div")];
    let expected = "allowed when operation = \"add\"; \"divide\" needs op:div; otherwise denied: no rule";
    check(two(), None, Some("op:add"), expected);
    check(
        two(),
        None,
        Some("op:add op:div"),
        "allowed when operation = \"add\" or \"divide\"; otherwise denied: no rule",
    );
    check(two(), None, None, "operation = \"add\" needs op:add; \"divide\" needs op:div; otherwise denied: no rule");
    check(
        two(),
        Some("op:add"),
        Some("op:add"),
        "allowed when operation = \"add\"; \"divide\" needs op:div; otherwise allowed",
    );
    // All rules that match count.
    let general = || [two(), vec![rule(tool("*"), &[], "mcp")]].concat();
    check(
        general(),
        None,
        Some("op:add"),
        "operation = \"add\" needs mcp; \"divide\" needs op:div mcp; otherwise needs mcp",
    );
    let both = rule(tool("calculator"), &[("operation", "add".into()), ("a", 1.into())], "one");
    check(
        [two(), vec![both]].concat(),
        None,
        Some("op:add"),
        "allowed when operation = \"add\"; \"divide\" needs op:div; operation = \"add\" and a = 1 needs one; otherwise denied: no rule",
    );
}

#[test]
fn the_calculator_in_a_table() {
    insta::assert_snapshot!("calculator", shown(&in_process::policy(), Some("op:add")));
    insta::assert_snapshot!("calculator_needs", shown(&in_process::policy(), None));
}

#[test]
fn names_cannot_act_on_the_terminal() {
    assert!(!shown(&Policy::new(Vec::new(), None), None).contains('\u{1b}'));
}

#[test]
fn rules_about_nothing_and_tools_without_rules_are_told() {
    let rules = vec![
        rule(tool("calculater"), &[], "a"),
        rule(tool("x*"), &[], "a"),
        rule(tool("calculator"), &[("opration", "add".into())], "a"),
        rule(tool("calculator"), &[("operation", "divde".into())], "a"),
        rule(tool("calculator"), &[("operation", 1.into())], "a"),
        rule(tool("calculator"), &[("a", 1.into())], "a"),
        // Nobody knows what its arguments are.
        rule(tool("*"), &[("unknown", 1.into())], "a"),
        rule(Target::Prompt("greed".into()), &[], "a"),
        rule(Target::Prompt("*".into()), &[], "a"),
        rule(Target::Resource("test://b".into()), &[], "a"),
        rule(Target::Resource("test://t/7".into()), &[], "a"),
        rule(Target::Resource("test://t/*".into()), &[], "a"),
        rule(Target::Resource("other:*".into()), &[], "a"),
    ];
    let warnings = |rules: &[Rule], default: Option<&str>| {
        let policy = Policy::new(rules.to_vec(), default.map(|scopes| scopes.parse().expect("scopes")));
        review("server", &policy, None, &offer(), None).warnings
    };
    insta::assert_snapshot!("warnings", warnings(&rules, None).join("\n"));
    let without = rules[..1].to_vec();
    assert_eq!(
        warnings(&without, None).last().map(String::as_str),
        Some("no rule is about the tool `evil\\u{1b}[2J`, so nobody may call it")
    );
    assert!(warnings(&without, Some("mcp")).last().is_some_and(|warning| warning.ends_with("; it needs mcp")));
    assert!(
        warnings(&without, Some("")).last().is_some_and(|warning| warning.ends_with("whoever has a token may call it"))
    );
    assert_eq!(warnings(&[], Some("mcp")), Vec::<String>::new());
}

#[test]
fn programs_get_the_same_as_people() {
    let held: ScopeSet = "op:add".parse().expect("scopes");
    let review = review("server", &in_process::policy(), None, &offer(), Some(&held));
    let json: Value = serde_json::from_str(&table::json(&[review])).expect("JSON");
    let server = &json["servers"][0];
    assert_eq!(server["name"], "server");
    let add = json!({ "tool": "calculator", "when": { "operation": "add" }, "line": null, "allowed": true, "needed": ["op:add"], "missing": [] });
    assert_eq!(server["rules"][0], add);
    let divide =
        json!({ "when": { "operation": "divide" }, "allowed": false, "needed": ["op:div"], "missing": ["op:div"] });
    assert_eq!(server["tools"][0]["calls"][3], divide);
    assert_eq!(server["resources"][0], json!({ "uri": "test://a", "allowed": true, "needed": [], "missing": [] }));
    assert_eq!(server["everything_else"], json!({ "allowed": true, "needed": [], "missing": [] }));
}
