//! The fuzz targets of the server: each takes hostile bytes and panics where a promise about them is not kept.
//!
//! `fuzz/` calls them through libFuzzer, by the feature `fuzzing`; the tests here replay the corpora that are kept
//! there, so that what was once found shows without a fuzzer.

mod config;

pub use self::config::config;
pub use crate::s3::fuzzing::{aws_policy, chunked, sigv4_header, sigv4_query, xml};

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Every file in `fuzz/corpus/<target>`; the one at fault is named in what the test prints.
    fn replay(target: &str, function: fn(&[u8])) {
        // Cargo runs tests in the directory of their package.
        let files = fs::read_dir(Path::new("../fuzz/corpus").join(target)).unwrap();
        let paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        assert!(paths.len() > 9, "{target}: the corpus is gone");
        for path in paths {
            println!("{}", path.display());
            function(&fs::read(&path).unwrap());
        }
    }

    #[test]
    fn kept_configurations() {
        replay("config", super::config);
    }

    #[test]
    fn kept_policies_of_aws() {
        replay("aws_policy", super::aws_policy);
    }

    #[test]
    fn kept_signatures_in_headers() {
        replay("sigv4_header", super::sigv4_header);
    }

    #[test]
    fn kept_signatures_in_queries() {
        replay("sigv4_query", super::sigv4_query);
    }

    #[test]
    fn kept_documents() {
        replay("xml", super::xml);
    }

    #[test]
    fn kept_chunks() {
        replay("chunked", super::chunked);
    }
}
