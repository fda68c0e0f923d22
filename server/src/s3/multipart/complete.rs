//! CompleteMultipartUpload: what the body lists, and the object it makes.

use http::{HeaderMap, Response};
use jay_engine::{
    BucketName, Checksum, ChecksumType, CompleteOptions, CompletedPart, ETag, ObjectInfo,
    ObjectKey, PART_NUMBER_MAX,
};

use super::{composite_of, upload_id};
use crate::planted::{self, Fault};
use crate::s3::{
    Call,
    body::Body,
    checksum, conditions,
    error::Result,
    headers, invalid_argument,
    payload::{Payload, RequestBody},
    sigv4, uri,
    xml::{self, Step, Writer, malformed},
    xml_response,
};

const ROOT: &str = "CompleteMultipartUpload";

/// Makes an object of the listed parts.
pub(crate) async fn complete_multipart_upload<B: RequestBody>(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
    mut payload: Payload<'_, B>,
) -> Result<Response<Body>> {
    let request_headers = &call.parts.headers;
    let id = upload_id(call.query)?;
    // The checksum in the headers is that of the object, not of the list.
    let (checksum, checksum_parts) = payload.take_checksum();
    // A number of parts behind it says that it is made of theirs.
    let implied = checksum_parts.map(|_| ChecksumType::Composite);
    let mut options = CompleteOptions {
        once: None,
        conditions: conditions::of_write(request_headers)?,
        checksum,
        checksum_type: checksum::wanted_type(request_headers)?.or(implied),
        size: object_size(request_headers)?,
        part_bytes_min: call.settings.part_bytes_min,
    };
    let mut parts = parse(&payload.xml(call).await?)?;
    if planted::is(Fault::IgnoredPartSize) {
        options.part_bytes_min = 0;
    }
    if planted::is(Fault::ForgottenPart) && parts.len() > 1 {
        parts.remove(0);
    }
    let is_of_these = |count| usize::from(count) == parts.len() && options.checksum_type == implied;
    if checksum_parts.is_some_and(|count| !is_of_these(count)) {
        return Err(checksum::invalid(
            "The checksum you specified is of another type or number of parts.".into(),
        ));
    }
    let info = call
        .engine
        .complete_multipart_upload(call.caller, &bucket, &key, id, &parts, options)
        .await?;
    Ok(xml_response(render(call, &bucket, &info)))
}

/// The size that the object must have.
fn object_size(request_headers: &HeaderMap) -> Result<Option<u64>> {
    const NAME: &str = "x-amz-mp-object-size";
    let Some(value) = request_headers.get(NAME) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let number = text.parse().ok();
    number
        .map(Some)
        .ok_or_else(|| invalid_argument(NAME, text, "it is a number of bytes"))
}

/// The parts that a body lists.
pub(crate) fn parse(document: &[u8]) -> Result<Vec<CompletedPart>> {
    let mut parts = Vec::new();
    let (mut number, mut etag, mut checksum) = (None, None, None);
    xml::read(document, |step| {
        let Some((path, text)) = within_root(step)? else {
            return Ok(());
        };
        match (path, text) {
            ("Part", None) => {}
            ("Part", Some(_)) => {
                let (Some(number), Some(etag)) = (number.take(), etag.take()) else {
                    return Err(malformed("a part has no PartNumber or no ETag"));
                };
                if parts.len() == usize::from(PART_NUMBER_MAX) {
                    return Err(malformed(&format!(
                        "it has more than {PART_NUMBER_MAX} parts"
                    )));
                }
                parts.push(CompletedPart {
                    number,
                    etag: Some(etag),
                    checksum: checksum.take(),
                });
            }
            ("Part/PartNumber", Some(text)) => once(&mut number, parse_number(&text)?)?,
            ("Part/ETag", Some(text)) => once(&mut etag, parse_etag(&text))?,
            (path, text) => {
                let name = path.strip_prefix("Part/").unwrap_or_default();
                let algorithm = checksum::algorithm_of_element(name)
                    .or_else(|| matches!(name, "PartNumber" | "ETag").then_some(None)?);
                match (algorithm, text) {
                    (Some(algorithm), Some(text)) => {
                        once(&mut checksum, checksum::parse(algorithm, text.as_bytes())?)?;
                    }
                    (None, None) if !matches!(name, "PartNumber" | "ETag") => {
                        return Err(malformed("it has an unknown element"));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    })?;
    if parts.is_empty() {
        return Err(malformed("it has no parts"));
    }
    Ok(parts)
}

/// The path below the root, and at the end of an element its text.
fn within_root(step: Step<'_>) -> Result<Option<(&str, Option<String>)>> {
    let (path, text) = match step {
        Step::Open(path) => (path, None),
        Step::Close(path, text) => (path, Some(text)),
    };
    if path == ROOT {
        return match text.is_some_and(|text| !text.trim().is_empty()) {
            true => Err(malformed("it has text in place of parts")),
            false => Ok(None),
        };
    }
    let below = path
        .strip_prefix(ROOT)
        .and_then(|rest| rest.strip_prefix('/'));
    let below = below.ok_or_else(|| malformed("it has an unknown root element"))?;
    Ok(Some((below, text)))
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed("a part has an element twice")),
    }
}

fn parse_number(text: &str) -> Result<u16> {
    let digits = text.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed("a PartNumber is not a number"));
    }
    let number = digits.parse().ok();
    number
        .filter(|number| (1..=PART_NUMBER_MAX).contains(number))
        .ok_or_else(|| {
            let why = format!("it is a number from 1 to {PART_NUMBER_MAX}");
            invalid_argument("PartNumber", text, &why)
        })
}

