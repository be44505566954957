//! What a child process costs: `cargo bench --bench relay [-- --quick]`.
//!
//! In one run on one machine, for the calculator in process and for the same calculator as a command
//! behind the bridge, in each isolation mode and with and without ready children: how long one call
//! takes for a client that is alone and pauses, how long at modest load (several such clients), and how
//! many calls a second eight busy connections get. The same for a server that does nothing but answer
//! (this program, started as one): what remains of the time is the bridge's and the system's. Beside
//! them the least that a process per call can cost: start the program, write one line, read one line,
//! after the same pauses, which make everything slower. Then what an idle legacy session takes. The
//! servers take turns, round by round; medians over the rounds are printed.
//!
//! Needs the calculator's program: `cargo build --profile bench --bin mcp-calculator`.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

#[expect(dead_code, reason = "the load run uses the rest")]
mod generator;
#[expect(dead_code, reason = "the other runs use the rest")]
mod support;

use std::{
    io::{BufRead as _, BufReader, Write as _, stdin, stdout},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;

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

/// Clients that make a modest load, each with a call at every pause.
const MODEST: u32 = 4;

/// Connections that call without a pause.
const BUSY: usize = 8;

/// Idle sessions for the memory figure.
const SESSIONS: usize = 50;

/// What a server is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The calculator, in the bridge's own process.
    InProcess,
    /// The calculator's program.
    Calculator,
    /// This program, with [`LEAST`].
    Least,
}

const SHARED: &[&str] = &["--isolation", "shared"];
const POOL: &[&str] = &["--isolation", "request", "--pool", "4"];
const NO_POOL: &[&str] = &["--isolation", "request", "--pool", "0"];

/// Name, what it is, and the flags that make it.
const MODES: [(&str, Kind, &[&str]); 7] = [
    ("in process", Kind::InProcess, &[]),
    ("shared", Kind::Calculator, SHARED),
    ("session", Kind::Calculator, &["--isolation", "session"]),
    ("request, pool of 4", Kind::Calculator, POOL),
    ("request, no pool", Kind::Calculator, NO_POOL),
    ("least, shared", Kind::Least, SHARED),
    ("least, pool of 4", Kind::Least, POOL),
];

/// The argument that makes this program a server.
const LEAST: &str = "--serve-the-least";

struct Subject {
    name: &'static str,
    /// Ends with the subject.
    _server: Server,
    load: Load,
    figures: Figures,
}

/// A figure of each round.
#[derive(Default)]
struct Figures {
    alone_micros: Vec<f64>,
    modest_micros: Vec<f64>,
    busy_per_second: Vec<f64>,
}

