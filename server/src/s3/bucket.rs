//! ListBuckets, CreateBucket, HeadBucket, DeleteBucket and GetBucketLocation.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use jay_engine::{BucketInfo, BucketName, BucketOptions, ErrorKind};

use super::{
    Call, REGION_DEFAULT, Settings, acl,
    body::Body,
    empty_response,
    error::{Error, Result},
    headers, invalid_argument,
    payload::{Payload, RequestBody},
    uri::Query,
    xml::{self, Step, Writer, malformed},
    xml_response,
};
use crate::planted::{self, Fault};

const BUCKET_REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");
/// Most buckets of one page.
const BUCKETS_MAX: usize = 10_000;

/// Lists the caller's buckets.
///
/// Source: S3 API, ListBuckets.
pub(crate) async fn list_buckets(call: &Call<'_>) -> Result<Response<Body>> {
    let page = BucketPage::of(call.query)?;
    let buckets = call.engine.list_buckets(call.caller).await?;
    let document = render_buckets(
        buckets,
        &page,
        &call.caller.account_id(),
        call.settings.region(),
    );
    Ok(xml_response(document))
}

/// Makes a bucket.
///
/// Source: S3 API, CreateBucket.
pub(crate) async fn create_bucket<B: RequestBody>(
    call: &Call<'_>,
    bucket: BucketName,
    payload: Payload<'_, B>,
) -> Result<Response<Body>> {
    must_own_its_objects(&call.parts.headers)?;
    let public_read = acl::is_public_read(&call.parts.headers)?;
    let document = payload.xml(call).await?;
    must_fit_region(parse_configuration(&document)?, call.settings)?;
    let options = BucketOptions {
        public_read,
        ..BucketOptions::default()
    };
    call.engine
        .create_bucket_with(call.caller, &bucket, options)
        .await?;
    let mut response = empty_response(StatusCode::OK);
    let location = HeaderValue::try_from(format!("/{bucket}")).expect("a bucket name is ASCII");
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// Says whether a bucket is there and where.
///
/// Source: S3 API, HeadBucket.
pub(crate) async fn head_bucket(call: &Call<'_>, bucket: BucketName) -> Result<Response<Body>> {
    call.engine.head_bucket(call.caller, &bucket).await?;
    let mut response = empty_response(StatusCode::OK);
    if let Ok(region) = HeaderValue::from_str(call.settings.region()) {
        response.headers_mut().insert(BUCKET_REGION, region);
    }
    Ok(response)
}

/// Removes an empty bucket.
///
/// Source: S3 API, DeleteBucket.
pub(crate) async fn delete_bucket(call: &Call<'_>, bucket: BucketName) -> Result<Response<Body>> {
    call.engine.delete_bucket(call.caller, &bucket).await?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

/// Names the region of a bucket.
///
/// Source: S3 API, GetBucketLocation: us-east-1 is an empty element.
pub(crate) async fn get_bucket_location(
    call: &Call<'_>,
    bucket: BucketName,
) -> Result<Response<Body>> {
    call.engine.head_bucket(call.caller, &bucket).await?;
    let mut document = Writer::document();
    document.open_root("LocationConstraint");
    if call.settings.region() != REGION_DEFAULT {
        document.characters(call.settings.region());
    }
    document.close("LocationConstraint");
    Ok(xml_response(document.finish()))
}

/// Says that a bucket has no versions, which clients ask before they delete.
///
/// Source: S3 API, GetBucketVersioning: an empty document is of a bucket that never had any.
pub(crate) async fn get_bucket_versioning(
    call: &Call<'_>,
    bucket: BucketName,
) -> Result<Response<Body>> {
    call.engine.head_bucket(call.caller, &bucket).await?;
    let mut document = Writer::document();
    document.open_root("VersioningConfiguration");
    document.close("VersioningConfiguration");
    Ok(xml_response(document.finish()))
}

/// Which of the buckets are asked for.
#[derive(Debug, PartialEq, Eq)]
struct BucketPage {
    prefix: Option<String>,
    after: Option<String>,
    buckets_max: usize,
}

impl BucketPage {
    fn of(query: &Query) -> Result<Self> {
        let buckets_max = match query.get("max-buckets") {
            None => BUCKETS_MAX,
            Some(text) => match text.parse() {
                Ok(number) if (1..=BUCKETS_MAX).contains(&number) => number,
                _ => {
                    let why = format!("it is a number from 1 to {BUCKETS_MAX}");
                    return Err(invalid_argument("max-buckets", text, &why));
                }
            },
        };
        let after = query
            .get("continuation-token")
            .map(decode_token)
            .transpose()?;
        Ok(Self {
            prefix: query.get("prefix").map(str::to_owned),
            after,
            buckets_max,
        })
    }
}

/// The token of the page after this name.
pub(crate) fn encode_token(after: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(after)
}

/// The name behind which a page begins.
pub(crate) fn decode_token(token: &str) -> Result<String> {
    let after = BASE64_URL_SAFE_NO_PAD.decode(token).ok();
    let after = after.and_then(|after| String::from_utf8(after).ok());
    after.filter(|after| !after.is_empty()).ok_or_else(|| {
        invalid_argument(
            "continuation-token",
            token,
            "the continuation token is incorrect",
        )
    })
}

fn render_buckets(
    mut buckets: Vec<BucketInfo>,
    page: &BucketPage,
    account_id: &str,
    region: &str,
) -> String {
    buckets.retain(|bucket| {
        let name = bucket.name.as_str();
        page.prefix.as_ref().is_none_or(|prefix| {
            name.starts_with(prefix) || planted::is(Fault::IgnoredBucketPrefix)
        }) && page
            .after
            .as_ref()
            .is_none_or(|after| name > after.as_str())
    });
    buckets.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let is_truncated = buckets.len() > page.buckets_max;
    buckets.truncate(page.buckets_max);

    let mut document = Writer::document();
    document.open_root("ListAllMyBucketsResult");
    document.party("Owner", account_id);
    document.open("Buckets");
    for bucket in &buckets {
        document.open("Bucket");
        document.text("Name", bucket.name.as_str());
        document.text("CreationDate", &headers::xml_date(bucket.created));
        document.text("BucketRegion", region);
        document.close("Bucket");
    }
    document.close("Buckets");
    if let Some(last) = buckets.last().filter(|_| is_truncated) {
        document.text("ContinuationToken", &encode_token(last.name.as_str()));
    }
    if let Some(prefix) = &page.prefix {
        document.text("Prefix", prefix);
    }
    document.close("ListAllMyBucketsResult");
    document.finish()
}

/// Objects belong to the owner of their bucket; another ownership is refused.
fn must_own_its_objects(request_headers: &HeaderMap) -> Result<()> {
    let ownership = request_headers.get("x-amz-object-ownership");
    match ownership.filter(|value| *value != "BucketOwnerEnforced") {
        None => Ok(()),
        Some(value) => {
            let value = String::from_utf8_lossy(value.as_bytes());
            let what = format!("'x-amz-object-ownership: {value}' on a bucket");
            Err(Error::not_implemented(&what))
        }
    }
}

/// The location that a CreateBucketConfiguration asks for; an empty body asks for none.
pub(super) fn parse_configuration(document: &[u8]) -> Result<Option<String>> {
    let mut location = None;
    if document.trim_ascii().is_empty() {
        return Ok(location);
    }
    xml::read(document, |step| {
        match step {
            Step::Open(path) => match path {
                "CreateBucketConfiguration" | "CreateBucketConfiguration/LocationConstraint" => {}
                "CreateBucketConfiguration/Location"
                | "CreateBucketConfiguration/Bucket"
                | "CreateBucketConfiguration/Tags" => {
                    return Err(Error::not_implemented(&format!("The element {path}")));
                }
                _ => return Err(malformed("it has an unknown element")),
            },
            Step::Close("CreateBucketConfiguration/LocationConstraint", text) => {
                if location.replace(text.trim().to_owned()).is_some() {
                    return Err(malformed("it has several LocationConstraint elements"));
                }
            }
            Step::Close("CreateBucketConfiguration", text) if !text.trim().is_empty() => {
                return Err(malformed("it has text in place of elements"));
            }
            Step::Close(..) => {}
        }
        Ok(())
    })?;
    Ok(location)
}

/// While no region is configured, any is served.
fn must_fit_region(location: Option<String>, settings: &Settings) -> Result<()> {
    let location = location.filter(|location| !location.is_empty());
    match (location, &settings.region) {
        (Some(location), Some(region)) if location != *region => {
            let message = format!(
                "The specified location constraint '{location}' is not valid: this server is the \
                 region '{region}'."
            );
            Err(Error::new(ErrorKind::InvalidLocationConstraint, message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use jay_engine::{ErrorKind, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn buckets() -> Vec<BucketInfo> {
        ["photos", "docs", "photos-2"]
            .map(|name| BucketInfo {
                id: 0,
                name: BucketName::parse(name).unwrap(),
                created: Timestamp(0),
                public_read: false,
                owner: String::new(),
                quota_bytes: None,
                has_policy: false,
            })
            .into()
    }

    fn render(query: &str) -> String {
        let page = BucketPage::of(&Query::parse(Some(query)).unwrap()).unwrap();
        render_buckets(buckets(), &page, "acc", "us-east-1")
    }

    #[test]
    fn buckets_are_listed_with_their_owner() {
        let entry = |name| {
            format!(
                "<Bucket><Name>{name}</Name><CreationDate>1970-01-01T00:00:00.000Z</CreationDate>\
                 <BucketRegion>us-east-1</BucketRegion></Bucket>"
            )
        };
        assert_eq!(
            render(""),
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListAllMyBucketsResult \
                 xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>acc</ID>\
                 <DisplayName>acc</DisplayName></Owner><Buckets>{}{}{}</Buckets>\
                 </ListAllMyBucketsResult>",
                entry("docs"),
                entry("photos"),
                entry("photos-2")
            )
        );
    }

    #[test]
    fn buckets_are_listed_in_pages() {
        let first = render("prefix=photos&max-buckets=1");
        assert!(first.contains("<Name>photos</Name>") && !first.contains("photos-2"));
        let token = encode_token("photos");
        assert!(first.contains(&format!("<ContinuationToken>{token}</ContinuationToken>")));
        let second = render(&format!(
            "prefix=photos&max-buckets=1&continuation-token={token}"
        ));
        assert!(second.contains("photos-2") && !second.contains("ContinuationToken"));
        for bad in [
            "max-buckets=0",
            "max-buckets=x",
            "max-buckets=10001",
            "continuation-token=!",
        ] {
            let error = BucketPage::of(&Query::parse(Some(bad)).unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn configurations_name_a_location() {
        let parse = |inner: &str| {
            let name = "CreateBucketConfiguration";
            parse_configuration(format!("<{name} xmlns='x'>{inner}</{name}>").as_bytes())
        };
        assert_eq!(parse_configuration(b" \n").unwrap(), None);
        assert_eq!(parse("").unwrap(), None);
        let eu = parse("<LocationConstraint>eu-west-1</LocationConstraint>").unwrap();
        assert_eq!(eu.as_deref(), Some("eu-west-1"));
        let settings = |region: &str| Settings {
            region: Some(region.into()),
            ..Default::default()
        };
        assert!(must_fit_region(eu.clone(), &Settings::default()).is_ok());
        assert!(must_fit_region(eu.clone(), &settings("eu-west-1")).is_ok());
        let error = must_fit_region(eu, &settings("us-east-1")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidLocationConstraint);
        for (bad, expected) in [
            ("text", ErrorKind::MalformedXML),
            ("<Other/>", ErrorKind::MalformedXML),
            (
                "<LocationConstraint/><LocationConstraint/>",
                ErrorKind::MalformedXML,
            ),
            (
                "<LocationConstraint><A/></LocationConstraint>",
                ErrorKind::MalformedXML,
            ),
            ("<Tags/>", ErrorKind::NotImplemented),
        ] {
            assert_eq!(parse(bad).unwrap_err().kind(), expected, "{bad}");
        }
        assert!(parse_configuration(b"<Delete/>").is_err());
    }

    #[test]
    fn objects_belong_to_the_owner_of_their_bucket() {
        let of = |value: &'static str| {
            let pair = (
                HeaderName::from_static("x-amz-object-ownership"),
                HeaderValue::from_static(value),
            );
            must_own_its_objects(&[pair].into_iter().collect())
        };
        assert!(of("BucketOwnerEnforced").is_ok());
        let error = of("ObjectWriter").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotImplemented);
    }

    proptest! {
        #[test]
        fn tokens_round_trip_and_never_panic(text in any::<String>()) {
            let _ = decode_token(&text);
            if !text.is_empty() {
                prop_assert_eq!(decode_token(&encode_token(&text)).unwrap(), text);
            }
        }
    }
}
