//! Uploads and their parts.

use std::collections::BTreeMap;

use super::{
    Location,
    described::{
        algorithm_number, decode_algorithm, decode_checksum, decode_described, decode_tags,
        decode_type, encode_checksum, encode_described, encode_tags, type_number,
    },
};
use crate::{
    codec::{DecodeError, Reader, Writer},
    meta::key::AccountId,
    types::{Checksum, ChecksumAlgorithm, ChecksumType, ContentHeaders, Tags, Timestamp},
};

/// A multipart upload that is neither completed nor aborted; its key says of what object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct UploadRecord {
    pub initiated: Timestamp,
    pub initiator: AccountId,
    pub checksum_algorithm: Option<ChecksumAlgorithm>,
    pub checksum_type: ChecksumType,
    pub headers: ContentHeaders,
    pub metadata: BTreeMap<String, String>,
    pub tags: Tags,
}

/// A part of an upload, or of the object that it has become.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PartRecord {
    pub version: u128,
    pub modified: Timestamp,
    pub size: u64,
    pub md5: [u8; 16],
    pub sha256: [u8; 32],
    pub crc64: u64,
    pub checksum: Option<Checksum>,
    pub location: Location,
}

/// The parts that came by one upload, changed in the commit of their cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartSetRecord {
    /// The open upload, and every object made of the parts.
    pub references: u32,
    /// How many parts there are.
    pub parts: u32,
    /// Grows with every part that comes, so that whoever looked at the parts can tell.
    pub changes: u64,
}

impl UploadRecord {
    pub(super) fn encode(&self, w: &mut Writer) {
        w.u64(self.initiated.0).u128(self.initiator.0);
        w.u8(self.checksum_algorithm.map_or(0, algorithm_number))
            .u8(type_number(self.checksum_type));
        encode_described(w, &self.headers, &self.metadata);
        encode_tags(w, &self.tags);
    }

    pub(super) fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        let (initiated, initiator) = (r.u64("initiated")?, r.u128("initiator")?);
        let checksum_algorithm = decode_algorithm(r)?;
        let checksum_type = decode_type(r)?;
        let (headers, metadata) = decode_described(r)?;
        Ok(Self {
            initiated: Timestamp(initiated),
            initiator: AccountId(initiator),
            checksum_algorithm,
            checksum_type,
            headers,
            metadata,
            tags: decode_tags(r)?,
        })
    }
}

impl PartRecord {
    pub(super) fn encode(&self, w: &mut Writer) {
        w.u8(0)
            .u128(self.version)
            .u64(self.modified.0)
            .u64(self.size);
        w.raw(&self.md5).raw(&self.sha256).u64(self.crc64);
        encode_checksum(w, self.checksum.as_ref());
        self.location.encode(w);
    }

    pub(super) fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        if r.u8("cipher")? != 0 {
            return Err(r.error("cipher"));
        }
        Ok(Self {
            version: r.u128("version id")?,
            modified: Timestamp(r.u64("modified")?),
            size: r.u64("size")?,
            md5: r.array("md5")?,
            sha256: r.array("sha256")?,
            crc64: r.u64("crc64nvme")?,
            checksum: decode_checksum(r)?,
            location: Location::decode(r)?,
        })
    }
}

impl PartSetRecord {
    pub(super) fn encode(&self, w: &mut Writer) {
        w.u32(self.references).u32(self.parts).u64(self.changes);
    }

    pub(super) fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            references: r.u32("references")?,
            parts: r.u32("parts")?,
            changes: r.u64("changes")?,
        })
    }
}
