//! What a server could read otherwise than it is written.

use super::*;

/// A lenient server would find the restricted value where the rule finds none.
#[test]
fn what_a_lenient_server_reads_differently_needs_everything() {
    let scopes = |text: &str| text.parse::<ScopeSet>().expect("test scopes");
    let divide = Rule {
        target: Target::Tool("calc*".into()),
        when: vec![("operation".into(), json!("divide"))],
        scopes: scopes("div"),
    };
    let secret = Rule { target: Target::Resource("file:///secret/*".into()), when: vec![], scopes: scopes("secret") };
    let public = Rule { target: Target::Resource("file:///pub/*".into()), when: vec![], scopes: scopes("pub") };
    let policy = Policy::new(vec![divide, secret, public], Some(scopes("base")));
    let needed = |method: &str, params: &Value| {
        let verdict = verdict(&policy, "", method, params);
        verdict.split(" / ").next().unwrap_or_default().to_owned()
    };
    let everything = policy.scopes().to_string();
    for (arguments, expected) in [
        (json!({ "operation": "divide" }), "div"),
        (json!({ "operation": "add" }), "base"),
        (json!({ "operation": ["divide"] }), &*everything),
        // No number and no truth value reads as `divide`, and `null` is as good as nothing.
        (json!({ "operation": 1 }), "base"),
        (json!({ "operation": true }), "base"),
        (json!({ "operation": null }), "base"),
        (json!({ "operation": "add", "Operation": "divide" }), &*everything),
        (json!("{\"operation\":\"divide\"}"), &*everything),
        (Value::Null, "base"),
    ] {
        assert_eq!(needed("tools/call", &json!({ "name": "calc", "arguments": arguments })), expected, "{arguments}");
        assert_eq!(needed("tools/call", &json!({ "name": "other", "arguments": arguments })), "base", "{arguments}");
    }
    for (uri, expected) in [
        ("file:///pub/a", "pub"),
        ("file:///pub/a.b..c", "pub"),
        ("file:///pub/../secret/x", &*everything),
        ("file:///pub/%2E%2e/secret/x", &*everything),
        ("file:///pub/..\\secret", &*everything),
        ("file:///pub/..", &*everything),
        ("file:///pub/.\t./secret/x", &*everything),
        ("file:///sec\tret/x", &*everything),
        (" file:///secret/x", &*everything),
        ("file:///pub/%252e%252e/secret/x", &*everything),
        ("file:///pub/%ff", &*everything),
        // What a parser makes of it.
        ("FILE:///secret/x", "secret base"),
        ("file:/secret/x", "base secret"),
        ("file://localhost/secret/x", "base secret"),
        ("file:///s%65cret/x", "base secret"),
        ("file:///s%2565cret/x", "base secret"),
        // What a file system makes of it.
        ("file:////secret/x", "base secret"),
        ("file:///SECRET/x", "secret base"),
        // What has one meaning after all.
        ("file:///pub/a%20b/\u{e4}", "pub"),
        ("file:///pub/https://h/x?a=//b", "pub"),
    ] {
        assert_eq!(needed("resources/read", &json!({ "uri": uri })), expected, "{uri}");
        let listen = json!({ "notifications": { "resourceSubscriptions": [uri] } });
        assert_eq!(needed("subscriptions/listen", &listen), expected, "{uri}");
    }
    let long = format!("file:///pub/{}", "a".repeat(16 * 1024));
    assert_eq!(needed("resources/read", &json!({ "uri": long })), everything);
    let unknown = |uris: Value| json!({ "notifications": { "taskIds": ["1"], "resourceSubscriptions": uris } });
    assert_eq!(needed("subscriptions/listen", &unknown(json!([]))), "base");
    assert_eq!(needed("subscriptions/listen", &unknown(json!(["file:///pub/a"]))), everything);
}

