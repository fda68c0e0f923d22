//! Bodies on their way out: bytes, files, and streams of any length.

use std::{fmt, io, path::PathBuf, pin::Pin};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt},
};

use crate::{
    bulk::Source,
    error::{Error, ErrorKind, Result},
};

/// Bytes that are read from a file or a reader at once.
const PIECE_BYTES: usize = 256 << 10;

/// A body to be stored.
///
/// ```
/// use jay_client::Body;
/// let bytes = Body::from("text");
/// assert_eq!(bytes.size(), Some(4));
/// let stream = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from("some"))]);
/// assert_eq!(Body::from_stream(stream, None).size(), None);
/// ```
pub struct Body(Kind);

enum Kind {
    Bytes(Bytes),
    File {
        path: PathBuf,
        offset: u64,
        size: u64,
    },
    Stream {
        stream: Pieces,
        size: Option<u64>,
    },
    /// A stream that was taken already.
    Gone,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({:?} bytes)", self.size())
    }
}

impl Body {
    /// A stream of pieces; of `size` bytes, if that is known. It can be sent once: a request with it is not sent again.
    pub fn from_stream<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
        size: Option<u64>,
    ) -> Self {
        let stream = stream.map(|piece| piece.map_err(|error| io::Error::other(error.into())));
        Self(Kind::Stream {
            stream: Pieces {
                kind: Pulled::Stream(Box::pin(stream)),
                size,
            },
            size,
        })
    }

    /// All that a reader gives; of `size` bytes, if that is known.
    pub fn from_reader(reader: impl AsyncRead + Send + 'static, size: Option<u64>) -> Self {
        Self(Kind::Stream {
            stream: Pieces {
                kind: Pulled::Reader(Box::pin(reader)),
                size,
            },
            size,
        })
    }

    /// A file, as it is when it is sent.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn from_path(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let size = tokio::fs::metadata(&path).await?.len();
        Ok(Self(Kind::File {
            path,
            offset: 0,
            size,
        }))
    }

    /// Some of a file.
    pub(crate) fn of_file(path: PathBuf, offset: u64, size: u64) -> Self {
        Self(Kind::File { path, offset, size })
    }

    /// How many bytes it has, if that is known.
    pub fn size(&self) -> Option<u64> {
        match &self.0 {
            Kind::Bytes(bytes) => Some(bytes.len() as u64),
            Kind::File { size, .. } => Some(*size),
            Kind::Stream { size, .. } => *size,
            Kind::Gone => None,
        }
    }

    /// Whether it can be sent again.
    pub(crate) fn is_replayable(&self) -> bool {
        matches!(self.0, Kind::Bytes(_) | Kind::File { .. })
    }

    /// Its bytes from the first one on.
    pub(crate) async fn pieces(&mut self) -> Result<Pieces> {
        match std::mem::replace(&mut self.0, Kind::Gone) {
            Kind::Bytes(bytes) => {
                self.0 = Kind::Bytes(bytes.clone());
                Ok(Pieces {
                    size: Some(bytes.len() as u64),
                    kind: Pulled::Bytes(bytes),
                })
            }
            Kind::File { path, offset, size } => {
                let opened = opened(&path, offset)
                    .await
                    .map_err(|error| unreadable(&error));
                self.0 = Kind::File { path, offset, size };
                let kind = Pulled::Reader(Box::pin(opened?.take(size)));
                Ok(Pieces {
                    kind,
                    size: Some(size),
                })
            }
            Kind::Stream { stream, .. } => Ok(stream),
            Kind::Gone => Err(Error::new(
                ErrorKind::InvalidArgument,
                "The body was sent already.",
            )),
        }
    }
}

async fn opened(path: &std::path::Path, offset: u64) -> io::Result<File> {
    use tokio::io::AsyncSeekExt as _;
    let mut file = File::open(path).await?;
    file.seek(io::SeekFrom::Start(offset)).await?;
    Ok(file)
}

fn unreadable(error: &io::Error) -> Error {
    let message = format!("The body cannot be read: {error}.");
    Error::new(ErrorKind::InvalidArgument, message)
}

macro_rules! from_bytes {
    ($($type:ty)+) => {$(
        impl From<$type> for Body {
            fn from(bytes: $type) -> Self {
                Self(Kind::Bytes(bytes.into()))
            }
        }
    )+};
}
from_bytes! { Bytes Vec<u8> String &'static str &'static [u8] }

/// A body that is being sent.
pub(crate) struct Pieces {
    kind: Pulled,
    size: Option<u64>,
}

enum Pulled {
    Bytes(Bytes),
    Reader(Pin<Box<dyn AsyncRead + Send>>),
    Stream(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>),
}

impl Pieces {
    /// How many bytes there are, if that is known.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    /// All of it, when it is in memory.
    pub(crate) fn at_hand(&self) -> Option<Bytes> {
        match &self.kind {
            Pulled::Bytes(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}

impl Source for Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        match &mut self.kind {
            Pulled::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                Ok((!bytes.is_empty()).then_some(bytes))
            }
            Pulled::Reader(reader) => {
                let mut piece = BytesMut::with_capacity(PIECE_BYTES);
                // Whole pieces: a frame each.
                while piece.len() < PIECE_BYTES {
                    let read = reader.read_buf(&mut piece).await;
                    if read.map_err(|error| unreadable(&error))? == 0 {
                        break;
                    }
                }
                Ok((!piece.is_empty()).then(|| piece.freeze()))
            }
            Pulled::Stream(stream) => match stream.next().await {
                None => Ok(None),
                Some(piece) => Ok(Some(piece.map_err(|error| unreadable(&error))?)),
            },
        }
    }
}
