use std::fmt::Write as _;

use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;

use super::*;
use crate::{message::INTERNAL_ERROR, resource::ResourceUri};

fn scopes(text: &str) -> ScopeSet {
    text.parse().expect("test scopes")
}

fn insufficient(as_result: Option<Era>) -> Refusal {
    let (needed, missing) = (scopes("a b"), scopes("a b"));
    Refusal::InsufficientScope { id: "\"a\\\"b\"".into(), what: "t".into(), needed, missing, as_result }
}

fn every_refusal() -> Vec<Refusal> {
    let id = || "\"a\\\"b\"".to_owned();
    let unparsable = |code, id: Option<&str>| {
        Refusal::Unparsable(ParseError { code, id: id.map(str::to_owned), detail: "detail".into() })
    };
    let envelope = |error| Refusal::Envelope { id: id(), error };
    vec![
        Refusal::ForeignHost,
        Refusal::ForeignOrigin,
        Refusal::NoSuchPath,
        Refusal::MethodNotAllowed { allow: "GET, HEAD" },
        Refusal::NoToken,
        Refusal::MalformedCredentials(MalformedCredentials::Repeated),
        Refusal::MalformedCredentials(MalformedCredentials::TooLong),
        Refusal::MalformedCredentials(MalformedCredentials::NotAToken),
        Refusal::InvalidToken(Inactive::NotActive),
        Refusal::InvalidToken(Inactive::Audience),
        Refusal::InvalidToken(Inactive::Jwt("the signature is wrong")),
        Refusal::VerifierUnavailable("the authorization server answered 500 to introspection".into()),
        Refusal::RateLimited(Duration::from_millis(20)),
        Refusal::RateLimited(Duration::from_millis(2001)),
        Refusal::Overloaded,
        Refusal::ContentType,
        Refusal::ContentEncoding,
        Refusal::NotAcceptable { offered: "text/event-stream" },
        Refusal::TooLarge { max_bytes: 4096 },
        Refusal::TooSlow,
        Refusal::BrokenBody,
        unparsable(crate::message::PARSE_ERROR, None),
        unparsable(INVALID_REQUEST, None),
        unparsable(INVALID_PARAMS, Some("1")),
        envelope(EnvelopeError::HeaderMismatch("the header Mcp-Method is missing".into())),
        envelope(EnvelopeError::UnsupportedVersion("1900-01-01".into())),
        envelope(EnvelopeError::InvalidMeta { key: "key", kind: "a string" }),
        Refusal::UnexpectedResponse,
        Refusal::UnsupportedVersion,
        Refusal::SessionMissing { id: id() },
        Refusal::SessionUnknown { id: id() },
        Refusal::SessionsFull { id: id() },
        Refusal::InsufficientScope {
            id: id(),
            what: "divide".into(),
            needed: scopes("math op:div"),
            missing: scopes("op:div"),
            as_result: None,
        },
        insufficient(None),
        Refusal::NoRule { id: id(), what: "shutdown".into() },
        Refusal::NotAudited { id: id() },
    ]
}

fn answer_to(refusal: &Refusal) -> (http::response::Parts, String) {
    let resource = ResourceUri::new("https://h.example", "/mcp").expect("valid");
    let response = refused(refusal, &Challenges::new(&resource, &scopes("op:add op:div")));
    let (head, body) = response.into_parts();
    let Either::Left(body) = body else { panic!("{refusal:?} is answered with a stream") };
    let body = body.collect().now_or_never().expect("the body is whole");
    let Ok(body) = body.map(|body| body.to_bytes());
    (head, String::from_utf8(body.into()).expect("UTF-8"))
}

#[test]
fn messages_and_challenges() {
    let mut page = String::new();
    for refusal in every_refusal() {
        let (head, body) = answer_to(&refusal);
        assert_eq!(head.headers[CONTENT_TYPE], "application/json", "{refusal:?}");
        assert_eq!(head.headers[CACHE_CONTROL], "no-store", "{refusal:?}");
        assert_eq!(head.headers[X_CONTENT_TYPE_OPTIONS], "nosniff", "{refusal:?}");
        let name = format!("{refusal:?}");
        let _ = writeln!(page, "{name}\n  {} counted as {}", head.status, refusal.reason().as_str());
        for name in [ALLOW, WWW_AUTHENTICATE, RETRY_AFTER] {
            for value in head.headers.get_all(&name) {
                let _ = writeln!(page, "  {name}: {}", value.to_str().expect("printable"));
            }
        }
        assert!(head.headers.len() <= 5, "a header that is not shown: {:?}", head.headers);
        let _ = writeln!(page, "  {body}\n  log: {}\n", cause(&refusal));
    }
    insta::assert_snapshot!(page);
}

