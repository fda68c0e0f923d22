//! A body on its way in: gathered in memory while small, else written to a file of its own, with all sums.
//!
//! Objects and parts take their bytes through this; what row they end in is said when the body has ended.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use crate::{
    blob::{BlobWriter, Description},
    digest::{Digests, Sums},
    error::{Error, ErrorKind, Result},
    meta::{
        Body, Change, Transaction,
        key::{BucketId, Key},
        record::{Location, Record},
    },
    service::{Buffer, CHUNK_BYTES, Service, blocking},
    types::{Checksum, ChecksumAlgorithm, ObjectKey, PUT_BYTES_MAX, PartOptions},
};

/// Memory of a large body on its way in: the chunk being filled and the one being written.
pub(super) const UPLOAD_BYTES: usize = 3 * CHUNK_BYTES;

/// Takes one body. Dropped before [`BodyWriter::finish`], it leaves nothing.
pub(super) struct BodyWriter {
    service: Arc<Service>,
    /// Given back when the body is stored or given up.
    buffer: Buffer,
    expected: PartOptions,
    received: u64,
    state: State,
}

enum State {
    /// Gathered here, to ride in the log.
    Small(BytesMut),
    /// On its way into a file.
    Large(Box<Large>),
}

struct Large {
    /// The chunk that is being filled.
    chunk: BytesMut,
    /// The chunk before it, being hashed and written; holds what it works with.
    job: Option<Job>,
    idle: Option<(Work, Digests)>,
}

/// Writing under way, and the MD5 beside it, if it is wanted.
type Job = (
    JoinHandle<std::io::Result<Work>>,
    Option<JoinHandle<Digests>>,
);

/// What writing needs, besides the MD5, which is computed beside it.
struct Work {
    writer: Box<dyn BlobWriter>,
    digests: Digests,
}

impl BodyWriter {
    /// A writer of a body of which this is known; waits for the memory it takes, and `more` beside it.
    pub(super) async fn new(
        service: &Arc<Service>,
        expected: PartOptions,
        more: usize,
    ) -> Result<Self> {
        let size = expected.size.unwrap_or(0);
        check_size(size)?;
        let is_small = expected
            .size
            .is_some_and(|size| size <= service.inline_max as u64);
        let memory = if is_small {
            size as usize
        } else {
            UPLOAD_BYTES
        };
        let mut writer = Self {
            buffer: service.buffer(memory + more).await?,
            service: service.clone(),
            expected,
            received: 0,
            state: State::Small(BytesMut::new()),
        };
        if size > service.inline_max as u64 {
            writer.state = State::Large(Box::new(writer.start_large().await?));
        }
        Ok(writer)
    }

    /// Takes the next bytes of the body, of any length; waits while the disk is behind.
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.received += bytes.len() as u64;
        check_size(self.received)?;
        if self.expected.size.is_some_and(|size| self.received > size) {
            return Err(incomplete(self.received, self.expected.size));
        }
        if let State::Small(gathered) = &mut self.state {
            if gathered.len() + bytes.len() <= self.service.inline_max {
                if gathered.is_empty() {
                    gathered.reserve(self.expected.size.unwrap_or(bytes.len() as u64) as usize);
                }
                gathered.extend_from_slice(&bytes);
                return Ok(());
            }
            let gathered = std::mem::take(gathered).freeze();
            let mut large = self.start_large().await?;
            large.write(gathered).await?;
            self.state = State::Large(Box::new(large));
        }
        match &mut self.state {
            State::Large(large) => large.write(bytes).await,
            State::Small(_) => unreachable!("a body that does not fit has just become large"),
        }
    }

    /// Checks size and digests; `trailer` is a checksum that came behind the body.
    pub(super) async fn finish(self, trailer: Option<Checksum>) -> Result<Finished> {
        let (received, expected) = (self.received, self.expected);
        if expected.size.is_some_and(|size| size != received) {
            return Err(incomplete(received, expected.size));
        }
        let (bytes, digests) = match self.state {
            State::Small(gathered) => {
                let bytes = gathered.freeze();
                let (digests, md5) = digests_of(&expected);
                let mut digests = digests.with_md5_of(md5);
                digests.update(&bytes);
                (Stored::Small(bytes), digests)
            }
            State::Large(large) => {
                let (writer, digests) = large.close().await?;
                (Stored::Large(writer), digests)
            }
        };
        let sums = digests.finish();
        sums.check(&expected, trailer.as_ref())?;
        Ok(Finished {
            size: received,
            sums,
            stored: bytes,
            buffer: self.buffer,
        })
    }

    async fn start_large(&self) -> Result<Large> {
        let blobs = self.service.blobs.clone();
        let writer = blocking(move || blobs.create()).await??;
        let (digests, md5) = digests_of(&self.expected);
        let idle = Some((Work { writer, digests }, md5));
        Ok(Large {
            chunk: BytesMut::with_capacity(CHUNK_BYTES),
            job: None,
            idle,
        })
    }
}

