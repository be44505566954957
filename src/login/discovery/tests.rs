use serde_json::{Value, json};

use super::*;
use crate::login::testing::{Reply, Server};

const PRM: &str = "/.well-known/oauth-protected-resource";
const RFC8414: &str = "/.well-known/oauth-authorization-server";
const OIDC: &str = "/.well-known/openid-configuration";

/// A server that publishes these documents; `ORIGIN` in them is its own origin.
fn publish(documents: &[(&str, Value)]) -> Server {
    let documents: Vec<(String, String)> =
        documents.iter().map(|(path, document)| ((*path).to_owned(), document.to_string())).collect();
    Server::start(move |request, origin| {
        let found = documents.iter().find(|(path, _)| *path == request.target);
        found.map_or_else(Reply::missing, |(_, text)| {
            Reply::new(200, "Content-Type: application/json\r\n", &text.replace("ORIGIN", origin))
        })
    })
}

fn prm(resource: &str, issuer: &str) -> Value {
    json!({ "resource": resource, "authorization_servers": [issuer], "scopes_supported": ["a", "b"] })
}

fn metadata(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": "ORIGIN/authorize",
        "token_endpoint": "ORIGIN/token",
        "code_challenge_methods_supported": ["S256"],
    })
}

async fn at(server: &Server, path: &str, hints: Hints<'_>) -> Result<Discovered, DiscoveryError> {
    let target = Target::Server { url: format!("{}{path}", server.origin()), issuer: None };
    discover(&server.fetcher(), &target, hints).await
}

fn paths(server: &Server) -> Vec<String> {
    server.requests().into_iter().map(|request| request.target).collect()
}

#[tokio::test]
async fn places_are_tried_in_the_order_of_the_specification() {
    let server =
        publish(&[(PRM, prm("ORIGIN/mcp", "ORIGIN/tenant")), (&format!("/tenant{OIDC}"), metadata("ORIGIN/tenant"))]);
    let found = at(&server, "/mcp", Hints::default()).await.expect("discovered");
    assert_eq!(found.metadata.issuer, format!("{}/tenant", server.origin()));
    assert_eq!(found.scopes_supported.as_deref(), Some(&["a".to_owned(), "b".to_owned()][..]));
    assert_eq!(found.notes, []);
    let expected = [
        format!("{PRM}/mcp"),
        PRM.to_owned(),
        format!("{RFC8414}/tenant"),
        format!("{OIDC}/tenant"),
        format!("/tenant{OIDC}"),
    ];
    assert_eq!(paths(&server), expected);
}

#[tokio::test]
async fn issuer_without_a_path_has_two_places() {
    let server = publish(&[(PRM, prm("ORIGIN", "ORIGIN"))]);
    let error = at(&server, "", Hints::default()).await.expect_err("no metadata");
    assert!(matches!(error, DiscoveryError::NoMetadata { .. }), "{error}");
    assert_eq!(paths(&server), [PRM, RFC8414, OIDC]);
}

#[tokio::test]
async fn challenge_names_the_only_place_that_counts() {
    let elsewhere = "/elsewhere";
    let server = publish(&[
        (elsewhere, prm("ORIGIN/mcp", "ORIGIN")),
        (PRM, prm("ORIGIN/mcp", "ORIGIN/wrong")),
        (RFC8414, metadata("ORIGIN")),
    ]);
    let challenge = |url: &str| Challenge { resource_metadata: Some(url.to_owned()), ..Challenge::default() };
    let named = challenge(&format!("{}{elsewhere}", server.origin()));
    at(&server, "/mcp", Hints { challenge: Some(&named), legacy: false }).await.expect("discovered");
    assert_eq!(paths(&server), [elsewhere, RFC8414]);
    for (url, expected) in [
        ("/elsewhere", "no absolute URL"),
        ("https://a.exam\tple/", "no absolute URL"),
        ("javascript:alert(1)", "must begin with https://"),
        ("http://169.254.169.254/latest/meta-data", "must begin with https://"),
        ("https://169.254.169.254/latest/meta-data", "not one of the public internet"),
        ("https://10.0.0.1/", "not one of the public internet"),
    ] {
        let challenge = challenge(url);
        let error = at(&server, "/mcp", Hints { challenge: Some(&challenge), legacy: true }).await.expect_err(url);
        assert!(error.to_string().contains(expected), "{url}: {error}");
    }
    assert_eq!(server.requests().len(), 2, "nothing else was asked");
}

#[tokio::test]
async fn metadata_of_another_resource_is_refused_before_its_issuer_is_asked() {
    for resource in ["ORIGIN/other", "ORIGIN/mc", "https://mcp.example.com/mcp", "http://127.0.0.1:1/mcp", "mcp"] {
        let server = publish(&[(PRM, prm(resource, "ORIGIN")), (RFC8414, metadata("ORIGIN"))]);
        let error = at(&server, "/mcp", Hints::default()).await.expect_err(resource);
        assert!(matches!(error, DiscoveryError::WrongResource { .. }), "{resource}: {error}");
        assert_eq!(paths(&server), [format!("{PRM}/mcp"), PRM.to_owned()], "{resource}");
    }
}

