//! The modern era: headers, cancellation, subscriptions.

use super::*;

#[test]
fn modern_requests_carry_their_headers_and_nothing_of_the_other_era() {
    let remote = Remote::start(|asked, answering| {
        answering.json(200, &[("Mcp-Session-Id", "ignored")], &result(&asked.body["id"]));
    });
    let mut connect = Connect::to(&remote.url());
    for (id, (method, params, name)) in (1..).zip([
        ("server/discover", json!({}), None),
        ("tools/call", json!({ "name": "Grüße" }), Some("=?base64?R3LDvMOfZQ==?=")),
        ("prompts/get", json!({ "name": " p" }), Some("=?base64?IHA=?=")),
        ("resources/read", json!({ "uri": "a:b%20c" }), Some("a:b%20c")),
        ("tasks/get", json!({ "name": "x" }), None),
    ]) {
        connect.send(&modern(id, method, params));
        assert_eq!(connect.next()["id"], id);
        let asked = remote.asked().pop().expect("a request");
        assert_eq!(asked.header("mcp-method"), Some(method));
        assert_eq!(asked.header("mcp-name"), name, "{method}");
        assert_eq!(asked.header("mcp-protocol-version"), Some(MODERN));
        assert_eq!(asked.header("mcp-session-id"), None);
        assert_eq!(asked.header("accept"), Some("application/json, text/event-stream"));
    }
    connect.end();
    assert!(remote.asked().iter().all(|asked| asked.http == "POST"));
}

#[test]
fn to_cancel_a_modern_request_closes_it_and_sends_nothing() {
    let remote = Remote::start(|asked, answering| match asked.body["id"].as_u64() {
        Some(1) => answering.stream(&[]).wait_for_its_end(),
        _ => answering.json(200, &[], &result(&asked.body["id"])),
    });
    let mut connect = Connect::to(&remote.url());
    connect.send(&modern(9, "server/discover", json!({})));
    connect.next();
    connect.send(&modern(1, "tools/call", json!({ "name": "t" })));
    remote.wait_for(|asked| asked.body["id"] == 1);
    let params = json!({ "requestId": 1 });
    connect.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }));
    remote.wait_for_ends(1);
    connect.send(&modern(2, "tools/call", json!({ "name": "t" })));
    assert_eq!(connect.next()["id"], 2);
    connect.end();
    assert_eq!(remote.asked().len(), 3);
}

#[test]
fn headers_that_a_tool_wants_are_learnt_when_the_client_has_not_listed_it() {
    let tool = json!({ "name": "t", "inputSchema": { "type": "object", "properties": {
        "region": { "type": "string", "x-mcp-header": "Region" },
    } } });
    let remote = Remote::start(move |asked, answering| {
        let id = &asked.body["id"];
        match (asked.method(), asked.header("mcp-param-region"), asked.body["params"]["cursor"].as_str()) {
            ("tools/list", _, None) => {
                let result = json!({ "resultType": "complete", "tools": [], "nextCursor": "2" });
                answering.json(200, &[], &json!({ "jsonrpc": "2.0", "id": id, "result": result }));
            }
            ("tools/list", _, Some("2")) => {
                let result = json!({ "resultType": "complete", "tools": [tool] });
                answering.json(200, &[], &json!({ "jsonrpc": "2.0", "id": id, "result": result }));
            }
            ("tools/call", None, _) => {
                let error = json!({ "code": -32020, "message": "Header mismatch" });
                answering.json(400, &[], &json!({ "jsonrpc": "2.0", "id": id, "error": error }));
            }
            _ => answering.json(200, &[], &result(id)),
        }
    });
    let mut connect = Connect::to(&remote.url());
    connect.send(&modern(1, "tools/call", json!({ "name": "t", "arguments": { "region": "a" } })));
    assert_eq!(connect.next(), result(&json!(1)));
    // Without the argument there is no header to add, and no second attempt.
    connect.send(&modern(2, "tools/call", json!({ "name": "t", "arguments": {} })));
    assert_eq!(connect.next()["error"]["code"], -32020);
    connect.end();
    let asked = remote.asked();
    assert_eq!(asked.iter().filter(|asked| asked.method() == "tools/call").count(), 3);
    assert!(asked.iter().all(|asked| asked.body["params"]["_meta"] == meta()));
}

