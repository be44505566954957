//! Signing in, and attacks on it.

use std::time::{Duration, Instant};

use super::world::{Browser, PASSPHRASE, Parameters, State, check_page, hidden};
use crate::common::http::Request;

/// Attack 4: the browser's cookie changes when somebody signs in, and what was known before is worth nothing.
#[test]
fn a_cookie_that_somebody_has_planted_does_not_become_the_users() {
    let state = State::new();
    let server = state.serve();
    let mut thief = Browser::new(&server);
    let page = thief.get("/account").expect(200, "page");
    check_page(&page);
    let planted = thief.cookie.clone().expect("a cookie");
    let mut victim = Browser::new(&server);
    victim.cookie = Some(planted.clone());
    let page = victim.get("/account").expect(200, "page");
    let answer = victim.submit_passphrase(&page, PASSPHRASE).expect(303, "signed in");
    assert_eq!(answer.header("Location"), Some("/account"));
    assert_ne!(victim.cookie, Some(planted));
    assert!(thief.get("/account").expect(200, "page").text().contains("Passphrase"));
    assert!(victim.get("/account").expect(200, "page").text().contains("Your account"));
}

/// Attack 4.
#[test]
fn nobody_is_signed_in_by_a_form_of_another_page() {
    let state = State::new();
    let server = state.serve();
    let mut browser = Browser::new(&server);
    let page = browser.get("/account").expect(200, "page");
    let fields = Parameters::new(&[("form", &hidden(&page, "form")), ("passphrase", PASSPHRASE), ("name", "owner")]);
    let foreign = super::world::form("/sign-in", &fields).header("Sec-Fetch-Site", "cross-site");
    browser.send(foreign).expect(403, "of another page");
    let mut other = Browser::new(&server);
    other.get("/account").expect(200, "page");
    let answer = other.post("/sign-in", &fields);
    assert!(answer.status == 403 && answer.text().contains("open for too long"), "{answer:?}");
    browser.post("/sign-in", &fields).expect(303, "as it is meant");
    let mut again = Browser::new(&server);
    again.post("/sign-in", &fields).expect(400, "without a cookie");
}

#[test]
fn after_signing_in_nobody_is_sent_to_another_site() {
    let state = State::new();
    let server = state.serve();
    for next in ["https://evil.example/", "//evil.example/", "/\\evil.example", "/authorize", "javascript:alert(1)"] {
        let mut browser = Browser::new(&server);
        let query: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let page = browser.get(&format!("/sign-in?next={query}")).expect(200, "page");
        assert_eq!(hidden(&page, "next"), "/account");
        let fields = Parameters::new(&[("form", &hidden(&page, "form")), ("next", next), ("passphrase", PASSPHRASE)]);
        let answer = browser.post("/sign-in", &fields).expect(303, next);
        assert_eq!(answer.header("Location"), Some("/account"), "{next}");
    }
}

