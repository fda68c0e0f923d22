//! The arguments of an operation, as the engine wants them.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jay_engine::{
    BucketName, ByteRange, Checksum, ChecksumAlgorithm, ChecksumType, CompletedPart, Conditions,
    ContentHeaders, CopySource, ETag, ObjectKey, ReadConditions, Select, Tag, Tags, Timestamp,
    UploadId,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Refused, Result, unsupported};
use crate::body::{self, Piece};

/// The arguments of an operation. Each is taken; what is left is unknown.
pub(super) struct Args(pub(super) Map<String, Value>);

impl Args {
    pub(super) fn option<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        let value = self.0.remove(name);
        let value = value.map(|value| {
            serde_json::from_value(value).map_err(|e| unsupported(format!("{name}: {e}")))
        });
        value.transpose()
    }

    pub(super) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        self.option(name)?
            .ok_or_else(|| unsupported(format!("{name} is missing")))
    }

    pub(super) fn bucket(&mut self) -> Result<BucketName> {
        Ok(BucketName::parse(&self.required::<String>("bucket")?)?)
    }

    pub(super) fn key(&mut self) -> Result<ObjectKey> {
        Ok(ObjectKey::parse(&self.required::<String>("key")?)?)
    }

    pub(super) fn body(&mut self) -> Result<Vec<u8>> {
        Ok(body::bytes(&self.required::<Vec<Piece>>("body")?))
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
        Ok(self.option("metadata")?.unwrap_or_default())
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
        let Some(range) = self.option::<BTreeMap<String, u64>>("range")? else {
            return Ok(None);
        };
        let of = |name: &str| range.get(name).copied();
        Ok(Some(match (of("first"), of("last"), of("suffix")) {
            (Some(first), Some(last), None) => ByteRange::FromTo { first, last },
            (Some(first), None, None) => ByteRange::From { first },
            (None, None, Some(length)) => ByteRange::Suffix { length },
            _ => return Err(unsupported("a range of this form")),
        }))
    }

    pub(super) fn checksum_algorithm(&mut self) -> Result<Option<ChecksumAlgorithm>> {
        let name: Option<String> = self.option("checksum_algorithm")?;
        name.map(|name| algorithm(&name)).transpose()
    }

    pub(super) fn checksum(&mut self) -> Result<Option<Checksum>> {
        let Some(given) = self.option::<BTreeMap<String, String>>("checksum")? else {
            return Ok(None);
        };
        let of = |name: &str| given.get(name).map(String::as_str).unwrap_or_default();
        let value = BASE64_STANDARD.decode(of("value")).map_err(unsupported)?;
        let algorithm = algorithm(of("algorithm"))?;
        Ok(Some(Checksum { algorithm, value }))
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
        let mut text = |name: &str| self.option::<String>(&format!("{prefix}{name}"));
        let tags = |text: Option<String>| text.map(|text| vec![ETag::new(text)]);
        let date = |text: Option<String>| {
            let parsed = text.map(|text| text.parse::<jiff::Timestamp>().map_err(unsupported));
            let parsed = parsed.transpose()?;
            Ok::<_, Refused>(parsed.map(|time| Timestamp(time.as_millisecond().max(0) as u64)))
        };
        Ok(ReadConditions {
            if_match: tags(text("if_match")?),
            if_none_match: tags(text("if_none_match")?),
            if_modified_since: date(text("if_modified_since")?)?,
            if_unmodified_since: date(text("if_unmodified_since")?)?,
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
        let tags: BTreeMap<String, String> = self.option("tags")?.unwrap_or_default();
        let tags = tags.into_iter().map(|(key, value)| Tag { key, value });
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

    /// That nothing is left.
    pub(super) fn end(self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(unsupported(format!("the argument {name}"))),
        }
    }
}

pub(super) fn algorithm(name: &str) -> Result<ChecksumAlgorithm> {
    let found = ChecksumAlgorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm.name() == name);
    found.ok_or_else(|| unsupported(format!("the checksum {name}")))
}
