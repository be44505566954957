//! Where an examination may send requests: what a server names must not make us knock at doors that only we can reach.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::timeout;
use url::{Host, Url};

use super::{
    address::{is_forbidden, is_global, is_here},
    fetch::REQUEST_MAX,
};
use crate::resource::is_loopback;

/// Judges URLs before they are opened and addresses before they are connected to.
///
/// The typed name is resolved once, before the first request, and stays where it was. Every other name is resolved and
/// judged here for each connection, so what was judged is what is connected to.
#[derive(Clone)]
pub(super) struct Guard(Arc<Rules>);

struct Rules {
    typed: Url,
    /// Where the typed host may be asked.
    known: Vec<IpAddr>,
    near: Near,
    /// Hosts of the proxies that the environment asks for: they are where the user's network has them.
    proxies: Vec<String>,
}

/// How far from us the typed server is, which says how near its neighbours may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Near {
    /// On this machine, at every address.
    Here,
    /// In a private network, at every address.
    Private,
    /// Somewhere else, or here and there: a name that is both is meant to be mistaken.
    Public,
}

/// Why a URL is not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("{0} is an address of this machine or of a private network")]
    Address(String),
    #[error("{0} is to be asked over plain http, which others can read")]
    Clear(String),
}

impl Guard {
    /// For the walk around `typed`, which was found at `found`.
    pub(super) fn new(typed: &Url, found: &[IpAddr], proxies: Vec<String>) -> Self {
        let near = match found {
            [] => Near::Public,
            _ if found.iter().copied().all(is_here) => Near::Here,
            _ if found.iter().all(|address| !is_global(*address)) => Near::Private,
            _ => Near::Public,
        };
        // A private name may have an address of this machine, too, as Debian gives it to its own host name.
        let may = |address: &IpAddr| !is_forbidden(*address) && (near != Near::Public || is_global(*address));
        let known = found.iter().copied().filter(may).collect();
        Self(Arc::new(Rules { typed: typed.clone(), known, near, proxies }))
    }

    /// Where the typed host may be asked; of a name that is here and there, only the public addresses.
    pub(super) fn known(&self) -> &[IpAddr] {
        &self.0.known
    }

    /// Whether a token can be sent to the typed server without others reading it.
    pub(super) fn is_safe_for_tokens(&self) -> bool {
        self.0.typed.scheme() == "https" || is_loopback(&self.0.typed)
    }

    /// Judges what can be judged without resolving a name.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refused> {
        let rules = &self.0;
        let host = url.host_str().unwrap_or_default();
        let refused = || Refused::Address(host.to_owned());
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::from(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::from(address)),
            _ => None,
        };
        match literal {
            Some(address) if rules.is_typed(host) => {
                rules.known.contains(&address).then_some(()).ok_or_else(refused)?;
            }
            _ if rules.is_typed(host) => {}
            // A proxy is nobody's authorization server, and its name is not judged when it is resolved.
            _ if rules.proxies.iter().any(|proxy| proxy == host) => return Err(refused()),
            Some(address) => rules.allows(address).then_some(()).ok_or_else(refused)?,
            None if is_loopback(url) && rules.near != Near::Here => return Err(refused()),
            None => {}
        }
        let is_among_us = is_loopback(&rules.typed) && is_loopback(url);
        if url.scheme() == "http" && !is_among_us && url.origin() != rules.typed.origin() {
            return Err(Refused::Clear(host.to_owned()));
        }
        Ok(())
    }
}

impl Rules {
    fn is_typed(&self, host: &str) -> bool {
        self.typed.host_str() == Some(host)
    }

    /// Whether somebody other than the typed server may be asked at `address`.
    fn allows(&self, address: IpAddr) -> bool {
        match self.near {
            Near::Public => is_global(address),
            Near::Private => !is_forbidden(address) && !is_here(address),
            Near::Here => !is_forbidden(address),
        }
    }

