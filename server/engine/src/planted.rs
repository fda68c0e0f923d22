//! Deliberate bugs that the crash simulator must find, so that we know it can.
//!
//! Compiled only under `--cfg planted` (set by `build.rs` when the build has the feature `planted` and
//! `JAY_PLANTED=1` in its environment) and chosen at run time; in every other build [`is`] is the constant `false`.

/// One deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The committer does not sync the log.
    SkipSync = 1,
    /// The committer answers, then syncs.
    AcknowledgeBeforeSync = 2,
    /// The directory of a new file is not synced.
    SkipDirectorySync = 3,
    /// Effects reach the index before the log is synced.
    ApplyBeforeSync = 4,
    /// The file of an overwritten body is removed before the commit.
    FreeBeforeCommit = 5,
    /// Recovery trusts the last batch that it read from the page cache.
    SkipRewrite = 6,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 6] = [
        Bug::SkipSync,
        Bug::AcknowledgeBeforeSync,
        Bug::SkipDirectorySync,
        Bug::ApplyBeforeSync,
        Bug::FreeBeforeCommit,
        Bug::SkipRewrite,
    ];
}

#[cfg(planted)]
static CHOSEN: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Chooses the bug of this run; refuses when the build has none.
pub fn choose(bug: Option<Bug>) -> bool {
    #[cfg(planted)]
    CHOSEN.store(
        bug.map_or(0, |bug| bug as u8),
        std::sync::atomic::Ordering::Relaxed,
    );
    cfg!(planted) || bug.is_none()
}

/// True when `bug` was chosen.
#[inline(always)]
pub(crate) fn is(bug: Bug) -> bool {
    #[cfg(planted)]
    return CHOSEN.load(std::sync::atomic::Ordering::Relaxed) == bug as u8;
    #[cfg(not(planted))]
    {
        let _ = bug;
        false
    }
}
