//! The body of a GET on its way in. Every byte that it gives has been checked; a connection that breaks is taken up again
//! where the last checked byte was, as long as the object is still the same one.

use std::{
    fmt,
    future::Future,
    io,
    ops::Range,
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use jay_wire::{body::combined_crc64, object};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

use crate::{
    bucket::Bucket,
    core::{CallOptions, Incoming},
    error::{Error, ErrorKind, Result},
    model::ObjectMeta,
    retry::Safety,
};

/// An object that is being read: what it is, and a stream of its bytes.
///
/// ```no_run
/// # async fn example(bucket: jay_client::Bucket) -> jay_client::Result<()> {
/// let mut object = bucket.get("big").range(1000..).await?;
/// println!("{} of {} bytes", object.range().end - object.range().start, object.meta().size);
/// while let Some(bytes) = object.next_chunk().await? {
///     // …
/// }
/// # Ok(())
/// # }
/// ```
pub struct GetObject {
    meta: ObjectMeta,
    range: Range<u64>,
    state: State,
    /// CRC64-NVME of all that came, once it has come and was checked.
    crc64: Option<u64>,
}

impl fmt::Debug for GetObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetObject")
            .field("meta", &self.meta)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// Most bytes for which there is room before any of them has come.
const CAPACITY_MAX: u64 = 16 << 20;

type Next = (Box<Reading>, Result<Option<Bytes>>);

enum State {
    Idle(Box<Reading>),
    Busy(Pin<Box<dyn Future<Output = Next> + Send>>),
    Over,
}

struct Reading {
    bucket: Bucket,
    asked: object::GetObject,
    options: CallOptions,
    /// `None` when it has to be asked for again.
    body: Option<Incoming>,
    at: u64,
    end: u64,
    etag: String,
    /// Where what comes now begins, and CRC64-NVME of all before it.
    since: u64,
    before: u64,
    /// What the sum of all of it must be, when all of it is read.
    expected: Option<u64>,
    resumed: u32,
}

impl GetObject {
    pub(crate) async fn open(
        bucket: Bucket,
        asked: object::GetObject,
        options: CallOptions,
    ) -> Result<Self> {
        let response = bucket
            .core
            .read(&asked, Safety::Repeatable, &options)
            .await?;
        let (told, body) = (response.told, response.body);
        let start = told.range_start;
        let length = body.size().unwrap_or(told.size.saturating_sub(start));
        let range = start..start.saturating_add(length);
        if range.end > told.size || !is_asked_for(&asked, &range, told.size) {
            return Err(Error::protocol("Other bytes come than were asked for.")
                .about("GetObject", (Some(&asked.bucket), Some(&asked.key))));
        }
        let core = &bucket.core;
        // Over version 1 the body is held against another sum as it comes.
        let has_crc64 = range == (0..told.size) && !core.is_v1();
        let expected = (has_crc64 && core.config().options.verify).then_some(told.crc64);
        let reading = Reading {
            at: start,
            end: range.end,
            etag: told.etag.clone(),
            since: start,
            before: 0,
            expected,
            resumed: 0,
            body: Some(body),
            bucket,
            asked,
            options,
        };
        let key = reading.bucket.short(reading.asked.key.clone());
        Ok(Self {
            meta: ObjectMeta::new(&key, told),
            range,
            state: State::Idle(Box::new(reading)),
            crc64: None,
        })
    }

    /// What the object is.
    pub fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    /// Which of its bytes come.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// CRC64-NVME of all that came, behind its end; `None` where nothing was checked.
    pub(crate) fn crc64(&self) -> Option<u64> {
        self.crc64
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`ErrorKind::PreconditionFailed`] when the connection broke and the object is another one by now,
    /// [`ErrorKind::ChecksumMismatch`], [`ErrorKind::ObjectCorrupt`]; see [`ErrorKind`].
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Over => return Poll::Ready(Ok(None)),
                State::Idle(mut reading) => {
                    self.state = State::Busy(Box::pin(async move {
                        let next = reading.next().await;
                        (reading, next)
                    }));
                }
                State::Busy(mut future) => match future.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.state = State::Busy(future);
                        return Poll::Pending;
                    }
                    Poll::Ready((reading, Ok(Some(bytes)))) => {
                        self.state = State::Idle(reading);
                        return Poll::Ready(Ok(Some(bytes)));
                    }
                    // At the end, and behind an error, there is nothing more.
                    Poll::Ready((reading, other)) => {
                        self.crc64 = reading.checked_crc64();
                        return Poll::Ready(other);
                    }
                },
            }
        }
    }

    /// All of it, in memory.
    ///
    /// # Errors
    /// As [`GetObject::next_chunk`].
    pub async fn bytes(mut self) -> Result<Bytes> {
        let first = self.next_chunk().await?.unwrap_or_default();
        let length = self.range.end - self.range.start;
        if first.len() as u64 == length {
            // The end, which has to be checked too.
            return match self.next_chunk().await? {
                None => Ok(first),
                Some(_) => Err(Error::protocol("More has come than was told.")),
            };
        }
        // What is told takes no memory before it comes.
        let mut all = BytesMut::with_capacity(length.min(CAPACITY_MAX) as usize);
        all.extend_from_slice(&first);
        while let Some(bytes) = self.next_chunk().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }

    /// Writes all of it to a file, which appears under its name when it is whole.
    ///
    /// # Errors
    /// As [`GetObject::next_chunk`]; [`ErrorKind::InvalidArgument`] when the file cannot be written.
    pub async fn write_to_file(mut self, path: impl AsRef<Path>) -> Result<ObjectMeta> {
        let path = path.as_ref();
        let part = crate::transfer::beside(path);
        let written = async {
            let mut file = tokio::fs::File::create(&part).await.map_err(unwritable)?;
            while let Some(bytes) = self.next_chunk().await? {
                file.write_all(&bytes).await.map_err(unwritable)?;
            }
            file.sync_data().await.map_err(unwritable)?;
            tokio::fs::rename(&part, path).await.map_err(unwritable)
        };
        match written.await {
            Ok(()) => Ok(self.meta),
            Err(error) => {
                let _ = tokio::fs::remove_file(&part).await;
                Err(error)
            }
        }
    }

    /// All of it as a reader.
    pub fn into_async_read(self) -> ObjectReader {
        ObjectReader {
            object: self,
            bytes: Bytes::new(),
        }
    }
}

