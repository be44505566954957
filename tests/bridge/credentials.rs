//! What counts as a bearer token on a request (OAuth 2.1 §5.1, §5.3.2; RFC 6750 §2, §3).

use serde_json::json;

use crate::common::{
    challenge::Challenge,
    http::{Request, Response},
    mcp,
    world::{ALL_SCOPES, World},
};

/// 401 that asks for a first token: no `error`, because nothing was wrong.
fn check_asks_for_a_token(world: &World, case: &str, response: Response) {
    let response = response.expect(401, case);
    let challenge = Challenge::of(&response);
    assert_eq!(challenge.names(), ["resource_metadata", "scope"], "{case}");
    assert_eq!(challenge.get("resource_metadata"), Some(world.metadata_url().as_str()), "{case}");
    assert_eq!(challenge.get("scope"), Some(ALL_SCOPES), "{case}");
    check_refusal(case, &response);
}

/// What every refusal of credentials has.
fn check_refusal(case: &str, response: &Response) {
    assert_eq!(response.header("Cache-Control"), Some("no-store"), "{case}");
    assert_eq!(response.header("Content-Type"), Some("application/json"), "{case}");
    let error = &response.json()["error"];
    assert!(error.is_string() || error.is_object(), "{case}: {response:?}");
}

/// The proof that the tool did not run is worth something only if it notices when it does.
#[test]
fn a_run_is_noticed() {
    let world = World::start();
    let before = world.runs();
    world.call(world.good(), "add").expect(200, "a run");
    world.call(world.good(), "divide").expect(200, "a run");
    assert_eq!(world.runs(), before + 2);
    let session = world.session(world.good());
    world.send(&mcp::legacy_call(&session, "add").bearer(world.good())).expect(200, "a legacy run");
    assert_eq!(world.runs(), before + 3);
}

#[test]
fn without_a_bearer_token_the_client_is_told_where_to_get_one() {
    let world = World::start();
    let asked = world.server.question_count();
    let good = world.good();
    let form = format!("access_token={good}");
    let cases: [(&str, Request); 13] = [
        ("no Authorization", mcp::call("add")),
        ("Basic", mcp::call("add").header("Authorization", "Basic dXNlcjpwYXNz")),
        ("DPoP", mcp::call("add").header("Authorization", format!("DPoP {good}"))),
        ("a longer scheme", mcp::call("add").header("Authorization", format!("Bearerx {good}"))),
        ("the token alone", mcp::call("add").header("Authorization", good)),
        ("empty", mcp::call("add").header("Authorization", "")),
        ("another header", mcp::call("add").header("X-Authorization", format!("Bearer {good}"))),
        ("a cookie", mcp::call("add").header("Cookie", format!("access_token={good}"))),
        ("query", mcp::call("add").target(&format!("/mcp?access_token={good}"))),
        ("body", mcp::call("add").with("Content-Type", "application/x-www-form-urlencoded").body(form)),
        ("GET", Request::get("/mcp").header("Accept", "text/event-stream")),
        ("DELETE", Request::new("DELETE", "/mcp").header("Mcp-Session-Id", "x")),
        ("initialize", mcp::initialize(mcp::LEGACY)),
    ];
    for (case, request) in cases {
        let response = world.without_run(case, || world.send(&request));
        check_asks_for_a_token(&world, case, response);
    }
    assert_eq!(world.server.question_count(), asked, "nothing was asked about");
}

#[test]
fn credentials_that_cannot_be_a_token_are_an_invalid_request() {
    let world = World::start();
    let good = world.good();
    let bearer = |value: &str| mcp::call("add").header("Authorization", value);
    let long = format!("Bearer {}", "a".repeat(8 * 1024 + 1));
    let cases: [(&str, Request); 10] = [
        ("Bearer alone", bearer("Bearer")),
        ("Bearer and a space", bearer("Bearer ")),
        ("two tokens", bearer(&format!("Bearer {good} {good}"))),
        ("a comma", bearer(&format!("Bearer {good},{good}"))),
        ("a quote", bearer("Bearer \"abc\"")),
        ("padding in the middle", bearer("Bearer ab=c")),
        ("only padding", bearer("Bearer ==")),
        ("twice the same", bearer(&format!("Bearer {good}")).header("Authorization", format!("Bearer {good}"))),
        ("two schemes", bearer("Basic dTpw").header("Authorization", format!("Bearer {good}"))),
        ("over 8 KiB", bearer(&long)),
    ];
    for (case, request) in cases {
        let response = world.without_run(case, || world.send(&request)).expect(400, case);
        let challenge = Challenge::of(&response);
        assert_eq!(challenge.get("error"), Some("invalid_request"), "{case}");
        assert_eq!(challenge.get("resource_metadata"), Some(world.metadata_url().as_str()), "{case}");
        check_refusal(case, &response);
    }
}

