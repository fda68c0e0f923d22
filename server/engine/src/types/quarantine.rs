//! What operators see of the quarantine.

use crate::types::Timestamp;

/// An object whose stored bytes are not what was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedObject {
    /// Its bucket; the id stays when the name is given to another one.
    pub bucket_id: u64,
    /// The name of its bucket.
    pub bucket: Option<String>,
    /// Its key.
    pub key: String,
    /// Its version.
    pub version: u128,
    /// Bytes that it should have.
    pub size: u64,
    /// SHA-256 that they should have; of an object made of parts that of their SHA-256s.
    pub sha256: Option<[u8; 32]>,
    /// When the damage was seen.
    pub since: Timestamp,
    /// What is wrong.
    pub reason: String,
}

/// Some of the quarantined objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuarantinePage {
    /// In the order of bucket ids and keys.
    pub objects: Vec<QuarantinedObject>,
    /// True when there are more behind the last one.
    pub is_truncated: bool,
}
