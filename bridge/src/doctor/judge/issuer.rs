//! Authorization server metadata (RFC 8414, OpenID Connect Discovery).

use serde_json::{Map, Value};
use url::Url;

use super::{
    super::{
        fetch::Reply,
        report::Judged,
        words::{listed, quoted, shown},
    },
    Read, document,
    resource::difference,
    strings,
};
use crate::resource::is_loopback;

/// One place and what is there.
pub(in super::super) struct Place {
    pub(in super::super) url: Url,
    pub(in super::super) reply: Reply,
}

/// Where an issuer's metadata may be, in the order that MCP sets; nothing if it is no issuer.
pub(in super::super) fn places(issuer: &str) -> Vec<Url> {
    let Ok(issuer) = Url::parse(issuer) else { return Vec::new() };
    if !matches!(issuer.scheme(), "http" | "https") {
        return Vec::new();
    }
    let path = issuer.path().trim_end_matches('/');
    let mut urls: Vec<Url> = Vec::new();
    for candidate in [
        format!("/.well-known/oauth-authorization-server{path}"),
        format!("/.well-known/openid-configuration{path}"),
        format!("{path}/.well-known/openid-configuration"),
    ] {
        let mut url = issuer.clone();
        url.set_path(&candidate);
        url.set_query(None);
        url.set_fragment(None);
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    urls
}

/// Whether clients find a document, and the one that they find.
pub(in super::super) fn metadata(issuer: &str, places: &[Place]) -> (Judged, Option<Map<String, Value>>) {
    let why = "no client learns where to sign in";
    let fix = "serve the metadata at one of these places, with status 200, and 404 at the others";
    if places.is_empty() {
        let judged = Judged::new("it is no URL").fail(
            format!("{} is no URL of an authorization server", quoted(issuer)),
            why,
            "name the issuer as an https URL in `authorization_servers`",
        );
        return (judged, None);
    }
    let read: Vec<(&Place, Read)> = places.iter().map(|place| (place, document(&place.reply))).collect();
    let Some(at) = read.iter().position(|(_, read)| read.is_ok()) else {
        let mut judged = Judged::new(format!("{}: no metadata", shown(issuer)));
        for (place, read) in &read {
            let complaint = read.as_ref().err().map(String::as_str).unwrap_or_default();
            judged = judged.fail(format!("{}: {complaint}", shown(place.url.as_str())), why, fix);
        }
        return (judged, None);
    };
    let mut judged = Judged::new(shown(places[at].url.as_str()));
    // Clients go on after "not here", and give up at what is a failure.
    let failed = |place: &Place| !place.reply.as_ref().is_ok_and(|answer| answer.status.is_client_error());
    for (place, _) in read[..at].iter().filter(|(place, _)| failed(place)) {
        judged = judged.warn(
            format!("{} comes first and fails", quoted(place.url.as_str())),
            "the TypeScript SDK and what is built on it (MCP Inspector, Cursor) stop there",
            "answer 404 where there is nothing",
        );
    }
    let document = read.into_iter().nth(at).and_then(|(_, read)| read.ok());
    (judged, document)
}

/// The issuer, byte for byte.
pub(in super::super) fn issuer(named: &str, document: &Map<String, Value>) -> Judged {
    let why = "clients must not use such metadata (RFC 8414 section 3.3); ChatGPT compares byte for byte";
    match document.get("issuer").and_then(Value::as_str) {
        None => Judged::new("missing").fail(
            "the metadata has no `issuer`",
            why,
            format!("add \"issuer\": \"{}\"", shown(named)),
        ),
        Some(found) => match difference(named, found) {
            None => Judged::new(format!("{}, in both documents", shown(found))),
            Some(difference) => Judged::new(difference.clone()).fail(
                format!("the metadata says {} and the resource says {}: {difference}", quoted(found), quoted(named)),
                why,
                format!(
                    "name {} in `authorization_servers` (mcp-bridge: --issuer), or correct `issuer`",
                    quoted(found)
                ),
            ),
        },
    }
}

/// Whether a sign-in can be done with what the metadata names.
pub(in super::super) fn endpoints(document: &Map<String, Value>) -> Judged {
    let mut judged = Judged::new("authorization code, with refresh tokens");
    for name in ["authorization_endpoint", "token_endpoint"] {
        let Some(text) = document.get(name).and_then(Value::as_str) else {
            judged.summary = format!("{name} is missing");
            judged = judged.fail(format!("`{name}` is missing"), "no client can sign in", "add it to the metadata");
            continue;
        };
        let usable =
            Url::parse(text).is_ok_and(|url| url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)));
        if !usable {
            judged.summary = format!("{name} is not https");
            judged = judged.fail(
                format!("`{name}` is {}, which is not https", quoted(text)),
                "clients refuse it: codes and tokens would travel in the open",
                "serve it over https, and name that URL",
            );
        }
    }
    if let Some(types) = strings(document.get("response_types_supported"))
        && !types.iter().any(|one| one == "code")
    {
        judged = judged.fail(
            format!("`response_types_supported` is {} and lacks `code`", quoted(&types.join(" "))),
            "MCP clients use the authorization code flow only",
            "turn it on",
        );
    }
    let grants = grants(document);
    if !grants.iter().any(|one| one == "authorization_code") {
        judged = judged.fail(
            "`grant_types_supported` lacks `authorization_code`",
            "MCP clients use nothing else",
            "turn it on",
        );
    }
    if !grants.iter().any(|one| one == "refresh_token") {
        judged.summary = "authorization code, without refresh tokens".to_owned();
        judged = judged.warn(
            "`refresh_token` is not among the grant types",
            "users have to sign in again whenever a token expires",
            "add refresh_token to `grant_types_supported`, and issue them",
        );
    }
    judged
}

/// The grant types of the server. Without the field: authorization_code and implicit (RFC 8414 §2).
pub(in super::super) fn grants(document: &Map<String, Value>) -> Vec<String> {
    strings(document.get("grant_types_supported")).unwrap_or_else(|| vec!["authorization_code".to_owned()])
}

/// Whether the code is protected (RFC 7636).
pub(in super::super) fn pkce(document: &Map<String, Value>) -> Judged {
    let why = "clients must refuse to go on (MCP: code_challenge_methods_supported with S256)";
    let fix =
        "support S256, and list it in `code_challenge_methods_supported`; OpenID Connect servers must list it too";
    match strings(document.get("code_challenge_methods_supported")) {
        Some(methods) if methods.iter().any(|method| method == "S256") => {
            let judged = Judged::new(shown(&listed(&methods)));
            if methods.iter().any(|method| method == "plain") {
                return judged.warn(
                    "`plain` is allowed too",
                    "it protects nothing (RFC 9700 section 2.1.1)",
                    "turn it off",
                );
            }
            judged
        }
        Some(methods) => {
            let methods = shown(&listed(&methods));
            Judged::new(format!("no S256 in {}", quoted(&methods))).fail("S256 is not offered", why, fix)
        }
        None => Judged::new("not named").fail("`code_challenge_methods_supported` is missing", why, fix),
    }
}

/// Whether the answer says who it is from (RFC 9207).
pub(in super::super) fn iss_parameter(document: &Map<String, Value>) -> Judged {
    if document.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)) {
        return Judged::new("iss is sent");
    }
    Judged::new("not announced").warn(
        "`authorization_response_iss_parameter_supported` is not true",
        "a client of several servers cannot tell whose answer it got (mix-up attack); a later MCP revision will demand it",
        "send `iss` with every authorization answer, and announce it (RFC 9207)",
    )
}
