//! Every key of the index, in one enum. The bytes are drawn in FORMAT.md.

use std::fmt;

use crate::{
    codec::{DecodeError, Reader},
    types::UploadId,
};

/// Identifies a bucket for ever, under whatever name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId(pub u64);

/// Identifies an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u128);

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Identifies a session of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u128);

/// Names the file of a body: incarnation, shard, counter, random bits. Later ids of a store are greater.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub u128);

impl BlobId {
    /// Puts an id together.
    pub fn new(incarnation: u32, shard: u16, counter: u64, random: u32) -> Self {
        debug_assert!(counter < 1 << 48);
        Self(
            u128::from(incarnation) << 96
                | u128::from(shard) << 80
                | u128::from(counter) << 32
                | u128::from(random),
        )
    }

    /// The start of the store that made it.
    pub fn incarnation(self) -> u32 {
        (self.0 >> 96) as u32
    }

    /// The directory of its file.
    pub fn shard(self) -> u16 {
        (self.0 >> 80) as u16
    }

    /// Its number within the incarnation.
    pub fn counter(self) -> u64 {
        (self.0 >> 32) as u64 & 0xffff_ffff_ffff
    }

    /// Reads the form that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32
            || !text
                .bytes()
                .all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
        {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key of the index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // FORMAT.md says what each is
pub enum Key {
    Checkpoint,
    Bucket(String),
    BucketStats(BucketId),
    Object(BucketId, String),
    Upload(BucketId, String, UploadId),
    Part(UploadId, u16),
    Account(AccountId),
    AccountName(String),
    Token(String),
    Session(SessionKey),
    Outcome(SessionKey, u64),
    Blob(BlobId),
    Free(BlobId),
    Pack(u32),
    PartSet(UploadId),
    FreePartSet(UploadId),
    FreeBucket(BucketId),
    Quarantine(BucketId, String),
    Scrub,
    Recount,
}

/// First bytes of keys; the gaps are reserved in FORMAT.md.
pub mod tag {
    #![allow(missing_docs)]
    pub const CHECKPOINT: u8 = 0x01;
    pub const BUCKET: u8 = 0x02;
    pub const BUCKET_STATS: u8 = 0x03;
    pub const OBJECT: u8 = 0x04;
    pub const UPLOAD: u8 = 0x06;
    pub const PART: u8 = 0x07;
    pub const ACCOUNT: u8 = 0x10;
    pub const ACCOUNT_NAME: u8 = 0x11;
    pub const TOKEN: u8 = 0x12;
    pub const SESSION: u8 = 0x13;
    pub const OUTCOME: u8 = 0x14;
    pub const BLOB: u8 = 0x20;
    pub const FREE: u8 = 0x21;
    pub const PACK: u8 = 0x22;
    pub const PART_SET: u8 = 0x23;
    pub const FREE_PART_SET: u8 = 0x24;
    pub const FREE_BUCKET: u8 = 0x25;
    pub const QUARANTINE: u8 = 0x26;
    pub const SCRUB: u8 = 0x27;
    pub const RECOUNT: u8 = 0x28;
}

impl Key {
    /// The bytes of the key.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Key::Checkpoint => vec![tag::CHECKPOINT],
            Key::Bucket(name) => join(tag::BUCKET, &[name.as_bytes()]),
            Key::BucketStats(id) => join(tag::BUCKET_STATS, &[&id.0.to_be_bytes()]),
            Key::Object(id, key) => join(tag::OBJECT, &[&id.0.to_be_bytes(), key.as_bytes()]),
            Key::Upload(bucket, key, id) => Key::uploads_of(*bucket, key, Some(*id)),
            Key::Part(id, number) => join(tag::PART, &[&id.0.to_be_bytes(), &number.to_be_bytes()]),
            Key::Account(id) => join(tag::ACCOUNT, &[&id.0.to_be_bytes()]),
            Key::AccountName(name) => join(tag::ACCOUNT_NAME, &[name.as_bytes()]),
            Key::Token(id) => join(tag::TOKEN, &[id.as_bytes()]),
            Key::Session(id) => join(tag::SESSION, &[&id.0.to_be_bytes()]),
            Key::Outcome(id, sequence) => join(
                tag::OUTCOME,
                &[&id.0.to_be_bytes(), &sequence.to_be_bytes()],
            ),
            Key::Blob(id) => join(tag::BLOB, &[&id.0.to_be_bytes()]),
            Key::Free(id) => join(tag::FREE, &[&id.0.to_be_bytes()]),
            Key::Pack(number) => join(tag::PACK, &[&number.to_be_bytes()]),
            Key::PartSet(id) => join(tag::PART_SET, &[&id.0.to_be_bytes()]),
            Key::FreePartSet(id) => join(tag::FREE_PART_SET, &[&id.0.to_be_bytes()]),
            Key::FreeBucket(id) => join(tag::FREE_BUCKET, &[&id.0.to_be_bytes()]),
            Key::Quarantine(id, key) => {
                join(tag::QUARANTINE, &[&id.0.to_be_bytes(), key.as_bytes()])
            }
            Key::Scrub => vec![tag::SCRUB],
            Key::Recount => vec![tag::RECOUNT],
        }
    }

