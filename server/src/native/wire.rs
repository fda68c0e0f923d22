//! The bytes of a connection whose requests are done one after another: what has come and is not taken yet, what is to
//! go and is not sent yet.

use std::{future::poll_fn, io, pin::pin, task::Poll};

use bytes::{Buf, Bytes, BytesMut};
use jay_wire::{DecodeError, Header, frame::HEADER_BYTES, v2};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    time::Instant,
};

use crate::listener::Io;

/// Bytes that are read at once.
pub(super) const READ_BYTES: usize = 64 << 10;
/// Answers that gather before they are sent all the same, in bytes.
pub(super) const GATHERED_BYTES_MAX: usize = 64 << 10;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The socket failed.
    #[error("the connection is lost: {0}")]
    Lost(#[from] io::Error),
    /// The peer left in the middle of a request.
    #[error("the peer left in the middle of a request")]
    Left,
    /// Nobody knows where the next frame would begin.
    #[error("a frame is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// A frame of ours has no form.
    #[error("a frame cannot be sent: {0}")]
    Unsendable(#[from] jay_wire::EncodeError),
    /// A frame is none that may come now.
    #[error("a frame is out of order: {0}")]
    OutOfOrder(&'static str),
    /// The handshake was refused.
    #[error("the handshake was refused")]
    NotWelcome,
    /// The access key of the connection is of no more use.
    #[error("the access key was revoked or has expired")]
    Revoked,
    /// A request was refused whose data would be too long to be skipped.
    #[error("the data of a refused request is too long")]
    Unread,
    /// The body that was being sent is damaged.
    #[error("the body of an object is damaged")]
    Damaged,
}

/// See the module.
pub(super) struct Wire {
    pub(super) io: Io,
    pub(super) input: BytesMut,
    pub(super) output: BytesMut,
    stop: watch::Receiver<bool>,
}

impl Wire {
    pub(super) fn new(io: Io, stop: watch::Receiver<bool>) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            output: BytesMut::new(),
            stop,
        }
    }

    /// The header and metadata of the next request of version 1; `None` when the peer has left in order or the server stops.
    pub(super) async fn request(&mut self) -> Result<Option<(Header, Bytes)>, End> {
        if !self.begins(HEADER_BYTES).await? {
            return Ok(None);
        }
        let header = self.exactly(HEADER_BYTES).await?;
        let header = Header::parse(header.first_chunk().ok_or(End::Left)?)?;
        let metadata = self.exactly(header.metadata_bytes as usize).await?;
        Ok(Some((header, metadata)))
    }

    /// The next frame of version 2; `None` when the peer has left in order or the server stops.
    pub(super) async fn frame(&mut self) -> Result<Option<v2::Frame>, End> {
        match self.begins(v2::HEAD_BYTES).await? {
            true => self.begun_frame().await.map(Some),
            false => Ok(None),
        }
    }

    /// Waits for so many bytes, none of which may come.
    async fn begins(&mut self, bytes: usize) -> Result<bool, End> {
        while self.input.len() < bytes {
            self.flush().await?;
            let mut stop = self.stop.clone();
            let read = tokio::select! {
                biased;
                read = fill(&mut self.io, &mut self.input) => read?,
                _ = stop.wait_for(|stop| *stop) => return Ok(false),
            };
            match (read, self.input.is_empty()) {
                (0, true) => return Ok(false),
                (0, false) => return Err(End::Left),
                _ => {}
            }
        }
        Ok(true)
    }

    /// The frame of version 2 that has begun, or whose beginning must come. May be given up at any point: nothing of it is
    /// taken before all of it is there, so what is left of it is never read as another one.
    pub(super) async fn begun_frame(&mut self) -> Result<v2::Frame, End> {
        loop {
            if let Some(frame) = v2::Frame::take(&mut self.input)? {
                return Ok(frame);
            }
            self.flush().await?;
            if fill(&mut self.io, &mut self.input).await? == 0 {
                return Err(End::Left);
            }
        }
    }

    /// The next frame of version 2, if all of it has come by now.
    pub(super) async fn frame_that_has_come(&mut self) -> Result<Option<v2::Frame>, End> {
        if let Some(frame) = v2::Frame::take(&mut self.input)? {
            return Ok(Some(frame));
        }
        let (io, input) = (&mut self.io, &mut self.input);
        // Whoever has left sees no more of the answer; the next write says so.
        let _ = poll_fn(|cx| Poll::Ready(pin!(fill(io, input)).poll(cx))).await;
        Ok(v2::Frame::take(&mut self.input)?)
    }

    /// The next `count` bytes.
    pub(super) async fn exactly(&mut self, count: usize) -> Result<Bytes, End> {
        while self.input.len() < count {
            self.flush().await?;
            if fill(&mut self.io, &mut self.input).await? == 0 {
                return Err(End::Left);
            }
        }
        Ok(self.input.split_to(count).freeze())
    }

    /// Some of the next `most` bytes of data, at least one.
    pub(super) async fn data(&mut self, most: u64) -> Result<Bytes, End> {
        if self.input.is_empty() {
            self.flush().await?;
            self.waits_for_body(true);
            let read = fill(&mut self.io, &mut self.input).await?;
            self.waits_for_body(false);
            if read == 0 {
                return Err(End::Left);
            }
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let count = self.input.len().min(most);
        Ok(self.input.split_to(count).freeze())
    }

    /// More of a body is waited for: a peer that stands still meanwhile is given up.
    pub(super) fn waits_for_body(&self, waits: bool) {
        self.io.link().lock().body_waits = waits.then(Instant::now);
    }

    /// Sends bytes, soon.
    pub(super) async fn put(&mut self, bytes: &[u8]) -> Result<(), End> {
        if self.output.len() + bytes.len() <= GATHERED_BYTES_MAX {
            self.output.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush().await?;
        if bytes.len() <= GATHERED_BYTES_MAX {
            self.output.extend_from_slice(bytes);
            return Ok(());
        }
        self.io.write_all(bytes).await?;
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Result<(), End> {
        while !self.output.is_empty() {
            let sent = self.io.write(&self.output).await?;
            if sent == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            self.output.advance(sent);
        }
        self.io.flush().await?;
        Ok(())
    }

    /// Ends the connection so that the peer gets what was sent, even if it is still sending itself.
    pub(super) async fn part(&mut self) -> Result<(), End> {
        self.flush().await?;
        self.io.link().lock().body_unread = true;
        self.io.shutdown().await?;
        Ok(())
    }
}

/// Reads what there is; 0 when the peer has left.
pub(super) async fn fill(io: &mut Io, input: &mut BytesMut) -> io::Result<usize> {
    input.reserve(READ_BYTES);
    io.read_buf(input).await
}
