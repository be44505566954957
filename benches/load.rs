//! The whole program under load: `cargo bench --bench load [-- --quick] [-- --only NAME]`.
//!
//! In one run on one machine, for a bare hyper server that answers a fixed body of the same size and
//! for the bridge without authorization, with cached and with uncached introspection: requests per
//! second, p50 and p99 at 1, 8 and 64 keep-alive connections; then resident memory, idle and with
//! 1,000 legacy sessions, and the time to start. Every server, the authorization server included, is
//! a process of its own; they take turns, round by round, so that what the machine does besides hits
//! all of them alike, and medians over the rounds are printed.
//!
//! All servers have as many worker threads as there are CPUs, or as `TOKIO_WORKER_THREADS` says.
//!
//! Every request is a modern `tools/call`. A failed connection, another status, or a wrong answer
//! ends the run with an error: there is no number for a server that does not do its work.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

mod generator;
#[expect(dead_code, reason = "the instruction count uses the rest")]
mod support;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::{
    generator::{Cell, Load},
    support::{
        child::Server,
        http::Connection,
        mcp,
        servers::{self, Auth, SAMPLE_ANSWER, bridge_command, token},
    },
};

const CONNECTIONS: [usize; 3] = [1, 8, 64];

/// Legacy sessions for the memory figure.
const SESSIONS: usize = 1_000;

const ALL_SCOPES: [&str; 4] = ["op:add", "op:sub", "op:mult", "op:div"];

/// How long and how often.
struct Plan {
    rounds: usize,
    warm_up: Duration,
    measure: Duration,
    starts: usize,
    /// Measure only this server, besides the bare one.
    only: Option<String>,
    log_level: String,
}

impl Plan {
    fn from_arguments() -> Result<Self> {
        let mut plan = Self {
            rounds: 9,
            warm_up: Duration::from_millis(250),
            measure: Duration::from_secs(1),
            starts: 20,
            only: None,
            log_level: "info".to_owned(),
        };
        let mut arguments = std::env::args().skip(1);
        let mut benching = false;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => benching = true,
                "--quick" => plan.shorten(),
                "--only" => plan.only = Some(arguments.next().context("--only needs a name")?),
                "--log-level" => plan.log_level = arguments.next().context("--log-level needs a level")?,
                other => bail!("unknown argument {other}; known are --quick, --only NAME, --log-level LEVEL"),
            }
        }
        if !benching {
            // `cargo bench` says so; `cargo test --benches` does not, and wants to know that it works.
            plan.shorten();
        }
        Ok(plan)
    }

    fn shorten(&mut self) {
        self.rounds = 1;
        self.warm_up = Duration::from_millis(100);
        self.measure = Duration::from_millis(500);
        self.starts = 5;
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == name)
    }
}

/// One server of the comparison.
struct Subject {
    name: &'static str,
    server: Server,
    load: Load,
    /// Round by round, for each number of connections.
    cells: [Vec<Cell>; CONNECTIONS.len()],
}

fn main() -> Result<()> {
    if servers::run_if_hidden()? {
        return Ok(());
    }
    let plan = Plan::from_arguments()?;
    let stub = servers::stub()?;
    let cached = Auth::Introspection { stub: stub.address, cache: "15s" };
    let uncached = Auth::Introspection { stub: stub.address, cache: "0s" };

    let mut subjects = Vec::new();
    for (name, auth) in [("none", Auth::Off), ("cached", cached), ("uncached", uncached)] {
        if plan.wants(name) {
            subjects.push(Subject::bridge(name, auth, &plan)?);
        }
    }
    subjects.insert(0, Subject::bare(subjects.first())?);

    describe(&plan);
    for round in 0..plan.rounds {
        for (column, connections) in CONNECTIONS.into_iter().enumerate() {
            for turn in 0..subjects.len() {
                // Each round begins with another server, so that none always follows the same one.
                let index = (turn + round) % subjects.len();
                let subject = &mut subjects[index];
                let cell = generator::run(&subject.load, connections, plan.warm_up, plan.measure)
                    .with_context(|| format!("{} with {connections} connections", subject.name))?;
                subject.cells[column].push(cell);
            }
        }
    }
    print_load(&subjects);
    println!("\nresident memory after the load");
    for subject in &subjects {
        println!("  {:<10} {:>6.1} MB", subject.name, megabytes(subject.server.resident()?));
    }
    drop(subjects);

    if plan.wants("cached") {
        print_memory_and_start(cached, &plan)?;
    }
    Ok(())
}

