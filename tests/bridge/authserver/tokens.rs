//! Attacks on the token and revocation endpoints.

use std::thread;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;

use super::world::{Browser, CALLBACK, Parameters, Server, State, Tokens, form};
use crate::common::http::Request;

fn code(server: &Server<'_>, client: &str) -> String {
    let mut browser = Browser::new(server);
    browser.sign_in();
    browser.code(&server.request(client), &["op:add", "op:div"])
}

/// Attacks 8, 9 and 10.
#[test]
fn a_code_is_bound_to_all_that_it_was_made_for_and_wrong_guesses_use_nothing_up() {
    let state = State::new();
    let server = state.serve();
    let (client, other) = (server.client(), server.client());
    let code = code(&server, &client);
    let good = server.exchange(&client, &code);
    let long = "a".repeat(129);
    for (wrong, error) in [
        (good.clone().with("code_verifier", &"b".repeat(43)), "invalid_grant"),
        (good.clone().with("code_verifier", &"b".repeat(42)), "invalid_request"),
        (good.clone().with("code_verifier", &long), "invalid_request"),
        (good.clone().with("code_verifier", &format!("{}!", "b".repeat(43))), "invalid_request"),
        (good.clone().without("code_verifier"), "invalid_request"),
        (good.clone().with("redirect_uri", "http://127.0.0.1:5556/cb"), "invalid_grant"),
        (good.clone().without("redirect_uri"), "invalid_grant"),
        (good.clone().with("client_id", &other), "invalid_grant"),
        (good.clone().with("client_id", "mcpb_client_unknown"), "invalid_client"),
        (good.clone().without("client_id"), "invalid_request"),
        (good.clone().with("resource", "https://other.example/mcp"), "invalid_target"),
        (good.clone().with("code", &format!("{code}x")), "invalid_grant"),
        (good.clone().without("code"), "invalid_request"),
        (good.clone().with("grant_type", "password"), "unsupported_grant_type"),
        (good.clone().without("grant_type"), "invalid_request"),
        (good.clone().and("client_id", &client), "invalid_request"),
        (good.clone().and("code_verifier", "x"), "invalid_request"),
        (good.clone().and("client_secret", "x"), "invalid_client"),
    ] {
        assert_eq!(server.token_error(&wrong), error, "{wrong:?}");
    }
    let tokens = Tokens::of(server.token(&good));
    assert_eq!(tokens.scope, "op:add op:div");
    // A replay with wrong parameters is refused and ends nothing, …
    assert_eq!(server.token_error(&good.clone().with("code_verifier", &"b".repeat(43))), "invalid_grant");
    assert_eq!(server.call("add", &tokens.access), 200);
    // … and one with the right ones ends what came of it.
    assert_eq!(server.token_error(&good), "invalid_grant");
    assert_eq!(server.call("add", &tokens.access), 401);
    assert_eq!(server.token_error(&server.refresh(&client, &tokens.refresh)), "invalid_grant");
}

/// Attack 24.
#[test]
fn of_many_requests_with_one_code_one_wins() {
    let state = State::new();
    let server = state.serve();
    let client = server.client();
    for _ in 0..5 {
        let exchange = server.exchange(&client, &code(&server, &client));
        let statuses: Vec<u16> = thread::scope(|scope| {
            let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| server.token(&exchange).status)).collect();
            asked.into_iter().map(|asked| asked.join().expect("no panic")).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| [200, 400].contains(status)), "{statuses:?}");
    }
}

/// Attacks 11 and 12.
#[test]
fn refresh_tokens_rotate_and_a_stolen_one_ends_the_grant() {
    let state = State::new();
    let server = state.serve();
    let (client, other) = (server.client(), server.client());
    let first = server.grant(&client, &["op:add", "op:div"]);
    let refresh = server.refresh(&client, &first.refresh);
    assert_eq!(server.token_error(&refresh.clone().with("client_id", &other)), "invalid_grant");
    assert_eq!(server.token_error(&refresh.clone().with("scope", "op:add op:mult")), "invalid_scope");
    assert_eq!(server.token_error(&refresh.clone().with("resource", "https://other.example")), "invalid_target");
    assert_eq!(server.token_error(&refresh.clone().with("refresh_token", &first.access)), "invalid_grant");
    let narrow = Tokens::of(server.token(&refresh.clone().with("scope", "op:add")));
    assert_eq!(narrow.scope, "op:add");
    assert_eq!((server.call("add", &narrow.access), server.call("divide", &narrow.access)), (200, 403));
    // The answer may have been lost: the same token works until its successor is used.
    let again = Tokens::of(server.token(&refresh));
    assert_eq!(server.call("divide", &again.access), 200);
    let next = Tokens::of(server.token(&server.refresh(&client, &again.refresh)));
    assert_eq!(server.token_error(&refresh), "invalid_grant");
    for token in [&first.access, &narrow.access, &again.access, &next.access] {
        assert_eq!(server.call("add", token), 401, "the whole grant is void");
    }
    assert_eq!(server.token_error(&server.refresh(&client, &next.refresh)), "invalid_grant");
}

