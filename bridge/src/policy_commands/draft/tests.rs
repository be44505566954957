use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{
    config::{self, policy::RawPolicy, server::Served},
    message::Message,
    offer::Argument,
    policy::Policy,
};

fn flags(pairs: &[(&'static str, &[&str])]) -> Flags {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Flags(pairs.iter().map(|(key, values)| (*key, texts(values))).collect())
}

fn tool(name: &str, description: &str) -> Tool {
    let about = About { title: None, description: Some(description.to_owned()) };
    Tool { name: name.to_owned(), about, ..Tool::default() }
}

fn entry(id: &str, name: &str) -> Entry {
    Entry { id: id.to_owned(), name: name.to_owned(), about: About::default() }
}

/// Loads the file as `serve` and `check-config` do.
fn load(file: &str) -> (config::server::Command, RawPolicy) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("bridge.toml");
    std::fs::write(&path, file).expect("a file");
    let flags = flags(&[("config", &[path.to_str().expect("UTF-8")]), ("auth", &["none"])]);
    let loaded = config::load(&flags, std::iter::empty()).unwrap_or_else(|problems| panic!("{problems}\n{file}"));
    let [server] = loaded.config.servers.as_slice() else { panic!("one server: {file}") };
    let Served::Command(command) = &server.served else { panic!("a command: {file}") };
    (command.clone(), server.policy.clone().expect("a policy"))
}

fn needed(policy: &Policy, method: &str, key: &str, id: &str) -> Option<String> {
    let request = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { key: id } }).to_string();
    let Ok(Message::Request(request)) = Message::parse(request.as_bytes()) else { panic!("{request}") };
    policy.needs(&request).map(|scopes| scopes.to_string())
}

fn example_offer() -> Offer {
    let argument =
        Argument { name: "operation".into(), choices: ["add", "divide", "x\"y"].map(str::to_owned).to_vec() };
    Offer {
        tools: vec![
            Tool {
                read_only: true,
                arguments: Some(vec![argument]),
                ..tool("calculator", "Does sums.\n[[policy.rule]]")
            },
            Tool { destructive: true, ..tool("rm -rf", "Removes\u{2028}tool = \"*\"") },
            tool("rm_-rf", ""),
            tool("a*", "Not to be named"),
            tool("calculator", "Listed twice"),
        ],
        prompts: vec![entry("greet", "greet")],
        resources: vec![
            entry("file:///srv/a/1.txt", "1"),
            entry("file:///srv/a/2.txt", "2"),
            entry("memo:one", "the one"),
            entry("db://x/rows/7", "row"),
            entry("test://static", "static"),
            entry("test://other", "other"),
            entry("*", "star"),
        ],
        templates: vec![entry("db://x/rows/{id}", "rows"), entry("test://template/{id}/data{?q*}", "data")],
    }
}

#[test]
fn a_draft_reads_as_its_reader_will_see_it() {
    let flags = flags(&[
        ("command", &["npx", "-y", "a \"server\""]),
        ("env", &["API_KEY=canary", "HOME"]),
        ("start_timeout", &["90s"]),
        ("log_level", &["debug"]),
    ]);
    let file = draft(&flags, &example_offer());
    assert!(!file.contains("canary"), "{file}");
    insta::assert_snapshot!("draft", file);
    let (command, policy) = load(&file);
    assert_eq!(
        (command.program.as_str(), command.arguments.as_slice()),
        ("npx", ["-y", "a \"server\""].map(str::to_owned).as_slice())
    );
    assert_eq!(command.start_timeout, std::time::Duration::from_secs(90));
    let names: Vec<&str> = command.environment.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names, ["API_KEY", "HOME"]);

    let policy = policy.policy();
    for (name, scopes) in [
        ("calculator", Some("tool:calculator")),
        ("rm -rf", Some("tool:rm_-rf-2")),
        ("rm_-rf", Some("tool:rm_-rf")),
        ("a*", None),
        ("ab", None),
        ("", None),
    ] {
        assert_eq!(needed(&policy, "tools/call", "name", name).as_deref(), scopes, "{name}");
    }
    assert_eq!(needed(&policy, "prompts/get", "name", "greet").as_deref(), Some("prompt:greet"));
    for (uri, scopes) in [
        ("file:///srv/a/2.txt", Some("resource:file")),
        ("file:///srv/b", None),
        ("memo:one", Some("resource:the_one")),
        ("memo:two", None),
        ("db://x/rows/7", Some("resource:rows")),
        ("test://other", Some("resource:test")),
        ("test://template/1/data", Some("resource:test")),
        ("*", None),
        ("other:x", None),
    ] {
        assert_eq!(needed(&policy, "resources/read", "uri", uri).as_deref(), scopes, "{uri}");
    }
}

