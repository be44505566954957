use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::*;
use crate::{
    login::testing::{self, Provider},
    secret::Secret,
};

async fn renew(provider: &Provider, record: &Record) -> Result<Record, RefreshError> {
    refresh(&provider.server.fetcher(), record).await
}

#[tokio::test]
async fn renewal_sends_the_resource_and_keeps_what_the_answer_leaves_out() {
    let provider =
        Provider::start(|script| script.token = vec![(200, json!({ "access_token": "new", "token_type": "bearer" }))]);
    let old = Record { expires_at: Some(SystemTime::UNIX_EPOCH), ..provider.record() };
    let new = renew(&provider, &old).await.expect("renewed");
    assert_eq!(new.access_token.expose(), "new");
    assert_eq!(new.refresh_token.expect("kept").expose(), "old-refresh");
    assert_eq!((new.scopes, new.subject, new.expires_at), (old.scopes, old.subject, None));
    let [request] = &provider.server.requests_to("/token")[..] else { panic!("one request") };
    let field = |name| request.field(name);
    assert_eq!(field("grant_type").as_deref(), Some("refresh_token"));
    assert_eq!(field("refresh_token").as_deref(), Some("old-refresh"));
    assert_eq!(field("resource"), old.resource);
    assert_eq!(field("client_id").as_deref(), Some("known"));
    assert_eq!((field("scope"), field("client_secret")), (None, None));
}

#[tokio::test]
async fn rotated_refresh_token_and_narrower_scopes_are_remembered() {
    let answer = json!({ "access_token": "a", "token_type": "Bearer", "refresh_token": "rotated", "scope": "x y", "expires_in": 60 });
    let provider = Provider::start(|script| script.token = vec![(200, answer)]);
    let before = SystemTime::now();
    let new = renew(&provider, &provider.record()).await.expect("renewed");
    assert_eq!(new.refresh_token.expect("a new one").expose(), "rotated");
    assert_eq!(new.scopes, ["x", "y"]);
    let left = new.expires_at.expect("a lifetime").duration_since(before).expect("later");
    assert!(left >= Duration::from_secs(60) && left < Duration::from_secs(120), "{left:?}");
}

#[tokio::test]
async fn only_a_dead_refresh_token_signs_the_user_out() {
    for (status, body, rejected) in [
        (400, json!({ "error": "invalid_grant", "error_description": "spent\u{1b}[2J" }), true),
        (401, json!({ "error": "invalid_grant" }), true),
        (200, json!({ "error": "invalid_grant" }), true),
        (401, json!({ "error": "invalid_client" }), false),
        (400, json!({ "error": "temporarily_unavailable" }), false),
        (500, json!({ "message": "canary" }), false),
        (503, json!({}), false),
        (302, json!({}), false),
        (200, json!({ "access_token": 1, "token_type": "Bearer" }), false),
        (200, json!({ "access_token": "canary", "token_type": "DPoP" }), false),
        (200, json!(["canary"]), false),
    ] {
        let provider = Provider::start(|script| script.token = vec![(status, body.clone())]);
        let error = renew(&provider, &provider.record()).await.expect_err("no token");
        assert_eq!(matches!(error, RefreshError::Rejected(_)), rejected, "{status} {body}: {error}");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("canary") && !error.to_string().contains('\u{1b}'), "{text}");
    }
}

#[tokio::test]
async fn unreachable_server_signs_nobody_out() {
    let provider = Provider::start(|_| ());
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let gone = format!("http://{}/token", listener.local_addr().expect("an address"));
    drop(listener);
    let record = Record { token_endpoint: gone.parse().expect("a URL"), ..provider.record() };
    let error = renew(&provider, &record).await.expect_err("nobody there");
    assert!(matches!(error, RefreshError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn client_that_is_not_known_any_more_is_told_apart() {
    let provider = Provider::start(|script| script.token = vec![(401, json!({ "error": "invalid_client" }))]);
    let error = renew(&provider, &provider.record()).await.expect_err("no token");
    assert!(matches!(error, RefreshError::UnknownClient(_)), "{error}");
}

#[tokio::test]
async fn record_without_refresh_token_asks_nobody() {
    let provider = Provider::start(|_| ());
    let error = renew(&provider, &Record { refresh_token: None, ..provider.record() }).await.expect_err("none");
    assert!(matches!(error, RefreshError::Rejected(_)), "{error}");
    assert_eq!(provider.server.requests().len(), 0);
}

#[tokio::test]
async fn endpoint_of_a_record_that_is_no_longer_acceptable_gets_no_token() {
    let record = Provider::start(|_| ()).record();
    for url in ["http://auth.example.com/token", "https://169.254.169.254/token"] {
        let record = Record { token_endpoint: url.parse().expect(url), ..record.clone() };
        let error = refresh(&testing::fetcher("https://mcp.example.com"), &record).await.expect_err(url);
        assert!(matches!(error, RefreshError::Unavailable(_)), "{url}: {error}");
    }
}

fn confidential(provider: &Provider, secret_in_form: bool) -> Record {
    let mut record = provider.record();
    record.client.secret = Some(Secret::new("s:e/c ret".to_owned()));
    record.client.secret_in_form = secret_in_form;
    record
}

#[tokio::test]
async fn client_secret_goes_where_the_server_takes_it() {
    for secret_in_form in [false, true] {
        let provider = Provider::start(|_| ());
        let record = confidential(&provider, secret_in_form);
        renew(&provider, &record).await.expect("renewed");
        revoke(&provider.server.fetcher(), &record).await.expect("revoked");
        for request in provider.server.requests() {
            let basic = STANDARD.encode("known:s%3Ae%2Fc+ret");
            let header = (!secret_in_form).then(|| format!("Basic {basic}"));
            assert_eq!(request.header("Authorization").map(str::to_owned), header, "{}", request.target);
            assert_eq!(request.field("client_secret").is_some(), secret_in_form, "{}", request.target);
        }
    }
}

#[tokio::test]
async fn revocation_takes_the_refresh_token_first_and_then_the_access_token() {
    let provider = Provider::start(|_| ());
    revoke(&provider.server.fetcher(), &provider.record()).await.expect("revoked");
    let sent: Vec<_> = provider
        .server
        .requests_to("/revoke")
        .iter()
        .map(|request| (request.field("token_type_hint"), request.field("token"), request.field("client_id")))
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        sent,
        [
            (some("refresh_token"), some("old-refresh"), some("known")),
            (some("access_token"), some("old-access"), some("known")),
        ]
    );
}

#[tokio::test]
async fn access_token_is_revoked_even_if_the_refresh_token_cannot_be() {
    let answers = vec![(503, json!({ "error": "temporarily_unavailable" })), (200, json!({}))];
    let provider = Provider::start(|script| script.revoke = answers);
    let error = revoke(&provider.server.fetcher(), &provider.record()).await.expect_err("one works on");
    assert!(matches!(error, RevokeError::Refused { .. }), "{error}");
    assert_eq!(provider.server.requests_to("/revoke").len(), 2);
    provider
        .change(|script| script.revoke = vec![(200, json!({})), (400, json!({ "error": "unsupported_token_type" }))]);
    revoke(&provider.server.fetcher(), &provider.record()).await.expect("the refresh token is revoked");
}

#[tokio::test]
async fn server_without_revocation_is_named() {
    let provider = Provider::start(|_| ());
    let error = revoke(&provider.server.fetcher(), &Record { revocation_endpoint: None, ..provider.record() }).await;
    assert!(matches!(error, Err(RevokeError::Unsupported { .. })), "{error:?}");
}
