//! What those who are in get: revisions, tools, streams.

use std::time::Duration;

use http::{StatusCode, Version, header};
use serde_json::Value;

use super::{
    super::{
        challenge::Challenge,
        fetch::{Answer, Reply, Trouble},
        report::Judged,
        request::{LEGACY, MODERN, SESSION, Session},
        words::{listed, quoted, shown},
    },
    not_json, strings,
};

/// How long the first bytes of a stream may take. A server sends them at once; what takes longer has
/// been collected on the way.
pub(in super::super) const FIRST_BYTES_MAX: Duration = Duration::from_secs(5);

/// How long a silent stream is watched for a sign of life: well under the 60 s after which nginx and
/// others close it, and longer than the 15 s that careful servers leave between two.
pub(in super::super) const KEEP_ALIVE_MAX: Duration = Duration::from_secs(20);

/// What the server speaks.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Spoken {
    pub(in super::super) legacy: Option<Session>,
    pub(in super::super) modern: bool,
}

/// The eras, from the answers to `initialize` and `server/discover` of somebody who may ask.
pub(in super::super) fn eras(legacy: &Reply, modern: &Reply) -> (Judged, Spoken) {
    let result = |reply: &Reply| {
        let answer = reply.as_ref().ok().filter(|answer| answer.status == StatusCode::OK)?;
        answer.json()?.get("result").cloned()
    };
    let version = result(legacy).and_then(|result| Some(result.get("protocolVersion")?.as_str()?.to_owned()));
    let id = legacy.as_ref().ok().and_then(|answer| answer.header(SESSION)).map(str::to_owned);
    let session = version.clone().map(|version| Session { id, version });
    let versions = result(modern).and_then(|result| strings(result.get("supportedVersions")));
    let spoken = Spoken { legacy: session, modern: versions.is_some() };
    let refusal = |reply: &Reply| match reply {
        Ok(answer) => match Challenge::of(&answer.headers) {
            Ok(challenge) if challenge.error.is_some() => {
                format!(
                    "{} {}",
                    answer.status,
                    shown(&challenge.error_description.or(challenge.error).unwrap_or_default())
                )
            }
            _ => answer.status.to_string(),
        },
        Err(trouble) => trouble.to_string(),
    };
    let judged = match (&version, &versions) {
        (Some(version), Some(versions)) => {
            Judged::new(format!("both eras: {} by handshake; {}", shown(version), shown(&listed(versions))))
        }
        (Some(version), None) => Judged::new(format!("{} by handshake; not {MODERN}", shown(version))),
        (None, Some(versions)) => Judged::new(format!("{}; no handshake", shown(&listed(versions)))).warn(
            "`initialize` is not answered",
            format!("clients of {LEGACY} and before, which are most, cannot connect"),
            "serve both eras",
        ),
        (None, None) => Judged::new("neither era").fail(
            format!("`initialize` gets {}, `server/discover` gets {}", refusal(legacy), refusal(modern)),
            "no client gets further",
            "see the server's log; with a token, check that it is for this resource and has not expired",
        ),
    };
    let unknown =
        version.as_deref().filter(|version| !["2024-11-05", "2025-03-26", "2025-06-18", LEGACY].contains(version));
    let judged = match unknown {
        Some(version) => judged.warn(
            format!("it offers the revision {}, which there is not", quoted(version)),
            "clients end the connection",
            format!("answer with the client's revision, or with {LEGACY}"),
        ),
        None => judged,
    };
    (judged, spoken)
}