/// A call of `run` with `force` needs more, however its truth is spelled.
#[test]
fn a_value_of_another_type_does_not_slip_past_a_rule() {
    let scopes = |text: &str| text.parse::<ScopeSet>().expect("test scopes");
    let rule = |when: Vec<(String, Value)>, held: &str| Rule {
        target: Target::Tool("run".into()),
        when,
        scopes: scopes(held),
    };
    let when = |key: &str, value: Value| vec![(key.to_owned(), value)];
    let policy = Policy::new(
        vec![
            rule(vec![], "run"),
            rule(when("force", json!(true)), "admin"),
            rule(when("level", json!(2)), "high"),
            rule(when("level", json!("auto")), "auto"),
            rule(when("mode", json!("1")), "one"),
        ],
        Some(scopes("base")),
    );
    let everything = policy.scopes().to_string();
    for (arguments, expected) in [
        (json!({}), "run"),
        (json!({ "force": false }), "run"),
        (json!({ "force": null }), "run"),
        (json!({ "force": true }), "run admin"),
        (json!({ "force": "true" }), &*everything),
        (json!({ "force": "yes" }), &*everything),
        (json!({ "force": 1 }), &*everything),
        (json!({ "level": 1 }), "run"),
        (json!({ "level": 2.0 }), "run high"),
        (json!({ "level": "auto" }), "run auto"),
        (json!({ "level": "2" }), &*everything),
        (json!({ "level": true }), &*everything),
        (json!({ "mode": "1" }), "run one"),
        (json!({ "mode": "2" }), "run"),
        (json!({ "mode": 1 }), &*everything),
        (json!({ "mode": true }), &*everything),
    ] {
        let verdict = verdict(&policy, "", "tools/call", &json!({ "name": "run", "arguments": arguments }));
        assert_eq!(verdict.split(" / ").next(), Some(expected), "{arguments}");
    }
}

/// Nobody may make a call that could be one which no rule is about.
#[test]
fn without_a_rule_for_every_call_no_scope_allows_an_ambiguous_one() {
    let target = Target::Tool("run".into());
    let rule = Rule { target, when: vec![("mode".into(), json!("safe"))], scopes: "safe".parse().expect("scopes") };
    let policy = Policy::new(vec![rule], None);
    let call = |arguments: Value| json!({ "name": "run", "arguments": arguments });
    assert_eq!(verdict(&policy, "safe", "tools/call", &call(json!({ "mode": "safe" }))), "allowed");
    for arguments in [json!({ "mode": ["safe"] }), json!({ "mode": "safe", "Mode": "other" }), json!("{}")] {
        assert_eq!(verdict(&policy, "safe", "tools/call", &call(arguments.clone())), "no rule", "{arguments}");
    }
}

/// Without default scopes, what one reading of a URI names and another does not is denied.
#[test]
fn a_resource_is_allowed_in_every_reading_or_not_at_all() {
    let scopes = |text: &str| text.parse::<ScopeSet>().expect("test scopes");
    let rule = |pattern: &str, held: &str| Rule {
        target: Target::Resource(pattern.into()),
        when: vec![],
        scopes: scopes(held),
    };
    let policy = Policy::new(
        vec![
            rule("Config://App", "app"),
            rule("file:///a%20b", "blank"),
            rule("file:///star%2A", "star"),
            rule("file:///{path}", "template"),
            rule("web://https://*", "web"),
            rule("notes://*", "notes"),
        ],
        None,
    );
    for (uri, expected) in [
        ("Config://App", "app"),
        ("config://App", "app"),
        ("config://app", "no rule"),
        ("file:///a%20b", "blank"),
        ("file:///a b", "blank"),
        ("file:///star*", "no rule"),
        ("file:///starlight", "no rule"),
        ("file:///{path}", "template"),
        ("web://https://h/x", "web"),
        ("notes://1", "notes"),
        ("NOTES://1", "no rule"),
        ("notes://../1", "no rule"),
    ] {
        let verdict = verdict(&policy, "", "resources/read", &json!({ "uri": uri }));
        assert_eq!(verdict.split(" / ").next(), Some(expected), "{uri}");
    }
}
