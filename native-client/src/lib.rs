//! The client of Jay: connections that many small requests share, lanes for large bodies, checksums from the writer's
//! memory to the reader's, and retries only where they do no harm. Every other language stands on this crate.
//!
//! ```no_run
//! # async fn example() -> jay_client::Result<()> {
//! use jay_client::Client;
//!
//! let client = Client::connect("jay://id:secret@localhost:4444").await?;
//! let bucket = client.bucket("photos");
//! bucket.put("k", "body").content_type("text/plain").if_none_match_any().await?;
//! let part = bucket.get("k").range(0..2).await?.bytes().await?;
//! assert_eq!(part, "bo");
//! # Ok(())
//! # }
//! ```
//!
//! A server that knows version 1 of the protocol alone is spoken to where the URL says `protocol=v1`, and only there, since that
//! sends the secret; [`Protocol::V1`] says what is missing then.

#[cfg(feature = "blocking")]
pub mod blocking;
mod body;
mod bucket;
mod bulk;
mod cancel;
mod client;
mod config;
mod connection;
mod core;
mod error;
mod list;
mod model;
mod multipart;
mod object;
mod options;
mod pool;
mod presign;
mod reader;
mod retry;
mod session;
mod shared;
#[cfg(feature = "object_store")]
mod store;
#[cfg(feature = "tls")]
mod tls;
mod transfer;
mod v1;
mod writer;

#[cfg(feature = "object_store")]
pub use self::store::JayStore;
pub use self::{
    body::Body,
    bucket::Bucket,
    cancel::CancelToken,
    client::Client,
    config::{Config, PORT_DEFAULT, Protocol},
    error::{Error, ErrorKind, Result},
    list::List,
    model::*,
    multipart::Upload,
    object::{Copy, Delete, Get, Put},
    options::{OptionRow, Options},
    presign::Method,
    reader::{GetObject, ObjectReader},
    transfer::{DownloadFile, Progress, UploadFile},
    writer::{OpenWriter, Writer},
};

/// The snippets of the README, which are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
