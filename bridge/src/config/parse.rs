//! From text to values; an error says what is wrong with the text and how to write it.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use mcp_calculator::secret::Secret;
use tracing::Level;
use url::Url;

use crate::{
    config::{
        Agent, Approve, LogFormat,
        problem::shown,
        server::{Denial, Isolation, Variable},
        settings::VARIABLE_PREFIX,
    },
    resource::is_loopback,
};

pub(super) type Parsed<T> = Result<T, String>;

/// One year: longer is a mistake, and would overflow sums of times.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| {
        format!("`{}` is not an IP address and a port; write it like 127.0.0.1:8808 or [::1]:8808", shown(text))
    })
}

pub(super) fn ip(text: &str) -> Parsed<IpAddr> {
    text.parse().map_err(|_| format!("`{}` is not an IP address; write it like 10.0.0.7", shown(text)))
}

/// Text that people read, or that an authorization server compares: any but control characters.
pub(super) fn line(text: &str) -> Parsed<String> {
    if text.chars().any(char::is_control) {
        return Err(format!("`{}` has control characters; leave them out", shown(text)));
    }
    Ok(text.to_owned())
}

pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    if text.contains('\0') {
        return Err(format!("`{}` is not a path", shown(text)));
    }
    Ok(PathBuf::from(text))
}

/// A directory that may have to be made.
pub(super) fn directory(text: &str) -> Parsed<PathBuf> {
    let text = line(text)?;
    if text.is_empty() { Err("is empty; name a folder".into()) } else { Ok(PathBuf::from(text)) }
}

pub(super) fn switch(text: &str) -> Parsed<bool> {
    text.parse().map_err(|_| format!("`{}` is neither true nor false", shown(text)))
}

pub(super) fn level(text: &str) -> Parsed<Level> {
    match text {
        "error" => Ok(Level::ERROR),
        "warn" => Ok(Level::WARN),
        "info" => Ok(Level::INFO),
        "debug" => Ok(Level::DEBUG),
        "trace" => Ok(Level::TRACE),
        _ => Err(format!("`{}` is not a level; use error, warn, info, debug or trace", shown(text))),
    }
}

pub(super) fn log_format(text: &str) -> Parsed<LogFormat> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("`{}` is not a log format; use text or json", shown(text))),
    }
}

pub(super) fn isolation(text: &str) -> Parsed<Isolation> {
    match text {
        "request" => Ok(Isolation::Request),
        "session" => Ok(Isolation::Session),
        "shared" => Ok(Isolation::Shared),
        _ => Err(format!("`{}` is not an isolation; use request, session or shared", shown(text))),
    }
}

pub(super) fn denial(text: &str) -> Parsed<Denial> {
    match text {
        "http" => Ok(Denial::Http),
        "tool-error" => Ok(Denial::ToolError),
        _ => Err(format!("`{}` is not a way to deny; use http or tool-error", shown(text))),
    }
}

pub(super) fn approve(text: &str) -> Parsed<Approve> {
    match text {
        "passphrase" => Ok(Approve::Passphrase),
        "terminal" => Ok(Approve::Terminal),
        _ => Err(format!("`{}` is not a way to sign in; use passphrase or terminal", shown(text))),
    }
}

pub(super) fn agent(text: &str) -> Parsed<Agent> {
    match text {
        "cloudflared" => Ok(Agent::Cloudflared),
        "ngrok" => Ok(Agent::Ngrok),
        _ => Err(format!("`{}` is not a tunnel agent; use cloudflared or ngrok", shown(text))),
    }
}

/// Whether registration is open for a while only.
pub(super) fn registration(text: &str) -> Parsed<bool> {
    match text {
        "open" => Ok(false),
        "window" => Ok(true),
        _ => Err(format!("`{}` is not a way to let clients register; use open or window", shown(text))),
    }
}

/// A private URI scheme (RFC 8252 §7.1).
pub(super) fn scheme(text: &str) -> Parsed<String> {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    if !text.starts_with(|first: char| first.is_ascii_lowercase()) || !text.bytes().all(rest) {
        return Err(format!("`{}` is not a URI scheme; write it like cursor or com.example.app", shown(text)));
    }
    if ["http", "https", "javascript", "data", "file", "blob", "about", "vbscript", "ws", "wss", "ftp"].contains(&text)
    {
        return Err(format!("`{text}` is no private URI scheme; leave it out"));
    }
    Ok(text.to_owned())
}

/// What a server is called: `[a-z0-9-]+`.
pub(super) fn name(text: &str) -> Parsed<String> {
    if !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
        return Ok(text.to_owned());
    }
    Err(format!("`{}` is not a server's name; use a-z, 0-9 and -, like my-files", shown(text)))
}

