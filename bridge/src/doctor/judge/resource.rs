//! Protected resource metadata (RFC 9728).

use http::header;
use serde_json::{Map, Value};
use url::Url;

use super::{
    super::{
        challenge::Challenge,
        fetch::Reply,
        report::Judged,
        words::{listed, quoted, shown},
    },
    Read, document, strings,
};

/// Where a document was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum From {
    /// The URL in the challenge
    Challenge,
    /// The path put behind the well-known part
    Path,
    /// The origin's own
    Root,
}

/// One place and what is there.
pub(in super::super) struct Place {
    pub(in super::super) from: From,
    pub(in super::super) url: Url,
    pub(in super::super) reply: Reply,
}

/// Where `url`'s metadata may be, in the order in which clients look.
pub(in super::super) fn places(url: &Url, challenge: Option<&Challenge>) -> Vec<(From, Url)> {
    let named = challenge.and_then(|challenge| Url::parse(challenge.resource_metadata.as_deref()?).ok());
    let named = named.filter(|url| matches!(url.scheme(), "http" | "https"));
    let mut places: Vec<(From, Url)> = named.map(|url| (From::Challenge, url)).into_iter().collect();
    let at = |path: &str| {
        let mut url = url.clone();
        url.set_fragment(None);
        url.set_path(path);
        url
    };
    if url.path() != "/" {
        places.push((From::Path, at(&format!("/.well-known/oauth-protected-resource{}", url.path()))));
    }
    let mut root = at("/.well-known/oauth-protected-resource");
    root.set_query(None);
    places.push((From::Root, root));
    places
}

/// Whether clients find a document, and the one that they find.
pub(in super::super) fn metadata(places: &[Place]) -> (Judged, Option<Map<String, Value>>) {
    let read: Vec<(&Place, Read)> = places.iter().map(|place| (place, document(&place.reply))).collect();
    let why = "without it no client learns where to sign in (RFC 9728)";
    let fix = "serve the document at each of these places, as JSON with status 200";
    let Some((used, document)) = read.iter().find_map(|(place, read)| Some((*place, read.as_ref().ok()?))) else {
        let mut judged = Judged::new("there is none");
        for (place, read) in &read {
            let complaint = read.as_ref().err().map(String::as_str).unwrap_or_default();
            judged = judged.fail(format!("{}: {complaint}", shown(place.url.as_str())), why, fix);
        }
        return (judged, None);
    };
    let mut judged = Judged::new(shown(used.url.as_str()));
    if let Some((place, Err(complaint))) =
        read.first().filter(|(place, read)| place.from == From::Challenge && read.is_err())
    {
        judged = judged.fail(
            format!("the challenge names {}, and {complaint}", quoted(place.url.as_str())),
            "clients use the URL of the challenge and do not look elsewhere",
            "name a URL that clients can fetch (mcp-bridge: --public-url)",
        );
    }
    let media_type = used.reply.as_ref().map(super::super::fetch::Answer::media_type).unwrap_or_default();
    if media_type != "application/json" {
        judged = judged.warn(
            format!("the content type is {}", quoted(&media_type)),
            "strict clients do not read it (RFC 9728 section 3.2)",
            format!("send {}: application/json", header::CONTENT_TYPE),
        );
    }
    let is_there = |from: From| read.iter().find(|(place, _)| place.from == from).map(|(_, read)| read.is_ok());
    if used.from != From::Challenge && is_there(From::Path) == Some(false) {
        judged = judged.warn(
            "only the root has a document",
            "clients look below the path first, and some look nowhere else",
            "serve it with the path put behind the well-known part too, or name it in the challenge",
        );
    }
    // The root speaks for the origin where it does not speak for this path; both may be meant.
    let same = |from: From| read.iter().find(|(place, _)| place.from == from).and_then(|(_, read)| read.as_ref().ok());
    if let (Some(one), Some(other)) = (same(From::Challenge), same(From::Path))
        && one.get("resource") != other.get("resource")
    {
        judged = judged.warn(
            "the documents of the challenge and of the path name different resources",
            "which one a client believes depends on the client",
            "serve the same document at both",
        );
    }
    (judged, Some(document.clone()))
}

