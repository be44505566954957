//! The way of one request to the embedded authorization server.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use tokio::sync::Semaphore;

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

/// The authorization server, with bounds on what strangers may use of it.
pub struct OAuth {
    server: Arc<AuthServer>,
    limits: Limits,
    places: Semaphore,
}

impl OAuth {
    /// `server` behind `limits`; how long a body may be it says itself.
    pub fn new(server: Arc<AuthServer>, limits: &Limits) -> Self {
        Self { server, limits: limits.clone(), places: Semaphore::new(AT_ONCE) }
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
            let body = unread.take().ok_or(Refusal::BrokenBody)?;
            let max_body_bytes = AuthServer::max_body_bytes(head.uri.path());
            let limits = Limits { max_body_bytes, ..self.limits.clone() };
            let body = body::read(&head.headers, body, &limits).await?;
            // After the body: whoever sends it slowly takes nobody's place.
            let _place = self.places.try_acquire().map_err(|_| Refusal::Overloaded)?;
            Ok(self.server.handle(&head, body, SystemTime::now()).await)
        };
        let answered = answered.await;
        let response = match answered {
            Ok(response) => {
                record.allowed = !response.status().is_client_error() && !response.status().is_server_error();
                response.map(|body| Either::Left(Full::new(body)))
            }
            Err(refusal) => {
                let mut response = gate.refused(&refusal, &mut record);
                body::end_unread(&head, unread, &refusal, &mut response).await;
                response
            }
        };
        record.status = Some(response.status());
        response
    }

    /// Forgets what has ended.
    pub(super) fn tidy(self: &Arc<Self>) {
        let oauth = Arc::clone(self);
        tokio::spawn(async move { oauth.server.tidy().await });
    }
}