#[test]
fn the_scheme_has_no_case_and_any_number_of_spaces() {
    let world = World::start();
    let good = world.good();
    for value in [
        format!("Bearer {good}"),
        format!("bearer {good}"),
        format!("BEARER {good}"),
        format!("bEaReR    {good}"),
        format!("Bearer {good}  "),
    ] {
        let response = world.send(&mcp::call("add").header("Authorization", &value)).expect(200, &value);
        assert_eq!(mcp::text(&response.json()), "9", "{value}");
    }
}

#[test]
fn odd_but_legal_tokens_arrive_at_the_authorization_server_unchanged() {
    let world = World::start();
    for token in ["a", "a-._~+/9==", "%2B%20x", &"x".repeat(4096)] {
        world.server.set(token, &world.answer("op:add"));
        let status = world.call(token, "add").status;
        // `%` is not a token character (RFC 6750 §2.1).
        assert_eq!(status, if token.contains('%') { 400 } else { 200 }, "{token}");
    }
    let asked: Vec<String> = world.server.questions().iter().map(|question| question.form()[0].1.clone()).collect();
    assert!(asked.contains(&"a-._~+/9==".to_owned()), "{asked:?}");
    assert!(!asked.iter().any(|token| token.contains('%')), "{asked:?}");
}

/// A body that never comes must not delay the refusal.
#[test]
fn the_token_is_checked_before_the_body_is_read() {
    let world = World::start();
    let unknown = mcp::call("add").bearer("nobody-knows-this").with("Content-Length", "100000").body("");
    let (response, _connection) = unknown.open(world.bridge.address());
    let challenge = Challenge::of(&response.expect(401, "unknown token"));
    assert_eq!(challenge.get("error"), Some("invalid_token"));
    let (response, _connection) = unknown.without("Authorization").open(world.bridge.address());
    assert_eq!(response.status, 401);
}

#[test]
fn checks_come_in_their_order() {
    let world = World::start();
    let foreign = |request: Request| request.header("Origin", "https://evil.example");
    let cases: [(&str, u16, Request); 8] = [
        ("Host before Origin", 421, foreign(mcp::call("add")).with("Host", "evil.example")),
        ("Host before token", 421, mcp::call("add").with("Host", "evil.example")),
        ("Origin before token", 403, foreign(mcp::call("add"))),
        ("Origin before preflight", 403, foreign(Request::new("OPTIONS", "/mcp"))),
        ("Origin before method", 403, foreign(Request::new("PUT", "/mcp"))),
        ("method before token", 405, Request::new("PUT", "/mcp")),
        ("token before content type", 401, mcp::call("add").with("Content-Type", "text/plain")),
        ("token before parsing", 401, mcp::post().body("{")),
    ];
    for (case, status, request) in cases {
        let response = world.without_run(case, || world.send(&request)).expect(status, case);
        assert_eq!(response.header("WWW-Authenticate").is_some(), status == 401, "{case}");
    }
    let good = world.good();
    let ordered: [(&str, u16, Request); 4] = [
        ("content type before parsing", 415, mcp::post().with("Content-Type", "text/plain").body("{").bearer(good)),
        ("parsing before agreement", 400, mcp::call("add").body("{").with("Mcp-Name", "other").bearer(good)),
        ("agreement before scope", 400, mcp::call("add").with("Mcp-Name", "other").bearer(&world.token(""))),
        ("scope before arguments", 403, mcp::call("divide").bearer(&world.token(""))),
    ];
    for (case, status, request) in ordered {
        world.without_run(case, || world.send(&request)).expect(status, case);
    }
    let session = json!({ "jsonrpc": "2.0", "id": 2, "method": "ping" });
    world.send(&mcp::legacy("no-such-session", &session)).expect(401, "token before session");
}
