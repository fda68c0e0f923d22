//! A body on its way out. Every byte that is given has been checked.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::{
    blob::{BlobReader, BlobStore},
    error::{Error, ErrorKind, Result},
    meta::{
        Hold, InlineBody, MetaStore,
        key::{BlobId, Key},
        record::{BucketRecord, Location, ObjectRecord, PartSet, Record},
    },
    service::{Buffer, CHUNK_BYTES, Service, object::info},
    types::{ObjectInfo, ObjectKey, Select},
};

/// Memory of a large body on its way out: the chunk being sent and the next one.
pub(super) const DOWNLOAD_BYTES: usize = 2 * CHUNK_BYTES;
/// How often a body may move away between its look-up and its opening before something is wrong.
pub(super) const MOVES_MAX: usize = 100;

impl Service {
    /// Opens an object as it is now. With `takes_memory` the reader has its own share of the memory for bodies.
    pub(super) async fn open_object(
        &self,
        bucket: &BucketRecord,
        key: &ObjectKey,
        select: Select,
        takes_memory: bool,
    ) -> Result<(ObjectRecord, ObjectReader)> {
        let mut last = None;
        // A body may be overwritten or moved between its look-up and its opening: look again.
        for _ in 0..MOVES_MAX {
            let record = self.object(bucket, key)?;
            if let Some(body) = self.open_body(&record)? {
                let range = select_range(select, &record)?;
                let buffer = match body {
                    Body::One(Piece::Empty | Piece::Inline(_)) => None,
                    _ if takes_memory => self.buffer(DOWNLOAD_BYTES).await?,
                    _ => None,
                };
                let reader = ObjectReader::new(info(key.clone(), &record), body, range, buffer);
                return Ok((record, reader));
            }
            if last.as_ref() == Some(&record.location) {
                break;
            }
            last = Some(record.location);
        }
        tracing::error!(%key, "the body of an object is missing");
        Err(Error::new(
            ErrorKind::InternalError,
            "The body of the object is missing.",
        ))
    }

    /// The body, or `None` when it is no longer where the record says.
    fn open_body(&self, record: &ObjectRecord) -> Result<Option<Body>> {
        let Location::Parts(set) = &record.location else {
            let piece = open_piece(&*self.meta, &*self.blobs, &record.location, record.size)?;
            return Ok(piece.map(Body::One));
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

fn open_piece(
    meta: &dyn MetaStore,
    blobs: &dyn BlobStore,
    location: &Location,
    size: u64,
) -> Result<Option<Piece>> {
    Ok(match location {
        Location::Empty | Location::Here | Location::Parts(_) => Some(Piece::Empty),
        Location::Pack { .. } => {
            let body = meta.open_inline(location)?;
            body.map(|body| Piece::Inline(Arc::new(body)))
        }
        Location::File(id) => open_blob(blobs, *id, size)?.map(Piece::File),
    })
}

fn open_blob(blobs: &dyn BlobStore, id: BlobId, size: u64) -> Result<Option<Arc<dyn BlobReader>>> {
    match blobs.open(id, size) {
        Ok(reader) => Ok(Some(reader)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Bytes that lie together.
#[derive(Clone)]
enum Piece {
    Empty,
    Inline(Arc<InlineBody>),
    File(Arc<dyn BlobReader>),
}

enum Body {
    One(Piece),
    Parts(Box<Parts>),
}

/// A body that is opened part by part.
struct Parts {
    meta: Arc<dyn MetaStore>,
    blobs: Arc<dyn BlobStore>,
    set: PartSet,
    /// The part that was read last, and which bytes of the body it has.
    open: Option<(Range<u64>, Piece)>,
    _hold: Box<dyn Hold>,
}

impl Parts {
    fn piece_at(&mut self, at: u64) -> Result<(Range<u64>, Piece)> {
        match &self.open {
            Some((range, piece)) if range.contains(&at) => Ok((range.clone(), piece.clone())),
            _ => {
                let opened = self.open_part(at)?;
                self.open = Some(opened.clone());
                Ok(opened)
            }
        }
    }

    fn open_part(&self, at: u64) -> Result<(Range<u64>, Piece)> {
        if let Some((number, range)) = self.set.part_at(at) {
            let row = Key::Part(self.set.id, number);
            // The collector may be moving it.
            for _ in 0..MOVES_MAX {
                let Some(Record::Part(part)) = self.meta.get(&row)? else {
                    break;
                };
                let piece = open_piece(&*self.meta, &*self.blobs, &part.location, part.size)?;
                if let Some(piece) = piece.filter(|_| part.size == range.end - range.start) {
                    return Ok((range, piece));
                }
            }
        }
        Err(Error::new(
            ErrorKind::InternalError,
            "A part of the object is missing.",
        ))
    }
}

/// Streams the body of one GET. Every byte that it gives has been checked.
pub struct ObjectReader {
    info: ObjectInfo,
    body: Body,
    range: Range<u64>,
    at: u64,
    /// The next chunk of a file, being read while the last one is sent.
    ahead: Option<JoinHandle<std::io::Result<Bytes>>>,
    /// The first chunk, when it was asked for beforehand.
    first: Option<Bytes>,
    _buffer: Buffer,
}

impl ObjectReader {
    fn new(info: ObjectInfo, body: Body, range: Range<u64>, buffer: Buffer) -> Self {
        Self {
            info,
            body,
            at: range.start,
            range,
            ahead: None,
            first: None,
            _buffer: buffer,
        }
    }

    /// The object, as of the moment it was opened.
    pub fn info(&self) -> &ObjectInfo {
        &self.info
    }

    /// The bytes that come, half-open.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
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
            Err(error) => {
                tracing::error!(key = %self.info.key, %error, "the body of an object is damaged");
                Err(Error::new(
                    ErrorKind::InternalError,
                    "The body of the object is damaged.",
                )
                .with_source(error))
            }
        }
    }

    async fn read_chunk(&mut self) -> Result<Bytes> {
        let (whole, piece) = match &mut self.body {
            Body::One(piece) => (0..self.info.size, piece.clone()),
            Body::Parts(parts) => parts.piece_at(self.at)?,
        };
        // Chunks end at multiples of their length within a piece, so that blocks are read once.
        let end = self.range.end.min(whole.end) - whole.start;
        let chunk_at = |at: u64| at..(at + 1).next_multiple_of(CHUNK_BYTES as u64).min(end);
        let wanted = chunk_at(self.at - whole.start);
        match piece {
            Piece::Empty => Err(Error::new(
                ErrorKind::InternalError,
                "The object has no body.",
            )),
            Piece::Inline(body) => Ok(body.read(whole.end - whole.start, wanted)?),
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
