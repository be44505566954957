//! Where questions are asked: from the metadata, or as set.

use super::*;

#[tokio::test]
async fn endpoint_from_metadata() {
    let well_known = "/.well-known/oauth-authorization-server/oauth/2.1";
    let oidc_inserted = "/.well-known/openid-configuration/oauth/2.1";
    let oidc_appended = "/oauth/2.1/.well-known/openid-configuration";
    // Which document there is, what it holds, and what was asked for in the end.
    let all = vec![well_known, oidc_inserted, oidc_appended];
    let document = |issuer: &str, endpoint: &str| json!({"issuer": issuer, "introspection_endpoint": endpoint});
    type Document = Box<dyn Fn(&str) -> Value + Send + Sync>;
    let right: fn() -> Document = || {
        Box::new(
            |at| json!({"issuer": format!("{at}/oauth/2.1"), "introspection_endpoint": format!("{at}/introspect")}),
        )
    };
    let cases: Vec<(&str, Document, Vec<&str>, bool)> = vec![
        (well_known, right(), vec![well_known], true),
        (oidc_inserted, right(), vec![well_known, oidc_inserted], true),
        (oidc_appended, right(), all.clone(), true),
        ("/none", right(), all.clone(), false),
        (
            well_known,
            Box::new(move |at| document(&format!("{at}/oauth/2.1/"), &format!("{at}/introspect"))),
            all.clone(),
            false,
        ),
        (well_known, Box::new(move |at| document(at, &format!("{at}/introspect"))), all.clone(), false),
        (
            well_known,
            Box::new(move |at| document(&format!("{at}/oauth/2.1"), "http://as.example/introspect")),
            all.clone(),
            false,
        ),
        (well_known, Box::new(move |at| document(&format!("{at}/oauth/2.1"), "introspect")), all.clone(), false),
        (well_known, Box::new(|at| json!({"issuer": format!("{at}/oauth/2.1")})), all.clone(), false),
    ];
    for (number, (place, body, asked, found)) in cases.into_iter().enumerate() {
        let stub = Stub::start(move |request| {
            let at = format!("http://{}", request.headers["host"]);
            let reply = match request.path.as_str() {
                "/introspect" => Reply::json(good()),
                path if path == place => Reply::json(body(&at)),
                _ => Reply::status(404, ""),
            };
            std::future::ready(reply)
        })
        .await;
        let issuer = Issuer::new(stub.at("/oauth/2.1").as_str());
        let settings = IntrospectionSettings { endpoint: None, issuer, ..settings(&stub) };
        let verifier = IntrospectionVerifier::new(settings, Arc::new(Unobserved)).expect("valid");
        assert_eq!(stub.count(), 0, "building asks nobody");
        let verdict = verifier.verify(&bearer("t"), now()).await;
        assert_eq!(verdict.is_ok(), found, "{number}: {verdict:?}");
        assert_eq!(is_unavailable(&verdict), !found, "{number}: {verdict:?}");
        let mut paths: Vec<_> = stub.requests().into_iter().map(|request| request.path).collect();
        if found {
            assert_eq!(paths.pop().as_deref(), Some("/introspect"));
        }
        assert_eq!(paths, asked, "{number}");
        let before = stub.count();
        let _ = verifier.verify(&bearer("another"), now()).await;
        let again = stub.count() - before;
        assert_eq!(again, if found { 1 } else { 3 }, "{number}: found once, looked for until found");
    }
}

#[tokio::test]
async fn urls_that_secrets_must_not_travel_to() {
    let stub = Stub::always(|| Reply::json(good())).await;
    let build = |endpoint: Option<&str>, issuer: &str| {
        let endpoint = endpoint.map(|url| Url::parse(url).expect("a URL"));
        let settings = IntrospectionSettings { endpoint, issuer: Issuer::new(issuer), ..settings(&stub) };
        IntrospectionVerifier::new(settings, Arc::new(Unobserved)).map(|_| ()).map_err(|error| error.to_string())
    };
    let issuer = "https://as.example";
    for good in ["https://as.example/i", "http://127.0.0.1:1/i", "http://[::1]:1/i", "http://localhost/i"] {
        assert_eq!(build(Some(good), issuer), Ok(()), "{good}");
    }
    for bad in ["http://as.example/i", "ftp://as.example/i", "https://u:hunter2@as.example/i", "https://as.example/i#f"]
    {
        let error = build(Some(bad), issuer).expect_err(bad);
        assert!(error.contains("introspection_url") && !error.contains("hunter2"), "{error}");
    }
    for bad in ["as.example", "http://as.example", "https://as.example/?tenant=1"] {
        assert!(build(None, bad).expect_err(bad).contains("the issuer"));
    }
}
