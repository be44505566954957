//! Attacks on the authorization endpoint.

use std::{net::TcpListener, time::Duration};

use super::world::{Browser, CALLBACK, Parameters, State, check_page, hidden};
use crate::common::http::{Request, Response};

/// A page with an error; nobody is sent anywhere.
fn check_error(answer: &Response, words: &str) {
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(answer.header("Location"), None);
    check_page(answer);
    assert!(answer.text().contains(words), "{words}: {}", answer.text());
}

/// Attacks 1 and 2.
#[test]
fn an_unknown_client_or_redirect_uri_gets_a_page_and_never_a_redirect() {
    let state = State::new();
    let server = state.serve();
    let client = server.client();
    let mut stranger = Browser::new(&server);
    check_error(&stranger.authorize(&server.request("mcpb_client_unknown")), "It is not known here");
    check_error(&stranger.authorize(&server.request(&client).without("client_id")), "did not say who it is");
    let mut browser = Browser::new(&server);
    browser.sign_in();
    for redirect_uri in [
        "http://127.0.0.1:5555/cb/",
        "http://127.0.0.1:5555/cb?x",
        "http://127.0.0.1:5555/cb#f",
        "http://127.0.0.1:5555/CB",
        "http://127.0.0.1:5555/../cb",
        "http://127.0.0.1:5555/x/%2e%2e/cb",
        "http://127.0.0.1:5555@evil.example/cb",
        "http://127.0.0.1.evil.example/cb",
        "http://localhost:5555/cb",
        "http://[::1]:5555/cb",
        "https://127.0.0.1:5555/cb",
        "http://evil.example/cb",
        "//evil.example/cb",
        "javascript:alert(1)",
    ] {
        let answer = browser.authorize(&server.request(&client).with("redirect_uri", redirect_uri));
        check_error(&answer, "an address that it has not registered");
        assert!(!answer.text().contains("href"), "{}", answer.text());
    }
    // Only the port on loopback may differ; and who has registered one place need not repeat it.
    browser.authorize(&server.request(&client).with("redirect_uri", "http://127.0.0.1:6666/cb")).expect(200, "port");
    browser.authorize(&server.request(&client).with("redirect_uri", "http://127.0.0.1/cb")).expect(200, "no port");
    browser.authorize(&server.request(&client).without("redirect_uri")).expect(200, "the only one");
}

/// Attack 2.
#[test]
fn nobody_is_sent_anywhere_before_somebody_has_signed_in() {
    let state = State::new();
    let server = state.serve();
    let client = server.client();
    let good = server.request(&client);
    for request in [
        good.clone(),
        good.clone().with("response_type", "token"),
        good.clone().without("code_challenge"),
        good.clone().with("scope", "nothing"),
        good.clone().with("redirect_uri", "https://evil.example/"),
    ] {
        let answer = Browser::new(&server).authorize(&request).expect(200, "the page to sign in");
        check_page(&answer);
        assert_eq!(answer.header("Location"), None);
        assert_eq!(hidden(&answer, "next"), format!("/authorize?{}", request.encoded()));
    }
}

/// Attacks 8, 13, 14 and 23: an error is shown, and goes to the client only if its user follows a link.
#[test]
fn wrong_requests_are_shown_with_a_way_back_to_the_client() {
    let state = State::new();
    let server = state.serve();
    let client = server.client();
    let mut browser = Browser::new(&server);
    browser.sign_in();
    let good = server.request(&client);
    let short = "a".repeat(42);
    let cases: [(Parameters, &str); 13] = [
        (good.clone().with("response_type", "token"), "unsupported_response_type"),
        (good.clone().without("response_type"), "unsupported_response_type"),
        (good.clone().with("response_mode", "fragment"), "invalid_request"),
        (good.clone().with("code_challenge_method", "plain"), "invalid_request"),
        (good.clone().without("code_challenge_method"), "invalid_request"),
        (good.clone().without("code_challenge"), "invalid_request"),
        (good.clone().with("code_challenge", &short), "invalid_request"),
        (good.clone().with("code_challenge", &format!("{short}=")), "invalid_request"),
        (good.clone().with("resource", "https://other.example/mcp"), "invalid_target"),
        (good.clone().with("resource", &format!("{}/", server.resource())), "invalid_target"),
        (good.clone().with("scope", "admin root"), "invalid_scope"),
        (good.clone().with("request", "eyJ"), "request_not_supported"),
        (good.clone().with("request_uri", "urn:x"), "request_not_supported"),
    ];
    for (request, error) in cases {
        let answer = browser.authorize(&request);
        check_error(&answer, "cannot be connected");
        let href = answer.text().split("href=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a link");
        let href = href.replace("&#38;", "&");
        assert!(href.starts_with(&format!("{CALLBACK}?error={error}&error_description=")), "{href}");
        let issuer: String = url::form_urlencoded::byte_serialize(server.issuer().as_bytes()).collect();
        assert!(href.ends_with(&format!("&state=st%2Fate+1&iss={issuer}")), "{href}");
    }
    for text in ["state=a&state=b", "client_id=a&client_id=b", "scope=%ff", "scope=%00"] {
        let query = format!("{}&{text}", good.clone().without("state").encoded());
        let answer = browser.get(&format!("/authorize?{query}"));
        assert_eq!((answer.status, answer.header("Location")), (400, None), "{text}");
        check_page(&answer);
    }
    browser.post("/authorize", &good).expect(405, "only GET asks");
}

