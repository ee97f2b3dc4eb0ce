//! Which addresses webhooks may go to. A tenant chooses the URL, and we connect from inside the operator's network:
//! what only that network can reach is not the tenant's to reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where webhooks may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Targets {
    /// Only to addresses of the public Internet, and only over TLS.
    #[default]
    Public,
    /// Anywhere: to this machine, to private networks, and without TLS. For development, and for who sends to
    /// a network of their own.
    Any,
}

impl Targets {
    /// Whether a connection to `address` is allowed.
    pub const fn allow(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Any, _) => true,
            (Self::Public, IpAddr::V4(v4)) => is_public_v4(v4),
            (Self::Public, IpAddr::V6(v6)) => is_public_v6(v6),
        }
    }
}

/// What IANA's special-purpose registry does not set aside (RFC 6890).
const fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = match (a, b, c) {
        // "This network", private, loopback; multicast, reserved and broadcast.
        (0 | 10 | 127 | 224..=255, _, _)
        // Shared by carriers' customers (RFC 6598).
        | (100, 64..=127, _)
        // Link-local: also the metadata of cloud machines.
        | (169, 254, _)
        | (172, 16..=31, _)
        // IETF protocols, documentation, 6to4 relays, private.
        | (192, 0, 0 | 2)
        | (192, 88, 99)
        | (192, 168, _)
        // Benchmarks, documentation.
        | (198, 18 | 19, _)
        | (198, 51, 100)
        | (203, 0, 113) => true,
        _ => false,
    };
    !is_special
}

/// What is global unicast (`2000::/3`) and carries no other address. All else is set aside or not assigned: loopback,
/// unspecified, IPv4 in IPv6, NAT64, discard-only, unique local, link-local, site-local, multicast.
const fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let is_special = match (a, b) {
        // IETF protocols: Teredo (which carries an IPv4 address), benchmarks, ORCHID. And documentation.
        (0x2001, 0..=0x01ff | 0x0db8)
        // 6to4, which carries an IPv4 address.
        | (0x2002, _)
        // Documentation (RFC 9637).
        | (0x3fff, 0..=0x0fff) => true,
        _ => false,
    };
    a & 0xe000 == 0x2000 && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_public(address: &str) -> bool {
        Targets::Public.allow(address.parse().unwrap())
    }

    #[test]
    fn no_address_that_is_set_aside_is_public() {
        // The first and the last of each range.
        for address in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.169.254",
            "169.254.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.0",
            "192.0.0.255",
            "192.0.2.0",
            "192.0.2.255",
            "192.88.99.0",
            "192.88.99.255",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.0",
            "198.51.100.255",
            "203.0.113.0",
            "203.0.113.255",
            "224.0.0.0",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.254",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:1",
            "100::",
            "100::ffff:ffff:ffff:ffff",
            "2001::",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "2002:7f00:1::",
            "2002:ffff::1",
            "3fff::",
            "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fdff:ffff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "feff::1",
            "ff00::1",
            "ff02::1",
            "ffff::1",
        ] {
            assert!(!is_public(address), "{address}");
        }
    }

    #[test]
    fn the_addresses_beside_them_are_public() {
        for address in [
            "1.0.0.0",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "2000::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2001:db7::1",
            "2001:db9::1",
            "2003::1",
            "2606:4700::1111",
            "3fff:1000::1",
            "3ffe::1",
        ] {
            assert!(is_public(address), "{address}");
        }
    }

    #[test]
    fn an_operator_may_allow_any() {
        assert!(Targets::Any.allow(Ipv4Addr::LOCALHOST.into()));
        assert!(Targets::Any.allow(Ipv6Addr::LOCALHOST.into()));
    }
}
