//! A tunnel's agent: started as a child, asked for the public URL, and started again when it ends.
//!
//! The URL that it is given is the bridge's identity on the network: the resource and, with the
//! embedded authorization server, the issuer follow from it. So it is known before anything is
//! answered, it is never taken from a request, and when it changes everything that depends on it is
//! made anew.

mod cloudflared;
mod ngrok;

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};
use url::Url;

use crate::{
    backend::child::{ExitDescription, Handle, Input, Output, Program, SpawnError, Undertaker},
    token::{BuildError, fetch::Fetcher},
};

/// From its start to a public URL that works: a login, a certificate and a name take seconds.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions to an agent that starts.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Between two looks at whether the URL is still the same.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Before an agent that has ended is started again; doubled each time, up to a minute.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Each step of ending it. It has nothing to save.
const GRACE: Duration = Duration::from_millis(500);
/// Its lines are short; a longer one is none that is understood.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Which program makes the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Cloudflare Tunnel.
    Cloudflared,
    /// ngrok.
    Ngrok,
}

impl Agent {
    fn program(self) -> &'static str {
        match self {
            Self::Cloudflared => "cloudflared",
            Self::Ngrok => "ngrok",
        }
    }

    /// Where it comes from.
    fn page(self) -> &'static str {
        match self {
            Self::Cloudflared => "https://developers.cloudflare.com/cloudflare-one/networks/connectors/cloudflare-tunnel/downloads/",
            Self::Ngrok => "https://ngrok.com/download",
        }
    }

    /// What helps when it ends at once.
    fn advice(self) -> &'static str {
        match self {
            Self::Cloudflared => {
                "its own words are in the log above; a quick tunnel needs no account, and no config.yml in ~/.cloudflared"
            }
            Self::Ngrok => {
                "its own words are in the log above; sign in with `ngrok config add-authtoken TOKEN`, or set NGROK_AUTHTOKEN"
            }
        }
    }
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The agent is not installed, or cannot be run.
    #[error("cannot start the tunnel: {error}. {agent} is at {}", agent.page())]
    Spawn {
        /// Which.
        agent: Agent,
        /// What is wrong with it.
        error: SpawnError,
    },
    /// The agent has ended without a tunnel.
    #[error("{agent} {how}{}; {}", quote(words), agent.advice())]
    Ended {
        /// Which.
        agent: Agent,
        /// How.
        how: ExitDescription,
        /// The error that it wrote last, as far as it writes some that can be understood.
        words: String,
    },
    /// The agent runs and has no tunnel.
    #[error("{agent} has no public URL after {} s; its own words are in the log above", START_PATIENCE.as_secs())]
    Late {
        /// Which.
        agent: Agent,
    },
    /// `cloudflared` finds a tunnel with a name of its own by its token.
    #[error(
        "cloudflared needs the token of the tunnel that public_url belongs to: set TUNNEL_TOKEN, or leave public_url \
         out for a quick tunnel"
    )]
    NoToken,
    /// There is no port for its local page.
    #[error("cannot find a free port for {agent}: {error}")]
    Port {
        /// Which.
        agent: Agent,
        /// Why not.
        error: std::io::Error,
    },
    /// The system's random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// It cannot be asked.
    #[error("the agent cannot be asked: {0}")]
    Client(#[from] BuildError),
}

