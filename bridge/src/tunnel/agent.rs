//! Agents: how each is started, and what to do when it does not work.

use std::{env, net::SocketAddr, sync::Arc, time::Duration};

use url::Url;

use super::{GRACE, TunnelError, ear::Ear, origin};
use crate::{
    backend::child::{Hears, Program},
    config::{self, Agent},
};

/// The longest line of an agent's standard output, on which nothing is said.
const MAX_LINE_BYTES: usize = 64 << 10;

/// How cloudflared reaches its service; a quick tunnel needs no more.
const CLOUDFLARED_NETWORK: [&str; 4] =
    ["TUNNEL_TRANSPORT_PROTOCOL", "TUNNEL_EDGE_IP_VERSION", "TUNNEL_EDGE_BIND_ADDRESS", "TUNNEL_REGION"];

/// A configuration file without anything in it: that of named tunnels would lead a quick one elsewhere.
pub(super) const NO_FILE: &str = if cfg!(windows) { "NUL" } else { "/dev/null" };

/// Which agent is started, and for what.
pub(super) struct Plan {
    agent: Agent,
    timeout: Duration,
    /// The URL that the tunnel must have, as the settings say; `None` takes what comes.
    public_url: Option<String>,
    /// Where it leads to.
    bound: SocketAddr,
}

impl Plan {
    pub(super) fn new(tunnel: config::Tunnel, public_url: Option<&str>, bound: SocketAddr) -> Self {
        Self { agent: tunnel.agent, timeout: tunnel.timeout, public_url: public_url.map(str::to_owned), bound }
    }

    pub(super) fn agent(&self) -> Agent {
        self.agent
    }

    pub(super) fn bound(&self) -> SocketAddr {
        self.bound
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether the settings say which URL the tunnel has.
    pub(super) fn is_named(&self) -> bool {
        self.public_url.is_some()
    }

    /// The agent's name, which is also its command.
    pub(super) fn name(&self) -> &'static str {
        match self.agent {
            Agent::Cloudflared => "cloudflared",
            Agent::Ngrok => "ngrok",
        }
    }

    /// Names of variables that the agent gets besides those that every program gets, its own secrets
    /// among them: never its arguments, which all users of the machine can read.
    pub(super) fn variables(&self) -> Vec<String> {
        match (self.agent, self.is_named()) {
            (Agent::Ngrok, _) => vec!["NGROK_*".to_owned()],
            (Agent::Cloudflared, true) => vec!["TUNNEL_*".to_owned()],
            (Agent::Cloudflared, false) => CLOUDFLARED_NETWORK.map(str::to_owned).to_vec(),
        }
    }

    /// What to start. `ear` hears what it says.
    pub(super) fn program(&self, ear: &Arc<Ear>) -> Program {
        Program {
            name: self.name().to_owned(),
            command: self.name().into(),
            arguments: self.arguments().iter().map(Into::into).collect(),
            environment: Program::environment(env::vars_os(), &self.variables(), &[]),
            working_dir: None,
            max_line_bytes: MAX_LINE_BYTES,
            grace: GRACE,
            hears: Some(Arc::clone(ear) as Arc<dyn Hears>),
        }
    }

    fn arguments(&self) -> Vec<String> {
        let target = format!("http://{}", self.bound);
        let own = |arguments: &[&str]| arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>();
        // The agent picks the port and says which: nobody else can take it meanwhile.
        let cloudflared = own(&["--no-autoupdate", "--loglevel", "info", "--metrics", "127.0.0.1:0"]);
        match (self.agent, &self.public_url) {
            (Agent::Cloudflared, None) => {
                [own(&["tunnel", "--config", NO_FILE]), cloudflared, own(&["--url", &target])].concat()
            }
            // Which tunnel that is comes from its token, or from cloudflared's own file.
            (Agent::Cloudflared, Some(_)) => [own(&["tunnel"]), cloudflared, own(&["run", "--url", &target])].concat(),
            (Agent::Ngrok, public_url) => {
                let mut arguments = own(&["http", &target, "--log", "stderr", "--log-format", "json"]);
                // Without it, everybody on this machine could read all requests, tokens included, on the
                // agent's own page.
                arguments.extend(own(&["--log-level", "info", "--inspect=false"]));
                if let Some(url) = public_url {
                    let origin = Url::parse(url).map_or_else(|_| url.clone(), |url| url.origin().ascii_serialization());
                    arguments.extend(["--url".to_owned(), origin]);
                }
                arguments
            }
        }
    }

