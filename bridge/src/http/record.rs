//! One log event per request, however the request ends.

use std::{
    net::IpAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use http::StatusCode;
use tracing::info;

use crate::{
    message::shown,
    scope::ScopeSet,
    telemetry::metrics::{MethodLabel, Metrics},
    token::VerifiedToken,
};

/// What happened to one request of the MCP endpoint. It is logged and counted when it is dropped, so
/// that a request whose client went away is logged too.
pub(super) struct Record {
    pub(super) request_id: String,
    pub(super) caller: Option<Arc<VerifiedToken>>,
    pub(super) label: MethodLabel,
    /// The JSON-RPC method, fit for a log.
    pub(super) method: Option<String>,
    /// Tool, prompt or resource, fit for a log.
    pub(super) target: Option<String>,
    pub(super) missing: Option<ScopeSet>,
    /// Why it was refused or failed.
    pub(super) cause: Option<String>,
    pub(super) status: Option<StatusCode>,
    pub(super) allowed: bool,
    client: IpAddr,
    started: Instant,
    metrics: Arc<Metrics>,
}

impl Record {
    /// Begins the record of a request from `client`.
    pub(super) fn begin(client: IpAddr, metrics: Arc<Metrics>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            request_id: format!("{:08x}-{:x}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed)),
            caller: None,
            label: MethodLabel::Unread,
            method: None,
            target: None,
            missing: None,
            cause: None,
            status: None,
            allowed: false,
            client,
            started: Instant::now(),
            metrics,
        }
    }

    /// Notes what the message asks for.
    pub(super) fn asks(&mut self, method: &str, target: Option<&str>) {
        self.label = MethodLabel::of(method);
        self.method = Some(if self.label == MethodLabel::Other { shown(method) } else { method.to_owned() });
        self.target = target.map(plain);
    }
}

/// Tells the requests of one process from those of the next, in files that outlive both.
static PROCESS: LazyLock<u32> = LazyLock::new(|| getrandom::u32().unwrap_or_else(|_| std::process::id()));

/// A peer's name for something, as it is if that is harmless, else marked and cut.
fn plain(text: &str) -> String {
    let harmless = text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if harmless { text.to_owned() } else { shown(text) }
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        // 499 is what proxies log for a client that did not wait; nobody received it.
        let status = self.status.map_or(499, |status| status.as_u16());
        self.metrics.request(self.label, status, elapsed);
        let decision = match (self.status, self.allowed) {
            (None, _) => "cancelled",
            (Some(_), true) => "allowed",
            (Some(_), false) => "refused",
        };
        let caller = self.caller.as_deref();
        info!(
            request_id = self.request_id,
            client = %self.client,
            subject = caller.and_then(|caller| caller.subject.as_deref()),
            client_id = caller.and_then(|caller| caller.client_id.as_deref()),
            method = self.method.as_deref().unwrap_or(self.label.as_str()),
            tool = self.target.as_deref(),
            decision,
            missing = self.missing.as_ref().map(tracing::field::display),
            cause = self.cause.as_deref(),
            status,
            elapsed_ms = elapsed.as_micros() as f64 / 1000.0,
            "request"
        );
    }
}