    /// Reads a key back.
    pub fn decode(bytes: &[u8]) -> Result<Key, DecodeError> {
        let mut r = Reader::new("key", bytes);
        let kind = r.u8("kind")?;
        let text = |r: &mut Reader| {
            let bytes = r.rest();
            String::from_utf8(bytes.to_vec()).map_err(|_| r.error("text"))
        };
        let key = match kind {
            tag::CHECKPOINT => Key::Checkpoint,
            tag::BUCKET => Key::Bucket(text(&mut r)?),
            tag::BUCKET_STATS => {
                Key::BucketStats(BucketId(u64::from_be_bytes(r.array("bucket id")?)))
            }
            tag::OBJECT => {
                let id = BucketId(u64::from_be_bytes(r.array("bucket id")?));
                Key::Object(id, text(&mut r)?)
            }
            tag::UPLOAD => {
                let id = BucketId(u64::from_be_bytes(r.array("bucket id")?));
                let key = unescape(&mut r)?;
                Key::Upload(
                    id,
                    key,
                    UploadId(u128::from_be_bytes(r.array("upload id")?)),
                )
            }
            tag::PART => {
                let id = UploadId(u128::from_be_bytes(r.array("upload id")?));
                Key::Part(id, u16::from_be_bytes(r.array("part number")?))
            }
            tag::ACCOUNT => Key::Account(AccountId(u128::from_be_bytes(r.array("account id")?))),
            tag::ACCOUNT_NAME => Key::AccountName(text(&mut r)?),
            tag::TOKEN => Key::Token(text(&mut r)?),
            tag::SESSION => Key::Session(session(&mut r)?),
            tag::OUTCOME => {
                let id = session(&mut r)?;
                Key::Outcome(id, u64::from_be_bytes(r.array("sequence")?))
            }
            tag::BLOB => Key::Blob(BlobId(u128::from_be_bytes(r.array("blob id")?))),
            tag::FREE => Key::Free(BlobId(u128::from_be_bytes(r.array("blob id")?))),
            tag::PACK => Key::Pack(u32::from_be_bytes(r.array("pack")?)),
            tag::PART_SET => Key::PartSet(UploadId(u128::from_be_bytes(r.array("upload id")?))),
            tag::FREE_PART_SET => {
                Key::FreePartSet(UploadId(u128::from_be_bytes(r.array("upload id")?)))
            }
            tag::FREE_BUCKET => {
                Key::FreeBucket(BucketId(u64::from_be_bytes(r.array("bucket id")?)))
            }
            tag::QUARANTINE => {
                let id = BucketId(u64::from_be_bytes(r.array("bucket id")?));
                Key::Quarantine(id, text(&mut r)?)
            }
            tag::SCRUB => Key::Scrub,
            tag::RECOUNT => Key::Recount,
            _ => return Err(r.error("kind")),
        };
        r.finish()?;
        Ok(key)
    }

    /// The bytes that begin the keys of all objects of a bucket whose key begins with `prefix`.
    pub fn object_prefix(bucket: BucketId, prefix: &str) -> Vec<u8> {
        join(tag::OBJECT, &[&bucket.0.to_be_bytes(), prefix.as_bytes()])
    }

    /// The bytes that begin the keys of all uploads of a bucket whose key begins with `prefix`.
    pub fn upload_prefix(bucket: BucketId, prefix: &str) -> Vec<u8> {
        let mut bytes = join(tag::UPLOAD, &[&bucket.0.to_be_bytes()]);
        for &byte in prefix.as_bytes() {
            bytes.push(byte);
            if byte == 0 {
                bytes.push(ESCAPED);
            }
        }
        bytes
    }

