//! Single steps of a request's way: `cargo bench --bench micro`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use mcp_bridge::{scope::ScopeSet, token::BearerToken};

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
    let text = "op:add op:sub op:mult op:div";
    let held = ScopeSet::from_peer(text);
    let needed = ScopeSet::from_peer("op:div");
    let mut group = c.benchmark_group("scope");
    group.bench_function("parse", |b| b.iter(|| ScopeSet::from_peer(black_box(text))));
    group.bench_function("covers", |b| b.iter(|| black_box(&held).covers(black_box(&needed))));
    group.bench_function("missing", |b| b.iter(|| black_box(&needed).missing(black_box(&held))));
    group.finish();
}

criterion_group!(benches, token, scope);
criterion_main!(benches);
