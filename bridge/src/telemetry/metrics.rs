//! Numbers for Prometheus.
//!
//! Every label is one of an enum's variants ([`labels`](super::labels)).

use std::{fmt, sync::OnceLock, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use crate::telemetry::labels::{
    AuditOutcome, CacheEvent, ChildSource, ChildStart, IntrospectionOutcome, KeyFetchOutcome, MethodLabel,
    RefusalReason,
};

/// The media type of what [`Metrics::render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper ends of the latency buckets, in seconds: from below the cost of a cached call to the
/// default request time-out, about three to a decade.
const LATENCY_BUCKETS: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
    30.0, 60.0,
];

/// The statuses that the endpoint answers with, each with a slot of its own. Another one still
/// counts, through a slower look-up.
const STATUSES: [u16; 18] = [200, 202, 204, 400, 401, 403, 404, 405, 406, 408, 413, 415, 421, 429, 499, 502, 503, 504];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    status: u16,
}

/// The one label of a family, name and value.
type OneLabel = [(&'static str, &'static str); 1];

/// Every number that the bridge keeps.
///
/// Counting is an atomic addition on a counter that was looked up once; only the first request of
/// its kind takes a lock, and a histogram's own short one.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_slots: Vec<OnceLock<Counter>>,
    durations: Family<OneLabel, Histogram, fn() -> Histogram>,
    duration_slots: Vec<OnceLock<Histogram>>,
    refusals: Vec<Counter>,
    introspections: Vec<Counter>,
    introspection_duration: Histogram,
    cache: Vec<Counter>,
    key_fetches: Vec<Counter>,
    audit: Vec<Counter>,
    child_starts: Vec<Counter>,
    child_sources: Vec<Counter>,
    children: Gauge,
    sessions: Gauge,
    streams: Gauge,
    connections: Gauge,
    in_flight: Gauge,
}

