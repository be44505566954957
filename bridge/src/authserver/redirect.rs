//! Redirect URIs (RFC 6749 §3.1.2, RFC 8252 §7): which may be registered, and which is meant.

use url::{Host, Url};

/// Longer ones are no client's.
const BYTES_MAX: usize = 512;

/// Private schemes that known clients use.
const SCHEMES: [&str; 1] = ["cursor"];

/// Hosts of the machine in front of the user, as clients write them.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "[::1]", "localhost"];

/// Whether an answer may ever be sent to `uri`; `schemes` are private ones besides the built-in.
pub(super) fn is_registrable(uri: &str, schemes: &[String]) -> bool {
    // What parsers read differently is nobody's address: it is judged as it is written, too.
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte);
    if uri.len() > BYTES_MAX || !uri.bytes().all(is_plain) || uri.contains('#') {
        return false;
    }
    let Some((scheme, rest)) = uri.split_once("://") else { return false };
    let path = rest.split('?').next().unwrap_or_default();
    if path.split('/').skip(1).any(is_dot_segment) {
        return false;
    }
    let Ok(url) = Url::parse(uri) else { return false };
    if !url.username().is_empty() || url.password().is_some() || url.scheme() != scheme || rest.starts_with('/') {
        return false;
    }
    let authority = path.split('/').next().unwrap_or_default();
    if authority.contains(['@', '%']) {
        return false;
    }
    match scheme {
        "https" => url.host().is_some(),
        "http" => loopback_parts(uri).is_some() && is_loopback_url(&url),
        private => SCHEMES.contains(&private) || schemes.iter().any(|scheme| scheme == private),
    }
}

/// Whether the client that has registered `registered` may have its answer sent to `asked`: byte for
/// byte the same, but for the port on loopback, which a native client learns too late to register it
/// (RFC 8252 §7.3).
pub(super) fn matches(registered: &str, asked: &str) -> bool {
    if registered == asked {
        return true;
    }
    match (loopback_parts(registered), loopback_parts(asked)) {
        (Some(registered), Some(asked)) => registered == asked,
        _ => false,
    }
}

/// Whether the answer goes to a program on the device in front of the user.
pub(super) fn is_loopback(uri: &str) -> bool {
    loopback_parts(uri).is_some()
}

/// Where the answer goes, for people: host and port, or the scheme of a program on the device.
pub(super) fn shown(uri: &str) -> String {
    let (scheme, rest) = uri.split_once("://").unwrap_or((uri, ""));
    match scheme {
        "http" | "https" => rest.split(['/', '?']).next().unwrap_or_default().to_owned(),
        private => format!("{private}: (a program on this device)"),
    }
}

/// Host and what follows the port, of an http URI to loopback.
fn loopback_parts(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = LOOPBACK.into_iter().find(|host| authority.starts_with(host))?;
    let port = match &authority[host.len()..] {
        "" => return Some((&authority[..host.len()], path)),
        port => port.strip_prefix(':')?,
    };
    // Port 0 and ports with a sign or leading zeros are none.
    let is_port = port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port);
    is_port.then_some((&authority[..host.len()], path))
}

fn is_loopback_url(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// `.` and `..`, however they are encoded.
pub(super) fn is_dot_segment(segment: &str) -> bool {
    let decoded = segment.to_ascii_lowercase().replace("%2e", ".");
    decoded == "." || decoded == ".."
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_may_be_registered() {
        let own = ["com.example.app".to_owned()];
        for uri in [
            "https://claude.ai/api/mcp/auth_callback",
            "https://c.example:8443/cb?x=1",
            "http://localhost/callback",
            "http://127.0.0.1/callback",
            "http://[::1]:1/cb",
            "http://localhost:8787/callback",
            "http://127.0.0.1:33418/",
            "http://localhost:6274/oauth/callback",
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "com.example.app://cb",
            "https://vscode.dev/redirect",
        ] {
            assert!(is_registrable(uri, &own), "{uri}");
        }
        for uri in [
            "",
            "https://",
            "https:///cb",
            "//c.example/cb",
            "/cb",
            "http://c.example/cb",
            "http://localhost.evil.example/cb",
            "http://localhost@evil.example/cb",
            "http://127.0.0.1.evil.example/",
            "http://127.0.0.1:99999/",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:080/",
            "http://2130706433/cb",
            "https://u:p@c.example/cb",
            "https://c.example/cb#f",
            "https://c.example/a/../cb",
            "https://c.example/%2e%2E/cb",
            "https://c.example\\@evil.example/",
            "https://c.example/c b",
            "https://c.example/\u{fc}",
            "https://c.example/*{id}",
            "HTTPS://c.example/cb",
            "javascript:alert(1)",
            "javascript://c.example/%0aalert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "vscode://x/cb",
            &format!("https://c.example/{}", "a".repeat(500)),
        ] {
            assert!(!is_registrable(uri, &own), "{uri}");
        }
    }

    #[test]
    fn only_the_port_on_loopback_may_differ() {
        for (registered, asked, expected) in [
            ("https://c.example/cb", "https://c.example/cb", true),
            ("https://c.example/cb", "https://c.example/cb/", false),
            ("https://c.example/cb", "https://c.example/cb?x", false),
            ("https://c.example/cb", "https://c.example:443/cb", false),
            ("https://c.example/cb", "https://C.example/cb", false),
            ("http://localhost/callback", "http://localhost:5000/callback", true),
            ("http://localhost:1/callback", "http://localhost/callback", true),
            ("http://127.0.0.1:33418/", "http://127.0.0.1:5000/", true),
            ("http://[::1]/cb", "http://[::1]:5/cb", true),
            ("http://127.0.0.1/cb", "http://localhost:5/cb", false),
            ("http://localhost/cb", "https://localhost:5/cb", false),
            ("http://localhost/cb", "http://localhost:5/cb2", false),
            ("http://localhost/cb?a", "http://localhost:5/cb?b", false),
            ("http://localhost/cb", "http://localhost:5@evil.example/cb", false),
            ("http://localhost/cb", "http://localhost.evil.example/cb", false),
            ("http://localhost/cb", "http://localhost:x/cb", false),
            ("http://localhost/cb", "http://localhost:99999/cb", false),
            ("cursor://a/cb", "cursor://a:1/cb", false),
        ] {
            assert_eq!(matches(registered, asked), expected, "{registered} {asked}");
        }
    }

    #[test]
    fn people_see_where_the_answer_goes() {
        assert_eq!(shown("https://c.example:8443/cb?x"), "c.example:8443");
        assert_eq!(shown("http://127.0.0.1:1/cb"), "127.0.0.1:1");
        assert_eq!(shown("cursor://a/cb"), "cursor: (a program on this device)");
        assert!(is_loopback("http://[::1]:1/cb") && !is_loopback("https://c.example/cb") && !is_loopback("cursor://a"));
    }

    proptest! {
        #[test]
        fn nothing_panics(one in "(https?://)?(localhost|127\\.0\\.0\\.1|\\[::1\\])?\\PC{0,60}", two in "\\PC{0,60}") {
            let _ = (is_registrable(&one, &[]), matches(&one, &two), shown(&one), is_loopback(&two));
        }

        #[test]
        fn what_matches_could_have_been_registered(asked in "http://localhost\\PC{0,40}") {
            prop_assume!(is_registrable("http://localhost/cb", &[]));
            if matches("http://localhost/cb", &asked) {
                prop_assert!(is_registrable(&asked, &[]), "{}", asked);
            }
        }
    }
}