pub(crate) fn unwritable(error: io::Error) -> Error {
    let message = format!("The file cannot be written: {error}.");
    Error::new(ErrorKind::InvalidArgument, message).with_source(error)
}

impl Stream for GetObject {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx).map(Result::transpose)
    }
}

/// An object as a reader; errors are [`Error`] inside [`io::Error`].
pub struct ObjectReader {
    object: GetObject,
    bytes: Bytes,
}

impl AsyncRead for ObjectReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.bytes.is_empty() {
            match ready!(self.object.poll_chunk(cx))? {
                None => return Poll::Ready(Ok(())),
                Some(bytes) => self.bytes = bytes,
            }
        }
        let count = buf.remaining().min(self.bytes.len());
        buf.put_slice(&self.bytes[..count]);
        self.bytes.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// Whether an answer begins and ends where it should; of a part nobody knows before where that is.
fn is_asked_for(asked: &object::GetObject, range: &Range<u64>, size: u64) -> bool {
    let expected = match &asked.range {
        _ if asked.part_number.is_some() => return true,
        None => 0..size,
        Some(object::ByteRange {
            suffix: Some(suffix),
            ..
        }) => size.saturating_sub(*suffix)..size,
        Some(part) => part.start..part.end.unwrap_or(size).min(size),
    };
    *range == expected
}

/// Whether it was the way that failed.
fn is_broken(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionLost
            | ErrorKind::Timeout
            | ErrorKind::Unavailable
            | ErrorKind::ChecksumMismatch
    )
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let next = match self.body.as_mut() {
                Some(body) => body.next().await,
                None => self.resume().await.map(|()| Some(Bytes::new())),
            };
            match next {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => {
                    self.at += bytes.len() as u64;
                    if self.at > self.end {
                        return Err(Error::protocol("More has come than was told."));
                    }
                    return Ok(Some(bytes));
                }
                Ok(None) => return self.ended(),
                Err(error) if self.lacks_its_end(&error) => return self.ended(),
                Err(error) if self.may_resume(&error) => {
                    tracing::debug!(%error, at = self.at, "a GET is taken up again");
                    self.resumed += 1;
                    (self.before, self.since) = (self.crc64(), self.at);
                    self.body = None;
                }
                Err(error) => {
                    return Err(error.about(
                        "GetObject",
                        (Some(&self.asked.bucket), Some(&self.asked.key)),
                    ));
                }
            }
        }
    }

    /// CRC64-NVME of all that has come.
    fn crc64(&self) -> u64 {
        let now = self.body.as_ref().and_then(Incoming::crc64).unwrap_or(0);
        combined_crc64(self.before, now, self.at - self.since)
    }

    /// The same, where it was checked.
    fn checked_crc64(&self) -> Option<u64> {
        let core = &self.bucket.core;
        (core.config().options.verify && !core.is_v1()).then(|| self.crc64())
    }

    /// Nothing more comes: is what has come all of it?
    fn ended(&self) -> Result<Option<Bytes>> {
        if self.at < self.end {
            return Err(Error::protocol("Less has come than was told."));
        }
        let is_right = self.expected.is_none_or(|sum| sum == self.crc64());
        match is_right {
            true => Ok(None),
            false => Err(Error::new(
                ErrorKind::ChecksumMismatch,
                "The body that has come is not the one that was stored.",
            )
            .about(
                "GetObject",
                (Some(&self.asked.bucket), Some(&self.asked.key)),
            )),
        }
    }

    /// All bytes have come and each was checked: the connection broke before the word that there are no more.
    fn lacks_its_end(&self, error: &Error) -> bool {
        let has_ended = self.body.as_ref().is_some_and(Incoming::has_ended);
        is_broken(error) && self.at == self.end && !has_ended
    }

    fn may_resume(&self, error: &Error) -> bool {
        let core = &self.bucket.core;
        let retries = core.config().options.retries;
        // Version 1 has neither ranges nor conditions.
        is_broken(error) && !core.is_v1() && self.at < self.end && self.resumed < retries
    }

    /// Asks for what is missing, of the same version.
    async fn resume(&mut self) -> Result<()> {
        let asked = object::GetObject {
            bucket: self.asked.bucket.clone(),
            key: self.asked.key.clone(),
            range: Some(object::ByteRange {
                start: self.at,
                end: Some(self.end),
                suffix: None,
            }),
            conditions: object::ReadConditions {
                if_match: vec![self.etag.clone()],
                ..object::ReadConditions::default()
            },
            part_number: None,
        };
        let response = self
            .bucket
            .core
            .read(&asked, Safety::Repeatable, &self.options)
            .await?;
        let told = &response.told;
        if (told.range_start, &told.etag) != (self.at, &self.etag) {
            return Err(Error::protocol("Other bytes come than were asked for."));
        }
        self.body = Some(response.body);
        Ok(())
    }
}
