//! The modern era (MCP 2026-07-28) over HTTP: one stateless request, one answer.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::common::{
    http::{Connection, Request, Response},
    mcp, wait_until,
    world::World,
};

const HEADER_MISMATCH: i64 = -32020;
const UNSUPPORTED_VERSION: i64 = -32022;
const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;

/// A JSON-RPC error with this status, code and id.
fn check_error(case: &str, response: &Response, status: u16, code: i64, id: &Value) {
    assert_eq!((response.status, response.code()), (status, Some(code)), "{case}: {response:?} {}", response.text());
    assert_eq!(response.header("Content-Type"), Some("application/json"), "{case}");
    let body = response.json();
    assert_eq!(body["jsonrpc"], "2.0", "{case}");
    assert_eq!(&body["id"], id, "{case}");
    assert!(body["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{case}: {body}");
    assert!(response.header("WWW-Authenticate").is_none(), "{case}");
}

fn sentinel(text: &[u8]) -> String {
    format!("=?base64?{}?=", STANDARD.encode(text))
}

#[test]
fn a_call_is_answered_with_one_json_object() {
    let world = World::start();
    for (operation, result) in [("add", "9"), ("subtract", "3"), ("multiply", "18"), ("divide", "2")] {
        let response = world.call(world.good(), operation).expect(200, operation);
        assert_eq!(response.header("Content-Type"), Some("application/json"));
        assert!(response.header("Mcp-Session-Id").is_none(), "the modern era has no sessions");
        let body = response.json();
        assert_eq!(body["jsonrpc"], "2.0");
        assert_eq!(body["id"], 1);
        assert_eq!(body["result"]["resultType"], "complete");
        assert_eq!(mcp::text(&body), result);
        assert!(body["result"]["isError"].as_bool() != Some(true));
    }
    let mut params = mcp::arguments("divide");
    params["arguments"]["b"] = json!(0);
    let response = world.send(&mcp::modern("tools/call", params).bearer(world.good())).expect(200, "by zero");
    assert_eq!(mcp::text(&response.json()), "Error: Division by zero");
    assert_eq!(response.json()["result"]["isError"], true);
}

#[test]
fn discovery_and_the_list() {
    let world = World::start();
    let discovered = world.send(&mcp::modern("server/discover", json!({})).bearer(world.good()));
    let result = discovered.expect(200, "server/discover").json()["result"].clone();
    assert_eq!(result["resultType"], "complete");
    let versions = result["supportedVersions"].as_array().expect("versions");
    assert!(versions.contains(&json!(mcp::MODERN)), "{result}");
    assert!(result["capabilities"]["tools"].is_object(), "{result}");
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "Calculator", "{result}");
    assert!(result["ttlMs"].is_u64() && result["cacheScope"].is_string(), "{result}");

    let listed = world.send(&mcp::modern("tools/list", json!({})).bearer(world.good()));
    let result = listed.expect(200, "tools/list").json()["result"].clone();
    assert_eq!(result["tools"][0]["name"], "calculator");
    assert_eq!(result["tools"].as_array().map(Vec::len), Some(1));
    assert!(result["ttlMs"].is_u64() && result["cacheScope"].is_string(), "{result}");
}

