//! One worker's client, of either protocol, and how its requests fail.

use std::{borrow::Cow, fmt};

use hyper::StatusCode;

use super::{content::Content, native::Native, s3::S3};

/// Keys of one page of a listing.
pub const LIST_PAGE_KEYS: u32 = 100;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The S3 code, or what stands in for it: `HTTP 500` without a body, [`Failure::CONNECTION`] ..
    pub code: Cow<'static, str>,
    /// What the server or the operating system said.
    pub detail: String,
    /// Of the answer, if there was one.
    pub status: Option<StatusCode>,
}

impl Failure {
    /// No answer came, or not all of it.
    pub const CONNECTION: &'static str = "connection";
    /// The answer took longer than `--timeout`.
    pub const TIMEOUT: &'static str = "timeout";
    /// A success with the wrong body.
    pub const WRONG_BODY: &'static str = "wrong-body";

    /// The connection, or the way to it, is broken.
    pub fn connection(error: impl std::error::Error) -> Self {
        let mut detail = error.to_string();
        if let Some(source) = error.source() {
            detail = format!("{detail}: {source}");
        }
        Self {
            code: Self::CONNECTION.into(),
            detail,
            status: None,
        }
    }

    /// The body is not what it has to be.
    pub fn wrong_body(detail: String) -> Self {
        Self {
            code: Self::WRONG_BODY.into(),
            detail,
            status: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Failure {}

/// Sends the requests of one worker.
#[derive(Clone)]
pub enum Client {
    /// Over a connection of its own.
    S3(S3),
    /// Over the connections that all workers share.
    Native(Native),
}

/// The same call of either.
macro_rules! of_either {
    ($self:ident.$($call:tt)+) => {
        match $self {
            Self::S3(client) => client.$($call)+.await,
            Self::Native(client) => client.$($call)+.await,
        }
    };
}

impl Client {
    /// Where it sends to.
    pub fn url(&self) -> String {
        match self {
            Self::S3(client) => client.url(),
            Self::Native(client) => client.url(),
        }
    }

    /// Kept-alive connections that the server closed under a request, which was then sent anew.
    pub fn reconnects(&self) -> u64 {
        match self {
            Self::S3(client) => client.reconnects,
            Self::Native(_) => 0,
        }
    }

    /// Makes the bucket unless it is there; answers whether it was made.
    pub async fn ensure_bucket(&mut self, bucket: &str) -> Result<bool, Failure> {
        of_either!(self.ensure_bucket(bucket))
    }

    /// Removes the bucket; one that others still use stays.
    pub async fn delete_bucket(&mut self, bucket: &str) -> Result<(), Failure> {
        of_either!(self.delete_bucket(bucket))
    }

    /// Stores `content` at `path`, which is `/bucket/key`.
    pub async fn put_object(&mut self, path: &str, content: Content) -> Result<(), Failure> {
        of_either!(self.put_object(path, content))
    }

    /// Reads the object at `path`, compares it with `expected` if that is known, and answers its size.
    pub async fn get_object(
        &mut self,
        path: &str,
        expected: Option<Content>,
    ) -> Result<u64, Failure> {
        of_either!(self.get_object(path, expected))
    }

    /// Asks for the object's size, and compares it with `expected` if that is known.
    pub async fn head_object(
        &mut self,
        path: &str,
        expected: Option<Content>,
    ) -> Result<(), Failure> {
        of_either!(self.head_object(path, expected))
    }

    /// Deletes the object at `path`.
    pub async fn delete_object(&mut self, path: &str) -> Result<(), Failure> {
        of_either!(self.delete_object(path))
    }

    /// Lists a page of the keys in `folder` above `start_after`; answers its size in bytes.
    pub async fn list_objects(
        &mut self,
        bucket: &str,
        folder: &str,
        start_after: &str,
    ) -> Result<u64, Failure> {
        of_either!(self.list_objects(bucket, folder, start_after))
    }
}
