mod readings;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{backend::in_process, message::Message, token::Issuer};

fn token(scopes: &str) -> VerifiedToken {
    VerifiedToken {
        issuer: Issuer::new("https://as.example"),
        subject: Some("alice".into()),
        client_id: None,
        email: None,
        scopes: scopes.parse().expect("test scopes"),
        expires_at: None,
    }
}

/// `allowed`, `no rule`, or `needed / missing`.
fn verdict(policy: &Policy, scopes: &str, method: &str, params: &Value) -> String {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let Ok(Message::Request(request)) = Message::parse(body.as_bytes()) else { panic!("{body}") };
    match policy.permit(&token(scopes), request).map_err(|denied| denied.reason) {
        Ok(_) => "allowed".into(),
        Err(Denial::NoRule) => "no rule".into(),
        Err(Denial::Scope { needed, missing }) => format!("{needed} / {missing}"),
    }
}

#[test]
fn each_operation_of_the_calculator_needs_its_scope() {
    let policy = in_process::policy();
    assert_eq!(policy.scopes().to_string(), "op:add op:sub op:mult op:div");
    let call = |operation: Value| json!({"name": "calculator", "arguments": {"operation": operation, "a": 1, "b": 2}});
    for (operation, scope) in [("add", "op:add"), ("subtract", "op:sub"), ("multiply", "op:mult"), ("divide", "op:div")]
    {
        assert_eq!(verdict(&policy, "", "tools/call", &call(json!(operation))), format!("{scope} / {scope}"));
        assert_eq!(verdict(&policy, scope, "tools/call", &call(json!(operation))), "allowed");
        let others = policy.scopes().iter().filter(|held| held.as_str() != scope).cloned().collect::<ScopeSet>();
        assert_eq!(
            verdict(&policy, &others.to_string(), "tools/call", &call(json!(operation))),
            format!("{scope} / {scope}")
        );
    }
    // What the calculator does not have, it may say itself: nothing runs.
    assert_eq!(verdict(&policy, "", "tools/call", &call(json!("modulo"))), "allowed");
    assert_eq!(verdict(&policy, "", "tools/call", &json!({"name": "other"})), "allowed");
}

/// What is kept must be what was judged, to the last digit.
#[test]
fn a_kept_permit_is_for_the_same_request() {
    let open = Policy::new(Vec::new(), Some(ScopeSet::default()));
    for (body, kept) in [
        (
            r#"{"id":"a\u0062","jsonrpc":"2.0","method":"pi\u006eg"}"#,
            r#"{"jsonrpc":"2.0","id":"a\u0062","method":"ping"}"#,
        ),
        (
            r#" { "extra": 1, "jsonrpc":"2.0", "id" : 100000000000000000000, "method":"initialize", "params":{ "n": 1.10, "x":{ "y":1e400 } } }"#,
            r#"{"jsonrpc":"2.0","id":100000000000000000000,"method":"initialize","params":{"n":1.10,"x":{ "y":1e400 }}}"#,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":null}"#, r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{}}"#,
        ),
    ] {
        let Ok(Message::Request(request)) = Message::parse(body.as_bytes()) else { panic!("{body}") };
        let permit = open.permit(&token(""), request).expect("allowed").keep();
        let again = permit.permit().expect("it reads back");
        assert_eq!(again.request().to_json(), kept);
        assert_eq!(again.keep().0, permit.0);
    }
}

#[test]
fn an_escaped_spelling_is_the_same_argument() {
    let policy = in_process::policy();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"calculator","arguments":{"operation":"d\u0069vide"}}}"#;
    let Ok(Message::Request(request)) = Message::parse(body.as_bytes()) else { panic!("{body}") };
    assert!(policy.permit(&token("op:add"), request).is_err());
}

#[test]
fn lists_and_handshakes_need_no_scope() {
    let closed = Policy::new(Vec::new(), None);
    for method in ["initialize", "ping", "server/discover", "tools/list", "prompts/list", "resources/list"] {
        assert_eq!(verdict(&closed, "", method, &json!({})), "allowed", "{method}");
    }
    assert_eq!(verdict(&closed, "", "vendor/method", &json!({})), "no rule");
    assert_eq!(verdict(&closed, "a", "tools/call", &json!({"name": "t"})), "no rule");
    // Without a name no rule can match, so a rule for every name must not let it in.
    let rule = Rule { target: Target::Tool("*".into()), when: vec![], scopes: ScopeSet::default() };
    let open = Policy::new(vec![rule], None);
    assert_eq!(verdict(&open, "", "tools/call", &json!({"name": "t"})), "allowed");
    assert_eq!(verdict(&open, "", "tools/call", &json!({"name": 1})), "no rule");
    assert_eq!(verdict(&open, "", "tools/call", &json!({})), "no rule");
}

