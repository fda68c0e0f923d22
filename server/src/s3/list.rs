//! ListObjects and ListObjectsV2.
//!
//! Both are one listing of the engine behind two sets of names.
//!
//! Source: S3 API, ListObjects and ListObjectsV2.

use http::Response;
use jay_engine::{BucketName, LIST_PAGE_MAX, ListEntry, ListOptions, ListPage, ObjectInfo};

use super::{
    Call,
    body::Body,
    bucket::{decode_token, encode_token},
    error::Result,
    headers, invalid_argument,
    uri::{self, Query},
    xml::Writer,
    xml_response,
};
use crate::planted::{self, Fault};

/// Largest `max-keys` that S3 takes; what is over [`LIST_PAGE_MAX`] is cut to that.
const MAX_KEYS_MAX: u64 = 2_147_483_647;

/// Lists a page of a bucket, version 1.
pub(crate) async fn list_objects(call: &Call<'_>, bucket: BucketName) -> Result<Response<Body>> {
    list(call, bucket, Version::One).await
}

/// Lists a page of a bucket, version 2.
pub(crate) async fn list_objects_v2(call: &Call<'_>, bucket: BucketName) -> Result<Response<Body>> {
    list(call, bucket, Version::Two).await
}

async fn list(call: &Call<'_>, bucket: BucketName, version: Version) -> Result<Response<Body>> {
    let listing = Listing::parse(call.query, version)?;
    let options = listing.options()?;
    let page = call
        .engine
        .list_objects(call.caller, &bucket, &options)
        .await?;
    let document = listing.render(&bucket, &page, &call.caller.account_id());
    Ok(xml_response(document))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The parameters of a listing.
#[derive(Debug)]
struct Listing<'a> {
    version: Version,
    prefix: &'a str,
    delimiter: Option<&'a str>,
    max_keys: usize,
    /// `marker` in version 1, `start-after` in version 2.
    start_after: Option<&'a str>,
    continuation_token: Option<&'a str>,
    has_owner: bool,
    is_encoded: bool,
    encode: Encoder,
}

/// Writes a key into a listing.
pub(super) type Encoder = fn(&str) -> String;

/// The encoder that `encoding-type` asks for.
pub(super) fn encoder(query: &Query) -> Result<Encoder> {
    match query.get("encoding-type") {
        None | Some("") => Ok(str::to_owned),
        Some("url") => Ok(uri::encode_path),
        Some(other) => Err(invalid_argument("encoding-type", other, "it is 'url'")),
    }
}

impl<'a> Listing<'a> {
    fn parse(query: &'a Query, version: Version) -> Result<Self> {
        let encode = encoder(query)?;
        let (start_after, continuation_token, has_owner) = match version {
            Version::One => (query.get("marker"), None, true),
            Version::Two => (
                query.get("start-after"),
                query.get("continuation-token"),
                query
                    .get("fetch-owner")
                    .is_some_and(|value| value.eq_ignore_ascii_case("true")),
            ),
        };
        Ok(Self {
            version,
            prefix: query.get("prefix").unwrap_or_default(),
            delimiter: query
                .get("delimiter")
                .filter(|delimiter| !delimiter.is_empty()),
            max_keys: max_keys(query)?,
            start_after,
            continuation_token,
            has_owner,
            is_encoded: query
                .get("encoding-type")
                .is_some_and(|kind| !kind.is_empty()),
            encode,
        })
    }

    /// What the engine is asked for. The continuation token wins over `start-after`.
    fn options(&self) -> Result<ListOptions> {
        let after = match self.continuation_token {
            Some(token) if planted::is(Fault::RepeatedEntry) => {
                let mut after = decode_token(token)?;
                after.pop();
                Some(after)
            }
            Some(token) => Some(decode_token(token)?),
            None => self
                .start_after
                .filter(|after| !after.is_empty())
                .map(str::to_owned),
        };
        Ok(ListOptions {
            prefix: self.prefix.to_owned(),
            delimiter: self.delimiter.map(str::to_owned),
            after,
            max_keys: self.max_keys,
        })
    }