/// The identifier against what was typed, and where it says to sign in.
pub(in super::super) fn resource(typed: &str, document: &Map<String, Value>) -> (Judged, Vec<String>) {
    let servers = strings(document.get("authorization_servers")).unwrap_or_default();
    let mut judged = match document.get("resource").and_then(Value::as_str) {
        None => Judged::new("missing").fail(
            "the document has no `resource`",
            "clients must refuse it (RFC 9728 section 3.3)",
            format!("add \"resource\": \"{}\"", shown(typed)),
        ),
        Some(found) => match difference(typed, found) {
            None => Judged::new(format!("{}, as typed", shown(found))),
            Some(difference) => Judged::new(difference.clone()).fail(
                format!("it is {} and what was typed is {}: {difference}", quoted(found), quoted(typed)),
                "Claude, Claude Code and VS Code compare them byte for byte, and tokens are made out for the wrong name",
                format!("set `resource` to {}, or give people {} as URL", quoted(typed), quoted(found)),
            ),
        },
    };
    if servers.is_empty() {
        judged = judged.fail(
            "`authorization_servers` is missing or empty",
            "no client learns where to sign in (MCP: at least one)",
            "name the issuer there",
        );
    } else if servers.len() > 1 {
        judged = judged.warn(
            format!("{} authorization servers: {}", servers.len(), shown(&listed(&servers))),
            "Claude uses the first one only",
            "put the one that everybody can use first",
        );
    }
    if let Some(methods) = strings(document.get("bearer_methods_supported"))
        && !methods.iter().any(|method| method == "header")
    {
        judged = judged.fail(
            "`bearer_methods_supported` has no \"header\"",
            "every client sends its token in the header",
            "add it, or leave the field out",
        );
    }
    (judged, servers)
}

/// What a client asks for, and whether it is told.
pub(in super::super) fn scopes(challenge: Option<&Challenge>, document: &Map<String, Value>) -> Judged {
    let asked = challenge.and_then(|challenge| challenge.scope.clone());
    let supported = strings(document.get("scopes_supported"));
    let mut judged = match (&asked, &supported) {
        (Some(scope), _) => Judged::new(format!("the challenge asks for {}", quoted(scope))),
        (None, Some(scopes)) => Judged::new(format!("from the metadata: {}", quoted(&scopes.join(" ")))),
        (None, None) => Judged::new("not told").warn(
            "neither the challenge nor the metadata names scopes",
            "clients ask for none, and get what the authorization server gives by default; many ignore a later 403",
            "put every scope that a user may want into the challenge of the 401",
        ),
    };
    let everywhere =
        asked.iter().flat_map(|scope| scope.split(' ')).chain(supported.iter().flatten().map(String::as_str));
    if everywhere.into_iter().any(|scope| scope == "offline_access") {
        judged = judged.warn(
            "`offline_access` is among them",
            "it is no scope of the resource; clients ask for it by themselves (MCP 2026-07-28)",
            "leave it out of the challenge and of `scopes_supported`",
        );
    }
    judged
}

/// How `found` differs from `typed`, if it does: the most telling difference, in words.
pub(in super::super) fn difference(typed: &str, found: &str) -> Option<String> {
    if typed == found {
        return None;
    }
    let trimmed = |text: &str| text.trim_end_matches('/').to_owned();
    if trimmed(typed) == trimmed(found) {
        return Some(
            if found.len() > typed.len() { "a slash too much at the end" } else { "the slash at the end is missing" }
                .to_owned(),
        );
    }
    let (Ok(a), Ok(b)) = (Url::parse(typed), Url::parse(found)) else {
        return Some("it is no URL".to_owned());
    };
    if a == b {
        return Some("the spelling differs (upper case in scheme or host, or a port that needs no mention)".to_owned());
    }
    let port = |url: &Url| url.port().map_or("no port".to_owned(), |port| format!("port {port}"));
    Some(if a.host_str() != b.host_str() {
        format!(
            "another host, {} and not {}",
            shown(b.host_str().unwrap_or("none")),
            shown(a.host_str().unwrap_or("none"))
        )
    } else if a.scheme() != b.scheme() {
        format!("{} and not {}", shown(b.scheme()), a.scheme())
    } else if a.port() != b.port() {
        format!("{} and not {}", port(&b), port(&a))
    } else if matches!(b.path(), "" | "/") {
        "the path is missing".to_owned()
    } else if a.path() != b.path() {
        "another path".to_owned()
    } else {
        "another query or fragment".to_owned()
    })
}
