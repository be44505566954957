//! What a legacy server calls a session: made by `initialize`, and made again when it is lost.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio_util::sync::CancellationToken;

use crate::connect::remote::{failure::Failure, incoming::Incoming, member_text, sse::Place};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// One session; one that the server names by no id is the same for as long as the program lives.
#[derive(Debug)]
pub(super) struct Session {
    id: Option<HeaderValue>,
    version: HeaderValue,
    /// Ends its stream.
    pub(super) over: CancellationToken,
    /// Whether its stream was asked for; a client may say `initialized` twice.
    listening: AtomicBool,
}

impl Session {
    /// The session that `replied`, with the result of `initialize`, opens.
    pub(super) fn new(replied: &HeaderMap, result: &str) -> Result<Self, Failure> {
        let version = member_text(result, "protocolVersion").and_then(|version| HeaderValue::try_from(version).ok());
        let version =
            version.ok_or_else(|| Failure::Protocol("its answer to initialize has no protocolVersion".to_owned()))?;
        let mut id = replied.get(SESSION_ID).cloned();
        if let Some(id) = &mut id {
            // Whoever has it can act in the session.
            id.set_sensitive(true);
        }
        Ok(Self { id, version, over: CancellationToken::new(), listening: AtomicBool::new(false) })
    }

    /// Whether the server knows it by an id, and can so forget it.
    pub(super) fn has_id(&self) -> bool {
        self.id.is_some()
    }

    /// Whether this is the first to ask for its stream.
    pub(super) fn is_first_to_listen(&self) -> bool {
        !self.listening.swap(true, Ordering::Relaxed)
    }

    /// Whether it speaks the same revision as `other`.
    pub(super) fn speaks_like(&self, other: &Self) -> bool {
        self.version == other.version
    }

    /// The headers of every request in it.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(5);
        headers.insert(VERSION, self.version.clone());
        if let Some(id) = &self.id {
            headers.insert(SESSION_ID, id.clone());
        }
        headers
    }

    /// The headers that take up a stream where it was left.
    pub(super) fn headers_at(&self, place: &Place) -> HeaderMap {
        let mut headers = self.headers();
        if let Some(id) = &place.last_id {
            headers.insert(LAST_EVENT_ID, id.clone());
        }
        headers
    }
}

/// What the client has said to make a session what it is, to be said again in the next one.
#[derive(Debug, Default)]
pub(super) struct Opening(Mutex<Said>);

/// The messages, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) initialize: Option<Bytes>,
    pub(super) initialized: Option<Bytes>,
    /// The last of each name.
    pub(super) wishes: Vec<Wish>,
}

/// A request that sets something for the session's whole life: `logging/setLevel` or
/// `resources/subscribe`.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// What it is about.
    pub(super) name: String,
    /// The request.
    pub(super) line: Bytes,
}

/// Subscriptions that are made again; a client with more has to see to them itself.
const WISHES_MAX: usize = 256;

impl Opening {
    pub(super) fn change(&self, change: impl FnOnce(&mut Said)) {
        use crate::sync::Locked as _;
        change(&mut self.0.locked());
    }

    pub(super) fn said(&self) -> Said {
        use crate::sync::Locked as _;
        self.0.locked().clone()
    }

    /// The wish that a request is, to be [kept](Self::keep) when the server has granted it. One that takes
    /// a wish back is no wish: nobody wants that any more, whatever the server says to it.
    pub(super) fn wish(&self, method: &str, target: Option<&str>, line: &Bytes) -> Option<Wish> {
        let resource = || format!("resource {}", target.unwrap_or_default());
        let name = match method {
            "logging/setLevel" => "level".to_owned(),
            "resources/subscribe" => resource(),
            "resources/unsubscribe" => {
                self.forget(&resource());
                return None;
            }
            _ => return None,
        };
        Some(Wish { name, line: line.clone() })
    }

    /// Remembers `wish`, in the place of an earlier one of its name.
    pub(super) fn keep(&self, wish: Wish) {
        self.change(|said| {
            said.wishes.retain(|known| known.name != wish.name);
            if said.wishes.len() < WISHES_MAX {
                said.wishes.push(wish);
            }
        });
    }

    /// Forgets the wish called `name`.
    pub(super) fn forget(&self, name: &str) {
        self.change(|said| said.wishes.retain(|known| known.name != name));
    }
}

/// The result in `message`, an answer.
pub(super) fn result_of(message: &str) -> Result<&str, Failure> {
    match Incoming::parse(message).map_err(Failure::Protocol)? {
        Incoming::Answer { outcome: Ok(result), .. } => Ok(result.get()),
        Incoming::Answer { outcome: Err(_), .. } => Err(Failure::Protocol("it refuses initialize".to_owned())),
        Incoming::Request | Incoming::Notification { .. } => {
            Err(Failure::Protocol("it answers initialize with something else".to_owned()))
        }
    }
}

/// Whether the server has forgotten the session of a request that was refused so.
///
/// The specification says 404. Servers that follow the SDKs' examples answer 400 with an error that
/// names no request; neither has carried anything out.
pub(super) fn is_lost(session: &Session, failure: &Failure) -> bool {
    let (status, forgotten) = match failure {
        Failure::Status { status, .. } => (*status, false),
        Failure::Refused(refused) => {
            let says_session = || String::from_utf8_lossy(&refused.error).to_ascii_lowercase().contains("session");
            (refused.status, refused.status == 400 && !refused.names_request && says_session())
        }
        _ => return false,
    };
    session.has_id() && (status == 404 || forgotten)
}
