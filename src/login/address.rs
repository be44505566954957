//! Where a host is: on the public internet, in somebody's network, on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// What an address says about the machine behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Anybody's: it learns nothing that it could not have asked for itself.
    Public,
    /// RFC 1918, RFC 6598, RFC 4193: a network that trusts its members.
    Private,
    /// This machine.
    Loopback,
    /// Link-local (where clouds hand out credentials), multicast, documentation, reserved.
    Reserved,
}

impl Place {
    /// Where `address` is; of an IPv4 address inside of an IPv6 one, where that is.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6),
        }
    }
}

/// Whether `url` names this machine by a literal address or by `localhost` (RFC 6761 §6.3).
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_localhost(name),
        Some(Host::Ipv4(v4)) => Place::of(v4.into()) == Place::Loopback,
        Some(Host::Ipv6(v6)) => Place::of(v6.into()) == Place::Loopback,
        None => false,
    }
}

/// `localhost` and what is below it: never asked of a name server, which could say anything.
#[must_use]
pub fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether the host is a literal address or a name of letters, digits, hyphens, underscores and dots. The URL
/// standard allows more, such as `$(…)`.
#[must_use]
pub fn has_plain_host(url: &Url) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    match url.host() {
        Some(Host::Domain(name)) => !name.is_empty() && !name.starts_with('-') && name.bytes().all(fits),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        None => false,
    }
}

/// The literal address in `url`, if its host is one.
#[must_use]
pub fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Domain(_) => None,
        Host::Ipv4(v4) => Some(v4.into()),
        Host::Ipv6(v6) => Some(v6.into()),
    }
}

/// Alibaba's and AWS's metadata services, in the middle of ranges that are merely private.
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

fn of_v4(v4: Ipv4Addr) -> Place {
    match v4.octets() {
        _ if v4 == METADATA_V4 => Place::Reserved,
        [127, ..] => Place::Loopback,
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] | [100, 64..=127, ..] => Place::Private,
        [0, ..] | [169, 254, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] => Place::Reserved,
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] | [224..=255, ..] => Place::Reserved,
        _ => Place::Public,
    }
}

fn of_v6(v6: Ipv6Addr) -> Place {
    if v6 == Ipv6Addr::LOCALHOST {
        return Place::Loopback;
    }
    if v6 == METADATA_V6 {
        return Place::Reserved;
    }
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        of_v4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        // IPv4-mapped, NAT64 and 6to4: what counts is the IPv4 address inside.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        [0xfc00..=0xfdff, ..] => Place::Private,
        // Teredo and the other protocol assignments, and documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Place::Reserved,
        [0x2000..=0x3fff, ..] => Place::Public,
        _ => Place::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_only_this_machine_or_network_can_reach_are_told_from_public_ones() {
        let cases = [
            (Place::Public, "8.8.8.8 1.1.1.1 172.15.0.1 172.32.0.1 100.63.0.1 100.128.0.1 192.167.0.1 223.255.255.1"),
            (Place::Public, "2606:4700::1111 2a00:1450::1 2001:4860::8888 2002:808:808::1 64:ff9b::8.8.8.8"),
            (Place::Private, "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 fd12:3456::1 fc00::1"),
            (Place::Private, "::ffff:10.0.0.1 ::ffff:192.168.0.1 64:ff9b::10.0.0.1 2002:a00:1::1"),
            (Place::Loopback, "127.0.0.1 127.255.0.9 ::1 ::ffff:127.0.0.1 2002:7f00:1::1"),
            (Place::Reserved, "169.254.169.254 ::ffff:169.254.169.254 64:ff9b::169.254.169.254 fe80::1 fd00:ec2::254"),
            (Place::Reserved, "0.0.0.0 :: 0.1.2.3 100.100.100.200 192.0.0.192 192.0.2.1 198.18.0.1 198.51.100.1"),
            (Place::Reserved, "203.0.113.1 224.0.0.1 255.255.255.255 240.0.0.1 ::10.0.0.1 ::2 fec0::1 ff02::1"),
            (Place::Reserved, "2001:db8::1 2001:0:1::1 100::1 5f00::1 64:ff9b:1::1 3fff::1"),
        ];
        for (expected, addresses) in cases {
            for address in addresses.split(' ') {
                assert_eq!(Place::of(address.parse().expect(address)), expected, "{address}");
            }
        }
    }

    #[test]
    fn loopback_is_known_in_every_spelling() {
        for (url, expected) in [
            ("http://127.0.0.1:1", true),
            ("http://2130706433/", true),
            ("http://0x7f.1/", true),
            ("http://[::1]/", true),
            ("http://[::ffff:127.0.0.1]/", true),
            ("http://LOCALHOST:8080/", true),
            ("http://a.localhost./", true),
            ("http://localhost.example.com/", false),
            ("http://notlocalhost/", false),
            ("http://127.0.0.1.example.com/", false),
            ("http://0.0.0.0/", false),
            ("data:text/plain,localhost", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).expect(url)), expected, "{url}");
        }
    }
}
