//! `ngrok`: under the domain of the account, or under a URL of its own.

use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;
use tracing::{debug, warn};
use url::Url;

use super::{Settings, look, origin};
use crate::token::fetch::Fetcher;

/// What it is started with.
pub(super) fn arguments(settings: &Settings) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["http", "--log", "stdout", "--log-format", "json", "--log-level", "info"].map(str::to_owned).into();
    if let Some(url) = &settings.public_url {
        arguments.extend(["--url".to_owned(), url.clone()]);
    }
    arguments.push(format!("http://{}", settings.target()));
    arguments
}

/// What it has said so far.
#[derive(Debug, Default)]
pub(super) struct Talk {
    /// Where its local API is: on port 4040, or the next that is free.
    api: Option<SocketAddr>,
    error: String,
}

impl Talk {
    pub(super) fn hear(&mut self, line: &Bytes) {
        let Ok(event) = serde_json::from_slice::<Value>(line) else {
            // What it says before it has read its arguments is no JSON.
            let text = String::from_utf8_lossy(line).trim().to_owned();
            warn!(child = "ngrok", "{text}");
            if text.contains("ERROR") && self.error.is_empty() {
                self.error = text;
            }
            return;
        };
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        if text("msg") == "starting web service" {
            self.api = text("addr").parse().ok().filter(|api: &SocketAddr| api.ip().is_loopback());
        }
        // `eror` and `crit` are how it spells its levels.
        let error = text("err");
        if ["eror", "crit"].contains(&text("lvl")) && !error.is_empty() && error != "<nil>" {
            self.error = error.split_whitespace().collect::<Vec<_>>().join(" ");
            warn!(child = "ngrok", "{}", self.error);
        } else {
            debug!(child = "ngrok", message = text("msg"), url = text("url"));
        }
    }

    pub(super) fn last_words(&self) -> &str {
        &self.error
    }

    pub(super) async fn ask(&self, fetcher: &Fetcher, settings: &Settings) -> Option<String> {
        let answer = look(fetcher, self.api?, "/api/tunnels").await?;
        answer["tunnels"].as_array()?.iter().find_map(|tunnel| {
            let ours = port(tunnel["config"]["addr"].as_str()?) == Some(settings.bound.port());
            let url = origin(tunnel["public_url"].as_str()?)?;
            // The one that was given is who we are, byte for byte.
            ours.then(|| settings.public_url.clone().unwrap_or(url))
        })
    }
}

/// The port of `http://127.0.0.1:8808`, or of `127.0.0.1:8808`.
fn port(address: &str) -> Option<u16> {
    match Url::parse(address) {
        Ok(url) if url.has_host() => url.port_or_known_default(),
        _ => address.rsplit(':').next()?.parse().ok(),
    }
}
