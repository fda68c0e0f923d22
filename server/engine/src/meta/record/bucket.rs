//! Buckets and their counters.

use std::sync::Arc;

use super::policy;
use crate::{
    codec::{DecodeError, Reader, Writer},
    meta::key::{AccountId, BucketId},
    types::{Policy, Timestamp},
};

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRecord {
    /// What its objects' keys begin with.
    pub id: BucketId,
    /// The account that owns it.
    pub owner: AccountId,
    /// When it was created.
    pub created: Timestamp,
    /// GET and HEAD of its objects without credentials.
    pub public_read: bool,
    /// Most bytes that its objects may have together.
    pub quota_bytes: Option<u64>,
    /// Who else may do what in it, and who may not.
    pub policy: Option<Arc<Policy>>,
}

/// Counters of a bucket, changed in the commit of their cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketStats {
    /// Objects in it.
    pub objects: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
}

impl BucketRecord {
    /// A bucket of which nothing else is known.
    pub fn new(id: BucketId, owner: AccountId, created: Timestamp) -> Self {
        Self {
            id,
            owner,
            created,
            public_read: false,
            quota_bytes: None,
            policy: None,
        }
    }

    pub(super) fn encode(&self, w: &mut Writer) {
        let flags = [
            self.public_read,
            self.quota_bytes.is_some(),
            self.policy.is_some(),
            self.policy.as_ref().is_some_and(|p| p.document.is_some()),
        ];
        let flags = (0..).zip(flags).map(|(bit, is)| u8::from(is) << bit).sum();
        w.u64(self.id.0)
            .u128(self.owner.0)
            .u64(self.created.0)
            .u8(flags);
        if let Some(quota) = self.quota_bytes {
            w.u64(quota);
        }
        if let Some(policy) = &self.policy {
            policy::encode(policy, w);
        }
    }

    pub(super) fn decode(r: &mut Reader, version: u8) -> Result<Self, DecodeError> {
        let id = BucketId(r.u64("id")?);
        let bucket = Self::new(
            id,
            AccountId(r.u128("owner")?),
            Timestamp(r.u64("created")?),
        );
        let flags = r.u8("flags")?;
        if flags >> if version == 1 { 1 } else { 4 } != 0 || flags & 12 == 8 {
            return Err(r.error("flags"));
        }
        let quota_bytes = match flags & 2 {
            0 => None,
            _ => Some(r.u64("quota")?),
        };
        let policy = match flags & 4 {
            0 => None,
            _ => Some(Arc::new(policy::decode(r, flags & 8 != 0)?)),
        };
        Ok(Self {
            public_read: flags & 1 != 0,
            quota_bytes,
            policy,
            ..bucket
        })
    }
}

impl BucketStats {
    pub(super) fn encode(&self, w: &mut Writer) {
        w.u64(self.objects).u64(self.bytes);
    }

    pub(super) fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            objects: r.u64("objects")?,
            bytes: r.u64("bytes")?,
        })
    }
}
