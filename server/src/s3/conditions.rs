//! Preconditions: of reads, decided here on what was read; of writes, handed to the engine, which decides
//! them inside the commit.
//!
//! Source: RFC 9110, section 13; S3 API, GetObject, PutObject and DeleteObject.

use http::{HeaderMap, HeaderName, header};
use jay_engine::{
    Conditions, DeleteConditions, ETag, ErrorKind, ObjectInfo, ReadConditions, ReadOutcome,
    Timestamp,
};
use jiff::fmt::rfc2822::DateTimeParser;

use super::{
    error::{Error, Result},
    invalid_argument,
};
use crate::planted::{self, Fault};

const UNKNOWN_TO_DELETES: [HeaderName; 3] = [
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];

/// How a conditional read goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With the object.
    Proceed,
    /// With 304.
    NotModified,
}

/// Decides a conditional GET or HEAD.
pub(crate) fn of_read(headers: &HeaderMap, info: &ObjectInfo) -> Result<Outcome> {
    if planted::is(Fault::IgnoredReadCondition) {
        return Ok(Outcome::Proceed);
    }
    let conditions = ReadConditions {
        if_match: tags(headers, &header::IF_MATCH).map(etags),
        if_none_match: tags(headers, &header::IF_NONE_MATCH).map(etags),
        if_modified_since: timestamp(headers, &header::IF_MODIFIED_SINCE),
        if_unmodified_since: timestamp(headers, &header::IF_UNMODIFIED_SINCE),
    };
    match conditions.decide(&info.etag, info.last_modified) {
        ReadOutcome::Proceed => Ok(Outcome::Proceed),
        ReadOutcome::NotModified => Ok(Outcome::NotModified),
        ReadOutcome::Failed(condition) => Err(failed(condition)),
    }
}

/// Reads the conditions on the source of a copy.
///
/// Source: S3 API, CopyObject, `x-amz-copy-source-if-*`.
pub(crate) fn of_copy_source(headers: &HeaderMap) -> Result<ReadConditions> {
    const IF_MATCH: HeaderName = HeaderName::from_static("x-amz-copy-source-if-match");
    const IF_NONE_MATCH: HeaderName = HeaderName::from_static("x-amz-copy-source-if-none-match");
    const IF_MODIFIED: HeaderName = HeaderName::from_static("x-amz-copy-source-if-modified-since");
    const IF_UNMODIFIED: HeaderName =
        HeaderName::from_static("x-amz-copy-source-if-unmodified-since");
    // Unlike a reader, a writer must not go on as if a date that cannot be read were none.
    let must_be_date = |name: &HeaderName| match (headers.get(name), timestamp(headers, name)) {
        (Some(value), None) => {
            let value = String::from_utf8_lossy(value.as_bytes());
            Err(invalid_argument(
                name.as_str(),
                &value,
                "it is an HTTP date",
            ))
        }
        (_, date) => Ok(date),
    };
    if planted::is(Fault::IgnoredCopyCondition) {
        return Ok(ReadConditions::default());
    }
    Ok(ReadConditions {
        if_match: tags(headers, &IF_MATCH).map(etags),
        if_none_match: tags(headers, &IF_NONE_MATCH).map(etags),
        if_modified_since: must_be_date(&IF_MODIFIED)?,
        if_unmodified_since: must_be_date(&IF_UNMODIFIED)?,
    })
}

fn etags(tags: Vec<&str>) -> Vec<ETag> {
    tags.into_iter().map(ETag::new).collect()
}

fn timestamp(headers: &HeaderMap, name: &HeaderName) -> Option<Timestamp> {
    let seconds = date(headers.get(name)?.to_str().ok()?)?;
    Some(Timestamp(u64::try_from(seconds).ok()?.saturating_mul(1000)))
}

/// Whether `If-Range` lets the range be served: it is absent or names this version of the object.
///
/// Source: RFC 9110, section 13.1.5.
pub(crate) fn range_holds(headers: &HeaderMap, info: &ObjectInfo) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else {
        return true;
    };
    let text = value.to_str().unwrap_or_default();
    match date(text) {
        Some(seconds) => seconds == seconds_of(info.last_modified),
        None => {
            text.trim()
                .strip_prefix('"')
                .and_then(|tag| tag.strip_suffix('"'))
                == Some(info.etag.as_str())
        }
    }
}