/// Every id that JSON-RPC allows comes back as it was, and no other is taken.
#[test]
fn ids() {
    let world = World::start();
    let body = |id: &str| {
        let params = json!({ "_meta": mcp::meta() });
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{params}}}"#)
    };
    let request = mcp::modern("tools/list", json!({})).bearer(world.good());
    for id in ["0", "-1", "18446744073709551615", r#""a""#, r#""""#, r#""\u00e4\"""#] {
        let response = world.send(&request.clone().body(body(id))).expect(200, id);
        let expected: Value = serde_json::from_str(id).expect("an id");
        assert_eq!(response.json()["id"], expected, "{id}");
    }
    let huge = world.send(&request.clone().body(body("123456789012345678901234567890"))).expect(200, "huge id");
    assert!(huge.text().contains(r#""id":123456789012345678901234567890"#), "{}", huge.text());
    for id in ["null", "1.5", "1e3", "true", "[]", "{}"] {
        let response = world.send(&request.clone().body(body(id)));
        check_error(id, &response, 400, INVALID_REQUEST, &Value::Null);
    }
}

#[test]
fn headers_that_disagree_with_the_body_are_refused() {
    let world = World::start();
    let call = mcp::call("add").bearer(world.good());
    let list = mcp::modern("tools/list", json!({})).bearer(world.good());
    let mut old = mcp::meta();
    old["io.modelcontextprotocol/protocolVersion"] = "2025-11-25".into();
    let old_in_body = mcp::modern("tools/list", json!({ "_meta": old })).bearer(world.good());
    let cases: [(&str, Request); 22] = [
        ("no version", call.clone().without("MCP-Protocol-Version")),
        ("another version", call.clone().with("MCP-Protocol-Version", "2025-11-25")),
        ("another version in the body", old_in_body),
        ("unknown version in the header only", call.clone().with("MCP-Protocol-Version", "v999.0.0")),
        ("empty version", call.clone().with("MCP-Protocol-Version", "")),
        ("version twice", call.clone().header("MCP-Protocol-Version", mcp::MODERN)),
        ("no method", call.clone().without("Mcp-Method")),
        ("another method", call.clone().with("Mcp-Method", "tools/list")),
        ("method in capitals", list.clone().with("Mcp-Method", "TOOLS/LIST")),
        ("method with more", list.clone().with("Mcp-Method", "tools/list,tools/call")),
        ("method twice", list.clone().header("Mcp-Method", "tools/list")),
        ("two methods", list.clone().header("Mcp-Method", "tools/call")),
        ("no name", call.clone().without("Mcp-Name")),
        ("another name", call.clone().with("Mcp-Name", "other")),
        ("name in another case", call.clone().with("Mcp-Name", "Calculator")),
        ("empty name", call.clone().with("Mcp-Name", "")),
        ("name twice", call.clone().header("Mcp-Name", "calculator")),
        ("name in Latin-1", call.clone().with("Mcp-Name", b"calculator\xe4")),
        ("another name in base64", call.clone().with("Mcp-Name", sentinel(b"other"))),
        ("not base64", call.clone().with("Mcp-Name", "=?base64?Y2F$?=")),
        ("base64 without padding", call.clone().with("Mcp-Name", "=?base64?Y2FsY3VsYXRvcg?=")),
        ("not UTF-8 in base64", call.clone().with("Mcp-Name", sentinel(b"calculator\xff"))),
    ];
    for (case, request) in cases {
        let response = world.without_run(case, || world.send(&request));
        check_error(case, &response, 400, HEADER_MISMATCH, &json!(1));
    }
    // The markers are case-sensitive: this is a plain value, and another one than the body's.
    let shouted = sentinel(b"calculator").replace("base64", "BASE64");
    let response = world.without_run("BASE64", || world.send(&call.clone().with("Mcp-Name", shouted)));
    check_error("BASE64", &response, 400, HEADER_MISMATCH, &json!(1));
}

#[test]
fn headers_that_agree_are_accepted_however_they_are_written() {
    let world = World::start();
    let call = mcp::call("add").bearer(world.good());
    let cases: [(&str, Request); 6] = [
        ("base64 name", call.clone().with("Mcp-Name", sentinel(b"calculator"))),
        ("lower-case names", {
            let bare = call.clone().without("Mcp-Name").without("Mcp-Method").without("MCP-Protocol-Version");
            bare.header("mcp-name", "calculator")
                .header("mcp-method", "tools/call")
                .header("mcp-protocol-version", mcp::MODERN)
        }),
        ("upper-case names", {
            let bare = call.clone().without("Mcp-Name").without("Mcp-Method");
            bare.header("MCP-NAME", "calculator").header("MCP-METHOD", "tools/call")
        }),
        ("white space around values", {
            let spaced = call.clone().with("Mcp-Name", "  calculator \t ").with("Mcp-Method", "\t tools/call  ");
            spaced.with("MCP-Protocol-Version", "  2026-07-28  ")
        }),
        ("a session id is ignored", call.clone().header("Mcp-Session-Id", "whatever")),
        ("unknown parameter headers are ignored", call.clone().header("Mcp-Param-Region", "us-west1")),
    ];
    for (case, request) in cases {
        let response = world.send(&request).expect(200, case);
        assert_eq!(mcp::text(&response.json()), "9", "{case}");
        assert!(response.header("Mcp-Session-Id").is_none(), "{case}");
    }
    // No name is needed where there is none in the body.
    world.send(&mcp::modern("tools/list", json!({})).bearer(world.good())).expect(200, "no name");
}

#[test]
fn versions_that_are_not_served_are_told_which_are() {
    let world = World::start();
    let supported = world.send(&mcp::modern("server/discover", json!({})).bearer(world.good())).json();
    let supported = supported["result"]["supportedVersions"].clone();
    for version in ["v999.0.0", "2027-01-01", "1900-01-01", "2026-07-28-draft", "\u{7f51}"] {
        let mut meta = mcp::meta();
        meta["io.modelcontextprotocol/protocolVersion"] = version.into();
        let request = mcp::modern("tools/call", {
            let mut params = mcp::arguments("add");
            params["_meta"] = meta;
            params
        });
        if !version.is_ascii() {
            let response = world.send(&request.bearer(world.good()));
            check_error(version, &response, 400, HEADER_MISMATCH, &json!(1));
            continue;
        }
        let request = request.with("MCP-Protocol-Version", version).bearer(world.good());
        let response = world.without_run(version, || world.send(&request));
        check_error(version, &response, 400, UNSUPPORTED_VERSION, &json!(1));
        let data = &response.json()["error"]["data"];
        assert_eq!(data["requested"], version);
        let told = data["supported"].as_array().expect("supported versions");
        assert!(told.contains(&json!(mcp::MODERN)), "{data}");
        let discovered = supported.as_array().expect("supported versions");
        assert!(told.iter().all(|version| discovered.contains(version)), "{told:?} {discovered:?}");
    }
}

#[test]
fn methods_that_are_not_served() {
    let world = World::start();
    let removed =
        ["initialize", "ping", "logging/setLevel", "unknown/method", "tools/List", "tools/call ", "", "rpc.discover"];
    for method in removed {
        let header = if method.trim() == method && !method.is_empty() { method } else { "x" };
        let request = mcp::modern(method, json!({})).with("Mcp-Method", header).bearer(world.good());
        let response = world.without_run(method, || world.send(&request));
        if header == method {
            check_error(method, &response, 404, METHOD_NOT_FOUND, &json!(1));
        } else {
            check_error(method, &response, 400, HEADER_MISMATCH, &json!(1));
        }
    }
    // Nor does it matter that the client could not read the answer to it.
    let listen = mcp::modern("subscriptions/listen", json!({ "notifications": {} })).with("Accept", "application/json");
    check_error("listen", &world.send(&listen.bearer(world.good())), 404, METHOD_NOT_FOUND, &json!(1));
    // What a server without prompts and resources says is "not found", not "forbidden" or "empty".
    for method in ["prompts/list", "resources/list", "completion/complete"] {
        let response = world.send(&mcp::modern(method, json!({})).bearer(world.good()));
        check_error(method, &response, 404, METHOD_NOT_FOUND, &json!(1));
    }
}

/// A method that is not served is not found, whatever else is wrong with the request.
#[test]
fn methods_that_are_not_served_need_no_parameters() {
    let world = World::start();
    for method in ["resources/subscribe", "resources/unsubscribe", "resources/read", "prompts/get"] {
        let mut request = mcp::modern(method, json!({})).bearer(world.good());
        if method == "resources/read" || method == "prompts/get" {
            request = request.header("Mcp-Name", "x");
        }
        let response = world.without_run(method, || world.send(&request));
        check_error(method, &response, 404, METHOD_NOT_FOUND, &json!(1));
    }
}

#[test]
fn what_every_request_must_say_about_itself() {
    let world = World::start();
    let without = |key: &str| {
        let mut meta = mcp::meta();
        meta.as_object_mut().expect("an object").remove(key);
        meta
    };
    let with = |key: &str, value: Value| {
        let mut meta = mcp::meta();
        meta[key] = value;
        meta
    };
    let version = "io.modelcontextprotocol/protocolVersion";
    let capabilities = "io.modelcontextprotocol/clientCapabilities";
    let cases = [
        ("empty _meta", json!({})),
        ("no version", without(version)),
        ("no capabilities", without(capabilities)),
        ("capabilities are null", with(capabilities, Value::Null)),
        ("capabilities are a list", with(capabilities, json!([]))),
        ("_meta is null", Value::Null),
        ("_meta is text", json!("2026-07-28")),
    ];
    for (case, meta) in cases {
        let mut params = mcp::arguments("add");
        params["_meta"] = meta;
        let response = world.without_run(case, || world.send(&mcp::modern("tools/call", params).bearer(world.good())));
        check_error(case, &response, 400, INVALID_PARAMS, &json!(1));
    }
    let bare = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let request = mcp::modern("tools/list", json!({})).bearer(world.good());
    check_error("no params", &world.send(&request.clone().json(&bare)), 400, INVALID_PARAMS, &json!(1));
    // `clientInfo` is a SHOULD: its absence is no fault.
    let params = json!({ "_meta": without("io.modelcontextprotocol/clientInfo") });
    world.send(&mcp::modern("tools/list", params).bearer(world.good())).expect(200, "no clientInfo");
}

#[test]
fn bodies_that_are_no_single_message() {
    let world = World::start();
    let call = mcp::call("add").bearer(world.good());
    let good = String::from_utf8(call.bytes(world.bridge.address())).expect("text");
    let good = good.split_once("\r\n\r\n").expect("a body").1.to_owned();
    let cases = [
        ("empty", String::new(), PARSE_ERROR),
        ("not JSON", "hello".to_owned(), PARSE_ERROR),
        ("cut", good[..good.len() - 1].to_owned(), PARSE_ERROR),
        ("two messages", format!("{good}{good}"), PARSE_ERROR),
        ("trailing comma", good.replace("\"a\":6", "\"a\":6,"), PARSE_ERROR),
        ("NaN", good.replace(":6", ":NaN"), PARSE_ERROR),
        ("batch", format!("[{good}]"), INVALID_REQUEST),
        ("batch of two", format!("[{good},{good}]"), INVALID_REQUEST),
        ("empty batch", "[]".to_owned(), INVALID_REQUEST),
        ("text", r#""tools/call""#.to_owned(), INVALID_REQUEST),
        ("null", "null".to_owned(), INVALID_REQUEST),
        ("empty object", "{}".to_owned(), INVALID_REQUEST),
    ];
    for (case, body, code) in cases {
        let response = world.without_run(case, || world.send(&call.clone().body(body.clone())));
        check_error(case, &response, 400, code, &Value::Null);
    }
    let objects = [
        ("no version", json!({ "id": 1, "method": "tools/list" })),
        ("another version", json!({ "jsonrpc": "1.0", "id": 1, "method": "tools/list" })),
        ("version is a number", json!({ "jsonrpc": 2.0, "id": 1, "method": "tools/list" })),
        ("method is a number", json!({ "jsonrpc": "2.0", "id": 1, "method": 1 })),
        ("no method", json!({ "jsonrpc": "2.0", "id": 1 })),
        ("request and answer at once", json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "result": {} })),
    ];
    for (case, body) in objects {
        let response = world.send(&call.clone().json(&body));
        assert_eq!((response.status, response.code()), (400, Some(INVALID_REQUEST)), "{case}: {}", response.text());
    }
    for (case, params) in [("params are a list", json!([1])), ("params are text", json!("x"))] {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params });
        let response = world.send(&call.clone().json(&body));
        let code = response.code();
        assert!(
            response.status == 400 && matches!(code, Some(INVALID_REQUEST | INVALID_PARAMS)),
            "{case}: {response:?}"
        );
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = good.replace(":6", &format!(":{deep}"));
    let response = world.send(&call.clone().body(nested));
    assert!(matches!(response.status, 200 | 400 | 413), "deep nesting: {response:?}");
    for bytes in [&b"\xff\xfe{}"[..], b"{\"jsonrpc\":\"2.0\",\"id\":\"\xff\",\"method\":\"ping\"}", b"\0"] {
        let response = world.send(&call.clone().body(bytes));
        check_error("not UTF-8", &response, 400, PARSE_ERROR, &Value::Null);
    }
    world.call(world.good(), "add").expect(200, "still there");
}

