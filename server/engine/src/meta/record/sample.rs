//! Records for tests, with nothing in them but what a test asks for.

use super::{Location, ObjectRecord, PartRecord, TokenRecord, UploadRecord};
use crate::{
    meta::key::AccountId,
    types::{ChecksumType, ContentHeaders, ETag, Tags, Timestamp},
};

pub(crate) fn object(size: u64, location: Location) -> ObjectRecord {
    ObjectRecord {
        version: 1,
        modified: Timestamp(1),
        size,
        sha256: Some([0; 32]),
        crc64: 0,
        etag: ETag::new("e"),
        checksum: None,
        checksum_type: ChecksumType::FullObject,
        location,
        headers: ContentHeaders::default(),
        metadata: Default::default(),
        tags: Tags::default(),
        quarantined: None,
    }
}

pub(crate) fn part(size: u64, location: Location) -> PartRecord {
    PartRecord {
        version: 1,
        modified: Timestamp(1),
        size,
        md5: [0; 16],
        sha256: [0; 32],
        crc64: 0,
        checksum: None,
        location,
    }
}

pub(crate) fn upload() -> UploadRecord {
    UploadRecord {
        initiated: Timestamp(1),
        initiator: AccountId(1),
        checksum_algorithm: None,
        checksum_type: ChecksumType::FullObject,
        headers: ContentHeaders::default(),
        metadata: Default::default(),
        tags: Tags::default(),
    }
}

pub(crate) fn token() -> TokenRecord {
    TokenRecord {
        account: AccountId(1),
        name: String::new(),
        created: Timestamp(1),
        expires: None,
        active: true,
        sealed_secret: Vec::new(),
        key_id: Default::default(),
        secret_hash: String::new(),
        actions: Vec::new(),
        buckets: Vec::new(),
        prefixes: Vec::new(),
    }
}
