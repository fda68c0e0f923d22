//! What may go wrong with the verbs of the simulated disk.

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
