//! A tunnel to this machine: its agent as a child of ours, and the URL under which it leads here.
//!
//! The URL says who we are, so it comes from the agent's own words and never from a request. An agent
//! that ends is started again; whether that gives the same URL is the agent's business, and whoever
//! serves is told when it does not.

mod agent;
mod cloudflared;
mod ear;
mod ngrok;

use std::{convert::Infallible, fmt::Write as _, future::pending, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};
use url::Url;

use self::{agent::Plan, ear::Ear};
use crate::{
    backend::child::{ExitDescription, Handle, Output, OutputError, Process, SpawnError, Undertaker},
    config::{self, Agent, Config},
    token::{BuildError, fetch::Fetcher},
};

/// How long each step of an agent's end may take. It does not read its standard input, so the first
/// step is lost time, and it has no work to finish: what was accepted has been answered before.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// The first pause before an agent is started again; it doubles with each further one.
const BACK_OFF_MIN: Duration = Duration::from_millis(500);
/// Long enough to be no burden for the agent's service, short enough that a tunnel is back soon after
/// the network is.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// An agent that had a tunnel for so long has not failed at its start.
const STEADY: Duration = Duration::from_secs(60);

/// How long the last words of an agent that has ended may take to arrive.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The agent is not there.
    #[error("the tunnel agent `{agent}` is not installed: it is in no folder of PATH; {advice}")]
    Missing {
        /// Its name.
        agent: &'static str,
        /// Where it comes from.
        advice: &'static str,
    },
    /// The agent cannot be run.
    #[error(transparent)]
    Start(#[from] SpawnError),
    /// It ended.
    #[error("the tunnel agent `{agent}` {how} before it had a tunnel{said}")]
    Ended {
        /// Its name.
        agent: &'static str,
        /// How.
        how: ExitDescription,
        /// Its last words, and what to do.
        said: String,
    },
    /// It had no tunnel in time.
    #[error("the tunnel agent `{agent}` has no tunnel after {}; is this machine online? --tunnel-timeout gives it more \
             time{said}", humantime::format_duration(*after))]
    Late {
        /// Its name.
        agent: &'static str,
        /// The time it had.
        after: Duration,
        /// Its last words, and what to do.
        said: String,
    },
    /// What it says is no URL for clients.
    #[error("the tunnel agent `{agent}` says that its tunnel is `{said}`, which is no https URL of a host")]
    Url {
        /// Its name.
        agent: &'static str,
        /// What it says.
        said: String,
    },
    /// Its tunnel is another one.
    #[error("the tunnel has the URL {found}, and public_url is {wanted}; set public_url to a URL that is yours there")]
    Other {
        /// Its URL.
        found: String,
        /// Ours.
        wanted: String,
    },
    /// No HTTP client.
    #[error(transparent)]
    Client(#[from] BuildError),
}

impl TunnelError {
    /// Whether trying again would not help.
    pub(crate) fn is_setting(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

/// Looks whether the agent is there that `config` asks for. Starts nothing.
///
/// # Errors
/// [`TunnelError::Missing`]
pub(crate) fn check(config: &Config) -> Result<(), TunnelError> {
    let Some(tunnel) = config.tunnel else { return Ok(()) };
    let plan = Plan::new(tunnel, None, config.listen);
    if plan.program(&Arc::new(Ear::new(&plan))).is_installed() { Ok(()) } else { Err(plan.missing()) }
}

/// A tunnel that leads here. Dropping it ends its agent.
pub(crate) struct Tunnel {
    plan: Plan,
    undertaker: Undertaker,
    fetcher: Fetcher,
    running: Running,
}

/// An agent that has a tunnel.
struct Running {
    /// The origin under which it leads here.
    url: String,
    /// Where it last said that its tunnel is.
    places: watch::Receiver<Option<String>>,
    output: Output,
    handle: Handle,
    since: Instant,
}

impl Tunnel {
    /// Starts the agent of a tunnel to `bound`, and waits until it has one: with `public_url`, one that has
    /// that URL.
    ///
    /// # Errors
    /// [`TunnelError`], with the agent's last words.
    pub(crate) async fn open(
        tunnel: config::Tunnel,
        public_url: Option<&str>,
        bound: SocketAddr,
        undertaker: &Undertaker,
    ) -> Result<Self, TunnelError> {
        let plan = Plan::new(tunnel, public_url, bound);
        // It asks on loopback only, so it needs nobody's certificates.
        let fetcher = Fetcher::new(true)?;
        let running = start(&plan, &fetcher, undertaker).await?;
        Ok(Self { plan, undertaker: undertaker.clone(), fetcher, running })
    }

    /// The URL under which clients reach us: an origin, or the public URL of the settings.
    pub(crate) fn url(&self) -> &str {
        &self.running.url
    }

    /// Keeps it open: starts the agent again whenever it has ended, and puts each URL into `urls`. Ends
    /// when no agent can be started any more, because the bridge ends.
    pub(crate) async fn keep(mut self, urls: &watch::Sender<String>) {
        let mut pause = BACK_OFF_MIN;
        loop {
            match self.running.next().await {
                Event::Moved(place) => match self.plan.url(&place) {
                    Ok(url) => self.running.url = url,
                    Err(error) => warn!("{error}"),
                },
                Event::Over(how) => {
                    if self.running.since.elapsed() >= STEADY {
                        pause = BACK_OFF_MIN;
                    }
                    let (agent, again) = (self.plan.name(), humantime::format_duration(pause));
                    warn!("the tunnel is down: {agent} {how}; starting it again in {again}");
                    match self.start_again(&mut pause).await {
                        Some(running) => self.running = running,
                        None => return,
                    }
                    info!(url = self.running.url, "the tunnel is there again");
                }
            }
            urls.send_if_modified(|known| {
                let is_new = *known != self.running.url;
                known.clone_from(&self.running.url);
                is_new
            });
        }
    }

    /// Starts the agent until it has a tunnel, each time after `pause`, which grows. `None` when the bridge
    /// ends.
    async fn start_again(&self, pause: &mut Duration) -> Option<Running> {
        loop {
            sleep(*pause).await;
            *pause = (*pause * 2).min(BACK_OFF_MAX);
            match start(&self.plan, &self.fetcher, &self.undertaker).await {
                Ok(running) => return Some(running),
                Err(TunnelError::Start(SpawnError::Closing)) => return None,
                Err(error) => {
                    let again = humantime::format_duration(*pause);
                    // Its words are in the log already.
                    let error = error.to_string();
                    let error = error.lines().next().unwrap_or_default();
                    warn!("the tunnel stays down: {error}; trying again in {again}");
                }
            }
        }
    }
}

/// What becomes of a tunnel.
enum Event {
    /// Its agent says that it is elsewhere.
    Moved(String),
    /// Its agent has ended.
    Over(ExitDescription),
}

impl Running {
    async fn next(&mut self) -> Event {
        tokio::select! {
            how = self.handle.ended() => Event::Over(how),
            Ok(()) = self.places.changed() => {
                Event::Moved(self.places.borrow_and_update().clone().unwrap_or_default())
            }
            never = drain(&mut self.output) => match never {},
        }
    }
}

/// Starts the agent, and waits until it has a tunnel.
async fn start(plan: &Plan, fetcher: &Fetcher, undertaker: &Undertaker) -> Result<Running, TunnelError> {
    let ear = Arc::new(Ear::new(plan));
    let mut places = ear.places();
    let spawned = plan.program(&ear).spawn(&[], undertaker, ());
    let Process { mut output, handle, input } = spawned.map_err(|error| match error {
        SpawnError::NotInPath { .. } => plan.missing(),
        other => TunnelError::Start(other),
    })?;
    // Nobody has anything to say to it.
    drop(input);
    let learning = async {
        tokio::select! {
            biased;
            how = handle.ended() => Err(how),
            place = learn(plan.agent(), plan.is_named(), fetcher, &mut places) => Ok(place),
            never = drain(&mut output) => match never {},
        }
    };
    let agent = plan.name();
    match timeout(plan.timeout(), learning).await {
        // Whoever has ended says nothing true any more.
        Ok(Ok(place)) if !handle.has_ended() => {
            let url = plan.url(&place)?;
            Ok(Running { url, places, output, handle, since: Instant::now() })
        }
        Ok(ended) => {
            let how = match ended {
                Ok(_) => handle.ended().await,
                Err(how) => how,
            };
            let _ = timeout(LAST_WORDS_MAX, ear.ended()).await;
            Err(TunnelError::Ended { agent, how, said: said(plan, &ear) })
        }
        Err(_) => Err(TunnelError::Late { agent, after: plan.timeout(), said: said(plan, &ear) }),
    }
}

/// Waits until the agent has said where its tunnel is: an https URL, or nothing where that was given.
async fn learn(agent: Agent, named: bool, fetcher: &Fetcher, places: &mut watch::Receiver<Option<String>>) -> String {
    let place = places.wait_for(Option::is_some).await.ok().and_then(|place| place.clone());
    // Nobody else holds the ear, so it is there.
    let Some(place) = place else { return pending().await };
    match agent {
        Agent::Ngrok => place,
        Agent::Cloudflared => cloudflared::ask(fetcher, &place, named).await,
    }
}

/// Reads what an agent writes to standard output, which is nothing for us: it must not fill its pipe.
async fn drain(output: &mut Output) -> Infallible {
    while !matches!(output.next().await, Err(OutputError::End | OutputError::Io(_))) {}
    pending().await
}

/// The agent's last words, and what to do about them.
fn said(plan: &Plan, ear: &Ear) -> String {
    let words = ear.last_words();
    let mut text = String::new();
    if words.is_empty() {
        text.push_str("\nit said nothing");
    } else {
        text.push_str("\nits last words:");
        for line in &words {
            // A String takes every write.
            let _ = write!(text, "\n  {line}");
        }
    }
    if let Some(advice) = plan.advice(&words) {
        let _ = write!(text, "\n{advice}");
    }
    text
}

/// The origin in `text`, if it is one to which clients can go.
fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let is_origin = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    (url.scheme() == "https" && url.domain().is_some() && is_origin).then(|| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_an_https_origin_of_a_host() {
        for (text, expected) in [
            ("https://a-b.trycloudflare.com", Some("https://a-b.trycloudflare.com")),
            ("https://A.ngrok.app/", Some("https://a.ngrok.app")),
            ("https://a.ngrok.app:8443", Some("https://a.ngrok.app:8443")),
            ("http://a.ngrok.app", None),
            ("https://127.0.0.1", None),
            ("https://a.ngrok.app/x", None),
            ("https://u@a.ngrok.app", None),
            ("https://", None),
            ("tcp://0.tcp.ngrok.io:1", None),
            ("", None),
        ] {
            assert_eq!(origin(text).as_deref(), expected, "{text}");
        }
    }
}
