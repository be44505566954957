//! One endpoint: what is served there, and to whom.

use std::{fmt, path::PathBuf, time::Duration};

use mcp_calculator::secret::Secret;

use crate::config::policy::RawPolicy;

/// One endpoint: what is served there, and to whom.
#[derive(Clone, Debug)]
pub struct Server {
    /// What the log, the health check and people call it. Of a server without a name in the file:
    /// `calculator`, or the command's file name.
    pub name: String,
    /// The path of its endpoint under the public URL, like `/mcp`. No two servers have the same.
    pub path: String,
    /// What answers.
    pub served: Served,
    /// Its policy in the file, checked for form; `None` when there is none.
    pub policy: Option<RawPolicy>,
    /// `resource_name` of the protected resource metadata.
    pub resource_name: Option<String>,
    /// `resource_documentation` of the protected resource metadata: an http(s) URL.
    pub resource_documentation: Option<String>,
    /// Whether `tools/list` leaves out what the caller's scopes do not allow.
    pub filter_lists: bool,
    /// How a missing scope is told.
    pub denial: Denial,
    /// Whether the HTTP+SSE transport of 2024-11-05 is served too, at `sse` under the path.
    pub legacy_sse: bool,
}

/// What answers at an endpoint.
#[derive(Clone, Debug)]
pub enum Served {
    /// The calculator, in process.
    Calculator,
    /// A stdio MCP server.
    Command(Command),
}

/// A stdio MCP server, and how its processes are kept.
#[derive(Clone)]
pub struct Command {
    /// The program: a path, or a name to look for in `PATH`. Not empty.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its variables besides those that every command gets; no name twice, and none of the bridge's
    /// own.
    pub environment: Vec<Variable>,
    /// Where it runs: a directory that was there when the settings were read. `None`: where the
    /// bridge does.
    pub working_dir: Option<PathBuf>,
    /// Who shares a process with whom.
    pub isolation: Isolation,
    /// Children kept ready; at most `max_children`.
    pub pool: usize,
    /// Children at once, at least one.
    pub max_children: usize,
    /// After this long without a request only one child is kept ready.
    pub pool_idle: Duration,
    /// How long a child may take to be ready.
    pub start_timeout: Duration,
    /// How long a child may take to end after its stdin is closed, and again after SIGTERM.
    pub stop_grace: Duration,
    /// A longer message of the command is refused.
    pub max_message_bytes: usize,
}

impl fmt::Debug for Command {
    /// Shows neither values of variables nor arguments, because both may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("arguments", &self.arguments.len())
            .field("environment", &self.environment)
            .field("isolation", &self.isolation)
            .finish_non_exhaustive()
    }
}

/// A variable of a command's environment.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name: `[A-Za-z_][A-Za-z0-9_]*`.
    pub name: String,
    /// Its value; `None`: the bridge's own variable of that name, if there is one.
    pub value: Option<Secret<String>>,
}

/// Who shares a process with whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Nobody: a child per modern request, and one per legacy session.
    #[default]
    Request,
    /// The requests of one legacy session, and otherwise those of one user and client.
    Session,
    /// Everybody. Only for servers that keep no state.
    Shared,
}

/// How a missing scope is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Denial {
    /// HTTP 403 with a challenge, which the client may answer with a step-up.
    #[default]
    Http,
    /// For a tool call: a result that says so, for clients that cannot step up.
    ToolError,
}
