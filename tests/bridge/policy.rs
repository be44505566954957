//! Who may do what: scopes, rules, and the step-up that a refusal asks for.

use serde_json::{Value, json};

use crate::common::{
    bridge::Scratch,
    challenge::Challenge,
    http::Response,
    mcp,
    world::{ALL_SCOPES, World},
};

const OPERATIONS: [(&str, &str, &str); 4] =
    [("add", "op:add", "9"), ("subtract", "op:sub", "3"), ("multiply", "op:mult", "18"), ("divide", "op:div", "2")];

/// 403 that names everything the operation needs, so that one more consent is enough.
fn check_missing(world: &World, case: &str, response: &Response, scope: &str, id: &Value) {
    assert_eq!(response.status, 403, "{case}: {response:?}");
    let challenge = Challenge::of(response);
    assert_eq!(challenge.names(), ["error", "scope", "resource_metadata", "error_description"], "{case}");
    assert_eq!(challenge.get("error"), Some("insufficient_scope"), "{case}");
    assert_eq!(challenge.get("scope"), Some(scope), "{case}");
    assert_eq!(challenge.get("resource_metadata"), Some(world.metadata_url().as_str()), "{case}");
    let value = response.header("WWW-Authenticate").unwrap_or_default();
    let start = format!(
        r#"Bearer error="insufficient_scope", scope="{scope}", resource_metadata="{}", "#,
        world.metadata_url()
    );
    assert!(value.starts_with(&start), "{case}: {value}");
    assert_eq!(response.header("Cache-Control"), Some("no-store"), "{case}");
    assert_eq!(response.header("Content-Type"), Some("application/json"), "{case}");
    let plural = if scope.contains(' ') { "s" } else { "" };
    let expected = json!({
        "jsonrpc": "2.0",
        "id": id,
        "error": { "code": 403, "message": format!("Missing required scope{plural} \"{scope}\"") },
    });
    assert_eq!(response.json(), expected, "{case}");
}

#[test]
fn each_operation_needs_its_own_scope_and_no_other() {
    let world = World::start();
    for (_, held, _) in OPERATIONS {
        let token = world.token(held);
        for (operation, needed, result) in OPERATIONS {
            let case = format!("{operation} with {held}");
            if held == needed {
                let response = world.call(&token, operation).expect(200, &case);
                assert_eq!(mcp::text(&response.json()), result, "{case}");
            } else {
                let response = world.without_run(&case, || world.call(&token, operation));
                check_missing(&world, &case, &response, needed, &json!(1));
            }
        }
    }
}

#[test]
fn the_refusal_carries_the_requests_id() {
    let world = World::start();
    let token = world.token("op:add");
    for id in [json!(0), json!(-7), json!("call \u{e4}\"\\"), json!(9_007_199_254_740_993_u64), json!("")] {
        let body = json!({
            "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": { "name": "calculator", "arguments": { "operation": "divide", "a": 1, "b": 2 }, "_meta": mcp::meta() },
        });
        let response = world.send(&mcp::call("divide").json(&body).bearer(&token));
        check_missing(&world, &id.to_string(), &response, "op:div", &id);
    }
}

#[test]
fn a_legacy_session_gets_the_same_refusal() {
    let world = World::start();
    let token = world.token("op:add");
    let session = world.session(&token);
    let response = world.without_run("legacy", || world.send(&mcp::legacy_call(&session, "divide").bearer(&token)));
    check_missing(&world, "legacy", &response, "op:div", &json!(2));
    let response = world.send(&mcp::legacy_call(&session, "add").bearer(&token)).expect(200, "legacy add");
    assert_eq!(mcp::text(&response.json()), "9");
}

/// More consent in mid-session needs no new session.
#[test]
fn a_step_up_works_at_once() {
    let world = World::start();
    let mut answer = world.answer("op:add");
    let first = world.grant(&answer);
    let session = world.session(&first);
    world.send(&mcp::legacy_call(&session, "divide").bearer(&first)).expect(403, "before");
    answer["scope"] = "op:add op:div".into();
    let second = world.grant(&answer);
    world.send(&mcp::legacy_call(&session, "divide").bearer(&second)).expect(200, "after");
    world.without_run("the old token", || world.call(&first, "divide")).expect(403, "the old token");
}

