//! Which addresses the internet can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `address` can be reached from everywhere: it is neither this machine's, nor a private
/// network's, nor reserved, nor one of these inside an IPv6 address (IANA special-purpose registries).
pub(super) fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => is_global_v6(address),
    }
}

/// Whether no server, not even one on this machine, may send us to `address`: link-local, where clouds hand out
/// credentials, and the places in private ranges where Alibaba and AWS do.
pub(super) fn is_forbidden(address: IpAddr) -> bool {
    match inner(address) {
        IpAddr::V4(address) => address.is_link_local() || address == Ipv4Addr::new(100, 100, 100, 200),
        IpAddr::V6(address) => {
            address.is_unicast_link_local() || address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
        }
    }
}

/// Whether `address` leads to this machine; to connect to the unspecified one does, too.
pub(super) fn is_here(address: IpAddr) -> bool {
    let address = inner(address);
    address.is_loopback() || address.is_unspecified()
}

/// The IPv4 address inside an IPv6 address, if one is there.
fn inner(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    embedded(v6).map_or(address, IpAddr::V4)
}

/// v4-mapped and NAT64 carry an IPv4 address at the end, 6to4 after its prefix.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmarks = a == 198 && (18..20).contains(&b);
    !(a == 0
        || a >= 224
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || (a, b, c) == (192, 0, 0)
        || shared
        || benchmarks)
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    match (embedded(address), address.segments()) {
        (Some(address), _) => is_global_v4(address),
        (None, [0x2001, 0xdb8, ..]) => false,
        // Only this block is given out as global unicast.
        (None, [first, ..]) => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_metadata_cannot_send_us_into_the_local_network() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "198.18.0.1",
            "192.0.0.8",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ] {
            assert!(!is_global(inside.parse().expect(inside)), "{inside}");
        }
        for outside in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
        {
            assert!(is_global(outside.parse().expect(outside)), "{outside}");
        }
    }
}
