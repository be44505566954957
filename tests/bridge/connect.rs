//! `mcp-bridge connect` against scripted servers: what a lost connection, a forgetful server or a
//! broken one may not do to a client.

#[cfg(target_os = "linux")]
pub(crate) mod desktop;
pub(crate) mod rig;

use std::time::Duration;

use serde_json::{Value, json};

use self::rig::{Answering, Asked, Connect, Remote, initialize, request};
use crate::common::mcp::{LEGACY, MODERN, meta};

const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

/// A modern request.
fn modern(id: u64, method: &str, mut params: Value) -> Value {
    params["_meta"] = meta();
    request(id, method, params)
}

fn call(id: u64, name: &str) -> Value {
    request(id, "tools/call", json!({ "name": name, "arguments": {} }))
}

fn result(id: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [] } })
}

/// A legacy server that shakes hands and gives the session `s1`, `s2`, …; all else is `rest`'s.
fn legacy(rest: impl Fn(&Asked, Answering<'_>) + Send + Sync + 'static) -> Remote {
    let sessions = std::sync::atomic::AtomicUsize::new(0);
    Remote::start(move |asked, answering| match (asked.http.as_str(), asked.method()) {
        ("POST", "initialize") => {
            let number = sessions.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            answering.json(200, &[("Mcp-Session-Id", &format!("s{number}"))], &initialized(&asked.body["id"]));
        }
        ("POST", method) if method.starts_with("notifications/") => answering.status(202, &[]),
        ("DELETE", _) => answering.status(204, &[]),
        ("GET", _) if asked.header("last-event-id").is_none() => answering.status(405, &[]),
        _ => rest(asked, answering),
    })
}

fn initialized(id: &Value) -> Value {
    let server = json!({ "name": "scripted", "version": "1" });
    let result = json!({ "protocolVersion": LEGACY, "capabilities": { "tools": {} }, "serverInfo": server });
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

#[test]
fn nothing_is_opened_before_the_client_speaks() {
    let remote = Remote::start(|_, answering| answering.status(500, &[]));
    let mut connect = Connect::to(&remote.url());
    connect.send_line("this is no JSON");
    assert_eq!(connect.next()["error"]["code"], -32700);
    connect.send_line("");
    connect.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    connect.send(&json!([{ "jsonrpc": "2.0", "id": 1, "method": "ping" }]));
    assert_eq!(connect.next()["error"]["code"], -32600);
    connect.end();
    assert_eq!(remote.asked().len(), 0);
}

#[test]
fn a_session_is_named_in_every_request_and_ended_by_the_last() {
    let remote = legacy(|asked, answering| answering.json(200, &[], &result(&asked.body["id"])));
    let mut connect = Connect::to(&remote.url());
    connect.shake_hands();
    connect.send(&call(2, "t"));
    assert_eq!(connect.next(), result(&json!(2)));
    // It is asked for beside the others, and must not be taken for the last.
    remote.wait_for(|asked| asked.http == "GET");
    connect.end();
    let asked = remote.asked();
    assert_eq!(asked[0].header("mcp-session-id"), None);
    assert_eq!(asked[0].header("mcp-protocol-version"), None);
    for asked in &asked[1..] {
        assert_eq!((asked.header("mcp-session-id"), asked.header("mcp-protocol-version")), (Some("s1"), Some(LEGACY)));
        assert_eq!(asked.header("mcp-method"), None, "a header of the other era");
    }
    assert_eq!(asked.last().expect("requests").http, "DELETE");
    let get = asked.iter().find(|asked| asked.http == "GET").expect("the server's own stream was asked for");
    assert_eq!(get.header("accept"), Some("text/event-stream"));
}

#[test]
fn a_stream_that_opens_by_itself_asks_nobody_to_sign_in() {
    let remote = Remote::start(|asked, answering| match (asked.http.as_str(), asked.method()) {
        ("POST", "initialize") => answering.json(200, &[("Mcp-Session-Id", "s")], &initialized(&asked.body["id"])),
        ("POST", method) if method.starts_with("notifications/") => answering.status(202, &[]),
        ("POST", _) => answering.json(200, &[], &result(&asked.body["id"])),
        ("GET", _) => answering.status(401, &[("WWW-Authenticate", "Bearer")]),
        _ => answering.status(204, &[]),
    });
    let mut connect = Connect::to(&remote.url());
    connect.shake_hands();
    // It goes on trying: a sign-in for something else may change the answer.
    remote.wait_for(|asked| asked.http == "GET" && asked.nth == 1);
    connect.send(&call(2, "t"));
    assert_eq!(connect.next(), result(&json!(2)));
    connect.end();
    assert!(remote.asked().iter().all(|asked| asked.path == "/mcp"), "nobody looks for an authorization server");
}

#[test]
fn a_signal_ends_the_session_too() {
    let remote = legacy(|asked, answering| answering.json(200, &[], &result(&asked.body["id"])));
    let mut connect = Connect::to(&remote.url());
    connect.shake_hands();
    // Everything else has been said by then.
    remote.wait_for(|asked| asked.http == "GET");
    connect.signal_and_wait("TERM");
    assert_eq!(remote.asked().last().expect("requests").http, "DELETE");
}

#[test]
fn a_server_that_hangs_does_not_hold_the_program() {
    for held in ["initialize", "DELETE"] {
        let remote = Remote::start(move |asked, answering| match (asked.http.as_str(), asked.method()) {
            (http, method) if held == http || held == method => answering.stream(&[]).wait_for_its_end(),
            ("POST", "initialize") => {
                answering.json(200, &[("Mcp-Session-Id", "s")], &initialized(&asked.body["id"]));
            }
            _ => answering.status(202, &[]),
        });
        let mut connect = Connect::to(&remote.url());
        match held {
            "DELETE" => connect.shake_hands(),
            _ => connect.send(&initialize(1)),
        }
        remote.wait_for(|asked| asked.method() == "initialize");
        let before = std::time::Instant::now();
        connect.signal_and_wait("TERM");
        assert!(before.elapsed() < Duration::from_secs(2), "{held}: {:?}", before.elapsed());
    }
}

#[test]
fn what_comes_before_an_answer_stays_before_it_and_on_lines_of_its_own() {
    let remote = legacy(|asked, answering| {
        let mut stream = answering.stream(&[]);
        for number in 1..=200 {
            let params = json!({ "progressToken": 7, "progress": number });
            let told = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
            stream.event(&format!("event: message\ndata: {}\n\n", told.to_string().replace(':', ":\ndata: ")));
        }
        stream.message(&result(&asked.body["id"]));
    });
    let mut connect = Connect::to(&remote.url());
    connect.shake_hands();
    connect.send(&call(2, "t"));
    for number in 1..=200 {
        assert_eq!(connect.next()["params"]["progress"], number);
    }
    assert_eq!(connect.next(), result(&json!(2)));
    connect.end();
}

#[test]
fn a_broken_stream_is_taken_up_where_it_was_and_when_the_server_said() {
    const RETRY: Duration = Duration::from_millis(700);
    let remote = legacy(|asked, answering| match asked.header("last-event-id") {
        None => {
            let mut stream = answering.stream(&[]);
            stream.event("id: e1\nretry: 700\ndata:\n\n");
            stream.event(&format!("id: e2\ndata: {}\n\n", json!({ "jsonrpc": "2.0", "method": "notifications/x" })));
            // In the middle of an event, which is lost.
            stream.event("id: e3\ndata: {");
        }
        Some("e2") if asked.nth == 1 => answering.status(503, &[]),
        Some("e2") => answering.stream(&[]).message(&result(&json!(2))),
        Some(other) => panic!("resumed at {other}"),
    });
    let mut connect = Connect::to(&remote.url());
    connect.shake_hands();
    connect.send(&call(2, "t"));
    assert_eq!(connect.next()["method"], "notifications/x");
    assert_eq!(connect.next(), result(&json!(2)));
    connect.end();
    let asked = remote.asked();
    let called = asked.iter().find(|asked| asked.method() == "tools/call").expect("the call");
    let resumed: Vec<&Asked> = asked.iter().filter(|asked| asked.header("last-event-id").is_some()).collect();
    let wait = resumed[0].at - called.at;
    assert!(wait >= RETRY && wait < RETRY * 3, "{wait:?}");
    assert!(resumed[1].at - resumed[0].at >= RETRY);
    assert_eq!(resumed[0].header("mcp-session-id"), Some("s1"));
}

#[test]
fn an_answer_that_is_lost_for_good_is_told_as_lost() {
    let remote = legacy(|asked, answering| match asked.body["params"]["name"].as_str() {
        Some("no place") => drop(answering.stream(&[])),
        Some("no answer") => answering.hang_up(),
        Some("half") => {
            answering.raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        }
        Some("not resumed") => answering.stream(&[]).event("id: 1\nretry: 10\ndata:\n\n"),
        _ => answering.status(405, &[]),
    });
    let mut connect = Connect::to(&remote.url());
    connect.shake_hands();
    for (id, name) in [(2, "no place"), (3, "no answer"), (4, "half"), (5, "not resumed")] {
        connect.send(&call(id, name));
        let answer = connect.next();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!(-32603)), "{name}");
        let text = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(text.contains("may have been carried out"), "{name}: {text}");
    }
    connect.end();
}

