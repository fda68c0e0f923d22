//! What the admin API answers when something is wrong: `{"error":"…"}` with a status.

use http::{Response, StatusCode};
use jay_engine::ErrorKind;
use serde::Serialize;

use super::{Body, json};

/// A refused or failed request.
#[derive(Debug)]
pub struct Error {
    status: StatusCode,
    message: String,
}

impl Error {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn response(&self) -> Response<Body> {
        #[derive(Serialize)]
        struct Answer<'a> {
            error: &'a str,
        }
        json(
            self.status,
            &Answer {
                error: &self.message,
            },
        )
    }
}

impl From<jay_engine::Error> for Error {
    fn from(error: jay_engine::Error) -> Self {
        let status = status_of(error.kind());
        if status.is_server_error() {
            tracing::error!(%error, "the engine failed an admin request");
        }
        Self::new(status, error.to_string())
    }
}

/// The status of each kind: whose fault it is, and little more.
fn status_of(kind: ErrorKind) -> StatusCode {
    use ErrorKind as Kind;
    match kind {
        Kind::NoSuchAccount
        | Kind::NoSuchBucket
        | Kind::NoSuchBucketPolicy
        | Kind::NoSuchKey
        | Kind::NoSuchToken
        | Kind::NoSuchUpload => StatusCode::NOT_FOUND,
        Kind::AccessDenied
        | Kind::InvalidAccessKeyId
        | Kind::QuotaExceeded
        | Kind::RequestTimeTooSkewed
        | Kind::SignatureDoesNotMatch => StatusCode::FORBIDDEN,
        Kind::BucketAlreadyExists
        | Kind::BucketAlreadyOwnedByYou
        | Kind::BucketNotEmpty
        | Kind::OperationAborted
        | Kind::PreconditionFailed => StatusCode::CONFLICT,
        Kind::AuthorizationHeaderMalformed
        | Kind::AuthorizationQueryParametersError
        | Kind::BadDigest
        | Kind::BadRequest
        | Kind::EntityTooLarge
        | Kind::EntityTooSmall
        | Kind::IncompleteBody
        | Kind::InvalidArgument
        | Kind::InvalidBucketName
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
        | Kind::RequestTimeout
        | Kind::TooManyBuckets
        | Kind::XAmzContentSHA256Mismatch => StatusCode::BAD_REQUEST,
        Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::InsufficientStorage => StatusCode::INSUFFICIENT_STORAGE,
        Kind::ServiceUnavailable | Kind::SlowDown => StatusCode::SERVICE_UNAVAILABLE,
        Kind::InternalError | Kind::ObjectCorrupt => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
