//! Tables: an answer in, a verdict out.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use serde_json::{Map, Value, json};
use url::Url;

use super::{
    super::{
        fetch::{Answer, Reply, Trouble},
        report::{Outcome, Registration},
        walls,
    },
    door::{Access, Nearby},
    *,
};

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let field = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"))
    };
    Answer {
        status: StatusCode::from_u16(status).expect("a status"),
        version: Version::HTTP_11,
        headers: HeaderMap::from_iter(headers.iter().map(field)),
        body: body.as_bytes().to_vec(),
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().expect("an object")
}

fn url(text: &str) -> Url {
    Url::parse(text).expect("a URL")
}

#[test]
fn identifiers_that_differ_are_told_how() {
    let typed = "https://mcp.example.com/mcp";
    for (found, expected) in [
        (typed, None),
        ("https://mcp.example.com/mcp/", Some("a slash too much at the end")),
        ("https://mcp.example.com", Some("the path is missing")),
        ("https://mcp.example.com/", Some("the path is missing")),
        ("http://mcp.example.com/mcp", Some("http and not https")),
        ("https://MCP.example.com/mcp", Some("the spelling differs")),
        ("https://mcp.example.com:443/mcp", Some("the spelling differs")),
        ("https://mcp.example.com:8443/mcp", Some("port 8443 and not no port")),
        ("http://127.0.0.1:8808/mcp", Some("another host, 127.0.0.1")),
        ("https://mcp.example.com/sse", Some("another path")),
        ("https://mcp.example.com/mcp?x=1", Some("another query")),
        ("mcp.example.com/mcp", Some("it is no URL")),
        ("", Some("it is no URL")),
    ] {
        let difference = resource::difference(typed, found);
        match expected {
            None => assert_eq!(difference, None, "{found}"),
            Some(words) => {
                assert!(difference.as_deref().is_some_and(|it| it.contains(words)), "{found}: {difference:?}")
            }
        }
    }
    assert_eq!(resource::difference("https://h/", "https://h").as_deref(), Some("the slash at the end is missing"));
}

#[test]
fn urls() {
    for (typed, outcome) in [
        ("https://mcp.example.com/mcp", Outcome::Pass),
        ("https://mcp.example.com", Outcome::Pass),
        ("https://mcp.example.com:8443/mcp", Outcome::Warn),
        ("https://MCP.example.com/mcp", Outcome::Warn),
        ("https://mcp.example.com:443/mcp", Outcome::Warn),
        ("http://localhost:8808/mcp", Outcome::Warn),
        ("http://mcp.example.com/mcp", Outcome::Fail),
        ("https://mcp.example.com/mcp#x", Outcome::Fail),
    ] {
        assert_eq!(network::url(typed, &url(typed)).outcome(), outcome, "{typed}");
    }
}

#[test]
fn addresses_that_clients_in_the_cloud_cannot_reach() {
    for (found, refused, outcome) in [
        (&["1.1.1.1"][..], 0, Outcome::Pass),
        (&["127.0.0.1"], 0, Outcome::Pass),
        (&["1.1.1.1"], 1, Outcome::Fail),
        (&["1.1.1.1", "2606:4700::1111"], 1, Outcome::Warn),
        (&["2606:4700::1111"], 0, Outcome::Warn),
        (&["192.168.1.2"], 0, Outcome::Warn),
    ] {
        let found: Vec<std::net::IpAddr> = found.iter().map(|it| it.parse().expect("an address")).collect();
        let refused: Vec<_> = found.iter().take(refused).map(|it| (*it, Trouble::Refused)).collect();
        assert_eq!(network::reach(&found, &refused).outcome(), outcome, "{found:?}");
    }
}

