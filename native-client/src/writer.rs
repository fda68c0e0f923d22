//! An object that is written bit by bit: parts go up while more is written.

use std::{
    fmt,
    future::IntoFuture,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use jay_wire::object;
use tokio::{io::AsyncWrite, task::JoinSet};

use crate::{
    body::Body,
    bucket::Bucket,
    core::CallOptions,
    error::{Error, ErrorKind, Result},
    model::{ContentHeaders, PartInfo, PutResult, tags_to},
    multipart::Upload,
    retry::Safety,
    transfer::{PARTS_MAX, Unfinished, describes},
};

/// After so many parts they become twice as large, so that few large ones are not needed where the length is not known.
const PARTS_OF_ONE_SIZE: u64 = PARTS_MAX / 4;

impl Bucket {
    /// A writer of an object whose bytes are not all there yet. What is short becomes one PUT.
    ///
    /// ```no_run
    /// # async fn example(bucket: jay_client::Bucket) -> Result<(), Box<dyn std::error::Error>> {
    /// use tokio::io::AsyncWriteExt;
    /// let mut writer = bucket.writer("log").content_type("text/plain").await?;
    /// writer.write_all(b"one line\n").await?;
    /// let stored = writer.finish().await?;
    /// println!("{}", stored.etag);
    /// # Ok(())
    /// # }
    /// ```
    pub fn writer(&self, key: impl Into<String>) -> OpenWriter {
        OpenWriter {
            bucket: self.clone(),
            asked: object::PutObject {
                bucket: self.name().to_owned(),
                key: self.full(&key.into()),
                ..object::PutObject::default()
            },
            part_size: None,
            concurrency: None,
        }
    }
}

/// A writer that is about to be opened: await it.
#[derive(Debug)]
#[must_use = "a writer is opened when it is awaited"]
pub struct OpenWriter {
    bucket: Bucket,
    asked: object::PutObject,
    part_size: Option<u64>,
    concurrency: Option<u32>,
}

impl OpenWriter {
    describes!();

    /// The size of a part in bytes, in place of the option `part_size`. From the 2,501st part on they are twice as long, and so on.
    pub fn part_size(mut self, bytes: u64) -> Self {
        self.part_size = Some(bytes);
        self
    }

    /// Parts that are on their way at a time, in place of the option `concurrency`. So many parts, and the one that is being written, are
    /// in memory.
    pub fn concurrency(mut self, parts: u32) -> Self {
        self.concurrency = Some(parts);
        self
    }

    fn open(self) -> Writer {
        let options = &self.bucket.core.config().options;
        let part_size = self.part_size.unwrap_or(options.part_size).max(1);
        let concurrency = self.concurrency.unwrap_or(options.concurrency).max(1);
        Writer {
            part_size,
            concurrency: concurrency as usize,
            bucket: self.bucket,
            asked: self.asked,
            buffer: BytesMut::new(),
            beginning: None,
            upload: None,
            begun: 0,
            running: JoinSet::new(),
            parts: Vec::new(),
            is_broken: false,
        }
    }
}

impl IntoFuture for OpenWriter {
    type Output = Result<Writer>;
    type IntoFuture = std::future::Ready<Result<Writer>>;

    fn into_future(self) -> Self::IntoFuture {
        std::future::ready(Ok(self.open()))
    }
}

type Beginning = Pin<Box<dyn Future<Output = Result<Upload>> + Send>>;

/// Takes the bytes of an object. [`Writer::finish`] makes the object of them; dropped before, nothing is stored. Flushing and shutting down do nothing:
/// until it is finished nothing of it is there to be read.
pub struct Writer {
    bucket: Bucket,
    asked: object::PutObject,
    part_size: u64,
    concurrency: usize,
    /// The part that is being written.
    buffer: BytesMut,
    beginning: Option<Beginning>,
    upload: Option<Unfinished>,
    /// Parts that have begun to be sent.
    begun: u64,
    running: JoinSet<Result<PartInfo>>,
    parts: Vec<PartInfo>,
    /// Something has failed: nothing can come of it any more.
    is_broken: bool,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({}/{})", self.asked.bucket, self.asked.key)
    }
}

