//! Instructions per request: `cargo bench --bench instructions [-- --requests N]`.
//!
//! A server runs under valgrind's callgrind and is sent N requests over one keep-alive connection,
//! and in a second process 2 N of them; the difference, divided by N, is free of start-up and
//! shut-down. It counts what the program does and not how long the machine takes, and is stable
//! enough to compare two commits. System calls count as one instruction each: what the kernel does
//! is not in it.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

#[expect(dead_code, reason = "the load run uses the rest")]
mod support;

use std::{net::SocketAddr, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::support::{
    child::Server,
    http::Connection,
    mcp,
    servers::{self, Auth, SAMPLE_ANSWER, bare_command, bridge_command, token},
};

/// Enough that what happens now and then, like a growing buffer, weighs little.
const REQUESTS: u64 = 1_000;

/// Builds a request for the server at an address.
type RequestFor = fn(SocketAddr) -> Vec<u8>;

/// One line of the table.
struct Case {
    name: &'static str,
    server: fn(stub: SocketAddr) -> Result<Command>,
    request: RequestFor,
    status: u16,
}

const CASES: [Case; 6] = [
    Case { name: "bare hyper", server: |_| bare_command(SAMPLE_ANSWER), request: add, status: 200 },
    Case { name: "no authorization, list", server: open, request: list, status: 200 },
    Case { name: "no authorization, call", server: open, request: add, status: 200 },
    Case { name: "cached token, list", server: cached, request: list, status: 200 },
    Case { name: "cached token, call allowed", server: cached, request: add, status: 200 },
    Case { name: "cached token, call refused", server: cached, request: divide, status: 403 },
];

fn main() -> Result<()> {
    if servers::run_if_hidden()? {
        return Ok(());
    }
    let Some((requests, only)) = arguments()? else {
        println!("nothing is counted without cargo bench");
        return Ok(());
    };
    require_valgrind()?;
    let stub = servers::stub()?;
    let out = tempfile::tempdir()?;

    println!("mcp-bridge {}, {requests} requests\n", env!("CARGO_PKG_VERSION"));
    println!("{:<28} {:>24}", "request", "instructions per request");
    for case in CASES.iter().filter(|case| only.as_deref().is_none_or(|only| case.name.contains(only))) {
        let count = |requests| {
            count(case, stub.address, requests, &out.path().join("callgrind.out")).with_context(|| case.name.to_owned())
        };
        let (once, twice) = (count(requests)?, count(2 * requests)?);
        let more = twice.checked_sub(once).context("twice the requests took fewer instructions")?;
        println!("{:<28} {:>24}", case.name, more / requests);
    }
    Ok(())
}

/// The number of requests, and which cases are wanted; nothing where `cargo test` runs this.
fn arguments() -> Result<Option<(u64, Option<String>)>> {
    let (mut requests, mut only) = (REQUESTS, None);
    let mut arguments = std::env::args().skip(1);
    let mut benching = false;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // `cargo bench` adds this one.
            "--bench" => benching = true,
            "--requests" => {
                requests = arguments.next().context("--requests needs a number")?.parse()?;
                ensure!(requests > 0, "--requests must be at least 1");
            }
            "--only" => only = Some(arguments.next().context("--only needs a part of a name")?),
            other => bail!("unknown argument {other}; known are --requests N and --only PART"),
        }
    }
    Ok(benching.then_some((requests, only)))
}

fn require_valgrind() -> Result<()> {
    match Command::new("valgrind").arg("--version").output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => bail!("valgrind is not installed; on Debian and Ubuntu: apt-get install valgrind"),
    }
}

/// All instructions of a server's life in which it answers `requests` requests.
fn count(case: &Case, stub: SocketAddr, requests: u64, out: &Path) -> Result<u64> {
    let server = Server::start(under_callgrind(&(case.server)(stub)?, out))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(send(case, server.address, requests))?;
    let status = server.terminate()?;
    ensure!(status.success(), "the server ended with {status}");
    let text = std::fs::read_to_string(out).context("callgrind wrote no file")?;
    text.lines()
        .find_map(|line| line.strip_prefix("summary:")?.split_whitespace().next()?.parse().ok())
        .context("callgrind's file has no summary")
}

fn under_callgrind(server: &Command, out: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["-q", "--tool=callgrind", "--collect-systime=no"]);
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(server.get_program()).args(server.get_args());
    for (key, value) in server.get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    // Several workers wake each other more or less often, which would count by chance.
    command.env("TOKIO_WORKER_THREADS", "1");
    command
}

async fn send(case: &Case, address: SocketAddr, requests: u64) -> Result<()> {
    let request = (case.request)(address);
    let mut connection = Connection::open(address).await?;
    for _ in 0..requests {
        let answer = connection.send(&request).await?;
        if answer.status != case.status {
            bail!("status {}: {}", answer.status, answer.body.escape_ascii());
        }
    }
    Ok(())
}

fn open(_: SocketAddr) -> Result<Command> {
    bridge_command(Auth::Off, "info")
}

fn cached(stub: SocketAddr) -> Result<Command> {
    // Longer than any count takes under valgrind, so that every request but the first is a hit.
    bridge_command(Auth::Introspection { stub, cache: "30s" }, "info")
}

fn list(address: SocketAddr) -> Vec<u8> {
    mcp::list(address, &token("0", &["op:add"]))
}

fn add(address: SocketAddr) -> Vec<u8> {
    mcp::call(address, &token("0", &["op:add"]), "add")
}

fn divide(address: SocketAddr) -> Vec<u8> {
    mcp::call(address, &token("0", &["op:add"]), "divide")
}