/// Reads the preconditions of a PUT. What cannot be kept is refused: a condition that is ignored loses data.
pub(crate) fn of_write(headers: &HeaderMap) -> Result<Conditions> {
    for name in [header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE] {
        if headers.contains_key(&name) {
            return Err(Error::not_implemented(&format!(
                "The header '{name}' of a write"
            )));
        }
    }
    let if_match = match tags(headers, &header::IF_MATCH).as_deref() {
        None => None,
        Some(["*"]) => Some(None),
        Some([tag]) if !tag.is_empty() => Some(Some(ETag::new(*tag))),
        Some(_) => return Err(Error::not_implemented("An If-Match with several ETags")),
    };
    let if_none_match = match tags(headers, &header::IF_NONE_MATCH).as_deref() {
        None => None,
        Some(["*"]) => Some(None),
        Some([tag]) if !tag.is_empty() => Some(Some(ETag::new(*tag))),
        Some(_) => {
            return Err(Error::not_implemented(
                "An If-None-Match with several ETags",
            ));
        }
    };
    Ok(Conditions {
        if_match: if_match.filter(|_| !planted::is(Fault::IgnoredIfMatch)),
        if_none_match: if_none_match.filter(|_| !planted::is(Fault::IgnoredIfNoneMatch)),
    })
}

/// Refuses a precondition on an operation that has none.
pub(crate) fn must_be_absent(headers: &HeaderMap) -> Result<()> {
    must_be_absent_of(headers, &[header::IF_MATCH])?;
    must_be_absent_of(headers, &UNKNOWN_TO_DELETES)
}

fn must_be_absent_of(headers: &HeaderMap, names: &[HeaderName]) -> Result<()> {
    match names.iter().find(|name| headers.contains_key(*name)) {
        None => Ok(()),
        Some(name) => Err(Error::not_implemented(&format!(
            "The header '{name}' of this operation"
        ))),
    }
}

/// Reads the preconditions of a DELETE; `None` without any. `If-Match: *` is none: where there is no object,
/// nothing can be lost.
///
/// Source: S3 API, DeleteObject; that all of them hold where there is no object: Ceph's s3-tests.
pub(crate) fn of_delete(headers: &HeaderMap) -> Result<Option<DeleteConditions>> {
    const SIZE: HeaderName = HeaderName::from_static("x-amz-if-match-size");
    const MODIFIED: HeaderName = HeaderName::from_static("x-amz-if-match-last-modified-time");
    must_be_absent_of(headers, &UNKNOWN_TO_DELETES)?;
    let text = |name: &HeaderName| {
        let value = headers.get(name);
        value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let mut conditions = DeleteConditions {
        if_match: match tags(headers, &header::IF_MATCH).as_deref() {
            None | Some(["*"]) => None,
            Some([tag]) if !tag.is_empty() => Some(ETag::new(*tag)),
            Some(_) => return Err(Error::not_implemented("An If-Match with several ETags")),
        },
        ..DeleteConditions::default()
    };
    if let Some(text) = text(&SIZE) {
        conditions.if_match_size = Some(size(SIZE.as_str(), &text)?);
    }
    if let Some(text) = text(&MODIFIED) {
        conditions.if_match_modified = Some(modified(MODIFIED.as_str(), &text)?);
    }
    Ok(Some(conditions).filter(|conditions| *conditions != DeleteConditions::default()))
}

/// The ETag of a key to delete, with or without quotes; `None` for any.
pub(crate) fn etag(text: &str) -> Option<ETag> {
    let tag = bare(text);
    (tag != "*").then(|| ETag::new(tag))
}

/// A size to hold an object against.
pub(crate) fn size(name: &str, text: &str) -> Result<u64> {
    let text = text.trim();
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let size = text.parse().ok().filter(|_| is_number);
    size.ok_or_else(|| invalid_argument(name, text, "it is a number of bytes"))
}

/// A time to hold an object against: an HTTP date, or one of RFC 3339 as in listings.
pub(crate) fn modified(name: &str, text: &str) -> Result<Timestamp> {
    let rfc_3339 = || {
        let time: Option<jiff::Timestamp> = text.trim().parse().ok();
        time.map(jiff::Timestamp::as_second)
    };
    let seconds = date(text).or_else(rfc_3339);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds
        .map(|seconds| Timestamp(seconds.saturating_mul(1000)))
        .ok_or_else(|| invalid_argument(name, text, "it is an HTTP date"))
}

/// The ETags of a header, without quotes and weakness; S3 takes them without quotes too.
fn tags<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Vec<&'a str>> {
    if !headers.contains_key(name) {
        return None;
    }
    let values = headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.to_str());
    let tags = values.flat_map(|value| value.split(','));
    Some(tags.map(bare).collect())
}

