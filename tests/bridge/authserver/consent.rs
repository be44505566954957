//! Attacks on the page that asks.

use super::world::{
    Browser, CALLBACK, Parameters, State, Tokens, account_form, answer_parameters, check_page, form, hidden,
};
use crate::common::http::Response;
use serde_json::json;

/// Attacks 3, 7 and 14.
#[test]
fn a_code_comes_from_the_form_alone_and_for_what_was_ticked_and_asked_for() {
    let state = State::new();
    let server = state.serve();
    let client = server.client();
    let mut browser = Browser::new(&server);
    browser.sign_in();
    let request = server.request(&client).with("scope", "op:add op:div");
    let page = browser.authorize(&request).expect(200, "the page that asks");
    check_page(&page);
    for words in ["Tester", "Add two numbers", "Divide one number by another", "127.0.0.1:5555", server.resource()] {
        assert!(page.text().contains(words), "{words}: {}", page.text());
    }
    assert!(!page.text().contains("op:mult"), "only what was asked for");
    let query = Parameters::new(&[("form", &hidden(&page, "form")), ("request", &hidden(&page, "request"))]);
    let query = query.and("decision", "allow").and("scope", "op:add");
    let answer = browser.get(&format!("/consent?{}", query.encoded())).expect(405, "GET gives nothing");
    assert_eq!(answer.header("Location"), None);

    let answer = browser.decide(&page, &["op:add", "op:mult", "admin"], "allow").expect(303, "POST is followed by GET");
    let parameters = answer_parameters(&answer);
    let names: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["code", "state", "iss"]);
    assert_eq!((parameters[1].1.as_str(), &parameters[2].1), ("st/ate 1", &server.issuer()));
    let tokens = Tokens::of(server.token(&server.exchange(&client, &parameters[0].1)));
    assert_eq!(tokens.scope, "op:add", "what was asked for, of what was ticked");
}

#[test]
fn nothing_ticked_is_asked_again_and_deny_is_told() {
    let state = State::new();
    let server = state.serve();
    let client = server.client();
    let mut browser = Browser::new(&server);
    browser.sign_in();
    let page = browser.authorize(&server.request(&client)).expect(200, "the page that asks");
    let again = browser.decide(&page, &[], "allow").expect(422, "nothing is ticked");
    check_page(&again);
    assert!(again.text().contains("Choose at least one") && again.text().contains("role=\"alert\""));
    let answer = browser.decide(&again, &[], "deny").expect(303, "denied");
    let parameters = answer_parameters(&answer);
    assert_eq!(parameters[0], ("error".to_owned(), "access_denied".to_owned()));
    assert_eq!(parameters.last().expect("more"), &("iss".to_owned(), server.issuer()));
    assert!(state.command(&["grants", "list"]).starts_with("None"));
}

/// A page that closes over this one between the two clicks of a double click has the second one.
#[test]
fn one_click_does_not_let_a_client_in_that_was_never_connected() {
    let state = State::new();
    let server = state.serve();
    let client = server.client();
    let mut browser = Browser::new(&server);
    browser.sign_in();
    let clicked = |browser: &mut Browser<'_>, page: &Response| {
        let fields = Parameters::new(&[
            ("form", &hidden(page, "form")),
            ("request", &hidden(page, "request")),
            ("decision", "allow"),
            ("scope", "op:add"),
        ]);
        browser.post("/consent", &fields)
    };
    let page = browser.authorize(&server.request(&client)).expect(200, "the page that asks");
    assert!(page.text().contains("name=\"begun\" value=\"yes\" required"), "{}", page.text());
    let again = clicked(&mut browser, &page).expect(422, "nobody has said that they have begun it");
    check_page(&again);
    assert!(again.text().contains("role=\"alert\"") && again.header("Location").is_none(), "{}", again.text());
    assert!(state.command(&["grants", "list"]).starts_with("None"));
    // Something else is wrong: what was said need not be said again.
    let nothing = browser.decide(&again, &[], "allow").expect(422, "nothing is ticked");
    assert!(nothing.text().contains("name=\"begun\" value=\"yes\" checked"), "{}", nothing.text());
    browser.decide(&nothing, &["op:add"], "allow").expect(303, "as it is meant");
    let page = browser.authorize(&server.request(&client)).expect(200, "the page that asks");
    assert!(!page.text().contains("name=\"begun\""), "{}", page.text());
    clicked(&mut browser, &page).expect(303, "it is connected");
    let other = browser.authorize(&server.request(&server.client())).expect(200, "the page that asks");
    clicked(&mut browser, &other).expect(422, "another one is not");
}

