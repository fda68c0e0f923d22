//! The server itself, all in version 2.

use bytes::Bytes;

use crate::{
    Time,
    message::{fields, operations},
};

fields! {
    /// Asks what the server is.
    pub struct GetServerInfo {} since 2 {}

    /// It.
    pub struct ServerInfo {} since 2 {
        /// Its version, as in `0.1.0`.
        1 version: String,
        /// The id of its store: 32 hex digits.
        2 store_id: String,
        /// Its region.
        3 region: String,
        /// The time there.
        4 now: Time,
        /// The id of the access key that asks.
        5 token_id: String,
        /// The account of that key: 32 hex digits.
        6 account_id: String,
    }

    /// Begins a session of exactly-once requests.
    pub struct OpenSession {} since 2 {}

    /// It has begun.
    pub struct SessionInfo {} since 2 {
        /// By which requests name it.
        1 id: Bytes,
        /// How long it is kept after its last request, in milliseconds.
        2 lifetime_ms: u32,
    }
}

operations! {
    0x30 GetServerInfo() -> ServerInfo since 2,
    0x31 OpenSession() -> SessionInfo since 2,
}
