//! What ngrok says.

use serde::Deserialize;

use super::ear::Heard;

/// A line of its log.
#[derive(Deserialize)]
struct Line {
    lvl: String,
    msg: String,
    #[serde(default)]
    err: Option<String>,
    #[serde(default)]
    addr: Option<String>,
    #[serde(default)]
    url: Option<String>,
}

/// Reads one line of its log, or of what it says besides. Its place is the https URL of a tunnel to
/// `port`. What it logs of connections that went well is shown nowhere: each request has its own line.
pub(super) fn read(line: &str, port: u16) -> Heard {
    let Ok(Line { lvl, msg, err, addr, url }) = serde_json::from_str(line) else {
        return Heard { place: None, shown: Some(line.to_owned()) };
    };
    let is_ours = addr.is_none_or(|addr| addr.trim_end_matches('/').ends_with(&format!(":{port}")));
    let is_start = msg == "started tunnel" && is_ours;
    let place = url.filter(|url| is_start && url.starts_with("https://"));
    let is_usual = matches!(&*lvl, "dbug" | "debug" | "info");
    let shown = (!is_usual).then(|| {
        let err = err.unwrap_or_default();
        // It writes several lines into one.
        let words: Vec<&str> = err.split_whitespace().collect();
        if words.is_empty() { msg } else { format!("{msg}: {}", words.join(" ")) }
    });
    Heard { place, shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, place: Option<&str>, shown: Option<&str>) {
        let heard = read(line, 8808);
        assert_eq!((heard.place.as_deref(), heard.shown.as_deref()), (place, shown), "{line}");
    }

    #[test]
    fn a_tunnel_is_known_by_the_line_of_its_start() {
        let start = |addr: &str, url: &str| {
            format!(
                r#"{{"addr":"{addr}","lvl":"info","msg":"started tunnel","name":"command_line","obj":"tunnels","t":"2026-01-02T03:04:05Z","url":"{url}"}}"#
            )
        };
        let url = "https://a.ngrok.app";
        check(&start("http://127.0.0.1:8808", url), Some(url), None);
        check(&start("http://localhost:8808", url), Some(url), None);
        check(&start("http://localhost:80", url), None, None);
        check(&start("http://localhost:8808", "http://a.ngrok.app"), None, None);
        let other = r#"{"lvl":"info","msg":"join connections","obj":"join","url":"https://b.ngrok.app"}"#;
        check(other, None, None);
    }

    #[test]
    fn what_is_wrong_is_shown() {
        let line = r#"{"err":"authentication failed: no authtoken.\r\n\r\nERR_NGROK_4018\r\n","lvl":"eror","msg":"session closing"}"#;
        check(line, None, Some("session closing: authentication failed: no authtoken. ERR_NGROK_4018"));
        check(r#"{"lvl":"warn","msg":"slow"}"#, None, Some("slow"));
        check("ERROR:  ERR_NGROK_4018", None, Some("ERROR:  ERR_NGROK_4018"));
        check(r#"{"some":"json"}"#, None, Some(r#"{"some":"json"}"#));
    }
}