impl Metrics {
    /// All numbers at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("mcp_bridge");
        registry.register(
            "build",
            "The running program",
            Info::new([("version", env!("CARGO_PKG_VERSION")), ("os", std::env::consts::OS)].to_vec()),
        );
        let requests = Family::default();
        registry.register("requests", "HTTP requests to the endpoint that were answered", requests.clone());
        let durations = Family::new_with_constructor(latency_histogram as fn() -> Histogram);
        registry.register_with_unit(
            "request_duration",
            "Time from a request's head to the end of its answer",
            Unit::Seconds,
            durations.clone(),
        );
        let introspection_duration = latency_histogram();
        registry.register_with_unit(
            "introspection_duration",
            "Time of one question to the introspection endpoint",
            Unit::Seconds,
            introspection_duration.clone(),
        );
        registry.register("log_lines_lost", "Log lines that stderr did not take in time", super::LOST_LINES.clone());
        Self {
            refusals: counters(
                &mut registry,
                "refusals",
                "Requests refused",
                "reason",
                RefusalReason::ALL.iter().map(|label| label.as_str()),
            ),
            introspections: counters(
                &mut registry,
                "introspections",
                "Questions to the introspection endpoint",
                "outcome",
                IntrospectionOutcome::ALL.iter().map(|label| label.as_str()),
            ),
            cache: counters(
                &mut registry,
                "token_cache_events",
                "What the token cache did",
                "event",
                CacheEvent::ALL.iter().map(|label| label.as_str()),
            ),
            key_fetches: counters(
                &mut registry,
                "key_fetches",
                "Fetches of the issuer's signing keys",
                "outcome",
                KeyFetchOutcome::ALL.iter().map(|label| label.as_str()),
            ),
            audit: counters(
                &mut registry,
                "audit_records",
                "Audit records",
                "outcome",
                AuditOutcome::ALL.iter().map(|label| label.as_str()),
            ),
            child_starts: counters(
                &mut registry,
                "child_starts",
                "Starts of served commands' processes",
                "outcome",
                ChildStart::ALL.iter().map(|label| label.as_str()),
            ),
            child_sources: counters(
                &mut registry,
                "child_uses",
                "Processes given to a request or session",
                "source",
                ChildSource::ALL.iter().map(|label| label.as_str()),
            ),
            children: gauge(&mut registry, "children", "Processes of served commands"),
            sessions: gauge(&mut registry, "sessions", "Legacy sessions that live"),
            streams: gauge(&mut registry, "streams", "Event streams that are open"),
            connections: gauge(&mut registry, "connections", "TCP connections that are open"),
            in_flight: gauge(&mut registry, "requests_in_flight", "Requests that are being answered"),
            request_slots: slots(MethodLabel::ALL.len() * STATUSES.len()),
            duration_slots: slots(MethodLabel::ALL.len()),
            registry,
            requests,
            durations,
            introspection_duration,
        }
    }

    /// Counts one answered request.
    pub fn request(&self, method: MethodLabel, status: u16, elapsed: Duration) {
        let labels = || RequestLabels { method: method.as_str(), status };
        match STATUSES.binary_search(&status) {
            Ok(index) => self.request_slots[method as usize * STATUSES.len() + index]
                .get_or_init(|| self.requests.get_or_create_owned(&labels()))
                .inc(),
            Err(_) => self.requests.get_or_create(&labels()).inc(),
        };
        self.duration_slots[method as usize]
            .get_or_init(|| self.durations.get_or_create_owned(&[("method", method.as_str())]))
            .observe(elapsed.as_secs_f64());
    }

    /// Counts one refused request, in addition to [`Metrics::request`].
    pub fn refused(&self, reason: RefusalReason) {
        self.refusals[reason as usize].inc();
    }

    /// Counts one question to the introspection endpoint. A question that was not asked has no time.
    pub fn introspection(&self, outcome: IntrospectionOutcome, elapsed: Duration) {
        self.introspections[outcome as usize].inc();
        if outcome != IntrospectionOutcome::NotAsked {
            self.introspection_duration.observe(elapsed.as_secs_f64());
        }
    }

    /// Counts what the token cache did for one request.
    pub fn cache(&self, event: CacheEvent) {
        self.cache[event as usize].inc();
    }

    /// Counts one fetch of the issuer's signing keys.
    pub fn key_fetch(&self, outcome: KeyFetchOutcome) {
        self.key_fetches[outcome as usize].inc();
    }

    /// Counts audit records.
    pub(crate) fn audit(&self, outcome: AuditOutcome, count: u64) {
        self.audit[outcome as usize].inc_by(count);
    }

    /// Counts the start of one child.
    pub fn child_start(&self, outcome: ChildStart) {
        self.child_starts[outcome as usize].inc();
    }

    /// Counts a child that was given to a request or session.
    pub fn child_use(&self, source: ChildSource) {
        self.child_sources[source as usize].inc();
    }

    /// Counts a child until the guard is dropped.
    pub fn child(&self) -> GaugeGuard {
        GaugeGuard::new(&self.children)
    }

    /// Counts a legacy session until the guard is dropped.
    pub fn session(&self) -> GaugeGuard {
        GaugeGuard::new(&self.sessions)
    }

    /// Counts an event stream until the guard is dropped.
    pub fn stream(&self) -> GaugeGuard {
        GaugeGuard::new(&self.streams)
    }

    /// Counts a TCP connection until the guard is dropped.
    pub fn connection(&self) -> GaugeGuard {
        GaugeGuard::new(&self.connections)
    }

    /// Counts a request as being answered until the guard is dropped.
    pub fn request_in_flight(&self) -> GaugeGuard {
        GaugeGuard::new(&self.in_flight)
    }

    /// All numbers as OpenMetrics text, of the media type [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("a String takes every write");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Something that exists as long as this does; its gauge cannot leak.
#[derive(Debug)]
#[must_use = "dropping it counts the thing as gone"]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn latency_histogram() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

/// One counter per value of the label, all present from the start so that a first event is a rise
/// from zero.
fn counters(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl Iterator<Item = &'static str>,
) -> Vec<Counter> {
    let family = Family::<OneLabel, Counter>::default();
    registry.register(name, help, family.clone());
    values.map(|value| family.get_or_create_owned(&[(label, value)])).collect()
}

