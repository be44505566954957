//! The legacy era: sessions, streams that break, and what is under way when something ends.

use super::*;

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

/// How the server answers `resources/subscribe` in its first session and in the next, and how often it is
/// then asked in the second and the third.
fn check_wish(answers: [(u16, &'static [(&'static str, &'static str)]); 2], asked_again: [usize; 2]) {
    let remote = legacy(move |asked, answering| {
        let session = asked.header("mcp-session-id").unwrap_or_default();
        match (session, asked.method(), asked.body["id"].as_u64()) {
            (session, "resources/subscribe", _) => match answers[usize::from(session != "s1")] {
                (200, headers) => answering.json(200, headers, &result(&asked.body["id"])),
                (status, headers) => answering.status(status, headers),
            },
            ("s1", "tools/call", Some(3)) | ("s2", "tools/call", Some(5)) => answering.status(404, &[]),
            _ => answering.json(200, &[], &result(&asked.body["id"])),
        }
    });
    let mut connect = Connect::to(&remote.url());
    connect.shake_hands();
    connect.send(&request(2, "resources/subscribe", json!({ "uri": "a:b" })));
    assert_eq!(connect.next()["error"].is_null(), answers[0].0 == 200, "{answers:?}");
    for id in [3, 4, 5] {
        connect.send(&call(id, "t"));
        assert_eq!(connect.next(), result(&json!(id)), "{answers:?}");
    }
    connect.end();
    let asked = remote.asked();
    let of = |method: &str, session: Option<&str>| {
        asked.iter().filter(|asked| asked.method() == method && asked.header("mcp-session-id") == session).count()
    };
    assert_eq!(of("initialize", None), 3, "{answers:?}: one for each session");
    let again = ["s2", "s3"].map(|session| of("resources/subscribe", Some(session)));
    assert_eq!(again, asked_again, "{answers:?}");
    assert!(asked.iter().all(|asked| asked.path == "/mcp"), "nobody is asked to sign in for it: {answers:?}");
}

/// The session is what the client needs; the subscription is a wish.
#[test]
fn a_wish_that_is_refused_keeps_no_session_from_being_opened_again() {
    const LACKS: &[(&str, &str)] = &[("WWW-Authenticate", "Bearer error=\"insufficient_scope\", scope=\"a\"")];
    // One that was never granted is not said again, nor one that is not granted any more.
    check_wish([(403, &[]), (403, &[])], [0, 0]);
    check_wish([(200, &[]), (403, &[])], [1, 0]);
    // The user may sign in for more, and the server may recover.
    check_wish([(200, &[]), (403, LACKS)], [1, 1]);
    check_wish([(200, &[]), (503, &[])], [1, 1]);
}

#[test]
fn a_new_session_that_is_given_up_is_ended() {
    let sessions = std::sync::atomic::AtomicUsize::new(0);
    let remote = Remote::start(move |asked, answering| {
        match (asked.http.as_str(), asked.method(), asked.header("mcp-session-id")) {
            ("POST", "initialize", _) => {
                let number = sessions.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                answering.json(200, &[("Mcp-Session-Id", &format!("s{number}"))], &initialized(&asked.body["id"]));
            }
            ("POST", "notifications/initialized", Some("s2")) => answering.status(500, &[]),
            ("POST", "notifications/initialized", _) => answering.status(202, &[]),
            ("POST", _, Some("s1")) => answering.status(404, &[]),
            ("POST", _, _) => answering.json(200, &[], &result(&asked.body["id"])),
            ("DELETE", _, _) => answering.status(204, &[]),
            _ => answering.status(405, &[]),
        }
    });
    let mut connect = Connect::to(&remote.url());
    connect.shake_hands();
    connect.send(&call(2, "t"));
    assert_eq!(connect.next()["error"]["data"]["httpStatus"], 500);
    connect.send(&call(3, "t"));
    assert_eq!(connect.next(), result(&json!(3)));
    connect.end();
    let ended: Vec<String> = remote
        .asked()
        .iter()
        .filter(|asked| asked.http == "DELETE")
        .filter_map(|asked| asked.header("mcp-session-id").map(str::to_owned))
        .collect();
    assert_eq!(ended, ["s2", "s3"]);
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