/// A whole body, checked, that no row points at yet.
pub(super) struct Finished {
    pub(super) size: u64,
    pub(super) sums: Sums,
    stored: Stored,
    buffer: Buffer,
}

enum Stored {
    Small(Bytes),
    Large(Box<dyn BlobWriter>),
}

impl Finished {
    /// Adds the row to a transaction, with the body behind it or durable in its file. What is answered is to
    /// be kept until the commit.
    pub(super) async fn place(
        self,
        transaction: &mut Transaction,
        bucket: BucketId,
        key: &ObjectKey,
        row: Key,
        mut record: Record,
    ) -> Result<Buffer> {
        let location = record.location_mut().expect("the row of a body");
        match self.stored {
            Stored::Small(bytes) if bytes.is_empty() => *location = Location::Empty,
            Stored::Small(bytes) => {
                *location = Location::Here;
                transaction.body = Some(Body::new(bytes));
            }
            Stored::Large(writer) => {
                *location = Location::File(writer.id());
                let (key, row, record) = (key.clone(), row.clone(), record.clone());
                let finished = blocking(move || {
                    writer.finish(Description {
                        bucket,
                        key: key.as_str(),
                        row: &row,
                        record: &record,
                    })
                });
                transaction.blob = Some(finished.await??);
            }
        }
        transaction.changes.push(Change::put(row, record));
        Ok(self.buffer)
    }
}

fn check_size(size: u64) -> Result<()> {
    if size <= PUT_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::EntityTooLarge,
        format!(
            "Your proposed upload exceeds the maximum allowed size: {PUT_BYTES_MAX} bytes in one \
             request. Use a multipart upload."
        ),
    ))
}

/// The sums that a body gets, and the MD5 beside them.
fn digests_of(expected: &PartOptions) -> (Digests, Digests) {
    let all = Digests::without_md5(chosen_algorithm(expected));
    let asks = expected.content_md5.is_some() || expected.content_sha256.is_some();
    match expected.without_digests && !asks {
        true => (all.without_sha256(), Digests::default()),
        false => (all, Digests::only_md5()),
    }
}

fn chosen_algorithm(expected: &PartOptions) -> Option<ChecksumAlgorithm> {
    let known = expected.checksum.as_ref();
    known
        .map(|checksum| checksum.algorithm)
        .or(expected.checksum_algorithm)
}

fn incomplete(received: u64, declared: Option<u64>) -> Error {
    Error::new(
        ErrorKind::IncompleteBody,
        format!(
            "The body does not have the declared length: {received} bytes came, {} were declared.",
            declared.unwrap_or(0)
        ),
    )
}

impl Large {
    async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let room = CHUNK_BYTES - self.chunk.len();
            let now = bytes.split_to(bytes.len().min(room));
            self.chunk.extend_from_slice(&now);
            if self.chunk.len() == CHUNK_BYTES {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Hands the filled chunk over: one thread writes it and computes all sums but MD5, another MD5.
    async fn send(&mut self) -> Result<()> {
        let (mut work, mut md5) = self.settle().await?;
        let chunk = self.chunk.split().freeze();
        self.chunk.reserve(CHUNK_BYTES);
        let same = chunk.clone();
        let writing = tokio::task::spawn_blocking(move || {
            work.writer.write(&chunk)?;
            work.digests.update(&chunk);
            Ok(work)
        });
        let hashing = (!md5.is_empty()).then(|| {
            tokio::task::spawn_blocking(move || {
                md5.update(&same);
                md5
            })
        });
        self.job = Some((writing, hashing));
        Ok(())
    }

    async fn settle(&mut self) -> Result<(Work, Digests)> {
        if let Some((writing, hashing)) = self.job.take() {
            let lost = |error| {
                Error::new(ErrorKind::InternalError, "A task of the store failed.")
                    .with_source(error)
            };
            let work = writing.await.map_err(lost)?;
            let md5 = match hashing {
                Some(hashing) => hashing.await.map_err(lost)?,
                None => Digests::default(),
            };
            self.idle = Some((work?, md5));
        }
        self.idle.take().ok_or_else(|| {
            Error::new(
                ErrorKind::InternalError,
                "The body could not be written before.",
            )
        })
    }

    async fn close(mut self) -> Result<(Box<dyn BlobWriter>, Digests)> {
        if !self.chunk.is_empty() {
            self.send().await?;
        }
        let (work, md5) = self.settle().await?;
        Ok((work.writer, work.digests.with_md5_of(md5)))
    }
}