#[test]
fn a_forgotten_session_is_opened_again_and_only_what_was_lost_is_told() {
    let remote = legacy(|asked, answering| match (asked.header("mcp-session-id"), asked.method()) {
        (_, "resources/subscribe") => answering.json(200, &[], &result(&asked.body["id"])),
        (Some("s1"), _) if asked.http == "GET" => answering.status(404, &[]),
        (Some("s1"), "tools/call") if asked.body["id"] == 3 => {
            answering.stream(&[]).event("id: a\nretry: 400\ndata:\n\n");
        }
        (Some("s1"), _) => answering.status(404, &[]),
        _ => answering.json(200, &[], &result(&asked.body["id"])),
    });
    let mut connect = Connect::to(&remote.url());
    connect.shake_hands();
    connect.send(&request(2, "resources/subscribe", json!({ "uri": "a:b" })));
    assert_eq!(connect.next()["id"], 2);
    connect.send(&call(3, "under way"));
    remote.wait_for(|asked| asked.body["id"] == 3);
    connect.send(&call(4, "t"));
    let mut answers = [connect.next(), connect.next()];
    answers.sort_by_key(|answer| answer["id"].as_u64());
    let text = answers[0]["error"]["message"].as_str().unwrap_or_default();
    assert!(text.contains("forgotten the session"), "{answers:?}");
    assert_eq!(answers[1], result(&json!(4)));
    connect.end();
    let asked = remote.asked();
    let in_new: Vec<&str> =
        asked.iter().filter(|asked| asked.header("mcp-session-id") == Some("s2")).map(Asked::method).collect();
    assert_eq!(in_new[..2], ["notifications/initialized", "resources/subscribe"], "{in_new:?}");
    let again: Vec<&Asked> = asked.iter().filter(|asked| asked.method() == "initialize").collect();
    assert_eq!(again.len(), 2);
    assert_eq!(again[0].body, again[1].body);
}