#[test]
fn all_matching_rules_apply_and_their_order_does_not_matter() {
    let rule = |pattern: &str, when: &[(&str, Value)], scopes: &str| Rule {
        target: Target::Tool(pattern.into()),
        when: when.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
        scopes: scopes.parse().expect("test scopes"),
    };
    let mut rules = vec![
        rule("*", &[], "mcp"),
        rule("files_*", &[("mode", json!("write"))], "files:write"),
        rule("n", &[("n", json!(2))], "two"),
    ];
    for _ in 0..2 {
        let policy = Policy::new(rules.clone(), None);
        let check = |name: &str, arguments: Value, expected: &str| {
            assert_eq!(verdict(&policy, "mcp", "tools/call", &json!({"name": name, "arguments": arguments})), expected);
        };
        check("x", json!({}), "allowed");
        check("files_a", json!({"mode": "read"}), "allowed");
        check("n", json!({"n": 3}), "allowed");
        check("files_a", json!({"mode": "\"write\""}), "allowed");
        let text = json!({"name": "n", "arguments": {"n": "2"}});
        assert_ne!(verdict(&policy, "mcp two", "tools/call", &text), "allowed");
        assert_eq!(verdict(&policy, "mcp two files:write", "tools/call", &text), "allowed");
        let needs = |name: &str, arguments: Value, extra: &str| {
            let text = verdict(&policy, "mcp", "tools/call", &json!({"name": name, "arguments": arguments}));
            let (needed, missing) = text.split_once(" / ").expect("denied");
            assert_eq!(
                (needed.parse::<ScopeSet>().expect("scopes"), missing),
                (format!("mcp {extra}").parse().expect("scopes"), extra)
            );
        };
        needs("files_a", json!({"mode": "write"}), "files:write");
        needs("n", json!({"n": 2}), "two");
        needs("n", json!({"n": 2.0}), "two");
        rules.reverse();
    }
}

/// Its tool would see an object, so a rule about a text must not let it in.
#[test]
fn an_object_does_not_pass_for_the_text_inside_it() {
    let rule = Rule {
        target: Target::Tool("t".into()),
        when: vec![("operation".into(), json!("read"))],
        scopes: ScopeSet::default(),
    };
    let policy = Policy::new(vec![rule], None);
    let call = |operation: Value| json!({"name": "t", "arguments": {"operation": operation}});
    assert_eq!(verdict(&policy, "", "tools/call", &call(json!("read"))), "allowed");
    let disguised = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":
        {"operation":{"$serde_json::private::RawValue":"\"read\""}}}}"#;
    let Ok(Message::Request(request)) = Message::parse(disguised.as_bytes()) else { panic!("{disguised}") };
    let denied = policy.permit(&token(""), request).expect_err("denied");
    assert_eq!(denied.reason, Denial::NoRule);
}

#[test]
fn prompts_resources_and_defaults() {
    let scopes = |text: &str| text.parse::<ScopeSet>().expect("test scopes");
    let rules = vec![
        Rule { target: Target::Prompt("p".into()), when: vec![], scopes: scopes("prompt") },
        Rule { target: Target::Resource("file:///*/x".into()), when: vec![], scopes: scopes("read") },
    ];
    let policy = Policy::new(rules, Some(scopes("base")));
    assert_eq!(verdict(&policy, "base", "prompts/get", &json!({"name": "p"})), "prompt / prompt");
    assert_eq!(verdict(&policy, "prompt", "prompts/get", &json!({"name": "q"})), "base / base");
    assert_eq!(verdict(&policy, "read", "resources/read", &json!({"uri": "file:///a/b/x"})), "allowed");
    assert_eq!(verdict(&policy, "base", "resources/subscribe", &json!({"uri": "file:///a/x"})), "read / read");
    assert_eq!(verdict(&policy, "base", "vendor/method", &json!({})), "allowed");
    assert_eq!(policy.scopes().to_string(), "prompt read base");
}

fn rule(target: Target, when: &[(&str, Value)], needed: &str) -> Rule {
    let when = when.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Rule { target, when, scopes: needed.parse().expect("test scopes") }
}

