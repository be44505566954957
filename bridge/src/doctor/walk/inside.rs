//! Behind the door: what users get.

use http::header;
use serde_json::json;
use tokio::time::Instant;

use super::{Taken, Walk, skipped};
use crate::doctor::{
    fetch::{Ask, Trouble},
    judge::{
        door::Access,
        speech::{self, KEEP_ALIVE_MAX, Seen, is_stream},
    },
    report::Judged,
    request,
};

/// Why nobody signs in where everybody could read the token.
const CLEAR: &str = "no token is sent over plain http, where others can read it; examine the https URL";

impl Walk {
    pub(super) async fn sign_in(&mut self) -> Taken {
        if !self.http.is_safe_for_tokens() {
            return skipped(CLEAR);
        }
        if self.http.has_token() {
            return skipped("there is a token already");
        }
        let Some(way) = &self.options.sign_in else {
            return skipped("nobody was asked to sign in; --login does, and a token in MCP_BRIDGE_TOKEN does as well");
        };
        match way.sign_in(&self.url).await {
            Ok(token) => {
                self.http.set_token(&token);
                Judged::new("signed in").into()
            }
            Err(why) => {
                let why = crate::doctor::words::shown(&why);
                Judged::new("it did not succeed")
                    .fail(why, "a client's sign-in goes the same way", "see what the step before it says")
                    .into()
            }
        }
    }

    pub(super) async fn eras(&mut self) -> Taken {
        let Some(door) = &self.door else { return skipped("the server does not answer") };
        let (legacy, modern) = if door.access == Access::Open && !self.http.has_token() {
            (door.legacy.clone(), door.modern.clone())
        } else if self.http.has_token() {
            let legacy = self.ask(&request::initialize(&self.url).with_token()).await;
            let modern = self.ask(&request::modern(&self.url, "server/discover", json!({})).with_token()).await;
            (legacy, modern)
        } else if !self.http.is_safe_for_tokens() {
            return skipped(CLEAR);
        } else {
            return skipped("the server wants a token; put one into MCP_BRIDGE_TOKEN or a --token-file");
        };
        let (judged, spoken) = speech::eras(&legacy, &modern);
        self.spoken = spoken;
        if let Some(session) = self.spoken.legacy.clone() {
            // Some servers answer nothing before they have it.
            let ready = request::legacy(&self.url, &session, "notifications/initialized", None).with_token();
            let _ = self.ask(&ready).await;
        }
        judged.into()
    }

    pub(super) async fn tools(&mut self) -> Taken {
        let ask = match &self.spoken.legacy {
            Some(session) => request::legacy(&self.url, session, "tools/list", Some(2)),
            None => request::modern(&self.url, "tools/list", json!({})),
        };
        let reply = self.ask(&ask.with_token()).await;
        speech::tools(&reply).into()
    }

    pub(super) async fn streaming(&mut self) -> Taken {
        let listen = json!({ "notifications": { "toolsListChanged": true } });
        let mut seen = None;
        if self.spoken.modern {
            // The server has to acknowledge at once.
            seen = Some(self.watch(request::modern(&self.url, "subscriptions/listen", listen), true).await);
        }
        // A server without subscriptions may have the legacy era's stream.
        let streams = seen.as_ref().is_some_and(|seen| seen.head.as_ref().map_or(true, |(head, _)| is_stream(head)));
        if let Some(session) = &self.spoken.legacy
            && !streams
        {
            let ask = request::legacy_stream(&self.url, session);
            seen = Some(self.watch(ask, false).await);
        }
        match seen {
            Some(seen) => speech::streaming(&seen).into(),
            None => skipped("there is no stream to ask for"),
        }
    }

    /// Opens a stream, and waits for its first bytes.
    async fn watch(&mut self, ask: Ask, speaks_first: bool) -> Seen {
        // What compresses or collects does it only for clients that take compressed bodies; most do.
        let ask = ask.header(header::ACCEPT_ENCODING, "gzip, deflate, br").with_token();
        let began = Instant::now();
        let opened = self.http.open(&ask).await;
        let after = began.elapsed();
        let (head, first) = match opened {
            Ok(mut stream) => {
                let began = Instant::now();
                let first = stream.next(KEEP_ALIVE_MAX).await.map(|bytes| bytes.map(|_| began.elapsed()));
                (Ok((stream.head, after)), first)
            }
            Err(trouble) => (Err(trouble), Ok(None)),
        };
        let got = match (&head, &first) {
            (Err(trouble), _) => trouble.to_string(),
            (Ok((head, after)), first) => {
                let bytes = match first {
                    Ok(Some(wait)) => format!("first bytes {} ms later", wait.as_millis()),
                    Ok(None) => "its end".to_owned(),
                    Err(Trouble::Timeout(wait)) => format!("nothing for {} s", wait.as_secs()),
                    Err(trouble) => trouble.to_string(),
                };
                format!("{} after {} ms, {bytes}", head.shown(), after.as_millis())
            }
        };
        self.note(&ask, got);
        Seen { head, first, speaks_first }
    }

    /// Ends the session, if there is one.
    pub(super) async fn end_session(&self) {
        if let Some(session) = &self.spoken.legacy
            && session.id.is_some()
        {
            // A server that does not let clients end sessions says 405.
            let _ = self.http.send(&request::legacy_end(&self.url, session).with_token()).await;
        }
    }
}
