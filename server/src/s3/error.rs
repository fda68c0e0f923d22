//! Errors of the S3 front: the engine's kinds as S3 codes and statuses, and the XML that carries them.
//!
//! Used by every module beside it. There is one `match` over the kinds and it has no wildcard arm, so
//! a new kind does not compile until it has its code here.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use jay_engine::ErrorKind;

use super::{body::Body, xml::Writer};
use crate::planted::{self, Fault};

/// The result of everything that may be refused.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// A refusal on its way to the client.
#[derive(Debug)]
pub(crate) struct Error {
    kind: ErrorKind,
    message: String,
    details: Vec<(&'static str, String)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Error {
    /// A refusal of `kind`; `message` is a full sentence that says what to do.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            details: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// The refusal of something that S3 has and this server does not.
    pub(crate) fn not_implemented(what: &str) -> Self {
        Self::new(
            ErrorKind::NotImplemented,
            format!("{what} is not implemented by this server."),
        )
    }

    /// The same refusal with one more sentence that says what to do.
    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        self.message = format!("{} {hint}", self.message);
        self
    }

    /// The same refusal with one more element in its XML.
    pub(crate) fn with_detail(mut self, element: &'static str, text: impl Into<String>) -> Self {
        self.details.push((element, text.into()));
        self
    }

    /// The same refusal with one more header on its answer.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The kind.
    pub(crate) fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The S3 code.
    pub(crate) fn code(&self) -> &'static str {
        code_and_status(self.kind).0
    }

    /// The sentence for the user.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The answer: S3's error document, or nothing but the status and headers for a HEAD request.
    ///
    /// Source: S3 API, "Error responses", "REST error responses".
    pub(crate) fn into_response(
        self,
        resource: &str,
        request_id: &str,
        is_head: bool,
    ) -> Response<Body> {
        let (mut code, status) = code_and_status(self.kind);
        if self.kind == ErrorKind::NoSuchKey && planted::is(Fault::WrongErrorCode) {
            code = "NoSuchBucket";
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let retry_after = response.headers_mut().entry(header::RETRY_AFTER);
            retry_after.or_insert(HeaderValue::from_static("1"));
        }
        if is_head {
            return response;
        }
        let mut xml = Writer::document();
        xml.open("Error");
        xml.text("Code", code);
        xml.text("Message", &self.message);
        for (element, text) in &self.details {
            xml.text(element, text);
        }
        xml.text("Resource", resource);
        xml.text("RequestId", request_id);
        xml.close("Error");
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/xml"),
        );
        *response.body_mut() = Body::full(Bytes::from(xml.finish()));
        response
    }
}

impl From<jay_engine::Error> for Error {
    fn from(error: jay_engine::Error) -> Self {
        let status = code_and_status(error.kind()).1;
        match error.kind() {
            ErrorKind::NotImplemented => {}
            // The engine said so when it began; it may be each of thousands of requests.
            ErrorKind::InsufficientStorage => tracing::debug!(%error, "the disk is full"),
            _ if status.is_server_error() => {
                tracing::error!(%error, "the engine failed a request");
            }
            _ => {}
        }
        Self::new(error.kind(), error.context())
    }
}

