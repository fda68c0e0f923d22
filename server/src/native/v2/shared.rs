//! A shared connection: many small requests at once, each answered as it finishes.
//!
//! One task does all of it. It takes what has come, lets the requests that it has begun go on, and sends the answers of
//! all that are done together, so that a wake-up pays for many. It stops reading only while it has answers to send.

use std::{collections::HashMap, future::poll_fn, io, pin::Pin, task::Poll, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt};
use jay_engine::Caller;
use jay_wire::{
    EncodeError, Tagged,
    call::{self, GoAway, Reply},
    v2::{self, STREAMS_MAX, Status, kind},
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{Semaphore, SemaphorePermit, oneshot},
    time::Instant,
};

use super::{Frame, INLINE_BYTES_MAX, REVOKED, note_refusal, note_success, once, protocol_failure};
use crate::{
    listener::{Io, Record},
    native::{
        body::{Body, Broken, Whole},
        connection::Session,
        error::Error,
        operation::{Answer, Outgoing, perform_once},
        wire::{End, READ_BYTES, Wire},
    },
};

/// Most bytes of bodies that one connection has in memory, of requests and of answers.
const BODY_BYTES_MAX: usize = 4 * INLINE_BYTES_MAX;
/// Answers that gather before they are sent all the same, in bytes.
const OUTPUT_BYTES: usize = 256 << 10;

/// Answers requests to the end of the connection.
pub(in crate::native) async fn serve(
    session: &Session<'_>,
    caller: &Caller,
    wire: Wire,
) -> Result<(), End> {
    let Wire { io, input, .. } = wire;
    let (reading, writing) = tokio::io::split(io);
    let room = Semaphore::new(BODY_BYTES_MAX);
    let mut connection = Connection {
        session,
        caller,
        room: &room,
        input,
        output: Output {
            writing,
            bytes: BytesMut::new(),
            unflushed: false,
        },
        streams: HashMap::new(),
        in_flight: FuturesUnordered::new(),
        last_stream: 0,
        leaving: None,
    };
    connection.run(reading).await
}

type InFlight<'a> = Pin<Box<dyn Future<Output = Done<'a>> + Send + 'a>>;

/// A request that is done: its answer, and the record that ends when that is on its way.
struct Done<'a> {
    stream_id: u32,
    frame: Frame,
    record: Record,
    is_done: bool,
    _room: Option<SemaphorePermit<'a>>,
}

struct Connection<'a> {
    session: &'a Session<'a>,
    caller: &'a Caller,
    room: &'a Semaphore,
    input: BytesMut,
    output: Output,
    /// Requests under way, and how to give each up.
    streams: HashMap<u32, oneshot::Sender<()>>,
    in_flight: FuturesUnordered<InFlight<'a>>,
    /// The last request that was taken.
    last_stream: u32,
    /// Nothing more is taken; why, unless that is in order, and what is said last.
    leaving: Option<(Result<(), End>, Option<Frame>)>,
}

