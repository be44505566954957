//! One log event per request, however the request ends.

use std::{
    fmt::{self, Write as _},
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
    telemetry::{labels::MethodLabel, metrics::Metrics},
    token::VerifiedToken,
};

/// What happened to one request of the MCP endpoint. It is logged and counted when it is dropped, so
/// that a request whose client went away is logged too.
pub(super) struct Record<'m> {
    /// Of this request alone, among all processes that write to the same files.
    pub(super) request_id: String,
    /// Whose it is, once the token is verified.
    pub(super) caller: Option<Arc<VerifiedToken>>,
    /// Which server it is for, where there are several.
    pub(super) server: Option<Arc<str>>,
    /// How it is counted.
    pub(super) label: MethodLabel,
    /// The JSON-RPC method where the label does not say it, fit for a log.
    other_method: Option<String>,
    /// Tool, prompt or resource, fit for a log.
    pub(super) target: Option<String>,
    /// Scopes that the token lacked.
    pub(super) missing: Option<ScopeSet>,
    /// Why it was refused or failed.
    pub(super) cause: Option<String>,
    /// The answer's; `None` until there is one.
    pub(super) status: Option<StatusCode>,
    /// Whether it was let through; what it then led to is the status.
    pub(super) allowed: bool,
    client: IpAddr,
    started: Instant,
    metrics: &'m Metrics,
}

impl<'m> Record<'m> {
    /// Begins the record of a request from `client`.
    pub(super) fn begin(client: IpAddr, metrics: &'m Metrics) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut request_id = String::with_capacity(REQUEST_ID_BYTES);
        request_id.push_str(&PROCESS);
        // A String takes every write.
        let _ = write!(request_id, "{:x}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self {
            request_id,
            caller: None,
            server: None,
            label: MethodLabel::Unread,
            other_method: None,
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
        self.other_method = (self.label == MethodLabel::Other).then(|| shown(method));
        self.target = target.map(plain);
    }

    /// Notes which page or endpoint of the authorization server is asked for.
    pub(super) fn asks_path(&mut self, path: &str) {
        self.label = MethodLabel::OAuth;
        self.target = Some(plain(path));
    }
}

/// An IP address as it is usually written; the standard library takes ten times as long for one of
/// version 4.
struct Address(IpAddr);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IpAddr::V4(address) = self.0 else { return self.0.fmt(f) };
        let (mut text, mut len) = ([0; V4_MAX_BYTES], 0);
        let mut push = |byte| {
            text[len] = byte;
            len += 1;
        };
        for (index, octet) in address.octets().into_iter().enumerate() {
            if index > 0 {
                push(b'.');
            }
            for (least, power) in [(100, 100), (10, 10), (0, 1)] {
                if octet >= least {
                    push(b'0' + octet / power % 10);
                }
            }
        }
        f.write_str(std::str::from_utf8(&text[..len]).expect("digits and dots are ASCII"))
    }
}

/// `255.255.255.255`
const V4_MAX_BYTES: usize = 15;

/// Tells the requests of one process from those of the next, in files that outlive both.
static PROCESS: LazyLock<String> =
    LazyLock::new(|| format!("{:08x}-", getrandom::u32().unwrap_or_else(|_| std::process::id())));

/// [`PROCESS`] and the longest number.
const REQUEST_ID_BYTES: usize = 9 + 16;

/// A peer's name for something, as it is if that is harmless, else marked and cut.
fn plain(text: &str) -> String {
    let harmless = text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if harmless { text.to_owned() } else { shown(text) }
}

