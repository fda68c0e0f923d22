//! What the index holds under its keys: versioned records, encoded as FORMAT.md draws them. One file a kind.

mod account;
mod bucket;
mod described;
mod location;
mod multipart;
mod object;
mod policy;
#[cfg(test)]
pub(crate) mod sample;
mod session;
mod upkeep;

pub use self::{
    account::{AccountRecord, TokenRecord},
    bucket::{BucketRecord, BucketStats},
    location::{Location, PartRun, PartSet},
    multipart::{PartRecord, PartSetRecord, UploadRecord},
    object::{ObjectRecord, Quarantined},
    session::{Done, OutcomeRecord, SessionRecord, Written},
    upkeep::{BlobRecord, Checkpoint, PackRecord, ScrubRecord, ScrubTally},
};
use crate::{
    codec::{DecodeError, Reader, Writer},
    meta::key::{AccountId, tag},
};

const VERSION: u8 = 1;
/// Since format 4: with quota and policy of a bucket, and the hash and the key id of a token.
const GOVERNED_VERSION: u8 = 2;
/// Since format 5: it may be without SHA-256. Version 3 had the reason of its quarantine, 2 the type of the checksum and
/// tags, 1 nothing of this.
const OBJECT_VERSION: u8 = 4;

/// A value of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is documented at its type
pub enum Record {
    Bucket(BucketRecord),
    BucketStats(BucketStats),
    Object(Box<ObjectRecord>),
    Upload(Box<UploadRecord>),
    Part(Box<PartRecord>),
    Account(AccountRecord),
    AccountName(AccountId),
    Token(Box<TokenRecord>),
    Session(SessionRecord),
    Outcome(Box<OutcomeRecord>),
    Blob(BlobRecord),
    Free,
    Pack(PackRecord),
    PartSet(PartSetRecord),
    Quarantine,
    Scrub(Box<ScrubRecord>),
    Recount,
}

impl Record {
    /// The bytes of the record, its version first.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(256);
        w.u8(match self {
            Record::Object(_) => OBJECT_VERSION,
            Record::Bucket(_) | Record::Token(_) => GOVERNED_VERSION,
            _ => VERSION,
        });
        match self {
            Record::Bucket(r) => r.encode(&mut w),
            Record::BucketStats(r) => r.encode(&mut w),
            Record::Object(r) => r.encode(&mut w),
            Record::Upload(r) => r.encode(&mut w),
            Record::Part(r) => r.encode(&mut w),
            Record::Account(r) => r.encode(&mut w),
            Record::AccountName(id) => {
                w.u128(id.0);
            }
            Record::Token(r) => r.encode(&mut w),
            Record::Session(r) => r.encode(&mut w),
            Record::Outcome(r) => r.encode(&mut w),
            Record::Blob(r) => r.encode(&mut w),
            Record::Pack(r) => r.encode(&mut w),
            Record::PartSet(r) => r.encode(&mut w),
            Record::Scrub(r) => r.encode(&mut w),
            Record::Free | Record::Quarantine | Record::Recount => {}
        }
        w.into_bytes()
    }

    /// Reads the record that stands under a key with the given first byte.
    pub fn decode(key_tag: u8, bytes: &[u8]) -> Result<Record, DecodeError> {
        let mut r = Reader::new("record", bytes);
        let version = r.u8("version")?;
        let newest = match key_tag {
            tag::OBJECT => OBJECT_VERSION,
            tag::BUCKET | tag::TOKEN => GOVERNED_VERSION,
            _ => VERSION,
        };
        if !(VERSION..=newest).contains(&version) {
            return Err(r.error("version"));
        }
        let record = match key_tag {
            tag::BUCKET => Record::Bucket(BucketRecord::decode(&mut r, version)?),
            tag::BUCKET_STATS => Record::BucketStats(BucketStats::decode(&mut r)?),
            tag::OBJECT => Record::Object(Box::new(ObjectRecord::decode(&mut r, version)?)),
            tag::UPLOAD => Record::Upload(Box::new(UploadRecord::decode(&mut r)?)),
            tag::PART => Record::Part(Box::new(PartRecord::decode(&mut r)?)),
            tag::ACCOUNT => Record::Account(AccountRecord::decode(&mut r)?),
            tag::ACCOUNT_NAME => Record::AccountName(AccountId(r.u128("account")?)),
            tag::TOKEN => Record::Token(Box::new(TokenRecord::decode(&mut r, version)?)),
            tag::SESSION => Record::Session(SessionRecord::decode(&mut r)?),
            tag::OUTCOME => Record::Outcome(Box::new(OutcomeRecord::decode(&mut r)?)),
            tag::BLOB => Record::Blob(BlobRecord::decode(&mut r)?),
            tag::FREE | tag::FREE_PART_SET | tag::FREE_BUCKET => Record::Free,
            tag::PACK => Record::Pack(PackRecord::decode(&mut r)?),
            tag::PART_SET => Record::PartSet(PartSetRecord::decode(&mut r)?),
            tag::QUARANTINE => Record::Quarantine,
            tag::RECOUNT => Record::Recount,
            tag::SCRUB => Record::Scrub(Box::new(ScrubRecord::decode(&mut r)?)),
            _ => return Err(r.error("key kind")),
        };
        r.finish()?;
        Ok(record)
    }

    /// Where the body of the row is and how long it is, if it is one that has a body.
    pub fn body(&self) -> Option<(&Location, u64)> {
        match self {
            Record::Object(object) => Some((&object.location, object.size)),
            Record::Part(part) => Some((&part.location, part.size)),
            _ => None,
        }
    }

    /// Where the body of the row is, to be changed.
    pub fn location_mut(&mut self) -> Option<&mut Location> {
        match self {
            Record::Object(object) => Some(&mut object.location),
            Record::Part(part) => Some(&mut part.location),
            _ => None,
        }
    }

    /// The version of a row that has a body.
    pub fn version(&self) -> Option<u128> {
        match self {
            Record::Object(object) => Some(object.version),
            Record::Part(part) => Some(part.version),
            _ => None,
        }
    }
}
