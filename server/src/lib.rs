//! What the binaries of this crate share: the configuration, and how their options are spelled.
//!
//! `jay` serves by it, `jay-config` checks, converts and shows it. Absent on purpose: everything that only one of
//! them needs, which stays in its binary. Fuzz targets cannot reach into one, so by the feature `fuzzing` the modules of
//! `jay` are here too, which nothing but [`fuzzing`] uses.
#![cfg_attr(feature = "fuzzing", allow(dead_code))]

#[cfg(feature = "fuzzing")]
mod admin;
pub mod args;
#[cfg(feature = "fuzzing")]
mod cli;
pub mod config;
#[cfg(feature = "fuzzing")]
mod credentials;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "fuzzing")]
mod limits;
#[cfg(feature = "fuzzing")]
mod listener;
#[cfg(feature = "fuzzing")]
mod log;
#[cfg(feature = "fuzzing")]
mod metrics;
#[cfg(feature = "fuzzing")]
mod native;
#[cfg(feature = "fuzzing")]
mod planted;
#[cfg(feature = "fuzzing")]
mod s3;
#[cfg(feature = "fuzzing")]
mod self_signed;
