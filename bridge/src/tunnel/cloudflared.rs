//! `cloudflared`: a quick tunnel under a name that it is given, or with a token the tunnel that the
//! token is for.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use super::{Settings, look, origin};
use crate::token::fetch::Fetcher;

/// How to ask it.
#[derive(Debug)]
pub(super) struct Talk {
    /// Where it serves its metrics, `/ready` and `/quicktunnel`.
    metrics: SocketAddr,
}

/// What it is started with.
pub(super) fn start(settings: &Settings) -> io::Result<(Vec<String>, Talk)> {
    // Free a moment ago; where somebody else is faster, it ends, and is started again.
    let metrics = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let mut arguments: Vec<String> =
        ["tunnel", "--no-autoupdate", "--metrics", &metrics.to_string()].map(str::to_owned).into();
    match settings.public_url {
        // Its token is in its environment, and says which tunnel, and so which URL.
        Some(_) => arguments.push("run".to_owned()),
        None => arguments.extend(["--url".to_owned(), format!("http://{}", settings.target())]),
    }
    Ok((arguments, Talk { metrics }))
}

impl Talk {
    pub(super) async fn ask(&self, fetcher: &Fetcher, settings: &Settings) -> Option<String> {
        // Without a connection to the edge nobody gets through, whatever the name is.
        let ready = look(fetcher, self.metrics, "/ready").await?;
        if ready["readyConnections"].as_u64() == Some(0) {
            return None;
        }
        if let Some(url) = &settings.public_url {
            return Some(url.clone());
        }
        let tunnel = look(fetcher, self.metrics, "/quicktunnel").await?;
        let host = tunnel["hostname"].as_str().filter(|host| !host.is_empty())?;
        origin(&format!("https://{host}"))
    }
}