impl Drop for Record<'_> {
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
            client = %Address(self.client),
            server = self.server.as_deref(),
            subject = caller.and_then(|caller| caller.subject.as_deref()),
            client_id = caller.and_then(|caller| caller.client_id.as_deref()),
            method = self.other_method.as_deref().unwrap_or(self.label.as_str()),
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

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::Mutex,
    };

    use serde_json::Value;
    use tracing_subscriber::fmt;

    use super::*;
    use crate::token::Issuer;

    /// What a subscriber has written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The one event that a record leaves after `happens` to it, and the metrics.
    fn logged(happens: impl FnOnce(&mut Record<'_>)) -> (Value, String) {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
        let metrics = Metrics::new();
        crate::telemetry::switch_on_all_events();
        tracing::subscriber::with_default(subscriber, || {
            let mut record = Record::begin(IpAddr::from([192, 0, 2, 1]), &metrics);
            happens(&mut record);
        });
        let text = String::from_utf8(written.0.lock().expect("no writer panics").clone()).expect("UTF-8");
        (
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("not one event ({error}): {text}")),
            metrics.render(),
        )
    }

    fn counted(metrics: &str, method: &str, status: u16) -> bool {
        metrics.contains(&format!("mcp_bridge_requests_total{{method=\"{method}\",status=\"{status}\"}} 1\n"))
    }

    #[test]
    fn a_refused_call_says_who_what_and_why() {
        let (event, metrics) = logged(|record| {
            record.caller = Some(Arc::new(VerifiedToken {
                issuer: Issuer::new("https://as.example"),
                subject: Some("alice".into()),
                client_id: Some("app".into()),
                email: Some("alice@example.com".into()),
                scopes: Default::default(),
                expires_at: None,
            }));
            record.asks("tools/call", Some("calculator"));
            record.missing = Some("op:div".parse().expect("valid"));
            record.cause = Some("Missing required scope".into());
            record.status = Some(StatusCode::FORBIDDEN);
        });
        for (name, expected) in [
            ("message", "request"),
            ("level", "INFO"),
            ("client", "192.0.2.1"),
            ("subject", "alice"),
            ("client_id", "app"),
            ("method", "tools/call"),
            ("tool", "calculator"),
            ("decision", "refused"),
            ("missing", "op:div"),
            ("cause", "Missing required scope"),
        ] {
            assert_eq!(event[name], expected, "{name} in {event}");
        }
        assert_eq!(event["status"], 403);
        assert!(event["elapsed_ms"].is_number() && event["request_id"].is_string(), "{event}");
        assert!(counted(&metrics, "tools/call", 403), "{metrics}");
    }

    #[test]
    fn what_is_not_known_is_not_there() {
        let (event, metrics) = logged(|record| record.status = Some(StatusCode::UNAUTHORIZED));
        for name in ["server", "subject", "client_id", "tool", "missing", "cause"] {
            assert!(event.get(name).is_none(), "{name} in {event}");
        }
        assert_eq!((&event["method"], &event["decision"]), (&"unread".into(), &"refused".into()));
        assert!(counted(&metrics, "unread", 401), "{metrics}");
    }

    #[test]
    fn allowed_and_cancelled() {
        let (event, _) = logged(|record| {
            record.asks("ping", None);
            (record.allowed, record.status) = (true, Some(StatusCode::GATEWAY_TIMEOUT));
        });
        assert_eq!((&event["decision"], &event["status"]), (&"allowed".into(), &504.into()));
        let (event, metrics) = logged(|record| {
            record.asks("tools/list", None);
            record.allowed = true;
        });
        assert_eq!((&event["decision"], &event["status"]), (&"cancelled".into(), &499.into()));
        assert!(counted(&metrics, "tools/list", 499), "{metrics}");
    }

    #[test]
    fn a_peers_names_are_marked_and_cut_unless_they_are_harmless() {
        let long = "x".repeat(1000);
        for (method, target, shown_method, shown_target) in [
            ("vendor/method", "calculator", "`vendor/method`", "calculator"),
            ("a\nb", "a\nb\u{1b}", "`a\\nb`", "`a\\nb\\u{1b}`"),
            (&long, &long, &format!("`{}…`", &long[..64]), &format!("`{}…`", &long[..64])),
            ("tools/call ", "f\u{fc}r", "`tools/call `", "`f\u{fc}r`"),
            ("", "", "``", ""),
        ] {
            let (event, metrics) = logged(|record| {
                record.asks(method, Some(target));
                record.status = Some(StatusCode::OK);
            });
            assert_eq!((&event["method"], &event["tool"]), (&shown_method.into(), &shown_target.into()));
            assert!(counted(&metrics, "other", 200), "{metrics}");
        }
    }

    #[test]
    fn addresses_are_written_as_the_standard_library_writes_them() {
        let octets = |octet: u8| IpAddr::from([octet, 255 - octet, octet / 10, octet % 10]);
        let v6 = ["::1", "2001:db8::7", "::ffff:192.0.2.1"].map(|text| text.parse().expect("an address"));
        for address in (0..=255).map(octets).chain(v6) {
            assert_eq!(Address(address).to_string(), address.to_string());
        }
    }

    #[test]
    fn no_two_requests_have_one_id() {
        let metrics = Metrics::new();
        let id = || Record::begin(IpAddr::from([127, 0, 0, 1]), &metrics).request_id.clone();
        assert_ne!(id(), id());
    }
}
