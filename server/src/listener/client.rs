//! Who a request is from, when proxies stand between.
//!
//! Called for each request. Only what a trusted proxy adds is believed: entries to the left of the first address that
//! is not trusted were written by who knows whom.

use std::net::IpAddr;

use http::HeaderMap;

use crate::config::TrustedProxies;

const FORWARDED_FOR: &str = "x-forwarded-for";
const REAL_IP: &str = "x-real-ip";

/// The address of the client behind `peer`: the peer itself unless it is a trusted proxy, else the rightmost entry of
/// `X-Forwarded-For` that is none, else `X-Real-IP`. An entry that is no address ends the search: the last trusted
/// proxy is then taken for the client.
pub fn client(peer: IpAddr, headers: &HeaderMap, proxies: &TrustedProxies) -> IpAddr {
    let mut nearest = peer.to_canonical();
    if !proxies.contains(nearest) {
        return nearest;
    }
    let mut entries = headers.get_all(FORWARDED_FOR).iter().rev().peekable();
    if entries.peek().is_none() {
        let real = headers
            .get(REAL_IP)
            .and_then(|value| address(value.as_bytes()));
        return real.unwrap_or(nearest);
    }
    for entry in entries.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b',')) {
        let Some(address) = address(entry) else {
            return nearest;
        };
        nearest = address;
        if !proxies.contains(nearest) {
            return nearest;
        }
    }
    nearest
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = || text.parse().ok();
    let with_port = || {
        text.parse()
            .ok()
            .map(|addr: std::net::SocketAddr| addr.ip())
    };
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address: Option<IpAddr> = bare().or_else(with_port).or_else(in_brackets);
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(proxies: &str, peer: &str, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                *name,
                http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        client(peer.parse().unwrap(), &map, &proxies.parse().unwrap()).to_string()
    }

    /// W22: behind a proxy that appends, the leftmost entry is whatever the caller wrote.
    #[test]
    fn the_rightmost_untrusted_entry_counts() {
        let xff = |text| [("x-forwarded-for", text)];
        for (proxies, peer, entries, expected) in [
            ("false", "10.0.0.1", "192.0.2.1", "10.0.0.1"),
            ("true", "203.0.113.1", "192.0.2.1", "203.0.113.1"),
            ("true", "10.0.0.1", "192.0.2.1", "192.0.2.1"),
            ("true", "10.0.0.1", "1.1.1.1, 192.0.2.1", "192.0.2.1"),
            (
                "true",
                "10.0.0.1",
                "1.1.1.1,192.0.2.1,10.0.0.2",
                "192.0.2.1",
            ),
            ("true", "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("true", "10.0.0.1", "1.1.1.1, nonsense", "10.0.0.1"),
            (
                "true",
                "10.0.0.1",
                "1.1.1.1, nonsense, 10.0.0.2",
                "10.0.0.2",
            ),
            ("true", "10.0.0.1", "", "10.0.0.1"),
            ("true", "10.0.0.1", "1.1.1.1,", "10.0.0.1"),
            ("true", "::ffff:10.0.0.1", "::ffff:192.0.2.1", "192.0.2.1"),
            ("true", "10.0.0.1", "192.0.2.1:1234", "192.0.2.1"),
            ("true", "10.0.0.1", "[2001:db8::1]:1234", "2001:db8::1"),
            ("true", "10.0.0.1", "[2001:db8::1]", "2001:db8::1"),
            ("true", "10.0.0.1", "unknown", "10.0.0.1"),
            ("203.0.113.0/24", "203.0.113.1", "10.0.0.9", "10.0.0.9"),
        ] {
            assert_eq!(
                found(proxies, peer, &xff(entries)),
                expected,
                "{peer} {entries}"
            );
        }
    }

    #[test]
    fn several_headers_are_one_list() {
        let headers = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "192.0.2.1, 10.0.0.2"),
        ];
        assert_eq!(found("true", "10.0.0.1", &headers), "192.0.2.1");
    }

    #[test]
    fn real_ip_counts_where_the_list_is_missing() {
        let real = ("x-real-ip", "192.0.2.1");
        assert_eq!(found("true", "10.0.0.1", &[real]), "192.0.2.1");
        assert_eq!(found("true", "203.0.113.1", &[real]), "203.0.113.1");
        let both = [real, ("x-forwarded-for", "192.0.2.2")];
        assert_eq!(found("true", "10.0.0.1", &both), "192.0.2.2");
        assert_eq!(found("true", "10.0.0.1", &[("x-real-ip", "x")]), "10.0.0.1");
    }

    proptest::proptest! {
        #[test]
        fn hostile_entries_never_panic(bytes: Vec<u8>) {
            let _ = address(&bytes);
        }
    }
}
