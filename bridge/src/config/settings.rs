//! The table of settings: each is spelled, explained and given its default here and nowhere else.
//!
//! A flag, an environment variable, a key of the file, a line of `--help` and a row of
//! `check-config` follow from an entry. What remains is to read it in [`super::resolve`].

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its key in the file; flag and environment variable follow from it.
    pub(crate) key: &'static str,
    /// The help section it is listed in.
    pub(crate) heading: &'static str,
    /// What stands for its value in the help.
    pub(crate) value_name: &'static str,
    /// One line: what it is for.
    pub(crate) help: &'static str,
    /// The default, as one would write it.
    pub(crate) default: Option<&'static str>,
    /// How it may be written.
    pub(crate) kind: Kind,
}

/// How a setting may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One value.
    One,
    /// Several values: the flag repeated, commas in the environment, an array in the file.
    Many,
    /// `true` or `false`; the flag alone means `true`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A path.
    File,
    /// A directory's path.
    Directory,
    /// A path that only a flag or the environment can give: that of the file itself.
    ConfigFile,
    /// A program and its arguments: what follows `--`, an array in the file, no variable.
    Command,
    /// As [`Kind::Many`], for texts like `NAME=VALUE` whose values are never shown.
    Variables,
    /// A value that only the environment can give, and that is never shown.
    Secret,
}

impl Setting {
    const fn new(key: &'static str, heading: &'static str, value_name: &'static str, help: &'static str) -> Self {
        Self { key, heading, value_name, help, default: None, kind: Kind::One }
    }

    const fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// The flag's name, without its dashes.
    pub(crate) fn flag_name(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variable's name.
    pub(crate) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.key.to_ascii_uppercase())
    }

    /// Whether the command line can give it.
    pub(crate) fn has_flag(&self) -> bool {
        self.kind != Kind::Secret
    }

    /// Whether an environment variable can give it.
    pub(super) fn has_variable(&self) -> bool {
        self.kind != Kind::Command
    }

    /// Whether the file can give it.
    pub(crate) fn has_key(&self) -> bool {
        !matches!(self.kind, Kind::Secret | Kind::ConfigFile)
    }
}

/// What the environment variables of settings begin with.
pub(super) const VARIABLE_PREFIX: &str = "MCP_BRIDGE_";

const LISTENING: &str = "Listening";
const SERVED: &str = "Served command";
const AUTHORIZATION: &str = "Authorization";
const BROWSERS: &str = "Browsers and proxies";
const METADATA: &str = "Metadata";
const LIMITS: &str = "Limits";
const OPERATIONS: &str = "Operations";

macro_rules! settings {
    ($($name:ident = $setting:expr;)*) => {
        $(pub(super) static $name: Setting = $setting;)*

        /// Every setting, in the order of the help.
        pub(crate) static ALL: &[&Setting] = &[$(&$name),*];
    };
}

