//! Where a sign-in may send requests.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Url;

use crate::login::address::{self, Place};

/// Judges URLs before they are opened and addresses before they are connected to.
///
/// Names are resolved here, once for each connection, so what was judged is what is connected to.
#[derive(Clone)]
pub(super) struct Guard(Arc<Rules>);

struct Rules {
    /// Hosts that the user named, or that an earlier sign-in has checked: wherever they are, they may be.
    known: Vec<String>,
    /// Whether those are this machine by name.
    local: bool,
    allow_private: bool,
    proxies: Proxies,
    /// Where a known host has been: its neighbours may be asked too.
    near: Near,
    /// What the names of known hosts were resolved to.
    resolved: Mutex<HashSet<IpAddr>>,
}

#[derive(Default)]
struct Near {
    private: AtomicBool,
    loopback: AtomicBool,
}

impl Guard {
    pub(super) fn new<'a>(known: impl IntoIterator<Item = &'a Url>, allow_private: bool, proxies: Proxies) -> Self {
        let known: Vec<&Url> = known.into_iter().collect();
        let near = Near::default();
        let places: Vec<Place> = known.iter().filter_map(|url| address::literal(url)).map(Place::of).collect();
        near.private.store(places.contains(&Place::Private), Ordering::Relaxed);
        Self(Arc::new(Rules {
            local: known.iter().any(|url| address::is_loopback(url)),
            known: known.iter().filter_map(|url| url.host_str()).map(str::to_owned).collect(),
            allow_private,
            proxies,
            near,
            resolved: Mutex::default(),
        }))
    }

    /// Judges what can be judged without resolving a name.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refused> {
        let rules = &self.0;
        match url.scheme() {
            "https" => {}
            "http" if rules.local && address::is_loopback(url) => {}
            "http" => return Err(Refused::Http),
            _ => return Err(Refused::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::UserInfo);
        }
        let Some(host) = url.host_str().filter(|_| address::has_plain_host(url)) else { return Err(Refused::Host) };
        if rules.is_known(host) {
            return Ok(());
        }
        if rules.proxies.names.iter().any(|name| name == host) && !rules.allow_private {
            return Err(Refused::Proxy);
        }
        match address::literal(url) {
            Some(address) => rules.judge(address),
            None => Ok(()),
        }
    }

    /// Notes where a known host really answered from.
    pub(super) fn learn(&self, url: &Url, from: Option<SocketAddr>) {
        let rules = &self.0;
        let Some(from) = from.map(|address| address.ip()) else { return };
        // Behind a proxy this is the proxy's address, which says nothing of the host.
        let resolved = rules.resolved.lock().unwrap_or_else(PoisonError::into_inner).contains(&from);
        if !resolved || !url.host_str().is_some_and(|host| rules.is_known(host)) {
            return;
        }
        match Place::of(from) {
            Place::Private => rules.near.private.store(true, Ordering::Relaxed),
            Place::Loopback => rules.near.loopback.store(true, Ordering::Relaxed),
            Place::Public | Place::Reserved => {}
        }
    }
}

impl Rules {
    fn is_known(&self, host: &str) -> bool {
        self.known.iter().any(|known| known == host)
    }

    fn judge(&self, address: IpAddr) -> Result<(), Refused> {
        let allowed = match Place::of(address) {
            Place::Public => true,
            Place::Private => self.allow_private || self.near.private.load(Ordering::Relaxed),
            Place::Loopback => self.allow_private || self.local || self.near.loopback.load(Ordering::Relaxed),
            Place::Reserved => false,
        };
        if allowed { Ok(()) } else { Err(Refused::Address(address)) }
    }