fn quote(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

/// What is put on the network.
#[derive(Clone, Debug)]
pub struct Settings {
    /// By whom.
    pub agent: Agent,
    /// Where the bridge listens.
    pub bound: SocketAddr,
    /// A lasting URL that belongs to the tunnel already; `None` takes whatever is given.
    pub public_url: Option<String>,
}

impl Settings {
    /// Where the agent finds the bridge: on this machine.
    fn target(&self) -> SocketAddr {
        let mut target = self.bound;
        if target.ip().is_unspecified() {
            target.set_ip(if target.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        target
    }
}

/// A tunnel that is up, or comes up again. Dropping it ends the agent.
#[derive(Debug)]
pub struct Tunnel {
    settings: Settings,
    fetcher: Fetcher,
    undertaker: Undertaker,
    url: String,
    running: Option<Running>,
}

/// One run of the agent.
#[derive(Debug)]
struct Running {
    handle: Handle,
    /// Some agents end with their input.
    _input: Input,
    /// `None`: it has closed its output.
    output: Option<Output>,
    talk: Talk,
}

/// How to ask an agent.
#[derive(Debug)]
enum Talk {
    Cloudflared(cloudflared::Talk),
    Ngrok(ngrok::Talk),
}

impl Tunnel {
    /// A tunnel that is not up yet.
    ///
    /// # Errors
    /// [`TunnelError::NoToken`], and what the system lacks.
    pub fn new(settings: Settings) -> Result<Self, TunnelError> {
        let is_lasting = settings.agent == Agent::Cloudflared && settings.public_url.is_some();
        if is_lasting && ["TUNNEL_TOKEN", "TUNNEL_TOKEN_FILE"].iter().all(|name| std::env::var_os(name).is_none()) {
            return Err(TunnelError::NoToken);
        }
        let fetcher = Fetcher::new(true)?;
        let undertaker = Undertaker::new().map_err(TunnelError::Random)?;
        Ok(Self { settings, fetcher, undertaker, url: String::new(), running: None })
    }

    /// Starts the agent and waits, at most a minute, until it has a public URL, which is an origin.
    ///
    /// # Errors
    /// [`TunnelError`]
    pub async fn open(&mut self) -> Result<String, TunnelError> {
        self.url = self.start().await?;
        Ok(self.url.clone())
    }

    /// Ends the agent, within a second or so.
    pub async fn close(mut self) {
        self.running = None;
        self.undertaker.close(GRACE * 2).await;
    }

    /// Waits until the tunnel has another URL; meanwhile starts the agent again whenever it ends.
    pub async fn moved(&mut self) -> String {
        loop {
            let url = match &mut self.running {
                None => self.start_again().await,
                Some(running) => match running.watch(&self.fetcher, &self.settings).await {
                    Some(url) => url,
                    None => {
                        self.running = None;
                        continue;
                    }
                },
            };
            if url != self.url {
                self.url.clone_from(&url);
                return url;
            }
        }
    }

    async fn start_again(&mut self) -> String {
        let mut pause = FIRST_PAUSE;
        loop {
            sleep(pause).await;
            match self.start().await {
                Ok(url) => {
                    info!(%url, "the tunnel is up again");
                    return url;
                }
                Err(error) => warn!(%error, "the tunnel is down; trying again"),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn start(&mut self) -> Result<String, TunnelError> {
        let agent = self.settings.agent;
        let (arguments, talk) = match agent {
            Agent::Cloudflared => {
                let (arguments, talk) = cloudflared::start(&self.settings)
                    .map_err(|error| TunnelError::Port { agent, error })?;
                (arguments, Talk::Cloudflared(talk))
            }
            Agent::Ngrok => (ngrok::arguments(&self.settings), Talk::Ngrok(ngrok::Talk::default())),
        };
        // Their own tokens, which no argument may show.
        let pass = ["NGROK_*".to_owned(), "TUNNEL_*".to_owned()];
        let program = Program {
            name: agent.program().to_owned(),
            command: agent.program().into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: Program::environment(std::env::vars_os(), &pass, &[]),
            working_dir: None,
            max_line_bytes: MAX_LINE_BYTES,
            grace: GRACE,
        };
        let process =
            program.spawn(&[], &self.undertaker, ()).map_err(|error| TunnelError::Spawn { agent, error })?;
        let mut running =
            Running { handle: process.handle, _input: process.input, output: Some(process.output), talk };
        let url = timeout(START_PATIENCE, running.first_url(&self.fetcher, &self.settings))
            .await
            .map_err(|_| TunnelError::Late { agent })??;
        self.running = Some(running);
        Ok(url)
    }
}

impl Running {
    /// Asks until there is a URL, or the agent has ended.
    async fn first_url(&mut self, fetcher: &Fetcher, settings: &Settings) -> Result<String, TunnelError> {
        loop {
            if let Some(url) = self.talk.ask(fetcher, settings).await {
                return Ok(url);
            }
            if let Some(how) = self.rest(ASK_EVERY).await {
                let words = self.talk.last_words().to_owned();
                return Err(TunnelError::Ended { agent: settings.agent, how, words });
            }
        }
    }

    /// Waits until the agent says another URL than before, or has ended: `None`.
    async fn watch(&mut self, fetcher: &Fetcher, settings: &Settings) -> Option<String> {
        if let Some(how) = self.rest(LOOK_EVERY).await {
            warn!(agent = %settings.agent, "the tunnel's agent {how}; starting it again");
            return None;
        }
        loop {
            if let Some(url) = self.talk.ask(fetcher, settings).await {
                return Some(url);
            }
            // It is connecting anew, or ends.
            if let Some(how) = self.rest(LOOK_EVERY).await {
                warn!(agent = %settings.agent, "the tunnel's agent {how}; starting it again");
                return None;
            }
        }
    }

    /// Hears it for `span`; says how it ended, if it does.
    async fn rest(&mut self, span: Duration) -> Option<ExitDescription> {
        let hear = async {
            loop {
                let Some(output) = &mut self.output else { return std::future::pending().await };
                match output.next().await {
                    Ok(line) => self.talk.hear(&line),
                    Err(error @ crate::backend::child::OutputError::TooLong { .. }) => debug!(%error, "skipped"),
                    Err(_) => self.output = None,
                }
            }
        };
        tokio::select! {
            biased;
            // What it says before it ends is heard before its end.
            never = hear => never,
            how = self.handle.ended() => Some(how),
            () = sleep(span) => None,
        }
    }
}

impl Talk {
    /// The public URL, once the tunnel is up.
    async fn ask(&self, fetcher: &Fetcher, settings: &Settings) -> Option<String> {
        match self {
            Self::Cloudflared(talk) => talk.ask(fetcher, settings).await,
            Self::Ngrok(talk) => talk.ask(fetcher, settings).await,
        }
    }

    fn hear(&mut self, line: &Bytes) {
        match self {
            // It speaks on stderr, which goes to the log.
            Self::Cloudflared(_) => debug!(line = %String::from_utf8_lossy(line), "cloudflared"),
            Self::Ngrok(talk) => talk.hear(line),
        }
    }

    fn last_words(&self) -> &str {
        match self {
            Self::Cloudflared(_) => "",
            Self::Ngrok(talk) => talk.last_words(),
        }
    }
}

/// The JSON at `path` of an agent's own page, if it answers with some and with success.
async fn look(fetcher: &Fetcher, address: SocketAddr, path: &str) -> Option<serde_json::Value> {
    let url = Url::parse(&format!("http://{address}{path}")).ok()?;
    let answer = fetcher.get_json(&url).await.ok()?;
    answer.status.is_success().then(|| serde_json::from_slice(&answer.body).ok())?
}

/// `url` as an origin, if it is https and nothing else: anything more would become part of who we are.
fn origin(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let is_bare = url.scheme() == "https" && url.path() == "/" && url.query().is_none() && url.username().is_empty();
    is_bare.then(|| url.origin().ascii_serialization())
}
