//! What may go wrong with the verbs of the simulated disk.

/// How often verbs fail, in a million calls each.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Reads that answer an I/O error.
    pub read_errors: u32,
    /// Writes that answer an I/O error; the first part of the bytes may be written.
    pub write_errors: u32,
    /// Syncs of files and directories that answer an I/O error.
    pub sync_errors: u32,
    /// Writes beyond the reserved space that find none left; the first part may be written.
    pub full_on_write: u32,
    /// Reservations that find no space left.
    pub full_on_allocate: u32,
    /// New files, directories and names that find no space left.
    pub full_on_create: u32,
}
