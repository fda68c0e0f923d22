//! Cross-origin requests of browsers: the standing rules, by which every origin is let in.
//!
//! A browser shows a page an answer, errors included, only with these headers. They open nothing, since no
//! request here is authenticated by a cookie. Deliberately absent: rules of single buckets.
//!
//! Source: Fetch standard, section 3.3, "HTTP extensions"; Private Network Access, section 3.1.

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use super::body::Body;

const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");
const METHODS: HeaderValue = HeaderValue::from_static("GET, PUT, HEAD, DELETE, OPTIONS, POST");
const MAX_AGE_SECONDS: HeaderValue = HeaderValue::from_static("86400");
/// What a page may read of every answer, besides the `x-amz-*` headers in it.
const EXPOSED: &str =
    "ETag, Content-Length, Content-Type, Last-Modified, Content-Range, Accept-Ranges";
const PRIVATE_NETWORK: (HeaderName, HeaderName) = (
    HeaderName::from_static("access-control-request-private-network"),
    HeaderName::from_static("access-control-allow-private-network"),
);
/// Longest list of headers that a page may ask for, in bytes.
const REQUESTED_BYTES_MAX: usize = 8 << 10;

/// Lets pages of every origin read this answer.
pub(crate) fn allow(answer: &mut HeaderMap) {
    let mut exposed = EXPOSED.to_owned();
    for name in answer
        .keys()
        .filter(|name| name.as_str().starts_with("x-amz-"))
    {
        exposed.push_str(", ");
        exposed.push_str(name.as_str());
    }
    if let Ok(exposed) = HeaderValue::try_from(exposed) {
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN);
}

/// The answer to `OPTIONS`: whatever a page asks for, it may send.
pub(crate) fn preflight(request: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let answer = response.headers_mut();
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
    // A star would not cover Authorization.
    if let Some(names) = requested(request) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    let (asks, allows) = PRIVATE_NETWORK;
    if request.get(asks).is_some_and(|asks| asks == "true") {
        answer.insert(allows, HeaderValue::from_static("true"));
    }
    response
}

/// The headers that a page asks for, if it is a list of names.
fn requested(request: &HeaderMap) -> Option<HeaderValue> {
    let mut names: Vec<String> = Vec::new();
    let mut bytes = 0;
    for list in request.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        bytes += list.len();
        if bytes > REQUESTED_BYTES_MAX {
            return None;
        }
        let items = list.as_bytes().split(|byte| *byte == b',');
        for name in items
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty())
        {
            names.push(HeaderName::from_bytes(name).ok()?.as_str().to_owned());
        }
    }
    let names = (!names.is_empty()).then(|| names.join(", "))?;
    HeaderValue::try_from(names).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let answer = preflight(
            &pairs
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
                .collect(),
        );
        assert_eq!(answer.status(), 200);
        answer.headers().clone()
    }

    const REQUESTED: &str = "access-control-request-headers";

    #[test]
    fn a_preflight_gets_what_it_asks_for() {
        let answer = asked(&[
            (REQUESTED, "authorization,Content-Type ,, x-amz-meta-a"),
            ("access-control-request-private-network", "true"),
        ]);
        for (name, value) in [
            (
                "access-control-allow-methods",
                "GET, PUT, HEAD, DELETE, OPTIONS, POST",
            ),
            (
                "access-control-allow-headers",
                "authorization, content-type, x-amz-meta-a",
            ),
            ("access-control-allow-private-network", "true"),
            ("access-control-max-age", "86400"),
        ] {
            assert_eq!(answer[name], value, "{name}");
        }
    }

    #[test]
    fn only_lists_of_names_are_echoed() {
        let long = "a,".repeat(REQUESTED_BYTES_MAX);
        for bad in ["", ",", "a b", "a, b\tc", "a: b", "<a>", "é", &long] {
            let answer = asked(&[(REQUESTED, bad)]);
            assert!(
                !answer.contains_key("access-control-allow-headers"),
                "{bad}"
            );
            assert!(!answer.contains_key("access-control-allow-private-network"));
        }
    }

    #[test]
    fn metadata_of_the_answer_can_be_read() {
        let mut answer = HeaderMap::new();
        for name in ["x-amz-meta-color", "x-amz-request-id", "server"] {
            answer.insert(name, HeaderValue::from_static("v"));
        }
        allow(&mut answer);
        assert_eq!(answer["access-control-allow-origin"], "*");
        let exposed = answer["access-control-expose-headers"].to_str().unwrap();
        let names: Vec<_> = exposed.split(", ").collect();
        for name in [
            "ETag",
            "Last-Modified",
            "x-amz-meta-color",
            "x-amz-request-id",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        assert!(!names.contains(&"server"));
    }

    proptest! {
        #[test]
        fn hostile_lists_never_panic(list in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(list) = HeaderValue::from_bytes(&list) {
                let asked = [(header::ACCESS_CONTROL_REQUEST_HEADERS, list)];
                let echoed = requested(&asked.into_iter().collect());
                let is_plain = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
                prop_assert!(echoed.is_none_or(|names| names.as_bytes().iter().all(is_plain)));
            }
        }
    }
}
