//! All endpoints behind one listener: health, and to which gate a request goes.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use tracing::warn;

use crate::{
    http::{
        bounds::Bounds,
        gate::Gate,
        oauth::OAuth,
        respond::{self, Body},
    },
    telemetry::alarm::OncePerMinute,
    token::NotReady,
};

/// All endpoints behind one listener, and what they share.
pub struct Site {
    /// By the server's name; at least one.
    gates: Vec<(String, Gate)>,
    bounds: Bounds,
    oauth: Option<Arc<OAuth>>,
    unready_alarm: OncePerMinute,
}

impl Site {
    /// A site of `gates`, each under its server's name, and of the authorization server, if that is ours;
    /// `bounds` are those that the gates were made with. No two gates own one path.
    ///
    /// # Panics
    /// Without a gate.
    pub fn new(gates: Vec<(String, Gate)>, bounds: Bounds, oauth: Option<OAuth>) -> Self {
        assert!(!gates.is_empty(), "there is something to serve");
        Self { gates, bounds, oauth: oauth.map(Arc::new), unready_alarm: OncePerMinute::default() }
    }

    /// Answers one HTTP request from `peer`. Dropping the future cancels the request.
    pub async fn handle<B>(&self, request: Request<B>, peer: IpAddr) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path();
        match path {
            "/healthz" => return respond::text(StatusCode::OK, "ok\n"),
            "/readyz" => return self.readiness().await,
            _ => {}
        }
        if let Some(oauth) = self.oauth.as_ref().filter(|oauth| oauth.owns(path)) {
            // Hosts are the same for all gates.
            return oauth.handle(request, peer, &self.gates[0].1).await;
        }
        let owner = self.gates.iter().find(|(_, gate)| gate.owns(path));
        // Where nobody is at home any gate can say so, after it has looked at Host and Origin: those
        // are the same for all.
        let (_, gate) = owner.unwrap_or(&self.gates[0]);
        gate.handle(request, peer).await
    }

    /// Ready when every gate is. Strangers are told a category; the log says more.
    async fn readiness(&self) -> Response<Body> {
        let found = join_all(self.gates.iter().map(|(_, gate)| gate.ready())).await;
        let unready = self.gates.iter().zip(found).filter_map(|((name, _), ready)| Some((name, ready.err()?)));
        let unready: Vec<(&String, NotReady)> = unready.collect();
        if unready.is_empty() {
            return respond::json(StatusCode::OK, serde_json::json!({ "ready": true }).to_string().into());
        }
        let of = |name: &str| if self.gates.len() > 1 { format!("{name}: ") } else { String::new() };
        if self.unready_alarm.is_due() {
            for (name, NotReady { reason, detail }) in &unready {
                warn!(detail, "not ready: {}{reason}", of(name));
            }
        }
        let reasons: Vec<String> = unready.iter().map(|(name, why)| format!("{}{}", of(name), why.reason)).collect();
        let body = serde_json::json!({ "ready": false, "reason": reasons.join("; ") });
        respond::json(StatusCode::SERVICE_UNAVAILABLE, body.to_string().into())
    }

    /// Forgets what has been idle for too long. To be called now and then.
    pub fn tidy(&self) {
        self.gates.iter().for_each(|(_, gate)| gate.tidy());
        self.bounds.tidy();
        if let Some(oauth) = &self.oauth {
            oauth.tidy();
        }
    }

    /// Ends the streams that would otherwise outlive every drain.
    pub fn end_streams(&self) {
        self.gates.iter().for_each(|(_, gate)| gate.end_streams());
    }

    /// Ends what is behind the gates, when nothing is accepted any more.
    pub async fn shut_down(&self) {
        join_all(self.gates.iter().map(|(_, gate)| gate.shut_down())).await;
    }
}
