//! The two bodies of a request: the one that a front reads, and the one that it answers with.
//!
//! Made by [`super::connection`] around each request. They count bytes for the log and tell the connection
//! when it waits for its peer.

use std::{
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

/// The body of a request. While it stands still for the progress timeout, the connection is cut; a front
/// that wants to answer that has to be faster.
pub struct RequestBody {
    body: Incoming,
    link: Link,
    bytes: Arc<AtomicU64>,
    ended: bool,
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
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let mut state = self.link.lock();
        if polled.is_pending() {
            state.body_waits.get_or_insert_with(Instant::now);
            return Poll::Pending;
        }
        state.body_waits = None;
        drop(state);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Poll::Ready(None) => self.ended = true,
            _ => {}
        }
        polled
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
        // hyper asks for more when it has sent what it had.
        self.record.taken();
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