/// Attack 15.
#[test]
fn a_client_authenticates_as_it_was_registered() {
    let state = State::new();
    let server = state.serve();
    for method in ["client_secret_basic", "client_secret_post"] {
        let metadata = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": method });
        let registered = server.register(&metadata).expect(201, method).json();
        let text = |name: &str| registered[name].as_str().expect("text").to_owned();
        let (client, secret) = (text("client_id"), text("client_secret"));
        let exchange = server.exchange(&client, &code(&server, &client));
        let basic = |secret: &str| {
            let credentials = BASE64_STANDARD.encode(format!("{client}:{secret}"));
            form("/token", &exchange.clone().without("client_id"))
                .header("Authorization", format!("Basic {credentials}"))
        };
        let in_form = |secret: &str| form("/token", &exchange.clone().with("client_secret", secret));
        let is_basic = method == "client_secret_basic";
        let (good, bad) =
            if is_basic { (basic(&secret), in_form(&secret)) } else { (in_form(&secret), basic(&secret)) };
        let wrong = if is_basic { basic("mcpb_cs_wrong") } else { in_form("mcpb_cs_wrong") };
        for request in [&bad, &wrong, &form("/token", &exchange)] {
            let answer = server.send(request).expect(401, method);
            assert_eq!(answer.json()["error"], "invalid_client");
        }
        let challenged = server.send(if is_basic { &wrong } else { &bad });
        assert_eq!(challenged.header("WWW-Authenticate"), Some("Basic realm=\"token\""));
        let both = if is_basic { good.clone() } else { basic(&secret) };
        let both = both.body(exchange.clone().with("client_secret", &secret).encoded());
        assert_eq!(server.send(&both).json()["error"], "invalid_request", "in two ways at once");
        let tokens = Tokens::of(server.send(&good));
        assert_eq!(server.call("add", &tokens.access), 200, "nothing wrong has used the code up");
    }
}

/// Attack 25.
#[test]
fn clients_revoke_what_is_theirs() {
    let state = State::new();
    let server = state.serve();
    let (client, other) = (server.client(), server.client());
    let tokens = server.grant(&client, &["op:add"]);
    let revoke = |client: &str, token: &str| {
        let parameters = Parameters::new(&[("client_id", client), ("token", token), ("token_type_hint", "x")]);
        server.send(&form("/revoke", &parameters))
    };
    revoke(&other, &tokens.access).expect(200, "another client's");
    revoke(&other, &tokens.refresh).expect(200, "another client's");
    revoke(&client, "unknown").expect(200, "unknown");
    assert_eq!(server.call("add", &tokens.access), 200);
    revoke("mcpb_client_unknown", &tokens.access).expect(401, "who is that");
    server.send(&form("/revoke", &Parameters::new(&[("client_id", &client)]))).expect(400, "no token");
    revoke(&client, &tokens.access).expect(200, "its own");
    assert_eq!(server.call("add", &tokens.access), 401, "from the very next call");
    let next = Tokens::of(server.token(&server.refresh(&client, &tokens.refresh)));
    revoke(&client, &next.refresh).expect(200, "its own");
    assert_eq!(server.call("add", &next.access), 401);
    assert_eq!(server.token_error(&server.refresh(&client, &next.refresh)), "invalid_grant");
}

/// Attack 22.
#[test]
fn pages_of_any_origin_may_use_what_is_for_clients_and_nothing_else() {
    let state = State::new();
    let server = state.serve();
    for path in ["/token", "/register", "/revoke"] {
        let preflight = Request::new("OPTIONS", path)
            .header("Origin", "https://app.example")
            .header("Access-Control-Request-Method", "POST")
            .header("Access-Control-Request-Headers", "content-type, mcp-protocol-version");
        let answer = server.send(&preflight).expect(204, path);
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"));
        assert!(answer.lists("Access-Control-Allow-Headers", "content-type"));
        assert_eq!(answer.header("Access-Control-Allow-Credentials"), None);
        let answer = server.send(&Request::post(path).header("Origin", "https://app.example"));
        assert_eq!((answer.status, answer.header("Access-Control-Allow-Origin")), (400, Some("*")), "{path}");
        assert!(answer.json()["error"].is_string(), "the reason can be read");
        server.send(&Request::get(path)).expect(405, path);
    }
    for path in ["/authorize", "/sign-in", "/account", "/consent"] {
        let answer = server.send(&Request::get(path).header("Origin", "https://app.example"));
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None, "{path}: {answer:?}");
        let answer = server.send(&Request::new("OPTIONS", path).header("Origin", "https://app.example"));
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None, "{path}: {answer:?}");
    }
}

#[test]
fn a_token_is_for_one_resource() {
    let state = State::new();
    let file = state.folder().with_file_name("bridge.toml");
    std::fs::write(&file, "[[server]]\nname = \"one\"\npath = \"/mcp\"\n[[server]]\nname = \"two\"\npath = \"/two\"\n")
        .expect("written");
    let server = state.serve_with(|line| line.flag("--config", file.to_str().expect("UTF-8")));
    let client = server.client();
    let tokens = server.grant(&client, &["op:add"]);
    assert_eq!(server.call("add", &tokens.access), 200);
    let call = crate::common::mcp::call("add").bearer(&tokens.access).target("/two");
    server.send(&call).expect(401, "another resource");
    let mut browser = Browser::new(&server);
    browser.sign_in();
    let answer = browser.authorize(&server.request(&client).without("resource"));
    assert!(answer.status == 400 && answer.text().contains("invalid_target"), "which of the two? {answer:?}");
}