impl Subject {
    fn bridge(name: &'static str, auth: Auth, plan: &Plan) -> Result<Self> {
        let server = Server::start(bridge_command(auth, &plan.log_level)?)?;
        // A token per connection: with one for all, questions about it would be asked together.
        let request = |index: usize| mcp::call(server.address, &token(&index.to_string(), &ALL_SCOPES), "add");
        let requests: Vec<_> = (0..CONNECTIONS[CONNECTIONS.len() - 1]).map(request).collect();
        let answer = runtime()?.block_on(async {
            let mut connection = Connection::open(server.address).await?;
            let answer = connection.send(&requests[0]).await?;
            let body = String::from_utf8_lossy(answer.body).into_owned();
            ensure!(answer.status == 200, "status {}: {body}", answer.status);
            let message: serde_json::Value = serde_json::from_str(&body).with_context(|| body.clone())?;
            ensure!(message["result"]["content"][0]["text"] == "13", "5 + 8 is 13, and not {body}");
            Ok(body)
        });
        let answer = answer.with_context(|| format!("{name}: the first call"))?.into_bytes();
        let load = Load { address: server.address, requests, answer };
        Ok(Self { name, server, load, cells: Default::default() })
    }

    /// The bare server, with the requests and the answer of `model`.
    fn bare(model: Option<&Self>) -> Result<Self> {
        let answer = match model {
            Some(model) => String::from_utf8(model.load.answer.clone())?,
            None => SAMPLE_ANSWER.to_owned(),
        };
        let server = servers::bare(&answer)?;
        let address = server.address;
        let request = |index: usize| mcp::call(address, &token(&index.to_string(), &ALL_SCOPES), "add");
        let requests = (0..CONNECTIONS[CONNECTIONS.len() - 1]).map(request).collect();
        let load = Load { address, requests, answer: answer.into_bytes() };
        Ok(Self { name: "bare hyper", server, load, cells: Default::default() })
    }
}

fn describe(plan: &Plan) {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, name)| name);
    println!(
        "mcp-bridge {}, {} CPUs ({cpu}), {} load thread(s), log level {}; median of {} round(s) of {:.1} s\n",
        env!("CARGO_PKG_VERSION"),
        generator::cpus(),
        generator::threads(CONNECTIONS[CONNECTIONS.len() - 1]),
        plan.log_level,
        plan.rounds,
        plan.measure.as_secs_f64(),
    );
}

fn print_load(subjects: &[Subject]) {
    println!(
        "{:<10} {:>11} {:>10} {:>8} {:>9} {:>10} {:>9}",
        "server", "connections", "requests/s", "of bare", "p50 µs", "p50 + µs", "p99 µs"
    );
    for (column, connections) in CONNECTIONS.into_iter().enumerate() {
        for subject in subjects {
            let cells = &subject.cells[column];
            let bare = &subjects[0].cells[column];
            let of = |value: fn(&Cell) -> f64| median(cells.iter().map(value).collect());
            // Compared within a round, because a round is one moment of the machine.
            let paired = |compare: fn(&Cell, &Cell) -> f64| {
                median(cells.iter().zip(bare).map(|(cell, bare)| compare(cell, bare)).collect())
            };
            println!(
                "{:<10} {:>11} {:>10.0} {:>6.0} % {:>9.0} {:>10.0} {:>9.0}",
                subject.name,
                connections,
                of(|cell| cell.per_second),
                100.0 * paired(|cell, bare| cell.per_second / bare.per_second),
                of(|cell| cell.p50_micros),
                paired(|cell, bare| cell.p50_micros - bare.p50_micros),
                of(|cell| cell.p99_micros),
            );
        }
    }
}

/// Memory of a fresh bridge, idle after one call and with legacy sessions, and the time to start.
fn print_memory_and_start(auth: Auth, plan: &Plan) -> Result<()> {
    let fresh = Subject::bridge("cached", auth, plan)?;
    let idle = fresh.server.resident()?;
    runtime()?.block_on(open_sessions(&fresh.server)).context("legacy sessions")?;
    let with_sessions = fresh.server.resident()?;
    println!("\nresident memory of a fresh process, cached introspection");
    println!("  idle                      {:>6.1} MB", megabytes(idle));
    println!("  {SESSIONS} legacy sessions      {:>6.1} MB", megabytes(with_sessions));
    drop(fresh);

    let mut starts = Vec::new();
    for _ in 0..plan.starts {
        starts.push(Server::start(bridge_command(auth, &plan.log_level)?)?.started_in.as_secs_f64() * 1e3);
    }
    println!("\nstart until listening       {:>6.1} ms (median of {})", median(starts), plan.starts);
    Ok(())
}

async fn open_sessions(server: &Server) -> Result<()> {
    let token = token("0", &ALL_SCOPES);
    let mut connection = Connection::open(server.address).await?;
    let initialize = mcp::initialize(server.address, &token);
    for index in 0..SESSIONS {
        let answer = connection.send(&initialize).await?;
        let body = String::from_utf8_lossy(answer.body);
        ensure!(answer.status == 200, "initialize number {index}: status {}: {body}", answer.status);
        let session = answer.header("mcp-session-id").context("initialize gave no session")?;
        let initialized = mcp::initialized(server.address, &token, session);
        let answer = connection.send(&initialized).await?;
        ensure!(answer.status == 202, "initialized number {index}: status {}", answer.status);
    }
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    if values.len() % 2 == 1 { values[upper] } else { (values[upper - 1] + values[upper]) / 2.0 }
}

#[expect(clippy::cast_precision_loss, reason = "megabytes for a table")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
