//! An authorization server that fails: nobody gets in, and nobody is logged out.

use std::time::{Duration, Instant};

use crate::{
    common::{
        authorization_server::{AuthorizationServer, CLIENT_ID, Fault},
        bridge::CommandLine,
        http::Request,
        mcp, wait_until,
        world::{ALL_SCOPES, World},
    },
    introspection::{assert_invalid_token, assert_unavailable},
};

/// Everything in one bridge would meet its circuit breaker, so each fault has its own.
fn check_unavailable(case: &str, fault: Fault) {
    let world = World::start();
    let token = world.token(ALL_SCOPES);
    world.server.fail(fault);
    let asked = world.server.question_count();
    let started = Instant::now();
    let response = world.without_run(case, || world.call(&token, "add"));
    assert_unavailable(case, &response);
    assert!(started.elapsed() < Duration::from_secs(8), "{case} took {:?}", started.elapsed());
    assert!(matches!(world.server.question_count() - asked, 0 | 1), "{case}: a failed question is not repeated");
    // Nobody is logged out: the same token works as soon as the server does.
    world.server.fail(None);
    world.call(&token, "add").expect(200, case);
}

#[test]
fn statuses_that_say_nothing_about_the_token() {
    for status in [404, 429, 500, 502, 503, 504] {
        check_unavailable(&format!("{status}"), Fault::Status(status));
    }
}

#[test]
fn answers_that_cannot_be_read() {
    let good = |world: &World| world.answer(ALL_SCOPES).to_string().into_bytes();
    let template = good(&World::start());
    let padded = |length: usize| [template.clone(), vec![b' '; length]].concat();
    let html = b"<html><body>Down for maintenance {\"active\":true}</body></html>".to_vec();
    check_unavailable("HTML", Fault::Answer("text/html", html));
    check_unavailable("not JSON", Fault::Answer("application/json", b"active=true".to_vec()));
    check_unavailable("empty", Fault::Answer("application/json", Vec::new()));
    check_unavailable("not UTF-8", Fault::Answer("application/json", b"{\"active\":true,\"sub\":\"\xff\"}".to_vec()));
    check_unavailable("over 64 KiB", Fault::Answer("application/json", padded(64 * 1024)));
    check_unavailable("megabytes", Fault::Answer("application/json", padded(8 * 1024 * 1024)));
}

#[test]
fn reset() {
    check_unavailable("reset", Fault::Reset);
}

#[test]
fn hang() {
    check_unavailable("hang", Fault::Hang);
}

#[test]
fn drip() {
    check_unavailable("drip", Fault::Drip);
}

/// A redirect would carry the token and our own credentials to somebody else.
#[test]
fn redirects_are_not_followed() {
    let elsewhere = AuthorizationServer::start();
    check_unavailable("redirect", Fault::Redirect(elsewhere.introspection_url()));
    assert_eq!(elsewhere.question_count(), 0);
}

#[test]
fn nothing_listens_there() {
    let server = AuthorizationServer::start();
    let line = CommandLine::serve().introspection(&server);
    let bridge = line.flag("--introspection-url", "http://127.0.0.1:1/introspect").spawn();
    assert_unavailable("refused connection", &bridge.send(&mcp::call("add").bearer("token")));
}

/// Real servers answer 400 to tokens of a kind they do not know: the token is bad, not the server.
#[test]
fn status_400_is_about_the_token_and_does_not_open_the_breaker() {
    let world = World::start();
    let token = world.token(ALL_SCOPES);
    world.server.fail(Fault::Status(400));
    let asked = world.server.question_count();
    for number in 0..12 {
        let response = world.without_run("400", || world.call(&format!("jwt-{number}"), "add"));
        assert_invalid_token(&world, "400", &response);
    }
    assert_eq!(world.server.question_count() - asked, 12);
    world.send(&Request::get("/readyz")).expect(200, "the server is well");
    world.server.fail(None);
    world.call(&token, "add").expect(200, "the breaker is closed");
}