/// A server that makes a name of `["delete"]` must not do for `base` what needs `admin`.
#[test]
fn a_name_that_is_no_text_slips_past_no_rule() {
    let rules =
        vec![rule(Target::Tool("delete".into()), &[], "admin"), rule(Target::Resource("*".into()), &[], "read")];
    let policy = Policy::new(rules.clone(), Some("base".parse().expect("a scope")));
    for (method, params) in [
        ("tools/call", json!({"name": ["delete"]})),
        ("prompts/get", json!({"name": {"toString": "x"}})),
        ("resources/read", json!({"uri": 1})),
        ("resources/subscribe", json!({"uri": null})),
        ("completion/complete", json!({"ref": {"type": "ref/prompt", "name": ["p"]}})),
    ] {
        assert_eq!(verdict(&policy, "base", method, &params), "admin read base / admin read", "{method}");
        assert_eq!(verdict(&policy, "base admin read", method, &params), "allowed", "{method}");
        assert_eq!(verdict(&Policy::new(rules.clone(), None), "base admin read", method, &params), "no rule");
        assert_eq!(verdict(&policy, "base", method, &json!({})), "allowed", "{method} without a name");
    }
}

#[test]
fn subscriptions_need_what_reading_each_resource_needs() {
    let resource = |pattern: &str, needed| rule(Target::Resource(pattern.into()), &[], needed);
    let rules = vec![resource("a:*", "a"), resource("*:secret", "secret"), resource("free:*", "")];
    let policy = Policy::new(rules, None);
    let listen = |scopes, uris: &[&str]| {
        let notifications = json!({"toolsListChanged": true, "resourceSubscriptions": uris});
        verdict(&policy, scopes, "subscriptions/listen", &json!({"notifications": notifications}))
    };
    for params in [json!({}), json!({"notifications": {}}), json!({"notifications": {"toolsListChanged": true}})] {
        assert_eq!(verdict(&policy, "", "subscriptions/listen", &params), "allowed", "{params}");
    }
    assert_eq!(listen("", &[]), "allowed");
    assert_eq!(listen("", &["free:x"]), "allowed");
    assert_eq!(listen("a", &["a:x", "free:x"]), "allowed");
    assert_eq!(listen("a", &["free:x", "a:x", "a:secret"]), "a secret / secret");
    assert_eq!(listen("", &["a:x", "b:secret"]), "a secret / a secret");
    assert_eq!(listen("a secret", &["a:x", "unknown:x"]), "no rule");
    let open = Policy::new(vec![resource("a:*", "a")], Some("base".parse().expect("a scope")));
    let params = json!({"notifications": {"resourceSubscriptions": ["a:x", "b:x"]}});
    assert_eq!(verdict(&open, "a", "subscriptions/listen", &params), "a base / base");
}

#[test]
fn completions_need_what_their_prompt_or_resource_needs() {
    let rules = vec![rule(Target::Prompt("p".into()), &[], "p"), rule(Target::Resource("r:*".into()), &[], "r")];
    let policy = Policy::new(rules.clone(), None);
    let complete = |policy: &Policy, reference: Value| {
        let argument = json!({"name": "x", "value": "y"});
        verdict(policy, "p", "completion/complete", &json!({"ref": reference, "argument": argument}))
    };
    assert_eq!(complete(&policy, json!({"type": "ref/prompt", "name": "p"})), "allowed");
    assert_eq!(complete(&policy, json!({"type": "ref/prompt", "name": "q", "uri": "r:x"})), "no rule");
    assert_eq!(complete(&policy, json!({"type": "ref/resource", "uri": "r:{x}", "name": "p"})), "r / r");
    for unknown in [json!({}), json!({"type": "ref/other", "name": "p"}), json!({"type": "ref/prompt", "name": 1})] {
        assert_eq!(complete(&policy, unknown.clone()), "no rule", "{unknown}");
        let open = Policy::new(rules.clone(), Some("base".parse().expect("a scope")));
        assert_eq!(complete(&open, unknown), "p r base / r base");
    }
    assert_eq!(verdict(&policy, "p", "completion/complete", &json!({})), "no rule");
}

#[test]
fn notifications_of_the_handshake_are_everybodys_and_others_need_the_default_scopes() {
    let judge = |default: Option<&str>, scopes: &str, method: &str| {
        let policy = Policy::new(Vec::new(), default.map(|text| text.parse().expect("test scopes")));
        let body = json!({"jsonrpc": "2.0", "method": method}).to_string();
        let Ok(Message::Notification(notification)) = Message::parse(body.as_bytes()) else { panic!("{body}") };
        policy
            .permit_notification(&token(scopes), notification)
            .map(|permit| permit.notification().method.to_string())
            .map_err(|denied| denied.reason)
    };
    for method in ["initialized", "cancelled", "progress", "roots/list_changed"] {
        let method = format!("notifications/{method}");
        assert_eq!(judge(None, "", &method), Ok(method));
    }
    assert_eq!(judge(None, "a", "notifications/vendor"), Err(Denial::NoRule));
    assert_eq!(judge(Some("a"), "a", "notifications/vendor"), Ok("notifications/vendor".into()));
    // A lenient server would carry it out, and no rule about the tool has been asked.
    assert_eq!(judge(Some(""), "a", "tools/call"), Err(Denial::NoRule));
    assert!(matches!(judge(Some("a"), "b", "notifications/vendor"), Err(Denial::Scope { .. })));
}

