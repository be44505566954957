//! Legacy sessions (MCP 2025-11-25, "Session Management"): each has an owner, and looks unknown to
//! everybody else.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    backend::Conversation,
    relay::{
        line::{Everything, Line},
        owner::{Owner, Principal},
    },
    telemetry::metrics::{GaugeGuard, Metrics},
    token::VerifiedToken,
};

/// Names a session: 128 random bits, written as 32 hexadecimal digits. A secret: it has no `Display`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// Reads the value of `Mcp-Session-Id` or `sessionId`; `None` for what we never gave out.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 16];
        if text.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? * 16 + digit(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// The value for `Mcp-Session-Id`, and for `sessionId` in a query.
    pub fn header_value(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn random() -> Option<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok().map(|()| Self(bytes))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId([redacted])")
    }
}

/// All sessions of one endpoint.
pub struct Sessions {
    table: Mutex<Table>,
    idle: Duration,
    max: usize,
    max_per_principal: usize,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Table {
    sessions: HashMap<SessionId, Session>,
    principals: HashMap<Principal, Vec<SessionId>>,
    /// The server shuts down: no stream opens any more.
    streams_ended: bool,
}

struct Session {
    owner: Owner,
    /// What the session speaks to.
    conversation: Arc<dyn Conversation>,
    /// The same, where the client hears everything on one stream; then the session ends with that.
    line: Option<Arc<Line>>,
    last_used: Instant,
    usage: Arc<Mutex<Usage>>,
    /// Ends with the session.
    ended: CancellationToken,
    /// The GET stream, and which one it is.
    stream: Option<(u64, CancellationToken)>,
    streams_opened: u64,
    _counted: GaugeGuard,
}

/// There is no room for another session.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many sessions; try again later")]
pub struct Full;

impl Sessions {
    /// At most `max` sessions, `max_per_principal` of one principal, each ended after `idle` without use.
    pub fn new(idle: Duration, max: usize, max_per_principal: usize, metrics: Arc<Metrics>) -> Self {
        Self { table: Mutex::default(), idle, max, max_per_principal, metrics }
    }

    /// Opens a session for the bearer of `token`, to speak to `conversation`.
    ///
    /// A principal who has too many loses the one that is used least: clients forget to end theirs.
    ///
    /// # Errors
    /// [`Full`] when all principals together have too many, or the system has no random numbers.
    pub fn open(
        &self,
        token: &VerifiedToken,
        conversation: Arc<dyn Conversation>,
        now: Instant,
    ) -> Result<SessionId, Full> {
        self.enter(token, conversation, None, now)
    }

    /// Opens a session of the bearer of `token` together with its one stream, with which it ends.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_line(self: &Arc<Self>, token: &VerifiedToken, now: Instant) -> Result<(SessionId, Everything), Full> {
        let (line, arriving) = Line::new();
        let conversation = Arc::clone(&line) as Arc<dyn Conversation>;
        let id = self.enter(token, conversation, Some(line), now)?;
        // Gone already only where the same user opens very many at once.
        let stream = self.stream_of(&id, token, now, Session::is_line).ok_or(Full)?;
        Ok((id, Everything::new(stream, arriving)))
    }

    fn enter(
        &self,
        token: &VerifiedToken,
        conversation: Arc<dyn Conversation>,
        line: Option<Arc<Line>>,
        now: Instant,
    ) -> Result<SessionId, Full> {
        let id = SessionId::random().ok_or(Full)?;
        let mut table = self.lock();
        let owner = Owner::of(token);
        let principal = owner.principal();
        let spare = table
            .principals
            .get(&principal)
            .filter(|ids| ids.len() >= self.max_per_principal)
            .and_then(|ids| ids.iter().copied().min_by_key(|id| table.sessions.get(id).map(Session::use_made)));
        if let Some(spare) = spare {
            table.end(&spare);
        }
        if table.sessions.len() >= self.max {
            table.end_idle(self.idle, now);
            if table.sessions.len() >= self.max {
                return Err(Full);
            }
        }
        table.principals.entry(principal).or_default().push(id);
        let session = Session {
            owner,
            conversation,
            line,
            last_used: now,
            usage: Arc::default(),
            ended: CancellationToken::new(),
            stream: None,
            streams_opened: 0,
            _counted: self.metrics.session(),
        };
        table.sessions.insert(id, session);
        Ok(id)
    }

    /// What the session speaks to, if it lives and is the bearer's; it counts as used then.
    pub fn touch(&self, id: &SessionId, token: &VerifiedToken, now: Instant) -> Option<Arc<dyn Conversation>> {
        let mut table = self.lock();
        let session = table.owned(id, token, self.idle, now).filter(|session| !session.is_line())?;
        Some(Arc::clone(&session.conversation))
    }

    /// The same for a request: the session is not idle before what is returned is dropped.
    pub fn begin(&self, id: &SessionId, token: &VerifiedToken, now: Instant) -> Option<(Arc<dyn Conversation>, InUse)> {
        let mut table = self.lock();
        let session = table.owned(id, token, self.idle, now).filter(|session| !session.is_line())?;
        Some((Arc::clone(&session.conversation), InUse::begin(&session.usage)))
    }

    /// The line of a session that was opened with its stream, if it lives and is the bearer's. What is
    /// returned with it is a message's, as in [`begin`](Self::begin).
    pub fn line(&self, id: &SessionId, token: &VerifiedToken, now: Instant) -> Option<(Arc<Line>, InUse)> {
        let mut table = self.lock();
        let session = table.owned(id, token, self.idle, now)?;
        Some((session.line.clone()?, InUse::begin(&session.usage)))
    }

