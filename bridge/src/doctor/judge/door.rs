//! What a stranger gets, and what a bad token gets.

use http::{StatusCode, header};
use serde_json::Value;
use url::Url;

use super::{
    super::{
        challenge::{Challenge, NoChallenge},
        fetch::{Answer, Reply},
        report::Judged,
        walls,
        words::{listed, quoted, shown},
    },
    not_json,
};

/// Who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Access {
    /// Those with a token.
    Guarded,
    /// Everybody.
    Open,
    /// Nobody, because something is broken.
    Broken,
}

/// What else is there, where there is no endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Nearby {
    /// The typed URL is one of the transport of 2024-11-05.
    pub(in super::super) old_transport: bool,
    /// Something that looks like an endpoint is at `/mcp`.
    pub(in super::super) at_mcp: bool,
}

/// How one answer to a request without a token is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// 401
    Asks,
    /// A JSON-RPC result
    Served,
    /// The server has understood, and does not speak this era.
    NotThis,
    Other,
}

fn kind(answer: &Answer) -> Kind {
    let json = answer.json();
    let has = |key: &str| json.as_ref().and_then(|json| json.get(key)).is_some_and(Value::is_object);
    match answer.status {
        StatusCode::UNAUTHORIZED => Kind::Asks,
        StatusCode::OK if has("result") => Kind::Served,
        StatusCode::OK | StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND if has("error") => Kind::NotThis,
        // Legacy servers may refuse what they do not know without a word.
        StatusCode::BAD_REQUEST => Kind::NotThis,
        _ => Kind::Other,
    }
}

/// What a request without a token gets, in each era.
pub(in super::super) fn door(url: &Url, legacy: &Reply, modern: &Reply, nearby: Nearby) -> (Judged, Access) {
    let (legacy, modern) = match (legacy, modern) {
        (Ok(legacy), Ok(modern)) => (legacy, modern),
        (Err(trouble), _) | (_, Err(trouble)) => {
            let judged = Judged::new(trouble.to_string());
            let fix = "see whether the server is up, and what its log and the proxy's say about this request";
            return (judged.fail(trouble.to_string(), "no client gets an answer", fix), Access::Broken);
        }
    };
    for answer in [legacy, modern] {
        if let Some(wall) = walls::recognise(answer) {
            let judged = Judged::new(wall.what);
            return (judged.fail(wall.what, "no client gets to the server", wall.fix), Access::Broken);
        }
    }
    match (kind(legacy), kind(modern)) {
        (Kind::Asks, Kind::Asks | Kind::NotThis) | (Kind::NotThis, Kind::Asks) => {
            (Judged::new("401, which starts a client's sign-in"), Access::Guarded)
        }
        (Kind::Asks, Kind::Served) | (Kind::Served, Kind::Asks) => {
            let judged = Judged::new("401 in one era, an answer in the other").warn(
                "one of `initialize` and `server/discover` needs no token",
                "whoever speaks that era learns what the server is without signing in",
                "ask for a token on every request, whatever its method and era",
            );
            (judged, Access::Guarded)
        }
        (Kind::Served, _) | (_, Kind::Served) => {
            let judged = Judged::new("it answers without a token").warn(
                "the server asks nobody to sign in",
                "everybody who learns the URL can use it",
                "if that is not meant, require a token: answer 401 with a challenge",
            );
            (judged, Access::Open)
        }
        (Kind::Asks, Kind::Other) => (broken(url, modern, nearby), Access::Guarded),
        (Kind::Other, Kind::Asks) => (broken(url, legacy, nearby), Access::Guarded),
        (Kind::NotThis, Kind::Other) => (broken(url, modern, nearby), Access::Broken),
        _ => (broken(url, legacy, nearby), Access::Broken),
    }
}

/// Why `answer` is no way in.
fn broken(url: &Url, answer: &Answer, nearby: Nearby) -> Judged {
    let status = answer.status.as_u16();
    let judged = Judged::new(format!("{} and not 401", answer.status));
    if answer.status.is_redirection() {
        let target = answer.header(header::LOCATION).unwrap_or_default();
        let resolved = url.join(target).map_or_else(|_| target.to_owned(), String::from);
        return judged.fail(
            format!("{status}: it redirects to {}", quoted(&resolved)),
            "a redirect drops the token, and most clients do not follow it with a POST",
            format!("give people {} as URL, or answer at the URL that they have", quoted(&resolved)),
        );
    }
    if nearby.old_transport {
        return judged.fail(
            format!("{status}: this is the transport of 2024-11-05 (HTTP+SSE)"),
            "it is deprecated; ChatGPT and newer clients want streamable HTTP",
            "serve streamable HTTP too, and give people its URL (often /mcp in place of /sse)",
        );
    }
    let elsewhere = if nearby.at_mcp { "; there is something at /mcp of this host: try that" } else { "" };
    let (what, why, fix): (&str, &str, String) = match status {
        200 => (
            "it answers, and not in JSON-RPC",
            "this is no MCP endpoint",
            format!("type the URL of the endpoint{elsewhere}"),
        ),
        400 => {
            ("it refuses the first request of either era", "no client gets past it", "see the server's log".to_owned())
        }
        403 => (
            "403 without sign-in",
            "only 401 makes a client sign in; 403 matters to it only with error=\"insufficient_scope\"",
            "answer 401 with a challenge; if a firewall or an allow list answers here, let clients through".to_owned(),
        ),
        404 => ("there is nothing at this path", "no client finds the server", format!("check the path{elsewhere}")),
        405 => ("it does not take POST", "every message of a client is a POST", format!("check the path{elsewhere}")),
        406 => (
            "406, although the client accepts JSON and event streams",
            "no client can accept more than that",
            "accept `application/json, text/event-stream`".to_owned(),
        ),
        413 => ("413 for a request of 300 bytes", "every request is longer", "raise the proxy's body limit".to_owned()),
        415 => (
            "it does not take application/json",
            "every message of a client is JSON",
            format!("check the path{elsewhere}"),
        ),
        421 => (
            "421: the server does not know this host name",
            "a tunnel or a proxy may have changed `Host`",
            "allow this name in the server (mcp-bridge: --public-url, --allowed-host)".to_owned(),
        ),
        429 => ("429: too many requests", "clients are turned away too", "wait, or raise the limit".to_owned()),
        502..=504 => (
            "the proxy is up and the server behind it is not",
            "no client gets to the server",
            "start the server, and check the address that the proxy has for it".to_owned(),
        ),
        500.. => (
            "the server fails on a request without a token",
            "clients never learn that they have to sign in",
            "see the server's log; answer 401".to_owned(),
        ),
        _ => (
            "an answer that clients do not expect",
            "only 401 makes a client sign in",
            "see the server's log".to_owned(),
        ),
    };
    let detail = if status == 200 { format!(": {}", not_json(answer)) } else { String::new() };
    judged.fail(format!("{what}{detail}"), why, fix)
}