impl<'a> Connection<'a> {
    async fn run(&mut self, mut reading: ReadHalf<Io>) -> Result<(), End> {
        let mut stop = self.session.shared.stop.clone();
        let mut stopping = false;
        loop {
            self.take_what_has_come();
            if self.in_flight.is_empty()
                && let Some((why, word)) = self.leaving.take()
            {
                self.output.extend(word);
                self.output.send_all().await?;
                self.output.writing.shutdown().await?;
                return why;
            }
            let may_gather = self.output.bytes.len() < OUTPUT_BYTES;
            tokio::select! {
                biased;
                Some(done) = self.in_flight.next(), if may_gather && !self.in_flight.is_empty() => self.answer(done),
                read = read(&mut reading, &mut self.input), if may_gather && self.may_read() => {
                    if read? == 0 {
                        self.peer_left();
                    }
                }
                sent = self.output.send_all(), if self.output.has_some() => sent?,
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    let word = self.goodbye(GoAway::default())?;
                    self.output.push(&word);
                    self.leaving.get_or_insert((Ok(()), None));
                }
            }
        }
    }

    fn may_read(&self) -> bool {
        self.leaving.is_none()
            && self.in_flight.len() < STREAMS_MAX as usize
            && self.input.len() < v2::FRAME_BYTES_MAX
    }

    /// Takes all frames that are whole.
    fn take_what_has_come(&mut self) {
        while self.leaving.is_none() && self.in_flight.len() < STREAMS_MAX as usize {
            let taken = match v2::Frame::take(&mut self.input) {
                Ok(None) => break,
                Ok(Some(frame)) => self.frame(frame),
                Err(error) => Err(error.into()),
            };
            if let Err(end) = taken {
                self.broken(end);
            }
        }
        // Part of a frame must not stand there for ever.
        let waits = !self.input.is_empty() && self.may_read();
        let mut state = self.session.link.lock();
        state.body_waits = waits.then(|| state.body_waits.unwrap_or_else(Instant::now));
        if !waits {
            state.nothing_began();
        }
    }

    fn frame(&mut self, frame: v2::Frame) -> Result<(), End> {
        let stream_id = frame.stream_id;
        match frame.code {
            // Of a body that was refused already: shared connections have none that follow.
            kind::CHUNK | kind::END => {}
            kind::CANCEL => {
                if let Some(cancel) = self.streams.remove(&stream_id) {
                    let _ = cancel.send(());
                }
            }
            kind::PING => self
                .output
                .push(&Frame::new(kind::PONG, stream_id, &[], Bytes::new())?),
            kind::GO_AWAY => self.leaving = Some((Ok(()), None)),
            // An answer to our ping, or something of a later version.
            code if code >= kind::PONG && code != u8::MAX => {}
            _ => self.begin(frame)?,
        }
        Ok(())
    }

    fn begin(&mut self, frame: v2::Frame) -> Result<(), End> {
        let (cancel, cancelled) = oneshot::channel();
        if self.streams.insert(frame.stream_id, cancel).is_some() {
            return Err(End::OutOfOrder("a stream id is in use"));
        }
        self.last_stream = frame.stream_id;
        let mut record = self.session.record();
        self.session.link.lock().request_begins(self.session.peer);
        record.context.token_id = Some(self.caller.token_id().to_owned());
        record.context.bytes_in = frame.data.len() as u64;
        let request = Request {
            session: self.session,
            caller: self.caller,
            room: self.room,
            frame,
        };
        self.in_flight
            .push(Box::pin(request.perform(record, cancelled)));
        Ok(())
    }

    fn answer(&mut self, done: Done<'a>) {
        self.streams.remove(&done.stream_id);
        let mut record = done.record;
        self.output.push(&done.frame);
        record.sent(done.frame.data.len() as u64);
        record.taken();
        record.complete();
        if !done.is_done && self.leaving.is_none() && !self.session.is_usable(self.caller) {
            let failure = Error::new(jay_engine::ErrorKind::AccessDenied, REVOKED);
            self.give_up(failure.failure(), End::Revoked);
        }
    }

    /// The peer sends no more. Between two frames it may still wait for answers; in the middle of one it is gone.
    fn peer_left(&mut self) {
        if self.input.is_empty() {
            self.leaving = Some((Ok(()), None));
            return;
        }
        self.leaving = Some((Err(End::Left), None));
        self.streams.clear();
        self.in_flight.clear();
    }

    /// The peer does not keep to the protocol: it is told, and what is under way is answered before the connection ends.
    fn broken(&mut self, end: End) {
        self.give_up(protocol_failure(&end), end);
    }

    /// Takes nothing more, and says why behind the answers of what is under way.
    fn give_up(&mut self, failure: call::Failure, end: End) {
        self.session.link.lock().body_unread = true;
        let failure = Some(failure);
        let word = self.goodbye(GoAway { failure }).ok();
        self.leaving = Some((Err(end), word));
    }

    fn goodbye(&self, word: GoAway) -> Result<Frame, EncodeError> {
        Frame::new(
            kind::GO_AWAY,
            self.last_stream,
            &word.to_metadata()?,
            Bytes::new(),
        )
    }
}

/// One request of a shared connection.
struct Request<'a> {
    session: &'a Session<'a>,
    caller: &'a Caller,
    room: &'a Semaphore,
    frame: v2::Frame,
}