fn main() -> Result<()> {
    if std::env::args().any(|argument| argument == LEAST) {
        return serve_the_least();
    }
    let quick = std::env::args().any(|argument| argument == "--quick") || !std::env::args().any(|a| a == "--bench");
    let (rounds, calls, measure) = if quick { (1, 20, 300) } else { (5, 100, 2000) };
    let measure = Duration::from_millis(measure);
    let calculator = calculator()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

    let mut subjects = Vec::new();
    for (name, kind, flags) in MODES {
        subjects.push(runtime.block_on(Subject::start(name, kind, flags, &calculator))?);
    }
    let mut bare_micros = Vec::new();
    for round in 0..rounds {
        bare_micros.push(median((0..calls.min(50)).map(|_| bare(&calculator)).collect::<Result<_>>()?));
        for turn in 0..subjects.len() {
            let index = (turn + round) % subjects.len();
            let Subject { name, load, figures, .. } = &mut subjects[index];
            for (clients, micros) in [(1, &mut figures.alone_micros), (MODEST, &mut figures.modest_micros)] {
                micros.push(runtime.block_on(paced(load, clients, calls)).context(*name)?);
            }
            let cell = generator::run(load, BUSY, measure / 4, measure);
            figures.busy_per_second.push(cell.context(*name)?.per_second);
        }
    }
    println!("{} CPUs, median of {rounds} round(s)\n", generator::cpus());
    println!(
        "{:<22} {:>9} {:>7} {:>12} {:>7} {:>14}",
        "server", "alone", "times", "modest load", "times", "busy calls/s"
    );
    let medians = subjects.iter().map(|subject| {
        let Figures { alone_micros, modest_micros, busy_per_second } = &subject.figures;
        (subject.name, [alone_micros, modest_micros, busy_per_second].map(|all| median(all.clone())))
    });
    let medians: Vec<_> = medians.collect();
    let [in_process, in_process_modest, _] = medians[0].1;
    for (name, [alone, modest, busy]) in &medians {
        let (times, times_modest) = (alone / in_process, modest / in_process_modest);
        println!("{name:<22} {alone:>6.0} µs {times:>7.2} {modest:>9.0} µs {times_modest:>7.2} {busy:>14.0}");
    }
    let bare = median(bare_micros);
    let cold = medians.iter().find(|(name, _)| *name == "request, no pool").context("it is one of the modes")?.1[0];
    println!("{:<22} {bare:>6.0} µs {:>7.2}", "bare start and line", bare / in_process);
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
    async fn start(name: &'static str, kind: Kind, flags: &[&str], calculator: &Path) -> Result<Self> {
        let server = Server::start(command(kind, flags, calculator)?)?;
        let request = mcp::call(server.address, "none", "add");
        // The first call may wait for the first start.
        let answer = Connection::open(server.address).await?.send(&request).await?.body.to_vec();
        let text = String::from_utf8_lossy(&answer);
        ensure!(text.contains(r#""text":"13""#), "{name}: 5 + 8 is 13, and not {text}");
        let load = Load { address: server.address, requests: vec![request; BUSY], answer };
        Ok(Self { name, _server: server, load, figures: Figures::default() })
    }
}

fn command(kind: Kind, flags: &[&str], calculator: &Path) -> Result<Command> {
    let mut command = bridge_command(Auth::Off, "warn")?;
    if kind != Kind::InProcess {
        command.args(flags).args(["--max-children", "256", "--"]);
    }
    match kind {
        Kind::InProcess => {}
        Kind::Calculator => _ = command.arg(calculator),
        Kind::Least => _ = command.arg(std::env::current_exe()?).arg(LEAST),
    }
    Ok(command)
}

/// Serves the modern era on stdin and stdout, with as little work as that takes.
fn serve_the_least() -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Line<'l> {
        id: Option<u64>,
        method: &'l str,
    }
    for line in stdin().lock().lines() {
        let line = line?;
        let Line { id: Some(id), method } = serde_json::from_str(&line)? else { continue };
        let result = match method {
            "server/discover" => {
                r#""supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private""#
            }
            "tools/list" => r#""tools":[],"ttlMs":0,"cacheScope":"private""#,
            _ => r#""content":[{"type":"text","text":"13"}],"isError":false"#,
        };
        let answer =
            format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"resultType\":\"complete\",{result}}}}}\n");
        stdout().write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// The median time of a call, in microseconds, of so many clients that each begin one at every pause.
/// The beginnings are spread over the pause.
async fn paced(load: &Load, clients: u32, calls: u32) -> Result<f64> {
    let begun = tokio::time::Instant::now();
    let clients = (0..clients).zip(&load.requests).map(|(client, request)| async move {
        let first = begun + PAUSE * client / clients;
        let mut connection = Connection::open(load.address).await?;
        let mut micros = Vec::new();
        for call in 1..=calls {
            tokio::time::sleep_until(first + PAUSE * call).await;
            let sent = Instant::now();
            let answer = connection.send(request).await?;
            micros.push(sent.elapsed().as_secs_f64() * 1e6);
            ensure!(answer.body == load.answer, "a wrong answer: {}", answer.body.escape_ascii());
        }
        anyhow::Ok(micros)
    });
    Ok(median(try_join_all(clients).await?.concat()))
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
    let server = Server::start(command(Kind::Calculator, NO_POOL, calculator)?)?;
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
