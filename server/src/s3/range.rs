//! The `Range` header of GET and HEAD.
//!
//! Source: RFC 9110, section 14.2: what is malformed, of an unknown unit or of several ranges may be
//! ignored, and S3 ignores it.

use http::HeaderMap;
use jay_engine::ByteRange;

use crate::planted::{self, Fault};

/// The single byte range that is asked for, if any.
pub(crate) fn parse(headers: &HeaderMap) -> Option<ByteRange> {
    let value = headers.get(http::header::RANGE)?.to_str().ok()?;
    let (unit, range) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    match (first, last) {
        ("", length) => Some(ByteRange::Suffix {
            length: number(length)?,
        }),
        (first, "") => Some(ByteRange::From {
            first: number(first)?,
        }),
        (first, last) => {
            let (first, mut last) = (number(first)?, number(last)?);
            if planted::is(Fault::LongRange) {
                last = last.saturating_add(1);
            }
            (first <= last).then_some(ByteRange::FromTo { first, last })
        }
    }
}

/// A number of any length; one that does not fit is larger than every object.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn range(value: &str) -> Option<ByteRange> {
        let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
        parse(&[(http::header::RANGE, value)].into_iter().collect())
    }

    #[test]
    fn the_three_forms_are_read() {
        let from_to = |first, last| Some(ByteRange::FromTo { first, last });
        assert_eq!(range("bytes=0-499"), from_to(0, 499));
        assert_eq!(range("Bytes = 5-5"), from_to(5, 5));
        assert_eq!(range("bytes=9-"), Some(ByteRange::From { first: 9 }));
        assert_eq!(range("bytes=-4"), Some(ByteRange::Suffix { length: 4 }));
        assert_eq!(
            range("bytes=0-99999999999999999999999"),
            from_to(0, u64::MAX)
        );
    }

    #[test]
    fn everything_else_is_ignored() {
        for other in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=+1-2",
        ] {
            assert_eq!(range(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn hostile_values_never_panic(text in any::<String>(), size in any::<u64>()) {
            for value in [text.clone(), format!("bytes={text}")] {
                if let Some(range) = range(&value) {
                    let _ = range.resolve(size);
                }
            }
        }

        #[test]
        fn numbers_never_panic(first in "[0-9]{0,25}", last in "[0-9]{0,25}", size in any::<u64>()) {
            if let Some(range) = range(&format!("bytes={first}-{last}")) {
                let _ = range.resolve(size);
            }
        }
    }
}
