//! What may go wrong with the verbs of the simulated disk, and with what it holds.

use std::ops::Range;

/// How often verbs fail or take long, in a million calls each.
///
/// After an I/O error of a verb that changes something nobody knows whether it was done: a file system may
/// fail behind the change.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Directories that answer an I/O error when they are made.
    pub create_dir_errors: u32,
    /// Directories that answer an I/O error when they are removed.
    pub remove_dir_errors: u32,
    /// Files that answer an I/O error when they are opened.
    pub open_errors: u32,
    /// New files, with and without a name, that answer an I/O error.
    pub create_errors: u32,
    /// Links that answer an I/O error.
    pub link_errors: u32,
    /// Renames that answer an I/O error.
    pub rename_errors: u32,
    /// Unlinks that answer an I/O error.
    pub unlink_errors: u32,
    /// Lists of directories that answer an I/O error.
    pub read_dir_errors: u32,
    /// Reads that answer an I/O error.
    pub read_errors: u32,
    /// Writes that answer an I/O error; the first part of the bytes may be written.
    pub write_errors: u32,
    /// Syncs of files and directories that answer an I/O error.
    pub sync_errors: u32,
    /// Questions for a length that answer an I/O error.
    pub len_errors: u32,
    /// Changes of a length that answer an I/O error.
    pub set_len_errors: u32,
    /// Reservations that answer an I/O error.
    pub allocate_errors: u32,
    /// Writes beyond the reserved space that find none left; the first part may be written.
    pub full_on_write: u32,
    /// Reservations that find no space left.
    pub full_on_allocate: u32,
    /// New files, directories and names that find no space left.
    pub full_on_create: u32,
    /// Verbs of any kind that take long.
    pub delays: u32,
    /// How long they take at most, in milliseconds; who is told is set by
    /// [`super::SimulatedDisk::set_clock`].
    pub delay_ms_max: u64,
}

/// How often a write is acknowledged and synced and is not there all the same, in a million writes each.
#[derive(Clone, Debug, Default)]
pub struct Lies {
    /// Writes of which some pages never reach the medium.
    pub lost_writes: u32,
    /// Writes of which one page lands in another place.
    pub misdirected_writes: u32,
}

/// What becomes of a write that the disk lies about, when it is synced. Programs find out at once or after
/// the next power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Some of its pages keep what they held before.
    Lost,
    /// One of its pages keeps what it held before, and another page, of this file or another one, is written
    /// over.
    Misdirected,
}

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// It holds what it held before the last write.
    Lost,
    /// The same: the write went to another page.
    Misdirected,
    /// It holds what was meant for another page.
    Overwritten,
}

/// Pages that do not hold what was synced last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: String,
    /// Its pages, of 4 KiB each.
    pub pages: Range<u64>,
    /// What is wrong with them.
    pub harm: Harm,
}
