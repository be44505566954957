//! At the server's door, without a token or with a bad one.

use http::{StatusCode, header};
use serde_json::json;

use super::{Taken, Walk, skipped};
use crate::doctor::{
    challenge::Challenge,
    fetch::{Ask, Reply},
    judge::{
        cors::{self, Asked, PAGE},
        door::{self, Access, Nearby},
        speech::KEEP_ALIVE_MAX,
    },
    request::{self, SESSION, Session},
};

/// What a stranger got.
pub(super) struct Door {
    pub(super) legacy: Reply,
    pub(super) modern: Reply,
    pub(super) access: Access,
}

/// Nobody issues this.
const MADE_UP: &str = "Bearer mcp-bridge-doctor-made-this-up";

/// What a page sends that needs leave (Fetch, CORS-safelisted request headers).
const PAGE_SENDS: &[&str] = &["authorization", "content-type", "mcp-protocol-version", "mcp-session-id"];

impl Walk {
    pub(super) async fn door(&mut self) -> Taken {
        let legacy = self.ask(&request::initialize(&self.url)).await;
        let modern = self.ask(&request::modern(&self.url, "server/discover", json!({}))).await;
        let lost = legacy
            .as_ref()
            .is_ok_and(|answer| matches!(answer.status.as_u16(), 200 | 404 | 405) && answer.json().is_none());
        let nearby = if lost { self.look_around().await } else { Nearby::default() };
        let (judged, access) = door::door(&self.url, &legacy, &modern, nearby);
        self.door = Some(Door { legacy, modern, access });
        judged.into()
    }

    /// Looks for what the user may have meant.
    async fn look_around(&mut self) -> Nearby {
        let stream = Ask::get(&self.url).header(header::ACCEPT, "text/event-stream");
        let mut old_transport = false;
        if let Ok(mut stream) = self.http.open(&stream).await
            && stream.head.media_type() == "text/event-stream"
            && let Ok(Some(first)) = stream.next(KEEP_ALIVE_MAX / 4).await
        {
            old_transport = first.starts_with(b"event: endpoint") || first.starts_with(b"event:endpoint");
        }
        let mut at_mcp = false;
        if self.url.path() != "/mcp" {
            let mut url = self.url.clone();
            url.set_path("/mcp");
            let reply = self.ask(&request::modern(&url, "server/discover", json!({}))).await;
            at_mcp = reply.is_ok_and(|answer| {
                answer.status == StatusCode::UNAUTHORIZED
                    || answer.json().is_some_and(|json| json.get("jsonrpc").is_some())
            });
        }
        Nearby { old_transport, at_mcp }
    }

    pub(super) fn challenge(&mut self) -> Taken {
        let Some(Door { legacy, modern, access: Access::Guarded }) = &self.door else {
            return skipped("the server asks nobody to sign in");
        };
        let refused = |reply: &&Reply| reply.as_ref().is_ok_and(|answer| answer.status == StatusCode::UNAUTHORIZED);
        let Some(Ok(answer)) = [legacy, modern].into_iter().find(refused) else {
            return skipped("there is no 401");
        };
        let challenge = Challenge::of(&answer.headers);
        let judged = door::challenge(&self.url, &challenge);
        self.challenge = challenge.ok();
        judged.into()
    }

    pub(super) async fn accept(&mut self) -> Taken {
        let any = request::initialize(&self.url).header(header::ACCEPT, "*/*").with_note("with Accept: */*");
        let reply = self.ask(&any).await;
        self.leave(&reply).await;
        let Some(door) = &self.door else { return skipped("there is nothing to compare with") };
        door::accept(&door.legacy, &reply).into()
    }

    pub(super) async fn bad_token(&mut self) -> Taken {
        if self.door.as_ref().is_none_or(|door| door.access != Access::Guarded) {
            return skipped("the server asks for no token");
        }
        let ask =
            request::initialize(&self.url).header(header::AUTHORIZATION, MADE_UP).with_note("with a made-up token");
        let reply = self.ask(&ask).await;
        self.leave(&reply).await;
        door::bad_token(&reply).into()
    }

    pub(super) async fn cors_endpoint(&mut self) -> Taken {
        let preflight = Ask::new(http::Method::OPTIONS, &self.url)
            .header(header::ORIGIN, PAGE)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, &PAGE_SENDS.join(","));
        let preflight = self.ask(&preflight).await;
        let post = request::initialize(&self.url).header(header::ORIGIN, PAGE).with_note("from a page");
        let reply = self.ask(&post).await;
        self.leave(&reply).await;
        let guarded = self.door.as_ref().is_some_and(|door| door.access == Access::Guarded);
        let reads: &[&str] = if guarded { &["www-authenticate"] } else { &[] };
        let has_session = reply.as_ref().is_ok_and(|answer| answer.headers.contains_key(SESSION));
        let reads = if has_session { &["mcp-session-id"] } else { reads };
        cors::cors(&[
            Asked { what: "preflight", reply: &preflight, sends: PAGE_SENDS, reads: &[] },
            Asked { what: "POST", reply: &reply, sends: &[], reads },
        ])
        .into()
    }

    /// Ends the session that `reply` has opened, if it has.
    pub(super) async fn leave(&self, reply: &Reply) {
        let Some(id) = reply.as_ref().ok().and_then(|answer| answer.header(SESSION)) else { return };
        let session = Session { id: Some(id.to_owned()), version: request::LEGACY.to_owned() };
        // A courtesy: a server that refuses lets it expire.
        let _ = self.http.send(&request::legacy_end(&self.url, &session).with_token()).await;
    }
}
