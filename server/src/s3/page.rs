//! The page that a browser gets at `/`: what this is and how to connect.

use bytes::Bytes;
use http::{HeaderValue, Response, header, request::Parts};

use super::{body::Body, sigv4};

const PAGE: &str = include_str!("page.html");
/// The page loads nothing and runs nothing.
const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; img-src data:");

/// The page, with the address that the browser used.
pub(crate) fn welcome(parts: &Parts, region: &str) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(render(parts, region))));
    let headers = response.headers_mut();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, html);
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn render(parts: &Parts, region: &str) -> String {
    let forwarded = parts
        .headers
        .get("x-forwarded-proto")
        .map(HeaderValue::as_bytes);
    let scheme = if forwarded == Some(b"https") {
        "https"
    } else {
        "http"
    };
    let host = sigv4::host(parts).and_then(|host| std::str::from_utf8(host).ok());
    let host = host
        .filter(|host| is_plain(host))
        .unwrap_or("localhost:9000");
    let region = if is_plain(region) {
        region
    } else {
        "us-east-1"
    };
    PAGE.replace("{endpoint}", &format!("{scheme}://{host}"))
        .replace("{region}", region)
}

/// Whether a name can stand in HTML and in a shell as it is.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    !name.is_empty() && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::sigv4::tests::request;

    #[test]
    fn the_page_names_the_address_that_was_used() {
        let page = render(
            &request("GET", "/", &[("host", "jay.example:9000")]),
            "eu-west-1",
        );
        assert!(page.contains("AWS_ENDPOINT_URL=http://jay.example:9000"));
        assert!(page.contains("AWS_DEFAULT_REGION=eu-west-1"));
        assert!(!page.contains('{') || page.contains("<style>"));
    }

    #[test]
    fn hostile_hosts_are_not_repeated() {
        let page = render(
            &request("GET", "/", &[("host", "\"><script>")]),
            "us-east-1",
        );
        assert!(page.contains("http://localhost:9000") && !page.contains("<script"));
    }
}
