//! The documents that are discovered, and what of them is believed.

use serde::Deserialize;
use url::{Host, Url};

use super::DiscoveryError;
use crate::login::{
    fetch::Fetcher,
    prompt::{Note, plain},
};

/// RFC 9728 §2, as far as a client needs it.
#[derive(Debug, Deserialize)]
pub(super) struct ResourceDocument {
    pub(super) resource: String,
    #[serde(default)]
    pub(super) authorization_servers: Vec<String>,
    pub(super) scopes_supported: Option<Vec<String>>,
}

/// RFC 8414 §2 and its extensions, as they were written.
#[derive(Debug, Deserialize)]
pub(super) struct Announced {
    pub(super) issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    registration_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    scopes_supported: Option<Vec<String>>,
    grant_types_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    authorization_response_iss_parameter_supported: Option<bool>,
    client_id_metadata_document_supported: Option<bool>,
}

/// An authorization server's metadata, all endpoints of which may be used.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// Byte for byte as it was asked for.
    pub issuer: String,
    /// RFC 6749 §3.1; see [`Metadata::for_browser`].
    authorization_endpoint: Option<Url>,
    /// RFC 6749 §3.2
    pub token_endpoint: Url,
    /// RFC 7591
    pub registration_endpoint: Option<Url>,
    /// RFC 8628
    device_authorization_endpoint: Option<Url>,
    /// RFC 7009
    pub revocation_endpoint: Option<Url>,
    /// Scopes that it knows, of all its resources.
    pub scopes_supported: Vec<String>,
    /// RFC 9207: whether an answer without `iss` is not from it.
    pub iss_is_sent: bool,
    /// Whether a URL can be a client identifier.
    pub client_metadata_documents: bool,
    grant_types: Option<Vec<String>>,
    auth_methods: Option<Vec<String>>,
    s256: bool,
}

impl Announced {
    /// Checks every endpoint, also those that are not needed: who publishes one such is not to be trusted
    /// with the others.
    pub(super) fn check(self, fetcher: &Fetcher) -> Result<Metadata, DiscoveryError> {
        let endpoint = |name: &'static str, written: Option<String>| match written {
            None => Ok(None),
            Some(written) => check_endpoint(fetcher, &written).map(Some).map_err(|why| DiscoveryError::Endpoint {
                issuer: plain(&self.issuer),
                endpoint: name,
                why,
            }),
        };
        let authorization_endpoint = endpoint(AUTHORIZATION, self.authorization_endpoint)?;
        let registration_endpoint = endpoint(REGISTRATION, self.registration_endpoint)?;
        let device_authorization_endpoint = endpoint(DEVICE, self.device_authorization_endpoint)?;
        let revocation_endpoint = endpoint(REVOCATION, self.revocation_endpoint)?;
        let Some(token_endpoint) = endpoint(TOKEN, self.token_endpoint)? else {
            return Err(DiscoveryError::NoEndpoint { issuer: plain(&self.issuer), endpoint: TOKEN });
        };
        let s256 =
            self.code_challenge_methods_supported.is_some_and(|methods| methods.iter().any(|name| name == "S256"));
        Ok(Metadata {
            issuer: self.issuer,
            authorization_endpoint,
            token_endpoint,
            registration_endpoint,
            device_authorization_endpoint,
            revocation_endpoint,
            scopes_supported: self.scopes_supported.unwrap_or_default(),
            iss_is_sent: self.authorization_response_iss_parameter_supported == Some(true),
            client_metadata_documents: self.client_id_metadata_document_supported == Some(true),
            grant_types: self.grant_types_supported,
            auth_methods: self.token_endpoint_auth_methods_supported,
            s256,
        })
    }
}

const AUTHORIZATION: &str = "authorization endpoint";
const TOKEN: &str = "token endpoint";
const REGISTRATION: &str = "registration endpoint";
const DEVICE: &str = "device authorization endpoint (sign-in with a code on another machine)";
const REVOCATION: &str = "revocation endpoint";

fn check_endpoint(fetcher: &Fetcher, written: &str) -> Result<Url, String> {
    let url = Url::parse(written).map_err(|_| format!("{} is no absolute URL", plain(written)))?;
    fetcher.check(&url).map_err(|error| error.to_string())?;
    if url.fragment().is_some() { Err(format!("{} has a fragment", plain(written))) } else { Ok(url) }
}

impl Metadata {
    /// Where the user consents in a browser.
    ///
    /// # Errors
    /// If there is no such place, or if codes from there could be used by whoever steals them.
    pub(crate) fn for_browser(&self) -> Result<&Url, DiscoveryError> {
        let none = || DiscoveryError::NoEndpoint { issuer: plain(&self.issuer), endpoint: AUTHORIZATION };
        if !self.s256 {
            return Err(DiscoveryError::NoPkce { issuer: plain(&self.issuer) });
        }
        self.authorization_endpoint.as_ref().ok_or_else(none)
    }

    /// Where a code for another machine comes from.
    ///
    /// # Errors
    /// If there are none.
    pub(crate) fn for_device(&self) -> Result<&Url, DiscoveryError> {
        let none = || DiscoveryError::NoEndpoint { issuer: plain(&self.issuer), endpoint: DEVICE };
        self.device_authorization_endpoint.as_ref().ok_or_else(none)
    }

    /// Whether a client may be registered for this grant; a server that does not list them is asked.
    pub(crate) fn grants(&self, grant_type: &str) -> bool {
        self.grant_types.as_ref().is_none_or(|types| types.iter().any(|listed| listed == grant_type))
    }

    /// Whether the token endpoint lists this method; `None` if it lists none at all.
    pub(crate) fn authenticates(&self, method: &str) -> Option<bool> {
        self.auth_methods.as_ref().map(|methods| methods.iter().any(|listed| listed == method))
    }

