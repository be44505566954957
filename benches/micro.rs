//! Single steps of a request's way, and the whole way without a socket: `cargo bench --bench micro`.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use clap::Parser as _;
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::{FutureExt as _, future::BoxFuture};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use mcp_bridge::{
    backend::in_process::{self, InProcess},
    cli::{Cli, Command},
    config::{self, Limits},
    era::Mirror,
    http::{
        bounds::Bounds,
        gate::{Gate, Setup},
    },
    message::Message,
    relay::Relay,
    resource::ResourceUri,
    scope::ScopeSet,
    telemetry::{labels::MethodLabel, metrics::Metrics},
    token::{BearerToken, Issuer, NotReady, TokenVerifier, VerifiedToken, VerifyError},
};
use mcp_calculator::calculator::{Operation, evaluate};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"calculator","arguments":{"operation":"add","a":5,"b":8},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}"#;

const SCOPES: &str = "op:add op:sub op:mult";

fn token(c: &mut Criterion) {
    let opaque = format!("Bearer {}", "a1B2-_~.".repeat(8));
    let jwt = format!("Bearer {}", "eyJhbGciOiJFUzI1NiJ9".repeat(45));
    let mut group = c.benchmark_group("token");
    for (name, value) in [("opaque", &opaque), ("jwt", &jwt)] {
        group.bench_function(name, |b| {
            b.iter(|| BearerToken::from_authorization(std::iter::once(black_box(value.as_bytes()))));
        });
    }
    group.finish();
}

fn scope(c: &mut Criterion) {
    let held = ScopeSet::from_peer([SCOPES]);
    let needed = ScopeSet::from_peer(["op:div"]);
    let mut group = c.benchmark_group("scope");
    group.bench_function("parse", |b| b.iter(|| ScopeSet::from_peer([black_box(SCOPES)])));
    group.bench_function("covers", |b| b.iter(|| black_box(&held).covers(black_box(&needed))));
    group.bench_function("missing", |b| b.iter(|| black_box(&held).missing(black_box(&needed))));
    group.finish();
}

fn message(c: &mut Criterion) {
    let mut group = c.benchmark_group("message");
    group.bench_function("parse", |b| b.iter(|| Message::parse(black_box(CALL.as_bytes())).is_ok()));
    let deep =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    group.bench_function("refuse 10,000 brackets", |b| {
        b.iter(|| Message::parse(black_box(deep.as_bytes())).is_ok());
    });
    let mirror =
        Mirror { version: Some(Ok("2026-07-28")), method: Some(Ok("tools/call")), name: Some(Ok("calculator")) };
    if let Ok(Message::Request(request)) = Message::parse(CALL.as_bytes()) {
        group.bench_function("envelope", |b| b.iter(|| mirror.check(black_box(&request)).is_ok()));
    }
    group.finish();
}

fn policy(c: &mut Criterion) {
    let policy = in_process::policy();
    let user = user();
    let divide = CALL.replace("add", "divide");
    let mut group = c.benchmark_group("parse and policy");
    for (name, body) in [("allowed", CALL), ("refused", divide.as_str())] {
        group.bench_function(name, |b| {
            b.iter(|| match Message::parse(black_box(body.as_bytes())) {
                Ok(Message::Request(request)) => policy.permit(&user, request).is_ok(),
                _ => false,
            });
        });
    }
    group.finish();
}

fn calculate(c: &mut Criterion) {
    let mut group = c.benchmark_group("calculator");
    group.bench_function("evaluate", |b| {
        b.iter(|| evaluate(black_box(Operation::Divide), black_box(1.0), black_box(3.0)))
    });
    group.bench_function("evaluate and print", |b| {
        b.iter(|| evaluate(Operation::Divide, black_box(1.0), black_box(3.0)).map(|number| number.to_string()));
    });
    group.finish();
}

/// From the request's head to the last byte of its answer, without a socket.
fn gate(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let gate = whole_gate();
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let divide = CALL.replace("add", "divide");
    let mut group = c.benchmark_group("gate");
    for (name, token, body, status) in [
        ("call allowed", Some("Bearer good"), CALL, 200),
        ("call refused", Some("Bearer good"), &divide, 403),
        ("no token", None, CALL, 401),
    ] {
        let request = || {
            let mut request = Request::post("/mcp")
                .header("host", "127.0.0.1:8808")
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream")
                .header("mcp-protocol-version", "2026-07-28")
                .header("mcp-method", "tools/call")
                .header("mcp-name", "calculator");
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).expect("a request")
        };
        let answer = || {
            runtime.block_on(async {
                let response = gate.handle(request(), peer).await;
                (response.status(), response.into_body().collect().await.map(|body| body.to_bytes().len()))
            })
        };
        assert_eq!(answer().0.as_u16(), status, "{name}");
        group.bench_function(name, |b| b.iter(answer));
    }
    group.finish();
}

fn metrics(c: &mut Criterion) {
    let metrics = Metrics::new();
    let mut group = c.benchmark_group("metrics");
    group.bench_function("request", |b| {
        b.iter(|| metrics.request(black_box(MethodLabel::of("tools/call")), 200, Duration::from_micros(70)));
    });
    group.bench_function("render", |b| b.iter(|| metrics.render()));
    group.finish();
}

fn user() -> VerifiedToken {
    VerifiedToken {
        issuer: Issuer::new("https://as.example"),
        subject: Some("user-1".to_owned()),
        client_id: Some("bench".to_owned()),
        email: Some("user@example.com".to_owned()),
        scopes: ScopeSet::from_peer([SCOPES]),
        expires_at: None,
    }
}

/// Knows every token.
struct Everybody(Arc<VerifiedToken>);

impl TokenVerifier for Everybody {
    fn verify<'a>(
        &'a self,
        _: &'a BearerToken,
        _: SystemTime,
    ) -> BoxFuture<'a, Result<Arc<VerifiedToken>, VerifyError>> {
        std::future::ready(Ok(Arc::clone(&self.0))).boxed()
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), NotReady>> {
        std::future::ready(Ok(())).boxed()
    }
}

fn whole_gate() -> Gate {
    let resource = ResourceUri::new("http://127.0.0.1:8808", "/mcp").expect("a resource");
    let limits = limits();
    Gate::new(Setup {
        resource: &resource,
        legacy_sse: false,
        path: "/mcp",
        bound: ([127, 0, 0, 1], 8808).into(),
        issuer: Some(&Issuer::new("https://as.example")),
        server: None,
        name: "Calculator",
        documentation: None,
        allowed_hosts: &[],
        allowed_origins: &[],
        trusted_proxies: Vec::new(),
        verifier: Arc::new(Everybody(Arc::new(user()))),
        policy: in_process::policy(),
        relay: Relay::new(Arc::new(InProcess), limits.request_timeout, limits.keep_alive),
        bounds: Bounds::new(&limits, false),
        limits,
        denial: Default::default(),
        filter_lists: false,
        audit: None,
        metrics: Arc::new(Metrics::new()),
    })
}

/// The limits that are the default.
fn limits() -> Limits {
    match Cli::parse_from(["mcp-bridge", "serve", "--auth", "none"]).command {
        Command::Serve(flags) => config::load(&flags, std::iter::empty()).expect("valid settings").config.limits,
        other => unreachable!("`serve` was parsed as {other:?}"),
    }
}

criterion_group!(benches, token, scope, message, policy, calculate, gate, metrics);
criterion_main!(benches);