settings! {
    CONFIG = Setting::new("config", LISTENING, "FILE", "TOML file with settings, and with the [policy] or several [[server]]s")
        .kind(Kind::ConfigFile);
    LISTEN = Setting::new("listen", LISTENING, "ADDRESS:PORT", "Where to listen; port 0 picks a free one")
        .default("127.0.0.1:8808");
    PATH = Setting::new("path", LISTENING, "PATH", "Path of the MCP endpoint").default("/mcp");
    PUBLIC_URL = Setting::new("public_url", LISTENING, "URL",
        "Origin (and path prefix, if any) under which clients reach this server, like https://mcp.example.com; \
         unset: the listening address");
    TUNNEL = Setting::new("tunnel", LISTENING, "cloudflared|ngrok",
        "Start this tunnel agent, be reached through it, and take the public URL from it; with --public-url: a tunnel \
         that has that URL")
        .kind(Kind::Choice(&["cloudflared", "ngrok"]));
    TUNNEL_TIMEOUT = Setting::new("tunnel_timeout", LISTENING, "DURATION", "Time for the agent to have a tunnel")
        .default("30s");
    TLS_CERT = Setting::new("tls_cert", LISTENING, "FILE", "PEM certificate chain; serves HTTPS, needs --tls-key")
        .kind(Kind::File);
    TLS_KEY = Setting::new("tls_key", LISTENING, "FILE", "PEM private key that belongs to --tls-cert")
        .kind(Kind::File);

    COMMAND = Setting::new("command", SERVED, "COMMAND",
        "Stdio MCP server to serve, with its arguments: -- npx -y @modelcontextprotocol/server-everything; \
         unset: the calculator")
        .kind(Kind::Command);
    WORKING_DIR = Setting::new("working_dir", SERVED, "DIR", "Where the command runs; unset: where this program does")
        .kind(Kind::Directory);
    ENV = Setting::new("env", SERVED, "NAME[=VALUE]",
        "Set a variable for the command, or pass on this program's own of that name; repeatable. `ps` shows a VALUE \
         here to everybody, and --env NAME does not; the environment variable takes names only")
        .kind(Kind::Variables);
    ISOLATION = Setting::new("isolation", SERVED, "request|session|shared",
        "request: a child per modern request; session: one per legacy session, and one per user and client \
         otherwise; shared: one for all, only for servers that keep no state")
        .kind(Kind::Choice(&["request", "session", "shared"])).default("request");
    POOL = Setting::new("pool", SERVED, "COUNT", "Children kept ready").default("2");
    MAX_CHILDREN = Setting::new("max_children", SERVED, "COUNT", "Children at once, those kept ready among them")
        .default("64");
    POOL_IDLE = Setting::new("pool_idle", SERVED, "DURATION",
        "After this long without a request only one child is kept ready").default("5m");
    START_TIMEOUT = Setting::new("start_timeout", SERVED, "DURATION",
        "Time for a child to be ready; npx may have to download it first").default("60s");
    STOP_GRACE = Setting::new("stop_grace", SERVED, "DURATION",
        "Time for a child to end after its stdin is closed, and again after SIGTERM").default("3s");
    MAX_MESSAGE_BYTES = Setting::new("max_message_bytes", SERVED, "SIZE", "Longest message of the command")
        .default("32MiB");
    FILTER_LISTS = Setting::new("filter_lists", SERVED, "true|false",
        "tools/list shows a caller only the tools that their scopes allow")
        .kind(Kind::Switch).default("false");
    DENIAL = Setting::new("denial", SERVED, "http|tool-error",
        "How a missing scope is told: HTTP 403, or a tool error for clients that cannot step up")
        .kind(Kind::Choice(&["http", "tool-error"])).default("http");
    LEGACY_SSE = Setting::new("legacy_sse", SERVED, "true|false",
        "Serve the HTTP+SSE transport of 2024-11-05 too, at PATH/sse")
        .kind(Kind::Switch).default("false");

    AUTH = Setting::new("auth", AUTHORIZATION, "embedded|introspection|jwt|none",
        "Who decides about tokens; embedded: this program, which then signs its users in; none lets everybody in, on \
         loopback only; unset: introspection if it is set up, else embedded")
        .kind(Kind::Choice(&["embedded", "introspection", "jwt", "none"]));
    STATE_DIR = Setting::new("state_dir", AUTHORIZATION, "DIR",
        "Where the embedded authorization server keeps users, consents and hashes of tokens; unset: the platform's \
         folder for state")
        .kind(Kind::Directory);
    APPROVE = Setting::new("approve", AUTHORIZATION, "passphrase|terminal",
        "How users of the embedded authorization server sign in; terminal: whoever can run this program on this \
         machine confirms a code, and no passphrase is reachable from the network")
        .kind(Kind::Choice(&["passphrase", "terminal"])).default("passphrase");
    REGISTRATION = Setting::new("registration", AUTHORIZATION, "open|window",
        "Who may register clients at the embedded authorization server; window: everybody, for the minutes after \
         `mcp-bridge apps open`")
        .kind(Kind::Choice(&["open", "window"])).default("open");
    REDIRECT_SCHEME = Setting::new("redirect_scheme", AUTHORIZATION, "SCHEME",
        "Let clients have answers sent to this private URI scheme, besides https, http on loopback and cursor; \
         repeatable")
        .kind(Kind::Many);
    ISSUER = Setting::new("issuer", AUTHORIZATION, "URL",
        "Authorization server that issues the tokens, exactly as its metadata names itself");
    INTROSPECTION_URL = Setting::new("introspection_url", AUTHORIZATION, "URL",
        "Where to ask about tokens; unset: as the issuer's metadata says");
    INTROSPECTION_CLIENT_ID = Setting::new("introspection_client_id", AUTHORIZATION, "ID",
        "Client ID of this server at the authorization server");
    INTROSPECTION_CLIENT_SECRET = Setting::new("introspection_client_secret", AUTHORIZATION, "SECRET",
        "Client secret of this server at the authorization server")
        .kind(Kind::Secret);
    INTROSPECTION_CLIENT_SECRET_FILE = Setting::new("introspection_client_secret_file", AUTHORIZATION, "FILE",
        "File that holds the client secret; the secret itself is never a flag")
        .kind(Kind::File);
    INTROSPECTION_CACHE = Setting::new("introspection_cache", AUTHORIZATION, "DURATION",
        "How long a revoked token may still work; 0s asks about every request").default("15s");
    REQUIRE_EXP = Setting::new("require_exp", AUTHORIZATION, "true|false", "Refuse tokens without an expiry")
        .kind(Kind::Switch).default("false");
    JWKS_URL = Setting::new("jwks_url", AUTHORIZATION, "URL",
        "Where the issuer's keys are, for --auth jwt; unset: as the issuer's metadata says");
    ACCEPTED_AUDIENCE = Setting::new("accepted_audience", AUTHORIZATION, "AUDIENCE",
        "Accept tokens for this audience too, besides this server's own URL; repeatable")
        .kind(Kind::Many);

    ALLOWED_ORIGIN = Setting::new("allowed_origin", BROWSERS, "ORIGIN",
        "Let web pages of this origin call, like https://app.example.com; repeatable; unset: loopback origins")
        .kind(Kind::Many);
    ALLOWED_HOST = Setting::new("allowed_host", BROWSERS, "HOST",
        "Accept this Host too, besides the public and the listening one; repeatable")
        .kind(Kind::Many);
    TRUSTED_PROXY = Setting::new("trusted_proxy", BROWSERS, "IP",
        "Believe X-Forwarded-For from this address, for the log only; repeatable")
        .kind(Kind::Many);

    RESOURCE_NAME = Setting::new("resource_name", METADATA, "NAME", "Name that clients may show to people");
    RESOURCE_DOCUMENTATION = Setting::new("resource_documentation", METADATA, "URL",
        "Page for people who write clients");

    MAX_BODY_BYTES = Setting::new("max_body_bytes", LIMITS, "SIZE", "Longest request body").default("4MiB");
    MAX_HEADER_BYTES = Setting::new("max_header_bytes", LIMITS, "SIZE", "Longest request headers").default("32KiB");
    MAX_CONNECTIONS = Setting::new("max_connections", LIMITS, "COUNT", "Connections at once").default("1024");
    MAX_CONCURRENT_REQUESTS = Setting::new("max_concurrent_requests", LIMITS, "COUNT",
        "Requests at once; one user gets at most half of them").default("256");
    RATE_LIMIT = Setting::new("rate_limit", LIMITS, "COUNT",
        "Requests per second of one user; 0 does not limit them").default("50");
    RATE_BURST = Setting::new("rate_burst", LIMITS, "COUNT", "Requests of one user at once, after a pause")
        .default("100");
    HEADER_TIMEOUT = Setting::new("header_timeout", LIMITS, "DURATION",
        "Time to send the request headers, from the connection or the previous answer on").default("30s");
    BODY_TIMEOUT = Setting::new("body_timeout", LIMITS, "DURATION", "Time to send the request body").default("30s");
    WRITE_TIMEOUT = Setting::new("write_timeout", LIMITS, "DURATION",
        "Time a client may read nothing of its answer").default("30s");
    REQUEST_TIMEOUT = Setting::new("request_timeout", LIMITS, "DURATION", "Time to answer a request").default("60s");
    SESSION_IDLE = Setting::new("session_idle", LIMITS, "DURATION",
        "How long an unused session is kept (clients of 2025-11-25 and earlier)").default("30m");
    MAX_SESSIONS = Setting::new("max_sessions", LIMITS, "COUNT", "Sessions at once, of each server").default("10000");
    MAX_SESSIONS_PER_PRINCIPAL = Setting::new("max_sessions_per_principal", LIMITS, "COUNT",
        "Sessions of one user at once, at each server").default("100");
    KEEP_ALIVE = Setting::new("keep_alive", LIMITS, "DURATION", "Time between signs of life on an idle event stream")
        .default("15s");
    DRAIN_TIMEOUT = Setting::new("drain_timeout", LIMITS, "DURATION",
        "Time for accepted requests to end at shutdown").default("30s");

    METRICS_LISTEN = Setting::new("metrics_listen", OPERATIONS, "ADDRESS:PORT",
        "Serve Prometheus metrics here, to everybody who can connect; unset: nowhere");
    AUDIT_LOG = Setting::new("audit_log", OPERATIONS, "FILE",
        "Append to this file who called what, and whether they might; unset: none")
        .kind(Kind::File);
    AUDIT_ARGUMENTS = Setting::new("audit_arguments", OPERATIONS, "true|false",
        "Write the values of tool arguments to the audit file too")
        .kind(Kind::Switch).default("false");
    LOG_LEVEL = Setting::new("log_level", OPERATIONS, "error|warn|info|debug|trace", "What to log on stderr")
        .kind(Kind::Choice(&["error", "warn", "info", "debug", "trace"])).default("info");
    LOG_FORMAT = Setting::new("log_format", OPERATIONS, "text|json", "How a log line looks")
        .kind(Kind::Choice(&["text", "json"])).default("text");
}

