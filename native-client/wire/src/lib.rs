//! The codec of Jay's native protocol: what the bytes mean, and nothing else. No I/O, no panic, and no allocation
//! beyond a named maximum, whatever the peer sends. Server and client use the same types, so they cannot disagree.
//!
//! A connection begins with a [`handshake`]; then come [`frame`]s, each a [`Header`], metadata and data. What is in
//! the metadata is one struct for each operation and one for its answer, in the file of its noun ([`bucket`],
//! [`object`], [`list`], [`multipart`], [`tagging`], [`server`]). Both versions have the same structs: [`Message`] is their
//! form in version 1, [`Tagged`] that in version 2, which has more of its own in [`v2`], [`call`] and [`body`].
//! PROTOCOL.md draws it all.
//!
//! ```
//! use jay_wire::{Header, Message, Operation, object::GetObject};
//!
//! let asked = GetObject { bucket: "photos".into(), key: "a/b.jpg".into(), ..GetObject::default() };
//! let metadata = asked.to_bytes().unwrap();
//! let header = Header { code: GetObject::CODE, stream_id: 7, metadata_bytes: metadata.len() as u32, data_bytes: 0 };
//! let bytes = header.to_bytes();
//!
//! let header = Header::parse(&bytes).unwrap();
//! assert_eq!((header.code, header.stream_id), (0x11, 7));
//! assert_eq!(GetObject::parse(&metadata).unwrap(), asked);
//! ```

pub mod body;
pub mod bucket;
pub mod call;
mod code;
mod cursor;
mod error;
pub mod frame;
pub mod handshake;
pub mod list;
mod message;
pub mod multipart;
pub mod object;
pub mod server;
pub mod tagged;
pub mod tagging;
pub mod v2;

pub use self::{
    call::{Call, Failure, Reply},
    code::{ErrorCode, Retry},
    cursor::Cursor,
    error::{DecodeError, EncodeError, Problem, Refusal, Status},
    frame::{Header, METADATA_BYTES_MAX},
    message::{Empty, Message, Operation, Ping, Time},
    tagged::Tagged,
};