/// The challenge of a 401.
pub(in super::super) fn challenge(url: &Url, challenge: &Result<Challenge, NoChallenge>) -> Judged {
    let fix = "send WWW-Authenticate: Bearer resource_metadata=\"…\", scope=\"…\" with every 401";
    let why = "clients of 2025-06-18 and later look there for the metadata; without it they guess, or stop";
    let challenge = match challenge {
        Ok(challenge) => challenge,
        Err(NoChallenge::Missing) => {
            return Judged::new("401 without WWW-Authenticate").fail("the 401 has no challenge", why, fix);
        }
        Err(NoChallenge::Schemes(schemes)) => {
            let found = shown(&listed(schemes));
            return Judged::new(format!("only {found}")).fail(
                format!("the challenge is for {found} and not for Bearer"),
                why,
                fix,
            );
        }
        Err(NoChallenge::Malformed(_)) => {
            return Judged::new("it cannot be read").fail(
                "the challenge does not follow RFC 9110 section 11.6.1",
                why,
                fix,
            );
        }
    };
    let Some(text) = &challenge.resource_metadata else {
        return Judged::new("Bearer, without resource_metadata").warn(
            "the challenge does not name the metadata",
            "clients fall back to guessing well-known URLs (RFC 9728 section 5.1)",
            fix,
        );
    };
    let judged = Judged::new(shown(text));
    let Ok(named) = Url::parse(text) else {
        return judged.fail(
            format!("resource_metadata is no absolute URL: {}", quoted(text)),
            "clients cannot fetch it",
            "name the whole URL, with https and host",
        );
    };
    if named.origin() == url.origin() {
        return judged;
    }
    let (typed, found) = (url.origin().ascii_serialization(), named.origin().ascii_serialization());
    let what = format!("resource_metadata is at {} and the server at {}", quoted(&found), quoted(&typed));
    let fix = "set the server's public URL (mcp-bridge: --public-url); behind a proxy it cannot know by itself";
    if url.scheme() == "https" && named.scheme() == "http" {
        return judged.fail(what, "clients refuse metadata over plain http", fix);
    }
    judged.warn(what, "clients that stay on the server's origin do not fetch it", fix)
}

/// Whether `Accept: */*` gets what the specification's value gets.
pub(in super::super) fn accept(expected: &Reply, any: &Reply) -> Judged {
    let status = |reply: &Reply| reply.as_ref().ok().map(|answer| answer.status);
    let why = "Claude Desktop and simple clients send it";
    let fix = "read `*/*` as what it means: JSON and event streams";
    match (status(expected), status(any)) {
        (Some(expected), Some(any)) if expected == any => Judged::new(format!("{any}, as with both types")),
        (_, Some(any)) => Judged::new(any.to_string()).warn(format!("`Accept: */*` gets {any}"), why, fix),
        (_, None) => Judged::new("no answer").warn("`Accept: */*` gets no answer", why, fix),
    }
}

/// What a token gets that nobody has issued.
pub(in super::super) fn bad_token(reply: &Reply) -> Judged {
    let answer = match reply {
        Ok(answer) => answer,
        Err(trouble) => {
            let judged = Judged::new(trouble.to_string());
            return judged.warn(trouble.to_string(), "an expired token hangs the client", "see the server's log");
        }
    };
    let judged = Judged::new(answer.status.to_string());
    let renew = "a client renews its token, or signs in again, only when it gets 401";
    let fix = "answer 401 with error=\"invalid_token\" (RFC 6750 section 3.1)";
    match answer.status.as_u16() {
        401 => match Challenge::of(&answer.headers) {
            Ok(challenge) if challenge.error.as_deref() == Some("invalid_token") => Judged::new("401 invalid_token"),
            Ok(_) | Err(NoChallenge::Missing) => judged.warn(
                "the 401 does not say error=\"invalid_token\"",
                "a client cannot tell an expired token from a missing one, and may start a whole sign-in",
                fix,
            ),
            Err(_) => judged.warn("the 401 has no Bearer challenge that can be read", renew, fix),
        },
        200..=299 => judged.fail(
            "a token that nobody has issued is accepted",
            "anybody can come in with any text",
            "verify tokens: issuer, audience, expiry and signature, or by introspection",
        ),
        503 => judged.warn(
            "503: the server cannot verify tokens now",
            "nobody can come in until it can",
            "see whether the server reaches its authorization server, with the right credentials",
        ),
        _ => judged.fail(format!("a bad token gets {}", answer.status), renew, fix),
    }
}
