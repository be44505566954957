//! A bridge before a command, its users, and its processes as the system sees them.

use std::{
    collections::BTreeSet,
    fs,
    hash::{BuildHasher as _, RandomState},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::client::Client;
use crate::{
    common::{
        authorization_server::AuthorizationServer,
        bridge::{Bridge, CommandLine, field},
        http::Request,
        unix_now,
    },
    everything::example,
};

/// How long these tests wait for what must happen. The bridge looks after what was left every ten
/// seconds, and the machine may be busy.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// Every process of a rig has it in its environment, with a value that no other rig has.
const MARK: &str = "MARK_OF_THIS_TEST";

/// Looks now and then whether `event` has happened.
///
/// # Panics
/// If it has not happened after [`LONG`].
pub(super) fn eventually(what: &str, mut event: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !event() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A bridge, and the authorization server it asks.
pub(super) struct Rig {
    pub(super) bridge: Bridge,
    server: AuthorizationServer,
    mark: String,
    tokens: AtomicUsize,
}

impl Rig {
    /// The server `everything` in this era, kept in this way.
    pub(super) fn everything(era: &str, isolation: &str, more: impl FnOnce(CommandLine) -> CommandLine) -> Self {
        let path = example("everything");
        let command = [path.to_str().expect("UTF-8"), "--era", era];
        Self::of(&command, |line| more(line.flag("--isolation", isolation)))
    }

    /// The server `faulty` in this mode, which does not need a minute for anything.
    pub(super) fn faulty(mode: &[&str], more: impl FnOnce(CommandLine) -> CommandLine) -> Self {
        let path = example("faulty");
        let command = [&[path.to_str().expect("UTF-8")], mode].concat();
        Self::of(&command, |line| more(line.flag("--start-timeout", "5s").flag("--stop-grace", "200ms")))
    }

    pub(super) fn of(command: &[&str], more: impl FnOnce(CommandLine) -> CommandLine) -> Self {
        let introspection =
            |line: CommandLine, server: &_| line.introspection(server).flag("--introspection-cache", "60s");
        Self::with_authorization(command, introspection, more)
    }

    /// The server `everything`, a process for each request, for whoever comes.
    pub(super) fn without_authorization(more: impl FnOnce(CommandLine) -> CommandLine) -> Self {
        let path = example("everything");
        let command = [path.to_str().expect("UTF-8"), "--era", "both"];
        Self::with_authorization(&command, |line, _| line.flag("--auth", "none"), more)
    }

    fn with_authorization(
        command: &[&str],
        authorization: impl FnOnce(CommandLine, &AuthorizationServer) -> CommandLine,
        more: impl FnOnce(CommandLine) -> CommandLine,
    ) -> Self {
        let server = AuthorizationServer::start();
        let mark = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        let line = authorization(CommandLine::serve(), &server)
            .flag("--rate-limit", "0")
            .flag("--log-level", "info")
            .flag("--env", format!("{MARK}={mark}"))
            .env("PATH", "/usr/bin:/bin")
            .command_to_serve(command);
        Self { bridge: more(line).spawn(), server, mark, tokens: AtomicUsize::new(0) }
    }

    /// A new token of this user through this client.
    pub(super) fn token(&self, user: &str, client: &str) -> String {
        let token = format!("canary-token-{}", self.tokens.fetch_add(1, Ordering::Relaxed));
        let answer = json!({
            "active": true,
            "sub": user,
            "username": format!("{user}@example.com"),
            "client_id": client,
            "scope": "mcp other",
            "aud": self.bridge.resource(),
            "iat": unix_now() - 10,
            "exp": unix_now() + 3600,
        });
        self.server.set(&token, &answer);
        token
    }

    /// A modern client of this user.
    pub(super) fn modern(&self, user: &str) -> Client {
        Client::modern(self.bridge.address(), &self.token(user, "app"))
    }

    /// A legacy client of this user, in a session of its own.
    pub(super) fn legacy(&self, user: &str) -> Client {
        Client::legacy(self.bridge.address(), &self.token(user, "app"))
    }

    /// A client of this user in each era.
    pub(super) fn both(&self, user: &str) -> [Client; 2] {
        [self.modern(user), self.legacy(user)]
    }

    /// The children, and what they have started.
    pub(super) fn processes(&self) -> BTreeSet<u32> {
        let mark = format!("{MARK}={}", self.mark).into_bytes();
        let is_ours = |id: &u32| {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark)
        };
        numbers("/proc").filter(is_ours).collect()
    }

    /// Waits until this many of them are left.
    pub(super) fn wait_for_processes(&self, count: usize) {
        eventually(&format!("{count} processes"), || self.processes().len() == count);
    }

    /// Waits until none of these is left.
    pub(super) fn wait_for_end_of(&self, gone: &BTreeSet<u32>) {
        eventually("their end", || self.processes().is_disjoint(gone));
    }

    /// The bridge's own children that nobody has waited for.
    pub(super) fn zombies(&self) -> usize {
        let parent = format!("PPid:\t{}", self.bridge.id());
        let is_ours = |id: &u32| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            status.lines().any(|line| line == parent) && status.contains("\nState:\tZ")
        };
        numbers("/proc").filter(is_ours).count()
    }

    /// How many files, pipes and sockets the bridge has open.
    pub(super) fn descriptors(&self) -> usize {
        numbers(&format!("/proc/{}/fd", self.bridge.id())).count()
    }

    /// A line of the bridge's status that is in kilobytes: `VmHWM` is the most memory that it has had,
    /// `VmRSS` what it has.
    pub(super) fn kilobytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.bridge.id())).expect("a living bridge");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {status}"))
    }

    /// The status of `/readyz`, and what it says.
    pub(super) fn readiness(&self) -> (u16, String) {
        let response = self.bridge.send(&Request::get("/readyz"));
        (response.status, response.text().to_owned())
    }

    pub(super) fn wait_until_ready(&self) {
        eventually("readiness", || self.readiness().0 == 200);
    }

    /// How often the log says this.
    pub(super) fn logged(&self, text: &str) -> usize {
        self.bridge.log_text().lines().filter(|line| line.contains(text)).count()
    }

    /// The lines on the children's standard error.
    pub(super) fn errors(&self) -> Vec<String> {
        let is_line = |event: &Value| field(event, "message") == Some(&json!("stderr"));
        let lines = self.bridge.events().into_iter().filter(is_line);
        lines.filter_map(|event| field(&event, "line")?.as_str().map(str::to_owned)).collect()
    }
}

/// The entries of a folder that are numbers.
fn numbers(folder: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(folder).expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether there is such a process, other than as a zombie.
pub(super) fn lives(id: u32) -> bool {
    fs::read_to_string(format!("/proc/{id}/status")).is_ok_and(|status| !status.contains("\nState:\tZ"))
}
