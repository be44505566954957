//! What a client is told of servers that answer otherwise than they should, or not at all.

use super::*;

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