/// The longest state that is taken still fits through the form of the sign-in page.
#[test]
fn a_long_state_comes_back_whole() {
    let state = State::new();
    let server = state.serve();
    let client = server.client();
    let long = "ä€/ ".repeat(512);
    assert_eq!(long.len(), 3584);
    let request = server.request(&client).with("state", &long);
    let mut browser = Browser::new(&server);
    let page = browser.authorize(&request).expect(200, "the page to sign in");
    let answer = browser.submit_passphrase(&page, super::world::PASSPHRASE).expect(303, "signed in");
    let next = answer.header("Location").expect("a place").to_owned();
    let page = browser.get(&next).expect(200, "the page that asks");
    let answer = browser.decide(&page, &["op:add"], "allow").expect(303, "consent");
    let parameters = super::world::answer_parameters(&answer);
    assert_eq!(parameters[1], ("state".to_owned(), long));
    let longer = browser.authorize(&request.with("state", &"x".repeat(4097)));
    assert!(longer.status == 400 && !longer.text().contains(&"x".repeat(4097)), "{longer:?}");
}

/// Attack 21.
#[test]
fn issuer_and_resource_do_not_come_from_headers() {
    let state = State::new();
    let server = state.serve_with(|line| line.flag("--public-url", "https://mcp.example.com"));
    let host = server.bridge.address().to_string();
    let request = Request::get("/.well-known/oauth-authorization-server")
        .header("Host", &host)
        .header("X-Forwarded-Host", "evil.example")
        .header("X-Forwarded-Proto", "http")
        .header("Forwarded", "host=evil.example");
    let metadata = server.send(&request).expect(200, "metadata");
    assert_eq!(metadata.json()["issuer"], "https://mcp.example.com");
    assert!(!metadata.text().contains("evil.example"));
    for path in ["/.well-known/oauth-authorization-server", "/authorize", "/token", "/account"] {
        let answer = server.send(&Request::get(path).with("Host", "evil.example"));
        assert_eq!(answer.status, 421, "{path}: {answer:?}");
    }
    let page = server.send(&Request::get("/account").header("Host", "mcp.example.com")).expect(200, "page");
    let cookie = page.header("Set-Cookie").expect("a cookie");
    assert!(
        cookie.starts_with("__Host-mcp-bridge=") && cookie.contains("; Secure; HttpOnly; SameSite=Lax"),
        "{cookie}"
    );
}

/// Attack 17.
#[test]
fn documents_are_fetched_for_nobody_and_never_from_this_network() {
    let state = State::new();
    let server = state.serve();
    let inside = TcpListener::bind("127.0.0.1:0").expect("a port");
    inside.set_nonblocking(true).expect("ours");
    let port = inside.local_addr().expect("bound").port();
    let documents = [
        format!("https://127.0.0.1:{port}/client.json"),
        format!("https://localhost:{port}/client.json"),
        format!("https://[::ffff:7f00:1]:{port}/client.json"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://10.0.0.1/client.json".to_owned(),
        "https://[fd00::1]/client.json".to_owned(),
    ];
    for document in &documents {
        Browser::new(&server).authorize(&server.request(document)).expect(200, "the page to sign in");
    }
    let mut browser = Browser::new(&server);
    browser.sign_in();
    for document in &documents {
        check_error(&browser.authorize(&server.request(document)), "its host is not on the public internet");
    }
    // What only looks like one is an unknown client.
    for id in ["https://c.example", "https://c.example/../x", "https://u:p@c.example/x", "HTTPS://c.example/x"] {
        check_error(&browser.authorize(&server.request(id)), "It is not known here");
    }
    std::thread::sleep(Duration::from_millis(1));
    let knocked = inside.accept().map(|_| ());
    assert_eq!(knocked.map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock), "somebody was asked");
}