    fn render(&self, bucket: &BucketName, page: &ListPage, owner: &str) -> String {
        // A page of no keys is never said to be truncated, since its reader could not go on from it.
        let next = page.next.as_deref().filter(|_| self.max_keys > 0);
        let mut document = Writer::document();
        document.open_root("ListBucketResult");
        document.text("Name", bucket.as_str());
        document.text("Prefix", &self.encode(self.prefix));
        match self.version {
            Version::One => {
                document.text("Marker", &self.encode(self.start_after.unwrap_or_default()));
                // Without a delimiter the last key is the marker.
                if let Some(next) = next.filter(|_| self.delimiter.is_some()) {
                    document.text("NextMarker", &self.encode(next));
                }
            }
            Version::Two => {
                if let Some(start_after) = self.start_after {
                    document.text("StartAfter", &self.encode(start_after));
                }
                if let Some(token) = self.continuation_token {
                    document.text("ContinuationToken", token);
                }
                if let Some(next) = next {
                    document.text("NextContinuationToken", &encode_token(next));
                }
                document.text("KeyCount", &page.entries.len().to_string());
            }
        }
        document.text("MaxKeys", &self.max_keys.to_string());
        if let Some(delimiter) = self.delimiter {
            document.text("Delimiter", &self.encode(delimiter));
        }
        document.text("IsTruncated", if next.is_some() { "true" } else { "false" });
        if self.is_encoded {
            document.text("EncodingType", "url");
        }
        let mut entries: Vec<&ListEntry> = page.entries.iter().collect();
        if planted::is(Fault::UnsortedListing) {
            entries.reverse();
        }
        if planted::is(Fault::DroppedCommonPrefix) {
            let is_prefix = |entry: &&ListEntry| matches!(entry, ListEntry::CommonPrefix(_));
            entries
                .iter()
                .rposition(is_prefix)
                .map(|i| entries.remove(i));
        }
        for entry in &entries {
            if let ListEntry::Object(info) = entry {
                self.render_object(&mut document, info, owner);
            }
        }
        for entry in &entries {
            if let ListEntry::CommonPrefix(prefix) = entry {
                document.open("CommonPrefixes");
                document.text("Prefix", &self.encode(prefix));
                document.close("CommonPrefixes");
            }
        }
        document.close("ListBucketResult");
        document.finish()
    }

    fn render_object(&self, document: &mut Writer, info: &ObjectInfo, owner: &str) {
        document.open("Contents");
        document.text("Key", &self.encode(info.key.as_str()));
        document.text("LastModified", &headers::xml_date(info.last_modified));
        document.text("ETag", &headers::quoted(info));
        if let Some(checksum) = info.checksums.first() {
            document.text("ChecksumAlgorithm", checksum.algorithm.name());
            document.text("ChecksumType", info.checksum_type.name());
        }
        let size = info.size + u64::from(planted::is(Fault::WrongListedSize));
        document.text("Size", &size.to_string());
        if self.has_owner {
            document.party("Owner", owner);
        }
        document.text("StorageClass", "STANDARD");
        document.close("Contents");
    }

    /// `text` as `encoding-type` asks for it.
    fn encode(&self, text: &str) -> String {
        (self.encode)(text)
    }
}

fn max_keys(query: &Query) -> Result<usize> {
    let Some(text) = query.get("max-keys") else {
        return Ok(LIST_PAGE_MAX);
    };
    match text.parse::<u64>() {
        Ok(number) if number <= MAX_KEYS_MAX => Ok(LIST_PAGE_MAX.min(number as usize)),
        _ => {
            let why = format!("it is a number from 0 to {MAX_KEYS_MAX}");
            Err(invalid_argument("max-keys", text, &why))
        }
    }
}

#[cfg(test)]
mod tests {
    use jay_engine::{ErrorKind, ObjectKey};

    use super::*;
    use crate::s3::headers::tests::info;

