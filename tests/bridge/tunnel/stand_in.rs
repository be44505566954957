//! Agents that a test puts into `PATH`: see `agent.py`.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use serde_json::Value;

use super::super::{
    authserver::world::{Server, State},
    common::{
        bridge::{CommandLine, Scratch},
        http::Request,
    },
    driver,
};

/// A folder in `PATH` with both agents, and what they do in it.
#[derive(Clone)]
pub(super) struct Agents(Arc<Scratch>);

impl Agents {
    /// Agents that do at each run what `plan` says.
    pub(super) fn new(plan: &Value) -> Self {
        let scratch = Scratch::new();
        scratch.file("plan.json", plan.to_string());
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (python, agent) = (driver::file(".venv/bin/python"), package.join("../tests/bridge/tunnel/agent.py"));
        for name in ["cloudflared", "ngrok"] {
            let script =
                format!("#!/bin/sh\nexec '{}' '{}' {name} \"${{0%/*}}\" \"$@\"\n", python.display(), agent.display());
            let path = scratch.file(name, script);
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("our own file");
        }
        Self(Arc::new(scratch))
    }

    pub(super) fn path(&self) -> String {
        format!("{}:/usr/bin:/bin", self.0.path("").display())
    }

    /// What to start for a bridge with a tunnel.
    pub(super) fn line(&self, state: &State, agent: &str) -> CommandLine {
        state.line().flag("--tunnel", agent).env("PATH", self.path())
    }

    /// A bridge that is reached through its tunnel.
    pub(super) fn serve<'s>(
        &self,
        state: &'s State,
        agent: &str,
        change: impl FnOnce(CommandLine) -> CommandLine,
    ) -> Server<'s> {
        let bridge = change(self.line(state, agent)).spawn();
        let agents = self.clone();
        let host = bridge.resource().trim_start_matches("https://").trim_end_matches("/mcp").to_owned();
        let road = move |request: &Request| {
            let request = request.clone();
            let request = if request.has("Host") { request } else { request.header("Host", &host) };
            request.send(edge(&agents))
        };
        Server { bridge, state, road: Some(Box::new(road)) }
    }

    /// What each run has noted.
    pub(super) fn runs(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.0.path("runs.jsonl")).unwrap_or_default();
        // The last line may be half written.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What the last run has noted.
    pub(super) fn last(&self) -> Value {
        self.runs().pop().expect("an agent runs")
    }
}

/// Where the service of the last run's agent takes requests.
pub(super) fn edge(agents: &Agents) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], agents.last()["edge"].as_u64().expect("a port") as u16))
}

/// How many agents of that folder run, of whichever run.
#[cfg(target_os = "linux")]
pub(super) fn processes(agents: &Agents) -> usize {
    let is_alive = |run: &&Value| {
        let command = fs::read(format!("/proc/{}/cmdline", run["pid"])).unwrap_or_default();
        // A zombie's is empty; a stranger's has another folder.
        let folder = agents.0.path("");
        String::from_utf8_lossy(&command).contains(folder.to_string_lossy().trim_end_matches('/'))
    };
    agents.runs().iter().filter(is_alive).count()
}
