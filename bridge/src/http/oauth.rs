//! The way of one request to the embedded authorization server.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Method, Request, Response, request::Parts};
use http_body_util::{Either, Full};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    authserver::AuthServer,
    config::Limits,
    http::{
        body,
        gate::Gate,
        respond::{Body, Refusal},
    },
};

/// Requests of strangers at once; each waits for the disk at most. Tool calls have places of their own.
const AT_ONCE: usize = 64;

/// Bodies in memory at once, of up to 8 KiB each, those that come slowly among them: as many as there are
/// connections where the settings say nothing else.
const BODIES: usize = 1024;
/// The same of those that may be longer, so that all together are 24 MiB at most.
const LONG_BODIES: usize = 256;
/// Enough for so little on any network: whoever wants to be slow has to come again soon.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The authorization server, with bounds on what strangers may use of it.
pub struct OAuth {
    server: Arc<AuthServer>,
    limits: Limits,
    rooms: Semaphore,
    long_rooms: Semaphore,
    places: Semaphore,
}

impl OAuth {
    /// `server` behind `limits`; how long a body may be it says itself.
    pub fn new(server: Arc<AuthServer>, limits: &Limits) -> Self {
        let body_timeout = limits.body_timeout.min(READ_TIMEOUT);
        Self {
            server,
            limits: Limits { body_timeout, ..limits.clone() },
            rooms: Semaphore::new(BODIES),
            long_rooms: Semaphore::new(LONG_BODIES),
            places: Semaphore::new(AT_ONCE),
        }
    }

    /// Whether requests to `path` are for the authorization server.
    pub fn owns(&self, path: &str) -> bool {
        self.server.owns(path)
    }

    /// Answers one HTTP request from `peer`; `gate` knows which hosts are ours.
    pub(super) async fn handle<B>(&self, request: Request<B>, peer: IpAddr, gate: &Gate) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let mut record = gate.record(&head.headers, peer);
        // Of a request to here only the path is worth a line: its parameters may be secrets.
        record.asks_path(head.uri.path());
        let mut unread = Some(body);
        let answered = async {
            gate.check_host(&head)?;
            let (body, _room) = self.read(&head, &mut unread).await?;
            // After the body: whoever sends it slowly takes nobody's place.
            let _place = self.places.try_acquire().map_err(|_| Refusal::Overloaded)?;
            Ok(self.server.handle(&head, body, SystemTime::now()).await)
        };
        let answered = answered.await;
        let (mut response, refusal) = match answered {
            Ok(response) => {
                record.allowed = !response.status().is_client_error() && !response.status().is_server_error();
                (response.map(|body| Either::Left(Full::new(body))), None)
            }
            Err(refusal) => (gate.refused(&refusal, &mut record), Some(refusal)),
        };
        body::end_unread(&head, unread, refusal.as_ref(), &mut response).await;
        record.status = Some(response.status());
        response
    }

    /// The body of a form or a registration, and the room for it. Nothing else has one that matters.
    async fn read<B>(
        &self,
        head: &Parts,
        unread: &mut Option<B>,
    ) -> Result<(Bytes, Option<SemaphorePermit<'_>>), Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if head.method != Method::POST {
            return Ok((Bytes::new(), None));
        }
        let max_body_bytes = AuthServer::max_body_bytes(head.uri.path());
        let rooms = if max_body_bytes < AuthServer::LONG_BODY { &self.rooms } else { &self.long_rooms };
        let room = rooms.try_acquire().map_err(|_| Refusal::Overloaded)?;
        let body = unread.take().ok_or(Refusal::BrokenBody)?;
        let body = body::read(&head.headers, body, &Limits { max_body_bytes, ..self.limits.clone() }).await?;
        Ok((body, Some(room)))
    }

    /// Forgets what has ended.
    pub(super) fn tidy(self: &Arc<Self>) {
        let oauth = Arc::clone(self);
        tokio::spawn(async move { oauth.server.tidy().await });
    }
}
