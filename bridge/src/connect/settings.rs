//! What the flags and the environment mean.

use std::{fmt, path::PathBuf, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use mcp_calculator::secret::Secret;
use tracing::level_filters::LevelFilter;
use url::Url;

use super::flags::ConnectFlags;
use crate::{message::shown, resource::is_loopback};

/// Headers that are ours: those of HTTP itself, and those that say what a message is.
const OURS: [HeaderName; 7] = [
    header::ACCEPT,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::TRANSFER_ENCODING,
    HeaderName::from_static("last-event-id"),
];

const SECRET: &str = "MCP_BRIDGE_CLIENT_SECRET";
const SECRET_FILE: &str = "MCP_BRIDGE_CLIENT_SECRET_FILE";
const STATE_DIR: &str = "MCP_BRIDGE_STATE_DIR";

/// The variables of the environment that are read here.
pub const VARIABLES: [&str; 3] = [SECRET, SECRET_FILE, STATE_DIR];

/// The folder for state, if it is not to be the platform's.
pub(super) fn state_dir(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    variable(STATE_DIR).filter(|text| !text.is_empty()).map(PathBuf::from)
}

/// What `connect` is to do.
#[derive(Debug)]
pub struct Settings {
    /// The endpoint.
    pub url: Url,
    /// Headers of every request.
    pub headers: HeaderMap,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// What to log.
    pub log_level: LevelFilter,
    /// The secret of a registered client.
    pub client_secret: Option<Secret<String>>,
    /// Where sign-ins are kept; `None`: in the platform's folder for state.
    pub state_dir: Option<PathBuf>,
    /// What was written, for the sign-in: above all the URL, which must be compared as it is.
    pub flags: ConnectFlags,
}

/// Everything that is wrong with the flags.
#[derive(Debug, thiserror::Error)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl Settings {
    /// Reads the flags; `variable` finds a variable of the environment.
    ///
    /// # Errors
    /// [`Problems`], all of them.
    pub fn new(flags: ConnectFlags, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut keep = |problem: String| problems.push(problem);
        let url = endpoint(&flags.url, flags.insecure_http).map_err(&mut keep).ok();
        let mut headers = HeaderMap::new();
        for text in &flags.headers {
            match header(text.expose(), &variable) {
                Ok((name, value)) => {
                    headers.append(name, value);
                }
                Err(problem) => keep(problem),
            }
        }
        if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
            keep("--header: Authorization is there twice; leave one out".to_owned());
        }
        if flags.account.is_empty() || flags.account.len() > 64 || flags.account.chars().any(char::is_control) {
            keep("--account: a name has 1 to 64 characters and no control characters".to_owned());
        }
        if flags.request_timeout.is_zero() {
            keep("--request-timeout: nothing can be answered in no time".to_owned());
        }
        let client_secret = client_secret(&variable).map_err(&mut keep).ok().flatten();
        if client_secret.is_some() && flags.client_id.is_none() {
            keep(format!("{SECRET}: a secret without --client-id belongs to nobody"));
        }
        match url {
            Some(url) if problems.is_empty() => Ok(Self {
                url,
                headers,
                request_timeout: flags.request_timeout,
                log_level: flags.log_level,
                client_secret,
                state_dir: state_dir(&variable),
                flags,
            }),
            _ => Err(Problems(problems)),
        }
    }
}

/// The URL, if requests may go there.
fn endpoint(text: &str, insecure_http: bool) -> Result<Url, String> {
    // The URL itself is not repeated: whoever puts a password in it shall not find it in a log.
    let url = Url::parse(text).map_err(|error| format!("the URL cannot be read: {error}"))?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) || insecure_http => {}
        "http" => {
            return Err("the URL is plain http, which everybody on the way can read and change; use https, or \
                        --insecure-http in a network that you trust"
                .to_owned());
        }
        other => return Err(format!("the URL begins with {other}:, not with https:")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "the URL has a user name or a password in it; use --header 'Authorization: Basic ${...}'".to_owned()
        );
    }
    if url.fragment().is_some() {
        return Err("the URL has a fragment, which is never sent; leave it out".to_owned());
    }
    Ok(url)
}