/// Attack 18.
#[test]
fn guessing_is_slowed_down_and_does_not_say_who_exists() {
    let state = State::new();
    state.command(&["users", "add", "eve", "--scopes", "op:add"]);
    let server = state.serve();
    let mut browser = Browser::new(&server);
    let guess = |browser: &mut Browser<'_>, name: &str, passphrase: &str| {
        let page = browser.get("/account").expect(200, "page");
        assert!(page.text().contains("autocomplete=\"username\""));
        let fields = Parameters::new(&[("form", &hidden(&page, "form")), ("name", name), ("passphrase", passphrase)]);
        let begun = Instant::now();
        (browser.post("/sign-in", &fields), begun.elapsed())
    };
    let (unknown, took_unknown) = guess(&mut browser, "nobody", "wrong wrong wrong");
    let (known, took_known) = guess(&mut browser, "eve", "wrong wrong wrong");
    let strip = |page: &str| {
        page.replace("value=\"nobody\"", "").lines().filter(|line| !line.contains("name=\"form\"")).collect::<String>()
    };
    assert_eq!((unknown.status, strip(unknown.text())), (403, strip(known.text())));
    check_page(&known);
    // Both were compared with a hash: neither is ten times faster than the other.
    let ratio = took_unknown.as_secs_f64() / took_known.as_secs_f64();
    assert!((0.1..10.0).contains(&ratio), "{ratio}");
    for _ in 0..3 {
        assert_eq!(guess(&mut browser, "owner", "wrong wrong wrong").0.status, 403);
    }
    let (refused, _) = guess(&mut browser, "owner", PASSPHRASE);
    assert_eq!(refused.status, 429, "even if it is right");
    assert!(refused.header("Retry-After").is_some() && refused.text().contains("Too many wrong passphrases"));
    check_page(&refused);
    let deadline = Instant::now() + Duration::from_secs(30);
    while guess(&mut browser, "owner", PASSPHRASE).0.status != 303 {
        assert!(Instant::now() < deadline, "the wait has an end");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Who signs in as himself between guesses would otherwise guess the owner's passphrase without end.
#[test]
fn a_user_who_signs_in_guesses_at_another_no_faster() {
    let state = State::new();
    let added = state.command(&["users", "add", "bob", "--scopes", "op:add"]);
    let passphrase = added.split_whitespace().find(|word| word.matches('-').count() == 4).expect("a passphrase");
    let server = state.serve();
    let guess = |name: &str, passphrase: &str| {
        let mut browser = Browser::new(&server);
        let page = browser.get("/account").expect(200, "page");
        browser.submit_passphrase_of(name, &page, passphrase).status
    };
    let mut refused = 0;
    for _ in 0..4 {
        for _ in 0..4 {
            refused += usize::from(guess("owner", "wrong wrong wrong") == 429);
        }
        guess("bob", passphrase);
    }
    assert!(refused > 0, "sixteen guesses went by");
}

#[test]
fn a_terminal_in_place_of_a_passphrase() {
    let state = State::new();
    let server = state.serve_with(|line| line.flag("--approve", "terminal"));
    let client = server.client();
    let mut browser = Browser::new(&server);
    let request = server.request(&client);
    let waiting = browser.authorize(&request).expect(200, "the page that waits");
    check_page(&waiting);
    let text = waiting.text();
    assert!(text.contains("http-equiv=\"refresh\"") && !text.contains("type=\"password\""), "{text}");
    let code = text.split("mcp-bridge approve ").nth(1).and_then(|rest| rest.split('<').next()).expect("a code");
    let mut other = Browser::new(&server);
    assert!(!other.authorize(&request).expect(200, "another browser").text().contains(code));
    server
        .bridge
        .wait_for_event("a code in the log", |event| event["message"].as_str().is_some_and(|text| text.contains(code)));

    // Whoever else may be waiting.
    for _ in 0..50 {
        server.send(&Request::get("/account")).expect(200, "a stranger's page that waits");
    }
    let mut slip = code.to_owned();
    slip.replace_range(..1, if code.starts_with('A') { "B" } else { "A" });
    for wrong in [&*slip, "AAAA-AAAA", ""] {
        let wrong = state.run(&["approve", wrong], "");
        assert_eq!(wrong.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&wrong.stderr).contains("mistyped: compare it with the page"), "{wrong:?}");
    }
    assert!(state.command(&["approve", &code.to_lowercase()]).contains("is signed in as owner"));
    let next = browser.authorize(&request).expect(303, "signed in");
    assert_eq!(next.header("Location"), Some(format!("/authorize?{}", request.encoded()).as_str()));
    let code = browser.code(&request, &["op:add"]);
    server.token(&server.exchange(&client, &code)).expect(200, "tokens");
    assert!(other.authorize(&request).expect(200, "waits").text().contains("Confirm in the terminal"));
    // No passphrase opens it.
    let fields = Parameters::new(&[("form", "x"), ("passphrase", PASSPHRASE)]);
    other.post("/sign-in", &fields).expect(404, "there is no such form");
    server.send(&Request::get("/sign-in")).expect(200, "waits");
}

#[test]
fn users_allow_what_they_may_themselves() {
    let state = State::new();
    let added = state.command(&["users", "add", "eve@example.org", "--scopes", "op:add op:sub"]);
    let passphrase = added.split_whitespace().find(|word| word.matches('-').count() == 4).expect("a passphrase");
    let server = state.serve();
    let client = server.client();
    let mut browser = Browser::new(&server);
    let page = browser.authorize(&server.request(&client)).expect(200, "page");
    let fields = Parameters::new(&[
        ("form", &hidden(&page, "form")),
        ("next", &hidden(&page, "next")),
        ("name", "eve@example.org"),
        ("passphrase", passphrase),
    ]);
    browser.post("/sign-in", &fields).expect(303, "signed in");
    let page = browser.authorize(&server.request(&client)).expect(200, "page");
    assert!(page.text().contains("Add two numbers") && !page.text().contains("Divide"), "{}", page.text());
    let code = browser.code(&server.request(&client), &["op:add", "op:div"]);
    let tokens = super::world::Tokens::of(server.token(&server.exchange(&client, &code)));
    assert_eq!(tokens.scope, "op:add");
    assert_eq!(server.call("add", &tokens.access), 200);
    let page = browser.authorize(&server.request(&client).with("scope", "op:div")).expect(200, "page");
    let answer = browser.decide(&page, &["op:div"], "allow").expect(422, "not hers to allow");
    assert!(answer.text().contains("you can only deny"));
    assert!(state.command(&["users", "remove", "eve@example.org"]).contains("is gone"));
    assert_eq!(server.call("add", &tokens.access), 401);
    assert!(browser.get("/account").expect(200, "page").text().contains("Passphrase"));
}
