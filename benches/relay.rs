//! What a child process costs: `cargo bench --bench relay [-- --quick]`.
//!
//! In one run on one machine, for the calculator in process and for the same calculator as a command
//! behind the bridge, in each isolation mode and with and without ready children: how long one call
//! takes at modest load (one client with pauses), and how many calls a second eight busy connections
//! get. Beside them the least that a process per call can cost: start the program, write one line,
//! read one line, after the same pauses, which make everything slower. Then what an idle legacy session
//! takes. The servers take turns, round by round; medians over the rounds are printed.
//!
//! Needs the calculator's program: `cargo build --profile bench --bin mcp-calculator`.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

#[expect(dead_code, reason = "the load run uses the rest")]
mod generator;
#[expect(dead_code, reason = "the other runs use the rest")]
mod support;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    generator::Load,
    support::{
        child::Server,
        http::Connection,
        mcp,
        servers::{Auth, bridge_command},
    },
};

/// The pause of a client that is not in a hurry: long enough to refill the pool.
const PAUSE: Duration = Duration::from_millis(20);

/// Connections that call without a pause.
const BUSY: usize = 8;

/// Idle sessions for the memory figure.
const SESSIONS: usize = 50;

/// Name, and the flags that make it; `None` serves the calculator in process.
const MODES: [(&str, Option<&[&str]>); 5] = [
    ("in process", None),
    ("shared", Some(&["--isolation", "shared"])),
    ("session", Some(&["--isolation", "session"])),
    ("request, pool of 4", Some(&["--isolation", "request", "--pool", "4"])),
    ("request, no pool", Some(&["--isolation", "request", "--pool", "0"])),
];

struct Subject {
    name: &'static str,
    /// Ends with the subject.
    _server: Server,
    load: Load,
    calm_micros: Vec<f64>,
    busy_per_second: Vec<f64>,
}

fn main() -> Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick") || !std::env::args().any(|a| a == "--bench");
    let (rounds, calls, measure) = if quick { (1, 20, 300) } else { (5, 100, 2000) };
    let measure = Duration::from_millis(measure);
    let calculator = calculator()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

    let mut subjects = Vec::new();
    for (name, flags) in MODES {
        subjects.push(runtime.block_on(Subject::start(name, flags, &calculator))?);
    }
    let mut bare_micros = Vec::new();
    for round in 0..rounds {
        bare_micros.push(median((0..calls.min(50)).map(|_| bare(&calculator)).collect::<Result<_>>()?));
        for turn in 0..subjects.len() {
            let index = (turn + round) % subjects.len();
            let subject = &mut subjects[index];
            let calm = runtime.block_on(calm(&subject.load, calls));
            subject.calm_micros.push(calm.with_context(|| subject.name)?);
            let cell = generator::run(&subject.load, BUSY, measure / 4, measure);
            subject.busy_per_second.push(cell.with_context(|| subject.name)?.per_second);
        }
    }
    println!("{} CPUs, median of {rounds} round(s)\n", generator::cpus());
    println!("{:<22} {:>10} {:>14} {:>16}", "server", "calm p50", "of in process", "busy calls/s");
    let in_process = median(subjects[0].calm_micros.clone());
    for subject in &subjects {
        let calm = median(subject.calm_micros.clone());
        let busy = median(subject.busy_per_second.clone());
        println!("{:<22} {:>7.0} µs {:>14.2} {:>16.0}", subject.name, calm, calm / in_process, busy);
    }
    let bare = median(bare_micros);
    let cold = median(subjects[MODES.len() - 1].calm_micros.clone());
    println!("{:<22} {:>7.0} µs {:>14.2}", "bare start and line", bare, bare / in_process);
    println!("\nrequest without a pool is {:.2} times the bare start and line", cold / bare);
    drop(subjects);
    runtime.block_on(print_sessions(&calculator))
}

