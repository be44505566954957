//! Which hosts we answer to, and which web pages may call us (MCP "Streamable HTTP", Security;
//! the Fetch standard's CORS protocol).

use std::net::{IpAddr, SocketAddr};

use http::{
    HeaderMap, HeaderValue,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, VARY,
    },
};
use url::Url;

use crate::resource::{ResourceUri, is_loopback};

/// The hosts and origins of one endpoint.
#[derive(Debug)]
pub(super) struct Origins {
    /// Without the ports of their schemes.
    hosts: Vec<String>,
    /// Empty: loopback origins.
    allowed: Vec<String>,
    own: String,
}

impl Origins {
    /// `bound` is where we listen; `extra_hosts` are names under which a proxy may pass requests
    /// on; `allowed` replaces the default of loopback origins when it is not empty.
    pub(super) fn new(resource: &ResourceUri, bound: SocketAddr, extra_hosts: &[String], allowed: &[String]) -> Self {
        let port = bound.port();
        let mut hosts: Vec<String> = vec![resource.authority().to_owned()];
        hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(|host| format!("{host}:{port}")));
        if !bound.ip().is_unspecified() {
            hosts.push(bound.to_string());
        }
        hosts.extend_from_slice(extra_hosts);
        let hosts = hosts.iter().map(|host| without_default_port(host).to_owned()).collect();
        Self { hosts, allowed: allowed.to_vec(), own: resource.origin().to_owned() }
    }

    /// Whether `host`, from `Host` or `:authority`, names us.
    ///
    /// A DNS-rebinding page reaches a loopback socket under its own name; this is where it ends.
    pub(super) fn is_our_host(&self, host: &str) -> bool {
        let host = without_default_port(host);
        self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    /// Whether a page of `origin` may call us.
    pub(super) fn allows(&self, origin: &str) -> bool {
        if origin == self.own || self.allowed.iter().any(|allowed| allowed == origin) {
            return true;
        }
        self.allowed.is_empty() && is_loopback_origin(origin)
    }
}

/// A client may leave the port of its scheme out, or write it.
fn without_default_port(host: &str) -> &str {
    host.strip_suffix(":443").or_else(|| host.strip_suffix(":80")).unwrap_or(host)
}

fn is_loopback_origin(origin: &str) -> bool {
    Url::parse(origin).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && is_loopback(&url) && url.origin().ascii_serialization() == origin
    })
}

/// Lets a page of `origin` read an answer of the MCP endpoint, refusals included: a client that
/// cannot read the challenge cannot begin to sign in.
pub(super) fn allow_reading(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version, Retry-After"),
    );
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

/// Completes the answer to a preflight request for the MCP endpoint.
pub(super) fn answer_preflight(headers: &mut HeaderMap, asked: &HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE, OPTIONS"));
    // `*` would not cover Authorization, so the names are listed.
    let mut names = String::from(
        "authorization, content-type, accept, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name, last-event-id",
    );
    let requested = asked.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|value| value.to_str().ok());
    for name in requested.flat_map(|value| value.split(',')).map(str::trim).take(MAX_REQUESTED_HEADERS) {
        let name = name.to_ascii_lowercase();
        if name.strip_prefix("mcp-param-").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_token_byte)) {
            names.push_str(", ");
            names.push_str(&name);
        }
    }
    if let Ok(names) = HeaderValue::from_str(&names) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    // The browser's own upper bound differs; two hours is Chromium's.
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
}

/// No tool mirrors more parameters than this; the rest is not echoed.
const MAX_REQUESTED_HEADERS: usize = 64;

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The address to log a request under: the peer's, or, when the peer is a trusted proxy, the last
/// address in `X-Forwarded-For` that is not one.
///
/// Read from its end, where the proxies write, and no further than it can be read: what stands
/// before is whatever the client wrote.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> IpAddr {
    let mut client = peer.to_canonical();
    if !trusted.contains(&client) {
        return client;
    }
    let values: Vec<&HeaderValue> = headers.get_all("x-forwarded-for").iter().collect();
    let addresses =
        values.iter().rev().flat_map(|value| value.to_str().unwrap_or_default().rsplit(',')).map(forwarded_address);
    for address in addresses {
        match address {
            Some(address) if trusted.contains(&address) => client = address,
            Some(address) => return address,
            None => break,
        }
    }
    client
}

