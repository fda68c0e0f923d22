//! What the admin API answers when something is wrong: `{"error":"…"}` with a status.

use axum::response::IntoResponse;
use http::{HeaderValue, Response, StatusCode, header};
use jay_engine::ErrorKind;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Body, json};

/// A refused or failed request.
#[derive(Debug)]
pub struct Error {
    status: StatusCode,
    message: String,
    /// After how many seconds to try again.
    retry_after: Option<u64>,
}

/// What is answered when something is wrong.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorAnswer {
    /// What, in words.
    error: String,
}

impl Error {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The same error, to be tried again after so many seconds.
    pub(super) fn retry_after(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn response(self) -> Response<Body> {
        let answer = ErrorAnswer {
            error: self.message,
        };
        let mut response = json(self.status, &answer);
        if let Some(seconds) = self.retry_after {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> axum::response::Response {
        self.response().into_response()
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
        | Kind::OutcomeUnknown
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
