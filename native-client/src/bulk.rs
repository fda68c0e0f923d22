//! A bulk connection: one request at a time, with bodies of any length in checked chunks. It belongs to whoever asks. Its
//! frames here are those of version 2; those of version 1 are in `v1`.

pub(crate) mod v1;

use std::{
    future::Future,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use jay_wire::{
    Tagged,
    body::{self, CHUNK_BYTES_MAX, Crc64},
    call::{self, Chunk, End},
    v2::{self, Frame, Status, kind},
};
use tokio::{
    io::{AsyncWriteExt, ReadHalf, WriteHalf},
    time::timeout,
};

use crate::{
    connection::{Dialed, Io, fill, is_behind},
    error::{Error, ErrorKind, Result},
};

/// Most pings that wait to be answered while a body is being sent.
const PINGS_MAX: usize = 64;

/// See the module.
pub(crate) struct Bulk {
    reading: ReadHalf<Box<dyn Io>>,
    writing: WriteHalf<Box<dyn Io>>,
    input: BytesMut,
    last_stream: u32,
    idle_timeout: Duration,
    /// Something was begun that has not ended: it is of no use to anybody else.
    is_dirty: bool,
    is_leaving: bool,
}

/// Bytes to be sent, piece by piece.
pub(crate) trait Source: Send {
    /// The next piece, of any length; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;
}

impl Bulk {
    pub(crate) fn new(dialed: Dialed, idle_timeout: Duration) -> Self {
        let (reading, writing) = tokio::io::split(dialed.io);
        Self {
            reading,
            writing,
            input: BytesMut::new(),
            last_stream: 0,
            idle_timeout,
            is_dirty: false,
            is_leaving: false,
        }
    }

    /// Whether another request may be sent: all is said that was due, and nothing else.
    pub(crate) fn is_reusable(&self) -> bool {
        !self.is_dirty && !self.is_leaving && self.input.is_empty()
    }

    /// Until it has ended while nobody uses it: nothing is due then, so whatever comes is its end.
    pub(crate) async fn ended(&mut self) {
        let _ = fill(&mut self.reading, &mut self.input).await;
    }

    /// Sends a request without a body, or with a short one, and reads the beginning of its answer.
    pub(crate) async fn ask(&mut self, code: u8, metadata: &[u8], data: &Bytes) -> Result<Frame> {
        self.is_dirty = true;
        self.last_stream = self.last_stream.wrapping_add(1);
        let mut request = BytesMut::with_capacity(64 + metadata.len() + data.len());
        v2::frame(code, self.last_stream, metadata, data.len(), &mut request)?;
        request.extend_from_slice(data);
        self.send(&request).await?;
        self.answer().await
    }

    /// Sends a request with a body that follows, and reads its answer. A server that refuses it before the body has ended is
    /// heard at once.
    pub(crate) async fn upload(
        &mut self,
        code: u8,
        metadata: &[u8],
        source: &mut impl Source,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Frame> {
        self.is_dirty = true;
        self.last_stream = self.last_stream.wrapping_add(1);
        let stream_id = self.last_stream;
        let mut request = BytesMut::new();
        v2::frame(code, stream_id, metadata, 0, &mut request)?;
        let pings = Pings::default();
        let sent = {
            let Self {
                reading,
                writing,
                input,
                idle_timeout,
                is_leaving,
                ..
            } = self;
            let mut sending = Sending {
                writing,
                stream_id,
                pings: &pings,
                idle_timeout: *idle_timeout,
            };
            let sending = sending.body(request, source, progress);
            let refused = early_frame(reading, input, stream_id, &pings, is_leaving);
            tokio::select! {
                biased;
                frame = refused => Err(frame),
                sent = sending => Ok(sent),
            }
        };
        match sent {
            Ok(Ok(())) => self.answer().await,
            // The source failed: nothing of it is kept, and the connection goes on.
            Ok(Err(error)) => {
                if error.kind() != ErrorKind::ConnectionLost {
                    let _ = self.give_up(stream_id).await;
                }
                Err(error)
            }
            Err(frame) => {
                // Half a frame may be on its way: what follows would be taken for the rest of it.
                let frame = frame?;
                match frame.code == Status::Ok as u8 {
                    true => Err(Error::protocol(
                        "The server says that it is done before it has the whole body.",
                    )),
                    false => Ok(frame),
                }
            }
        }
    }

    /// Ends an upload whose source has failed.
    async fn give_up(&mut self, stream_id: u32) -> Result<()> {
        let mut cancel = BytesMut::new();
        v2::frame(kind::CANCEL, stream_id, &[], 0, &mut cancel)?;
        self.send(&cancel).await?;
        self.answer().await?;
        self.is_dirty = false;
        Ok(())
    }

    /// The beginning of the answer to the request under way.
    async fn answer(&mut self) -> Result<Frame> {
        loop {
            let frame = self.frame().await?;
            match frame.code {
                kind::GO_AWAY => leaves(&frame, self.last_stream, &mut self.is_leaving)?,
                _ if frame.stream_id == self.last_stream => return Ok(frame),
                _ => {}
            }
        }
    }

    /// The request under way and its answer have ended.
    pub(crate) fn is_done(&mut self) {
        self.is_dirty = false;
    }

    /// The next piece of the body of the answer, checked; or its end.
    pub(crate) async fn piece(&mut self, verify: bool) -> Result<Piece> {
        loop {
            let frame = self.frame().await?;
            match frame.code {
                kind::CHUNK if frame.stream_id == self.last_stream => {
                    let head = Chunk::from_metadata(frame.metadata()?)?;
                    if frame.data.is_empty() {
                        return Err(Error::protocol("A chunk has nothing in it."));
                    }
                    if verify {
                        body::check(&frame.data, &head.sums)?;
                    }
                    return Ok(Piece::Chunk(frame.data));
                }
                kind::END if frame.stream_id == self.last_stream => {
                    return Ok(Piece::End(End::from_metadata(frame.metadata()?)?));
                }
                kind::GO_AWAY => self.is_leaving = true,
                _ if frame.stream_id == self.last_stream => {
                    return Err(Error::protocol(
                        "An answer is not over, and another frame comes.",
                    ));
                }
                _ => {}
            }
        }
    }

    /// The next frame that is no ping.
    async fn frame(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = Frame::take(&mut self.input)? {
                match frame.code {
                    kind::PING => {
                        let mut pong = BytesMut::new();
                        v2::frame(kind::PONG, frame.stream_id, &[], 0, &mut pong)?;
                        self.send(&pong).await?;
                    }
                    kind::PONG => {}
                    _ => return Ok(frame),
                }
                continue;
            }
            self.more().await?;
        }
    }

    /// Reads what there is.
    async fn more(&mut self) -> Result<()> {
        let read = timeout(self.idle_timeout, fill(&mut self.reading, &mut self.input)).await;
        read.map_err(|_| silent(self.idle_timeout))?
            .map_err(Error::lost)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        write(&mut self.writing, &mut &bytes[..], self.idle_timeout).await
    }
}

/// What comes of a body.
pub(crate) enum Piece {
    /// Some of it.
    Chunk(Bytes),
    /// Its end.
    End(End),
}

fn silent(patience: Duration) -> Error {
    let message = format!("The server has said nothing for {patience:?}.");
    Error::new(ErrorKind::Timeout, message)
}

/// The server leaves: an error for a request that it has not begun with and never will; it answers all others.
fn leaves(frame: &Frame, stream_id: u32, is_leaving: &mut bool) -> Result<()> {
    *is_leaving = true;
    let word = call::GoAway::from_metadata(frame.metadata()?)?;
    if !is_behind(stream_id, frame.stream_id) {
        return Ok(());
    }
    let error = match word.failure {
        None => Error::new(ErrorKind::Unavailable, "The server is about to leave."),
        Some(failure) => Error::of_server(failure, String::new()),
    };
    Err(error.undone())
}

async fn write(
    writing: &mut WriteHalf<Box<dyn Io>>,
    bytes: &mut (impl Buf + Send),
    idle_timeout: Duration,
) -> Result<()> {
    // For each piece that the socket takes: there is no limit on the whole.
    while bytes.has_remaining() {
        let sent = timeout(idle_timeout, writing.write_buf(bytes)).await;
        let sent = sent
            .map_err(|_| silent(idle_timeout))?
            .map_err(Error::lost)?;
        if sent == 0 {
            return Err(Error::lost(io::ErrorKind::WriteZero.into()));
        }
    }
    writing.flush().await.map_err(Error::lost)
}

/// Pings that came while a body was being sent, to be answered between two of its pieces.
#[derive(Default)]
struct Pings(Mutex<Vec<u32>>);

impl Pings {
    fn lock(&self) -> MutexGuard<'_, Vec<u32>> {
        // A panic cannot leave a list half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body on its way to the server.
struct Sending<'a> {
    writing: &'a mut WriteHalf<Box<dyn Io>>,
    stream_id: u32,
    pings: &'a Pings,
    idle_timeout: Duration,
}

impl Sending<'_> {
    /// Sends a request, its body and the end of that.
    async fn body(
        &mut self,
        request: BytesMut,
        source: &mut impl Source,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<()> {
        let mut frame = request;
        let (mut size, mut crc64) = (0, Crc64::default());
        while let Some(mut bytes) = source.next().await? {
            while !bytes.is_empty() {
                let data = bytes.split_to(bytes.len().min(CHUNK_BYTES_MAX));
                let head = Chunk::of(&data).to_metadata()?;
                v2::frame(kind::CHUNK, self.stream_id, &head, data.len(), &mut frame)?;
                crc64.update(&data);
                size += data.len() as u64;
                self.send(&mut frame.split().chain(data)).await?;
                progress(size);
                for ping in std::mem::take(&mut *self.pings.lock()) {
                    v2::frame(kind::PONG, ping, &[], 0, &mut frame)?;
                }
            }
        }
        let end = End {
            size,
            crc64: crc64.value(),
            failure: None,
        };
        let end = end.to_metadata()?;
        v2::frame(kind::END, self.stream_id, &end, 0, &mut frame)?;
        self.send(&mut frame).await
    }

    async fn send(&mut self, bytes: &mut (impl Buf + Send)) -> Result<()> {
        write(self.writing, bytes, self.idle_timeout).await
    }
}

/// An answer that comes while its request is still being sent.
async fn early_frame(
    reading: &mut ReadHalf<Box<dyn Io>>,
    input: &mut BytesMut,
    stream_id: u32,
    pings: &Pings,
    is_leaving: &mut bool,
) -> Result<Frame> {
    loop {
        while let Some(frame) = Frame::take(input)? {
            match frame.code {
                kind::GO_AWAY => leaves(&frame, stream_id, is_leaving)?,
                kind::PING => {
                    let mut pings = pings.lock();
                    if pings.len() < PINGS_MAX {
                        pings.push(frame.stream_id);
                    }
                }
                kind::PONG => {}
                _ if frame.stream_id == stream_id => return Ok(frame),
                _ => {}
            }
        }
        fill(reading, input).await.map_err(Error::lost)?;
    }
}
