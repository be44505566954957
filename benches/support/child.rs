//! Server processes: started, asked where they listen, measured, ended.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

/// A start takes milliseconds, and seconds under valgrind.
const START_MAX: Duration = Duration::from_secs(60);

/// How long a server may take to end after SIGTERM; callgrind writes its file in that time.
const END_MAX: Duration = Duration::from_secs(60);

/// How much of a server's stderr is kept to say why it failed.
const STDERR_KEPT_BYTES: u64 = 8 * 1024;

/// valgrind is found through the first; the second is how to compare numbers of worker threads.
const INHERITED: [&str; 2] = ["PATH", "TOKIO_WORKER_THREADS"];

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Time from the start of the process until it said that it listens.
    pub(crate) started_in: Duration,
}

impl Server {
    /// Starts `command` and waits for a line on its stderr with the URL of its endpoint.
    ///
    /// The environment is not inherited, apart from `PATH`, `TOKIO_WORKER_THREADS` and what `command`
    /// sets. stderr is read
    /// to its end, so that a server that logs is not slowed down by a full pipe.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let set: Vec<_> =
            command.get_envs().map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned))).collect();
        command.env_clear();
        command.envs(set.into_iter().filter_map(|(key, value)| Some((key, value?))));
        for key in INHERITED {
            if let (Some(value), None) = (std::env::var_os(key), command.get_envs().find(|(set, _)| *set == key)) {
                command.env(key, value);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());

        let begun = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let stderr = child.stderr.take().context("stderr was just made a pipe")?;
        let (said, lines) = mpsc::channel();
        thread::spawn(move || read_until_listening(BufReader::new(stderr), &said));
        let found = match lines.recv_timeout(START_MAX) {
            Ok(Ok(address)) => Ok((address, begun.elapsed())),
            Ok(Err(stderr)) => Err(anyhow!("it ended instead of listening:\n{stderr}")),
            Err(_) => Err(anyhow!("it did not say where it listens within {} s", START_MAX.as_secs())),
        };
        match found {
            Ok((address, started_in)) => Ok(Self { child, address, started_in }),
            Err(error) => {
                // It may have ended by itself; the error above is what matters.
                let _ = child.kill();
                let _ = child.wait();
                Err(error.context(format!("cannot start {command:?}")))
            }
        }
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .with_context(|| format!("no VmRSS in {path}"))?;
        Ok(kib * 1024)
    }

    /// Asks the server to end with SIGTERM and waits for it.
    pub(crate) fn terminate(mut self) -> Result<ExitStatus> {
        // The standard library only kills; the shell's own `kill` is on every system.
        let kill = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status()?;
        if !kill.success() {
            bail!("cannot send SIGTERM to the server");
        }
        let deadline = Instant::now() + END_MAX;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the server did not end within {} s of SIGTERM", END_MAX.as_secs());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors mean that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends the address once, or what stderr said when it ends without one; then reads to the end.
fn read_until_listening(mut stderr: impl BufRead, said: &mpsc::Sender<Result<SocketAddr, String>>) {
    let mut all = String::new();
    loop {
        let start = all.len();
        let room = STDERR_KEPT_BYTES.saturating_sub(start as u64);
        match (&mut stderr).take(room).read_line(&mut all) {
            Ok(0) | Err(_) => {
                let _ = said.send(Err(all));
                break;
            }
            Ok(_) => {
                if let Some(address) = listening(&all[start..]) {
                    let _ = said.send(Ok(address));
                    break;
                }
            }
        }
    }
    let _ = std::io::copy(&mut stderr, &mut std::io::sink());
}

/// The address in a line like `mcp-bridge: listening on http://127.0.0.1:8808/mcp`, or in its JSON
/// form.
fn listening(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening")?;
    let (_, url) = rest.split_once("http://")?;
    url.split(['/', '"', ' ', '\n']).next()?.parse().ok()
}
