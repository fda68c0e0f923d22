//! The one error of the engine. Every front translates [`ErrorKind`] with one exhaustive `match`.

use std::fmt;

macro_rules! kinds {
    ($(#[$attribute:meta])* pub enum $kinds:ident { $($(#[$note:meta])* $kind:ident,)+ }) => {
        $(#[$attribute])*
        pub enum $kinds {
            $($(#[$note])* $kind,)+
        }

        impl $kinds {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// The kind of this name, as `Debug` writes it.
            pub(crate) fn named(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($kind) => Some(Self::$kind),)+
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// What went wrong, named after the S3 error code that says it.
    ///
    /// Closed on purpose: a new kind does not compile until every front has spoken about it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[allow(missing_docs)] // each variant is the S3 code of the same name, but for those that say so
    pub enum ErrorKind {
        AccessDenied,
        AuthorizationHeaderMalformed,
        AuthorizationQueryParametersError,
        BadDigest,
        BadRequest,
        BucketAlreadyExists,
        BucketAlreadyOwnedByYou,
        BucketNotEmpty,
        EntityTooLarge,
        EntityTooSmall,
        IncompleteBody,
        InsufficientStorage,
        InternalError,
        InvalidAccessKeyId,
        InvalidArgument,
        InvalidBucketName,
        InvalidDigest,
        InvalidLocationConstraint,
        InvalidPart,
        InvalidPartNumber,
        InvalidPartOrder,
        InvalidRange,
        InvalidRequest,
        InvalidStorageClass,
        InvalidTag,
        InvalidToken,
        InvalidURI,
        KeyTooLongError,
        MalformedPolicy,
        MalformedTrailerError,
        MalformedXML,
        MetadataTooLarge,
        MethodNotAllowed,
        MissingContentLength,
        /// No account has this id. S3 has no accounts to name.
        NoSuchAccount,
        NoSuchBucket,
        NoSuchBucketPolicy,
        NoSuchKey,
        /// No token has this id. S3 has no tokens to name.
        NoSuchToken,
        NoSuchUpload,
        NotImplemented,
        /// The body of the object is not what was put; S3 has no code of its own for it but `InternalError`.
        ObjectCorrupt,
        OperationAborted,
        /// Whether it was done before cannot be known any more. S3 has no sessions.
        OutcomeUnknown,
        PreconditionFailed,
        /// The bucket has as many bytes as it may. Ceph's code; S3 has no quotas.
        QuotaExceeded,
        RequestTimeTooSkewed,
        RequestTimeout,
        ServiceUnavailable,
        SignatureDoesNotMatch,
        SlowDown,
        TooManyBuckets,
        XAmzContentSHA256Mismatch,
    }
}

/// A failed operation: its kind, a sentence that says what was attempted and what to do, and the cause.
///
/// Never carries a secret.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    context: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What a user is told when there is no room.
pub(crate) const DISK_FULL: &str = "The disk of the store is full: nothing can be added until objects are deleted \
                                    or the disk has room again.";

/// The result of an engine operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `context` is a full sentence for the user.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into(),
            source: None,
        }
    }

    /// The same error with the one that caused it.
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind, which each front maps to its own code.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence for the user, without the cause.
    pub fn context(&self) -> &str {
        &self.context
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.context)?;
        match &self.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let (kind, context) = match error.kind() {
            _ if crate::disk::is_full(&error) => (ErrorKind::InsufficientStorage, DISK_FULL),
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => (
                ErrorKind::ObjectCorrupt,
                "The bytes on the disk are not what was put there.",
            ),
            _ => (ErrorKind::InternalError, "The disk under the store failed."),
        };
        Error::new(kind, context).with_source(error)
    }
}