#[test]
fn a_missing_scope_can_be_a_tools_result_with_the_same_challenge() {
    let resource = ResourceUri::new("https://h.example", "/mcp").expect("valid");
    let challenges = Challenges::new(&resource, &scopes("a"));
    assert!(every_refusal().iter().all(|refusal| as_result(refusal, &challenges).is_none()));
    let header = refused(&insufficient(None), &challenges).headers()[WWW_AUTHENTICATE].clone();
    for era in [Era::Legacy, Era::Modern] {
        let answer = as_result(&insufficient(Some(era)), &challenges).expect("a result");
        let body: serde_json::Value = serde_json::from_slice(&answer.message).expect("JSON");
        assert_eq!((&body["id"], answer.error), (&"a\"b".into(), None));
        let mut expected = serde_json::json!({
            "content": [{ "type": "text", "text": "Missing required scopes \"a b\", so nothing was done. Ask the user \
                to connect this server again and to allow a b, then call again." }],
            "isError": true,
            "_meta": { "mcp/www_authenticate": [header.to_str().expect("text")] },
        });
        if era == Era::Modern {
            expected["resultType"] = "complete".into();
        }
        assert_eq!(body["result"], expected);
    }
}

#[test]
fn a_refusal_has_the_id_of_its_request_and_the_shape_of_its_moment() {
    for refusal in every_refusal() {
        let (_, body) = answer_to(&refusal);
        let body: serde_json::Value = serde_json::from_str(&body).expect(&body);
        if body.get("jsonrpc").is_none() {
            assert!(body["error"].is_string() && body["error_description"].is_string(), "{refusal:?}: {body}");
            continue;
        }
        assert!(body["error"]["code"].is_i64() && body["error"]["message"].is_string(), "{refusal:?}: {body}");
        let expected = match &refusal {
            Refusal::Unparsable(error) => error.id.as_ref().map_or(serde_json::Value::Null, |_| 1.into()),
            Refusal::BrokenBody | Refusal::UnexpectedResponse | Refusal::UnsupportedVersion => serde_json::Value::Null,
            _ => "a\"b".into(),
        };
        assert_eq!(body["id"], expected, "{refusal:?}");
    }
}

/// An outage that looks like a bad token would log everybody out.
#[test]
fn only_what_is_wrong_with_the_token_is_a_challenge() {
    for refusal in every_refusal() {
        let (head, _) = answer_to(&refusal);
        let about_the_token = matches!(
            refusal,
            Refusal::NoToken
                | Refusal::MalformedCredentials(_)
                | Refusal::InvalidToken(_)
                | Refusal::InsufficientScope { .. }
        );
        assert_eq!(head.headers.contains_key(WWW_AUTHENTICATE), about_the_token, "{refusal:?}");
        let unauthorized = matches!(refusal, Refusal::NoToken | Refusal::InvalidToken(_));
        assert_eq!(head.status == StatusCode::UNAUTHORIZED, unauthorized, "{refusal:?}");
        let later = matches!(head.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(head.headers.contains_key(RETRY_AFTER), later, "{refusal:?}");
    }
}

#[test]
fn statuses_of_answers() {
    let error = |code| Answered::Served(Answer::error("1", code, "text", None));
    for (code, modern) in [
        (METHOD_NOT_FOUND, 404),
        (HEADER_MISMATCH, 400),
        (MISSING_CAPABILITY, 400),
        (UNSUPPORTED_VERSION, 400),
        (INVALID_PARAMS, 200),
        (INTERNAL_ERROR, 200),
    ] {
        assert_eq!(status_of(&error(code), Era::Modern), modern, "{code}");
        assert_eq!(status_of(&error(code), Era::Legacy), 200, "{code}");
    }
    for era in [Era::Modern, Era::Legacy] {
        let ours = || Answer::error("1", INTERNAL_ERROR, "text", None);
        assert_eq!(status_of(&Answered::Served(Answer::result("1", "{}")), era), 200);
        assert_eq!(status_of(&Answered::TimedOut(ours()), era), 504);
        assert_eq!(status_of(&Answered::Broken(ours()), era), 502);
        let unavailable = Answered::Unavailable(ours(), Duration::from_millis(1200));
        assert_eq!(status_of(&unavailable, era), 503);
        assert_eq!(retry_after(&unavailable), Some(HeaderValue::from_static("2")));
    }
}

#[test]
fn a_stream_is_not_held_back_and_not_stored() {
    let response = events(Either::Left(Full::new(Bytes::new())));
    assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    assert!(response.headers()[CACHE_CONTROL].to_str().is_ok_and(|value| value.contains("no-transform")));
}