#[test]
fn doors() {
    let asks = || answer(401, &[JSON], "{}");
    let served = || answer(200, &[JSON], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    let unknown = || answer(400, &[JSON], r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022}}"#);
    let page = |status| answer(status, &[("content-type", "text/html")], "<title>Welcome</title>");
    let to = |target| answer(307, &[("location", target)], "");
    for (case, legacy, modern, outcome, access, words) in [
        ("both eras", asks(), asks(), Outcome::Pass, Access::Guarded, ""),
        ("legacy only", asks(), unknown(), Outcome::Pass, Access::Guarded, ""),
        ("modern only", unknown(), asks(), Outcome::Pass, Access::Guarded, ""),
        ("half open", asks(), served(), Outcome::Warn, Access::Guarded, "needs no token"),
        ("open", served(), unknown(), Outcome::Warn, Access::Open, "everybody"),
        ("fails", page(500), page(500), Outcome::Fail, Access::Broken, "fails on a request"),
        ("a website", page(200), page(200), Outcome::Fail, Access::Broken, "HTML page titled `Welcome`"),
        ("no path", page(404), page(404), Outcome::Fail, Access::Broken, "nothing at this path"),
        ("no POST", page(405), page(405), Outcome::Fail, Access::Broken, "does not take POST"),
        ("no host", page(421), page(421), Outcome::Fail, Access::Broken, "does not know this host name"),
        ("gone", to("/mcp/"), to("/mcp/"), Outcome::Fail, Access::Broken, "`https://h/mcp/`"),
        ("refuses both", unknown(), unknown(), Outcome::Fail, Access::Broken, "refuses the first request"),
    ] {
        let (judged, got) = door::door(&url("https://h/mcp"), &Ok(legacy), &Ok(modern), Nearby::default());
        assert_eq!((judged.outcome(), got), (outcome, access), "{case}: {judged:?}");
        assert!(format!("{judged:?}").contains(words), "{case}: {judged:?}");
    }
    let silent: Reply = Err(Trouble::Timeout(std::time::Duration::from_secs(10)));
    let (judged, _) = door::door(&url("https://h/mcp"), &silent, &silent, Nearby::default());
    assert!(format!("{judged:?}").contains("no answer within 10 s"), "{judged:?}");
    let nearby = Nearby { at_mcp: true, ..Nearby::default() };
    let (judged, _) = door::door(&url("https://h/"), &Ok(page(404)), &Ok(page(404)), nearby);
    assert!(format!("{judged:?}").contains("there is something at /mcp"), "{judged:?}");
}

#[test]
fn walls_are_known_by_what_they_send() {
    let html = ("content-type", "text/html; charset=UTF-8");
    for (case, answer, expected) in [
        ("ngrok", answer(200, &[html, ("ngrok-error-code", "ERR_NGROK_6024")], ""), Some("warning page")),
        ("ngrok, page", answer(404, &[html], "… ERR_NGROK_3200 …"), Some("no tunnel")),
        ("cloudflare", answer(403, &[html, ("cf-mitigated", "challenge")], ""), Some("proof of a human")),
        ("blocked", answer(403, &[html], "<title>Attention Required! | Cloudflare</title>"), Some("firewall rule")),
        ("tunnel", answer(530, &[html, ("server", "cloudflare")], "error code: 1033"), Some("1033")),
        ("origin", answer(522, &[html, ("server", "cloudflare")], ""), Some("no proper answer")),
        ("vercel", answer(429, &[html, ("x-vercel-mitigated", "challenge")], ""), Some("Vercel")),
        ("aws", answer(202, &[html, ("x-amzn-waf-action", "challenge")], ""), Some("AWS")),
        ("a 401 behind a CDN", answer(401, &[JSON, ("server", "cloudflare")], "{}"), None),
        ("a page", answer(404, &[html], "<title>Not found</title>"), None),
    ] {
        let wall = walls::recognise(&answer).map(|wall| wall.what);
        assert_eq!(wall.is_some(), expected.is_some(), "{case}: {wall:?}");
        assert!(wall.unwrap_or_default().contains(expected.unwrap_or_default()), "{case}: {wall:?}");
    }
}

#[test]
fn each_client_registers_as_it_can() {
    use Registration::{Dynamic, Impossible, MetadataDocument, TypedCredentials};

    let endpoint = "https://as.example/register";
    for (metadata, outcome, expected) in [
        (
            json!({}),
            Outcome::Warn,
            [TypedCredentials, TypedCredentials, Impossible, TypedCredentials, TypedCredentials, TypedCredentials],
        ),
        (json!({ "registration_endpoint": endpoint }), Outcome::Pass, [Dynamic; 6]),
        (
            json!({ "client_id_metadata_document_supported": true, "token_endpoint_auth_methods_supported": ["none"] }),
            Outcome::Warn,
            [
                MetadataDocument,
                MetadataDocument,
                MetadataDocument,
                MetadataDocument,
                TypedCredentials,
                TypedCredentials,
            ],
        ),
        // Without the method `none`, Claude's and VS Code's documents are of no use.
        (
            json!({
                "client_id_metadata_document_supported": true, "registration_endpoint": endpoint,
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            }),
            Outcome::Warn,
            [Dynamic, Dynamic, MetadataDocument, Dynamic, Dynamic, Dynamic],
        ),
        // The document of every client is refused, and ChatGPT has no other way.
        (
            json!({ "client_id_metadata_document_supported": true }),
            Outcome::Fail,
            [TypedCredentials, TypedCredentials, Impossible, TypedCredentials, TypedCredentials, TypedCredentials],
        ),
    ] {
        let judged = registration::registration(&object(metadata.clone()));
        let ways: Vec<Registration> = judged.clients.iter().map(|it| it.registers).collect();
        assert_eq!(ways, expected, "{metadata}");
        assert_eq!(judged.outcome(), outcome, "{metadata}: {judged:?}");
    }
}

