//! The frames of version 1 on a connection: one request at a time, its body raw behind its metadata and of a length that is
//! told before, and no sums. What is asked, and what the answers mean, is in [`crate::v1`].

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use jay_wire::{Header, Status, frame::HEADER_BYTES};
use tokio::io::WriteHalf;

use super::{Bulk, Source, write};
use crate::{
    connection::{Io, fill},
    error::{Error, ErrorKind, Result},
};

/// The beginning of an answer: its data are behind it.
pub(crate) struct Head {
    pub(crate) status: Status,
    pub(crate) metadata: Bytes,
    pub(crate) data_bytes: u64,
}

impl Bulk {
    /// Sends a request without a body and reads the beginning of its answer.
    pub(crate) async fn ask_v1(&mut self, code: u8, metadata: &[u8]) -> Result<Head> {
        self.is_dirty = true;
        self.send(&begun(code, metadata, 0)).await?;
        self.head_v1().await
    }

    /// Sends a request with a body of `size` bytes and reads the beginning of its answer. A server that refuses it before the
    /// body has ended is heard at once.
    pub(crate) async fn upload_v1(
        &mut self,
        code: u8,
        metadata: &[u8],
        size: u64,
        source: &mut impl Source,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Head> {
        self.is_dirty = true;
        let request = begun(code, metadata, size);
        let Self {
            reading,
            writing,
            input,
            idle_timeout,
            ..
        } = self;
        let sent = {
            let sending = send_body(writing, request, size, source, progress, *idle_timeout);
            let heard = fill(reading, input);
            tokio::select! {
                biased;
                heard = heard => Err(heard.map_err(Error::lost).err()),
                sent = sending => sent.map_err(Some),
            }
        };
        match sent {
            Ok(()) => self.head_v1().await,
            Err(Some(error)) if error.kind() != ErrorKind::ConnectionLost => Err(error),
            Err(broken) => {
                // A server that leaves in the middle of a body may have said why. Of the body some is missing, so this is
                // the last that the connection is of use for.
                self.is_leaving = true;
                let head = self.head_v1().await;
                match (head, broken) {
                    (Ok(head), _) if head.status != Status::Ok => Ok(head),
                    (_, Some(error)) | (Err(error), None) => Err(error),
                    (Ok(_), None) => Err(Error::protocol(
                        "The server has answered a body that has not ended.",
                    )),
                }
            }
        }
    }

    async fn head_v1(&mut self) -> Result<Head> {
        loop {
            if let Some(first) = self.input.first_chunk::<HEADER_BYTES>() {
                let header = Header::parse(first)?;
                let bytes = HEADER_BYTES + header.metadata_bytes as usize;
                if self.input.len() >= bytes {
                    let metadata = self.input.split_to(bytes).split_off(HEADER_BYTES);
                    if header.stream_id != STREAM_ID {
                        return Err(Error::protocol(
                            "The server answers a request that nobody has sent.",
                        ));
                    }
                    return Ok(Head {
                        status: Status::parse(header.code)?,
                        metadata: metadata.freeze(),
                        data_bytes: header.data_bytes,
                    });
                }
            }
            self.more().await?;
        }
    }

    /// The next of the data of the answer, at most so many bytes and at least one.
    pub(crate) async fn data_v1(&mut self, most: u64) -> Result<Bytes> {
        if self.input.is_empty() {
            self.more().await?;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let count = self.input.len().min(most);
        Ok(self.input.split_to(count).freeze())
    }
}

/// There is one request at a time, so they need no names.
const STREAM_ID: u32 = 0;

fn begun(code: u8, metadata: &[u8], data_bytes: u64) -> BytesMut {
    let header = Header {
        code,
        stream_id: STREAM_ID,
        // Looked at when they were written.
        metadata_bytes: metadata.len() as u32,
        data_bytes,
    };
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + metadata.len());
    bytes.extend_from_slice(&header.to_bytes());
    bytes.extend_from_slice(metadata);
    bytes
}

async fn send_body(
    writing: &mut WriteHalf<Box<dyn Io>>,
    mut begun: BytesMut,
    size: u64,
    source: &mut impl Source,
    progress: &mut (dyn FnMut(u64) + Send),
    idle_timeout: Duration,
) -> Result<()> {
    let (mut held, mut sent) = (Bytes::new(), 0);
    loop {
        // A piece goes when it is known what comes behind it: a server that has as many bytes as it was told of keeps them,
        // whatever the source has to say then.
        let next = source.next().await?;
        let known = sent + held.len() as u64 + next.as_ref().map_or(0, |next| next.len() as u64);
        if known > size || (next.is_none() && known < size) {
            let message =
                format!("The body has another length than the {size} bytes it was told to have.");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        if next.is_none() || !held.is_empty() {
            sent += held.len() as u64;
            write(writing, &mut begun.split().chain(held), idle_timeout).await?;
            progress(sent);
        }
        match next {
            Some(next) => held = next,
            None => return Ok(()),
        }
    }
}