impl<'a> Request<'a> {
    /// Does it, unless it is given up before.
    async fn perform(self, mut record: Record, cancelled: oneshot::Receiver<()>) -> Done<'a> {
        let stream_id = self.frame.stream_id;
        let metadata = self.frame.metadata();
        let envelope = match metadata.and_then(|metadata| call::Call::parse_checked(metadata)) {
            Ok(envelope) => envelope,
            Err(error) => return refused(stream_id, error.into(), record),
        };
        if !envelope.request_id.is_empty() {
            record.context.request_id.clone_from(&envelope.request_id);
        }
        let deadline = envelope.deadline_ms;
        let work = self.answer(envelope.body, envelope.session, &mut record);
        let done = tokio::select! {
            biased;
            done = within(deadline, work) => done,
            Ok(()) = cancelled => Err(Error::cancelled()),
        };
        match done {
            Ok((frame, room)) => {
                note_success(&mut record);
                Done {
                    stream_id,
                    frame,
                    record,
                    is_done: true,
                    _room: room,
                }
            }
            Err(error) => refused(stream_id, error, record),
        }
    }

    async fn answer(
        self,
        body: Option<call::Body>,
        place: Option<call::Session>,
        record: &mut Record,
    ) -> Result<(Frame, Option<SemaphorePermit<'a>>), Error> {
        let (stream_id, data) = (self.frame.stream_id, &self.frame.data);
        self.session.admit(self.caller, data.len() as u64)?;
        let mut body = match body {
            Some(head) if head.follows => return Ok((use_bulk(stream_id)?, None)),
            Some(head) => {
                head.check(data)?;
                Body::Whole(Some(Whole {
                    bytes: data.clone(),
                    crc64: head.crc64,
                }))
            }
            None if data.is_empty() => Body::Whole(None),
            None => return Err(Error::data_without_body()),
        };
        let once = once(self.caller, place)?;
        let call = self.session.call(self.caller, true, once);
        let context = &mut record.context;
        let metadata = self.frame.metadata()?;
        let done = perform_once(&call, self.frame.code, metadata, &mut body, context).await;
        let reply = Reply {
            request_id: record.context.request_id.clone(),
            body: None,
        };
        match done {
            Ok(Answer::Metadata(metadata)) => {
                let metadata = enveloped(metadata, &reply)?;
                Ok((
                    Frame::new(Status::Ok as u8, stream_id, &metadata, Bytes::new())?,
                    None,
                ))
            }
            Ok(Answer::Object(_, outgoing)) if outgoing.size > INLINE_BYTES_MAX as u64 => {
                Ok((use_bulk(stream_id)?, None))
            }
            Ok(Answer::Object(metadata, outgoing)) => {
                // Waits for others' answers to be sent, which waits for nobody but the peer.
                let room = self.room.acquire_many(outgoing.size as u32).await.ok();
                let (data, body) = whole(*outgoing).await?;
                let metadata = enveloped(
                    metadata,
                    &Reply {
                        body: Some(body),
                        ..reply
                    },
                )?;
                Ok((
                    Frame::new(Status::Ok as u8, stream_id, &metadata, data)?,
                    room,
                ))
            }
            Err(Broken::Refused(error)) => Err(error),
            Err(Broken::Ended(_)) => {
                unreachable!("the body was there, and no other ends a shared connection")
            }
        }
    }
}

async fn within<T>(
    milliseconds: u32,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match milliseconds {
        0 => work.await,
        some => {
            let limit = Duration::from_millis(some.into());
            let done = tokio::time::timeout(limit, work).await;
            done.unwrap_or_else(|_| Err(Error::too_late()))
        }
    }
}

fn refused<'a>(stream_id: u32, error: Error, mut record: Record) -> Done<'a> {
    note_refusal(&mut record, &error);
    let frame = Frame::refusal(stream_id, &error, &record.context.request_id);
    Done {
        stream_id,
        frame,
        record,
        is_done: false,
        _room: None,
    }
}

fn use_bulk(stream_id: u32) -> Result<Frame, EncodeError> {
    Frame::new(Status::UseBulk as u8, stream_id, &[], Bytes::new())
}

/// Metadata with the envelope around them.
pub(super) fn enveloped(mut metadata: Vec<u8>, reply: &Reply) -> Result<Vec<u8>, EncodeError> {
    reply.write(&mut metadata);
    Ok(metadata)
}

/// All of a short body, and its head.
pub(super) async fn whole(mut outgoing: Outgoing) -> Result<(Bytes, call::Body), Error> {
    let first = outgoing.next().await?.unwrap_or_default();
    let data = match outgoing.size as usize == first.len() {
        true => first,
        false => {
            let mut all = BytesMut::with_capacity(outgoing.size as usize);
            all.extend_from_slice(&first);
            while let Some(bytes) = outgoing.next().await? {
                all.extend_from_slice(&bytes);
            }
            all.freeze()
        }
    };
    let head = call::Body {
        sums: jay_wire::body::sums(&data),
        crc64: Some(
            outgoing
                .crc64
                .unwrap_or_else(|| jay_wire::body::crc64(&data)),
        ),
        ..call::Body::default()
    };
    Ok((data, head))
}

/// Reads what there is; 0 when the peer has left.
async fn read(reading: &mut ReadHalf<Io>, input: &mut BytesMut) -> io::Result<usize> {
    input.reserve(READ_BYTES);
    reading.read_buf(input).await
}

/// Answers that are to go.
struct Output {
    writing: WriteHalf<Io>,
    bytes: BytesMut,
    unflushed: bool,
}

impl Output {
    fn push(&mut self, frame: &Frame) {
        self.bytes.extend_from_slice(&frame.head);
        self.bytes.extend_from_slice(&frame.data);
    }

    fn extend(&mut self, frame: Option<Frame>) {
        frame.iter().for_each(|frame| self.push(frame));
    }

    fn has_some(&self) -> bool {
        !self.bytes.is_empty() || self.unflushed
    }

    /// Sends them. May be given up at any point, and goes on there when it is called again.
    async fn send_all(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            while !self.bytes.is_empty() {
                match Pin::new(&mut self.writing).poll_write(cx, &self.bytes) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(sent)) => {
                        self.bytes.advance(sent);
                        self.unflushed = true;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            let flushed = Pin::new(&mut self.writing).poll_flush(cx);
            self.unflushed = flushed.is_pending();
            flushed
        })
        .await
    }
}