    /// Endpoints that are elsewhere than their issuer: some servers are built so, and so are mix-ups.
    pub(super) fn notes(&self) -> Vec<Note> {
        let endpoints = [(AUTHORIZATION, self.authorization_endpoint.as_ref()), (TOKEN, Some(&self.token_endpoint))];
        let issuer = Url::parse(&self.issuer).ok();
        let elsewhere = |url: &Url| issuer.as_ref().is_some_and(|issuer| !same_site(issuer, url));
        let notes = endpoints.into_iter().filter_map(|(endpoint, url)| {
            let host = url.filter(|url| elsewhere(url))?.host_str()?.to_owned();
            Some(Note::OtherSite { endpoint, host, issuer: self.issuer.clone() })
        });
        notes.collect()
    }
}

/// Parses an issuer identifier (RFC 8414 §2).
pub(super) fn issuer_url(issuer: &str) -> Result<Url, DiscoveryError> {
    let wrong = |why| DiscoveryError::Issuer { issuer: plain(issuer), why };
    // It is compared and shown as it is, while the parser would drop or encode such characters.
    if !issuer.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("it has characters that no URL has"));
    }
    let url = Url::parse(issuer).map_err(|_| wrong("it is no absolute URL"))?;
    match (url.query(), url.fragment()) {
        (None, None) => Ok(url),
        _ => Err(wrong("an issuer has no query and no fragment")),
    }
}

/// Whether two hosts look like one owner's. Without the public suffix list this is a guess, good enough
/// for a note and for nothing else.
fn same_site(a: &Url, b: &Url) -> bool {
    match (a.host(), b.host()) {
        (Some(Host::Domain(a)), Some(Host::Domain(b))) => a == b || site(a) == site(b),
        (a, b) => a == b,
    }
}

/// The last two labels, or three below something like `co.uk`.
fn site(name: &str) -> Vec<&str> {
    let labels: Vec<&str> = name.trim_end_matches('.').rsplit('.').collect();
    let country = labels.len() > 2 && labels[0].len() == 2 && labels[1].len() <= 3;
    labels.into_iter().take(if country { 3 } else { 2 }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use serde_json::{Value, json};

    use super::*;
    use crate::login::testing;

    const ISSUER: &str = "https://auth.example.com";

    fn metadata(change: impl FnOnce(&mut Value)) -> Result<Metadata, DiscoveryError> {
        // Made once: it reads all certificates of the system.
        static FETCHER: LazyLock<Fetcher> = LazyLock::new(|| testing::fetcher("https://mcp.example.com/mcp"));
        let mut document = json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://auth.example.com/authorize",
            "token_endpoint": "https://auth.example.com/token",
            "code_challenge_methods_supported": ["S256"],
        });
        change(&mut document);
        let announced: Announced = serde_json::from_value(document).expect("a document");
        announced.check(&FETCHER)
    }

    #[test]
    fn endpoint_that_is_not_https_makes_the_whole_metadata_unusable() {
        let names = ["authorization", "token", "registration", "device_authorization", "revocation"];
        let urls = [
            "http://auth.example.com/x",
            "http://127.0.0.1/x",
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///bin/sh",
            "-flag",
            "/relative",
            "https://user:pass@auth.example.com/x",
            "https://10.0.0.1/x",
            "https://169.254.169.254/x",
            "https://auth.example.com/x#fragment",
            "https://",
            "",
        ];
        for name in names {
            for url in urls {
                let result = metadata(|document| document[format!("{name}_endpoint")] = json!(url));
                let error = result.map(|_| ()).expect_err(&format!("{name} {url}"));
                assert!(matches!(error, DiscoveryError::Endpoint { .. }), "{name} {url}: {error}");
            }
        }
    }

    #[test]
    fn server_without_s256_is_refused() {
        for methods in [json!(null), json!([]), json!(["plain"]), json!(["s256"])] {
            let metadata = metadata(|document| document["code_challenge_methods_supported"] = methods.clone());
            let error = metadata.expect("the rest is fine").for_browser().map(|_| ());
            assert!(matches!(error, Err(DiscoveryError::NoPkce { .. })), "{methods}");
        }
        metadata(|_| ()).expect("good metadata").for_browser().expect("with S256");
    }

    #[test]
    fn endpoints_that_leave_the_issuers_site_are_noted() {
        for (token_endpoint, expected) in [
            ("https://auth.example.com/token", None),
            ("https://api.example.com/token", None),
            ("https://example.com/token", None),
            ("https://evil.example/token", Some("evil.example")),
            ("https://example.com.evil.example/token", Some("example.com.evil.example")),
        ] {
            let metadata =
                metadata(|document| document["token_endpoint"] = json!(token_endpoint)).expect("good metadata");
            let notes = metadata.notes();
            let hosts: Vec<&str> = notes
                .iter()
                .map(|note| match note {
                    Note::OtherSite { host, .. } => host.as_str(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(hosts, Vec::from_iter(expected), "{token_endpoint}");
        }
        let site = |a: &str, b: &str| same_site(&Url::parse(a).expect(a), &Url::parse(b).expect(b));
        assert!(!site("https://a.co.uk", "https://b.co.uk"));
        assert!(site("https://login.a.co.uk", "https://a.co.uk"));
        assert!(!site("https://8.8.8.8", "https://8.8.4.4"));
    }

    #[test]
    fn issuer_is_a_url_without_query_and_fragment() {
        for issuer in [
            "auth.example.com",
            "https://a.example?x",
            "https://a.example/#y",
            "",
            "\u{1b}https://a.example",
            "https://a.example\n",
        ] {
            assert!(issuer_url(issuer).is_err(), "{issuer}");
        }
    }
}
