//! The account page.

use super::world::{Browser, PASSPHRASE, Parameters, State, account_form, check_page, hidden, numbers};

#[test]
fn what_is_connected_is_shown_and_taken_back_from_the_next_call_on() {
    let state = State::new();
    let server = state.serve();
    let (one, two) = (server.client(), server.client());
    let mut browser = Browser::new(&server);
    browser.sign_in();
    let empty = browser.get("/account").expect(200, "account");
    check_page(&empty);
    assert!(empty.text().contains("None yet") && empty.text().contains(server.resource()));
    let (first, second) = (server.grant(&one, &["op:add"]), server.grant(&two, &["op:add", "op:div"]));
    assert_eq!((server.call("add", &first.access), server.call("divide", &second.access)), (200, 200));
    let page = browser.get("/account").expect(200, "account");
    check_page(&page);
    let grants = numbers(&page, "grant");
    assert_eq!(grants.len(), 2);
    assert!(page.text().contains("Divide one number by another") && page.text().contains("127.0.0.1:5555"));

    let fields = Parameters::new(&[("form", &account_form(&page)), ("grant", &grants[0])]);
    let foreign = super::world::form("/account/revoke", &fields).header("Sec-Fetch-Site", "cross-site");
    browser.send(foreign).expect(403, "of another page");
    let after = browser.post("/account/revoke", &fields).expect(200, "revoked");
    assert!(after.text().contains("not connected any more") && numbers(&after, "grant").len() == 1);
    assert_eq!((server.call("add", &first.access), server.call("divide", &second.access)), (200, 401));
    browser.post("/account/revoke", &fields).expect(400, "the form is used up");
    let fields = Parameters::new(&[("form", &account_form(&after)), ("grant", "x")]);
    browser.post("/account/revoke", &fields).expect(400, "no number");
    browser.get("/account/revoke").expect(405, "only POST");
    browser.get("/account/other").expect(404, "no such page");
}

#[test]
fn a_user_takes_back_only_what_is_theirs() {
    let state = State::new();
    let added = state.command(&["users", "add", "eve"]);
    let passphrase =
        added.split_whitespace().find(|word| word.matches('-').count() == 4).expect("a passphrase").to_owned();
    let server = state.serve();
    let tokens = server.grant(&server.client(), &["op:add"]);
    let mut eve = Browser::new(&server);
    let page = eve.get("/account").expect(200, "page");
    let fields = Parameters::new(&[("form", &hidden(&page, "form")), ("name", "eve"), ("passphrase", &passphrase)]);
    eve.post("/sign-in", &fields).expect(303, "signed in");
    let page = eve.get("/account").expect(200, "account");
    assert!(page.text().contains("None yet"));
    let fields = Parameters::new(&[("form", &account_form(&page)), ("grant", "1")]);
    eve.post("/account/revoke", &fields).expect(200, "told as if");
    assert_eq!(server.call("add", &tokens.access), 200);
    let page = eve.get("/account").expect(200, "account");
    let fields = Parameters::new(&[("form", &account_form(&page)), ("session", "1")]);
    eve.post("/account/end-session", &fields).expect(200, "told as if");
}

#[test]
fn browsers_are_signed_out_one_by_one_and_all_others_at_once() {
    let state = State::new();
    let server = state.serve();
    let mut browsers: Vec<Browser<'_>> = (0..4).map(|_| Browser::new(&server)).collect();
    browsers.iter_mut().for_each(Browser::sign_in);
    let is_in = |browser: &mut Browser<'_>| browser.get("/account").expect(200, "page").text().contains("Your account");
    let page = browsers[0].get("/account").expect(200, "account");
    let others = numbers(&page, "session");
    assert_eq!(others.len(), 3);
    let fields = Parameters::new(&[("form", &account_form(&page)), ("session", &others[0])]);
    let page = browsers[0].post("/account/end-session", &fields).expect(200, "ended");
    assert_eq!(browsers.iter_mut().map(|browser| usize::from(is_in(browser))).sum::<usize>(), 3);
    let fields = Parameters::new(&[("form", &account_form(&page))]);
    browsers[0].post("/account/end-others", &fields).expect(200, "ended");
    assert_eq!(browsers.iter_mut().map(|browser| usize::from(is_in(browser))).sum::<usize>(), 1);
}

#[test]
fn a_passphrase_is_changed_by_who_knows_it() {
    const NEW: &str = "a much longer passphrase";
    let state = State::new();
    let server = state.serve();
    let tokens = server.grant(&server.client(), &["op:add"]);
    let (mut browser, mut other) = (Browser::new(&server), Browser::new(&server));
    browser.sign_in();
    other.sign_in();
    let mut page = browser.get("/account").expect(200, "account");
    for (current, new, again, words) in [
        ("wrong wrong wrong", NEW, NEW, "The current passphrase is not right"),
        (PASSPHRASE, NEW, "something else", "are not the same"),
        (PASSPHRASE, "short", "short", "too easy to guess"),
        (PASSPHRASE, "aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaa", "too easy to guess"),
    ] {
        let fields =
            [("form", account_form(&page)), ("current", current.into()), ("new", new.into()), ("again", again.into())];
        let fields = Parameters(fields.map(|(name, value): (&str, String)| (name.to_owned(), value)).to_vec());
        page = browser.post("/account/passphrase", &fields).expect(422, words);
        assert!(page.text().contains(words), "{}", page.text());
    }
    let fields =
        Parameters::new(&[("form", &account_form(&page)), ("current", PASSPHRASE), ("new", NEW), ("again", NEW)]);
    browser.post("/account/passphrase", &fields).expect(200, "changed");
    assert!(other.get("/account").expect(200, "page").text().contains("Sign in to"), "other browsers are out");
    assert_eq!(server.call("add", &tokens.access), 200, "applications stay");
    let page = other.get("/account").expect(200, "page");
    let page = other.submit_passphrase(&page, PASSPHRASE).expect(403, "the old one");
    other.submit_passphrase(&page, NEW).expect(303, "the new one");
}