/// The calculator's program, beside the bridge's.
fn calculator() -> Result<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_mcp-bridge")).with_file_name("mcp-calculator");
    let advice = "is not built; run: cargo build --profile bench --bin mcp-calculator";
    ensure!(program.exists(), "{} {advice}", program.display());
    Ok(program)
}

impl Subject {
    async fn start(name: &'static str, flags: Option<&[&str]>, calculator: &Path) -> Result<Self> {
        let server = Server::start(command(flags, calculator)?)?;
        let request = mcp::call(server.address, "none", "add");
        // The first call may wait for the first start.
        let answer = Connection::open(server.address).await?.send(&request).await?.body.to_vec();
        let text = String::from_utf8_lossy(&answer);
        ensure!(text.contains(r#""text":"13""#), "{name}: 5 + 8 is 13, and not {text}");
        let load = Load { address: server.address, requests: vec![request; BUSY], answer };
        Ok(Self { name, _server: server, load, calm_micros: Vec::new(), busy_per_second: Vec::new() })
    }
}

fn command(flags: Option<&[&str]>, calculator: &Path) -> Result<Command> {
    let mut command = bridge_command(Auth::Off, "warn")?;
    if let Some(flags) = flags {
        command.args(flags).args(["--max-children", "256", "--"]).arg(calculator);
    }
    Ok(command)
}

/// The median time of a call, in microseconds, of one client that pauses between calls.
async fn calm(load: &Load, calls: usize) -> Result<f64> {
    let mut connection = Connection::open(load.address).await?;
    let mut micros = Vec::with_capacity(calls);
    for _ in 0..calls {
        tokio::time::sleep(PAUSE).await;
        let sent = Instant::now();
        let answer = connection.send(&load.requests[0]).await?;
        micros.push(sent.elapsed().as_secs_f64() * 1e6);
        ensure!(answer.body == load.answer, "a wrong answer: {}", answer.body.escape_ascii());
    }
    Ok(median(micros))
}

/// After a pause, starts the program, writes one request, reads its answer: the time of that, in
/// microseconds.
fn bare(calculator: &Path) -> Result<f64> {
    const REQUEST: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"calculator","arguments":{"operation":"add","a":5,"b":8},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}
"#;
    std::thread::sleep(PAUSE);
    let begun = Instant::now();
    let mut child = Command::new(calculator)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    stdin.write_all(REQUEST)?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
    let micros = begun.elapsed().as_secs_f64() * 1e6;
    ensure!(line.contains(r#""text":"13""#), "a wrong answer: {line}");
    drop(stdin);
    child.wait()?;
    Ok(micros)
}

/// What a legacy session without traffic takes, of the bridge and of its own server.
async fn print_sessions(calculator: &Path) -> Result<()> {
    let server = Server::start(command(Some(&["--pool", "0"]), calculator)?)?;
    let mut connection = Connection::open(server.address).await?;
    let initialize = mcp::initialize(server.address, "none");
    open_session(&mut connection, &server, &initialize).await?;
    let before = server.resident()?;
    for _ in 0..SESSIONS {
        open_session(&mut connection, &server, &initialize).await?;
    }
    #[expect(clippy::cast_precision_loss, reason = "kilobytes for a table")]
    let each = server.resident()?.saturating_sub(before) as f64 / 1e3 / SESSIONS as f64;
    println!("\nan idle legacy session: {each:.0} kB of the bridge, and a process of its own");
    Ok(())
}

async fn open_session(connection: &mut Connection, server: &Server, initialize: &[u8]) -> Result<()> {
    let answer = connection.send(initialize).await?;
    let body = String::from_utf8_lossy(answer.body);
    ensure!(answer.status == 200, "initialize: status {}: {body}", answer.status);
    let session = answer.header("mcp-session-id").context("initialize gave no session")?;
    let initialized = mcp::initialized(server.address, "none", session);
    let answer = connection.send(&initialized).await?;
    ensure!(answer.status == 202, "initialized: status {}", answer.status);
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    if values.len() % 2 == 1 { values[upper] } else { (values[upper - 1] + values[upper]) / 2.0 }
}
