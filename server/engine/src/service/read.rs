//! A body on its way out. Every byte that is given has been checked.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::{
    blob::{BlobReader, BlobStore},
    error::{Error, ErrorKind, Result},
    meta::{
        Hold, MetaStore,
        key::BucketId,
        record::{BucketRecord, Location, ObjectRecord, PartSet},
    },
    piece::{MOVES_MAX, Opened, Piece, WholeSum, WholeSummer},
    service::{Buffer, CHUNK_BYTES, Service, object::info},
    types::{ByteRange, ObjectInfo, ObjectKey, Select},
};

/// Memory of a large body on its way out: the chunk being sent and the next one.
pub(super) const DOWNLOAD_BYTES: usize = 2 * CHUNK_BYTES;
/// What is wrong with a body that is not there.
const MISSING: &str = "The body of the object is missing.";

impl Service {
    /// Opens an object as it is now. With `takes_memory` the reader has its own share of the memory for bodies.
    pub(super) async fn open_object(
        self: &Arc<Self>,
        bucket: &BucketRecord,
        key: &ObjectKey,
        select: Select,
        takes_memory: bool,
    ) -> Result<(ObjectRecord, ObjectReader)> {
        let mut last = None;
        // A body may be overwritten or moved between its look-up and its opening: look again.
        for _ in 0..MOVES_MAX {
            let record = self.object(bucket, key)?;
            record.must_be_whole(key)?;
            if let Some(body) = self.open_body(&record)? {
                let range = select_range(select, &record)?;
                let buffer = match body {
                    Body::One(ref opened) if !matches!(opened.piece, Piece::File(_)) => None,
                    _ if takes_memory => self.buffer(DOWNLOAD_BYTES).await?,
                    _ => None,
                };
                let reader = self.reader(bucket, key, &record, body, range, buffer);
                return Ok((record, reader));
            }
            if last.as_ref() == Some(&record.location) {
                // The row of a part set is the index's; the bytes may well be there.
                if !matches!(record.location, Location::Parts(_)) {
                    self.quarantine(bucket.id, key, &record, MISSING).await;
                }
                break;
            }
            last = Some(record.location);
        }
        tracing::error!(%key, MISSING);
        Err(Error::new(ErrorKind::ObjectCorrupt, MISSING))
    }

    fn reader(
        self: &Arc<Self>,
        bucket: &BucketRecord,
        key: &ObjectKey,
        record: &ObjectRecord,
        body: Body,
        range: Range<u64>,
        buffer: Buffer,
    ) -> ObjectReader {
        let is_whole = range == (0..record.size) && !range.is_empty();
        ObjectReader {
            info: info(key.clone(), record),
            source: Source {
                service: self.clone(),
                bucket: bucket.id,
                record: record.clone(),
            },
            is_sampled: is_whole && self.is_sampled(),
            sampled: None,
            body,
            at: range.start,
            range,
            ahead: None,
            first: None,
            _buffer: buffer,
        }
    }

    /// Whether the sum of this whole read is computed on top of those of its blocks.
    fn is_sampled(&self) -> bool {
        let rate = self.verify_sample_rate;
        rate > 0.0 && f64::from(self.env.random_u32()) < rate * f64::from(u32::MAX)
    }

    /// The body, or `None` when it is no longer where the record says.
    fn open_body(&self, record: &ObjectRecord) -> Result<Option<Body>> {
        let Location::Parts(set) = &record.location else {
            let piece = Piece::open(&*self.meta, &*self.blobs, &record.location, record.size)?;
            return Ok(piece.map(|piece| {
                Body::One(Opened {
                    range: 0..record.size,
                    piece,
                    sum: WholeSum::of_object(record),
                })
            }));
        };
        let hold = self.meta.hold_parts(set.id)?;
        Ok(hold.map(|hold| {
            Body::Parts(Box::new(Parts {
                meta: self.meta.clone(),
                blobs: self.blobs.clone(),
                set: set.clone(),
                open: None,
                _hold: hold,
            }))
        }))
    }
}

/// The bytes that are asked for.
pub(crate) fn select_range(select: Select, record: &ObjectRecord) -> Result<Range<u64>> {
    let whole = 0..record.size;
    let part = match (select, &record.location) {
        (Select::Whole, _) => return Ok(whole),
        (Select::Range(range), _) => return range.resolve(record.size),
        (Select::Part(number), Location::Parts(set)) => set.range_of(number),
        (Select::Part(number), _) => Some(whole).filter(|_| number == 1),
    };
    part.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidPartNumber,
            "The requested partnumber is not satisfiable: the object has no such part.",
        )
    })
}

enum Body {
    One(Opened),
    Parts(Box<Parts>),
}

/// A body that is opened part by part.
struct Parts {
    meta: Arc<dyn MetaStore>,
    blobs: Arc<dyn BlobStore>,
    set: PartSet,
    /// The part that was read last.
    open: Option<Opened>,
    _hold: Box<dyn Hold>,
}