/// A variable of a command, `NAME=VALUE` or `NAME`.
///
/// An error shows no text that may be a value, and none that may be a misplaced secret.
pub(super) fn variable(text: &str) -> Parsed<Variable> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if name.is_empty() || !plain || name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("a variable is NAME=VALUE or NAME, and a name has only letters, digits and _".into());
    }
    // Windows does not tell the cases apart.
    let upper = name.to_ascii_uppercase();
    if [VARIABLE_PREFIX, "PROPELAUTH_"].iter().any(|own| upper.starts_with(own)) {
        return Err(format!("`{name}` is the bridge's own and may hold its secrets; give the command another"));
    }
    if value.is_some_and(|value| value.contains('\0')) {
        return Err(format!("`{name}=…` has a NUL in it; no variable can"));
    }
    Ok(Variable { name: name.to_owned(), value: value.map(|value| Secret::new(value.to_owned())) })
}

pub(super) fn count(range: RangeInclusive<usize>) -> impl Fn(&str) -> Parsed<usize> {
    move |text| {
        let count = text.parse().map_err(|_| format!("`{}` is not a whole number", shown(text)))?;
        if range.contains(&count) {
            Ok(count)
        } else {
            Err(format!("{count} is not between {} and {}", range.start(), range.end()))
        }
    }
}

/// Bytes: a whole number, or one with `KiB`, `MiB` or `GiB` behind it.
pub(super) fn size(range: RangeInclusive<usize>) -> impl Fn(&str) -> Parsed<usize> {
    move |text| {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor = match unit.trim_start() {
            "" | "B" => Some(1),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let bytes = number.parse().ok().zip(factor).and_then(|(number, factor)| usize::checked_mul(number, factor));
        let bytes =
            bytes.ok_or_else(|| format!("`{}` is not a size; write it like 4194304, 4096KiB or 4MiB", shown(text)))?;
        if range.contains(&bytes) {
            Ok(bytes)
        } else {
            Err(format!("{bytes} bytes is not between {} and {}", range.start(), range.end()))
        }
    }
}

/// At least `min`, at most a year.
pub(super) fn duration(min: Duration) -> impl Fn(&str) -> Parsed<Duration> {
    duration_within(min, DURATION_MAX)
}

pub(super) fn duration_within(min: Duration, max: Duration) -> impl Fn(&str) -> Parsed<Duration> {
    move |text| {
        let duration = humantime::parse_duration(text)
            .map_err(|_| format!("`{}` is not a duration; write it like 500ms, 15s or 30m", shown(text)))?;
        if (min..=max).contains(&duration) {
            return Ok(duration);
        }
        let (min, max) = (humantime::format_duration(min), humantime::format_duration(max));
        Err(format!("`{}` is not between {min} and {max}", shown(text)))
    }
}

/// A URL that tokens or credentials may be sent to: https, or http on loopback.
///
/// The text is not shown in errors, because a URL may have a password in it.
pub(super) fn safe_url(text: &str) -> Parsed<Url> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a URL has no white space and only ASCII characters; write it like https://auth.example.com".into());
    }
    let url =
        Url::parse(text).map_err(|error| format!("not a URL ({error}); write it like https://auth.example.com"))?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => return Err("plain http would send tokens unencrypted; use https (http is for loopback only)".into()),
        other => return Err(format!("the scheme `{other}` is not https")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user name or password has no place in this URL; leave them out".into());
    }
    if url.fragment().is_some() {
        return Err("a fragment (`#…`) has no place in this URL; leave it out".into());
    }
    Ok(url)
}

/// An issuer identifier (RFC 8414 §2), kept byte for byte.
pub(super) fn issuer(text: &str) -> Parsed<String> {
    if safe_url(text)?.query().is_some() {
        return Err("an issuer has no query (`?…`); leave it out".into());
    }
    Ok(text.to_owned())
}

/// A page for people: http or https.
pub(super) fn page(text: &str) -> Parsed<String> {
    match Url::parse(text) {
        Ok(url)
            if matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.password().is_none()
                && text.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("not the URL of a page; write it like https://example.com/docs".into()),
    }
}

