//! Attack 16: floods of registrations.

use serde_json::json;

use super::world::{Browser, CALLBACK, State};
use crate::common::http::Request;

#[test]
fn a_registration_is_small_and_about_addresses_that_answers_may_be_sent_to() {
    let state = State::new();
    let server = state.serve();
    for (metadata, error) in [
        (json!({ "redirect_uris": ["http://evil.example/cb"] }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": ["javascript:alert(1)"] }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": ["myapp://cb"] }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": [] }), "invalid_redirect_uri"),
        (
            json!({ "redirect_uris": (0..9).map(|n| format!("https://c.example/{n}")).collect::<Vec<_>>() }),
            "invalid_redirect_uri",
        ),
        (
            json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "private_key_jwt" }),
            "invalid_client_metadata",
        ),
        (json!({ "redirect_uris": [CALLBACK], "grant_types": ["client_credentials"] }), "invalid_client_metadata"),
        (json!([CALLBACK]), "invalid_client_metadata"),
    ] {
        let answer = server.register(&metadata).expect(400, "refused");
        assert_eq!(answer.json()["error"], error, "{metadata}");
    }
    let large = json!({ "redirect_uris": [CALLBACK], "client_name": "x".repeat(8 * 1024) });
    server.register(&large).expect(413, "more than 8 KiB");
    let as_form = Request::post("/register").header("Content-Type", "text/plain").json(&json!({}));
    server.send(&as_form).expect(400, "not JSON");
    // Another scheme is allowed where the settings say so.
    let server = state.serve_with(|line| line.flag("--redirect-scheme", "myapp"));
    server.register(&json!({ "redirect_uris": ["myapp://cb"] })).expect(201, "a scheme of the settings");
}

#[test]
fn strangers_register_only_so_fast_and_push_out_nobody_who_was_allowed_in() {
    let state = State::new();
    let server = state.serve();
    let client = server.client();
    let tokens = server.grant(&client, &["op:add"]);
    let metadata = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none" });
    let statuses: Vec<u16> = (0..40).map(|_| server.register(&metadata).status).collect();
    assert!(statuses.contains(&429) && statuses.contains(&201), "{statuses:?}");
    let refused = server.register(&metadata);
    if refused.status == 429 {
        assert!(refused.header("Retry-After").is_some());
    }
    assert_eq!(server.call("add", &tokens.access), 200);
    server.token(&server.refresh(&client, &tokens.refresh)).expect(200, "who was allowed in stays");
}

#[test]
fn registration_can_be_open_for_a_while_only() {
    let state = State::new();
    let server = state.serve_with(|line| line.flag("--registration", "window"));
    let metadata = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none" });
    assert_eq!(server.register(&metadata).expect(403, "closed").json()["error"], "access_denied");
    assert!(state.command(&["apps", "open"]).contains("ten minutes"));
    let client = server.register(&metadata).expect(201, "open").json();
    let mut browser = Browser::new(&server);
    browser.sign_in();
    browser.authorize(&server.request(client["client_id"].as_str().expect("an id"))).expect(200, "registered");
}