/// With or without its quotes.
fn parse_etag(text: &str) -> ETag {
    ETag::new(text.trim().trim_matches('"'))
}

fn render(call: &Call<'_>, bucket: &BucketName, info: &ObjectInfo) -> String {
    let host = sigv4::host(call.parts).unwrap_or_default();
    let location = format!(
        "http://{}/{bucket}/{}",
        String::from_utf8_lossy(host),
        uri::encode_path(info.key.as_str())
    );
    let mut document = Writer::document();
    document.open_root("CompleteMultipartUploadResult");
    document.text("Location", &location);
    document.text("Bucket", bucket.as_str());
    document.text("Key", info.key.as_str());
    document.text("ETag", &headers::quoted(info));
    if let Some(sum) = info.checksums.first() {
        render_checksum(&mut document, info, sum);
    }
    document.close("CompleteMultipartUploadResult");
    document.finish()
}

fn render_checksum(document: &mut Writer, info: &ObjectInfo, sum: &Checksum) {
    let value = checksum::text(sum, composite_of(info));
    document.text(checksum::element_name(sum.algorithm), &value);
    document.text("ChecksumType", info.checksum_type.name());
}

#[cfg(test)]
mod tests {
    use jay_engine::{ChecksumAlgorithm, ErrorKind};
    use proptest::prelude::*;

    use super::*;

    fn of(parts: &str) -> Result<Vec<CompletedPart>> {
        parse(
            format!("<{ROOT} xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>{parts}</{ROOT}>")
                .as_bytes(),
        )
    }

    #[test]
    fn parts_are_read_in_their_order() {
        let parts = of(
            "<Part><PartNumber>2</PartNumber><ETag>\"e\"</ETag></Part>\n\
             <Part><ETag>f</ETag><PartNumber> 1 </PartNumber><ChecksumCRC32>y/Q5Jg==</ChecksumCRC32></Part>",
        );
        let parts = parts.unwrap();
        assert_eq!(
            (parts[0].number, parts[0].etag.as_ref().unwrap().as_str()),
            (2, "e")
        );
        assert_eq!(
            (parts[1].number, parts[1].etag.as_ref().unwrap().as_str()),
            (1, "f")
        );
        let checksum = parts[1].checksum.as_ref().unwrap();
        assert_eq!(checksum.algorithm, ChecksumAlgorithm::Crc32);
    }

    #[test]
    fn anything_off_is_refused() {
        let part = "<Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>";
        assert_eq!(of(&part.repeat(10_000)).unwrap().len(), 10_000);
        for bad in [
            "",
            "x",
            "<Part/>",
            "<Part><PartNumber>1</PartNumber></Part>",
            "<Part><ETag>e</ETag></Part>",
            "<Part><PartNumber>x</PartNumber><ETag>e</ETag></Part>",
            "<Part><PartNumber>+1</PartNumber><ETag>e</ETag></Part>",
            "<Part><PartNumber>-1</PartNumber><ETag>e</ETag></Part>",
            "<Part><PartNumber>1</PartNumber><PartNumber>1</PartNumber><ETag>e</ETag></Part>",
            "<Part><PartNumber>1</PartNumber><ETag>e</ETag><Size>3</Size></Part>",
            "<Part><PartNumber>1<X/></PartNumber><ETag>e</ETag></Part>",
            "<PartNumber>1</PartNumber>",
            &part.repeat(10_001),
        ] {
            let error = of(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MalformedXML, "{:.200}", bad);
        }
        for number in ["0", "10001", "65537", "99999999999999999999"] {
            let error = of(&part.replace('1', number)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{number}");
        }
        let bad = part.replace("</Part>", "<ChecksumCRC32>no</ChecksumCRC32></Part>");
        assert_eq!(of(&bad).unwrap_err().kind(), ErrorKind::InvalidRequest);
        assert!(parse(b"<Other/>").is_err());
    }

    proptest! {
        #[test]
        fn hostile_documents_never_panic(
            text in "(<|>|/|CompleteMultipartUpload|Part|PartNumber|ETag|ChecksumSHA1|1|&#1;| ){0,40}"
        ) {
            let _ = parse(text.as_bytes());
            let _ = of(&text);
        }
    }
}
