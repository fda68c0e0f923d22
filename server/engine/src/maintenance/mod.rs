//! Upkeep: callers of the same rows and files as everybody else.

pub mod audit;
pub mod backup;
pub mod gc;
pub mod schedule;
pub mod scrub;
pub mod snapshot;
pub mod verify;