/// Cells that are filled at first use, so that what never happens is no series.
fn slots<T>(count: usize) -> Vec<OnceLock<T>> {
    std::iter::repeat_with(OnceLock::new).take(count).collect()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    /// The value of the sample that is written as `name`, labels included.
    fn value(metrics: &Metrics, name: &str) -> Option<f64> {
        let text = metrics.render();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    #[test]
    fn labels_are_a_closed_list() {
        for label in MethodLabel::ALL {
            let is_method = (*label as usize) < MethodLabel::Other as usize;
            let expected = if is_method { *label } else { MethodLabel::Other };
            assert_eq!(MethodLabel::of(label.as_str()), expected);
        }
        for stranger in ["", "tools/call ", "Tools/call", "GET", "unread", "other", "x\"} 1\nforged 2"] {
            assert_eq!(MethodLabel::of(stranger), MethodLabel::Other);
        }
        let mut unique: Vec<_> = MethodLabel::ALL.iter().map(|label| label.as_str()).collect();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), MethodLabel::ALL.len());
        assert!(STATUSES.is_sorted() && LATENCY_BUCKETS.is_sorted());
        for (index, label) in RefusalReason::ALL.iter().enumerate() {
            assert_eq!(*label as usize, index);
        }
    }

    #[test]
    fn requests_are_counted_by_method_and_status_and_timed_by_method() {
        let metrics = Metrics::new();
        for (method, status, micros) in
            [(MethodLabel::ToolsCall, 200, 70), (MethodLabel::ToolsCall, 200, 3_000), (MethodLabel::ToolsCall, 418, 1)]
        {
            metrics.request(method, status, Duration::from_micros(micros));
        }
        let requests = |status| format!("mcp_bridge_requests_total{{method=\"tools/call\",status=\"{status}\"}}");
        assert_eq!(value(&metrics, &requests(200)), Some(2.0));
        assert_eq!(value(&metrics, &requests(418)), Some(1.0));
        assert_eq!(value(&metrics, &requests(403)), None);
        let duration = |rest| format!("mcp_bridge_request_duration_seconds_{rest}");
        assert_eq!(value(&metrics, &duration("count{method=\"tools/call\"}")), Some(3.0));
        assert_eq!(value(&metrics, &duration("bucket{le=\"0.0001\",method=\"tools/call\"}")), Some(2.0));
        assert_eq!(value(&metrics, &duration("bucket{le=\"60.0\",method=\"tools/call\"}")), Some(3.0));
    }

    #[test]
    fn refusals_and_their_kin_start_at_zero() {
        let metrics = Metrics::new();
        assert_eq!(value(&metrics, "mcp_bridge_refusals_total{reason=\"no_token\"}"), Some(0.0));
        metrics.refused(RefusalReason::NoToken);
        metrics.refused(RefusalReason::Audit);
        metrics.cache(CacheEvent::Coalesced);
        metrics.key_fetch(KeyFetchOutcome::Failed);
        metrics.audit(AuditOutcome::Failed, 3);
        metrics.introspection(IntrospectionOutcome::Active, Duration::from_millis(1));
        metrics.introspection(IntrospectionOutcome::NotAsked, Duration::ZERO);
        for (name, expected) in [
            ("mcp_bridge_refusals_total{reason=\"no_token\"}", 1.0),
            ("mcp_bridge_refusals_total{reason=\"audit\"}", 1.0),
            ("mcp_bridge_token_cache_events_total{event=\"coalesced\"}", 1.0),
            ("mcp_bridge_key_fetches_total{outcome=\"failed\"}", 1.0),
            ("mcp_bridge_audit_records_total{outcome=\"failed\"}", 3.0),
            ("mcp_bridge_introspections_total{outcome=\"active\"}", 1.0),
            ("mcp_bridge_introspections_total{outcome=\"not_asked\"}", 1.0),
            ("mcp_bridge_introspection_duration_seconds_count", 1.0),
        ] {
            assert_eq!(value(&metrics, name), Some(expected), "{name}");
        }
    }

    #[test]
    fn gauges_fall_when_their_guard_is_gone_even_by_a_panic() {
        let metrics = Arc::new(Metrics::new());
        let stream = metrics.stream();
        let session = metrics.session();
        assert_eq!(value(&metrics, "mcp_bridge_streams"), Some(1.0));
        assert_eq!(value(&metrics, "mcp_bridge_sessions"), Some(1.0));
        drop((stream, session));
        let inside = Arc::clone(&metrics);
        let panicked = thread::spawn(move || {
            let _stream = inside.stream();
            let _other = (inside.connection(), inside.request_in_flight());
            panic!("as a handler might");
        });
        panicked.join().expect_err("it panicked");
        for gauge in ["streams", "sessions", "connections", "requests_in_flight"] {
            assert_eq!(value(&metrics, &format!("mcp_bridge_{gauge}")), Some(0.0), "{gauge}");
        }
    }

    #[test]
    fn the_text_is_complete_open_metrics() {
        let text = Metrics::new().render();
        assert!(text.ends_with("# EOF\n"));
        let build = format!("mcp_bridge_build_info{{version=\"{}\",os=", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&build), "{text}");
        assert!(text.contains("# UNIT mcp_bridge_introspection_duration_seconds seconds\n"));
        assert!(text.contains("mcp_bridge_log_lines_lost_total "));
    }
}