    async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let found: Vec<IpAddr> = if address::is_localhost(name) {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        } else {
            tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()
        };
        if self.is_known(name) {
            self.resolved.lock().unwrap_or_else(PoisonError::into_inner).extend(&found);
        } else if !self.proxies.names.iter().any(|proxy| proxy == name) {
            // All of them: a name that is here and there is meant to be mistaken.
            found.iter().try_for_each(|&address| self.judge(address))?;
        }
        Ok(found.into_iter().map(|address| SocketAddr::new(address, 0)).collect())
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = Arc::clone(&self.0);
        Box::pin(async move {
            let addresses = rules.resolve(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The names of the proxies that the environment asks for: they are where the user's network has them.
#[derive(Default)]
pub(super) struct Proxies {
    names: Vec<String>,
}

impl Proxies {
    /// Those that reqwest takes from the environment.
    pub(super) fn of_environment() -> Self {
        let variables = ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"];
        Self::of(variables.into_iter().filter_map(|name| std::env::var(name).ok()))
    }

    fn of(values: impl IntoIterator<Item = String>) -> Self {
        let url = |value: String| if value.contains("://") { value } else { format!("http://{value}") };
        let hosts = values.into_iter().filter_map(|value| Url::parse(&url(value)).ok()?.host_str().map(str::to_owned));
        Self { names: hosts.collect() }
    }
}

/// Why a URL is not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// What is sent there could be read and changed on its way.
    #[error("it must begin with https:// (http:// is for servers on this machine only)")]
    Http,
    /// Not the web.
    #[error("it must begin with https://")]
    Scheme,
    /// Names have letters, digits, hyphens and dots.
    #[error("its host is none")]
    Host,
    /// It would end up in logs, and hides the host from hasty readers.
    #[error("a user name or password in a URL is not accepted")]
    UserInfo,
    /// An authorization server cannot be the user's proxy.
    #[error("it is the proxy of this machine")]
    Proxy,
    /// A server elsewhere must not make this machine ask around in its own network.
    #[error(
        "its address {0} is not one of the public internet, while the server's is; \
         allow private addresses if you trust the server with your network"
    )]
    Address(IpAddr),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(known: &str, allow_private: bool) -> Guard {
        Guard::new([&Url::parse(known).expect(known)], allow_private, Proxies::default())
    }

    fn check(known: &str, url: &str, expected: Result<(), Refused>) {
        assert_eq!(guard(known, false).check(&Url::parse(url).expect(url)), expected, "{url} for {known}");
    }

    #[test]
    fn https_server_cannot_send_us_to_plain_http_or_other_schemes() {
        const SERVER: &str = "https://mcp.example.com/mcp";
        check(SERVER, "https://auth.example.com/", Ok(()));
        check(SERVER, "http://auth.example.com/", Err(Refused::Http));
        check(SERVER, "http://mcp.example.com/", Err(Refused::Http));
        check(SERVER, "http://127.0.0.1/", Err(Refused::Http));
        check(SERVER, "http://localhost/", Err(Refused::Http));
        check(SERVER, "javascript:alert(1)", Err(Refused::Scheme));
        check(SERVER, "file:///etc/passwd", Err(Refused::Scheme));
        check(SERVER, "data:text/html,x", Err(Refused::Scheme));
        check(SERVER, "ftp://auth.example.com/", Err(Refused::Scheme));
        check(SERVER, "https://mcp.example.com@evil.example/", Err(Refused::UserInfo));
        check(SERVER, "https://www.$(calc.exe).com/", Err(Refused::Host));
    }

    #[test]
    fn literal_addresses_inside_are_not_opened_for_a_server_outside() {
        const SERVER: &str = "https://mcp.example.com/mcp";
        for address in
            ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "0x7f.1", "100.64.0.1"]
        {
            let url = Url::parse(&format!("https://{address}/")).expect(address);
            let refused = guard(SERVER, false).check(&url);
            assert!(matches!(refused, Err(Refused::Address(_))), "{address}: {refused:?}");
        }
        check(SERVER, "https://8.8.8.8/", Ok(()));
        let lenient = guard(SERVER, true);
        lenient.check(&Url::parse("https://10.0.0.1/").expect("a URL")).expect("allowed by the user");
        let metadata = lenient.check(&Url::parse("https://169.254.169.254/").expect("a URL"));
        assert!(matches!(metadata, Err(Refused::Address(_))), "cloud credentials are nobody's authorization server");
    }

    #[test]
    fn server_on_loopback_may_use_plain_http_on_loopback_only() {
        const SERVER: &str = "http://127.0.0.1:8000/mcp";
        check(SERVER, "http://localhost:9000/", Ok(()));
        check(SERVER, "http://[::1]:9000/", Ok(()));
        check(SERVER, "https://auth.example.com/", Ok(()));
        check(SERVER, "http://auth.example.com/", Err(Refused::Http));
        check(SERVER, "http://10.0.0.1/", Err(Refused::Http));
        check(SERVER, "https://10.0.0.1/", Err(Refused::Address(Ipv4Addr::new(10, 0, 0, 1).into())));
        check("https://10.0.0.9/mcp", "https://10.0.0.1/", Ok(()));
        check("https://10.0.0.9/mcp", "https://127.0.0.1/", Err(Refused::Address(Ipv4Addr::LOCALHOST.into())));
    }

    #[tokio::test]
    async fn name_that_resolves_to_this_machine_is_not_opened_for_a_server_outside() {
        let outside = guard("https://mcp.example.com/mcp", false);
        let error = outside.0.resolve("localhost").await.expect_err("refused");
        assert_eq!(error.downcast_ref(), Some(&Refused::Address(Ipv4Addr::LOCALHOST.into())));
        guard("http://localhost:1/", false).0.resolve("localhost").await.expect("its own host");
        guard("http://127.0.0.1:1/", false).0.resolve("localhost").await.expect("its own machine");
    }

    #[test]
    fn neighbours_of_a_private_server_may_be_asked_once_it_has_answered_from_there() {
        let server = Url::parse("https://mcp.corp.example/").expect("a URL");
        let neighbour = Url::parse("https://10.0.0.7/").expect("a URL");
        let guard = guard(server.as_str(), false);
        let from = SocketAddr::from(([10, 0, 0, 5], 443));
        guard.learn(&server, Some(from));
        assert!(guard.check(&neighbour).is_err(), "that was not the address of its name: a proxy's, perhaps");
        guard.0.resolved.lock().expect("not poisoned").insert(from.ip());
        guard.learn(&neighbour, Some(from));
        assert!(guard.check(&neighbour).is_err(), "that was not the server");
        guard.learn(&server, Some(from));
        guard.check(&neighbour).expect("a neighbour");
    }

    #[tokio::test]
    async fn proxy_is_found_where_it_is_and_is_no_endpoint() {
        let proxies = Proxies::of(["http://user:secret@proxy.localhost:3128".to_owned(), "localhost:3129".to_owned()]);
        assert_eq!(proxies.names, ["proxy.localhost", "localhost"]);
        let guard = Guard::new([&Url::parse("https://mcp.example.com/").expect("a URL")], false, proxies);
        guard.0.resolve("proxy.localhost").await.expect("the proxy");
        guard.0.resolve("other.localhost").await.expect_err("not the proxy");
        let endpoint = Url::parse("https://proxy.localhost:3128/").expect("a URL");
        assert_eq!(guard.check(&endpoint), Err(Refused::Proxy));
    }
}