    /// The URL under which clients reach us by the tunnel that the agent says is at `place`.
    pub(super) fn url(&self, place: &str) -> Result<String, TunnelError> {
        // Of a named tunnel cloudflared knows only what is behind it.
        if let (Agent::Cloudflared, Some(url)) = (self.agent, &self.public_url) {
            return Ok(url.clone());
        }
        let unusable = || TunnelError::Url { agent: self.name(), said: place.to_owned() };
        let found = origin(place).ok_or_else(unusable)?;
        match &self.public_url {
            None => Ok(found),
            Some(url) if Url::parse(url).is_ok_and(|url| url.origin().ascii_serialization() == found) => {
                Ok(url.clone())
            }
            Some(wanted) => Err(TunnelError::Other { found, wanted: wanted.clone() }),
        }
    }

    /// The agent is not there.
    pub(super) fn missing(&self) -> TunnelError {
        let advice = match self.agent {
            Agent::Cloudflared => {
                "install it as https://developers.cloudflare.com/cloudflare-one/connections/connect-networks/downloads \
                 says"
            }
            Agent::Ngrok => {
                "install it as https://ngrok.com/download says, and sign in with `ngrok config add-authtoken`"
            }
        };
        TunnelError::Missing { agent: self.name(), advice }
    }

    /// What to do about an agent whose last words are `words`.
    pub(super) fn advice(&self, words: &[String]) -> Option<&'static str> {
        let says = |part: &str| words.iter().any(|line| line.contains(part));
        match self.agent {
            Agent::Ngrok if says("authtoken") || says("ERR_NGROK_4018") || says("ERR_NGROK_105") => Some(
                "sign in with `ngrok config add-authtoken TOKEN`, or set NGROK_AUTHTOKEN; the token is at \
                 https://dashboard.ngrok.com/get-started/your-authtoken",
            ),
            Agent::Cloudflared if self.is_named() => Some(
                "a tunnel for your own URL is made in Cloudflare's dashboard, and leads to the address that --listen \
                 says; set TUNNEL_TOKEN to its token. Without --public-url there is a quick tunnel, which needs none",
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(agent: Agent, public_url: Option<&str>) -> Plan {
        let tunnel = config::Tunnel { agent, timeout: Duration::from_secs(1) };
        Plan::new(tunnel, public_url, "127.0.0.1:8808".parse().expect("an address"))
    }

    #[test]
    fn an_agent_is_told_where_to_lead_and_no_secret() {
        let arguments = |agent, url| plan(agent, url).arguments().join(" ");
        assert_eq!(
            arguments(Agent::Cloudflared, None),
            format!(
                "tunnel --config {NO_FILE} --no-autoupdate --loglevel info --metrics 127.0.0.1:0 --url \
                 http://127.0.0.1:8808"
            )
        );
        assert_eq!(
            arguments(Agent::Cloudflared, Some("https://mcp.example.com")),
            "tunnel --no-autoupdate --loglevel info --metrics 127.0.0.1:0 run --url http://127.0.0.1:8808"
        );
        let ngrok = "http http://127.0.0.1:8808 --log stderr --log-format json --log-level info --inspect=false";
        assert_eq!(arguments(Agent::Ngrok, None), ngrok);
        assert_eq!(arguments(Agent::Ngrok, Some("https://n.ngrok.app/")), format!("{ngrok} --url https://n.ngrok.app"));
    }

    #[test]
    fn a_tunnel_has_the_url_that_the_settings_say() {
        let url = |agent, public_url, place| plan(agent, public_url).url(place).ok();
        let (ours, other) = ("https://n.ngrok.app", "https://other.ngrok.app");
        assert_eq!(url(Agent::Ngrok, None, other).as_deref(), Some(other));
        assert_eq!(url(Agent::Ngrok, Some(ours), ours).as_deref(), Some(ours));
        assert_eq!(url(Agent::Ngrok, Some("https://n.ngrok.app/a"), ours).as_deref(), Some("https://n.ngrok.app/a"));
        assert_eq!(url(Agent::Ngrok, Some(ours), other), None);
        assert_eq!(url(Agent::Ngrok, None, "http://n.ngrok.app"), None);
        assert_eq!(url(Agent::Cloudflared, None, ""), None);
        assert_eq!(url(Agent::Cloudflared, Some(ours), "").as_deref(), Some(ours));
    }
}
