//! Which client is used, and when one is registered.

use super::*;

#[tokio::test]
async fn registration_is_used_again_while_its_callback_is_free() {
    let provider = Provider::start(|_| ());
    let first = Case::new(&provider).sign_in().await.expect("signed in");
    let again = Case { known: Some(first.clone()), ..Case::new(&provider) };
    let second = again.sign_in().await.expect("signed in");
    assert_eq!(provider.server.requests_to("/register").len(), 1);
    assert_eq!(second.client.redirect_uri, first.client.redirect_uri);

    let authority =
        first.client.redirect_uri.as_ref().and_then(|uri| Some(uri.parse::<Url>().ok()?.authority().to_owned()));
    let squatter = std::net::TcpListener::bind(authority.expect("a URL")).expect("it is free now");
    let third = Case { known: Some(first.clone()), ..Case::new(&provider) }.sign_in().await.expect("signed in");
    assert_eq!(provider.server.requests_to("/register").len(), 2, "the old callback is somebody else's now");
    assert_ne!(third.client.redirect_uri, first.client.redirect_uri);
    drop(squatter);
}

#[tokio::test]
async fn scope_that_no_registration_knew_registers_anew() {
    let provider = Provider::start(|_| ());
    let known = Case::new(&provider).sign_in().await.expect("signed in");
    let error = Some("insufficient_scope".to_owned());
    for (wanted, registrations) in [("write", 1), ("admin", 2)] {
        let challenge = Challenge { error: error.clone(), scopes: Some(scopes(wanted)), ..Challenge::default() };
        let known = Record { scopes: scopes("read"), ..known.clone() };
        let case = Case { challenge: Some(challenge), known: Some(known), ..Case::new(&provider) };
        case.sign_in().await.expect("signed in");
        assert_eq!(case.seen.parameter("scope"), Some(format!("{wanted} read")));
        assert_eq!(provider.server.requests_to("/register").len(), registrations, "{wanted}");
    }
    let last = provider.server.requests_to("/register").pop().expect("a registration");
    assert!(last.body.contains(r#""scope":"admin read write""#), "{}", last.body);
}

#[tokio::test]
async fn forgotten_client_registers_anew_once() {
    let good = (200, json!({ "access_token": "a", "token_type": "Bearer" }));
    let unknown = (401, json!({ "error": "invalid_client" }));
    let provider = Provider::start(|_| ());
    let known = Case::new(&provider).sign_in().await.expect("signed in");
    provider.change(|script| script.token = vec![unknown.clone(), good]);
    let case = Case { known: Some(known.clone()), ..Case::new(&provider) };
    case.sign_in().await.expect("with a new client");
    assert_eq!(case.seen.urls.lock().expect("not poisoned").len(), 2);
    assert_eq!(provider.server.requests_to("/register").len(), 2);
    let case = Case {
        known: Some(known.clone()),
        answer: "error=unauthorized_client&state=STATE&iss=ISS",
        ..Case::new(&provider)
    };
    case.sign_in().await.expect_err("neither of them may");
    assert_eq!(case.seen.urls.lock().expect("not poisoned").len(), 2, "no third tab");
    provider.change(|script| script.token = vec![unknown]);
    let case = Case { known: Some(known), ..Case::new(&provider) };
    let error = case.sign_in().await.expect_err("not even the new one");
    assert!(matches!(error, SignInError::Token { .. }), "{error}");
    assert_eq!(case.seen.urls.lock().expect("not poisoned").len(), 2, "no third tab");
}

#[tokio::test]
async fn client_of_the_user_is_used_with_its_secret_at_its_own_issuer_only() {
    let provider = Provider::start(|script| {
        script.metadata["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"])
    });
    let registered = |issuer: Option<String>| {
        let secret = Some(Secret::new("canary-secret".to_owned()));
        ClientOptions { registered: Some(Registered { id: "mine".to_owned(), secret, issuer }), ..testing::client() }
    };
    let case = Case { client: registered(Some(provider.origin())), ..Case::new(&provider) };
    let record = case.sign_in().await.expect("signed in");
    assert_eq!((record.client.id.as_str(), record.client.secret_in_form), ("mine", true));
    let [token] = &provider.server.requests_to("/token")[..] else { panic!("one request") };
    assert_eq!(token.field("client_secret").as_deref(), Some("canary-secret"));
    assert!(!case.seen.url().as_str().contains("canary"), "no secret in a URL");
    assert!(!format!("{record:?}").contains("canary"));
    let case = Case { client: registered(Some("https://other.example".to_owned())), ..Case::new(&provider) };
    let error = case.sign_in().await.expect_err("another issuer's secret");
    assert!(matches!(error, SignInError::Registration(RegistrationError::OtherIssuer { .. })), "{error}");
    assert_eq!(provider.server.requests_to("/register").len(), 0);
}

#[tokio::test]
async fn metadata_document_is_the_client_only_where_that_is_supported() {
    const DOCUMENT: &str = "https://app.example.com/client.json";
    for (supported, expected) in [(json!(true), DOCUMENT), (json!(null), "registered"), (json!(false), "registered")] {
        let provider =
            Provider::start(|script| script.metadata["client_id_metadata_document_supported"] = supported.clone());
        let client = ClientOptions { metadata_document: Some(DOCUMENT.to_owned()), ..testing::client() };
        let record = Case { client, ..Case::new(&provider) }.sign_in().await.expect("signed in");
        assert_eq!(record.client.id, expected, "{supported}");
    }
    let provider = Provider::start(|_| ());
    for document in
        ["http://app.example.com/client.json", "https://app.example.com", "https://app.example.com/#x", "client.json"]
    {
        let client = ClientOptions { metadata_document: Some(document.to_owned()), ..testing::client() };
        let error = Case { client, ..Case::new(&provider) }.sign_in().await.expect_err(document);
        assert!(matches!(error, SignInError::Registration(RegistrationError::Document { .. })), "{document}: {error}");
    }
}

#[tokio::test]
async fn server_without_registration_is_told_apart_from_one_that_refuses() {
    let provider = Provider::start(|script| script.metadata["registration_endpoint"] = json!(null));
    let error = Case::new(&provider).sign_in().await.expect_err("no way").to_string();
    assert!(error.contains("--client-id"), "{error}");
    let refusal = json!({ "error": "invalid_redirect_uri", "error_description": "not\u{1b}[31m here" });
    let provider = Provider::start(|script| script.register = vec![(400, refusal)]);
    let error = Case::new(&provider).sign_in().await.expect_err("refused").to_string();
    assert!(error.contains("invalid_redirect_uri: not [31m here"), "{error}");
    for answer in [
        json!({ "client_id": "" }),
        json!({ "client_id": "x", "redirect_uris": ["https://evil.example/"] }),
        json!({}),
        json!({ "client_id": "x", "token_endpoint_auth_method": "private_key_jwt" }),
    ] {
        let provider = Provider::start(|script| script.register = vec![(201, answer.clone())]);
        let error = Case::new(&provider).sign_in().await.expect_err("no client");
        assert!(matches!(error, SignInError::Registration(RegistrationError::Unreadable { .. })), "{answer}: {error}");
    }
}

#[tokio::test]
async fn registration_without_scopes_is_tried_where_those_are_refused() {
    let answers = vec![(400, json!({ "error": "invalid_client_metadata" })), (201, json!({ "client_id": "bare" }))];
    let provider = Provider::start(|script| script.register = answers);
    assert_eq!(Case::new(&provider).sign_in().await.expect("signed in").client.id, "bare");
    let bodies: Vec<bool> =
        provider.server.requests_to("/register").iter().map(|request| request.body.contains("\"scope\"")).collect();
    assert_eq!(bodies, [true, false]);
}