impl Writer {
    /// Makes the object of all that was written.
    ///
    /// # Errors
    /// As [`Bucket::put`]; nothing is stored then.
    pub async fn finish(mut self) -> Result<PutResult> {
        if self.is_broken {
            return Err(broken());
        }
        if self.beginning.is_none() && self.upload.is_none() {
            let body = Body::from(self.buffer.freeze());
            let core = &self.bucket.core;
            let none = CallOptions::default();
            let mut tell = |_| {};
            let stored = core.write(&self.asked, body, Safety::InSession, &none, &mut tell);
            return Ok(stored.await?.into());
        }
        if !self.buffer.is_empty() {
            std::future::poll_fn(|cx| self.poll_begin(cx)).await?;
        }
        while let Some(done) = self.running.join_next().await {
            self.parts.push(joined(done)?);
        }
        let upload = self.upload.take().ok_or_else(broken)?;
        let parts = std::mem::take(&mut self.parts);
        upload.complete(parts, self.asked.conditions.clone()).await
    }

    /// Gives it up, with all that was sent.
    ///
    /// # Errors
    /// The server could not be told: it gives the upload up by itself after a while.
    pub async fn abort(mut self) -> Result<()> {
        self.running.shutdown().await;
        match self.upload.take() {
            Some(upload) => upload.abort().await,
            None => Ok(()),
        }
    }

    /// How long the part is that is being written.
    fn size(&self) -> usize {
        let doubled = self.begun / PARTS_OF_ONE_SIZE;
        usize::try_from(self.part_size << doubled).unwrap_or(usize::MAX)
    }

    /// Waits until there is room for more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.buffer.len() < self.size() {
            true => Poll::Ready(Ok(())),
            false => self.poll_begin(cx),
        }
    }

    /// Begins to send the part that was written.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.begun == PARTS_MAX {
            let message = "An object has at most 10,000 parts: give larger ones, by part_size.";
            return Poll::Ready(Err(Error::new(ErrorKind::TooLarge, message)));
        }
        while self.running.len() >= self.concurrency {
            match ready!(self.running.poll_join_next(cx)) {
                Some(done) => self.parts.push(joined(done)?),
                None => break,
            }
        }
        let upload = match &self.upload {
            Some(upload) => upload.get(),
            None => {
                let (bucket, asked) = (self.bucket.clone(), self.asked.clone());
                let begin =
                    || -> Beginning { Box::pin(async move { bucket.begin_upload(&asked).await }) };
                let beginning = self.beginning.get_or_insert_with(begin);
                let upload = ready!(beginning.as_mut().poll(cx))?;
                self.beginning = None;
                self.upload.insert(Unfinished::new(upload)).get()
            }
        };
        self.begun += 1;
        let (number, part) = (self.begun as u32, self.buffer.split().freeze());
        self.running.spawn(send(upload, number, part));
        Poll::Ready(Ok(()))
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        if self.is_broken {
            return Poll::Ready(Err(broken()));
        }
        if let Err(error) = ready!(self.poll_room(cx)) {
            self.is_broken = true;
            return Poll::Ready(Err(error));
        }
        let count = bytes.len().min(self.size() - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }
}

async fn send(upload: Upload, number: u32, part: Bytes) -> Result<PartInfo> {
    upload.part(number, part).await
}

fn joined(done: Result<Result<PartInfo>, tokio::task::JoinError>) -> Result<PartInfo> {
    done.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Internal,
            "A part was not sent to its end.",
        ))
    })
}

pub(crate) fn broken() -> Error {
    let message = "Something of it could not be sent before: nothing of it is stored.";
    Error::new(ErrorKind::Closed, message)
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_take(cx, bytes).map_err(io::Error::from)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
