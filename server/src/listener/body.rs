//! The two bodies of a request: the one that a front reads, and the one that it answers with.
//!
//! Made by [`super::connection`] around each request. They count bytes for the log and tell the connection
//! when it waits for its peer.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{connection::Link, record::Record};

/// The body of a request, with a deadline on its progress.
pub struct RequestBody {
    body: Incoming,
    link: Link,
    bytes: Arc<AtomicU64>,
    ended: bool,
}

/// Why a body could not be read to its end.
#[derive(Debug)]
pub enum BodyError {
    /// The peer went away, or what it sent is not HTTP.
    Broken(hyper::Error),
    /// The peer sent nothing for too long.
    Stalled,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "the body broke off: {error}"),
            Self::Stalled => f.write_str("the body stalled"),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broken(error) => Some(error),
            Self::Stalled => None,
        }
    }
}

impl RequestBody {
    pub(super) fn new(body: Incoming, link: Link, bytes: Arc<AtomicU64>) -> Self {
        let ended = body.is_end_stream();
        Self {
            body,
            link,
            bytes,
            ended,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let mut state = self.link.lock();
        if polled.is_pending() {
            let since = *state.body_waits.get_or_insert_with(Instant::now);
            if since + state.progress_timeout > Instant::now() {
                return Poll::Pending;
            }
            return Poll::Ready(Some(Err(BodyError::Stalled)));
        }
        state.body_waits = None;
        drop(state);
        match ready!(polled) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(BodyError::Broken(error)))),
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state.body_waits = None;
        state.body_unread |= !self.ended && !self.body.is_end_stream();
    }
}

/// The body of an answer; its end writes the request's log line.
pub struct AnswerBody<B> {
    body: Pin<Box<B>>,
    /// Bytes that are still to come, when the front knew how many.
    left: Option<u64>,
    record: Record,
}

impl<B: Body<Data = Bytes>> AnswerBody<B> {
    pub(super) fn new(body: B, record: Record) -> Self {
        let left = body.size_hint().exact();
        let mut answer = Self {
            body: Box::pin(body),
            left,
            record,
        };
        answer.note_end();
        answer
    }

    fn note_end(&mut self) {
        // hyper does not ask again after the last announced byte.
        if self.left == Some(0) || self.body.is_end_stream() {
            self.record.complete();
        }
    }
}

impl<B: Body<Data = Bytes>> Body for AnswerBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = ready!(self.body.as_mut().poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                let sent = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(sent));
                self.record.sent(sent);
                self.note_end();
            }
            Some(Err(_)) => {}
            None => self.record.complete(),
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
