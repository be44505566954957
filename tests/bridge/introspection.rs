//! What the bridge makes of an authorization server's answers (RFC 7662), and when it asks.

use serde_json::{Value, json};

use crate::common::{
    authorization_server::{AuthorizationServer, CLIENT_ID, CLIENT_SECRET, Fault},
    bridge::CommandLine,
    challenge::Challenge,
    http::{Request, Response},
    mcp, unix_now, wait_until,
    world::{ALL_SCOPES, World},
};

/// What comes of a call of `add`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Accepted,
    /// 401 `invalid_token`
    Refused,
    /// 503
    Unavailable,
    /// 403: a good token without scopes
    WithoutScope,
    /// Never accepted; whether the token or the server is to blame is a matter of taste.
    NotAccepted,
}

/// 401 for a token that is not good here, with what the client needs to get another.
pub(crate) fn assert_invalid_token(world: &World, case: &str, response: &Response) {
    assert_eq!(response.status, 401, "{case}: {response:?}");
    let challenge = Challenge::of(response);
    assert_eq!(challenge.names(), ["error", "error_description", "resource_metadata", "scope"], "{case}");
    assert_eq!(challenge.get("error"), Some("invalid_token"), "{case}");
    let description = challenge.get("error_description");
    assert_eq!(description, Some("The access token is invalid or has expired"), "{case}");
    assert_eq!(challenge.get("resource_metadata"), Some(world.metadata_url().as_str()), "{case}");
    assert_eq!(challenge.get("scope"), Some(ALL_SCOPES), "{case}");
    assert_eq!(response.header("Cache-Control"), Some("no-store"), "{case}");
    assert!(response.header("Retry-After").is_none(), "{case}");
}

/// 503 that tells the client to keep its token and come back.
pub(crate) fn assert_unavailable(case: &str, response: &Response) {
    assert_eq!(response.status, 503, "{case}: {response:?}");
    let seconds = response.header("Retry-After").and_then(|text| text.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| (1..=60).contains(&seconds)), "{case}: {response:?}");
    assert!(response.header("WWW-Authenticate").is_none(), "{case}: {response:?}");
    assert_eq!(response.header("Cache-Control"), Some("no-store"), "{case}");
}