#[test]
fn an_error_of_the_first_request_makes_no_legacy_server_of_a_modern_one() {
    let remote = Remote::start(|asked, answering| match asked.method() {
        "server/discover" => {
            let result = json!({ "resultType": "complete", "supportedVersions": [MODERN], "capabilities": {} });
            answering.json(200, &[], &json!({ "jsonrpc": "2.0", "id": asked.body["id"], "result": result }));
        }
        "initialize" => answering.json(200, &[], &initialized(&asked.body["id"])),
        _ => {
            let error = json!({ "code": -32602, "message": "Unknown tool" });
            answering.json(200, &[], &json!({ "jsonrpc": "2.0", "id": asked.body["id"], "error": error }));
        }
    });
    let mut connect = Connect::to(&remote.url());
    for id in 1..3 {
        connect.send(&modern(id, "tools/call", json!({ "name": "none" })));
        let answer = connect.next();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!(-32602)));
    }
    connect.end();
    assert!(remote.asked().iter().all(|asked| asked.method() != "initialize"));
}

#[test]
fn a_subscription_survives_the_network_and_tells_of_the_gap() {
    let agreed = json!({ "toolsListChanged": true, "resourceSubscriptions": ["a:b"] });
    let remote = Remote::start(move |asked, answering| {
        if asked.method() != "subscriptions/listen" {
            return answering.json(200, &[], &result(&asked.body["id"]));
        }
        if asked.nth == 1 {
            return answering.status(502, &[]);
        }
        let mut stream = answering.stream(&[]);
        let told = |method: &str, mut params: Value| {
            params["_meta"] = json!({ SUBSCRIPTION_ID: 1 });
            json!({ "jsonrpc": "2.0", "method": method, "params": params })
        };
        stream.message(&told("notifications/subscriptions/acknowledged", json!({ "notifications": agreed })));
        if asked.nth == 2 {
            stream.message(&told("notifications/prompts/list_changed", json!({})));
            stream.wait_for_its_end();
        }
    });
    let mut connect = Connect::to(&remote.url());
    connect.send(&modern(9, "server/discover", json!({})));
    connect.next();
    connect.send(&modern(1, "subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } })));
    let told: Vec<Value> = (0..4).map(|_| connect.next()).collect();
    let methods: Vec<&str> = told.iter().filter_map(|told| told["method"].as_str()).collect();
    // The keys of the scripted object are in alphabetical order.
    assert_eq!(
        methods,
        [
            "notifications/subscriptions/acknowledged",
            "notifications/resources/updated",
            "notifications/tools/list_changed",
            "notifications/prompts/list_changed",
        ]
    );
    assert_eq!(told[1]["params"]["uri"], "a:b");
    assert!(told.iter().all(|told| told["params"]["_meta"][SUBSCRIPTION_ID] == 1), "{told:?}");
    let params = json!({ "requestId": 1 });
    connect.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }));
    remote.wait_for_ends(1);
    connect.end();
}

#[test]
fn a_subscription_is_made_again_though_a_server_said_nothing_to_it_once() {
    let remote = Remote::start(|asked, answering| {
        if asked.method() != "subscriptions/listen" {
            return answering.json(200, &[], &result(&asked.body["id"]));
        }
        if asked.nth == 1 {
            return answering.say_nothing();
        }
        let params = json!({ "notifications": { "toolsListChanged": true }, "_meta": { SUBSCRIPTION_ID: 1 } });
        let method = "notifications/subscriptions/acknowledged";
        let mut stream = answering.stream(&[]);
        stream.message(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
        if asked.nth == 2 {
            stream.wait_for_its_end();
        }
    });
    let mut connect = Connect::start(&Connect::line(&remote.url()).flag("--request-timeout", "1s"));
    connect.send(&modern(9, "server/discover", json!({})));
    connect.next();
    connect.send(&modern(1, "subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } })));
    assert_eq!(connect.next()["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(connect.next()["method"], "notifications/tools/list_changed");
    let params = json!({ "requestId": 1 });
    connect.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }));
    remote.wait_for_ends(2);
    connect.end();
}