/// An origin in its normal form (RFC 6454 §6.2): what a browser sends as `Origin`.
pub(super) fn origin(text: &str) -> Parsed<String> {
    const FORM: &str = "write it like https://app.example.com";
    if text == "*" {
        return Err("`*` would let every web page call with its visitor's access; name the origins".into());
    }
    if text == "null" {
        return Err("`null` is the origin of every sandboxed page; name the origins".into());
    }
    let url = Url::parse(text).map_err(|_| format!("`{}` is not an origin; {FORM}", shown(text)))?;
    let (Some(host), true) = (url.host_str().filter(|host| !host.is_empty()), text.is_ascii()) else {
        return Err(format!("`{}` is not an origin; {FORM}", shown(text)));
    };
    if host.contains('*') {
        return Err(format!("`{}` has a wildcard; name each origin", shown(text)));
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let normal = format!("{}://{}{port}", url.scheme(), host.to_ascii_lowercase());
    if normal == text { Ok(normal) } else { Err(format!("browsers send this origin as {normal}; write it so")) }
}

/// A value of `Host`: a name or address, with or without a port; in lower case.
pub(super) fn host(text: &str) -> Parsed<String> {
    const FORM: &str = "write it like mcp.example.com or mcp.example.com:8443";
    let wrong = || format!("`{}` is not a host; {FORM}", shown(text));
    if text.contains('*') {
        return Err(format!("`{}` has a wildcard; name each host", shown(text)));
    }
    let authority: http::uri::Authority = text.parse().map_err(|_| wrong())?;
    let rest = text.strip_prefix(authority.host()).ok_or_else(wrong)?;
    let port_is_good = rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    if authority.host().is_empty() || !port_is_good {
        return Err(wrong());
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: PartialEq + std::fmt::Debug>(parse: impl Fn(&str) -> Parsed<T>, good: &[(&str, T)], bad: &[&str]) {
        for (text, expected) in good {
            assert_eq!(parse(text).as_ref(), Ok(expected), "{text}");
        }
        for text in bad {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        check(
            size(1..=1 << 31),
            &[("1", 1), ("4194304", 4 << 20), ("4MiB", 4 << 20), ("4 MiB", 4 << 20), ("2GiB", 1 << 31), ("7KiB", 7168)],
            &["", "0", "4MB", "4mib", "MiB", "-1", "1.5MiB", "99999999999999999999", "18446744073709551615GiB", "3GiB"],
        );
    }

    #[test]
    fn counts_and_durations() {
        check(count(1..=5), &[("1", 1), ("5", 5)], &["", "0", "6", "-1", "1.0", "one"]);
        let second = Duration::from_secs(1);
        check(
            duration(second),
            &[("1s", second), ("30m", 1800 * second), ("1m 1s", 61 * second)],
            &["", "0s", "15", "1x", "-1s", "2years", "999ms", "99999999999999999999s"],
        );
        check(duration(Duration::ZERO), &[("0s", Duration::ZERO)], &[]);
    }

    #[test]
    fn urls_that_secrets_go_to() {
        let good = ["https://a.example", "https://a.example/oauth/2.1/", "http://127.0.0.1:1/i", "http://[::1]:1"];
        for text in good {
            assert_eq!(issuer(text).as_deref(), Ok(text));
        }
        let bad = [
            "",
            "a.example",
            "http://a.example",
            "http://localhost.evil.example",
            "ftp://a.example",
            "https://u@a.example",
            "https://u:p@a.example",
            "https://a.example/#f",
            "https://a.example/?q",
            " https://a.example",
            "https://a.example/\n",
            "https://ä.example",
        ];
        check(issuer, &[], &bad);
        assert!(safe_url("https://a.example/introspect?tenant=1").is_ok());
        let error = safe_url("ftp://user:canary@a.example").expect_err("not https");
        assert!(!error.contains("canary"), "{error}");
    }

    #[test]
    fn origins() {
        let good = [
            "https://a.example",
            "http://localhost:6274",
            "https://a.example:8443",
            "vscode-webview://abc",
            "http://[::1]:1",
        ];
        for text in good {
            assert_eq!(origin(text).as_deref(), Ok(text));
        }
        let bad = [
            "",
            "*",
            "null",
            "a.example",
            "https://a.example/",
            "https://a.example/x",
            "https://A.example",
            "https://a.example:443",
            "https://*.example",
            "https://u@a.example",
            "file:///x",
            "data:x",
            "https://ä.example",
        ];
        check(origin, &[], &bad);
    }

    #[test]
    fn pages() {
        let good = ["https://a.example/docs?x#y", "http://a.example"];
        for text in good {
            assert_eq!(page(text).as_deref(), Ok(text));
        }
        check(page, &[], &["", "docs", "ftp://a.example", "https://u:p@a.example", "https://a.example/a b"]);
    }

    #[test]
    fn hosts() {
        check(
            host,
            &[
                ("a.example", "a.example".into()),
                ("A.example:8443", "a.example:8443".into()),
                ("[::1]:80", "[::1]:80".into()),
            ],
            &[
                "",
                "*",
                "*.example",
                "https://a.example",
                "a.example/",
                "u@a.example",
                "a b",
                "a:99999",
                "a:",
                "a:b",
                ":80",
            ],
        );
    }
}