/// The list of tools.
pub(in super::super) fn tools(reply: &Reply) -> Judged {
    let answer = match reply {
        Ok(answer) => answer,
        Err(trouble) => {
            let judged = Judged::new(trouble.to_string());
            return judged.fail(trouble.to_string(), "clients show no tools", "see the server's log");
        }
    };
    if answer.status == StatusCode::FORBIDDEN {
        let challenge = Challenge::of(&answer.headers).unwrap_or_default();
        let judged = Judged::new("the token lacks a scope");
        return match (challenge.error.as_deref(), &challenge.scope) {
            (Some("insufficient_scope"), Some(scope)) => judged.warn(
                format!("tools/list needs {}", quoted(scope)),
                "many clients do not step up at a 403",
                "ask for it in the challenge of the 401, or let lists pass without scopes",
            ),
            _ => judged.fail(
                "403 without error=\"insufficient_scope\" and scope",
                "clients cannot know what to ask the user for",
                "name every needed scope in the challenge (RFC 6750 section 3.1)",
            ),
        };
    }
    let json = answer.json();
    let list = json.as_ref().and_then(|json| json.pointer("/result/tools")).and_then(Value::as_array);
    if let Some(tools) = list {
        let names: Vec<String> = tools.iter().filter_map(|tool| tool.get("name")?.as_str()).map(shown).collect();
        let count = if tools.len() == 1 { "1 tool".to_owned() } else { format!("{} tools", tools.len()) };
        return Judged::new(format!("{count}: {}", shown(&listed(&names))));
    }
    let error = json.as_ref().and_then(|json| json.get("error"));
    // A server may have prompts or resources only.
    if error.and_then(|error| error.get("code")).and_then(Value::as_i64) == Some(-32601) {
        return Judged::new("the server has no tools");
    }
    let message = error.and_then(|error| error.get("message")).and_then(Value::as_str);
    let got = message.map_or_else(|| not_json(answer), quoted);
    Judged::new(answer.status.to_string()).fail(
        format!("tools/list gets {}: {got}", answer.status),
        "clients show no tools",
        "see the server's log",
    )
}

/// What was seen of a stream.
pub(in super::super) struct Seen {
    /// When the head came.
    pub(in super::super) head: Result<(Answer, Duration), Trouble>,
    /// When the first bytes came, counted from the head; `None` at the stream's end.
    pub(in super::super) first: Result<Option<Duration>, Trouble>,
    /// Whether the server has to say something at once.
    pub(in super::super) speaks_first: bool,
}

/// Whether `head` begins an event stream.
pub(in super::super) fn is_stream(head: &Answer) -> bool {
    head.status == StatusCode::OK && head.media_type() == "text/event-stream"
}

/// Whether streams arrive while they are written.
pub(in super::super) fn streaming(seen: &Seen) -> Judged {
    let buffered = "turn off buffering and compression for the MCP path on the way (nginx: proxy_buffering off; gzip off), \
                    and send X-Accel-Buffering: no";
    let why = "progress and questions come late or never, and clients give up after their time limit";
    let (head, after) = match &seen.head {
        Ok(head) => head,
        Err(trouble) => {
            return Judged::new(trouble.to_string()).fail(format!("a stream does not begin: {trouble}"), why, buffered);
        }
    };
    if !is_stream(head) {
        // 2025-11-25 and 2026-07-28 both allow a server without such streams.
        if matches!(
            head.status,
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::OK
        ) {
            return Judged::new(format!("{}: it opens no streams by itself", head.status));
        }
        return Judged::new(head.status.to_string()).warn(
            format!("a stream gets {}", head.status),
            "clients that listen for changes try again and again",
            "open the stream, or answer 405",
        );
    }
    let http = if head.version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" };
    let mut judged = Judged::new(format!("it begins at once, over {http}"));
    if *after > FIRST_BYTES_MAX {
        judged.summary = "it is held back".to_owned();
        judged = judged.fail(format!("a stream takes {} s to begin", after.as_secs()), why, buffered);
    }
    match &seen.first {
        Ok(Some(wait)) if seen.speaks_first && *wait > FIRST_BYTES_MAX => {
            judged.summary = "it is held back".to_owned();
            judged = judged.fail(format!("its first message takes {} s", wait.as_secs()), why, buffered);
        }
        Err(Trouble::Timeout(_)) if seen.speaks_first => {
            judged.summary = "it is held back".to_owned();
            let wait = KEEP_ALIVE_MAX.as_secs();
            judged = judged.fail(
                format!("a stream begins, and its first message does not come within {wait} s"),
                why,
                buffered,
            );
        }
        Err(Trouble::Timeout(_)) => {
            judged.summary = format!("it begins at once, over {http}, and stays silent");
            judged = judged.warn(
                format!("an idle stream shows no sign of life in {} s", KEEP_ALIVE_MAX.as_secs()),
                "proxies close silent streams after a minute or so",
                "send a comment line (`:`) every 15 s",
            );
        }
        Err(trouble) => {
            judged.summary = "it breaks".to_owned();
            judged = judged.warn(format!("the stream breaks: {trouble}"), why, buffered);
        }
        Ok(_) => {}
    }
    if let Some(encoding) = head.header(header::CONTENT_ENCODING) {
        judged = judged.warn(
            format!("the stream is compressed ({})", shown(encoding)),
            "compression collects bytes before it sends them",
            buffered,
        );
    }
    judged
}