#[test]
fn wrong_credentials_of_our_own_are_not_the_users_fault() {
    for status in [401, 403] {
        let case = format!("{status}");
        let world = World::start();
        let token = world.token(ALL_SCOPES);
        world.server.fail(Fault::Status(status));
        let response = world.without_run(&case, || world.call(&token, "add"));
        assert_unavailable(&case, &response);
        let loud = world.bridge.wait_for_event("that a person must act", |event| event["level"] == "ERROR");
        assert!(loud.to_string().contains("credentials"), "{loud}");
        let ready = world.send(&Request::get("/readyz")).expect(503, &case).json();
        assert_eq!(ready["ready"], false, "{case}");
        assert!(ready["reason"].as_str().is_some_and(|reason| reason.contains("credentials")), "{case}: {ready}");
        world.send(&Request::get("/healthz")).expect(200, "alive, only not ready");
        world.server.fail(None);
        wait_until("it is ready again", || {
            // Only a question can tell that the credentials are right again.
            world.call(&token, "add").status == 200 && world.send(&Request::get("/readyz")).status == 200
        });
    }
}

#[test]
fn a_wrong_secret_is_found_out() {
    let server = AuthorizationServer::start_for(CLIENT_ID, "another secret");
    let bridge = CommandLine::serve().introspection(&server).spawn();
    assert_unavailable("wrong secret", &bridge.send(&mcp::call("add").bearer("token")));
    let ready = bridge.send(&Request::get("/readyz")).expect(503, "not ready").json();
    assert_eq!(ready["ready"], false, "{ready}");
    // Neither the secret nor the token is part of the explanation.
    assert!(!bridge.log_text().contains("canary"), "{}", bridge.log_text());
}

#[test]
fn five_failures_in_a_row_open_the_breaker_and_it_closes_again() {
    let world = World::start();
    let token = world.token(ALL_SCOPES);
    world.server.fail(Fault::Status(500));
    let asked = world.server.question_count();
    for number in 0..10 {
        let response = world.without_run("broken", || world.call(&format!("token-{number}"), "add"));
        assert_unavailable("broken", &response);
    }
    assert_eq!(world.server.question_count() - asked, 5, "the breaker did not open after five failures");
    let ready = world.send(&Request::get("/readyz")).expect(503, "the breaker is open").json();
    assert!(ready["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{ready}");
    world.server.fail(None);
    wait_until("the breaker closes", || world.call(&token, "add").status == 200);
    world.send(&Request::get("/readyz")).expect(200, "the breaker is closed");
}

/// A success between failures starts the count anew.
#[test]
fn failures_that_are_not_in_a_row_do_not_open_the_breaker() {
    let world = World::start();
    for number in 0..8 {
        world.server.fail(Fault::Status(500));
        assert_unavailable("broken", &world.call(&format!("bad-{number}"), "add"));
        world.server.fail(None);
        world.call(&world.token(ALL_SCOPES), "add").expect(200, "well again");
    }
}

/// No stale answers: a token is not believed longer because nobody can be asked.
#[test]
fn an_outage_does_not_prolong_cached_answers() {
    let world = World::with(|line| line.flag("--introspection-cache", "1s"));
    let token = world.token(ALL_SCOPES);
    world.call(&token, "add").expect(200, "before");
    world.server.fail(Fault::Status(500));
    wait_until("the answer is forgotten", || world.call(&token, "add").status == 503);
}

#[test]
fn cached_users_do_not_notice_an_outage() {
    let world = World::start();
    world.call(world.good(), "add").expect(200, "before");
    world.server.fail(Fault::Status(500));
    for number in 0..8 {
        world.call(&format!("stranger-{number}"), "add").expect(503, "strangers");
        world.call(world.good(), "add").expect(200, "during the outage");
    }
}