#[tokio::test]
async fn resource_stays_the_string_that_it_is() {
    for (resource, wider) in [("ORIGIN", true), ("ORIGIN/", true), ("ORIGIN/mcp", false), ("ORIGIN/mcp/", false)] {
        let server = publish(&[(PRM, prm(resource, "ORIGIN")), (RFC8414, metadata("ORIGIN"))]);
        let found = at(&server, "/mcp", Hints::default()).await.expect(resource);
        assert_eq!(found.resource, Some(resource.replace("ORIGIN", &server.origin())));
        assert_eq!(matches!(found.notes[..], [Note::WiderResource { .. }]), wider, "{resource}: {:?}", found.notes);
    }
}

#[tokio::test]
async fn issuer_is_compared_byte_for_byte() {
    for issuer in ["ORIGIN/", "ORIGIN/x", "https://honest.example", "HTTP://127.0.0.1"] {
        let server = publish(&[(PRM, prm("ORIGIN/mcp", "ORIGIN")), (RFC8414, metadata(issuer))]);
        let error = at(&server, "/mcp", Hints::default()).await.expect_err(issuer);
        assert!(matches!(error, DiscoveryError::NoMetadata { .. }), "{issuer}: {error}");
        assert!(error.to_string().contains("another issuer"), "{error}");
    }
}

#[tokio::test]
async fn authorization_server_inside_is_not_asked_for_a_server_outside() {
    let issuers = ["https://10.0.0.1", "https://169.254.169.254", "http://auth.example.com", "javascript:alert(1)"];
    for issuer in issuers {
        let server = publish(&[(PRM, prm("ORIGIN/mcp", issuer))]);
        let error = at(&server, "/mcp", Hints::default()).await.expect_err(issuer);
        assert!(matches!(error, DiscoveryError::Fetch(FetchError::Refused { .. })), "{issuer}: {error}");
    }
}

#[tokio::test]
async fn next_authorization_server_is_taken_when_the_first_is_of_no_use() {
    let document = json!({ "resource": "ORIGIN", "authorization_servers": ["ORIGIN/gone", "ORIGIN"] });
    let server = publish(&[(PRM, document), (RFC8414, metadata("ORIGIN"))]);
    let found = at(&server, "", Hints::default()).await.expect("discovered");
    assert_eq!(found.metadata.issuer, server.origin());
}

#[tokio::test]
async fn only_the_issuer_that_the_user_named_is_asked() {
    let document = json!({ "resource": "ORIGIN", "authorization_servers": ["ORIGIN/other", "ORIGIN"] });
    let server = publish(&[(PRM, document), (RFC8414, metadata("ORIGIN"))]);
    let target = |issuer: String| Target::Server { url: server.origin(), issuer: Some(issuer) };
    discover(&server.fetcher(), &target(server.origin()), Hints::default()).await.expect("the second one");
    let other = target(format!("{}/", server.origin()));
    let error = discover(&server.fetcher(), &other, Hints::default()).await.expect_err("not listed");
    assert!(matches!(error, DiscoveryError::IssuerNotListed { .. }), "{error}");
}

#[tokio::test]
async fn endpoints_are_never_guessed() {
    let server = publish(&[]);
    for legacy in [false, true] {
        let error = at(&server, "/mcp", Hints { challenge: None, legacy }).await.expect_err("nothing there");
        let (without, with) = (
            matches!(error, DiscoveryError::NoResourceMetadata { .. }),
            matches!(error, DiscoveryError::NoMetadata { .. }),
        );
        assert_eq!((without, with), (!legacy, legacy), "{error}");
    }
    assert!(paths(&server).iter().all(|path| path.starts_with("/.well-known/")), "{:?}", paths(&server));
}

#[tokio::test]
async fn legacy_server_is_its_own_issuer_only_where_that_is_allowed() {
    let server = publish(&[(RFC8414, metadata("ORIGIN"))]);
    at(&server, "/mcp", Hints::default()).await.expect_err("not allowed");
    let found = at(&server, "/mcp", Hints { challenge: None, legacy: true }).await.expect("allowed");
    assert_eq!(found.metadata.issuer, server.origin());
    assert_eq!(found.resource, Some(format!("{}/mcp", server.origin())));
    assert_eq!(found.notes, [Note::NoResourceMetadata]);
}

#[tokio::test]
async fn issuer_alone_needs_no_server() {
    let server = publish(&[(RFC8414, metadata("ORIGIN"))]);
    let found =
        discover(&server.fetcher(), &Target::Issuer(server.origin()), Hints::default()).await.expect("discovered");
    assert_eq!((found.resource, found.metadata.issuer), (None, server.origin()));
}

#[tokio::test]
async fn page_for_people_is_not_taken_for_metadata() {
    let server = Server::start(|_, _| Reply::new(200, "Content-Type: text/html\r\n", "<!doctype html>"));
    let error = at(&server, "/mcp", Hints::default()).await.expect_err("no metadata");
    assert!(matches!(error, DiscoveryError::NoResourceMetadata { .. }), "{error}");
}

#[test]
fn urls_that_no_server_has_are_refused_as_typed() {
    for url in [
        "mcp.example.com",
        "ftp://a.example",
        "https://user:secret@a.example",
        "https://a.example/#x",
        "https://",
        " https://a.example",
    ] {
        let error = Target::Issuer(url.to_owned()).url().expect_err(url);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