#[test]
fn a_tool_is_shown_to_those_who_could_call_it() {
    let tool = |pattern: &str, when: &[(&str, Value)], needed: &str| rule(Target::Tool(pattern.into()), when, needed);
    let check = |rules: &[Rule], default: Option<&str>, expected: &[(&str, bool)]| {
        let default = default.map(|text| text.parse().expect("test scopes"));
        let policy = Policy::new(rules.to_vec(), default);
        for (scopes, visible) in expected {
            assert_eq!(policy.could_call(&token(scopes), "t"), *visible, "{rules:?} {scopes:?}");
        }
    };
    check(&[], None, &[("a", false)]);
    check(&[], Some("a"), &[("a", true), ("b", false)]);
    check(&[tool("other", &[], "")], None, &[("a", false)]);
    check(&[rule(Target::Prompt("t".into()), &[], "")], None, &[("a", false)]);
    // Rules for every call apply together, and the default scopes then do not.
    let both = [tool("t", &[], "a"), tool("*", &[], "b")];
    check(&both, Some(""), &[("a", false), ("b", false), ("a b", true)]);
    // What only some calls need can be avoided.
    let divide = tool("t", &[("operation", json!("divide"))], "div");
    check(&[tool("t", &[], "a"), divide.clone()], None, &[("a", true), ("div", false), ("a div", true)]);
    check(std::slice::from_ref(&divide), Some("base"), &[("base", true), ("div", true), ("other", false)]);
    // Where nothing else is allowed, one of these calls must be.
    let add = tool("t", &[("operation", json!("add"))], "add");
    check(&[divide.clone(), add], None, &[("", false), ("div", true), ("add", true), ("other", false)]);
    // A call of the second is always one of the first, but not the other way round.
    let exact = tool("*", &[("operation", json!("divide")), ("exact", json!(1))], "exact");
    check(&[divide.clone(), exact], None, &[("exact", false), ("div", true), ("div exact", true)]);
    // Numbers are one value however they are written.
    let spelled = [tool("t", &[("n", json!(2))], "a"), tool("t", &[("n", json!(2.0))], "b")];
    check(&spelled, None, &[("a", false), ("b", false), ("a b", true)]);
    // No call has two values for one argument.
    check(&[tool("t", &[("n", json!(1)), ("n", json!(2))], "a")], None, &[("a", false)]);
}

proptest! {
    /// What a call may do, its tool is shown for.
    #[test]
    fn whoever_may_call_a_tool_sees_it(
        rules in proptest::collection::vec(
            (proptest::collection::btree_map("[ab]", 0..2, 0..3), proptest::collection::vec("[xyz]", 0..2)), 0..4),
        default in proptest::option::of("[xyz]"),
        held in "[xyz]( [xyz])?",
        arguments in proptest::collection::btree_map("[ab]", 0..2, 0..3),
    ) {
        let rules = rules.into_iter().map(|(when, scopes)| Rule {
            target: Target::Tool("t".into()),
            when: when.into_iter().map(|(key, value): (String, i32)| (key, value.into())).collect(),
            scopes: scopes.join(" ").parse().expect("test scopes"),
        });
        let policy = Policy::new(rules.collect(), default.map(|text| text.parse().expect("a scope")));
        let allowed = verdict(&policy, &held, "tools/call", &json!({"name": "t", "arguments": arguments})) == "allowed";
        prop_assert!(!allowed || policy.could_call(&token(&held), "t"));
    }
}

#[test]
fn patterns() {
    for (pattern, text, expected) in [
        ("a", "a", true),
        ("a", "A", false),
        ("a", "ab", false),
        ("*", "", true),
        ("*", "x/y", true),
        ("a*", "a", true),
        ("a*", "ba", false),
        ("*a", "ba", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("a**b", "ab", true),
        ("a*a", "a", false),
        ("ab*ba", "aba", false),
    ] {
        assert_eq!(pattern_matches(pattern, text), expected, "{pattern} {text}");
    }
}

proptest! {
    #[test]
    fn a_pattern_without_stars_matches_itself_only(pattern in "[a-c]{0,4}", text in "[a-c]{0,4}") {
        prop_assert_eq!(pattern_matches(&pattern, &text), pattern == text);
    }

    #[test]
    fn a_star_takes_any_middle(head in "[a-c]{0,3}", middle in "\\PC{0,8}", tail in "[a-c]{0,3}") {
        let (pattern, text) = (format!("{head}*{tail}"), format!("{head}{middle}{tail}"));
        prop_assert!(pattern_matches(&pattern, &text));
    }
}
