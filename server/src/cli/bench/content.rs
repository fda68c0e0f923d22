//! Bodies that cost nothing to make and little to check: slices of one pool of random bytes.
//!
//! A body is named by an id and a size. Each of its blocks lies at an offset of the pool that follows from id and block
//! number, so that a stale, swapped, shifted or torn body differs from the expected one, wherever the fault is.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use sha2::{Digest, Sha256};

use super::parse::{Random, scramble};
use crate::cli::sign::hex;

const POOL_BYTES: u64 = 4 << 20;
/// A body is contiguous in memory within each block.
pub const BLOCK_BYTES: u64 = 256 << 10;

static POOL: LazyLock<Bytes> = LazyLock::new(|| {
    let mut random = Random::new(0x6a61_792d_706f_6f6c);
    (0..POOL_BYTES / 8)
        .flat_map(|_| random.next().to_le_bytes())
        .collect()
});

/// A body, known by id and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Which body.
    pub id: u64,
    /// Its size in bytes.
    pub size: u64,
}

impl Content {
    /// The bytes from `position` to the end of their block; empty at the end of the body.
    pub fn chunk(self, position: u64) -> Bytes {
        let (block, within) = (position / BLOCK_BYTES, position % BLOCK_BYTES);
        let length = (BLOCK_BYTES - within).min(self.size.saturating_sub(position));
        let offset = scramble(self.id ^ scramble(block)) % (POOL_BYTES - BLOCK_BYTES) + within;
        POOL.slice(offset as usize..(offset + length) as usize)
    }

    /// SHA-256 in hex.
    pub fn sha256(self) -> String {
        let mut digest = Sha256::new();
        let mut position = 0;
        while position < self.size {
            let chunk = self.chunk(position);
            digest.update(&chunk);
            position += chunk.len() as u64;
        }
        hex(&digest.finalize())
    }
}

/// Compares a body that arrives in pieces with the one that was written.
pub struct Verifier {
    content: Content,
    position: u64,
}

impl Verifier {
    /// Expects `content`.
    pub fn new(content: Content) -> Self {
        Self {
            content,
            position: 0,
        }
    }

    /// Takes the next piece; an error names the first wrong byte.
    pub fn update(&mut self, mut piece: &[u8]) -> Result<(), String> {
        while !piece.is_empty() {
            let expected = self.content.chunk(self.position);
            if expected.is_empty() {
                return Err(format!(
                    "the body is longer than its {} bytes",
                    self.content.size
                ));
            }
            let length = expected.len().min(piece.len());
            let (now, later) = piece.split_at(length);
            if now != &expected[..length] {
                let wrong = now
                    .iter()
                    .zip(&expected)
                    .take_while(|(a, b)| a == b)
                    .count() as u64;
                let at = self.position + wrong;
                return Err(format!(
                    "byte {at} of {} is not what was written",
                    self.content.size
                ));
            }
            self.position += length as u64;
            piece = later;
        }
        Ok(())
    }

    /// Checks that nothing is missing.
    pub fn finish(self) -> Result<(), String> {
        if self.position < self.content.size {
            return Err(format!(
                "the body ends at {} of {}",
                self.position, self.content.size
            ));
        }
        Ok(())
    }
}

/// The body of a request.
#[derive(Clone, Debug)]
pub struct ContentBody {
    source: Source,
    position: u64,
}

#[derive(Clone, Debug)]
enum Source {
    Text(Bytes),
    Content(Content),
}

impl ContentBody {
    /// A body that was generated.
    pub fn new(content: Content) -> Self {
        Self {
            source: Source::Content(content),
            position: 0,
        }
    }

    /// A body as given; empty for none.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Self {
            source: Source::Text(text.into()),
            position: 0,
        }
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        match &self.source {
            Source::Text(text) => text.len() as u64,
            Source::Content(content) => content.size,
        }
    }

    /// SHA-256 in hex.
    pub fn sha256(&self) -> String {
        match &self.source {
            Source::Text(text) => hex(&Sha256::digest(text)),
            Source::Content(content) => content.sha256(),
        }
    }
}

impl Body for ContentBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let chunk = match &self.source {
            Source::Text(text) => text.clone(),
            Source::Content(content) => content.chunk(self.position),
        };
        self.position += chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.position >= self.size()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size().saturating_sub(self.position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: Content) -> Vec<u8> {
        let mut all = Vec::new();
        while (all.len() as u64) < content.size {
            all.extend_from_slice(&content.chunk(all.len() as u64));
        }
        all
    }

    fn check(content: Content, bytes: &[u8], piece: usize) -> Result<(), String> {
        let mut verifier = Verifier::new(content);
        bytes
            .chunks(piece)
            .try_for_each(|piece| verifier.update(piece))?;
        verifier.finish()
    }

    #[test]
    fn a_body_is_what_was_written_however_it_is_cut() {
        for size in [0, 1, 1024, BLOCK_BYTES, 3 * BLOCK_BYTES + 17] {
            let content = Content { id: 42, size };
            let body = bytes(content);
            for piece in [1000, 65_536, 10 << 20] {
                assert_eq!(check(content, &body, piece), Ok(()), "{size} in {piece}");
            }
        }
    }

    #[test]
    fn a_wrong_body_is_noticed() {
        let content = Content {
            id: 42,
            size: 2 * BLOCK_BYTES,
        };
        let good = bytes(content);

        let mut flipped = good.clone();
        flipped[300_000] ^= 1;
        assert_eq!(
            check(content, &flipped, 65_536),
            Err("byte 300000 of 524288 is not what was written".into())
        );

        let mut swapped = good.clone();
        swapped.rotate_left(BLOCK_BYTES as usize);
        assert!(check(content, &swapped, 65_536).is_err());
        assert!(check(content, &good[..good.len() - 1], 65_536).is_err());
        assert!(check(content, &[good.clone(), vec![0]].concat(), 65_536).is_err());

        let stale = Content {
            id: 41,
            size: content.size,
        };
        assert!(check(stale, &good, 65_536).is_err());
    }

    #[test]
    fn the_sum_of_a_generated_body_is_that_of_its_bytes() {
        let content = Content {
            id: 7,
            size: BLOCK_BYTES + 5,
        };
        assert_eq!(content.sha256(), hex(&Sha256::digest(bytes(content))));
    }
}
