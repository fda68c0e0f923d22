//! The one error of the client.

use std::{error::Error as StdError, fmt, io, time::Duration};

pub use jay_wire::ErrorCode as ErrorKind;
use jay_wire::{DecodeError, EncodeError, Failure, Retry};

/// The result of everything that may fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation: what went wrong, with what, and whether it may succeed later. Never carries a secret.
///
/// ```
/// # async fn example(bucket: jay_client::Bucket) -> jay_client::Result<()> {
/// match bucket.get("absent").await {
///     Err(error) if error.kind() == jay_client::ErrorKind::ObjectNotFound => println!("{error}"),
///     got => println!("{} bytes", got?.bytes().await?.len()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    s3_code: Option<String>,
    operation: Option<&'static str>,
    bucket: Option<String>,
    key: Option<String>,
    request_id: Option<String>,
    retry_after: Option<Duration>,
    attempts: u32,
    /// It is certain that nothing was done.
    is_undone: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of this kind; `message` is a sentence for people.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            s3_code: None,
            operation: None,
            bucket: None,
            key: None,
            request_id: None,
            retry_after: None,
            attempts: 1,
            is_undone: false,
            source: None,
        }))
    }

    pub(crate) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// What a server said.
    pub(crate) fn of_server(failure: Failure, request_id: String) -> Self {
        // A code of a later version is one that nobody here can act upon.
        let kind = ErrorKind::of_number(failure.code).unwrap_or(ErrorKind::Internal);
        let mut error = Self::new(kind, failure.message);
        error.0.s3_code = Some(failure.s3_code).filter(|code| !code.is_empty());
        error.0.request_id = Some(request_id).filter(|id| !id.is_empty());
        let after = Duration::from_millis(failure.retry_after_ms.into());
        error.0.retry_after = Some(after).filter(|after| !after.is_zero());
        // A server says these before it begins.
        error.0.is_undone = matches!(kind, ErrorKind::RateLimited | ErrorKind::Unavailable);
        error
    }

    /// The connection broke.
    pub(crate) fn lost(error: io::Error) -> Self {
        Self::new(
            ErrorKind::ConnectionLost,
            "The connection to the server broke.",
        )
        .with_source(error)
    }

    /// The other side does not keep to the protocol.
    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Protocol, message)
    }

    /// The same for another request that met it.
    pub(crate) fn same(&self) -> Self {
        let mut same = Self::new(self.kind(), self.message());
        same.0.retry_after = self.0.retry_after;
        same.0.is_undone = self.0.is_undone;
        same
    }

    pub(crate) fn about(
        mut self,
        operation: &'static str,
        (bucket, key): (Option<&str>, Option<&str>),
    ) -> Self {
        self.0.operation.get_or_insert(operation);
        self.0.bucket = self.0.bucket.or_else(|| bucket.map(str::to_owned));
        self.0.key = self.0.key.or_else(|| key.map(str::to_owned));
        self
    }

    /// The same error of a request of which it is certain that nothing was done.
    pub(crate) fn undone(mut self) -> Self {
        self.0.is_undone = true;
        self
    }

    /// Whether it is certain that nothing was done.
    pub(crate) fn is_undone(&self) -> bool {
        self.0.is_undone
    }

    pub(crate) fn after_attempts(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// A sentence for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The code that S3 has for it, where the server said one.
    pub fn s3_code(&self) -> Option<&str> {
        self.0.s3_code.as_deref()
    }

    /// The operation, by its S3 name.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The bucket that it was about.
    pub fn bucket(&self) -> Option<&str> {
        self.0.bucket.as_deref()
    }

    /// The key that it was about.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// By which the logs of the server name the request.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// How often it was tried.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.kind().retry() != Retry::Never
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = self.0.operation {
            f.write_str(operation)?;
            match (&self.0.bucket, &self.0.key) {
                (Some(bucket), Some(key)) => write!(f, " {bucket}/{key}")?,
                (Some(bucket), None) => write!(f, " {bucket}")?,
                _ => {}
            }
            f.write_str(": ")?;
        }
        write!(f, "{} ({})", self.0.message, self.0.kind.name())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        let kind = match error.problem {
            jay_wire::Problem::Checksum => ErrorKind::ChecksumMismatch,
            _ => ErrorKind::Protocol,
        };
        Self::new(kind, "What the server sent is not what it should be.").with_source(error)
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        let message = format!("The request cannot be sent: {error}.");
        Self::new(ErrorKind::InvalidArgument, message)
    }
}

impl From<Error> for io::Error {
    /// The kind of the standard library that comes nearest.
    fn from(error: Error) -> Self {
        use ErrorKind as Kind;
        let kind = match error.kind() {
            Kind::BucketNotFound | Kind::ObjectNotFound | Kind::UploadNotFound => {
                io::ErrorKind::NotFound
            }
            Kind::BucketExists | Kind::AlreadyExists => io::ErrorKind::AlreadyExists,
            Kind::BucketNotEmpty => io::ErrorKind::DirectoryNotEmpty,
            Kind::InvalidArgument | Kind::InvalidRange | Kind::TooLarge | Kind::Config => {
                io::ErrorKind::InvalidInput
            }
            Kind::Unauthenticated | Kind::PermissionDenied => io::ErrorKind::PermissionDenied,
            Kind::QuotaExceeded => io::ErrorKind::QuotaExceeded,
            Kind::StorageFull => io::ErrorKind::StorageFull,
            Kind::ChecksumMismatch | Kind::ObjectCorrupt | Kind::Protocol => {
                io::ErrorKind::InvalidData
            }
            Kind::Timeout | Kind::PoolTimeout => io::ErrorKind::TimedOut,
            Kind::ConnectionLost => io::ErrorKind::ConnectionReset,
            Kind::Unavailable => io::ErrorKind::ConnectionRefused,
            Kind::Cancelled => io::ErrorKind::Interrupted,
            Kind::Unsupported => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
