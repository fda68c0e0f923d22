//! Upkeep: callers of the same rows and files as everybody else.

pub mod gc;
