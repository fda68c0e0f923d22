//! The body of a request on its way in, and what may end it.

use bytes::Bytes;
use jay_engine::{Checksum, ChecksumAlgorithm};
use jay_wire::{DecodeError, Problem};

use super::{
    error::Error,
    v2::bulk::Chunks,
    wire::{End, Wire},
};

/// The body of one request.
pub(super) enum Body<'a> {
    /// Version 1: so many bytes behind the frame. What of them is not taken stays on the connection.
    Behind(Behind<'a>),
    /// Version 2: it came in the frame.
    Whole(Option<Whole>),
    /// Version 2: it comes in chunks.
    Chunks(Box<Chunks<'a>>),
}

/// A body that came in a frame, and was held against its sums.
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    pub(super) crc64: Option<u64>,
}

/// Why a request that has a body was not done.
#[derive(Debug)]
pub(super) enum Broken {
    /// It is refused.
    Refused(Error),
    /// Its connection has ended.
    Ended(End),
}

impl Body<'_> {
    /// How many bytes it has, if that is known.
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Self::Behind(behind) => Some(behind.left()),
            Self::Whole(whole) => Some(whole.as_ref().map_or(0, |whole| whole.bytes.len() as u64)),
            Self::Chunks(chunks) => chunks.size(),
        }
    }

    /// The next piece of it; `None` at the end. A peer that leaves before that is an error, so that nothing is stored of what
    /// it has begun.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        match self {
            Self::Behind(behind) => Ok(behind.next().await?),
            Self::Whole(None) => Ok(None),
            Self::Whole(Some(whole)) => {
                let bytes = std::mem::take(&mut whole.bytes);
                Ok((!bytes.is_empty()).then_some(bytes))
            }
            Self::Chunks(chunks) => chunks.next().await,
        }
    }

    /// The sum that its sender gave it, behind its end.
    pub(super) fn checksum(&self) -> Option<Checksum> {
        let crc64 = match self {
            Self::Behind(_) => None,
            Self::Whole(whole) => whole.as_ref().and_then(|whole| whole.crc64),
            Self::Chunks(chunks) => chunks.crc64(),
        };
        crc64.map(|crc64| Checksum {
            algorithm: ChecksumAlgorithm::Crc64Nvme,
            value: crc64.to_be_bytes().to_vec(),
        })
    }

    /// Of an operation that has none: reads it and throws it away in version 1, so that it is not taken for the next request.
    pub(super) async fn must_be_meaningless(&mut self) -> Result<(), Broken> {
        match self {
            Self::Behind(behind) => behind.skip_meaningless().await,
            Self::Whole(None) => Ok(()),
            Self::Whole(Some(_)) | Self::Chunks(_) => Err(DecodeError {
                field: "body",
                problem: Problem::Invalid,
            }
            .into()),
        }
    }
}

/// The data of a request of version 1.
pub(super) struct Behind<'a> {
    wire: &'a mut Wire,
    left: u64,
}

/// Most data of a refused request that is read before the answer; with more the connection ends behind the answer.
pub(super) const SKIPPED_BYTES_MAX: u64 = 10 << 20;

impl<'a> Behind<'a> {
    pub(super) fn new(wire: &'a mut Wire, bytes: u64) -> Self {
        Self { wire, left: bytes }
    }

    /// How many bytes are still to come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    async fn next(&mut self) -> Result<Option<Bytes>, End> {
        if self.left == 0 {
            return Ok(None);
        }
        let bytes = self.wire.data(self.left).await?;
        self.left -= bytes.len() as u64;
        Ok(Some(bytes))
    }

    async fn skip_meaningless(&mut self) -> Result<(), Broken> {
        if self.left > SKIPPED_BYTES_MAX {
            let why = "The operation takes no data.";
            return Err(Error::new(jay_engine::ErrorKind::EntityTooLarge, why).into());
        }
        Ok(self.skip().await?)
    }

    /// Reads the rest and throws it away.
    pub(super) async fn skip(&mut self) -> Result<(), End> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

impl From<End> for Broken {
    fn from(end: End) -> Self {
        Self::Ended(end)
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<jay_engine::Error> for Broken {
    fn from(error: jay_engine::Error) -> Self {
        Self::Refused(error.into())
    }
}

impl From<jay_wire::EncodeError> for Broken {
    fn from(error: jay_wire::EncodeError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<DecodeError> for Broken {
    fn from(error: DecodeError) -> Self {
        Self::Refused(error.into())
    }
}
