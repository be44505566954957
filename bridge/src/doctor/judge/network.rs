//! The URL, its address, and what a network does to some clients and not to others.

use std::net::IpAddr;

use url::Url;

use super::super::{
    address::is_global,
    fetch::{Reply, Trouble},
    report::Judged,
    walls,
    words::{listed, quoted, shown},
};
use crate::resource::is_loopback;

/// The URL as it was typed.
pub(in super::super) fn url(typed: &str, url: &Url) -> Judged {
    let port = url.port_or_known_default().unwrap_or_default();
    let mut judged = Judged::new(format!("{}, port {port}", url.scheme()));
    let cloud = "claude.ai and ChatGPT connect from the internet, to https on port 443 only";
    if is_loopback(url) {
        judged = judged.warn(
            format!("{} is this machine, over {}", shown(url.host_str().unwrap_or_default()), url.scheme()),
            cloud,
            "for clients on this machine this is fine; for others put a tunnel with https in front, and examine its URL",
        );
    } else if url.scheme() == "http" {
        judged = judged.fail(
            "plain http: whoever carries the traffic reads tokens and results",
            cloud,
            "put TLS in front (a reverse proxy or a tunnel), and give people the https URL",
        );
    } else if port != 443 {
        judged = judged.warn(format!("the port is {port}"), cloud, "serve it on port 443");
    }
    if url.fragment().is_some() {
        judged = judged.fail(
            "the URL has a fragment",
            "no client sends it, and a resource identifier must not have one (RFC 8707 section 2)",
            "leave out what begins with #",
        );
    }
    // An origin may be typed without its slash: clients add it.
    let normal = url.as_str();
    if typed != normal && format!("{typed}/") != normal {
        judged = judged.warn(
            format!("clients that normalise it send {}", quoted(normal)),
            "the resource identifier is compared byte for byte, by clients that normalise and by those that do not",
            format!("give people {}", quoted(normal)),
        );
    }
    judged
}

/// Where the name leads, and whether anything listens there.
pub(in super::super) fn reach(found: &[IpAddr], refused: &[(IpAddr, Trouble)]) -> Judged {
    let all: Vec<String> = found.iter().map(ToString::to_string).collect();
    let mut judged = Judged::new(listed(&all));
    let firewall = "start the server, and see that the firewall and the DNS record agree with where it listens";
    if refused.len() == found.len() {
        let why = refused.first().map(|(_, trouble)| trouble.to_string()).unwrap_or_default();
        return judged.fail(why, "no client can connect", firewall);
    }
    for (address, trouble) in refused {
        judged = judged.warn(
            format!("{address}: {trouble}"),
            "clients that try this address first are slow or fail",
            "let the server listen there too, or remove the address from DNS",
        );
    }
    if found.iter().all(IpAddr::is_ipv6) && found.iter().any(|address| !address.is_loopback()) {
        judged = judged.warn(
            "the name has IPv6 addresses only",
            "claude.ai and ChatGPT come from IPv4 addresses",
            "add an A record",
        );
    }
    if found.iter().any(|address| !is_global(*address) && !address.is_loopback()) {
        judged = judged.warn(
            "the name leads into a private network",
            "clients in the cloud (claude.ai, ChatGPT) cannot get there; those on your machines can",
            "for clients in the cloud use a public address or a tunnel",
        );
    }
    judged
}

/// What one user agent got.
pub(in super::super) struct Received {
    /// Whose it is.
    pub(in super::super) client: &'static str,
    pub(in super::super) agent: &'static str,
    pub(in super::super) reply: Reply,
    /// What we got for the same request.
    pub(in super::super) ours: Reply,
}

/// Whether everybody gets what we get.
pub(in super::super) fn agents(received: &[Received]) -> Judged {
    let mut judged = Judged::new(format!("the same answer for {}", listed(&agents_of(received))));
    for Received { client, agent, reply, ours } in received {
        let status = |reply: &Reply| reply.as_ref().ok().map(|answer| answer.status);
        let wall = reply.as_ref().ok().and_then(walls::recognise);
        if status(reply) == status(ours) && wall.is_none() {
            continue;
        }
        let got = match (reply, wall) {
            (_, Some(wall)) => wall.what.to_owned(),
            (Ok(answer), None) => format!(
                "{} and not {}",
                answer.status,
                status(ours).map(|it| it.to_string()).unwrap_or("what others get".into())
            ),
            (Err(trouble), None) => trouble.to_string(),
        };
        let fix = wall.map_or(
            "exempt the MCP path and /.well-known/ from rules about bots and user agents, in the CDN, the firewall and \
             the server",
            |wall| wall.fix,
        );
        judged.summary = format!("{client} is treated differently");
        judged = judged.fail(
            format!("{} gets {got}", quoted(agent)),
            format!("{client} sends this user agent, and cannot connect"),
            fix,
        );
    }
    judged
}

fn agents_of(received: &[Received]) -> Vec<&'static str> {
    received.iter().map(|it| it.agent).collect()
}