    /// Opens the session's stream for messages of the server's own accord. An earlier one ends: its
    /// client has reconnected, and one message must not go to two streams.
    pub fn open_stream(self: &Arc<Self>, id: &SessionId, token: &VerifiedToken, now: Instant) -> Option<Stream> {
        self.stream_of(id, token, now, |session| !session.is_line())
    }

    fn stream_of(
        self: &Arc<Self>,
        id: &SessionId,
        token: &VerifiedToken,
        now: Instant,
        is_meant: impl Fn(&Session) -> bool,
    ) -> Option<Stream> {
        let mut table = self.lock();
        let streams_ended = table.streams_ended;
        let session = table.owned(id, token, self.idle, now).filter(|session| is_meant(session))?;
        if let Some((_, earlier)) = session.stream.take() {
            earlier.cancel();
        }
        session.streams_opened += 1;
        let ended = session.ended.child_token();
        if streams_ended {
            ended.cancel();
        }
        session.stream = Some((session.streams_opened, ended.clone()));
        Some(Stream {
            ended,
            session_ended: session.ended.clone(),
            number: session.streams_opened,
            id: *id,
            conversation: Arc::clone(&session.conversation),
            sessions: Arc::clone(self),
            _counted: self.metrics.stream(),
        })
    }

    /// Ends the session, if it lives and is the bearer's.
    pub fn end(&self, id: &SessionId, token: &VerifiedToken, now: Instant) -> bool {
        let mut table = self.lock();
        let owned = table.owned(id, token, self.idle, now).is_some_and(|session| !session.is_line());
        if owned {
            table.end(id);
        }
        owned
    }

    /// Ends what has been idle for too long.
    pub fn end_idle(&self, now: Instant) {
        self.lock().end_idle(self.idle, now);
    }

    /// Ends all sessions, when nothing is accepted any more.
    pub fn end_all(&self) {
        let mut table = self.lock();
        let all: Vec<SessionId> = table.sessions.keys().copied().collect();
        for id in all {
            table.end(&id);
        }
    }

    /// Ends all streams, for the shutdown; one that is opened later ends at once.
    pub fn end_streams(&self) {
        let mut table = self.lock();
        table.streams_ended = true;
        for session in table.sessions.values_mut() {
            if let Some((_, stream)) = session.stream.take() {
                stream.cancel();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks; if something did, all is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    fn owned(&mut self, id: &SessionId, token: &VerifiedToken, idle: Duration, now: Instant) -> Option<&mut Session> {
        let session =
            self.sessions.get_mut(id).filter(|session| session.owner.is(token) && !session.is_idle(idle, now))?;
        session.last_used = now;
        Some(session)
    }

    fn end(&mut self, id: &SessionId) {
        let Some(session) = self.sessions.remove(id) else {
            return;
        };
        session.ended.cancel();
        session.conversation.end();
        let principal = session.owner.principal();
        if let Some(ids) = self.principals.get_mut(&principal) {
            ids.retain(|other| other != id);
            if ids.is_empty() {
                self.principals.remove(&principal);
            }
        }
    }

    fn end_idle(&mut self, idle: Duration, now: Instant) {
        let ended: Vec<SessionId> =
            self.sessions.iter().filter(|(_, session)| session.is_idle(idle, now)).map(|(id, _)| *id).collect();
        for id in ended {
            self.end(&id);
        }
    }
}

impl Session {
    fn is_idle(&self, idle: Duration, now: Instant) -> bool {
        let (has_requests, has_stream, last_used) = self.use_made();
        !has_requests && !has_stream && now.saturating_duration_since(last_used) >= idle
    }

    /// What use is made of it, least first: whether requests are open, then whether somebody listens, then
    /// when it was last used.
    fn use_made(&self) -> (bool, bool, Instant) {
        let usage = lock(&self.usage);
        let last_used = usage.last_ended.map_or(self.last_used, |ended| ended.max(self.last_used));
        (usage.requests > 0, self.stream.is_some(), last_used)
    }

    fn is_line(&self) -> bool {
        self.line.is_some()
    }
}

/// Which requests of a session are open. Apart from the table, so that a request's end locks no more
/// than this.
#[derive(Default)]
struct Usage {
    requests: usize,
    last_ended: Option<Instant>,
}

/// A request of a session that has not ended.
pub struct InUse(Arc<Mutex<Usage>>);

impl InUse {
    fn begin(usage: &Arc<Mutex<Usage>>) -> Self {
        lock(usage).requests += 1;
        Self(Arc::clone(usage))
    }
}

impl Clone for InUse {
    fn clone(&self) -> Self {
        Self::begin(&self.0)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut usage = lock(&self.0);
        usage.requests -= 1;
        // The idle time begins when the last request ends, not when it came.
        usage.last_ended = Some(Instant::now());
    }
}

/// A session's open stream. Dropping it closes it.
pub struct Stream {
    ended: CancellationToken,
    session_ended: CancellationToken,
    number: u64,
    id: SessionId,
    conversation: Arc<dyn Conversation>,
    sessions: Arc<Sessions>,
    _counted: GaugeGuard,
}

impl Stream {
    /// Waits until the stream has to end: its session has ended, a newer stream has replaced it, or
    /// the server shuts down. Cancel-safe.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Waits until its session has ended. Cancel-safe.
    pub async fn session_ended(&self) {
        self.session_ended.cancelled().await;
    }

    /// Waits for what the server says of its own accord. Cancel-safe.
    pub async fn next_message(&self) -> Bytes {
        self.conversation.next_message().await
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut table = self.sessions.lock();
        let Some(session) = table.sessions.get_mut(&self.id) else { return };
        if session.is_line() {
            table.end(&self.id);
        } else if session.stream.as_ref().is_some_and(|(number, _)| *number == self.number) {
            session.stream = None;
            // The idle time begins when the client is gone, not when it came.
            session.last_used = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests;
