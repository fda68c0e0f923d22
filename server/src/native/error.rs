//! Errors of the native front: the engine's kinds as statuses, codes and messages of version 1.
//!
//! There is one `match` over the kinds and it has no wildcard arm, so a new kind does not compile until it has its
//! status here.

use http::StatusCode;
use jay_engine::ErrorKind;
use jay_wire::{DecodeError, Refusal, Status};

use crate::s3;

/// The result of everything that may be refused.
pub(super) type Result<T, E = Error> = std::result::Result<T, E>;

/// A request that is not done.
#[derive(Debug)]
pub(super) struct Error {
    /// What the client is told.
    status: Status,
    refusal: Refusal,
    /// For logs and metrics, which all fronts share.
    code: &'static str,
    http_status: StatusCode,
}

impl Error {
    /// A refusal of `kind`; `context` is a full sentence that says what to do.
    pub(super) fn new(kind: ErrorKind, context: &str) -> Self {
        let (code, http_status) = s3::code_and_status(kind);
        let (status, message) = status_and_message(kind);
        Self {
            status,
            refusal: Refusal {
                message: message.unwrap_or(context).to_owned(),
                code: native_code(kind).unwrap_or(code).to_owned(),
            },
            code,
            http_status,
        }
    }

    /// Metadata that cannot be read.
    pub(super) fn invalid_request() -> Self {
        Self::new(ErrorKind::InvalidArgument, "invalid request")
    }

    /// An operation that is none.
    pub(super) fn unknown_operation() -> Self {
        Self {
            refusal: Refusal {
                message: "unknown operation".into(),
                code: "UnknownOp".into(),
            },
            ..Self::new(ErrorKind::NotImplemented, "")
        }
    }

    /// A request too many.
    pub(super) fn rate_limited() -> Self {
        Self::new(ErrorKind::SlowDown, "rate limit exceeded")
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> Status {
        self.status
    }

    /// The metadata of the answer.
    pub(super) fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// The code by which it is counted: that of the same refusal over S3.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// The status by which it is logged: that of the same refusal over S3.
    pub(super) fn http_status(&self) -> StatusCode {
        self.http_status
    }
}

impl From<jay_engine::Error> for Error {
    fn from(error: jay_engine::Error) -> Self {
        let this = Self::new(error.kind(), error.context());
        match error.kind() {
            ErrorKind::InsufficientStorage => tracing::debug!(%error, "the disk is full"),
            ErrorKind::NotImplemented => {}
            _ if this.http_status.is_server_error() => {
                tracing::error!(%error, "the engine failed a request");
            }
            _ => {}
        }
        this
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        tracing::debug!(%error, "metadata of a native request could not be read");
        Self::invalid_request()
    }
}

/// The code where it is not that of S3: what the first clients know, and what only this protocol tells apart.
fn native_code(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::BucketAlreadyOwnedByYou => Some("BucketAlreadyExists"),
        ErrorKind::ObjectCorrupt => Some("ObjectCorrupt"),
        ErrorKind::SlowDown => Some("RateLimitExceeded"),
        _ => None,
    }
}

/// The status of each kind, and the message that the first server had for it.
///
/// Source: PROTOCOL.md, "Refusals".
fn status_and_message(kind: ErrorKind) -> (Status, Option<&'static str>) {
    use ErrorKind as Kind;
    match kind {
        Kind::NoSuchBucket => (Status::NotFound, Some("bucket not found")),
        Kind::NoSuchKey => (Status::NotFound, Some("object not found")),
        Kind::NoSuchUpload => (Status::NotFound, Some("upload not found")),
        Kind::NoSuchAccount | Kind::NoSuchBucketPolicy | Kind::NoSuchToken => {
            (Status::NotFound, None)
        }
        Kind::BucketAlreadyExists | Kind::BucketAlreadyOwnedByYou => {
            (Status::Conflict, Some("bucket already exists"))
        }
        Kind::BucketNotEmpty => (Status::Conflict, Some("bucket is not empty")),
        Kind::OperationAborted | Kind::PreconditionFailed => (Status::Conflict, None),
        Kind::AccessDenied => (Status::Forbidden, Some("access denied")),
        Kind::InvalidAccessKeyId
        | Kind::QuotaExceeded
        | Kind::RequestTimeTooSkewed
        | Kind::SignatureDoesNotMatch => (Status::Forbidden, None),
        Kind::InvalidBucketName => (Status::BadRequest, Some("invalid bucket name")),
        Kind::AuthorizationHeaderMalformed
        | Kind::AuthorizationQueryParametersError
        | Kind::BadDigest
        | Kind::BadRequest
        | Kind::EntityTooLarge
        | Kind::EntityTooSmall
        | Kind::IncompleteBody
        | Kind::InvalidArgument
        | Kind::InvalidDigest
        | Kind::InvalidLocationConstraint
        | Kind::InvalidPart
        | Kind::InvalidPartNumber
        | Kind::InvalidPartOrder
        | Kind::InvalidRange
        | Kind::InvalidRequest
        | Kind::InvalidStorageClass
        | Kind::InvalidTag
        | Kind::InvalidToken
        | Kind::InvalidURI
        | Kind::KeyTooLongError
        | Kind::MalformedPolicy
        | Kind::MalformedTrailerError
        | Kind::MalformedXML
        | Kind::MetadataTooLarge
        | Kind::MethodNotAllowed
        | Kind::MissingContentLength
        | Kind::NotImplemented
        | Kind::RequestTimeout
        | Kind::SlowDown
        | Kind::TooManyBuckets
        | Kind::XAmzContentSHA256Mismatch => (Status::BadRequest, None),
        Kind::InsufficientStorage
        | Kind::InternalError
        | Kind::ObjectCorrupt
        | Kind::ServiceUnavailable => (Status::Internal, None),
    }
}