/// JSON white space is no part of the message, and numbers may be written in any way.
#[test]
fn unusual_spelling_is_understood() {
    let world = World::start();
    let meta = mcp::meta();
    let body = format!(
        "\r\n\t {{ \"params\" : {{\r\n\"_meta\":{meta},\"arguments\":{{\"b\":0.3e1,\"a\":6.0,\"operation\":\"\\u0061dd\"}},\n\"name\":\"calcul\\u0061tor\"}},\"method\":\"tools\\/call\",\"id\":1,\"jsonrpc\":\"2.0\"}} \r\n"
    );
    let response = world.send(&mcp::call("add").body(body).bearer(world.good())).expect(200, "spelling");
    assert_eq!(mcp::text(&response.json()), "9");
}

#[test]
fn notifications_are_taken_and_answers_are_not() {
    let world = World::start();
    for method in ["notifications/cancelled", "notifications/whatever"] {
        let body = json!({ "jsonrpc": "2.0", "method": method, "params": { "requestId": 1, "_meta": mcp::meta() } });
        let request = mcp::modern(method, json!({})).json(&body).bearer(world.good());
        let response = world.send(&request).expect(202, method);
        assert!(response.body.is_empty(), "{method}");
        world.send(&request.without("Authorization")).expect(401, method);
    }
    // A call without an id is a notification: nobody could read its result, so it must not run.
    let mut params = mcp::arguments("add");
    params["_meta"] = mcp::meta();
    let body = json!({ "jsonrpc": "2.0", "method": "tools/call", "params": params });
    let request = mcp::call("add").json(&body).bearer(world.good());
    let response = world.without_run("a call without an id", || world.send(&request));
    assert!(matches!(response.status, 400 | 403), "{response:?}");
    for (case, body) in [
        ("result", json!({ "jsonrpc": "2.0", "id": 1, "result": {} })),
        ("error", json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": 1, "message": "x" } })),
    ] {
        let request = mcp::post().header("MCP-Protocol-Version", mcp::MODERN).json(&body).bearer(world.good());
        let response = world.send(&request).expect(400, case);
        assert_eq!(response.code(), Some(INVALID_REQUEST), "{case}");
    }
}

/// Sessions and streams of the legacy era are not there for modern requests.
#[test]
fn get_and_delete_are_not_of_this_era() {
    let world = World::start();
    for method in ["GET", "DELETE"] {
        let request = Request::new(method, "/mcp").header("MCP-Protocol-Version", mcp::MODERN);
        let response = world.send(&request.header("Accept", "text/event-stream").bearer(world.good()));
        assert!(matches!(response.status, 400 | 405), "{method}: {response:?}");
    }
}

/// Who hangs up while the token is still being checked does not start the tool any more.
#[test]
fn a_client_that_goes_away_has_cancelled() {
    let world = World::start();
    let token = world.token("op:add");
    world.server.hold();
    let asked = world.server.question_count();
    let address = world.bridge.address();
    world.without_run("gone before the answer", || {
        let mut connection = Connection::open(address);
        connection.write(&mcp::call("add").bearer(&token).bytes(address));
        wait_until("the question arrives", || world.server.question_count() > asked);
        drop(connection);
        for _ in 0..50 {
            world.send(&Request::get("/healthz")).expect(200, "alive");
        }
        world.server.release();
        // The question's answer is in the cache now, so this call comes after it.
        world.send(&mcp::modern("tools/list", json!({})).bearer(&token)).expect(200, "the same token later");
    });
}
