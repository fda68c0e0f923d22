//! Pieces of bodies: bytes that lie together, in the log or in a file. Readers and upkeep open bodies through this.

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    blob::{BlobReader, BlobStore},
    error::{Error, ErrorKind, Result},
    meta::{
        InlineBody, MetaReader,
        key::{BlobId, Key},
        record::{Location, ObjectRecord, PartSet, Record},
    },
};

/// How often a body may move away between its look-up and its opening before something is wrong.
pub(crate) const MOVES_MAX: usize = 100;

/// Bytes that lie together.
#[derive(Clone)]
pub(crate) enum Piece {
    Empty,
    Inline(Arc<InlineBody>),
    File(Arc<dyn BlobReader>),
}

/// By what all bytes of a piece are told from others, on top of the sums of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WholeSum {
    /// SHA-256, as most have it.
    Sha256([u8; 32]),
    /// CRC64-NVME, where that was left out.
    Crc64(u64),
}

impl WholeSum {
    pub(crate) fn of_object(object: &ObjectRecord) -> Self {
        match object.sha256 {
            Some(sha256) => Self::Sha256(sha256),
            None => Self::Crc64(object.crc64),
        }
    }

    /// Begins to compute the same sum.
    pub(crate) fn begin(&self) -> WholeSummer {
        match self {
            Self::Sha256(_) => WholeSummer::Sha256(Sha256::new()),
            Self::Crc64(_) => {
                let crc64 = crc_fast::CrcAlgorithm::Crc64Nvme;
                WholeSummer::Crc64(crc_fast::Digest::new(crc64))
            }
        }
    }
}

/// One under way.
pub(crate) enum WholeSummer {
    Sha256(Sha256),
    Crc64(crc_fast::Digest),
}

impl WholeSummer {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(sha256) => sha256.update(bytes),
            Self::Crc64(crc64) => crc64.update(bytes),
        }
    }

    /// Refuses a piece whose bytes came to another sum.
    pub(crate) fn must_be(self, expected: &WholeSum) -> Result<()> {
        let sum = match self {
            Self::Sha256(sha256) => WholeSum::Sha256(sha256.finalize().into()),
            Self::Crc64(crc64) => WholeSum::Crc64(crc64.finalize()),
        };
        let name = match expected {
            same if *same == sum => return Ok(()),
            WholeSum::Sha256(_) => "SHA-256",
            WholeSum::Crc64(_) => "CRC64-NVME",
        };
        let why = format!("The {name} of the body is not that of what was put.");
        Err(Error::new(ErrorKind::ObjectCorrupt, why))
    }
}

/// A piece, which bytes of the body it has, and their sum.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) range: Range<u64>,
    pub(crate) piece: Piece,
    pub(crate) sum: WholeSum,
}

impl Piece {
    /// Opens what `location` says; `None` when it is not there (any more).
    pub(crate) fn open(
        meta: &dyn MetaReader,
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

    /// Reads `range` of its `size` bytes, every block that it touches checked.
    pub(crate) fn read(&self, size: u64, range: Range<u64>) -> Result<Bytes> {
        match self {
            Piece::Empty if range.is_empty() => Ok(Bytes::new()),
            Piece::Empty => Err(Error::new(
                ErrorKind::ObjectCorrupt,
                "The object has no body.",
            )),
            Piece::Inline(body) => Ok(body.read(size, range)?),
            Piece::File(reader) => Ok(reader.read(range)?),
        }
    }

    /// Whether it is as long as its `size` bytes want, without reading them.
    pub(crate) fn check_length(&self, size: u64) -> io::Result<()> {
        match self {
            Piece::Empty => Ok(()),
            Piece::Inline(body) => body.check_length(size),
            Piece::File(reader) => reader.check_length(),
        }
    }

    /// The same, with all that is kept with a body.
    pub(crate) fn check_end(&self, size: u64) -> io::Result<()> {
        match self {
            Piece::File(reader) => reader.check_end(),
            _ => self.check_length(size),
        }
    }
}

impl Opened {
    /// Opens the part of an object that holds byte `at`.
    pub(crate) fn part(
        meta: &dyn MetaReader,
        blobs: &dyn BlobStore,
        set: &PartSet,
        at: u64,
    ) -> Result<Opened> {
        if let Some((number, range)) = set.part_at(at) {
            let row = Key::Part(set.id, number);
            let mut last = None;
            // The collector may be moving it.
            for _ in 0..MOVES_MAX {
                let Some(Record::Part(part)) = meta.get(&row)? else {
                    break;
                };
                let piece = Piece::open(meta, blobs, &part.location, part.size)?;
                if let Some(piece) = piece.filter(|_| part.size == range.end - range.start) {
                    let sum = WholeSum::Sha256(part.sha256);
                    return Ok(Opened { range, piece, sum });
                }
                if last.as_ref() == Some(&part.location) {
                    break;
                }
                last = Some(part.location);
            }
        }
        Err(Error::new(
            ErrorKind::ObjectCorrupt,
            "A part of the object is missing.",
        ))
    }
}

fn open_blob(blobs: &dyn BlobStore, id: BlobId, size: u64) -> Result<Option<Arc<dyn BlobReader>>> {
    match blobs.open(id, size) {
        Ok(reader) => Ok(Some(reader)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