    fn page() -> ListPage {
        let object = ObjectInfo {
            key: ObjectKey::parse("a b+%\u{1}").unwrap(),
            ..info()
        };
        ListPage {
            entries: vec![
                ListEntry::Object(Box::new(object)),
                ListEntry::CommonPrefix("c d/".to_owned()),
            ],
            next: Some("c d/".to_owned()),
        }
    }

    fn render(query: &str, version: Version) -> String {
        let query = Query::parse(Some(query)).unwrap();
        let listing = Listing::parse(&query, version).unwrap();
        let document = listing.render(&BucketName::parse("bkt").unwrap(), &page(), "acc");
        let start = document.find("<Name>").unwrap();
        document[start..].replace("</ListBucketResult>", "")
    }

    fn options(query: &str) -> Result<ListOptions> {
        let query = Query::parse(Some(query)).unwrap();
        Listing::parse(&query, Version::Two)?.options()
    }

    const CONTENTS: &str = "<LastModified>2013-05-24T00:00:01.234Z</LastModified>\
                            <ETag>&quot;e&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>\
                            <ChecksumType>FULL_OBJECT</ChecksumType><Size>11</Size>";

    #[test]
    fn version_two_is_rendered() {
        assert_eq!(
            render("delimiter=/&max-keys=2&start-after=%26", Version::Two),
            format!(
                "<Name>bkt</Name><Prefix></Prefix><StartAfter>&amp;</StartAfter>\
                 <NextContinuationToken>YyBkLw</NextContinuationToken><KeyCount>2</KeyCount>\
                 <MaxKeys>2</MaxKeys><Delimiter>/</Delimiter><IsTruncated>true</IsTruncated>\
                 <Contents><Key>a b+%&#x1;</Key>{CONTENTS}<StorageClass>STANDARD</StorageClass>\
                 </Contents><CommonPrefixes><Prefix>c d/</Prefix></CommonPrefixes>"
            )
        );
    }

    #[test]
    fn version_one_is_rendered_and_encoded() {
        assert_eq!(
            render(
                "delimiter=/&marker=%20&prefix=+&encoding-type=url",
                Version::One
            ),
            format!(
                "<Name>bkt</Name><Prefix>%20</Prefix><Marker>%20</Marker>\
                 <NextMarker>c%20d/</NextMarker><MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter>\
                 <IsTruncated>true</IsTruncated><EncodingType>url</EncodingType>\
                 <Contents><Key>a%20b%2B%25%01</Key>{CONTENTS}<Owner><ID>acc</ID>\
                 <DisplayName>acc</DisplayName></Owner><StorageClass>STANDARD</StorageClass>\
                 </Contents><CommonPrefixes><Prefix>c%20d/</Prefix></CommonPrefixes>"
            )
        );
        assert!(!render("", Version::One).contains("NextMarker"));
    }

    #[test]
    fn an_empty_page_is_not_truncated() {
        assert!(render("max-keys=0", Version::Two).contains("<IsTruncated>false"));
        assert!(render("fetch-owner=true", Version::Two).contains("<Owner>"));
    }

    /// Weakness 12: paginators that sent both went round in circles.
    #[test]
    fn the_token_wins_over_start_after() {
        let both = options("continuation-token=YyBkLw&start-after=z").unwrap();
        assert_eq!(both.after.as_deref(), Some("c d/"));
        let one = options("start-after=z&delimiter=&max-keys=5000&prefix=p").unwrap();
        assert_eq!((one.after.as_deref(), one.delimiter), (Some("z"), None));
        assert_eq!((one.max_keys, one.prefix.as_str()), (1000, "p"));
    }

    #[test]
    fn bad_parameters_are_refused() {
        for bad in [
            "max-keys=-1",
            "max-keys=many",
            "max-keys=",
            "max-keys=2147483648",
            "encoding-type=base64",
            "continuation-token=",
            "continuation-token=***",
        ] {
            assert_eq!(
                options(bad).unwrap_err().kind(),
                ErrorKind::InvalidArgument,
                "{bad}"
            );
        }
    }
}