#[test]
fn metadata_of_an_issuer_is_looked_for_where_mcp_says() {
    let places = |issuer: &str| issuer::places(issuer).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        places("https://as.example"),
        [
            "https://as.example/.well-known/oauth-authorization-server",
            "https://as.example/.well-known/openid-configuration"
        ]
    );
    assert_eq!(
        places("https://as.example/tenant/1/"),
        [
            "https://as.example/.well-known/oauth-authorization-server/tenant/1",
            "https://as.example/.well-known/openid-configuration/tenant/1",
            "https://as.example/tenant/1/.well-known/openid-configuration",
        ]
    );
    for no_issuer in ["as.example", "file:///etc/passwd", "javascript:alert(1)", ""] {
        assert!(places(no_issuer).is_empty(), "{no_issuer}");
    }
}

#[test]
fn what_a_server_offers() {
    let healthy = json!({
        "authorization_endpoint": "https://as.example/a", "token_endpoint": "https://as.example/t",
        "response_types_supported": ["code"], "grant_types_supported": ["authorization_code", "refresh_token"],
    });
    for (changes, outcome) in [
        (json!({}), Outcome::Pass),
        (json!({ "token_endpoint": "http://as.example/t" }), Outcome::Fail),
        (json!({ "authorization_endpoint": "javascript:alert(1)" }), Outcome::Fail),
        (json!({ "authorization_endpoint": null }), Outcome::Fail),
        (json!({ "response_types_supported": ["token"] }), Outcome::Fail),
        (json!({ "grant_types_supported": ["authorization_code"] }), Outcome::Warn),
        (json!({ "grant_types_supported": null }), Outcome::Warn),
        (json!({ "grant_types_supported": ["client_credentials", "refresh_token"] }), Outcome::Fail),
    ] {
        let mut metadata = object(healthy.clone());
        metadata.extend(object(changes.clone()));
        assert_eq!(issuer::endpoints(&metadata).outcome(), outcome, "{changes}");
    }
    for (methods, outcome) in [
        (json!(["S256"]), Outcome::Pass),
        (json!(["S256", "plain"]), Outcome::Warn),
        (json!(["plain"]), Outcome::Fail),
        (json!("S256"), Outcome::Fail),
        (json!(null), Outcome::Fail),
    ] {
        let metadata = object(json!({ "code_challenge_methods_supported": methods }));
        assert_eq!(issuer::pkce(&metadata).outcome(), outcome, "{methods}");
    }
}

#[test]
fn bad_tokens() {
    let challenge = ("www-authenticate", "Bearer error=\"invalid_token\"");
    for (answer, outcome) in [
        (answer(401, &[challenge], ""), Outcome::Pass),
        (answer(401, &[("www-authenticate", "Bearer")], ""), Outcome::Warn),
        (answer(503, &[], ""), Outcome::Warn),
        (answer(403, &[challenge], ""), Outcome::Fail),
        (answer(400, &[], ""), Outcome::Fail),
        (answer(200, &[], ""), Outcome::Fail),
    ] {
        assert_eq!(door::bad_token(&Ok(answer.clone())).outcome(), outcome, "{answer:?}");
    }
}

#[test]
fn pages_may_or_may_not() {
    let origin = ("access-control-allow-origin", "*");
    let sends: &[&str] = &["authorization", "content-type"];
    let check = |answer: Answer, sends, reads| {
        let reply = Ok(answer);
        cors::cors(&[cors::Asked { what: "it", reply: &reply, sends, reads }]).problems.pop().map(|it| it.what)
    };
    let allow = |names| answer(204, &[origin, ("access-control-allow-headers", names)], "");
    assert_eq!(check(allow("Authorization, content-type"), sends, &[]), None);
    // The wildcard does not cover it.
    assert_eq!(check(allow("*"), sends, &[]), Some("it: not allowed to send authorization".into()));
    assert_eq!(check(allow("*, authorization"), sends, &[]), None);
    assert_eq!(check(answer(401, &[origin], ""), sends, &[]), Some("it: the preflight gets 401 Unauthorized".into()));
    assert_eq!(check(answer(200, &[], ""), &[], &[]), Some("it: no Access-Control-Allow-Origin".into()));
    let reads: &[&str] = &["www-authenticate"];
    assert_eq!(check(answer(401, &[origin], ""), &[], reads), Some("it: www-authenticate not exposed".into()));
    let exposed = answer(401, &[origin, ("access-control-expose-headers", "WWW-Authenticate")], "");
    assert_eq!(check(exposed, &[], reads), None);
}