    /// The bytes of the row of an upload, or those that begin the rows of all uploads of one key.
    pub fn uploads_of(bucket: BucketId, key: &str, id: Option<UploadId>) -> Vec<u8> {
        let mut bytes = Key::upload_prefix(bucket, key);
        bytes.extend_from_slice(&[0, END]);
        id.inspect(|id| bytes.extend_from_slice(&id.0.to_be_bytes()));
        bytes
    }
}

/// Behind a zero byte: the zero belongs to the text. So texts of any length sort as they do by themselves.
const ESCAPED: u8 = 0xff;
/// Behind a zero byte: the text ends.
const END: u8 = 0x01;

fn unescape(r: &mut Reader) -> Result<String, DecodeError> {
    let mut text = Vec::new();
    loop {
        match r.u8("text")? {
            0 => match r.u8("text")? {
                END => break,
                ESCAPED => text.push(0),
                _ => return Err(r.error("text")),
            },
            byte => text.push(byte),
        }
    }
    String::from_utf8(text).map_err(|_| r.error("text"))
}

fn session(r: &mut Reader) -> Result<SessionKey, DecodeError> {
    Ok(SessionKey(u128::from_be_bytes(r.array("session")?)))
}

/// The least byte string above all that begin with `prefix`; `None` when there is none.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let end = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut next = prefix[..=end].to_vec();
    next[end] += 1;
    Some(next)
}

fn join(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + parts.iter().map(|p| p.len()).sum::<usize>());
    bytes.push(tag);
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_reads_back() {
        let keys = [
            Key::Checkpoint,
            Key::Bucket("b".into()),
            Key::BucketStats(BucketId(7)),
            Key::Object(BucketId(7), "a/ü".into()),
            Key::Account(AccountId(9)),
            Key::AccountName("n".into()),
            Key::Token("t".into()),
            Key::Session(SessionKey(1 << 100)),
            Key::Outcome(SessionKey(1 << 100), 7),
            Key::Blob(BlobId::new(1, 2, 3, 4)),
            Key::Free(BlobId::new(1, 2, 3, 4)),
            Key::Pack(5),
            Key::Upload(BucketId(7), "a\0b/ü".into(), UploadId(1 << 100)),
            Key::Part(UploadId(1 << 100), 10_000),
            Key::PartSet(UploadId(3)),
            Key::FreePartSet(UploadId(3)),
            Key::FreeBucket(BucketId(7)),
            Key::Quarantine(BucketId(7), "a/ü".into()),
            Key::Scrub,
            Key::Recount,
        ];
        for key in keys {
            assert_eq!(Key::decode(&key.encode()).unwrap(), key);
        }
        assert!(Key::decode(&[]).is_err());
        assert!(Key::decode(&[0xee]).is_err());
        assert!(Key::decode(&[tag::PACK, 1]).is_err());
    }

    #[test]
    fn uploads_sort_by_key_and_then_by_age() {
        let id = |n: u128| UploadId(n << 80);
        let rows = [
            ("a", id(2)),
            ("a", id(0xffff)),
            ("a\0", id(1)),
            ("a\u{1}", id(1)),
            ("ab", id(1)),
            ("b", id(1)),
        ];
        let encoded = rows.map(|(key, id)| Key::Upload(BucketId(7), key.into(), id).encode());
        assert!(encoded.is_sorted());
        assert!(Key::decode(&encoded[0][..12]).is_err());
    }

    #[test]
    fn a_blob_id_gives_back_its_parts() {
        let id = BlobId::new(3, 0xabcd, 0xffff_ffff_fff0, 77);
        assert_eq!(
            (id.incarnation(), id.shard(), id.counter()),
            (3, 0xabcd, 0xffff_ffff_fff0)
        );
        assert_eq!(BlobId::parse(&id.to_string()), Some(id));
        assert_eq!(BlobId::parse("xyz"), None);
    }

    #[test]
    fn the_successor_of_a_prefix_lies_above_all_its_strings() {
        assert_eq!(after_prefix(b"a/"), Some(b"a0".to_vec()));
        assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff"), None);
    }
}
