//! The body of an answer: nothing, a small document, or an object that streams out of the engine.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use jay_engine::{Error, ErrorKind, ObjectReader};

use crate::planted::{self, Fault};

/// The body of an answer; an error in it makes hyper cut the connection.
pub struct Body(Kind);

enum Kind {
    Full(Bytes),
    Object(Box<Stream<ObjectReader>>),
}

impl Body {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self::full(Bytes::new())
    }

    /// A document.
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self(Kind::Full(bytes))
    }

    /// What is left in the reader of an object.
    pub(crate) fn object(reader: ObjectReader) -> Self {
        let range = reader.range();
        let stream = Stream::new(reader, range.end - range.start);
        Self(Kind::Object(Box::new(stream)))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.get_mut().0 {
            Kind::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Object(stream) => stream
                .poll_next(context)
                .map(|next| next.map(|chunk| chunk.map(|chunk| Frame::data(as_sent(chunk))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.0 {
            Kind::Full(bytes) => bytes.len() as u64,
            Kind::Object(stream) => stream.left,
        })
    }
}

/// The chunk itself, but for a planted fault.
fn as_sent(chunk: Bytes) -> Bytes {
    if !planted::is(Fault::FlippedBit) {
        return chunk;
    }
    let mut wrong = chunk.to_vec();
    wrong.iter_mut().take(1).for_each(|byte| *byte ^= 1);
    wrong.into()
}

/// Something that hands out verified chunks; a trait only so that the stream can be tested without a store.
pub(crate) trait Chunks: Send + Sized + 'static {
    /// The next chunk, `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send;
}

impl Chunks for ObjectReader {
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send {
        ObjectReader::next(self)
    }
}

/// A reader with the read that is under way.
struct Stream<R> {
    state: State<R>,
    /// Bytes that were promised and have not been handed out.
    left: u64,
}

enum State<R> {
    Idle(R),
    Reading(Reading<R>),
    Ended,
}

type Reading<R> = Pin<Box<dyn Future<Output = (R, Result<Option<Bytes>, Error>)> + Send>>;

impl<R: Chunks> Stream<R> {
    fn new(reader: R, bytes: u64) -> Self {
        Self {
            state: State::Idle(reader),
            left: bytes,
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Idle(_) if self.left == 0 => return Poll::Ready(None),
                State::Idle(mut reader) => {
                    self.state = State::Reading(Box::pin(async move {
                        let next = reader.next().await;
                        (reader, next)
                    }));
                }
                State::Reading(mut reading) => {
                    let Poll::Ready((reader, next)) = reading.as_mut().poll(context) else {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    };
                    let chunk = match next {
                        Ok(Some(chunk)) if chunk.len() as u64 <= self.left => chunk,
                        Ok(_) => return Poll::Ready(Some(Err(wrong_length()))),
                        Err(error) => {
                            tracing::error!(%error, "an object broke off while it was read");
                            return Poll::Ready(Some(Err(error)));
                        }
                    };
                    self.left -= chunk.len() as u64;
                    self.state = State::Idle(reader);
                    return Poll::Ready(Some(Ok(chunk)));
                }
            }
        }
    }
}

fn wrong_length() -> Error {
    tracing::error!("an object has another length than its record");
    Error::new(
        ErrorKind::InternalError,
        "The object has another length than its record.",
    )
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::poll_fn};

    use super::*;

    struct Fake(VecDeque<Result<Bytes, Error>>);

    impl Chunks for Fake {
        async fn next(&mut self) -> Result<Option<Bytes>, Error> {
            tokio::task::yield_now().await;
            self.0.pop_front().transpose()
        }
    }

    async fn read(chunks: Vec<Result<&'static str, Error>>, bytes: u64) -> (String, bool) {
        let chunks = chunks.into_iter().map(|chunk| chunk.map(Bytes::from));
        let mut stream = Stream::new(Fake(chunks.collect()), bytes);
        let mut text = String::new();
        while let Some(chunk) = poll_fn(|context| stream.poll_next(context)).await {
            match chunk {
                Ok(chunk) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
                Err(_) => return (text, false),
            }
        }
        (text, true)
    }

    #[tokio::test]
    async fn chunks_come_in_order() {
        assert_eq!(
            read(vec![Ok("ab"), Ok("c")], 3).await,
            ("abc".to_owned(), true)
        );
        assert_eq!(read(vec![], 0).await, (String::new(), true));
    }

    #[tokio::test]
    async fn errors_and_wrong_lengths_end_in_an_error() {
        let broken = Error::new(ErrorKind::InternalError, "The disk broke.");
        assert_eq!(
            read(vec![Ok("ab"), Err(broken)], 3).await,
            ("ab".to_owned(), false)
        );
        assert_eq!(read(vec![Ok("ab")], 3).await, ("ab".to_owned(), false));
        assert_eq!(
            read(vec![Ok("ab"), Ok("cd")], 3).await,
            ("ab".to_owned(), false)
        );
    }

    #[test]
    fn bodies_may_move_between_threads() {
        fn must_be_send<T: Send>() {}
        must_be_send::<Body>();
    }
}
