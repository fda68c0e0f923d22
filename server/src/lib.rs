//! What the binaries of this crate share: the configuration.
//!
//! `jay` serves by it, `jay-config` checks, converts and shows it. Absent on purpose: everything that only one of
//! them needs, which stays in its binary.

pub mod config;