/// What only a served command has a use for.
pub(super) static OF_COMMANDS: [&Setting; 9] =
    [&WORKING_DIR, &ENV, &ISOLATION, &POOL, &MAX_CHILDREN, &POOL_IDLE, &START_TIMEOUT, &STOP_GRACE, &MAX_MESSAGE_BYTES];

/// Whether it matters when a command is only asked what it offers.
pub(crate) fn is_for_asking(setting: &Setting) -> bool {
    is_for_starting(setting) || [&LOG_LEVEL, &LOG_FORMAT].iter().any(|known| known.key == setting.key)
}

/// Whether it says what a command is and how it is started.
pub(crate) fn is_for_starting(setting: &Setting) -> bool {
    let all = [&COMMAND, &WORKING_DIR, &ENV, &START_TIMEOUT, &STOP_GRACE, &MAX_MESSAGE_BYTES];
    all.iter().any(|known| known.key == setting.key)
}

/// Whether each `[[server]]` may have its own.
pub(super) fn is_per_server(setting: &Setting) -> bool {
    let others = [&PATH, &COMMAND, &FILTER_LISTS, &DENIAL, &LEGACY_SSE, &RESOURCE_NAME, &RESOURCE_DOCUMENTATION];
    OF_COMMANDS.iter().chain(&others).any(|known| known.key == setting.key)
}

/// Whether a `[[server]]` that leaves it out takes the one above the tables.
pub(super) fn is_inherited(setting: &Setting) -> bool {
    ![&PATH, &COMMAND].iter().any(|own| own.key == setting.key)
}

/// The variables of PropelAuth's own examples: the three of them alone are enough.
pub(super) const PROPELAUTH_VARIABLES: [&str; 3] =
    [PROPELAUTH_AUTH_URL, PROPELAUTH_INTROSPECTION_CLIENT_ID, PROPELAUTH_INTROSPECTION_CLIENT_SECRET];
pub(super) const PROPELAUTH_AUTH_URL: &str = "PROPELAUTH_AUTH_URL";
pub(super) const PROPELAUTH_INTROSPECTION_CLIENT_ID: &str = "PROPELAUTH_INTROSPECTION_CLIENT_ID";
pub(super) const PROPELAUTH_INTROSPECTION_CLIENT_SECRET: &str = "PROPELAUTH_INTROSPECTION_CLIENT_SECRET";
