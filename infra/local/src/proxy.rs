//! Reverse proxies in front of the runner: whose word it takes for where a request came from.
//!
//! Whoever connects may write any header. So `Forwarded` (RFC 7239) and `X-Forwarded-For` are read only if the peer is
//! within a network that the operator trusts, and from the right: each proxy adds the address that it saw at the end, so
//! the first one from there that is not a trusted proxy's own is the client's. What stands left of it the client may have
//! written.
//!
//! **Invariant:** a request with such a header is never the proxy's own. Where the client cannot be told (a header is
//! malformed, the address is hidden or `unknown`, or the two headers name different clients), it is [`UNKNOWN`]: a client
//! that hides so shares its budget with others that do, and not with the proxy's probes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

/// The address of a client that a trusted proxy does not name.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A network, as in `10.0.0.0/8` or `2001:db8::/32`. An address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    bits: u128,
    mask: u128,
    is_v6: bool,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let wrong = || format!("{text:?} is no network. It looks like 10.0.0.0/8 or 2001:db8::/32");
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
            None => longest,
        };
        if prefix > longest {
            return Err(wrong());
        }
        // Counted from the left of an address of this length.
        let mask = u128::MAX.checked_shl(longest - prefix).unwrap_or_default();
        Ok(Self {
            bits: bits(address) & mask,
            mask,
            is_v6: address.is_ipv6(),
        })
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv6() == self.is_v6 && bits(address) & self.mask == self.bits
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The networks whose proxies are trusted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies(Arc<[Network]>);

impl Proxies {
    /// Trusts the proxies in `networks`.
    pub(crate) fn new(networks: &[Network]) -> Self {
        Self(networks.into())
    }

    /// `routes`, for which a request that comes by a trusted proxy has its client's address.
    pub(crate) fn around(self, routes: Router) -> Router {
        if self.0.is_empty() {
            return routes;
        }
        routes.layer(from_fn_with_state(self, resolve))
    }

    /// Whether `address`, in its canonical form, is a trusted proxy's.
    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Where a request of `peer` with `headers` came from.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trust(peer) {
            return peer;
        }
        let forwarded = hops(headers, "forwarded", forwarded);
        let x_forwarded_for = hops(headers, "x-forwarded-for", |value| {
            Some(x_forwarded_for(value))
        });
        let named = |hops: Hops| self.first_stranger(&hops);
        let client = match (forwarded.map(named), x_forwarded_for.map(named)) {
            (Some(one), Some(other)) if one == other => one,
            // A proxy that writes one of them may hand on the other as it came: two that differ name nobody.
            (Some(_), Some(_)) => None,
            (Some(client), None) | (None, Some(client)) => client,
            // It asks for itself.
            (None, None) => return peer,
        };
        client.unwrap_or(UNKNOWN)
    }

    /// The last of `hops` that is no trusted proxy, or the first if all are. `None` if that is not known.
    fn first_stranger(&self, hops: &Hops) -> Option<IpAddr> {
        let mut farthest = None;
        for hop in hops.as_ref()?.iter().rev() {
            let hop = (*hop)?;
            farthest = Some(hop);
            if !self.trust(hop) {
                break;
            }
        }
        farthest
    }
}

async fn resolve(State(proxies): State<Proxies>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    if let Some(ConnectInfo(peer)) = peer.copied() {
        let client = proxies.client(peer.ip(), request.headers());
        // The port stays the peer's: nobody goes by it.
        let client = ConnectInfo(SocketAddr::new(client, peer.port()));
        request.extensions_mut().insert(client);
    }
    next.run(request).await
}

/// The addresses that a header names, each `None` if it is hidden; `None` if the header is malformed.
type Hops = Option<Vec<Option<IpAddr>>>;

/// What all headers of one name say together; `None` without any.
fn hops(headers: &HeaderMap, name: &str, read: impl Fn(&str) -> Hops) -> Option<Hops> {
    let values: Vec<_> = headers.get_all(name).iter().collect();
    if values.is_empty() {
        return None;
    }
    let lines: Result<Vec<&str>, _> = values.into_iter().map(HeaderValue::to_str).collect();
    // Several headers are one with commas between them (RFC 9110, 5.3).
    Some(lines.ok().and_then(|lines| read(&lines.join(","))))
}