#[test]
fn a_session_that_is_forgotten_again_and_again_makes_no_loop() {
    let remote = legacy(|_, answering| answering.status(404, &[]));
    let mut connect = Connect::to(&remote.url());
    connect.shake_hands();
    connect.send(&call(2, "t"));
    assert_eq!(connect.next()["error"]["data"]["httpStatus"], 404);
    connect.end();
    assert_eq!(remote.asked().iter().filter(|asked| asked.method() == "tools/call").count(), 2);
}

#[test]
fn every_request_has_one_answer_whatever_the_server_answers() {
    let remote = legacy(|asked, answering| {
        let id = &asked.body["id"];
        match asked.body["params"]["name"].as_str().unwrap_or_default() {
            "html" => answering.text(200, "text/html", "<html>"),
            "nothing" => answering.status(202, &[]),
            "no json" => answering.text(200, "application/json", "{\"jsonrpc\""),
            "no message" => answering.text(200, "application/json", "{}"),
            "other id" => answering.json(200, &[], &result(&json!(99))),
            "too long" => {
                answering.raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n{}")
            }
            "text error" => answering.text(500, "text/plain", "it\u{1b}[31m broke"),
            "null id" => {
                let error = json!({ "code": -32000, "message": "no", "data": 18_446_744_073_709_551_615_u64 });
                answering.json(400, &[], &json!({ "jsonrpc": "2.0", "id": null, "error": error }));
            }
            "twice" => {
                let mut stream = answering.stream(&[]);
                stream.message(&result(id));
                stream.message(&result(id));
            }
            "redirect" => answering.status(307, &[("Location", "http://evil.example/mcp?key=canary")]),
            _ => answering.json(200, &[], &result(id)),
        }
    });
    let mut connect = Connect::to(&remote.url());
    connect.shake_hands();
    for (id, (name, said)) in (2..).zip([
        ("html", "text/html"),
        ("nothing", "without an answer"),
        ("no json", "no JSON-RPC message"),
        ("no message", "no JSON-RPC message"),
        ("other id", "something else"),
        ("too long", "more than 32 MiB"),
        ("text error", "HTTP status 500"),
        ("redirect", "http://evil.example/mcp"),
    ]) {
        connect.send(&call(id, name));
        let answer = connect.next();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!(-32603)), "{name}: {answer}");
        let text = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(text.contains(said) && !text.contains('\u{1b}') && !text.contains("canary"), "{name}: {text}");
    }
    connect.send(&call(20, "null id"));
    let answer = connect.next();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(20), &json!(-32000)));
    assert_eq!(answer["error"]["data"], json!(18_446_744_073_709_551_615_u64), "numbers survive");
    connect.send(&call(21, "twice"));
    assert_eq!(connect.next()["id"], 21);
    connect.send(&call(22, "t"));
    assert_eq!(connect.next()["id"], 22);
    connect.end();
}

