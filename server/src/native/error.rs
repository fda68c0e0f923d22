//! Errors of the native front: the engine's kinds as statuses, codes and messages of version 1, and as codes of the
//! published table in version 2.
//!
//! The matches over the kinds have no wildcard arm, so a new kind does not compile until it has its status and code here.

use http::StatusCode;
use jay_engine::ErrorKind;
use jay_wire::{DecodeError, EncodeError, ErrorCode, Failure, Problem, Refusal, Retry, Status};

use crate::s3;

/// When a request that came too soon may come again, as over S3.
const RETRY_AFTER_MS: u32 = 1000;

/// The result of everything that may be refused.
pub(super) type Result<T, E = Error> = std::result::Result<T, E>;

/// A request that is not done.
#[derive(Debug)]
pub(super) struct Error {
    kind: ErrorKind,
    /// What the client is told, in version 1.
    status: Status,
    refusal: Refusal,
    /// What it is told in version 2.
    published: ErrorCode,
    message: String,
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
            kind,
            status,
            refusal: Refusal {
                message: message.unwrap_or(context).to_owned(),
                code: native_code(kind).unwrap_or(code).to_owned(),
            },
            published: published(kind),
            message: match context {
                "" => published(kind).meaning().to_owned(),
                said => said.to_owned(),
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

    /// A body longer than `most` bytes.
    pub(super) fn too_long(most: u64) -> Self {
        let why =
            format!("The data of a request has at most {most} bytes here (JAY_REQUEST_BYTES_MAX).");
        Self::new(ErrorKind::EntityTooLarge, &why)
    }

    /// Data in the frame of a request of which its metadata say nothing.
    pub(super) fn data_without_body() -> Self {
        let why = "The frame has data, but its metadata tell of no body.";
        Self::new(ErrorKind::InvalidArgument, why)
    }

    /// A request of a session that would not be done once.
    pub(super) fn not_of_sessions() -> Self {
        let why = "Only put, delete, copy and complete take part in sessions.";
        Self::new(ErrorKind::InvalidArgument, why)
    }

    /// The client has given the request up.
    pub(super) fn cancelled() -> Self {
        Self {
            published: ErrorCode::Cancelled,
            ..Self::new(
                ErrorKind::IncompleteBody,
                "The request was given up by its client.",
            )
        }
    }

    /// The request took longer than its client waits.
    pub(super) fn too_late() -> Self {
        let why = "The deadline of the request has passed; whether it was done is not known.";
        Self::new(ErrorKind::RequestTimeout, why)
    }

    /// The reader has the object already.
    pub(super) fn not_modified() -> Self {
        Self {
            published: ErrorCode::NotModified,
            http_status: StatusCode::NOT_MODIFIED,
            code: "NotModified",
            ..Self::new(
                ErrorKind::PreconditionFailed,
                "The object is the one that is known already.",
            )
        }
    }

    /// The same refusal of a write that was to create something.
    pub(super) fn of_create(self) -> Self {
        match self.published {
            ErrorCode::PreconditionFailed => Self {
                published: ErrorCode::AlreadyExists,
                ..self
            },
            _ => self,
        }
    }

    /// A request too many.
    pub(super) fn rate_limited() -> Self {
        Self::new(ErrorKind::SlowDown, "rate limit exceeded")
    }

    /// Whether the same request will be refused whenever it comes, as far as its client can know.
    pub(super) fn is_final(&self) -> bool {
        let is_unknown = matches!(
            self.published,
            ErrorCode::Cancelled | ErrorCode::OutcomeUnknown
        );
        self.published.retry() == Retry::Never && !is_unknown
    }

    /// What is kept of it as the answer to a request.
    pub(super) fn to_engine(&self) -> jay_engine::Error {
        jay_engine::Error::new(self.kind, self.message.clone())
    }

    /// The same, unless it was not to be kept as the answer.
    pub(super) fn unless(self, kept: jay_engine::Result<()>) -> Self {
        match kept {
            Err(error) if error.kind() != self.kind => error.into(),
            _ => self,
        }
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> Status {
        self.status
    }

    /// The metadata of the answer.
    pub(super) fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// The metadata of the answer in version 2.
    pub(super) fn failure(&self) -> Failure {
        Failure {
            code: self.published as u32,
            message: self.message.clone(),
            s3_code: self.code.to_owned(),
            retry_after_ms: match self.published {
                ErrorCode::RateLimited | ErrorCode::Unavailable => RETRY_AFTER_MS,
                _ => 0,
            },
        }
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
        let message = format!("The request is malformed: {error}.");
        let kind = match error.problem {
            Problem::Checksum => ErrorKind::BadDigest,
            Problem::Unknown => ErrorKind::NotImplemented,
            _ => {
                return Self {
                    message,
                    ..Self::invalid_request()
                };
            }
        };
        Self::new(kind, &message)
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        tracing::error!(%error, "an answer has no form in this version of the protocol");
        let why = format!("The answer has no form in this version of the protocol: {error}.");
        Self::new(ErrorKind::InternalError, &why)
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
        Kind::OperationAborted | Kind::OutcomeUnknown | Kind::PreconditionFailed => {
            (Status::Conflict, None)
        }
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

/// The row of the published table for each kind.
///
/// Source: PROTOCOL.md, "Errors of version 2".
fn published(kind: ErrorKind) -> ErrorCode {
    use ErrorKind as Kind;
    match kind {
        Kind::NoSuchBucket => ErrorCode::BucketNotFound,
        Kind::NoSuchKey => ErrorCode::ObjectNotFound,
        Kind::NoSuchUpload => ErrorCode::UploadNotFound,
        Kind::BucketAlreadyExists | Kind::BucketAlreadyOwnedByYou => ErrorCode::BucketExists,
        Kind::BucketNotEmpty => ErrorCode::BucketNotEmpty,
        Kind::PreconditionFailed => ErrorCode::PreconditionFailed,
        Kind::OperationAborted => ErrorCode::Conflict,
        Kind::OutcomeUnknown => ErrorCode::OutcomeUnknown,
        Kind::InvalidRange | Kind::InvalidPartNumber => ErrorCode::InvalidRange,
        Kind::EntityTooLarge | Kind::KeyTooLongError | Kind::MetadataTooLarge => {
            ErrorCode::TooLarge
        }
        Kind::InvalidAccessKeyId | Kind::SignatureDoesNotMatch => ErrorCode::Unauthenticated,
        Kind::AccessDenied => ErrorCode::PermissionDenied,
        Kind::QuotaExceeded => ErrorCode::QuotaExceeded,
        Kind::InsufficientStorage => ErrorCode::StorageFull,
        Kind::BadDigest | Kind::XAmzContentSHA256Mismatch => ErrorCode::ChecksumMismatch,
        Kind::ObjectCorrupt => ErrorCode::ObjectCorrupt,
        Kind::ServiceUnavailable => ErrorCode::Unavailable,
        Kind::SlowDown => ErrorCode::RateLimited,
        Kind::RequestTimeout => ErrorCode::Timeout,
        Kind::NotImplemented | Kind::MethodNotAllowed => ErrorCode::Unsupported,
        Kind::InternalError => ErrorCode::Internal,
        Kind::AuthorizationHeaderMalformed
        | Kind::AuthorizationQueryParametersError
        | Kind::BadRequest
        | Kind::EntityTooSmall
        | Kind::IncompleteBody
        | Kind::InvalidArgument
        | Kind::InvalidBucketName
        | Kind::InvalidDigest
        | Kind::InvalidLocationConstraint
        | Kind::InvalidPart
        | Kind::InvalidPartOrder
        | Kind::InvalidRequest
        | Kind::InvalidStorageClass
        | Kind::InvalidTag
        | Kind::InvalidToken
        | Kind::InvalidURI
        | Kind::MalformedPolicy
        | Kind::MalformedTrailerError
        | Kind::MalformedXML
        | Kind::MissingContentLength
        | Kind::NoSuchAccount
        | Kind::NoSuchBucketPolicy
        | Kind::NoSuchToken
        | Kind::RequestTimeTooSkewed
        | Kind::TooManyBuckets => ErrorCode::InvalidArgument,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_tell_the_same() {
        for kind in ErrorKind::ALL {
            let error = Error::new(*kind, "Something is wrong.");
            let told = error.refusal().published(error.status());
            assert_eq!(told, error.published, "{kind:?}");
        }
    }
}
