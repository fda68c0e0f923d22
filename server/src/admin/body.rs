//! The body of an admin answer: a document, or lines of JSON that come while a long job runs.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use serde::Serialize;
use tokio::sync::mpsc;

/// Lines that wait for a slow reader; more wait in the job.
const LINES_MAX: usize = 64;

/// See the module.
pub enum Body {
    /// A whole document.
    Full(Bytes),
    /// One line after the other.
    Lines(mpsc::Receiver<Bytes>),
}

/// Where a job writes its lines.
pub struct Lines(mpsc::Sender<Bytes>);

impl Body {
    /// A body of lines, and where to write them.
    pub fn lines() -> (Lines, Self) {
        let (sender, receiver) = mpsc::channel(LINES_MAX);
        (Lines(sender), Self::Lines(receiver))
    }
}

impl Lines {
    /// Sends a line from a thread that may wait.
    pub fn send(&self, line: &impl Serialize) {
        let _ = self.0.blocking_send(encode(line));
    }

    /// Sends a line unless the reader is behind. False when nobody reads any more.
    pub fn offer(&self, line: &impl Serialize) -> bool {
        !matches!(
            self.0.try_send(encode(line)),
            Err(mpsc::error::TrySendError::Closed(_))
        )
    }
}

fn encode(line: &impl Serialize) -> Bytes {
    let mut bytes = serde_json::to_vec(line).expect("what we write is JSON");
    bytes.push(b'\n');
    bytes.into()
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Lines(receiver) => receiver
                .poll_recv(context)
                .map(|line| line.map(|line| Ok(Frame::data(line)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Lines(_) => SizeHint::default(),
        }
    }
}
