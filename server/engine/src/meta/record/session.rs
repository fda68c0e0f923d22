//! What has come of requests that are done once.

use crate::{
    codec::{DecodeError, Reader, Writer},
    error::ErrorKind,
    meta::record::ObjectRecord,
    types::{ETag, Timestamp},
};

/// A session of such requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionRecord {
    /// The lowest sequence number whose answer may still be asked for.
    pub lowest: u64,
    /// When a request of it was done last.
    pub used: Timestamp,
}

/// What has come of one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeRecord {
    /// When it was done.
    pub at: Timestamp,
    /// The lowest sequence number whose answer the caller had not got when it asked.
    pub lowest: u64,
    /// The answer.
    pub done: Done,
}

/// The answer to a request that is done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done, and there is nothing to tell.
    Nothing,
    /// An object was written.
    Written(Box<Written>),
    /// It was refused.
    Refused(ErrorKind, String),
}

/// What is told of an object that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Written {
    pub version: u128,
    pub modified: Timestamp,
    pub size: u64,
    pub sha256: Option<[u8; 32]>,
    pub crc64: u64,
    pub etag: ETag,
    pub parts: Option<u16>,
}

impl Done {
    /// That this object was written.
    pub fn written(object: &ObjectRecord) -> Self {
        Done::Written(Box::new(Written {
            version: object.version,
            modified: object.modified,
            size: object.size,
            sha256: object.sha256,
            crc64: object.crc64,
            etag: object.etag.clone(),
            parts: object.parts_count(),
        }))
    }
}

impl SessionRecord {
    pub(super) fn encode(&self, w: &mut Writer) {
        w.u64(self.lowest).u64(self.used.0);
    }

    pub(super) fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            lowest: r.u64("lowest")?,
            used: Timestamp(r.u64("used")?),
        })
    }
}

impl OutcomeRecord {
    pub(super) fn encode(&self, w: &mut Writer) {
        w.u64(self.at.0).u64(self.lowest);
        match &self.done {
            Done::Nothing => {
                w.u8(0);
            }
            Done::Written(written) => {
                w.u8(1);
                written.encode(w);
            }
            Done::Refused(kind, context) => {
                w.u8(2).bytes16(format!("{kind:?}").as_bytes());
                w.bytes16(cut(context).as_bytes());
            }
        }
    }

    pub(super) fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            at: Timestamp(r.u64("at")?),
            lowest: r.u64("lowest")?,
            done: match r.u8("outcome")? {
                0 => Done::Nothing,
                1 => Done::Written(Box::new(Written::decode(r)?)),
                2 => {
                    let name = r.text16("kind")?.to_owned();
                    let kind = ErrorKind::named(&name).ok_or_else(|| r.error("kind"))?;
                    Done::Refused(kind, r.text16("context")?.to_owned())
                }
                _ => return Err(r.error("outcome")),
            },
        })
    }
}

/// Longest sentence of a refusal that is kept, in bytes.
const CONTEXT_BYTES_MAX: usize = 2048;

fn cut(context: &str) -> &str {
    &context[..context.floor_char_boundary(CONTEXT_BYTES_MAX)]
}

impl Written {
    fn encode(&self, w: &mut Writer) {
        w.u128(self.version).u64(self.modified.0).u64(self.size);
        super::object::encode_sha256(w, self.sha256.as_ref());
        w.u64(self.crc64).bytes16(self.etag.as_str().as_bytes());
        w.u16(self.parts.unwrap_or(0));
    }

    fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            version: r.u128("version id")?,
            modified: Timestamp(r.u64("modified")?),
            size: r.u64("size")?,
            sha256: super::object::decode_sha256(r)?,
            crc64: r.u64("crc64nvme")?,
            etag: ETag::new(r.text16("etag")?),
            parts: Some(r.u16("parts")?).filter(|parts| *parts > 0),
        })
    }
}
