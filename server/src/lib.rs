//! What the binaries of this crate share: the configuration, and how their options are spelled.
//!
//! `jay` serves by it, `jay-config` checks, converts and shows it. Absent on purpose: everything that only one of
//! them needs, which stays in its binary.

pub mod args;
pub mod config;
