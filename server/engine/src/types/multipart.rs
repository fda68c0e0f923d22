//! What multipart uploads and copies are asked for and answer.

use std::{collections::BTreeMap, fmt};

use super::{
    BucketName, Checksum, ChecksumAlgorithm, ChecksumType, Conditions, ContentHeaders, ETag,
    ObjectKey, Once, ReadConditions, Tags, Timestamp,
};
use crate::error::{Error, ErrorKind, Result};

/// Highest number of a part.
pub const PART_NUMBER_MAX: u16 = 10_000;

/// The name of a multipart upload; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub(crate) u128);

impl UploadId {
    /// Reads the form that `Display` writes; [`ErrorKind::NoSuchUpload`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let digits = text.len() == 32 && text.bytes().all(is_hex);
        match u128::from_str_radix(text, 16) {
            Ok(id) if digits => Ok(Self(id)),
            _ => Err(no_such_upload()),
        }
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

pub(crate) fn no_such_upload() -> Error {
    Error::new(
        ErrorKind::NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been \
         aborted or completed.",
    )
}

/// Options of `create_multipart_upload`: what the object will have.
#[derive(Clone, Debug, Default)]
pub struct UploadOptions {
    /// Standard headers.
    pub headers: ContentHeaders,
    /// User metadata under bare lower-case names.
    pub metadata: BTreeMap<String, String>,
    /// Tags.
    pub tags: Tags,
    /// The checksum that all parts and the object have.
    pub checksum_algorithm: Option<ChecksumAlgorithm>,
    /// What the object's checksum is computed from; by default what S3 has for the algorithm.
    pub checksum_type: Option<ChecksumType>,
}

/// An open multipart upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadInfo {
    /// The key of the object to be.
    pub key: ObjectKey,
    /// Its name.
    pub upload_id: UploadId,
    /// When it was created.
    pub initiated: Timestamp,
    /// The checksum that was asked for.
    pub checksum_algorithm: Option<ChecksumAlgorithm>,
    /// What the object's checksum will be computed from.
    pub checksum_type: ChecksumType,
}

/// Options of `upload_part`, as those of a PUT.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct PartOptions {
    /// Size of the body in bytes when it is known; a body of another size is refused.
    pub size: Option<u64>,
    pub content_md5: Option<[u8; 16]>,
    pub content_sha256: Option<[u8; 32]>,
    /// Whether MD5 and SHA-256 may be left out where nothing else asks for them.
    pub without_digests: bool,
    pub checksum: Option<Checksum>,
    pub checksum_algorithm: Option<ChecksumAlgorithm>,
}

/// A part that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// Its number.
    pub number: u16,
    /// Size in bytes.
    pub size: u64,
    /// MD5 in hex.
    pub etag: ETag,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// When it was committed.
    pub last_modified: Timestamp,
    /// The checksum that the upload or the writer of the part chose.
    pub checksum: Option<Checksum>,
    /// CRC64NVME.
    pub crc64: Checksum,
}

/// A part that a Complete names.
#[derive(Clone, Debug)]
pub struct CompletedPart {
    /// Its number.
    pub number: u16,
    /// The ETag that its upload was answered with; `None` takes the part that is there.
    pub etag: Option<ETag>,
    /// Its checksum, to be held against that of the part.
    pub checksum: Option<Checksum>,
}

/// Options of `complete_multipart_upload`.
#[derive(Clone, Debug, Default)]
pub struct CompleteOptions {
    /// Preconditions.
    pub conditions: Conditions,
    /// The checksum that the object must have.
    pub checksum: Option<Checksum>,
    /// The type of checksum that the upload must be of.
    pub checksum_type: Option<ChecksumType>,
    /// Size in bytes that the object must have.
    pub size: Option<u64>,
    /// Least size of every part but the last, in bytes.
    pub part_bytes_min: u64,
    /// Which request of a session it is, if it is to be done once however often it comes.
    pub once: Option<Once>,
}

/// Options of `list_parts`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListPartsOptions {
    /// Only parts of higher numbers.
    pub after: u16,
    /// Most parts of the page; cut to [`LIST_PAGE_MAX`].
    pub max_parts: usize,
}

/// One page of the parts of an upload, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartPage {
    /// The upload.
    pub upload: UploadInfo,
    /// The parts.
    pub parts: Vec<PartInfo>,
    /// Whether more follow.
    pub is_truncated: bool,
}

/// Options of `list_multipart_uploads`.
#[derive(Clone, Debug, Default)]
pub struct ListUploadsOptions {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Keys that share what follows the prefix up to and with this are one common prefix.
    pub delimiter: Option<String>,
    /// Only keys and common prefixes above this; uploads of this very key too when there is an upload marker.
    pub key_marker: Option<String>,
    /// Of the uploads of the key marker only those above this.
    pub upload_id_marker: Option<UploadId>,
    /// Most entries of the page; cut to [`LIST_PAGE_MAX`].
    pub max_uploads: usize,
}

/// One line of a listing of uploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadEntry {
    /// An upload.
    Upload(Box<UploadInfo>),
    /// A common prefix, delimiter included.
    CommonPrefix(String),
}

/// One page of the open uploads of a bucket, by key and then by age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// The entries.
    pub entries: Vec<UploadEntry>,
    /// Whether more follow.
    pub is_truncated: bool,
}

/// What is copied.
#[derive(Clone, Debug)]
pub struct CopySource {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: ObjectKey,
    /// What must hold for the source.
    pub conditions: ReadConditions,
}

/// Options of `copy_object`.
#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    /// Headers and metadata in place of those of the source.
    pub replace: Option<(ContentHeaders, BTreeMap<String, String>)>,
    /// Tags in place of those of the source.
    pub tags: Option<Tags>,
    /// The checksum that the copy shall have.
    pub checksum_algorithm: Option<ChecksumAlgorithm>,
    /// What must hold for the destination.
    pub conditions: Conditions,
    /// Which request of a session it is, if it is to be done once however often it comes.
    pub once: Option<Once>,
}
