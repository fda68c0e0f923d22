//! The data of a request on its way in, and what may end it.

use bytes::Bytes;
use jay_engine::ErrorKind;
use jay_wire::DecodeError;

use super::{
    connection::{End, SKIPPED_BYTES_MAX, Wire},
    error::Error,
};

/// The data of one request. What of it is not taken stays on the connection.
pub(super) struct Body<'a> {
    wire: &'a mut Wire,
    left: u64,
}

/// Why a request that has data was not done.
#[derive(Debug)]
pub(super) enum Broken {
    /// It is refused.
    Refused(Error),
    /// Its connection has ended.
    Ended(End),
}

impl<'a> Body<'a> {
    pub(super) fn new(wire: &'a mut Wire, bytes: u64) -> Self {
        Self { wire, left: bytes }
    }

    /// How many bytes are still to come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Some of them; `None` at the end. A peer that leaves before that is an error, so that nothing is stored of
    /// what it has begun.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, End> {
        if self.left == 0 {
            return Ok(None);
        }
        let bytes = self.wire.data(self.left).await?;
        self.left -= bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// Reads the data of an operation that has none and throws it away, so that it is not taken for the next request.
    pub(super) async fn skip_meaningless(&mut self) -> Result<(), Broken> {
        if self.left > SKIPPED_BYTES_MAX {
            let why = "The operation takes no data.";
            return Err(Error::new(ErrorKind::EntityTooLarge, why).into());
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

impl From<DecodeError> for Broken {
    fn from(error: DecodeError) -> Self {
        Self::Refused(error.into())
    }
}