/// The S3 code and HTTP status of each kind.
///
/// Source: S3 API, "List of error codes". `InsufficientStorage` is not among them; its status is that
/// of RFC 4918, section 11.5.
pub(crate) fn code_and_status(kind: ErrorKind) -> (&'static str, StatusCode) {
    use ErrorKind as Kind;
    use StatusCode as Status;
    match kind {
        Kind::AccessDenied => ("AccessDenied", Status::FORBIDDEN),
        Kind::AuthorizationHeaderMalformed => ("AuthorizationHeaderMalformed", Status::BAD_REQUEST),
        Kind::AuthorizationQueryParametersError => {
            ("AuthorizationQueryParametersError", Status::BAD_REQUEST)
        }
        Kind::BadDigest => ("BadDigest", Status::BAD_REQUEST),
        Kind::BadRequest => ("BadRequest", Status::BAD_REQUEST),
        Kind::BucketAlreadyExists => ("BucketAlreadyExists", Status::CONFLICT),
        Kind::BucketAlreadyOwnedByYou => ("BucketAlreadyOwnedByYou", Status::CONFLICT),
        Kind::BucketNotEmpty => ("BucketNotEmpty", Status::CONFLICT),
        Kind::EntityTooLarge => ("EntityTooLarge", Status::BAD_REQUEST),
        Kind::EntityTooSmall => ("EntityTooSmall", Status::BAD_REQUEST),
        Kind::IncompleteBody => ("IncompleteBody", Status::BAD_REQUEST),
        Kind::InsufficientStorage => ("InsufficientStorage", Status::INSUFFICIENT_STORAGE),
        Kind::InternalError | Kind::ObjectCorrupt => {
            ("InternalError", Status::INTERNAL_SERVER_ERROR)
        }
        Kind::InvalidAccessKeyId => ("InvalidAccessKeyId", Status::FORBIDDEN),
        Kind::InvalidArgument => ("InvalidArgument", Status::BAD_REQUEST),
        Kind::InvalidBucketName => ("InvalidBucketName", Status::BAD_REQUEST),
        Kind::InvalidDigest => ("InvalidDigest", Status::BAD_REQUEST),
        Kind::InvalidLocationConstraint => ("InvalidLocationConstraint", Status::BAD_REQUEST),
        Kind::InvalidPart => ("InvalidPart", Status::BAD_REQUEST),
        Kind::InvalidPartNumber => ("InvalidPartNumber", Status::RANGE_NOT_SATISFIABLE),
        Kind::InvalidPartOrder => ("InvalidPartOrder", Status::BAD_REQUEST),
        Kind::InvalidRange => ("InvalidRange", Status::RANGE_NOT_SATISFIABLE),
        Kind::InvalidRequest => ("InvalidRequest", Status::BAD_REQUEST),
        Kind::InvalidStorageClass => ("InvalidStorageClass", Status::BAD_REQUEST),
        Kind::InvalidTag => ("InvalidTag", Status::BAD_REQUEST),
        Kind::InvalidToken => ("InvalidToken", Status::BAD_REQUEST),
        Kind::InvalidURI => ("InvalidURI", Status::BAD_REQUEST),
        Kind::KeyTooLongError => ("KeyTooLongError", Status::BAD_REQUEST),
        Kind::MalformedPolicy => ("MalformedPolicy", Status::BAD_REQUEST),
        Kind::MalformedTrailerError => ("MalformedTrailerError", Status::BAD_REQUEST),
        Kind::MalformedXML => ("MalformedXML", Status::BAD_REQUEST),
        Kind::MetadataTooLarge => ("MetadataTooLarge", Status::BAD_REQUEST),
        Kind::MethodNotAllowed => ("MethodNotAllowed", Status::METHOD_NOT_ALLOWED),
        Kind::MissingContentLength => ("MissingContentLength", Status::LENGTH_REQUIRED),
        // Nobody names an account or a token over S3.
        Kind::NoSuchAccount | Kind::NoSuchToken => ("InvalidRequest", Status::BAD_REQUEST),
        Kind::NoSuchBucketPolicy => ("NoSuchBucketPolicy", Status::NOT_FOUND),
        Kind::NoSuchBucket => ("NoSuchBucket", Status::NOT_FOUND),
        Kind::NoSuchKey => ("NoSuchKey", Status::NOT_FOUND),
        Kind::NoSuchUpload => ("NoSuchUpload", Status::NOT_FOUND),
        Kind::NotImplemented => ("NotImplemented", Status::NOT_IMPLEMENTED),
        Kind::OperationAborted => ("OperationAborted", Status::CONFLICT),
        // There are no sessions over S3.
        Kind::OutcomeUnknown => ("OutcomeUnknown", Status::CONFLICT),
        Kind::PreconditionFailed => ("PreconditionFailed", Status::PRECONDITION_FAILED),
        Kind::QuotaExceeded => ("QuotaExceeded", Status::FORBIDDEN),
        Kind::RequestTimeTooSkewed => ("RequestTimeTooSkewed", Status::FORBIDDEN),
        Kind::RequestTimeout => ("RequestTimeout", Status::BAD_REQUEST),
        Kind::ServiceUnavailable => ("ServiceUnavailable", Status::SERVICE_UNAVAILABLE),
        Kind::SignatureDoesNotMatch => ("SignatureDoesNotMatch", Status::FORBIDDEN),
        Kind::SlowDown => ("SlowDown", Status::SERVICE_UNAVAILABLE),
        Kind::TooManyBuckets => ("TooManyBuckets", Status::BAD_REQUEST),
        Kind::XAmzContentSHA256Mismatch => ("XAmzContentSHA256Mismatch", Status::BAD_REQUEST),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn the_document_names_code_message_resource_and_request() {
        let error = Error::new(ErrorKind::NoSuchKey, "No <such> key.").with_detail("Key", "a&b");
        let response = error.into_response("/b/a&b", "0123456789abcdef", false);
        assert_eq!(response.status(), 404);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code>\
             <Message>No &lt;such&gt; key.</Message><Key>a&amp;b</Key>\
             <Resource>/b/a&amp;b</Resource><RequestId>0123456789abcdef</RequestId></Error>"
        );
    }

    #[tokio::test]
    async fn head_has_no_document() {
        let error = Error::new(ErrorKind::NoSuchKey, "No such key.");
        let response = error.into_response("/b/k", "0", true);
        assert!(response.headers().get(header::CONTENT_TYPE).is_none());
        assert!(
            response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .is_empty()
        );
    }
}
