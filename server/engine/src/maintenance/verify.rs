//! Checks a body against what was put: chunk by chunk, so that the caller sets the pace.

use crate::{
    blob::BlobStore,
    error::{Error, ErrorKind, Result},
    meta::{
        Hold, MetaReader,
        record::{Location, ObjectRecord, PartRecord, PartSet},
    },
    piece::{Opened, Piece, WholeSum, WholeSummer},
    service::CHUNK_BYTES,
};

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The bytes are there, and as many as there should be.
    Length,
    /// Every block has its CRC, and all together their SHA-256, or CRC64-NVME where that was left out.
    Bytes,
}

/// What a step of a check came to. Damage is an error of [`ErrorKind::ObjectCorrupt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes are good; there are more.
    More(u64),
    /// So many bytes are good, and they were the last ones.
    Done(u64),
}

/// One body that is being checked.
pub struct BodyCheck {
    depth: Depth,
    /// What stands behind the bytes of a file is looked at too, which reading them does not need.
    checks_ends: bool,
    body: Body,
    size: u64,
    at: u64,
    /// The piece that is being read, and the sum of its bytes so far.
    open: Option<(Opened, WholeSummer)>,
}

enum Body {
    One(Location, WholeSum),
    Parts(PartSet, Option<Box<dyn Hold>>),
}

impl BodyCheck {
    /// A check of the body of an object.
    pub fn of_object(record: &ObjectRecord, depth: Depth) -> Self {
        let body = match &record.location {
            Location::Parts(set) => Body::Parts(set.clone(), None),
            one => Body::One(one.clone(), WholeSum::of_object(record)),
        };
        Self::new(body, record.size, depth)
    }

    /// A check of the body of a part.
    pub fn of_part(record: &PartRecord, depth: Depth) -> Self {
        let body = Body::One(record.location.clone(), WholeSum::Sha256(record.sha256));
        Self::new(body, record.size, depth)
    }

    fn new(body: Body, size: u64, depth: Depth) -> Self {
        Self {
            depth,
            checks_ends: false,
            body,
            size,
            at: 0,
            open: None,
        }
    }

    /// Looks at the ends of files too. One that is damaged is no reason to keep an object from its readers, but no
    /// backup takes it.
    pub fn with_ends(mut self) -> Self {
        self.checks_ends = true;
        self
    }

    /// Checks the next chunk, or with [`Depth::Length`] the next piece.
    pub fn step(&mut self, meta: &dyn MetaReader, blobs: &dyn BlobStore) -> Result<Progress> {
        if self.at == self.size {
            return Ok(Progress::Done(0));
        }
        if self.open.is_none() {
            let opened = self.open_next(meta, blobs)?;
            let summer = opened.sum.begin();
            self.open = Some((opened, summer));
            if self.checks_ends || self.depth == Depth::Length {
                self.check_length()?;
            }
        }
        let checked = match self.depth {
            Depth::Length => self.piece_bytes(),
            Depth::Bytes => self.check_chunk()?,
        };
        self.at += checked;
        let is_piece_done = |opened: &Opened| self.at == opened.range.end;
        if let Some((opened, summer)) = self.open.take_if(|(opened, _)| is_piece_done(opened))
            && self.depth == Depth::Bytes
        {
            summer.must_be(&opened.sum)?;
        }
        Ok(match self.at == self.size {
            true => Progress::Done(checked),
            false => Progress::More(checked),
        })
    }

    fn open_next(&mut self, meta: &dyn MetaReader, blobs: &dyn BlobStore) -> Result<Opened> {
        match &mut self.body {
            Body::One(location, sum) => {
                let piece = Piece::open(meta, blobs, location, self.size)?;
                let piece = piece.ok_or_else(missing)?;
                Ok(Opened {
                    range: 0..self.size,
                    piece,
                    sum: *sum,
                })
            }
            Body::Parts(set, hold) => {
                if hold.is_none() {
                    // Without its row the set may be gone with the object: that is for the caller to see.
                    *hold = meta.hold_parts(set.id)?;
                }
                Opened::part(meta, blobs, set, self.at)
            }
        }
    }

    fn piece_bytes(&self) -> u64 {
        let (opened, _) = self.open.as_ref().expect("just opened");
        opened.range.end - opened.range.start
    }

    fn check_length(&self) -> Result<()> {
        let (opened, _) = self.open.as_ref().expect("just opened");
        let bytes = self.piece_bytes();
        let checked = match self.checks_ends {
            true => opened.piece.check_end(bytes),
            false => opened.piece.check_length(bytes),
        };
        Ok(checked?)
    }

    fn check_chunk(&mut self) -> Result<u64> {
        let (opened, summer) = self.open.as_mut().expect("just opened");
        let Opened { range, piece, .. } = opened;
        let size = range.end - range.start;
        let from = self.at - range.start;
        let chunk = piece.read(size, from..(from + CHUNK_BYTES as u64).min(size))?;
        summer.update(&chunk);
        Ok(chunk.len() as u64)
    }
}

/// Reads the whole body of an object; [`ErrorKind::ObjectCorrupt`] when it is not what was put.
pub fn check_object(
    meta: &dyn MetaReader,
    blobs: &dyn BlobStore,
    record: &ObjectRecord,
) -> Result<()> {
    let mut check = BodyCheck::of_object(record, Depth::Bytes);
    while let Progress::More(_) = check.step(meta, blobs)? {}
    Ok(())
}

fn missing() -> Error {
    Error::new(
        ErrorKind::ObjectCorrupt,
        "The body of the object is missing.",
    )
}