/// One address of `X-Forwarded-For`; some proxies add the port.
fn forwarded_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origins(public: &str, allowed: &[&str]) -> Origins {
        let resource = ResourceUri::new(public, "/mcp").expect("valid");
        let allowed: Vec<String> = allowed.iter().map(|&origin| origin.to_owned()).collect();
        Origins::new(&resource, "127.0.0.1:8808".parse().expect("valid"), &["tunnel.internal".to_owned()], &allowed)
    }

    #[test]
    fn hosts() {
        let origins = origins("https://mcp.example", &[]);
        for host in [
            "mcp.example",
            "MCP.example",
            "mcp.example:443",
            "localhost:8808",
            "127.0.0.1:8808",
            "[::1]:8808",
            "tunnel.internal",
        ] {
            assert!(origins.is_our_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost",
            "localhost:8809",
            "mcp.example.evil",
            "mcp.example:8808",
            "127.0.0.1.evil:8808",
        ] {
            assert!(!origins.is_our_host(host), "{host}");
        }
    }

    #[test]
    fn pages() {
        let open = origins("https://mcp.example", &[]);
        for origin in [
            "http://localhost:6274",
            "http://127.0.0.1:1",
            "https://[::1]:2",
            "http://localhost",
            "https://mcp.example",
        ] {
            assert!(open.allows(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "https://evil.example",
            "http://localhost.evil.example",
            "http://localhost:1/x",
            "file://",
            "http://mcp.example",
        ] {
            assert!(!open.allows(origin), "{origin}");
        }
        let listed = origins("https://mcp.example", &["https://app.example"]);
        assert!(listed.allows("https://app.example"));
        assert!(!listed.allows("http://localhost:6274"));
    }

    fn client(peer: &str, forwarded: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_static(value));
        }
        let trusted = ["127.0.0.1", "10.0.0.2"].map(|text| text.parse().expect("valid"));
        client_address(peer.parse().expect("valid"), &headers, &trusted).to_string()
    }

    #[test]
    fn forwarded_addresses_count_only_from_a_trusted_proxy() {
        for (peer, forwarded, expected) in [
            ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", &["203.0.113.9, 198.51.100.7", "10.0.0.2"], "198.51.100.7"),
            ("127.0.0.1", &["203.0.113.9", "198.51.100.7 ,10.0.0.2"], "198.51.100.7"),
            ("127.0.0.1", &["10.0.0.2, 127.0.0.1"], "10.0.0.2"),
            ("127.0.0.1", &["198.51.100.7:49152"], "198.51.100.7"),
            ("127.0.0.1", &["[2001:db8::1]:49152"], "2001:db8::1"),
            ("127.0.0.1", &["2001:db8::1"], "2001:db8::1"),
        ] {
            assert_eq!(client(peer, forwarded), expected, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn an_address_that_the_client_invented_is_not_taken_for_what_the_proxy_wrote() {
        for last in ["unknown", "", "198.51.100.7.evil", "_hidden"] {
            let forwarded = format!("203.0.113.9, {last}");
            assert_eq!(client("127.0.0.1", &[forwarded.leak()]), "127.0.0.1", "{last}");
        }
    }

    proptest! {
        #[test]
        fn no_host_or_origin_panics(text in "(https?://)?[\\PC\\x00]{0,40}(:[0-9]{0,6})?") {
            let origins = origins("https://mcp.example", &[]);
            let _ = (origins.is_our_host(&text), origins.allows(&text));
        }

        #[test]
        fn no_forwarded_address_panics(
            values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4),
            text in "[0-9a-f:.,\\[\\] ]{0,60}",
        ) {
            let mut headers = HeaderMap::new();
            for value in values.iter().map(Vec::as_slice).chain([text.as_bytes()]) {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    headers.append("x-forwarded-for", value);
                }
            }
            let peer = IpAddr::from([127, 0, 0, 1]);
            client_address(peer, &headers, &[peer]);
        }
    }

    /// Otherwise a client writes any address into the log in place of its own.
    #[test]
    fn what_a_client_forges_before_an_unreadable_address_is_not_believed() {
        let proxy: IpAddr = "10.0.0.7".parse().expect("valid");
        let client = |peer: &str, forwarded: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.append("x-forwarded-for", HeaderValue::from_bytes(forwarded).expect("valid"));
            client_address(peer.parse().expect("valid"), &headers, &[proxy]).to_string()
        };
        assert_eq!(client("10.0.0.7", b"6.6.6.6, unknown"), "10.0.0.7");
        assert_eq!(client("10.0.0.7", b"6.6.6.6, \xff"), "10.0.0.7");
        assert_eq!(client("10.0.0.7", b"6.6.6.6, "), "10.0.0.7");
        assert_eq!(client("10.0.0.7", b"6.6.6.6, 198.51.100.7:5123"), "198.51.100.7");
        assert_eq!(client("10.0.0.7", b"6.6.6.6, [2001:db8::1]:5123"), "2001:db8::1");
        // A socket for both families shows the proxy so.
        assert_eq!(client("::ffff:10.0.0.7", b"198.51.100.7"), "198.51.100.7");
        assert_eq!(client("::ffff:10.0.0.8", b"198.51.100.7"), "10.0.0.8");
    }
}
