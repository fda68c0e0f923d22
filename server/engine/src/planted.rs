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
    /// Complete gives the parts up for the upload before it takes them for the object.
    CompleteDropsFirst = 7,
    /// A third who shares the parts of an object is not counted.
    ForgetSharer = 8,
    /// The collector removes parts that a reader holds.
    IgnoreHolds = 9,
    /// A Complete goes through although a part has come since it looked.
    PartsUnchecked = 10,
    /// Tags are changed in a row whose body has moved since it was read.
    RowUnchecked = 11,
    /// The collector moves parts whatever their version is by then.
    MoveUnchecked = 12,
    /// The body of a part stays when another part takes its place.
    LeakReplacedPart = 13,
    /// The uploads of a deleted bucket stay.
    LeakUploads = 14,
    /// The scrubber puts an object into quarantine whatever it is by then.
    QuarantineUnchecked = 15,
    /// A snapshot takes the rows of the index for all rows.
    SnapshotMissesOverlay = 16,
    /// The collector removes log files that a snapshot needs.
    ForgetSnapshot = 17,
    /// The collector goes on while a backup copies files.
    IgnoreBackup = 18,
    /// A backup looks at the index before it has what the collector has seen.
    BackupBeforeApply = 19,
    /// A backup takes a log file that has grown since the last one for the same.
    BackupKeepsShortPack = 20,
    /// A backup is called one before its files are there.
    ManifestFirst = 21,
    /// Reads check no sums.
    ReadUnchecked = 22,
    /// Rows for which the index had no room are taken for applied.
    DropFrozenWhenFull = 23,
    /// A store that once ran short of space stays so.
    StayShort = 24,
    /// A store that is short of space takes no deletes.
    RefuseDeletesWhenShort = 25,
    /// Recovery takes a torn tail of the log for damage.
    TornTakenForDamage = 30,
    /// Recovery takes damage to what was durable for a torn tail.
    DamageTakenForTorn = 31,
    /// A read checks only the first of the blocks that it touches.
    CrcOfWrongRange = 32,
    /// Recovery skips a hole in the log that nobody has given up.
    SkipHole = 33,
    /// A check of the store passes over the bodies in log files.
    FsckBlind = 34,
    /// A refusal (412) is answered although the entries of its batch that it depends on were not synced.
    RefuseBeforeSync = 35,
    /// A request that was answered is done again when it comes again.
    AnswerTwice = 36,
    /// An answer is forgotten before its caller says that it has got it.
    ForgetUnread = 37,
    /// Which answers a caller has got is forgotten, so what comes late is done again.
    LowestNotKept = 38,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 34] = [
        Bug::SkipSync,
        Bug::AcknowledgeBeforeSync,
        Bug::SkipDirectorySync,
        Bug::ApplyBeforeSync,
        Bug::FreeBeforeCommit,
        Bug::SkipRewrite,
        Bug::CompleteDropsFirst,
        Bug::ForgetSharer,
        Bug::IgnoreHolds,
        Bug::PartsUnchecked,
        Bug::RowUnchecked,
        Bug::MoveUnchecked,
        Bug::LeakReplacedPart,
        Bug::LeakUploads,
        Bug::QuarantineUnchecked,
        Bug::SnapshotMissesOverlay,
        Bug::ForgetSnapshot,
        Bug::IgnoreBackup,
        Bug::BackupBeforeApply,
        Bug::BackupKeepsShortPack,
        Bug::ManifestFirst,
        Bug::ReadUnchecked,
        Bug::DropFrozenWhenFull,
        Bug::StayShort,
        Bug::RefuseDeletesWhenShort,
        Bug::TornTakenForDamage,
        Bug::DamageTakenForTorn,
        Bug::CrcOfWrongRange,
        Bug::SkipHole,
        Bug::FsckBlind,
        Bug::RefuseBeforeSync,
        Bug::AnswerTwice,
        Bug::ForgetUnread,
        Bug::LowestNotKept,
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