impl Parts {
    fn piece_at(&mut self, at: u64) -> Result<Opened> {
        match &self.open {
            Some(opened) if opened.range.contains(&at) => Ok(opened.clone()),
            _ => {
                let opened = Opened::part(&*self.meta, &*self.blobs, &self.set, at)?;
                self.open = Some(opened.clone());
                Ok(opened)
            }
        }
    }
}

/// Streams the body of one GET. Every byte that it gives has been checked.
pub struct ObjectReader {
    info: ObjectInfo,
    source: Source,
    /// This read is one of those that are checked twice.
    is_sampled: bool,
    /// The sum of the piece that is being read then.
    sampled: Option<WholeSummer>,
    body: Body,
    range: Range<u64>,
    at: u64,
    /// The next chunk of a file, being read while the last one is sent.
    ahead: Option<JoinHandle<std::io::Result<Bytes>>>,
    /// The first chunk, when it was asked for beforehand.
    first: Option<Bytes>,
    _buffer: Buffer,
}

/// What a reader came for, to be put into quarantine when its body turns out to be damaged.
struct Source {
    service: Arc<Service>,
    bucket: BucketId,
    record: ObjectRecord,
}

impl ObjectReader {
    /// The object, as of the moment it was opened.
    pub fn info(&self) -> &ObjectInfo {
        &self.info
    }

    /// The bytes that come, half-open.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Turns to other bytes of the same object, as it was when it was opened: the next chunk is the first of these.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRange`] when there are none.
    pub fn select(&mut self, range: ByteRange) -> Result<()> {
        self.range = range.resolve(self.info.size)?;
        self.at = self.range.start;
        (self.ahead, self.first) = (None, None);
        (self.is_sampled, self.sampled) = (false, None);
        Ok(())
    }

    /// Reads the first chunk, so that damage there is an error now and not a body that breaks off later.
    pub async fn prepare(&mut self) -> Result<()> {
        if self.first.is_none() {
            self.first = self.read_on().await?;
        }
        Ok(())
    }

    /// The next chunk, at most [`CHUNK_BYTES`]; `None` at the end. After an error the body is not to be
    /// trusted any further: cut the connection.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.read_on().await,
        }
    }

    async fn read_on(&mut self) -> Result<Option<Bytes>> {
        if self.at == self.range.end {
            return Ok(None);
        }
        match self.read_chunk().await {
            Ok(chunk) => {
                self.at += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// A disk that could not read may be able to do so later; bytes that are not what was put are damage.
    async fn failed(&self, error: Error) -> Error {
        let key = &self.info.key;
        if error.kind() != ErrorKind::ObjectCorrupt {
            tracing::error!(%key, %error, "the body of an object could not be read");
            return Error::new(error.kind(), "The body of the object could not be read.")
                .with_source(error);
        }
        let Source {
            service,
            bucket,
            record,
        } = &self.source;
        let reason = std::error::Error::source(&error)
            .map_or_else(|| error.context().to_owned(), |source| source.to_string());
        service.quarantine(*bucket, key, record, &reason).await;
        Error::new(error.kind(), "The body of the object is damaged.").with_source(error)
    }

    async fn read_chunk(&mut self) -> Result<Bytes> {
        let opened = match &mut self.body {
            Body::One(opened) => opened.clone(),
            Body::Parts(parts) => parts.piece_at(self.at)?,
        };
        let chunk = self.read_piece(&opened).await?;
        if self.is_sampled {
            let mut summer = self.sampled.take().unwrap_or_else(|| opened.sum.begin());
            summer.update(&chunk);
            // Before the last bytes go out, so that nobody takes the body for whole.
            match self.at + chunk.len() as u64 == opened.range.end {
                true => summer.must_be(&opened.sum)?,
                false => self.sampled = Some(summer),
            }
        }
        Ok(chunk)
    }

    async fn read_piece(&mut self, opened: &Opened) -> Result<Bytes> {
        let (whole, piece) = (&opened.range, opened.piece.clone());
        // Chunks end at multiples of their length within a piece, so that blocks are read once.
        let end = self.range.end.min(whole.end) - whole.start;
        let chunk_at = |at: u64| at..(at + 1).next_multiple_of(CHUNK_BYTES as u64).min(end);
        let wanted = chunk_at(self.at - whole.start);
        match piece {
            Piece::Empty | Piece::Inline(_) => piece.read(whole.end - whole.start, wanted),
            Piece::File(reader) => {
                let then = wanted.end;
                let now = self.ahead.take();
                let now = now.unwrap_or_else(|| read(reader.clone(), wanted));
                let chunk = now.await.map_err(|error| {
                    Error::new(ErrorKind::InternalError, "A task of the store failed.")
                        .with_source(error)
                })?;
                if then < end && chunk.is_ok() {
                    self.ahead = Some(read(reader, chunk_at(then)));
                }
                Ok(chunk?)
            }
        }
    }
}

fn read(reader: Arc<dyn BlobReader>, range: Range<u64>) -> JoinHandle<std::io::Result<Bytes>> {
    tokio::task::spawn_blocking(move || reader.read(range))
}
