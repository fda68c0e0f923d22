//! The published table of errors: one number, name and meaning in every language.

/// Declares the codes: number, name, whether to try again, what it means.
macro_rules! codes {
    ($($number:literal $name:ident $retry:ident $meaning:literal)+) => {
        /// What went wrong. The numbers are those of the C library and never change; later versions may have more.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum ErrorCode {
            $(#[doc = $meaning] $name = $number,)+
        }

        impl ErrorCode {
            /// All of them, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The one of this number.
            ///
            /// ```
            /// # use jay_wire::ErrorCode;
            /// assert_eq!(ErrorCode::of_number(2), Some(ErrorCode::ObjectNotFound));
            /// assert_eq!(ErrorCode::of_number(4), None);
            /// ```
            pub fn of_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Its name, as every language has it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)+
                }
            }

            /// Whether the same request may succeed when it is sent again later. Whether it may be sent again is another
            /// question: see [`Retry`].
            pub fn retry(self) -> Retry {
                match self {
                    $(Self::$name => Retry::$retry,)+
                }
            }
        }
    };
}

/// What a request may hope for that is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same answer.
    Never,
    /// Another one, soon.
    Soon,
    /// Another one, if what it does may be done twice.
    IfIdempotent,
    /// Another one, when somebody has made room.
    Later,
}

codes! {
    1 BucketNotFound Never "The bucket is not there."
    2 ObjectNotFound Never "The object is not there."
    3 UploadNotFound Never "The multipart upload is not there."
    10 BucketExists Never "The bucket is there already."
    11 BucketNotEmpty Never "The bucket has objects."
    12 AlreadyExists Never "An object was to be created and is there already."
    13 PreconditionFailed Never "What had to hold does not."
    14 NotModified Never "The object is the one that is known already."
    15 Conflict Soon "Something else happened at the same time."
    20 InvalidArgument Never "The request makes no sense."
    21 InvalidRange Never "The object has no such bytes."
    22 TooLarge Never "Something is longer than it may be."
    23 Config Never "A setting of the client is wrong."
    30 Unauthenticated Never "Nobody knows who is asking: the access key or its secret is wrong."
    31 PermissionDenied Never "Who asks may not."
    32 QuotaExceeded Never "The bucket has as many bytes as it may."
    33 StorageFull Later "The server's disk is full."
    40 ChecksumMismatch Soon "Bytes were changed on their way."
    41 ObjectCorrupt Never "The body of the object is damaged where it is kept."
    50 Unavailable Soon "The server cannot answer now."
    51 RateLimited Soon "There were too many requests."
    52 Timeout Soon "It took too long."
    53 ConnectionLost Soon "The connection broke."
    54 PoolTimeout Soon "No connection was to be had in time."
    55 Cancelled Never "It was given up by who asked for it."
    56 Closed Never "The client was closed."
    57 OutcomeUnknown Never "Whether it was done cannot be known any more."
    60 Unsupported Never "The server does not do that."
    61 Protocol Never "The other side does not keep to the protocol."
    99 Internal IfIdempotent "The server failed."
}