/// One header. Neither its value nor that of a variable is ever shown.
fn header(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) =
        text.split_once(':').ok_or("--header: a header is written 'NAME: VALUE', and this one has no colon")?;
    let place = format!("--header {}", shown(name.trim()));
    let name = HeaderName::try_from(name.trim()).map_err(|_| format!("{place}: no header can be called that"))?;
    if OURS.contains(&name) || name.as_str().starts_with("mcp-") || name.as_str().starts_with("proxy-") {
        return Err(format!("{place}: this one is set by the bridge; leave it out"));
    }
    let value = expanded(value.trim(), variable).map_err(|problem| format!("{place}: {problem}"))?;
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| format!("{place}: its value has characters that no header may have"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// `text` with the variables that it names.
fn expanded(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or("a ${ has no end")?;
        let value = variable(name).filter(|value| !value.is_empty());
        whole += before;
        whole += value.ok_or_else(|| format!("the variable {} is not set", shown(name)))?.trim();
        rest = after;
    }
    Ok(whole + rest)
}

/// The secret of a client that was registered by hand.
///
/// # Errors
/// What is wrong with it, for people; never a part of it.
pub fn client_secret(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Secret<String>>, String> {
    Secret::from_environment(SECRET, variable)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn read(arguments: &[&str]) -> Result<Settings, String> {
        let command = ConnectFlags::augment_args(clap::Command::new("connect"));
        let matches = command.try_get_matches_from(["connect"].iter().chain(arguments)).map_err(|e| e.to_string())?;
        let flags = ConnectFlags::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        let variable = |name: &str| match name {
            "TOKEN" => Some("canary\n".to_owned()),
            "EMPTY" => Some(String::new()),
            "BROKEN" => Some("can\u{7}ary".to_owned()),
            _ => None,
        };
        Settings::new(flags, variable).map_err(|problems| problems.to_string())
    }

    #[test]
    fn where_requests_may_go() {
        for (url, flag, good) in [
            ("https://example.com/mcp", None, true),
            ("http://localhost:1/", None, true),
            ("http://127.0.0.1/mcp", None, true),
            ("http://[::1]:8808/mcp", None, true),
            ("http://example.com/mcp", None, false),
            ("http://10.0.0.1/mcp", None, false),
            ("http://localhost.example.com/mcp", None, false),
            ("http://example.com/mcp", Some("--insecure-http"), true),
            ("https://user@example.com/", None, false),
            ("https://user:canary@example.com/", None, false),
            ("https://example.com/#x", None, false),
            ("file:///etc/passwd", Some("--insecure-http"), false),
            ("example.com", None, false),
            ("", None, false),
        ] {
            let arguments: Vec<&str> = [url].into_iter().chain(flag).collect();
            let outcome = read(&arguments);
            assert_eq!(outcome.is_ok(), good, "{url}: {outcome:?}");
            assert!(!format!("{outcome:?}").contains("canary") || good, "{outcome:?}");
        }
    }

    #[test]
    fn headers_and_their_variables() {
        let value = |header: &str| {
            let settings = read(&["https://a.example", "--header", header])?;
            let values: Vec<String> =
                settings.headers.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap_or("?"))).collect();
            assert!(!format!("{settings:?}").contains("canary\""), "{settings:?}");
            Ok::<_, String>(values.join(","))
        };
        for (header, expected) in [
            ("X-Api-Key: 1", "x-api-key=1"),
            ("Authorization:Bearer ${TOKEN}", "authorization=Bearer canary"),
            ("X: a${TOKEN}b${TOKEN}", "x=acanarybcanary"),
            ("X: $TOKEN {TOKEN}", "x=$TOKEN {TOKEN}"),
            ("X:", "x="),
        ] {
            assert_eq!(value(header).as_deref(), Ok(expected), "{header}");
        }
        for header in [
            "no colon",
            ": x",
            "a b: x",
            "X: ${NONE}",
            "X: ${EMPTY}",
            "X: ${TOKEN",
            "X: ${BROKEN}",
            "Host: evil",
            "Accept: x",
            "Mcp-Session-Id: x",
            "mcp-protocol-version: x",
            "Content-Length: 5",
            "Proxy-Authorization: x",
        ] {
            let problem = value(header).expect_err("a problem");
            assert!(!problem.contains("canary") && problem.contains("--header"), "{problem}");
        }
        assert!(read(&["https://a.example", "--header", "Authorization: a", "--header", "authorization: b"]).is_err());
    }

    #[test]
    fn a_secret_that_is_written_out_stays_out_of_the_log() {
        let settings = read(&["https://a.example", "--header", "X-Api-Key: canary"]).expect("settings");
        assert!(!format!("{settings:?} {:?}", settings.flags).contains("canary"), "{settings:?}");
    }

    #[test]
    fn every_problem_is_told() {
        let told = read(&["http://a.example", "--header", "x", "--header", "Host: y", "--request-timeout", "0s"]);
        assert_eq!(told.expect_err("problems").lines().count(), 4);
    }
}
