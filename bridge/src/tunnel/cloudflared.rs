//! What cloudflared says, and what it answers.

use std::{net::SocketAddr, time::Duration};

use http::StatusCode;
use serde::Deserialize;
use tokio::time::sleep;
use url::Url;

use super::{agent::NO_FILE, ear::Heard};
use crate::token::fetch::{Answer, Fetcher};

/// What stands before and behind the address at which it answers questions.
const BEFORE: &str = "Starting metrics server on ";
const BEHIND: &str = "/metrics";

/// The time between two questions. It connects within a few seconds.
const PAUSE: Duration = Duration::from_millis(100);

/// Reads one line of its log. Its place is where it answers questions.
pub(super) fn read(line: &str) -> Heard {
    let address = line.split_once(BEFORE).and_then(|(_, rest)| rest.split_once(BEHIND)).map(|(address, _)| address);
    let place = address.and_then(|address| address.parse::<SocketAddr>().ok()).filter(|at| at.ip().is_loopback());
    // It means the file with nothing in it that we give it, and is no error.
    let is_ours = line.contains(&format!("Configuration file {NO_FILE} was empty"));
    Heard { place: place.map(|at| at.to_string()), shown: (!is_ours).then(|| line.to_owned()) }
}

/// Asks cloudflared at `address` until its tunnel works, for the URL of a quick tunnel; of a named one it
/// does not know that.
pub(super) async fn ask(fetcher: &Fetcher, address: &str, named: bool) -> String {
    loop {
        let url = if named { Some(String::new()) } else { quick_tunnel(fetcher, address).await };
        if let Some(url) = url
            && get(fetcher, address, "ready").await.is_some()
        {
            return url;
        }
        sleep(PAUSE).await;
    }
}

async fn quick_tunnel(fetcher: &Fetcher, address: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct QuickTunnel {
        hostname: String,
    }
    let body = get(fetcher, address, "quicktunnel").await?;
    let QuickTunnel { hostname } = serde_json::from_slice(&body).ok()?;
    // It comes as its service gives it, and cloudflared itself expects both forms.
    let url = if hostname.starts_with("https://") { hostname.clone() } else { format!("https://{hostname}") };
    (!hostname.is_empty()).then_some(url)
}

/// A good answer; `None` for every other: it is asked again.
async fn get(fetcher: &Fetcher, address: &str, path: &str) -> Option<Vec<u8>> {
    let url = Url::parse(&format!("http://{address}/{path}")).ok()?;
    let Answer { status, body } = fetcher.get_json(&url).await.ok()?;
    (status == StatusCode::OK).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_for_questions_is_on_loopback() {
        for (line, expected) in [
            ("2026-01-02T03:04:05Z INF Starting metrics server on 127.0.0.1:20241/metrics", Some("127.0.0.1:20241")),
            (r#"{"level":"info","message":"Starting metrics server on 127.0.0.1:1/metrics"}"#, Some("127.0.0.1:1")),
            ("INF Starting metrics server on [::1]:1/metrics", Some("[::1]:1")),
            ("INF Starting metrics server on 192.0.2.1:1/metrics", None),
            ("INF Starting metrics server on nowhere/metrics", None),
            ("INF Starting metrics server on 127.0.0.1:1", None),
            ("INF Requesting new quick Tunnel on trycloudflare.com...", None),
        ] {
            let heard = read(line);
            assert_eq!((heard.place.as_deref(), heard.shown.as_deref()), (expected, Some(line)));
        }
        let heard = read(&format!("2026-01-02T03:04:05Z ERR Configuration file {NO_FILE} was empty"));
        assert_eq!((heard.place, heard.shown), (None, None));
    }
}