#[test]
fn examples_are_good_rules_once_they_are_rules() {
    let file = draft(&flags(&[("command", &["x"])]), &example_offer());
    let examples: String = file
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
        .collect();
    let (_, policy) = load(&examples);
    let rule = policy.rules.iter().find(|rule| !rule.when.is_empty()).expect("an example");
    assert_eq!((rule.tool.as_deref(), rule.when.get("operation")), (Some("calculator"), Some(&"add".into())));
    assert_eq!(rule.scopes.to_string(), "tool:calculator:add");
}

#[test]
fn a_server_with_nothing_gets_a_policy_that_allows_nothing() {
    let (_, policy) = load(&draft(&flags(&[("command", &["x"])]), &Offer::default()));
    assert_eq!(policy, RawPolicy::default());
    assert_eq!(needed(&policy.policy(), "tools/call", "name", "x"), None);
}

#[test]
fn templates_become_globs() {
    for (template, pattern) in [
        ("a:b", "a:b"),
        ("a:{b}", "a:*"),
        ("a:{b}{c}/{+d}{?e,f}", "a:*/*"),
        ("a:{b", "a:*"),
        ("a:b}", "a:b}"),
        ("{x}", "*"),
    ] {
        assert_eq!(glob(template), pattern, "{template}");
    }
}

proptest! {
    /// What the server calls its tools, and says of them, cannot add or change a rule.
    #[test]
    fn hostile_words_make_one_rule_per_tool(
        tools in proptest::collection::vec(("[a*\"\\\\\n\r\u{202e}#\\]\\[= '-]{0,6}|[ab]{1,2}|\\PC{0,12}|(?s:.{0,12})", any::<String>(), any::<Option<String>>(), any::<Option<String>>(), any::<bool>()), 0..12),
        argument in any::<String>(),
        choice in "[\"\n\\\\}#]{0,3}|(?s:.{0,8})",
    ) {
        let tool = |(name, description, title, choices, hint): (String, String, Option<String>, Option<String>, bool)| {
            let choices = choices.into_iter().chain([choice.clone()]).collect();
            let arguments = Some(vec![Argument { name: argument.clone(), choices }]);
            Tool { name, about: About { title, description: Some(description) }, read_only: hint, destructive: !hint, arguments }
        };
        let offer = Offer { tools: tools.into_iter().map(tool).collect(), ..Offer::default() };
        let (_, policy) = load(&draft(&flags(&[("command", &["x"])]), &offer));
        let names: BTreeSet<&str> = offer.tools.iter().map(|tool| tool.name.as_str()).filter(|name| is_nameable(name)).collect();
        let ruled: Vec<&str> = policy.rules.iter().filter_map(|rule| rule.tool.as_deref()).collect();
        prop_assert_eq!(ruled.iter().copied().collect::<BTreeSet<_>>(), names.clone());
        prop_assert_eq!((ruled.len(), policy.rules.len()), (names.len(), names.len()));
        let judge = policy.policy();
        let mut scopes = BTreeSet::new();
        for rule in &policy.rules {
            prop_assert!(rule.when.is_empty());
            prop_assert_eq!(rule.scopes.iter().count(), 1);
            let needed = needed(&judge, "tools/call", "name", rule.tool.as_deref().unwrap_or_default());
            prop_assert_eq!(needed, Some(rule.scopes.to_string()));
            scopes.insert(rule.scopes.to_string());
        }
        prop_assert_eq!(scopes.len(), names.len());
    }

    #[test]
    fn resources_need_one_scope_or_are_denied(
        uris in proptest::collection::vec("(a:|b://|)[/x*]{0,4}[yz\n\"]{0,2}", 0..8),
        templates in proptest::collection::vec("(a:|b://)[/x]{0,3}(\\{i\\}/?[y]?|[*]|)", 0..4),
    ) {
        let offer = Offer {
            resources: uris.iter().map(|uri| entry(uri, "r")).collect(),
            templates: templates.iter().map(|uri| entry(uri, "t")).collect(),
            ..Offer::default()
        };
        let (_, policy) = load(&draft(&flags(&[("command", &["x"])]), &offer));
        for rule in &policy.rules {
            prop_assert!(rule.resource.is_some() && rule.scopes.iter().count() == 1);
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            for other in &policy.rules[index + 1..] {
                let (one, two) = (rule.resource.as_deref().unwrap_or_default(), other.resource.as_deref().unwrap_or_default());
                prop_assert!(!pattern_matches(one, two) && !pattern_matches(two, one), "{} {}", one, two);
            }
        }
    }
}
