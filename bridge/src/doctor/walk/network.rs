//! To the server's door.

use std::{io, net::SocketAddr};

use futures_util::future::join_all;
use http::header;
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};

use super::{Taken, Walk, skipped};
use crate::doctor::{
    fetch::{Ask, REQUEST_MAX, Trouble, reply_shown},
    guard::Refused,
    judge::{
        network::{self, Received},
        resource::{From, places},
    },
    report::{Exchange, Judged},
    request, tls,
    words::{listed, shown},
};

/// More addresses than this a client does not try either.
const ADDRESSES_MAX: usize = 6;

/// What clients call themselves. Claude looks for metadata with Python's httpx and calls as
/// `Claude-User`; ChatGPT calls as `openai-mcp`, as many server logs in public repositories show;
/// MCP Inspector, VS Code and Cursor call with Node's fetch.
const AGENTS: &[(&str, &str, What)] = &[
    ("Claude", "python-httpx/0.28.1", What::Metadata),
    ("Claude", "Claude-User", What::Endpoint),
    ("ChatGPT", "openai-mcp/1.0.0", What::Endpoint),
    ("a client built on Node", "node", What::Endpoint),
];

/// What a client fetches under that name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Metadata,
    Endpoint,
}

impl Walk {
    pub(super) fn typed(&mut self) -> Taken {
        network::url(&self.options.url, &self.url).into()
    }

    pub(super) async fn reach(&mut self) -> Taken {
        if let Some(proxy) = self.http.proxy(&self.url) {
            return Judged::new(format!("through the proxy {} of the environment", shown(&proxy))).into();
        }
        let host = self.url.host_str().unwrap_or_default().to_owned();
        let asked = format!("resolve {}", shown(&host));
        let found = match self.http.found() {
            Ok(found) if !found.is_empty() => {
                let mut found = found.clone();
                found.dedup();
                found.truncate(ADDRESSES_MAX);
                found
            }
            outcome => {
                let trouble = match outcome {
                    Err(io::ErrorKind::TimedOut) => Trouble::Timeout(REQUEST_MAX),
                    _ => Trouble::Dns(shown(&host)),
                };
                self.exchanges.push(Exchange { asked, got: trouble.to_string() });
                let fix = "correct the name, or its DNS record; a tunnel's name exists only while the tunnel runs";
                return Judged::new(trouble.to_string())
                    .fail(trouble.to_string(), "no client finds the server", fix)
                    .into();
            }
        };
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        self.exchanges.push(Exchange { asked, got: listed(&texts) });
        let port = self.url.port_or_known_default().unwrap_or_default();
        let known = self.http.known();
        let tries = found.iter().map(|address| async move {
            if !known.contains(address) {
                return (*address, Some(Trouble::NotAsked(Refused::Address(address.to_string()))));
            }
            match timeout(REQUEST_MAX / 2, TcpStream::connect((*address, port))).await {
                Ok(Ok(_)) => (*address, None),
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    (*address, Some(Trouble::Refused))
                }
                Ok(Err(error)) => (*address, Some(Trouble::Other(error.to_string()))),
                Err(_) => (*address, Some(Trouble::Timeout(REQUEST_MAX / 2))),
            }
        });
        let mut refused = Vec::new();
        for (address, trouble) in join_all(tries).await {
            let got = trouble.as_ref().map_or("connected".to_owned(), ToString::to_string);
            self.exchanges.push(Exchange { asked: format!("connect to {}", SocketAddr::new(address, port)), got });
            refused.extend(trouble.map(|trouble| (address, trouble)));
        }
        network::reach(&found, &refused).into()
    }

    pub(super) async fn tls(&mut self) -> Taken {
        self.connected = true;
        if self.url.scheme() != "https" {
            return skipped("the URL is http");
        }
        if self.http.proxy(&self.url).is_some() {
            return skipped("a proxy stands before the server");
        }
        let host = self.url.host_str().unwrap_or_default().to_owned();
        let port = self.url.port_or_known_default().unwrap_or_default();
        let addresses: Vec<_> = self.http.known().iter().map(|address| SocketAddr::new(*address, port)).collect();
        let asked = format!("shake hands with {} on port {port}", shown(&host));
        let connected = timeout(REQUEST_MAX, TcpStream::connect(&*addresses)).await;
        let agreed = match connected {
            Ok(Ok(stream)) => tls::handshake(stream, &host).await,
            _ => Err(tls::Explained {
                what: "the connection broke before the handshake".to_owned(),
                fix: "see whether the server is up".to_owned(),
            }),
        };
        match agreed {
            Ok(agreed) => {
                let http = if agreed.http2 { "HTTP/2" } else { "HTTP/1.1" };
                let summary = format!("{}, {http}, a certificate that this machine trusts", agreed.version);
                self.exchanges.push(Exchange { asked, got: summary.clone() });
                Judged::new(summary).into()
            }
            Err(tls::Explained { what, fix }) => {
                self.connected = false;
                self.exchanges.push(Exchange { asked, got: what.clone() });
                Judged::new(what.clone()).fail(what, "no client connects, and none lets its user go on", fix).into()
            }
        }
    }

    pub(super) async fn agents(&mut self) -> Taken {
        // Stateless, so that no session is opened for each.
        let endpoint = request::modern(&self.url, "server/discover", json!({}));
        let metadata = places(&self.url, None).into_iter().find(|(from, _)| matches!(from, From::Path | From::Root));
        let metadata = metadata.map_or_else(|| endpoint.clone(), |(_, url)| Ask::get(&url));
        let what = |what: What| if what == What::Metadata { metadata.clone() } else { endpoint.clone() };
        let named = |agent: &str, ask: Ask| ask.header(header::USER_AGENT, agent);
        let asks = AGENTS.iter().map(|(_, agent, kind)| named(agent, what(*kind)));
        let asks: Vec<Ask> = [metadata.clone(), endpoint.clone()].into_iter().chain(asks).collect();
        let mut replies = join_all(asks.iter().map(|ask| self.http.send(ask))).await.into_iter();
        let (Some(our_metadata), Some(our_endpoint)) = (replies.next(), replies.next()) else {
            return skipped("nothing was asked");
        };
        let mut received = Vec::new();
        for ((client, agent, kind), (reply, ask)) in AGENTS.iter().zip(replies.zip(&asks[2..])) {
            let asked = format!("{} as {agent}", ask.shown());
            self.exchanges.push(Exchange { asked, got: reply_shown(&reply) });
            let ours = if *kind == What::Metadata { our_metadata.clone() } else { our_endpoint.clone() };
            received.push(Received { client, agent, reply, ours });
        }
        network::agents(&received).into()
    }
}
