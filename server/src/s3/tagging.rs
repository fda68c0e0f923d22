//! The tags of objects: three operations, and the header that brings them along.
//!
//! Source: S3 API, GetObjectTagging, PutObjectTagging, DeleteObjectTagging.

use http::{HeaderMap, HeaderName, Response, StatusCode};
use jay_engine::{BucketName, ErrorKind, ObjectKey, Tag, Tags};

use super::{
    Call,
    body::Body,
    empty_response,
    error::{Error, Result},
    payload::{Payload, RequestBody},
    uri::Query,
    xml::{self, Step, Writer, malformed},
    xml_response,
};
use crate::planted::{self, Fault};

const TAGGING: &str = "x-amz-tagging";
/// How many tags an object has.
pub(crate) const COUNT: HeaderName = HeaderName::from_static("x-amz-tagging-count");

/// Answers the tags of an object.
pub(crate) async fn get_object_tagging(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
) -> Result<Response<Body>> {
    let tags = call
        .engine
        .get_object_tagging(call.caller, &bucket, &key)
        .await?;
    Ok(xml_response(render(&tags)))
}

/// Gives an object other tags.
pub(crate) async fn put_object_tagging<B: RequestBody>(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
    payload: Payload<'_, B>,
) -> Result<Response<Body>> {
    let tags = parse(&payload.xml(call).await?)?;
    call.engine
        .put_object_tagging(call.caller, &bucket, &key, tags)
        .await?;
    Ok(empty_response(StatusCode::OK))
}

/// Takes the tags of an object away.
pub(crate) async fn delete_object_tagging(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
) -> Result<Response<Body>> {
    call.engine
        .put_object_tagging(call.caller, &bucket, &key, Tags::default())
        .await?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

/// The tags in `x-amz-tagging`, which is written as a query string.
pub(crate) fn of_header(headers: &HeaderMap) -> Result<Tags> {
    let value = headers.get(TAGGING);
    let Some(value) = value.filter(|_| !planted::is(Fault::LostTags)) else {
        return Ok(Tags::default());
    };
    let refuse = || {
        let message = "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query \
                       parameters without tag name duplicates.";
        Error::new(ErrorKind::InvalidArgument, message)
    };
    let text = value.to_str().map_err(|_| refuse())?;
    let query = Query::parse(Some(text)).map_err(|_| refuse())?;
    let tags = query.iter().map(|(key, value)| Tag {
        key: key.to_owned(),
        value: value.to_owned(),
    });
    Ok(Tags::new(tags.collect())?)
}

/// The tags in a body.
pub(super) fn parse(document: &[u8]) -> Result<Tags> {
    let (mut tags, mut key, mut value) = (Vec::new(), None, None);
    let mut has_set = false;
    xml::read(document, |step| {
        match step {
            Step::Open("Tagging" | "Tagging/TagSet/Tag") => {}
            Step::Open("Tagging/TagSet") => {
                if std::mem::replace(&mut has_set, true) {
                    return Err(malformed("it has several TagSet elements"));
                }
            }
            Step::Open("Tagging/TagSet/Tag/Key" | "Tagging/TagSet/Tag/Value") => {}
            Step::Open(_) => return Err(malformed("it has an unknown element")),
            Step::Close("Tagging/TagSet/Tag/Key", text) => once(&mut key, text)?,
            Step::Close("Tagging/TagSet/Tag/Value", text) => once(&mut value, text)?,
            Step::Close("Tagging/TagSet/Tag", _) => {
                let (Some(key), Some(value)) = (key.take(), value.take()) else {
                    return Err(malformed("a tag has no Key or no Value"));
                };
                tags.push(Tag { key, value });
            }
            Step::Close(_, text) if !text.trim().is_empty() => {
                return Err(malformed("it has text in place of elements"));
            }
            Step::Close(..) => {}
        }
        Ok(())
    })?;
    if !has_set {
        return Err(malformed("it has no TagSet"));
    }
    Ok(Tags::new(tags)?)
}

fn once(slot: &mut Option<String>, text: String) -> Result<()> {
    match slot.replace(text) {
        None => Ok(()),
        Some(_) => Err(malformed("a tag has an element twice")),
    }
}

pub(super) fn render(tags: &Tags) -> String {
    let mut sorted: Vec<&Tag> = tags.iter().collect();
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let mut document = Writer::document();
    document.open_root("Tagging");
    document.open("TagSet");
    for tag in sorted {
        document.open("Tag");
        document.text("Key", &tag.key);
        document.text("Value", &tag.value);
        document.close("Tag");
    }
    document.close("TagSet");
    document.close("Tagging");
    document.finish()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn header(text: &str) -> Result<Tags> {
        let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
        of_header(
            &[(HeaderName::from_static(TAGGING), value)]
                .into_iter()
                .collect(),
        )
    }

    fn pairs(tags: &Tags) -> Vec<(&str, &str)> {
        tags.iter()
            .map(|tag| (tag.key.as_str(), tag.value.as_str()))
            .collect()
    }

    #[test]
    fn the_header_is_a_query_string() {
        let tags = header("colour=light+blue&size&a%3Db=%C3%A9").unwrap();
        assert_eq!(
            pairs(&tags),
            [("colour", "light blue"), ("size", ""), ("a=b", "é")]
        );
        assert!(of_header(&HeaderMap::new()).unwrap().is_empty());
        for (bad, kind) in [
            ("a=1&a=2", ErrorKind::InvalidTag),
            ("=1", ErrorKind::InvalidTag),
            ("a=%01", ErrorKind::InvalidTag),
            ("a<b=1", ErrorKind::InvalidTag),
            ("aws:a=1", ErrorKind::InvalidTag),
            ("a=%zz", ErrorKind::InvalidArgument),
            ("0&1&2&3&4&5&6&7&8&9&10", ErrorKind::BadRequest),
            (&"k".repeat(129), ErrorKind::InvalidTag),
            (&format!("k={}", "v".repeat(257)), ErrorKind::InvalidTag),
        ] {
            assert_eq!(header(bad).unwrap_err().kind(), kind, "{bad}");
        }
    }

    #[test]
    fn documents_read_back_sorted() {
        let tags = header("b=2&a=1+%C3%A9@").unwrap();
        let document = render(&tags);
        assert!(document.ends_with(
            "<TagSet><Tag><Key>a</Key><Value>1 é@</Value></Tag><Tag><Key>b</Key><Value>2</Value></Tag>\
             </TagSet></Tagging>"
        ));
        assert_eq!(
            pairs(&parse(document.as_bytes()).unwrap()),
            [("a", "1 é@"), ("b", "2")]
        );
        assert!(parse(b"<Tagging><TagSet/></Tagging>").unwrap().is_empty());
        for bad in [
            "",
            "<Tagging/>",
            "<Other/>",
            "<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>",
            "<Tagging><TagSet><Tag><Key>a</Key><Key>a</Key><Value/></Tag></TagSet></Tagging>",
            "<Tagging><TagSet/><TagSet/></Tagging>",
            "<Tagging><TagSet>x</TagSet></Tagging>",
        ] {
            assert_eq!(
                parse(bad.as_bytes()).unwrap_err().kind(),
                ErrorKind::MalformedXML,
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn hostile_documents_never_panic(text in "(<|>|/|Tagging|TagSet|Tag|Key|Value|a|&#1;| ){0,40}") {
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn hostile_headers_never_panic(text in "[ -~]*") {
            let _ = header(&text);
        }
    }
}