#[test]
fn credentials_stay_with_the_server_that_they_are_for() {
    let other = Remote::start(|_, answering| answering.status(200, &[]));
    let url = other.url();
    let remote = Remote::start(move |_, answering| answering.status(308, &[("Location", &url)]));
    let line = Connect::line(&remote.url()).flag("--header", "Authorization: Bearer ${TOKEN}").env("TOKEN", "canary");
    let mut connect = Connect::start(&line);
    connect.send(&initialize(1));
    let answer = connect.next();
    assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains(&other.url())), "{answer}");
    assert!(!connect.end().contains("canary"));
    assert_eq!(remote.asked()[0].header("authorization"), Some("Bearer canary"));
    assert_eq!(other.asked().len(), 0);
}

#[test]
fn a_server_that_wants_authorization_is_not_asked_in_circles() {
    for (status, challenge) in [(401, "Bearer"), (403, "Bearer error=\"insufficient_scope\", scope=\"a\"")] {
        let remote = Remote::start(move |_, answering| answering.status(status, &[("WWW-Authenticate", challenge)]));
        let line = Connect::line(&remote.url()).flag("--header", "Authorization: Bearer x");
        let mut connect = Connect::start(&line);
        connect.send(&initialize(1));
        let answer = connect.next();
        assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("--header")), "{answer}");
        connect.end();
        assert_eq!(remote.asked().len(), 1);
    }
}

#[test]
fn a_busy_server_is_asked_again_when_it_says_and_not_before() {
    let remote = legacy(|asked, answering| match (asked.body["id"].as_u64(), asked.nth) {
        (Some(2), 0) => answering.status(503, &[("Retry-After", "1")]),
        (Some(3), _) => answering.status(429, &[("Retry-After", "3600")]),
        (Some(4), _) => answering.status(503, &[]),
        _ => answering.json(200, &[], &result(&asked.body["id"])),
    });
    let mut connect = Connect::to(&remote.url());
    connect.shake_hands();
    connect.send(&call(2, "t"));
    assert_eq!(connect.next(), result(&json!(2)));
    for (id, said) in [(3, "try again in 1h"), (4, "try again later")] {
        connect.send(&call(id, "t"));
        let answer = connect.next();
        assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains(said)), "{answer}");
    }
    connect.end();
    let asked = remote.asked();
    let times: Vec<_> = asked.iter().filter(|asked| asked.body["id"] == 2).map(|asked| asked.at).collect();
    assert!(times[1] - times[0] >= Duration::from_secs(1));
    assert_eq!(asked.iter().filter(|asked| asked.body["id"] == 3).count(), 1);
}

#[test]
fn a_server_that_is_not_there_is_told_as_such() {
    let gone = Remote::start(|_, answering| answering.status(200, &[])).gone();
    let mut connect = Connect::to(&gone);
    connect.send(&initialize(1));
    let answer = connect.next();
    assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("cannot connect")), "{answer}");
    connect.end();
}

#[test]
fn a_server_of_the_older_transport_is_told_as_such_in_both_eras() {
    for status in [404, 405] {
        let remote = Remote::start(move |_, answering| answering.status(status, &[]));
        for first in [initialize(1), modern(1, "tools/list", json!({}))] {
            let mut connect = Connect::to(&remote.url());
            connect.send(&first);
            let answer = connect.next();
            let message = answer["error"]["message"].as_str().expect("an error");
            assert!(message.contains("HTTP+SSE only") && message.contains(&status.to_string()), "{answer}");
        }
    }
}

