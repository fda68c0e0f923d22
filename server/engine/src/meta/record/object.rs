//! Objects.

use std::collections::BTreeMap;

use super::{
    Location,
    described::{
        decode_checksum, decode_described, decode_tags, decode_type, encode_checksum,
        encode_described, encode_tags, type_number,
    },
};
use crate::{
    codec::{DecodeError, Reader, Writer},
    types::{Checksum, ChecksumType, ContentHeaders, ETag, Tags, Timestamp},
};

/// An object: all that is known of it but its body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ObjectRecord {
    pub version: u128,
    pub modified: Timestamp,
    pub size: u64,
    /// Left out where its writer has asked for that.
    pub sha256: Option<[u8; 32]>,
    pub crc64: u64,
    pub etag: ETag,
    pub checksum: Option<Checksum>,
    pub checksum_type: ChecksumType,
    pub location: Location,
    pub headers: ContentHeaders,
    pub metadata: BTreeMap<String, String>,
    pub tags: Tags,
    pub quarantined: Option<Quarantined>,
}

/// That the body of an object is not what was put, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// When that was seen.
    pub since: Timestamp,
    /// What is wrong with it.
    pub reason: String,
}

impl ObjectRecord {
    /// Of how many parts it was made.
    pub fn parts_count(&self) -> Option<u16> {
        match &self.location {
            Location::Parts(set) => Some(set.count()),
            _ => None,
        }
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        w.u8(0)
            .u128(self.version)
            .u64(self.modified.0)
            .u64(self.size);
        encode_sha256(w, self.sha256.as_ref());
        w.u64(self.crc64).bytes16(self.etag.as_str().as_bytes());
        encode_checksum(w, self.checksum.as_ref());
        w.u8(type_number(self.checksum_type));
        self.location.encode(w);
        encode_described(w, &self.headers, &self.metadata);
        encode_tags(w, &self.tags);
        match &self.quarantined {
            None => w.u8(0),
            Some(why) => w.u8(1).u64(why.since.0).bytes16(why.reason.as_bytes()),
        };
    }

    pub(super) fn decode(r: &mut Reader, record_version: u8) -> Result<Self, DecodeError> {
        if r.u8("cipher")? != 0 {
            return Err(r.error("cipher"));
        }
        let version = r.u128("version id")?;
        let modified = Timestamp(r.u64("modified")?);
        let size = r.u64("size")?;
        let sha256 = match record_version {
            1..=3 => Some(r.array("sha256")?),
            _ => decode_sha256(r)?,
        };
        let crc64 = r.u64("crc64nvme")?;
        let etag = ETag::new(r.text16("etag")?);
        let checksum = decode_checksum(r)?;
        let checksum_type = match record_version {
            1 => ChecksumType::FullObject,
            _ => decode_type(r)?,
        };
        let location = Location::decode(r)?;
        let (headers, metadata) = decode_described(r)?;
        let tags = match record_version {
            1 => Tags::default(),
            _ => decode_tags(r)?,
        };
        let quarantined = match record_version {
            1 | 2 => None,
            _ => Quarantined::decode(r)?,
        };
        Ok(Self {
            version,
            modified,
            size,
            sha256,
            crc64,
            etag,
            checksum,
            checksum_type,
            location,
            headers,
            metadata,
            tags,
            quarantined,
        })
    }
}

/// One byte: whether it is there; then it.
pub(super) fn encode_sha256(w: &mut Writer, sha256: Option<&[u8; 32]>) {
    w.u8(sha256.is_some().into());
    if let Some(sha256) = sha256 {
        w.raw(sha256);
    }
}

pub(super) fn decode_sha256(r: &mut Reader) -> Result<Option<[u8; 32]>, DecodeError> {
    match r.u8("sha256")? {
        0 => Ok(None),
        1 => Ok(Some(r.array("sha256")?)),
        _ => Err(r.error("sha256")),
    }
}

impl Quarantined {
    fn decode(r: &mut Reader) -> Result<Option<Self>, DecodeError> {
        match r.u8("quarantined")? {
            0 => Ok(None),
            1 => Ok(Some(Self {
                since: Timestamp(r.u64("quarantined since")?),
                reason: r.text16("reason of the quarantine")?.to_owned(),
            })),
            _ => Err(r.error("quarantined")),
        }
    }
}
