//! The fuzz targets of the engine: each takes hostile bytes and panics where a promise about them is not kept.
//!
//! `fuzz/` calls them through libFuzzer, by the feature `fuzzing`; the tests here replay the corpora that are kept
//! there, so that what was once found shows without a fuzzer. Sums are put right where the bytes have some, since
//! guessing one takes a fuzzer for ever.

mod files;
mod log;
mod policy;
mod records;

pub use self::{files::files, log::log, policy::policy, records::records};
use crate::codec::crc32c;

/// The bytes with the last four of them made the sum of those before.
fn summed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some((before, sum)) = bytes.split_last_chunk_mut() {
        *sum = crc32c(before).to_le_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Every file in `fuzz/corpus/<target>`; the one at fault is named in what the test prints.
    fn replay(target: &str, function: fn(&[u8])) {
        // Cargo runs tests in the directory of their package.
        let files = fs::read_dir(Path::new("../../fuzz/corpus").join(target)).unwrap();
        let paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        assert!(paths.len() > 9, "{target}: the corpus is gone");
        for path in paths {
            println!("{}", path.display());
            function(&fs::read(&path).unwrap());
        }
    }

    #[test]
    fn kept_policies() {
        replay("policy", super::policy);
    }

    #[test]
    fn kept_records() {
        replay("records", super::records);
    }

    #[test]
    fn kept_frames_of_the_log() {
        replay("log", super::log);
    }

    #[test]
    fn kept_files() {
        replay("files", super::files);
    }
}