    /// Of what `name` was resolved to, where it may be asked: everywhere or nowhere.
    fn judge(&self, name: &str, found: Vec<IpAddr>) -> Result<Vec<IpAddr>, Refused> {
        let is_proxy = self.proxies.iter().any(|proxy| proxy == name);
        if is_proxy || found.iter().all(|address| self.allows(*address)) {
            return Ok(found);
        }
        Err(Refused::Address(name.to_owned()))
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        if self.is_typed(name) && !self.known.is_empty() {
            return Ok(self.known.clone());
        }
        Ok(self.judge(name, look_up(name).await?)?)
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = Arc::clone(&self.0);
        Box::pin(async move {
            let found = rules.resolve(name.as_str()).await?;
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// All addresses of `url`'s host.
pub(super) async fn resolve(url: &Url) -> io::Result<Vec<IpAddr>> {
    match url.host() {
        Some(Host::Ipv4(address)) => Ok(vec![address.into()]),
        Some(Host::Ipv6(address)) => Ok(vec![address.into()]),
        Some(Host::Domain(name)) => {
            timeout(REQUEST_MAX, look_up(name)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        }
        None => Ok(Vec::new()),
    }
}

async fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut found: Vec<IpAddr> = tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect();
    // A name server could say anything of it (RFC 6761 section 6.3).
    if name == "localhost" {
        found.retain(IpAddr::is_loopback);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect(text)
    }

    fn addresses(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|address| address.parse().expect(address)).collect()
    }

    fn guard(typed: &str, found: &str) -> Guard {
        Guard::new(&url(typed), &addresses(found), vec!["proxy.corp.example".to_owned()])
    }

    #[tokio::test]
    async fn name_with_public_and_private_addresses_does_not_open_the_private_network() {
        let mixed = guard("https://evil.example/mcp", "1.1.1.1 127.0.0.1 10.0.0.1");
        assert_eq!(mixed.0.resolve("evil.example").await.expect("its public address"), addresses("1.1.1.1"));
        for inside in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]"] {
            let refused = mixed.check(&url(&format!("https://{inside}/")));
            assert!(matches!(refused, Err(Refused::Address(_))), "{inside}: {refused:?}");
            let refused = mixed.0.judge("auth.example", addresses(inside.trim_matches(['[', ']'])));
            assert!(refused.is_err(), "{inside}: {refused:?}");
        }
        assert!(mixed.0.judge("auth.example", addresses("1.1.1.1 10.0.0.1")).is_err(), "here and there");
        assert!(mixed.0.judge("auth.example", addresses("1.1.1.1")).is_ok());
    }

    #[tokio::test]
    async fn name_that_is_resolved_again_does_not_lead_elsewhere() {
        // Whatever a name server would say now.
        let public = guard("https://localhost.evil.example/mcp", "1.1.1.1");
        assert_eq!(public.0.resolve("localhost.evil.example").await.expect("pinned"), addresses("1.1.1.1"));
        let unknown = guard("https://localhost/mcp", "");
        let refused = unknown.0.resolve("localhost").await.expect_err("it had no address");
        assert_eq!(refused.downcast_ref(), Some(&Refused::Address("localhost".to_owned())));
    }

    #[test]
    fn credentials_of_a_cloud_are_not_asked_for_wherever_the_server_is() {
        for (typed, found) in [
            ("https://mcp.example/", "1.1.1.1"),
            ("https://mcp.corp.example/", "10.0.0.1"),
            ("http://127.0.0.1:1/", "127.0.0.1"),
            ("http://169.254.169.254/", "169.254.169.254"),
        ] {
            let guard = guard(typed, found);
            for inside in ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "100.100.100.200", "[64:ff9b::a9fe:a9fe]"]
            {
                let refused = guard.check(&url(&format!("https://{inside}/")));
                assert!(matches!(refused, Err(Refused::Address(_))), "{inside} for {typed}: {refused:?}");
            }
            assert!(guard.0.judge("auth.example", addresses("169.254.169.254")).is_err(), "{typed}");
        }
        assert!(guard("http://169.254.169.254/", "169.254.169.254").known().is_empty());
    }

    #[test]
    fn what_a_server_names_is_asked_over_plain_http_on_this_machine_only() {
        const LOCAL: &str = "http://127.0.0.1:8000/mcp";
        for (typed, found, named, expected) in [
            (LOCAL, "127.0.0.1", "http://localhost:9000/", true),
            (LOCAL, "127.0.0.1", "http://[::1]:9000/", true),
            (LOCAL, "127.0.0.1", "http://10.0.0.1/", false),
            (LOCAL, "127.0.0.1", "http://auth.example/", false),
            (LOCAL, "127.0.0.1", "https://auth.example/", true),
            ("https://mcp.example/", "1.1.1.1", "http://auth.example/", false),
            ("https://mcp.example/", "1.1.1.1", "http://mcp.example/", false),
            // What was typed is examined as it was typed.
            ("http://mcp.example/mcp", "1.1.1.1", "http://mcp.example/.well-known/x", true),
            ("http://mcp.example/mcp", "1.1.1.1", "http://mcp.example:8080/", false),
            ("http://mcp.corp.example/", "10.0.0.1", "http://10.0.0.1/", false),
            ("https://mcp.corp.example/", "10.0.0.1", "https://10.0.0.2/", true),
            ("https://mcp.corp.example/", "10.0.0.1", "https://127.0.0.1/", false),
            // Its name leads here, which its owner can change.
            ("http://here.evil.example/", "127.0.0.1", "http://127.0.0.1:9000/", false),
        ] {
            let checked = guard(typed, found).check(&url(named));
            assert_eq!(checked.is_ok(), expected, "{named} for {typed}: {checked:?}");
        }
    }

    #[test]
    fn proxy_is_found_where_it_is_and_is_no_authorization_server() {
        let guard = guard("https://mcp.example/", "1.1.1.1");
        assert!(guard.0.judge("proxy.corp.example", addresses("10.0.0.9")).is_ok());
        assert!(guard.check(&url("https://proxy.corp.example:3128/")).is_err());
    }

    #[test]
    fn token_is_not_for_plain_http() {
        for (typed, found, expected) in [
            ("https://mcp.example/", "1.1.1.1", true),
            ("http://127.0.0.1:8000/", "127.0.0.1", true),
            ("http://localhost/", "::1", true),
            ("http://mcp.example/", "1.1.1.1", false),
            ("http://10.0.0.1/", "10.0.0.1", false),
            ("http://here.example/", "127.0.0.1", false),
        ] {
            assert_eq!(guard(typed, found).is_safe_for_tokens(), expected, "{typed}");
        }
    }
}
