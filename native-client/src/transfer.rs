//! Files up and down, in parts that go side by side.

use std::path::{Path, PathBuf};

/// The name of a file that is not whole yet, beside the one that it becomes.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut random = [0; 6];
    // Only so that two downloads of one file do not write into each other.
    let _ = getrandom::fill(&mut random);
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{random}.part"));
    path.with_file_name(name)
}
