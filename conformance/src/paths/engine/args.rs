//! The arguments of an operation, as the engine wants them.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jay_engine::{
    BucketName, ByteRange, Checksum, ChecksumAlgorithm, ChecksumType, CompletedPart, Conditions,
    ContentHeaders, CopySource, ETag, ObjectKey, ReadConditions, Select, Tag, Tags, Timestamp,
    UploadId,
};
use serde_json::{Map, Value};

use super::super::asked::{Args, Refused, Result, numbers, unsupported};

impl Args {
    pub(super) fn bucket(&mut self) -> Result<BucketName> {
        Ok(BucketName::parse(&self.required::<String>("bucket")?)?)
    }

    pub(super) fn key(&mut self) -> Result<ObjectKey> {
        Ok(ObjectKey::parse(&self.required::<String>("key")?)?)
    }

    pub(super) fn content_headers(&mut self) -> Result<ContentHeaders> {
        Ok(ContentHeaders {
            content_type: self.option("content_type")?,
            cache_control: self.option("cache_control")?,
            content_disposition: self.option("content_disposition")?,
            content_encoding: self.option("content_encoding")?,
            content_language: self.option("content_language")?,
            expires: self.option("expires")?,
        })
    }

    pub(super) fn metadata(&mut self) -> Result<BTreeMap<String, String>> {
        self.map("metadata")
    }

    /// Preconditions of a write.
    pub(super) fn conditions(&mut self) -> Result<Conditions> {
        let mut etag = |name| -> Result<_> {
            let text: Option<String> = self.option(name)?;
            Ok(text.map(|text| (text != "*").then(|| ETag::new(text))))
        };
        Ok(Conditions {
            if_match: etag("if_match")?,
            if_none_match: etag("if_none_match")?,
        })
    }

    pub(super) fn range(&mut self) -> Result<Option<ByteRange>> {
        let range = self.option::<BTreeMap<String, u64>>("range")?;
        range.as_ref().map(range_of).transpose()
    }

    pub(super) fn checksum_algorithm(&mut self) -> Result<Option<ChecksumAlgorithm>> {
        let name: Option<String> = self.option("checksum_algorithm")?;
        name.map(|name| algorithm(&name)).transpose()
    }

    pub(super) fn checksum(&mut self) -> Result<Option<Checksum>> {
        let given = self.checksum_given()?;
        let given = given.map(|(name, value)| {
            let algorithm = algorithm(&name)?;
            Ok(Checksum { algorithm, value })
        });
        given.transpose()
    }

    pub(super) fn content_md5(&mut self) -> Result<Option<[u8; 16]>> {
        let Some(text) = self.option::<String>("content_md5")? else {
            return Ok(None);
        };
        let bytes = BASE64_STANDARD.decode(text).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Some)
            .ok_or_else(|| Refused("InvalidDigest".into(), "no MD5".into()))
    }

    /// Preconditions of a read; `prefix` is before their names.
    pub(super) fn read_conditions(&mut self, prefix: &str) -> Result<ReadConditions> {
        let named = |name: &str| format!("{prefix}{name}");
        let tags = |text: Option<String>| text.map(|text| vec![ETag::new(text)]);
        Ok(ReadConditions {
            if_match: tags(self.option(&named("if_match"))?),
            if_none_match: tags(self.option(&named("if_none_match"))?),
            if_modified_since: self.time(&named("if_modified_since"))?.map(Timestamp),
            if_unmodified_since: self.time(&named("if_unmodified_since"))?.map(Timestamp),
        })
    }

    /// Which bytes are read.
    pub(super) fn select(&mut self) -> Result<Select> {
        Ok(match (self.range()?, self.option::<u16>("part_number")?) {
            (None, None) => Select::Whole,
            (Some(range), None) => Select::Range(range),
            (None, Some(number)) => Select::Part(number),
            _ => return Err(unsupported("a range and a part")),
        })
    }

    /// Tags, none if they are not named.
    pub(super) fn tags(&mut self) -> Result<Tags> {
        let tags = self
            .map("tags")?
            .into_iter()
            .map(|(key, value)| Tag { key, value });
        Ok(Tags::new(tags.collect())?)
    }

    /// The source of a copy, with its conditions.
    pub(super) fn source(&mut self) -> Result<CopySource> {
        let mut source = Args(self.required("source")?);
        let (bucket, key) = (source.bucket()?, source.key()?);
        source.end()?;
        let conditions = self.read_conditions("copy_")?;
        Ok(CopySource {
            bucket,
            key,
            conditions,
        })
    }

    pub(super) fn upload_id(&mut self) -> Result<UploadId> {
        Ok(UploadId::parse(&self.required::<String>("upload_id")?)?)
    }

    /// The parts of a Complete.
    pub(super) fn parts(&mut self) -> Result<Vec<CompletedPart>> {
        let parts: Vec<Map<String, Value>> = self.required("parts")?;
        let part = |part| {
            let mut part = Args(part);
            let completed = CompletedPart {
                number: part.required("part_number")?,
                etag: Some(ETag::new(part.required::<String>("etag")?)),
                checksum: part.checksum()?,
            };
            part.end().map(|()| completed)
        };
        parts.into_iter().map(part).collect()
    }

    pub(super) fn checksum_type(&mut self) -> Result<Option<ChecksumType>> {
        Ok(match self.option::<String>("checksum_type")?.as_deref() {
            None => None,
            Some("FULL_OBJECT") => Some(ChecksumType::FullObject),
            Some("COMPOSITE") => Some(ChecksumType::Composite),
            Some(other) => return Err(unsupported(format!("the checksum type {other}"))),
        })
    }
}

/// A range of numbers.
pub(super) fn range_of(range: &BTreeMap<String, u64>) -> Result<ByteRange> {
    Ok(match numbers(range) {
        (Some(first), Some(last), None) => ByteRange::FromTo { first, last },
        (Some(first), None, None) => ByteRange::From { first },
        (None, None, Some(length)) => ByteRange::Suffix { length },
        _ => return Err(unsupported("a range of this form")),
    })
}

pub(super) fn algorithm(name: &str) -> Result<ChecksumAlgorithm> {
    let found = ChecksumAlgorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm.name() == name);
    found.ok_or_else(|| unsupported(format!("the checksum {name}")))
}
