//! What may be wrong with bytes, and how a request is refused.

use std::fmt;

use crate::{ErrorCode, message::fields};

/// Bytes that are not what they should be. Names the field; never holds what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct DecodeError {
    /// The field, as PROTOCOL.md calls it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field. Complete: a decoder finds nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The bytes end before it does.
    Short,
    /// It is longer than it may be.
    TooLong,
    /// It is no UTF-8.
    NotUtf8,
    /// Its value is none that it may have.
    Invalid,
    /// It has a field that must be understood, and is not.
    Unknown,
    /// The bytes are not those that were sent.
    Checksum,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "the bytes end before it does",
            Self::TooLong => "it is longer than it may be",
            Self::NotUtf8 => "it is no UTF-8",
            Self::Invalid => "it has no value that it may have",
            Self::Checksum => "its bytes are not those that were sent",
            Self::Unknown => {
                "it has a field that this version does not know and must not pass over"
            }
        })
    }
}

/// A value that has no form on the wire: it is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is too long to be sent")]
pub struct EncodeError {
    /// The field.
    pub field: &'static str,
}

/// How a request ended: the code of its answer.
///
/// Source: PROTOCOL.md, "Status". Complete in version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It was done.
    Ok = 0,
    /// Something that it names is not there.
    NotFound = 1,
    /// Something is in its way.
    Conflict = 2,
    /// It makes no sense, or is too much.
    BadRequest = 3,
    /// Its caller may not.
    Forbidden = 4,
    /// The server failed.
    Internal = 5,
}

impl Status {
    /// The status of this code.
    ///
    /// # Errors
    /// [`Problem::Invalid`] for a code that version 1 does not have.
    pub fn parse(code: u8) -> Result<Self, DecodeError> {
        Ok(match code {
            0 => Self::Ok,
            1 => Self::NotFound,
            2 => Self::Conflict,
            3 => Self::BadRequest,
            4 => Self::Forbidden,
            5 => Self::Internal,
            _ => {
                return Err(DecodeError {
                    field: "status",
                    problem: Problem::Invalid,
                });
            }
        })
    }
}

fields! {
    /// The metadata of every answer whose status is not [`Status::Ok`].
    pub struct Refusal {
        /// A sentence for people.
        1 message: String,
        /// The code for programs, mostly one of S3's.
        2 code: String,
    }
}

impl Refusal {
    /// The row of the published table: that of its code, else that of its status.
    ///
    /// ```
    /// use jay_wire::{ErrorCode, Refusal, Status};
    /// let refusal = Refusal { message: "object not found".into(), code: "NoSuchKey".into() };
    /// assert_eq!(refusal.published(Status::NotFound), ErrorCode::ObjectNotFound);
    /// ```
    pub fn published(&self, status: Status) -> ErrorCode {
        match self.code.as_str() {
            "NoSuchBucket" => ErrorCode::BucketNotFound,
            "NoSuchKey" => ErrorCode::ObjectNotFound,
            "NoSuchUpload" => ErrorCode::UploadNotFound,
            "BucketAlreadyExists" | "BucketAlreadyOwnedByYou" => ErrorCode::BucketExists,
            "BucketNotEmpty" => ErrorCode::BucketNotEmpty,
            "PreconditionFailed" => ErrorCode::PreconditionFailed,
            "OperationAborted" => ErrorCode::Conflict,
            "OutcomeUnknown" => ErrorCode::OutcomeUnknown,
            "InvalidRange" | "InvalidPartNumber" => ErrorCode::InvalidRange,
            "EntityTooLarge" | "KeyTooLongError" | "MetadataTooLarge" => ErrorCode::TooLarge,
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" => ErrorCode::Unauthenticated,
            "QuotaExceeded" => ErrorCode::QuotaExceeded,
            "InsufficientStorage" => ErrorCode::StorageFull,
            "BadDigest" | "XAmzContentSHA256Mismatch" => ErrorCode::ChecksumMismatch,
            "ObjectCorrupt" => ErrorCode::ObjectCorrupt,
            "ServiceUnavailable" => ErrorCode::Unavailable,
            "RateLimitExceeded" | "SlowDown" => ErrorCode::RateLimited,
            "RequestTimeout" => ErrorCode::Timeout,
            "NotImplemented" | "MethodNotAllowed" | "UnknownOp" => ErrorCode::Unsupported,
            "RequestTimeTooSkewed" => ErrorCode::InvalidArgument,
            _ => match status {
                Status::Conflict => ErrorCode::Conflict,
                Status::Forbidden => ErrorCode::PermissionDenied,
                Status::Ok | Status::NotFound | Status::BadRequest => ErrorCode::InvalidArgument,
                Status::Internal => ErrorCode::Internal,
            },
        }
    }
}
