//! Upkeep: callers of the same rows and files as everybody else.

pub mod accept;
pub mod audit;
pub mod backup;
pub mod bodies;
pub mod fsck;
pub mod gc;
pub mod schedule;
pub mod scrub;
pub mod snapshot;
pub mod verify;
