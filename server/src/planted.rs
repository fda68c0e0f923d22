//! Deliberate faults of the fronts that tests must catch, so that we know they can: the scenarios of the conformance
//! suite those of what is answered, `tests/e2e/test_rights.py` forgotten checks of who asks.
//!
//! Compiled only under `--cfg planted` (set by `build.rs` when the build has the feature `planted` and
//! `JAY_PLANTED=1` in its environment) and chosen at run time by `JAY_PLANT`; in every other build [`is`] is
//! the constant `false`. The engine has its own, for the crash simulator.

/// The faults, in lists by who must catch them.
macro_rules! faults {
    ($($(#[$about:meta])* $list:ident { $($(#[$what:meta])* $name:ident,)* })*) => {
        /// One deliberate fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            $($($(#[$what])* $name,)*)*
        }

        #[cfg(planted)]
        impl Fault {
            $($(#[$about])* pub(crate) const $list: &[Fault] = &[$(Fault::$name),*];)*

            fn all() -> impl Iterator<Item = &'static Fault> {
                [$(Self::$list),*].into_iter().flatten()
            }
        }
    };
}

faults! {
    /// What the scenarios of the conformance suite catch.
    OF_ANSWERS {
        /// ETags are those of other bytes.
        WrongETag,
        /// A range has one byte too many.
        LongRange,
        /// A bit of a body is flipped.
        FlippedBit,
        /// HEAD does not say the size.
        HeadWithoutLength,
        /// Objects are listed backwards.
        UnsortedListing,
        /// The last common prefix of a page is not listed.
        DroppedCommonPrefix,
        /// The first entry of a page is the last of the page before.
        RepeatedEntry,
        /// Sizes in listings are one too many.
        WrongListedSize,
        /// Conditional reads are plain reads.
        IgnoredReadCondition,
        /// `If-Match` of a write is ignored.
        IgnoredIfMatch,
        /// `If-None-Match` of a write is ignored.
        IgnoredIfNoneMatch,
        /// User metadata are not kept.
        LostMetadata,
        /// The content type is not kept.
        LostContentType,
        /// Response headers are not overridden.
        IgnoredOverride,
        /// A body is not held against its Content-MD5.
        IgnoredContentMd5,
        /// Deleting what is not there is an error.
        DeleteOfMissing,
        /// A missing key has the code of a missing bucket.
        WrongErrorCode,
        /// Conditions on the source of a copy are ignored.
        IgnoredCopyCondition,
        /// A copy has no metadata.
        CopyLosesMetadata,
        /// A range of the source of a part has one byte too many.
        LongSourceRange,
        /// The first of several parts is left out of the object.
        ForgottenPart,
        /// Parts may have any size.
        IgnoredPartSize,
        /// The whole object is answered in place of a part.
        IgnoredPartNumber,
        /// Tags that come with an object are not kept.
        LostTags,
        /// The prefix of ListBuckets is ignored.
        IgnoredBucketPrefix,
    }
    /// Checks that a front forgets: what the matrix of rights catches.
    OF_RIGHTS {
        /// Signatures of version 4 are believed unseen.
        BelievedSignature,
        /// URLs presigned by version 4 hold for ever.
        EndlessUrl,
        /// Headers beside a signature of version 4 need not be signed.
        UnsignedHeaders,
        /// Whoever holds a link may ask for more by headers.
        AskingLink,
        /// Where a caller calls from is not told to the engine.
        LostAddress,
        /// The usage of a bucket is told to everybody who is somebody.
        TellingStats,
        /// The admin API asks for no token.
        OpenAdmin,
        /// Prometheus needs no token.
        OpenMetrics,
        /// An open native connection is of use for longer than its access key.
        EndlessConnection,
        /// Where a native caller of version 1 calls from is not told to the engine.
        LostAddressV1,
        /// Where one of version 2 calls from is not told to the engine.
        LostAddressV2,
        /// What a native client proves itself with is believed unseen.
        BelievedProof,
    }
}

/// True when `fault` was chosen.
#[inline(always)]
pub(crate) fn is(fault: Fault) -> bool {
    #[cfg(planted)]
    return chosen() == Some(fault);
    #[cfg(not(planted))]
    {
        let _ = fault;
        false
    }
}

#[cfg(planted)]
fn chosen() -> Option<Fault> {
    static CHOSEN: std::sync::OnceLock<Option<Fault>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("JAY_PLANT").ok()?;
        let found = Fault::all().find(|fault| format!("{fault:?}") == name);
        // The benchmark of reads without their checks asks for a bug of the engine.
        let bug = jay_engine::planted::Bug::ALL
            .into_iter()
            .find(|bug| format!("{bug:?}") == name);
        if bug.is_some() {
            jay_engine::planted::choose(bug);
            return None;
        }
        Some(
            *found.unwrap_or_else(|| {
                panic!("JAY_PLANT={name} is no fault: see `jay planted-faults`")
            }),
        )
    })
}
