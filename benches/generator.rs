//! The load generator: closed loops, one request in flight per connection.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::future::try_join_all;

use crate::support::http::Connection;

/// No request takes this long on a machine where its figures mean anything.
const STUCK: Duration = Duration::from_secs(30);

/// What is sent, and what must come back.
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    /// The request of each connection.
    pub(crate) requests: Vec<Vec<u8>>,
    /// The answer to each of them.
    pub(crate) answer: Vec<u8>,
}

/// What one server did with one number of connections in one round.
pub(crate) struct Cell {
    pub(crate) per_second: f64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
}

/// The CPUs that this program may use.
pub(crate) fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Threads that make load: half of the CPUs, the other half is for the server.
pub(crate) fn threads(connections: usize) -> usize {
    (cpus() / 2).clamp(1, connections)
}

/// Keeps `connections` busy for `warm_up` and then `measure`.
///
/// Counted are requests whose answer ended in the measured time.
pub(crate) fn run(load: &Load, connections: usize, warm_up: Duration, measure: Duration) -> Result<Cell> {
    let threads = threads(connections);
    let begin = Instant::now() + warm_up;
    let end = begin + measure;
    let mut nanos: Vec<u64> = Vec::new();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                    let own = (first..connections).step_by(threads);
                    let loops = own.map(|index| keep_busy(load, index, begin, end));
                    let limit = warm_up + measure + STUCK;
                    runtime.block_on(async {
                        tokio::time::timeout(limit, try_join_all(loops)).await.context("a request is stuck")?
                    })
                })
            })
            .collect();
        for worker in workers {
            let latencies = worker.join().map_err(|_| anyhow!("a load thread panicked"))??;
            nanos.extend(latencies.into_iter().flatten());
        }
        anyhow::Ok(())
    })?;
    if nanos.is_empty() {
        bail!("no request was answered in {measure:?}");
    }
    nanos.sort_unstable();
    Ok(Cell {
        per_second: to_f64(nanos.len() as u64) / measure.as_secs_f64(),
        p50_micros: percentile(&nanos, 50) / 1e3,
        p99_micros: percentile(&nanos, 99) / 1e3,
    })
}

async fn keep_busy(load: &Load, index: usize, begin: Instant, end: Instant) -> Result<Vec<u64>> {
    let request = &load.requests[index % load.requests.len()];
    let mut connection = Connection::open(load.address).await?;
    let mut nanos = Vec::with_capacity(1 << 16);
    let mut sent = Instant::now();
    loop {
        let answer = connection.send(request).await?;
        if answer.status != 200 || answer.body != load.answer {
            bail!("a wrong answer, status {}: {}", answer.status, answer.body.escape_ascii());
        }
        let now = Instant::now();
        if now >= end {
            return Ok(nanos);
        }
        if now >= begin {
            nanos.push(u64::try_from((now - sent).as_nanos()).unwrap_or(u64::MAX));
        }
        sent = now;
    }
}

/// The smallest value that at least `percent` of all are not above (nearest rank).
fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    to_f64(sorted[rank - 1])
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn to_f64(value: u64) -> f64 {
    value as f64
}