fn check(world: &World, case: &str, answer: &str, expected: Outcome) {
    let token = format!("token-for-{}", case.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    world.server.set_raw(&token, answer);
    if matches!(expected, Outcome::Unavailable | Outcome::NotAccepted) {
        // Failures in a row would open the circuit breaker: this one comes after a success.
        world.call(&world.token("op:add"), "add").expect(200, "the server is well");
    }
    if expected == Outcome::Accepted {
        let response = world.call(&token, "add").expect(200, case);
        assert_eq!(mcp::text(&response.json()), "9", "{case}");
        return;
    }
    let response = world.without_run(case, || world.call(&token, "add"));
    match expected {
        Outcome::Refused => assert_invalid_token(world, case, &response),
        Outcome::Unavailable => assert_unavailable(case, &response),
        Outcome::WithoutScope => {
            let response = response.expect(403, case);
            assert_eq!(Challenge::of(&response).get("error"), Some("insufficient_scope"), "{case}");
            world.send(&mcp::modern("tools/list", json!({})).bearer(&token)).expect(200, case);
        }
        Outcome::NotAccepted => assert!(matches!(response.status, 401 | 503), "{case}: {response:?}"),
        Outcome::Accepted => {}
    }
}

/// Changes one member of a good answer; `None` removes it.
fn changed(world: &World, name: &str, value: Option<Value>) -> String {
    let mut answer = world.answer(ALL_SCOPES);
    let members = answer.as_object_mut().expect("an answer is an object");
    match value {
        Some(value) => members.insert(name.to_owned(), value),
        None => members.remove(name),
    };
    answer.to_string()
}

#[test]
fn one_member_decides() {
    use Outcome::{Accepted, NotAccepted, Refused, Unavailable, WithoutScope};
    let world = World::start();
    let resource = world.bridge.resource().to_owned();
    let origin = resource.trim_end_matches("/mcp").to_owned();
    let now = unix_now();
    let cases = [
        ("active", Some(json!(false)), Refused),
        ("active", None, Unavailable),
        ("active", Some(json!("true")), Unavailable),
        ("active", Some(json!(1)), Unavailable),
        ("active", Some(json!(null)), Unavailable),
        ("active", Some(json!([true])), Unavailable),
        ("exp", None, Accepted),
        ("exp", Some(json!(now - 1)), Refused),
        ("exp", Some(json!(0)), Refused),
        ("exp", Some(json!(-1)), NotAccepted),
        ("exp", Some(json!("soon")), NotAccepted),
        ("exp", Some(json!(now + 10_000_000_000)), Accepted),
        ("nbf", Some(json!(now - 10)), Accepted),
        ("nbf", Some(json!(now + 600)), Refused),
        ("aud", Some(json!(resource)), Accepted),
        ("aud", Some(json!([resource])), Accepted),
        ("aud", Some(json!(["https://other.example", resource])), Accepted),
        ("aud", None, Refused),
        ("aud", Some(json!(null)), Refused),
        ("aud", Some(json!("")), Refused),
        ("aud", Some(json!([])), Refused),
        ("aud", Some(json!(7)), Refused),
        ("aud", Some(json!({ "0": resource })), Refused),
        ("aud", Some(json!(true)), Refused),
        ("aud", Some(json!([[resource]])), Refused),
        ("aud", Some(json!("https://other.example/mcp")), Refused),
        ("aud", Some(json!(["https://other.example/mcp"])), Refused),
        ("aud", Some(json!(origin)), Refused),
        ("aud", Some(json!(format!("{resource}/"))), Refused),
        ("aud", Some(json!(format!("{resource}/more"))), Refused),
        ("aud", Some(json!(resource.to_ascii_uppercase())), Refused),
        ("aud", Some(json!(format!("https://other.example {resource}"))), Refused),
        ("iss", Some(json!(world.server.issuer())), Accepted),
        ("iss", Some(json!(format!("{}/", world.server.issuer()))), Refused),
        ("iss", Some(json!("https://other.example")), Refused),
        ("iss", Some(json!("")), Refused),
        ("token_type", Some(json!("Bearer")), Accepted),
        ("token_type", Some(json!("bearer")), Accepted),
        ("token_type", Some(json!("DPoP")), Refused),
        ("token_type", Some(json!("N_A")), Refused),
        ("cnf", Some(json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" })), Refused),
        ("cnf", Some(json!({ "x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2" })), Refused),
        ("cnf", Some(json!({})), Refused),
        ("sub", None, Accepted),
        // Taken for absent, every user with such a subject would be the same principal.
        ("sub", Some(json!(7)), NotAccepted),
        ("sub", Some(json!({ "id": "u" })), NotAccepted),
        ("exp", Some(json!((now + 600) as f64 + 0.5)), Accepted),
        ("scope", None, WithoutScope),
        ("scope", Some(json!("")), WithoutScope),
        ("scope", Some(json!("   ")), WithoutScope),
        ("scope", Some(json!("OP:ADD op:additional xop:add")), WithoutScope),
        ("scope", Some(json!("  op:sub\t\top:add\n op:div ")), Accepted),
        ("client_id", None, Accepted),
        ("username", None, Accepted),
        ("something_new", Some(json!({ "nested": [1, 2] })), Accepted),
    ];
    for (name, value, expected) in cases {
        let case = format!("{name} = {}", value.as_ref().map_or("(missing)".to_owned(), Value::to_string));
        check(&world, &case, &changed(&world, name, value), expected);
    }
}

/// An empty subject tells nobody apart: all who have it would share sessions and limits.
#[test]
fn an_empty_subject_is_nobodys() {
    let world = World::start();
    check(&world, "sub is empty", &changed(&world, "sub", Some(json!(""))), Outcome::NotAccepted);
}

#[test]
fn whole_answers_that_are_none() {
    use Outcome::{NotAccepted, Refused, Unavailable};
    let world = World::start();
    let good = world.answer(ALL_SCOPES).to_string();
    let twice = good.replace(r#""active":true"#, r#""active":false,"active":true"#);
    let mut nobody = world.answer(ALL_SCOPES);
    nobody["sub"].take();
    nobody["client_id"].take();
    let cases: [(&str, &str, Outcome); 10] = [
        ("inactive only", r#"{"active":false}"#, Refused),
        ("empty body", "", Unavailable),
        ("empty object", "{}", Unavailable),
        ("array", "[]", Unavailable),
        ("true", "true", Unavailable),
        ("text", "active", Unavailable),
        ("cut", &good[..good.len() - 1], Unavailable),
        ("two objects", &format!("{good}{good}"), Unavailable),
        ("active twice", &twice, NotAccepted),
        ("neither subject nor client", &nobody.to_string(), NotAccepted),
    ];
    for (case, answer, expected) in cases {
        check(&world, case, answer, expected);
    }
}

#[test]
fn settings_make_it_stricter_or_add_audiences() {
    let world = World::with(|line| {
        line.switch("--require-exp")
            .flag("--accepted-audience", "https://old.example/mcp")
            .flag("--accepted-audience", "urn:calculator")
    });
    check(&world, "exp missing", &changed(&world, "exp", None), Outcome::Refused);
    for audience in ["https://old.example/mcp", "urn:calculator"] {
        check(&world, audience, &changed(&world, "aud", Some(json!(audience))), Outcome::Accepted);
    }
    check(&world, "own audience", &world.answer("op:add").to_string(), Outcome::Accepted);
    check(&world, "other audience", &changed(&world, "aud", Some(json!("urn:other"))), Outcome::Refused);
}

#[test]
fn the_question_is_asked_as_rfc_7662_says() {
    let server = AuthorizationServer::start_for("id: with/odd +%&=chars\u{e4}", "s:e c+r%e/t&=\u{20ac}~*");
    let line = CommandLine::serve()
        .introspection(&server)
        .flag("--introspection-client-id", "id: with/odd +%&=chars\u{e4}")
        .env("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET", "s:e c+r%e/t&=\u{20ac}~*");
    let world = World::of(server, &line);
    let token = "odd+token/with==";
    world.server.set(token, &world.answer("op:add"));
    world.call(token, "add").expect(200, "odd client credentials");
    let question = world.server.questions().pop().expect("a question");
    assert_eq!(question.method, "POST");
    assert_eq!(question.path, "/oauth/2.1/introspect");
    assert_eq!(question.header("Content-Type"), Some("application/x-www-form-urlencoded"));
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(question.form(), [own("token", token), own("token_type_hint", "access_token")]);
    let expected = own("id: with/odd +%&=chars\u{e4}", "s:e c+r%e/t&=\u{20ac}~*");
    assert_eq!(question.credentials(), Some(expected));
}

#[test]
fn the_client_secret_can_come_from_a_file() {
    let scratch = crate::common::bridge::Scratch::new();
    let server = AuthorizationServer::start();
    let line = CommandLine::serve()
        .flag("--auth", "introspection")
        .flag("--issuer", server.issuer())
        .flag("--introspection-url", server.introspection_url())
        .flag("--introspection-client-id", CLIENT_ID)
        .env("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET_FILE", scratch.file("secret", format!("{CLIENT_SECRET}\n")));
    let world = World::of(server, &line);
    world.call(world.good(), "add").expect(200, "secret from a file");
}

#[test]
fn a_cached_answer_is_not_asked_for_again() {
    let world = World::start();
    let token = world.token(ALL_SCOPES);
    let before = world.server.question_count();
    for _ in 0..5 {
        world.call(&token, "add").expect(200, "a good token");
    }
    assert_eq!(world.server.question_count() - before, 1);
}

#[test]
fn an_unknown_token_is_not_asked_about_again() {
    let world = World::start();
    let before = world.server.question_count();
    for _ in 0..5 {
        world.without_run("unknown token", || world.call("unknown", "add")).expect(401, "unknown token");
    }
    assert_eq!(world.server.question_count() - before, 1);
}

#[test]
fn without_a_cache_every_request_asks_and_revocation_is_immediate() {
    let world = World::with(|line| line.flag("--introspection-cache", "0s"));
    let token = world.token(ALL_SCOPES);
    let before = world.server.question_count();
    for _ in 0..3 {
        world.call(&token, "add").expect(200, "a good token");
    }
    assert_eq!(world.server.question_count() - before, 3);
    world.server.revoke(&token);
    let response = world.without_run("revoked", || world.call(&token, "add"));
    assert_invalid_token(&world, "revoked", &response);
}

#[test]
fn less_consent_counts_at_once_without_a_cache() {
    let world = World::with(|line| line.flag("--introspection-cache", "0s"));
    let token = world.token("op:add op:div");
    world.call(&token, "divide").expect(200, "before");
    world.server.set(&token, &world.answer("op:add"));
    world.without_run("after", || world.call(&token, "divide")).expect(403, "after");
    world.call(&token, "add").expect(200, "what is left");
}

#[test]
fn a_revoked_token_works_no_longer_than_the_cache_time() {
    let world = World::with(|line| line.flag("--introspection-cache", "1s"));
    let token = world.token(ALL_SCOPES);
    world.call(&token, "add").expect(200, "before");
    world.server.revoke(&token);
    // Using it all the time must not keep it alive.
    wait_until("the revoked token is refused", || world.call(&token, "add").status == 401);
    world.without_run("revoked", || world.call(&token, "add")).expect(401, "revoked");
}

/// RFC 7662 §4: an answer is not kept past `exp`.
#[test]
fn a_token_that_expires_in_the_cache_is_refused() {
    let world = World::start();
    let mut answer = world.answer(ALL_SCOPES);
    answer["exp"] = json!(unix_now() + 2);
    let token = world.grant(&answer);
    world.call(&token, "add").expect(200, "before it expires");
    wait_until("the expired token is refused", || world.call(&token, "add").status == 401);
    world.without_run("expired", || world.call(&token, "add")).expect(401, "expired");
}

#[test]
fn many_requests_with_one_new_token_ask_one_question() {
    let world = World::start();
    let token = world.token(ALL_SCOPES);
    let before = world.server.question_count();
    world.server.fail(Fault::Late(std::time::Duration::from_millis(500)));
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..20).map(|_| scope.spawn(|| world.call(&token, "add").status)).collect();
        for call in calls {
            assert_eq!(call.join().expect("a call"), 200);
        }
    });
    assert_eq!(world.server.question_count() - before, 1);
}

/// The asker whose question it is goes away; those who wait for the same answer still get it.
#[test]
fn a_question_survives_the_client_that_caused_it() {
    let world = World::start();
    let token = world.token(ALL_SCOPES);
    let before = world.server.question_count();
    world.server.hold();
    let address = world.bridge.address();
    let mut first = crate::common::http::Connection::open(address);
    first.write(&mcp::call("add").bearer(&token).bytes(address));
    wait_until("the question arrives", || world.server.question_count() > before);
    let status = std::thread::scope(|scope| {
        let second = scope.spawn(|| world.call(&token, "add").status);
        drop(first);
        for _ in 0..20 {
            world.send(&Request::get("/healthz")).expect(200, "alive");
        }
        world.server.release();
        second.join().expect("the second call")
    });
    assert_eq!(status, 200);
}

#[test]
fn a_flood_of_unknown_tokens_asks_few_questions_at_once_and_spares_known_users() {
    let world = World::with(|line| line.flag("--max-concurrent-requests", "256"));
    world.call(world.good(), "add").expect(200, "a known user");
    world.server.hold();
    std::thread::scope(|scope| {
        let world = &world;
        let flood: Vec<_> =
            (0..60).map(|number| scope.spawn(move || world.call(&format!("unknown-{number}"), "add").status)).collect();
        wait_until("16 questions", || world.server.most_asking() >= 16);
        for _ in 0..5 {
            world.call(world.good(), "add").expect(200, "a known user during the flood");
        }
        world.server.release();
        for call in flood {
            let status = call.join().expect("a call");
            assert!(matches!(status, 401 | 503), "{status}");
        }
    });
    assert_eq!(world.server.most_asking(), 16);
}

/// Introspection with nothing but the issuer: the endpoint is in its metadata (RFC 8414).
fn discovering(server: &AuthorizationServer) -> CommandLine {
    CommandLine::serve()
        .flag("--auth", "introspection")
        .flag("--issuer", server.issuer())
        .flag("--introspection-client-id", CLIENT_ID)
        .env("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET", CLIENT_SECRET)
}

#[test]
fn the_endpoint_is_found_in_the_metadata_of_the_issuer() {
    let server = AuthorizationServer::start();
    let line = discovering(&server);
    let world = World::of(server, &line);
    assert_eq!(world.server.questions()[0].path, "/oauth/2.1/introspect");
}

/// RFC 8414 §3.3: metadata that name another issuer must not be used.
#[test]
fn metadata_of_another_issuer_are_not_used() {
    let server = AuthorizationServer::start();
    server.claim_issuer("https://other.example");
    let bridge = discovering(&server).spawn();
    server.set("token", &json!({ "active": true, "sub": "u", "aud": bridge.resource(), "scope": ALL_SCOPES }));
    let response = bridge.send(&mcp::call("add").bearer("token"));
    assert_unavailable("another issuer", &response);
    assert_eq!(server.question_count(), 0, "the token went to an endpoint that was not checked");
    bridge.send(&Request::get("/readyz")).expect(503, "not ready");
}

#[test]
fn metadata_that_come_late_are_found_then() {
    let server = AuthorizationServer::start();
    server.hide_metadata(true);
    let bridge = discovering(&server).spawn();
    server.set("token", &json!({ "active": true, "sub": "u", "aud": bridge.resource(), "scope": ALL_SCOPES }));
    assert_unavailable("no metadata", &bridge.send(&mcp::call("add").bearer("token")));
    server.hide_metadata(false);
    wait_until("the bridge finds them", || bridge.send(&mcp::call("add").bearer("token")).status == 200);
}