/// `203.0.113.9, [2001:db8::1]:4711`: the one that was seen last stands last.
fn x_forwarded_for(value: &str) -> Vec<Option<IpAddr>> {
    value.split(',').map(|hop| node(hop.trim())).collect()
}

/// `for=203.0.113.9;proto=https, for="[2001:db8::1]:4711"`.
fn forwarded(value: &str) -> Hops {
    let mut hops = Vec::new();
    for element in split_unquoted(value, ',')? {
        let mut hop = None;
        for pair in split_unquoted(element, ';')? {
            let pair = pair.trim();
            // An empty one between two separators says nothing.
            if pair.is_empty() {
                continue;
            }
            let (name, value) = pair.split_once('=')?;
            if !name.eq_ignore_ascii_case("for") {
                continue;
            }
            // Said twice: which one is meant?
            if hop.is_some() {
                return None;
            }
            hop = Some(node(&unquoted(value)?));
        }
        // An element that does not say for whom hides them.
        hops.push(hop.flatten());
    }
    Some(hops)
}

/// The parts of `text` between `separator`s outside of quotes; `None` if a quote is not closed.
fn split_unquoted(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if character == separator && !is_quoted => {
                parts.push(&text[start..at]);
                start = at + separator.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!is_quoted).then_some(parts)
}

/// A value without its quotes; `None` if they are not around all of it.
fn unquoted(value: &str) -> Option<String> {
    let Some(quoted) = value.strip_prefix('"') else {
        return (!value.contains('"')).then(|| value.to_owned());
    };
    let quoted = quoted.strip_suffix('"')?;
    let (mut text, mut is_escaped) = (String::new(), false);
    for character in quoted.chars() {
        match character {
            '\\' if !is_escaped => is_escaped = true,
            '"' if !is_escaped => return None,
            _ => {
                is_escaped = false;
                text.push(character);
            }
        }
    }
    (!is_escaped).then_some(text)
}

/// The address in `203.0.113.9`, `203.0.113.9:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`. None in `unknown`,
/// in a name that hides it (`_secret`), or in what is malformed.
fn node(text: &str) -> Option<IpAddr> {
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_whole = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        let address: std::net::Ipv6Addr = address.parse().ok()?;
        is_whole.then_some(IpAddr::V6(address))?
    } else if let Ok(address) = text.parse() {
        address
    } else {
        let (address, port) = text.rsplit_once(':')?;
        let address: std::net::Ipv4Addr = address.parse().ok()?;
        is_port(port).then_some(IpAddr::V4(address))?
    };
    Some(address.to_canonical())
}

