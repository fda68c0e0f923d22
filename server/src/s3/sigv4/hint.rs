//! What to say when a signature may have failed because a proxy changed the `Host` header.

use std::net::IpAddr;

use http::HeaderMap;

/// What to say when the signature may have failed because a proxy changed the `Host` header.
pub(super) fn rewritten_host(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text("host").unwrap_or_default();
    let advice = "let it pass the Host header through unchanged";
    if let Some(forwarded) = text("x-forwarded-host").filter(|forwarded| *forwarded != host) {
        return Some(format!(
            "The Host header was '{host}' here but '{forwarded}' before a proxy: {advice}."
        ));
    }
    let is_forwarded = [
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-real-ip",
    ]
    .iter()
    .any(|name| headers.contains_key(*name));
    (is_forwarded && is_inner(host)).then(|| {
        format!("The request came through a proxy and its Host header is '{host}': {advice}.")
    })
}

/// Whether a host name is one that only a proxy's configuration would use.
pub(super) fn is_inner(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    match name.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        Err(_) => name.eq_ignore_ascii_case("localhost") || !name.contains('.'),
    }
}