#[test]
fn what_reads_nothing_needs_a_token_and_no_scope() {
    let world = World::start();
    let token = world.token("");
    for method in ["server/discover", "tools/list"] {
        let request = mcp::modern(method, json!({}));
        world.send(&request.clone().bearer(&token)).expect(200, method);
        world.send(&request).expect(401, method);
    }
    let session = world.session(&token);
    for method in ["ping", "tools/list"] {
        let request = mcp::legacy(&session, &json!({ "jsonrpc": "2.0", "id": 3, "method": method }));
        world.send(&request.clone().bearer(&token)).expect(200, method);
        world.send(&request).expect(401, method);
    }
}

/// Two readings of one body must be impossible: who checks must see what runs.
#[test]
fn repeated_keys_are_refused() {
    let world = World::start();
    let token = world.token("op:add");
    let meta = mcp::meta();
    let call = |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
    let arguments = |text: &str| call(&format!(r#"{{"name":"calculator","arguments":{text},"_meta":{meta}}}"#));
    let plain = r#"{"operation":"add","a":6,"b":3}"#;
    let cases = [
        ("operation", arguments(r#"{"operation":"add","operation":"divide","a":6,"b":3}"#)),
        ("operation, the other way", arguments(r#"{"operation":"divide","a":6,"b":3,"operation":"add"}"#)),
        ("operation, escaped", arguments(r#"{"operation":"add","\u006fperation":"divide","a":6,"b":3}"#)),
        (
            "arguments",
            call(&format!(
                r#"{{"name":"calculator","arguments":{plain},"arguments":{{"operation":"divide","a":6,"b":3}},"_meta":{meta}}}"#
            )),
        ),
        ("name", call(&format!(r#"{{"name":"calculator","name":"other","arguments":{plain},"_meta":{meta}}}"#))),
        ("_meta", call(&format!(r#"{{"name":"calculator","arguments":{plain},"_meta":{meta},"_meta":{meta}}}"#))),
        (
            "params",
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"calculator","arguments":{plain},"_meta":{meta}}},"params":{{}}}}"#
            ),
        ),
        (
            "method",
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{{"name":"calculator","arguments":{plain},"_meta":{meta}}}}}"#
            ),
        ),
        (
            "id",
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/call","params":{{"name":"calculator","arguments":{plain},"_meta":{meta}}}}}"#
            ),
        ),
    ];
    for (case, body) in cases {
        for token in [&token, world.good()] {
            let request = mcp::call("add").body(body.clone()).bearer(token);
            let response = world.without_run(case, || world.send(&request)).expect(400, case);
            assert!(matches!(response.code(), Some(-32700..=-32600)), "{case}: {}", response.text());
        }
    }
}

/// The decision is about the value that runs, however it is written.
#[test]
fn spelling_does_not_change_the_operation() {
    let world = World::start();
    let token = world.token("op:add");
    let meta = mcp::meta();
    let body = |operation: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"calculator","arguments":{{"a":6,"b":3,"operation":{operation}}},"_meta":{meta}}}}}"#
        )
    };
    let escaped = mcp::call("add").body(body(r#""\u0064ivide""#)).bearer(&token);
    let response = world.without_run("escaped divide", || world.send(&escaped));
    check_missing(&world, "escaped divide", &response, "op:div", &json!(1));
    let escaped = mcp::call("add").body(body(r#""\u0061dd""#)).bearer(&token);
    let response = world.send(&escaped).expect(200, "escaped add");
    assert_eq!(mcp::text(&response.json()), "9");
    // Nothing but the four words is an operation, and nothing else gets in on `op:add`.
    for operation in [r#""ADD""#, r#"" add""#, r#"["add"]"#, r#"{"add":1}"#, "null", "1", r#""power""#] {
        let request = mcp::call("add").body(body(operation)).bearer(&token);
        let response = world.send(&request);
        let refused = matches!(response.status, 400 | 403) || response.json()["result"]["isError"] == true;
        assert!(refused, "{operation}: {response:?} {}", response.text());
    }
}

#[test]
fn an_unknown_tool_is_nobodys() {
    let world = World::start();
    for (case, name) in [("unknown", "calc"), ("case", "Calculator"), ("space", "calculator "), ("empty", "")] {
        let mut params = mcp::arguments("add");
        params["name"] = name.into();
        let mut request = mcp::modern("tools/call", params);
        if name.ends_with(' ') || name.is_empty() {
            // A header cannot say this in plain text.
            let encoded = if name.is_empty() { "=?base64??=" } else { "=?base64?Y2FsY3VsYXRvciA=?=" };
            request = request.with("Mcp-Name", encoded);
        }
        let response = world.without_run(case, || world.send(&request.bearer(world.good())));
        assert!(matches!(response.status, 200 | 400 | 403 | 404), "{case}: {response:?}");
        let body = response.json();
        assert!(body["error"]["code"].is_i64(), "{case}: {body}");
        assert_eq!(body["id"], 1, "{case}");
        assert_eq!(response.header("WWW-Authenticate").is_some(), response.status == 403, "{case}");
    }
}

#[test]
fn rules_of_the_configuration_replace_the_built_in_ones() {
    let scratch = Scratch::new();
    let file = scratch.file(
        "bridge.toml",
        r#"
        [[policy.rule]]
        tool = "calculator"
        when = { operation = "divide" }
        scopes = ["math:risky", "math"]

        [[policy.rule]]
        tool = "calculator"
        when = { operation = "add" }
        scopes = ["math"]
        "#,
    );
    let world = World::with_scopes("math math:risky", |line| line.flag("--config", file));
    let math = world.token("math");
    world.call(&math, "add").expect(200, "add with math");
    let response = world.without_run("divide with math", || world.call(&math, "divide"));
    check_missing_all(&world, &response, "math:risky math", "math:risky");
    let both = world.token("math math:risky");
    world.call(&both, "divide").expect(200, "divide with both");
    // As soon as a rule exists, what no rule names is denied, whatever the token holds.
    let everything = world.token(&format!("math math:risky {ALL_SCOPES}"));
    world.without_run("subtract", || world.call(&everything, "subtract")).expect(403, "subtract");
    let built_in = world.token(ALL_SCOPES);
    let response = world.without_run("add with op:add", || world.call(&built_in, "add")).expect(403, "op:add");
    assert_eq!(Challenge::of(&response).get("scope"), Some("math"));
    let response = world.send(&mcp::call("add")).expect(401, "no token");
    let scopes = Challenge::of(&response).get("scope").unwrap_or_default().to_owned();
    let mut scopes: Vec<&str> = scopes.split(' ').collect();
    scopes.sort_unstable();
    assert_eq!(scopes, ["math", "math:risky"], "the first challenge asks for what this policy needs");
}

#[test]
fn who_may_not_call_a_tool_does_not_see_it_where_lists_are_filtered() {
    let scratch = Scratch::new();
    let file = scratch.file("bridge.toml", "[[policy.rule]]\ntool = \"calculator\"\nscopes = [\"math\"]\n");
    let world = World::with_scopes("math", |line| line.flag("--config", file).switch("--filter-lists"));
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let modern = |token: &str| world.send(&mcp::modern("tools/list", json!({})).bearer(token)).expect(200, "modern");
    let legacy = |token: &str| {
        let session = world.session(token);
        world.send(&mcp::legacy(&session, &list).bearer(token)).expect(200, "legacy")
    };
    let names = |response: &Response| -> Vec<String> {
        let tools = response.json()["result"]["tools"].as_array().expect("a list of tools").clone();
        tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
    };
    let (allowed, refused) = (world.token("math"), world.token("other"));
    for (response, expected) in [
        (modern(&allowed), vec!["calculator"]),
        (legacy(&allowed), vec!["calculator"]),
        (modern(&refused), vec![]),
        (legacy(&refused), vec![]),
    ] {
        assert_eq!(names(&response), expected);
    }
    // A cache between two users must not show one what the other may see.
    assert_eq!(modern(&allowed).json()["result"]["cacheScope"], "private");
}

/// The challenge names every scope of the operation, the message those that are missing.
fn check_missing_all(world: &World, response: &Response, scope: &str, missing: &str) {
    assert_eq!(response.status, 403, "{response:?}");
    let challenge = Challenge::of(response);
    assert_eq!(challenge.get("scope"), Some(scope));
    assert_eq!(challenge.get("resource_metadata"), Some(world.metadata_url().as_str()));
    let message = format!("Missing required scope \"{missing}\"");
    assert_eq!(response.json()["error"]["message"], message.as_str());
}

#[test]
fn several_missing_scopes_are_named_together() {
    let scratch = Scratch::new();
    let file = scratch.file(
        "bridge.toml",
        r#"
        [policy]
        default_scopes = ["mcp"]

        [[policy.rule]]
        tool = "calculator"
        when = { operation = "divide" }
        scopes = ["op:add", "op:div"]
        "#,
    );
    let world = World::with_scopes("mcp", |line| line.flag("--config", file));
    let token = world.token("mcp");
    world.call(&token, "add").expect(200, "default scopes");
    let response = world.without_run("divide", || world.call(&token, "divide"));
    check_missing(&world, "divide", &response, "op:add op:div", &json!(1));
}

/// Clients that cannot step up show their user the tool's error; ChatGPT signs in by the challenge.
#[test]
fn a_missing_scope_can_be_told_as_a_tool_error() {
    let scratch = Scratch::new();
    let audit = scratch.path("audit.jsonl");
    let world =
        World::with(|line| line.flag("--denial", "tool-error").flag("--audit-log", audit.to_str().expect("UTF-8")));
    let token = world.token("op:add");
    let plain = World::start();
    let header =
        plain.call(&plain.token("op:add"), "divide").header("WWW-Authenticate").expect("a challenge").to_owned();
    let header = header.replace(&plain.metadata_url(), &world.metadata_url());
    let check = |case: &str, response: &Response, result: &Value| {
        assert_eq!(response.header("WWW-Authenticate"), None, "{case}");
        assert_eq!(result["isError"], true, "{case}: {result}");
        assert_eq!(result["_meta"]["mcp/www_authenticate"], json!([header]), "{case}");
        let text = result["content"][0]["text"].as_str().unwrap_or_default();
        assert!(
            text.starts_with("Missing required scope \"op:div\"") && text.contains("allow op:div"),
            "{case}: {text}"
        );
    };
    let response = world.without_run("modern", || world.call(&token, "divide")).expect(200, "modern");
    let body = response.json();
    assert_eq!((&body["id"], &body["result"]["resultType"]), (&json!(1), &json!("complete")));
    check("modern", &response, &body["result"]);

    let session = world.session(&token);
    let call = mcp::legacy_call(&session, "divide").bearer(&token);
    let response = world.without_run("legacy", || world.send(&call)).expect(200, "legacy");
    let body = response.json();
    assert_eq!((&body["id"], body["result"].get("resultType")), (&json!(2), None));
    check("legacy", &response, &body["result"]);

    let stream = world.send(&mcp::call("divide").with("Accept", "text/event-stream").bearer(&token)).expect(200, "SSE");
    assert_eq!(stream.header("Content-Type"), Some("text/event-stream"));
    assert!(stream.text().contains("insufficient_scope"), "{}", stream.text());

    // It is a refusal all the same, and everybody who watches sees one.
    world.bridge.wait_for_event("of the refusal", |event| {
        event["decision"] == "refused" && event["missing"] == "op:div" && event["status"] == 200
    });
    let audit = std::fs::read_to_string(&audit).expect("the audit file");
    let refused = audit.lines().filter(|line| line.contains(r#""decision":"refused","missing":"op:div""#)).count();
    assert_eq!(refused, 3, "{audit}");
    world.call(&token, "add").expect(200, "what is allowed");
}

#[test]
fn a_notification_that_nobody_allowed_is_refused() {
    let scratch = Scratch::new();
    let rule = "[[policy.rule]]\ntool = \"calculator\"\nscopes = [\"math\"]\n";
    let file = scratch.file("bridge.toml", rule);
    let world = World::with_scopes("math", |line| line.flag("--config", file));
    let token = world.token("math");
    let session = world.session(&token);
    for (method, status) in [
        ("notifications/cancelled", 202),
        ("notifications/progress", 202),
        ("notifications/roots/list_changed", 202),
        ("notifications/vendor", 403),
        ("tools/call", 403),
    ] {
        let message = json!({ "jsonrpc": "2.0", "method": method });
        world.send(&mcp::legacy(&session, &message).bearer(&token)).expect(status, method);
    }
}