/// Whether `text` is a number, or a name that hides one (RFC 7239, 6).
fn is_port(text: &str) -> bool {
    let is_hidden = text.strip_prefix('_').is_some_and(|name| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !name.is_empty() && name.bytes().all(is_allowed)
    });
    is_hidden || text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.1";

    fn proxies() -> Proxies {
        let networks = ["10.0.0.0/8", "2001:db8:aaaa::/48", "192.0.2.7"];
        Proxies::new(&networks.map(|it| it.parse().unwrap()))
    }

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let peer = peer.parse().unwrap();
        proxies().client(peer, &map).to_string()
    }

    #[test]
    fn a_network_holds_what_its_prefix_says() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.9.9.9/8", "10.0.0.1", "::"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7/31", "192.0.2.6", "192.0.2.8"),
            ("0.0.0.0/0", "255.255.255.255", "::ffff"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "::2"),
            ("::/0", "ffff::", "0.0.0.0"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{outside}");
        }
        for wrong in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0/8",
            "::/129",
            "localhost",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
            "10.0.0.0/4294967304",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn headers_of_a_peer_that_is_not_trusted_are_ignored() {
        let both = [("forwarded", "for=1.2.3.4"), ("x-forwarded-for", "1.2.3.4")];
        for peer in ["203.0.113.9", "2001:db8::1", "192.0.2.8"] {
            assert_eq!(client(peer, &both), peer);
        }
        // As a socket that takes both families shows it.
        assert_eq!(client("::ffff:203.0.113.9", &both), "203.0.113.9");
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_a_trusted_proxy() {
        for (value, expected) in [
            ("203.0.113.9", "203.0.113.9"),
            ("1.2.3.4, 203.0.113.9", "203.0.113.9"),
            ("1.2.3.4, 203.0.113.9, 10.3.2.1,192.0.2.7", "203.0.113.9"),
            ("unknown, 203.0.113.9, 10.3.2.1", "203.0.113.9"),
            ("203.0.113.9:4711", "203.0.113.9"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711, 2001:db8:aaaa::7", "2001:db8::1"),
            ("::ffff:203.0.113.9, ::ffff:10.0.0.9", "203.0.113.9"),
            // All of them are proxies': the one that is farthest away asks.
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ] {
            for peer in [PEER, "192.0.2.7", "2001:db8:aaaa::1", "::ffff:10.0.0.1"] {
                assert_eq!(
                    client(peer, &[("x-forwarded-for", value)]),
                    expected,
                    "{value}"
                );
            }
        }
        let lines = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "203.0.113.9, 10.0.0.2"),
        ];
        assert_eq!(client(PEER, &lines), "203.0.113.9");
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (value, expected) in [
            ("for=203.0.113.9", "203.0.113.9"),
            ("For=203.0.113.9;proto=http;by=203.0.113.43", "203.0.113.9"),
            (
                "for=1.2.3.4, for=203.0.113.9;host=\"a,b;for=9.9.9.9\"",
                "203.0.113.9",
            ),
            ("for=\"203.0.113.9:4711\"", "203.0.113.9"),
            ("for=\"[2001:db8::1]\", for=10.1.1.1", "2001:db8::1"),
            ("for=\"[2001:db8::1]:_port\" , for=10.1.1.1", "2001:db8::1"),
            ("for=\"20\\3.0.113.9\"", "203.0.113.9"),
            (";for=203.0.113.9;;proto=https", "203.0.113.9"),
        ] {
            assert_eq!(client(PEER, &[("forwarded", value)]), expected, "{value}");
        }
    }

    #[test]
    fn a_client_that_is_not_told_is_not_the_peer() {
        for value in [
            "",
            "unknown",
            "_hidden",
            "for=203.0.113.9",
            "203.0.113.9,",
            "203.0.113.9, unknown",
            "1.2.3.4, nonsense, 10.0.0.2",
            "203.0.113.9:port",
            "203.0.113.9:99999",
            "203.0.113",
            "203.0.113.9 10.0.0.2",
            "[2001:db8::1",
            "[203.0.113.9]",
            "[2001:db8::1]4711",
            "fe80::1%eth0",
            "\u{fffd}",
        ] {
            assert_eq!(
                client(PEER, &[("x-forwarded-for", value)]),
                "0.0.0.0",
                "{value:?}"
            );
        }
        for value in [
            "",
            "for=unknown",
            "for=_hidden",
            "for=\"_hidden:80\"",
            "203.0.113.9",
            "proto=https",
            "for",
            "for=",
            "for=203.0.113.9;for=1.2.3.4",
            "for=203.0.113.9, for=unknown",
            "for=203.0.113.9, proto=https",
            "for=\"203.0.113.9",
            "for=\"203.0.113.9\"x",
            "for=20\"3.0.113.9\"",
            "for=\"203.0.113.9\\\"",
            "for=203.0.113.9,",
        ] {
            let client = client(PEER, &[("forwarded", value)]);
            assert_eq!(client, "0.0.0.0", "{value:?}");
        }
    }

    #[test]
    fn a_trusted_proxy_without_a_header_asks_for_itself() {
        assert_eq!(client(PEER, &[]), PEER);
    }

    #[test]
    fn two_headers_that_name_different_clients_name_none() {
        let both = |one: &str, other: &str| {
            client(PEER, &[("forwarded", one), ("x-forwarded-for", other)])
        };
        assert_eq!(both("for=203.0.113.9", "203.0.113.9"), "203.0.113.9");
        assert_eq!(both("for=1.2.3.4", "203.0.113.9"), "0.0.0.0");
        assert_eq!(both("for=unknown", "203.0.113.9"), "0.0.0.0");
        assert_eq!(both("for=1.2.3.4", "nonsense"), "0.0.0.0");
    }
}