#[test]
fn the_servers_own_stream_brings_questions_and_comes_back() {
    let remote = Remote::start(|asked, answering| match (asked.http.as_str(), asked.method()) {
        ("POST", "initialize") => answering.json(200, &[("Mcp-Session-Id", "s")], &initialized(&asked.body["id"])),
        ("GET", _) => {
            let mut stream = answering.stream(&[]);
            let nth = asked.nth.to_string();
            let question = json!({ "jsonrpc": "2.0", "id": nth, "method": "roots/list" });
            stream.event(&format!("id: {nth}\nretry: 20\ndata: {question}\n\n"));
            if asked.nth >= 2 {
                stream.wait_for_its_end();
            }
        }
        ("DELETE", _) => answering.status(405, &[]),
        _ => answering.status(202, &[]),
    });
    let mut connect = Connect::to(&remote.url());
    connect.shake_hands();
    for nth in 0..3 {
        let asked = connect.next();
        assert_eq!((&asked["method"], &asked["id"]), (&json!("roots/list"), &json!(nth.to_string())));
        connect.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "roots": [] } }));
        remote.wait_for(|asked| asked.body["id"] == json!(nth.to_string()) && asked.body["result"].is_object());
    }
    connect.end();
    let asked = remote.asked();
    let opened: Vec<&Asked> = asked.iter().filter(|asked| asked.http == "GET").collect();
    let places: Vec<_> = opened.iter().map(|asked| asked.header("last-event-id")).collect();
    assert_eq!(places, [None, Some("0"), Some("1")]);
    // However soon it wants us back. Each request takes another while to come.
    assert!(opened.windows(2).all(|two| two[1].at - two[0].at >= Duration::from_millis(800)), "it was asked in a rush");
}

#[test]
fn a_new_session_that_does_not_come_holds_no_request_for_ever() {
    let remote = Remote::start(|asked, answering| {
        let session = asked.header("mcp-session-id");
        match (asked.http.as_str(), asked.method()) {
            ("POST", "initialize") if asked.nth == 1 => answering.say_nothing(),
            ("POST", "initialize") => {
                answering.json(200, &[("Mcp-Session-Id", &format!("s{}", asked.nth))], &initialized(&asked.body["id"]));
            }
            ("GET", _) if session == Some("s0") && asked.nth == 0 => drop(answering.stream(&[])),
            ("POST", "notifications/initialized") => answering.status(202, &[]),
            (_, _) if session == Some("s0") => answering.status(404, &[]),
            ("GET" | "DELETE", _) => answering.status(405, &[]),
            _ => answering.json(200, &[], &result(&asked.body["id"])),
        }
    });
    let mut connect = Connect::start(&Connect::line(&remote.url()).flag("--request-timeout", "1s"));
    connect.shake_hands();
    // The listener has found the session gone, and has given the new one up.
    remote.wait_for_ends(1);
    connect.send(&call(2, "t"));
    assert_eq!(connect.next(), result(&json!(2)));
    connect.end();
}

#[test]
fn a_cancelled_request_is_not_answered_and_the_server_knows_first() {
    let remote = legacy(|asked, answering| match asked.body["id"].as_u64() {
        Some(2) => answering.stream(&[]).wait_for_its_end(),
        _ => answering.json(200, &[], &result(&asked.body["id"])),
    });
    let mut connect = Connect::to(&remote.url());
    connect.shake_hands();
    connect.send(&call(2, "t"));
    remote.wait_for(|asked| asked.body["id"] == 2);
    connect.send(&call(2, "the same id"));
    assert_eq!(connect.next()["error"]["code"], -32600);
    let params = json!({ "requestId": 2 });
    connect.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }));
    connect.send(&call(2, "free again"));
    // The first is over on both sides, and its name with it.
    remote.wait_for(|asked| asked.method() == "notifications/cancelled");
    connect.send(&call(3, "t"));
    assert_eq!(connect.next()["id"], 3);
    connect.end_hard();
}

#[test]
fn answers_that_are_under_way_at_the_end_of_input_still_come() {
    let remote = Remote::start(|asked, answering| {
        let mut stream = answering.stream(&[]);
        stream.event(": working\n\n");
        std::thread::sleep(Duration::from_millis(300));
        stream.message(&result(&asked.body["id"]));
    });
    let mut connect = Connect::to(&remote.url());
    connect.send(&modern(1, "tools/call", json!({ "name": "t" })));
    connect.close_input();
    assert_eq!(connect.next()["id"], 1);
    connect.end();
}

// The modern era.

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

#[test]
fn a_wrong_command_line_says_everything_that_is_wrong() {
    let line = Connect::line("http://example.com/mcp").flag("--header", "Host: evil").flag("--header", "X: ${NO_SUCH}");
    let run = line.run();
    assert_eq!(run.status.code(), Some(2));
    let said = String::from_utf8_lossy(&run.stderr);
    for part in ["--insecure-http", "Host", "NO_SUCH"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(run.stdout.is_empty());
}
