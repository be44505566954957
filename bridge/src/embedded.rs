//! The embedded authorization server in `serve`: made from the settings, and introduced to whoever
//! starts it for the first time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{self, IsTerminal as _},
    net::SocketAddr,
    time::SystemTime,
};

use mcp_calculator::secret::Secret;
use tracing::{info, warn};

use crate::{
    authserver::{AuthServer, Protected, Settings, passphrase},
    backend::in_process,
    config::{
        Agent, Auth, Config, Embedded, LogFormat,
        server::{Served, Server},
    },
    policy::Policy,
    resource::ResourceUri,
    serve::{COMMAND_SCOPE, ServeError, policy, shown_name},
    telemetry::Log,
};

/// The embedded authorization server for what is served at `bound`.
pub(crate) fn open(embedded: &Embedded, config: &Config, bound: SocketAddr) -> Result<AuthServer, ServeError> {
    let mut issuer = String::new();
    let mut resources = Vec::with_capacity(config.servers.len());
    for server in &config.servers {
        let resource = config.resource(server, bound)?;
        resource.origin().clone_into(&mut issuer);
        let policy = policy(server);
        let name = shown_name(server).to_owned();
        let words = words(server, &policy, &embedded.scopes);
        resources.push(Protected { uri: resource.as_str().to_owned(), name, scopes: policy.scopes().clone(), words });
    }
    Ok(AuthServer::open(Settings {
        state_dir: embedded.state_dir.clone(),
        issuer,
        resources,
        approve: embedded.approve,
        registration_window: embedded.registration_window,
        redirect_schemes: embedded.redirect_schemes.clone(),
    })?)
}

/// What each scope lets a client do: in the operator's words, in ours for the calculator, or else by
/// what the policy says.
fn words(server: &Server, policy: &Policy, written: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut words = BTreeMap::new();
    if let (Served::Calculator, None) = (&server.served, &server.policy) {
        words.extend(in_process::SCOPE_WORDS.map(|(scope, text)| (scope.to_owned(), text.to_owned())));
    } else if let (Served::Command(_), None) = (&server.served, &server.policy) {
        words.insert(COMMAND_SCOPE.to_owned(), format!("Use everything that {} offers", shown_name(server)));
    } else if let Some(raw) = &server.policy {
        for scope in policy.scopes().iter() {
            let targets = raw.rules.iter().filter(|rule| rule.scopes.contains(scope)).filter_map(|rule| {
                let named = [("tool", &rule.tool), ("prompt", &rule.prompt), ("resource", &rule.resource)];
                named.into_iter().find_map(|(kind, name)| Some(format!("the {kind} {}", name.as_ref()?)))
            });
            let targets: BTreeSet<String> = targets.collect();
            if !targets.is_empty() {
                let targets: Vec<String> = targets.into_iter().collect();
                words.insert(scope.to_string(), format!("Use {}", targets.join(", ")));
            }
        }
    }
    words.extend(written.clone());
    words
}

/// Says how somebody signs in and what to do first, once; with a tunnel whenever there is another URL;
/// and on every start that nobody can sign in.
pub(crate) fn welcome(
    log: &Log,
    config: &Config,
    bound: SocketAddr,
    authserver: Option<&AuthServer>,
) -> Result<(), ServeError> {
    let on_terminal = io::stderr().is_terminal() && config.log.format == LogFormat::Text;
    let mut shown = None;
    // It is for a person's eyes, and what is no terminal is kept somewhere.
    let generate = || {
        let passphrase = on_terminal.then(passphrase::generate)?;
        shown = Some(passphrase.clone());
        Some(passphrase)
    };
    let is_first = authserver.map(|server| server.first_start(generate, SystemTime::now())).transpose()?;
    let server = &config.servers[0];
    let resource = config.resource(server, bound)?;
    if config.tunnel.is_some() && !on_terminal {
        info!(url = resource.as_str(), "the tunnel is there; give this URL to clients");
    }
    if on_terminal && (is_first == Some(true) || config.tunnel.is_some()) {
        log.tell(&first_steps(&resource, &server.name, config, shown.as_ref()));
    }
    let can_sign_in = authserver.map(AuthServer::can_sign_in).transpose()?;
    if can_sign_in == Some(false) && !(on_terminal && is_first == Some(true)) {
        // As another user it would make a passphrase for a state that nobody serves.
        warn!(
            "nobody can sign in yet: run `mcp-bridge owner reset` in a terminal, as the user of this service \
             (with a Linux package: `mcp-bridge-admin owner reset`), which shows a new passphrase"
        );
    }
    Ok(())
}

/// What somebody does who has started this for the first time, or has it at a new URL.
fn first_steps(resource: &ResourceUri, name: &str, config: &Config, passphrase: Option<&Secret<String>>) -> String {
    let mut text = String::from("\n");
    if let Some(passphrase) = passphrase {
        // A String takes every write.
        let _ = write!(
            text,
            "  Your passphrase, shown only now:  {}\n  Whoever has it lets clients in. To change it: \
             mcp-bridge owner set-passphrase\n\n",
            passphrase.expose()
        );
    }
    let is_local = resource.as_str().starts_with("http://");
    let _ = writeln!(text, "  The endpoint:  {resource}");
    if let Some(note) = config.tunnel.and_then(|tunnel| tunnel_note(tunnel.agent, resource)) {
        let _ = writeln!(text, "  {note}");
    }
    if matches!(config.auth, Auth::Embedded(_)) {
        let _ = writeln!(text, "  Connected clients, and how to end them:  {}/account", resource.origin());
    }
    let _ = write!(
        text,
        "\n  Connect a client, then sign in on the page that opens in the browser:\n    Claude Code      claude mcp add \
         --transport http {name} {resource}\n",
    );
    if is_local {
        let _ = write!(
            text,
            "    Claude Desktop   mcp-bridge install --client claude-desktop --connect {resource}\n                     \
             (over the internet: mcp-bridge serve --tunnel cloudflared)\n"
        );
    } else {
        let _ = write!(
            text,
            "    Claude           Settings > Connectors > Add custom connector: {resource}\n    other desktops   \
             mcp-bridge install --client NAME --connect {resource}\n"
        );
    }
    let _ = write!(
        text,
        "    MCP Inspector    npx @modelcontextprotocol/inspector, then Streamable HTTP, {resource}\n    any stdio client \
         mcp-bridge connect {resource}\n\n  It does not connect?  mcp-bridge doctor {resource}\n\n"
    );
    text
}

/// What somebody should know of a tunnel that leads to `resource`.
fn tunnel_note(agent: Agent, resource: &ResourceUri) -> Option<&'static str> {
    match agent {
        Agent::Cloudflared if resource.origin().ends_with(".trycloudflare.com") => {
            Some("A quick tunnel: the next start has another URL, and clients have to be given that one.")
        }
        Agent::Cloudflared => None,
        Agent::Ngrok => Some("ngrok's free plan shows browsers a page of its own first; press Visit Site there."),
    }
}