/// Attack 4.
#[test]
fn forms_of_other_pages_browsers_and_requests_are_refused() {
    let state = State::new();
    let server = state.serve();
    let client = server.client();
    let mut browser = Browser::new(&server);
    browser.sign_in();
    let page = browser.authorize(&server.request(&client)).expect(200, "the page that asks");
    let fields = Parameters::new(&[
        ("request", &hidden(&page, "request")),
        ("decision", "allow"),
        ("scope", "op:add"),
        ("begun", "yes"),
    ]);
    let with_form = fields.clone().and("form", &hidden(&page, "form"));
    // From another site, by any of the ways in which a browser says so.
    for (origin, site) in [
        (Some("https://evil.example"), Some("cross-site")),
        (Some("null"), Some("cross-site")),
        (None, Some("cross-site")),
        (Some("https://evil.example"), Some("same-origin")),
        (Some("https://evil.example"), None),
        (Some("null"), None),
        (None, Some("same-site")),
        (None, Some("none")),
        (None, None),
    ] {
        let mut request = form("/consent", &with_form);
        for (name, value) in [("Origin", origin), ("Sec-Fetch-Site", site)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let answer = browser.send(request);
        assert_eq!((answer.status, answer.header("Location")), (403, None), "{origin:?} {site:?}: {answer:?}");
        check_page(&answer);
    }
    // Without the token, with another form's, and for another browser's request.
    browser.post("/consent", &fields).expect(400, "no token");
    let account = browser.get("/account").expect(200, "account");
    browser.post("/consent", &fields.clone().and("form", &account_form(&account))).expect(400, "another form's");
    let mut thief = Browser::new(&server);
    thief.sign_in();
    thief.post("/consent", &with_form).expect(400, "another browser's token");
    let own = thief.authorize(&server.request(&client)).expect(200, "the page that asks");
    thief.post("/consent", &fields.and("form", &hidden(&own, "form"))).expect(400, "another browser's request");
    // And with both, once.
    browser.post("/consent", &with_form).expect(303, "as it is meant");
    browser.post("/consent", &with_form).expect(400, "a second time");
    assert_eq!(state.command(&["grants", "list"]).lines().count(), 2);
}

#[test]
fn a_browser_that_is_not_signed_in_allows_nothing() {
    let state = State::new();
    let server = state.serve();
    let client = server.client();
    let mut browser = Browser::new(&server);
    browser.sign_in();
    let page = browser.authorize(&server.request(&client)).expect(200, "the page that asks");
    let account = browser.get("/account").expect(200, "account");
    let cookie = browser.cookie.clone();
    browser.post("/sign-out", &Parameters::new(&[("form", &account_form(&account))])).expect(400, "another form's");
    let text = account.text();
    let token = text.split("action=\"/sign-out\"").nth(1).and_then(|rest| rest.split("value=\"").nth(1));
    let token = token.and_then(|rest| rest.split('"').next()).expect("a token");
    let out = browser.post("/sign-out", &Parameters::new(&[("form", token)])).expect(200, "signed out");
    check_page(&out);
    // Whoever has kept the cookie has nothing.
    browser.cookie = cookie;
    browser.decide(&page, &["op:add"], "allow").expect(400, "signed out");
    assert!(browser.get("/account").expect(200, "page").text().contains("Passphrase"));
}

/// Attacks 6 and 23.
#[test]
fn a_clients_name_is_text_and_cannot_pretend() {
    let state = State::new();
    let server = state.serve();
    let mut browser = Browser::new(&server);
    browser.sign_in();
    let name = format!("<script>alert(1)</script>\"'&\u{202e}\u{200b}Claude{}", "x".repeat(500));
    let metadata = json!({
        "client_name": name, "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none",
        "logo_uri": "https://evil.example/logo.png",
    });
    let registered = server.register(&metadata).expect(201, "registered").json();
    let client = registered["client_id"].as_str().expect("an id");
    let page = browser.authorize(&server.request(client)).expect(200, "the page that asks");
    check_page(&page);
    let text = page.text();
    assert!(text.contains("&#60;script&#62;alert(1)&#60;/script&#62;") && text.contains("nobody has checked it"));
    assert!(!text.contains('\u{202e}') && !text.contains('\u{200b}') && !text.contains("evil.example"));
    assert!(!text.contains(&"x".repeat(64)), "it is cut");
    assert!(text.contains("a program on the device in front of you"), "the answer goes to loopback");
    let code = browser.code(&server.request(client), &["op:add"]);
    server.token(&server.exchange(client, &code)).expect(200, "tokens");
    let account = browser.get("/account").expect(200, "account");
    check_page(&account);
    assert!(!account.text().contains("<script") && account.text().contains("Add two numbers"));
}
