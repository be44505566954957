use std::sync::Mutex;

use serde_json::{Value, json};

use super::*;
use crate::login::{
    browser::BrowserMode,
    discovery::Target,
    testing::{self, Provider},
};

struct Outcome {
    result: Result<Record, SignInError>,
    pauses: Vec<u64>,
    shown: Vec<(String, Option<String>, String)>,
}

async fn sign_in_at(provider: &Provider, known: Option<&Record>) -> Outcome {
    let (pauses, shown) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let fetcher = provider.server.fetcher();
    let target = Target::Server { url: format!("{}/mcp", provider.origin()), issuer: None };
    let client = testing::client();
    let show = |prompt: Prompt<'_>| {
        let Prompt::Device { url, url_with_code, code, .. } = prompt else { panic!("{prompt:?}") };
        let shown_now = (url.to_string(), url_with_code.map(Url::to_string), code.to_owned());
        shown.lock().expect("not poisoned").push(shown_now);
    };
    let order = SignIn {
        fetcher: &fetcher,
        target: &target,
        challenge: None,
        scopes: &[],
        client: &client,
        known,
        legacy: false,
        browser: BrowserMode::Open,
        prompt: &show,
        deadline: Duration::from_secs(30),
    };
    // The clock of these tests does not wait.
    let sleep = |pause: Duration| {
        pauses.lock().expect("not poisoned").push(pause.as_secs());
        std::future::ready(())
    };
    let result = sign_in_with(order, sleep).await;
    Outcome {
        result,
        pauses: pauses.into_inner().expect("not poisoned"),
        shown: shown.into_inner().expect("not poisoned"),
    }
}

fn refusal(error: &str) -> (u16, Value) {
    (400, json!({ "error": error, "error_description": "text\u{1b}[2J" }))
}

fn token() -> (u16, Value) {
    (200, json!({ "access_token": "a", "token_type": "Bearer", "scope": "read" }))
}

#[tokio::test]
async fn code_is_shown_and_the_server_is_asked_as_slowly_as_it_wants() {
    let answers =
        vec![refusal("authorization_pending"), refusal("slow_down"), refusal("authorization_pending"), token()];
    let provider = Provider::start(|script| script.token = answers);
    let outcome = sign_in_at(&provider, None).await;
    let record = outcome.result.expect("signed in");
    assert_eq!((record.scopes, record.client.redirect_uri), (vec!["read".to_owned()], None));
    assert_eq!(outcome.pauses, [5, 5, 10, 10]);
    assert_eq!(outcome.shown, [(format!("{}/enter", provider.origin()), None, "ABCD-EFGH".to_owned())]);
    let resource = Some(format!("{}/mcp", provider.origin()));
    let [start] = &provider.server.requests_to("/device")[..] else { panic!("one request") };
    assert_eq!((start.field("resource"), start.field("scope").as_deref()), (resource.clone(), Some("read write")));
    assert_eq!(start.field("client_id").as_deref(), Some("registered"));
    for request in provider.server.requests_to("/token") {
        assert_eq!(request.field("device_code").as_deref(), Some("canary-device"));
        assert_eq!(request.field("resource"), resource);
        assert_eq!(request.field("grant_type").as_deref(), Some(registration::DEVICE_GRANT));
    }
    let [registration] = &provider.server.requests_to("/register")[..] else { panic!("one request") };
    let registration: Value = serde_json::from_str(&registration.body).expect("JSON");
    assert_eq!(registration["grant_types"], json!([registration::DEVICE_GRANT, "refresh_token"]));
}

#[tokio::test]
async fn refusals_end_the_wait_and_say_why() {
    for (error, expected) in [
        ("access_denied", "was not allowed to give access"),
        ("expired_token", "the code has expired"),
        ("invalid_grant", "invalid_grant: text [2J"),
        ("\u{1b}]0;x", "]0;x"),
    ] {
        let provider = Provider::start(|script| script.token = vec![refusal("authorization_pending"), refusal(error)]);
        let text = sign_in_at(&provider, None).await.result.expect_err(error).to_string();
        assert!(text.contains(expected) && !text.contains('\u{1b}') && !text.contains("canary"), "{error}: {text}");
        assert_eq!(provider.server.requests_to("/token").len(), 2);
    }
}

#[tokio::test]
async fn page_for_the_code_is_https_or_nothing_is_shown() {
    for (name, url) in [
        ("verification_uri", "http://evil.example/enter"),
        ("verification_uri", "javascript:alert(1)"),
        ("verification_uri", "https://10.0.0.1/enter"),
        ("verification_uri_complete", "http://evil.example/enter?code=x"),
        ("verification_uri_complete", "file:///etc/passwd"),
        ("verification_uri_complete", "enter"),
    ] {
        let provider = Provider::start(|script| script.device[0].1[name] = json!(url));
        let outcome = sign_in_at(&provider, None).await;
        outcome.result.expect_err(url);
        assert_eq!(outcome.shown, [], "{url}");
        assert_eq!(provider.server.requests_to("/token").len(), 0, "{url}");
    }
}

#[tokio::test]
async fn server_that_asks_for_no_pause_is_not_flooded_and_one_that_asks_for_years_is_not_obeyed() {
    for (interval, expected) in [(json!(0), 1), (json!(3600), 60), (json!(null), 5), (json!(7), 7)] {
        let provider = Provider::start(|script| {
            script.device[0].1["interval"] = interval.clone();
            script.token = vec![token()];
        });
        let outcome = sign_in_at(&provider, None).await;
        outcome.result.expect("signed in");
        assert_eq!(outcome.pauses, [expected], "{interval}");
    }
}

#[tokio::test]
async fn interval_without_end_does_not_end_the_program() {
    for interval in [json!(u64::MAX), json!(3601)] {
        let provider = Provider::start(|script| {
            script.device[0].1["interval"] = interval.clone();
            script.token = vec![refusal("slow_down"), token()];
        });
        let outcome = sign_in_at(&provider, None).await;
        let error = outcome.result.expect_err("no interval").to_string();
        assert!(error.contains("its interval is longer than an hour"), "{error}");
        assert_eq!((outcome.shown, provider.server.requests_to("/token").len()), (Vec::new(), 0), "{interval}");
    }
}

#[tokio::test]
async fn code_that_has_ended_is_not_waited_for() {
    let provider = Provider::start(|script| {
        script.device[0].1["expires_in"] = json!(0);
        script.token = vec![refusal("authorization_pending")];
    });
    let error = sign_in_at(&provider, None).await.result.expect_err("ended");
    assert!(matches!(error, SignInError::Expired), "{error}");
}

#[tokio::test]
async fn server_without_codes_is_named() {
    let provider = Provider::start(|script| script.metadata["device_authorization_endpoint"] = json!(null));
    let error = sign_in_at(&provider, None).await.result.expect_err("none").to_string();
    assert!(error.contains("offers no device authorization endpoint"), "{error}");
}

#[tokio::test]
async fn client_that_may_not_use_codes_registers_anew() {
    let known = |provider: &Provider| provider.record();
    let provider = Provider::start(|script| {
        let device = script.device[0].clone();
        script.device = vec![(400, json!({ "error": "unauthorized_client" })), device];
        script.token = vec![token()];
    });
    let record = sign_in_at(&provider, Some(&known(&provider))).await.result.expect("signed in");
    assert_eq!(record.client.id, "registered");
}