/// An ETag without quotes and weakness.
fn bare(tag: &str) -> &str {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag.strip_prefix('"')
        .and_then(|tag| tag.strip_suffix('"'))
        .unwrap_or(tag)
}

fn date(text: &str) -> Option<i64> {
    DateTimeParser::new()
        .parse_timestamp(text.trim())
        .ok()
        .map(jiff::Timestamp::as_second)
}

fn seconds_of(time: Timestamp) -> i64 {
    i64::try_from(time.0 / 1000).unwrap_or(i64::MAX)
}

fn failed(condition: &'static str) -> Error {
    Error::new(
        ErrorKind::PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold.",
    )
    .with_detail("Condition", condition)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::s3::headers::tests::info;

    const BEFORE: &str = "Fri, 24 May 2013 00:00:00 GMT";
    const AT: &str = "Fri, 24 May 2013 00:00:01 GMT";

    type Pairs<'a> = &'a [(&'static str, &'a str)];

    fn headers(pairs: Pairs<'_>) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn reads_follow_the_precedence_of_the_rfc() {
        let (go, not_modified, fail) = (Some(Outcome::Proceed), Some(Outcome::NotModified), None);
        let cases: [(Pairs<'_>, Option<Outcome>); 15] = [
            (&[], go),
            (&[("if-match", "\"e\"")], go),
            (&[("if-match", "e")], go),
            (&[("if-match", "\"x\", \"e\"")], go),
            (&[("if-match", "*")], go),
            (&[("if-match", "\"x\"")], fail),
            (&[("if-none-match", "W/\"e\"")], not_modified),
            (&[("if-none-match", "\"x\"")], go),
            (&[("if-modified-since", AT)], not_modified),
            (&[("if-modified-since", BEFORE)], go),
            (&[("if-modified-since", "not a date")], go),
            (&[("if-unmodified-since", BEFORE)], fail),
            (&[("if-unmodified-since", AT)], go),
            (
                &[("if-match", "\"e\""), ("if-unmodified-since", BEFORE)],
                go,
            ),
            (&[("if-none-match", "\"x\""), ("if-modified-since", AT)], go),
        ];
        for (pairs, expected) in cases {
            assert_eq!(
                of_read(&headers(pairs), &info()).ok(),
                expected,
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn conditions_on_a_source_have_names_of_their_own() {
        let conditions = of_copy_source(&headers(&[
            ("if-match", "\"no\""),
            ("x-amz-copy-source-if-match", "\"e\""),
            ("x-amz-copy-source-if-modified-since", AT),
        ]));
        let conditions = conditions.unwrap();
        assert_eq!(conditions.if_match, Some(vec![ETag::new("e")]));
        assert_eq!(conditions.if_none_match, None);
        let outcome = conditions.decide(&info().etag, info().last_modified);
        assert_eq!(outcome, ReadOutcome::NotModified);
        let bad = headers(&[("x-amz-copy-source-if-unmodified-since", "soon")]);
        assert_eq!(
            of_copy_source(&bad).unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
    }

    #[test]
    fn ranges_hold_for_the_same_version_only() {
        for (value, holds) in [
            ("\"e\"", true),
            ("\"x\"", false),
            ("W/\"e\"", false),
            (AT, true),
            (BEFORE, false),
        ] {
            assert_eq!(
                range_holds(&headers(&[("if-range", value)]), &info()),
                holds,
                "{value}"
            );
        }
        assert!(range_holds(&HeaderMap::new(), &info()));
    }

    #[test]
    fn writes_take_one_tag_or_any() {
        let of = |name, value| of_write(&headers(&[(name, value)]));
        assert_eq!(of("if-none-match", "*").unwrap().if_none_match, Some(None));
        assert_eq!(
            of("if-none-match", "\"e\"").unwrap().if_none_match,
            Some(Some(ETag::new("e")))
        );
        assert_eq!(of("if-match", "*").unwrap().if_match, Some(None));
        assert_eq!(
            of("if-match", "\"e\"").unwrap().if_match,
            Some(Some(ETag::new("e")))
        );
        assert_eq!(of_write(&HeaderMap::new()).unwrap(), Conditions::default());
        for (name, value) in [
            ("if-none-match", "\"a\", \"b\""),
            ("if-match", "\"a\", \"b\""),
            ("if-match", ""),
            ("if-unmodified-since", AT),
        ] {
            assert_eq!(
                of(name, value).unwrap_err().kind(),
                ErrorKind::NotImplemented,
                "{name}"
            );
        }
    }

    #[test]
    fn operations_without_conditions_refuse_them() {
        for name in [
            "if-match",
            "if-none-match",
            "if-modified-since",
            "if-unmodified-since",
        ] {
            let error = must_be_absent(&headers(&[(name, "*")])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotImplemented, "{name}");
        }
        assert!(must_be_absent(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn deletes_take_a_tag_a_size_and_a_date() {
        let of = |name, value| of_delete(&headers(&[(name, value)]));
        let some = |conditions| Some(Some(conditions));
        let default = DeleteConditions::default;
        assert_eq!(of_delete(&HeaderMap::new()).ok(), Some(None));
        assert_eq!(of("if-match", "*").ok(), Some(None));
        let if_match = Some(ETag::new("e"));
        for tag in ["\"e\"", "e"] {
            let expected = DeleteConditions {
                if_match: if_match.clone(),
                ..default()
            };
            assert_eq!(of("if-match", tag).ok(), some(expected));
        }
        let if_match_size = Some(0);
        let expected = DeleteConditions {
            if_match_size,
            ..default()
        };
        assert_eq!(of("x-amz-if-match-size", "0").ok(), some(expected));
        for date in [AT, "2013-05-24T00:00:01.999Z"] {
            let expected = DeleteConditions {
                if_match_modified: Some(Timestamp(1_369_353_601_000)),
                ..default()
            };
            let name = "x-amz-if-match-last-modified-time";
            assert_eq!(of(name, date).ok(), some(expected));
        }
        for (name, value, kind) in [
            ("if-match", "\"a\", \"b\"", ErrorKind::NotImplemented),
            ("if-match", "", ErrorKind::NotImplemented),
            ("if-none-match", "*", ErrorKind::NotImplemented),
            ("if-unmodified-since", AT, ErrorKind::NotImplemented),
            ("x-amz-if-match-size", "", ErrorKind::InvalidArgument),
            ("x-amz-if-match-size", "+1", ErrorKind::InvalidArgument),
            (
                "x-amz-if-match-last-modified-time",
                "soon",
                ErrorKind::InvalidArgument,
            ),
        ] {
            assert_eq!(of(name, value).unwrap_err().kind(), kind, "{name}: {value}");
        }
    }

    proptest! {
        #[test]
        fn hostile_values_never_panic(text in "[ -~]*") {
            for name in [
                "if-match", "if-none-match", "if-modified-since", "if-range", "x-amz-if-match-size",
                "x-amz-if-match-last-modified-time",
            ] {
                let headers = headers(&[(name, &text)]);
                let _ = of_read(&headers, &info());
                let _ = of_write(&headers);
                let _ = of_delete(&headers);
                let _ = range_holds(&headers, &info());
            }
        }
    }
}
