//! A bulk connection: one request at a time, with bodies of any length in checked chunks.

use bytes::Bytes;
use jay_engine::{Caller, ErrorKind};
use jay_wire::{
    DecodeError, Problem, Tagged,
    body::{self, CHUNK_BYTES_MAX, Crc64},
    call::{self, Chunk, End as EndOfBody, GoAway, Reply},
    v2::{self, Status, kind},
};

use super::{
    Frame, INLINE_BYTES_MAX, REVOKED, note_refusal, note_success, once, protocol_failure,
    shared::{enveloped, whole},
};
use crate::{
    listener::Record,
    native::{
        body::{Body, Broken, Whole},
        connection::Session,
        error::Error,
        operation::{Answer, Outgoing, perform_once},
        wire::{End, Wire},
    },
};

/// Answers requests to the end of the connection, and says why it ends where the peer may still listen.
pub(in crate::native) async fn serve(
    session: &Session<'_>,
    caller: &Caller,
    mut wire: Wire,
) -> Result<(), End> {
    let mut last_stream = 0;
    let ended = requests(session, caller, &mut wire, &mut last_stream).await;
    let failure = match &ended {
        Ok(()) => None,
        Err(end @ (End::Malformed(_) | End::OutOfOrder(_))) => Some(protocol_failure(end)),
        Err(End::Revoked) => Some(Error::new(ErrorKind::AccessDenied, REVOKED).failure()),
        Err(_) => return ended,
    };
    let is_failure = failure.is_some();
    let word = GoAway { failure };
    put(&mut wire, kind::GO_AWAY, last_stream, &word, Bytes::new()).await?;
    match is_failure {
        true => wire.part().await?,
        false => wire.flush().await?,
    }
    ended
}

async fn requests(
    session: &Session<'_>,
    caller: &Caller,
    wire: &mut Wire,
    last_stream: &mut u32,
) -> Result<(), End> {
    while let Some(frame) = wire.frame().await? {
        match frame.code {
            // Of a request that was answered before its body had ended, or that was done when it was given up.
            kind::CHUNK | kind::END | kind::CANCEL => {}
            kind::PING => pong(wire, frame.stream_id).await?,
            kind::GO_AWAY => return Ok(()),
            code if code >= kind::PONG && code != u8::MAX => {}
            _ => {
                *last_stream = frame.stream_id;
                request(session, caller, wire, frame).await?;
                if !session.is_usable(caller) {
                    return Err(End::Revoked);
                }
            }
        }
        session.link.lock().nothing_began();
    }
    Ok(())
}

async fn pong(wire: &mut Wire, stream_id: u32) -> Result<(), End> {
    send(wire, &frame(kind::PONG, stream_id, &[], Bytes::new())?).await
}

/// Does one request and answers it.
async fn request(
    session: &Session<'_>,
    caller: &Caller,
    wire: &mut Wire,
    frame: v2::Frame,
) -> Result<(), End> {
    let stream_id = frame.stream_id;
    let mut record = session.record();
    session.link.lock().request_begins(session.peer);
    record.context.token_id = Some(caller.token_id().to_owned());
    record.context.bytes_in = frame.data.len() as u64;
    let done = perform_one(session, caller, wire, frame, &mut record).await;
    let request_id = record.context.request_id.clone();
    match done {
        Ok(answered) => answer(wire, stream_id, answered, record).await,
        Err(Broken::Ended(end)) => Err(end),
        Err(Broken::Refused(error)) => {
            note_refusal(&mut record, &error);
            send(wire, &Frame::refusal(stream_id, &error, &request_id)).await?;
            wire.flush().await?;
            record.complete();
            Ok(())
        }
    }
}

async fn perform_one(
    session: &Session<'_>,
    caller: &Caller,
    wire: &mut Wire,
    frame: v2::Frame,
    record: &mut Record,
) -> Result<Answer, Broken> {
    let metadata = frame.metadata()?;
    let envelope = call::Call::parse_checked(metadata)?;
    if !envelope.request_id.is_empty() {
        record.context.request_id.clone_from(&envelope.request_id);
    }
    let announced = envelope.body.as_ref().and_then(|body| body.size);
    let bytes = announced.unwrap_or(0).max(frame.data.len() as u64);
    session.admit(caller, bytes)?;
    let mut body = match envelope.body {
        Some(head) if head.follows => Body::Chunks(Box::new(Chunks {
            wire,
            stream_id: frame.stream_id,
            size: head.size,
            bytes_max: session.shared.front.settings.request_bytes_max,
            received: 0,
            crc64: Crc64::default(),
            told: None,
        })),
        Some(head) => {
            head.check(&frame.data)?;
            Body::Whole(Some(Whole {
                bytes: frame.data.clone(),
                crc64: head.crc64,
            }))
        }
        None if frame.data.is_empty() => Body::Whole(None),
        None => return Err(Error::data_without_body().into()),
    };
    let once = once(caller, envelope.session)?;
    let call = session.call(caller, true, once);
    let context = &mut record.context;
    let work = perform_once(&call, frame.code, metadata, &mut body, context);
    let done = match envelope.deadline_ms {
        0 => work.await,
        some => {
            let limit = std::time::Duration::from_millis(some.into());
            let done = tokio::time::timeout(limit, work).await;
            done.unwrap_or_else(|_| Err(Error::too_late().into()))
        }
    };
    if let Body::Chunks(chunks) = &body {
        record.context.bytes_in = chunks.received;
    }
    done
}

/// A body that comes in chunks. What of it is not taken is passed over when the connection reads on.
pub(in crate::native) struct Chunks<'a> {
    wire: &'a mut Wire,
    stream_id: u32,
    size: Option<u64>,
    bytes_max: Option<u64>,
    received: u64,
    crc64: Crc64,
    /// The sum of the whole, once its end has come.
    told: Option<u64>,
}

impl Chunks<'_> {
    /// How many bytes it has, if that was told.
    pub(in crate::native) fn size(&self) -> Option<u64> {
        self.size
    }

    /// The CRC64-NVME of the whole, behind its end.
    pub(in crate::native) fn crc64(&self) -> Option<u64> {
        self.told
    }

    /// The next chunk, held against its sums; `None` at the end, which was held against all that came.
    pub(in crate::native) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        if self.told.is_some() {
            return Ok(None);
        }
        loop {
            self.wire.waits_for_body(true);
            let frame = self.wire.begun_frame().await?;
            self.wire.waits_for_body(false);
            match frame.code {
                kind::PING => pong(self.wire, frame.stream_id).await?,
                kind::PONG => {}
                kind::CANCEL if frame.stream_id == self.stream_id => {
                    return Err(Error::cancelled().into());
                }
                // Of a request before this one.
                kind::CANCEL | kind::CHUNK | kind::END if frame.stream_id != self.stream_id => {}
                kind::CHUNK => return self.chunk(frame).map(Some),
                kind::END => return self.end(frame.metadata()?).map(|()| None),
                _ => return Err(End::OutOfOrder("a body has not ended").into()),
            }
        }
    }

    fn chunk(&mut self, frame: v2::Frame) -> Result<Bytes, Broken> {
        let head = Chunk::from_metadata(frame.metadata()?)?;
        let data = frame.data;
        body::check(&data, &head.sums)?;
        if data.is_empty() {
            return Err(invalid("data").into());
        }
        self.received += data.len() as u64;
        match self.bytes_max {
            Some(most) if self.received > most => return Err(Error::too_long(most).into()),
            _ => {}
        }
        self.crc64.update(&data);
        Ok(data)
    }

    fn end(&mut self, metadata: &[u8]) -> Result<(), Broken> {
        let end = EndOfBody::from_metadata(metadata)?;
        if end.failure.is_some() {
            return Err(Error::cancelled().into());
        }
        if end.size != self.received || self.size.is_some_and(|size| size != end.size) {
            return Err(invalid("size").into());
        }
        if end.crc64 != self.crc64.value() {
            let problem = Problem::Checksum;
            return Err(DecodeError {
                field: "crc64",
                problem,
            }
            .into());
        }
        self.told = Some(end.crc64);
        Ok(())
    }
}

fn invalid(field: &'static str) -> DecodeError {
    let problem = Problem::Invalid;
    DecodeError { field, problem }
}

async fn answer(
    wire: &mut Wire,
    stream_id: u32,
    answer: Answer,
    mut record: Record,
) -> Result<(), End> {
    let reply = Reply {
        request_id: record.context.request_id.clone(),
        body: None,
    };
    let ok = Status::Ok as u8;
    match answer {
        Answer::Metadata(metadata) => {
            note_success(&mut record);
            let metadata = enveloped(metadata, &reply)?;
            send(wire, &frame(ok, stream_id, &metadata, Bytes::new())?).await?;
        }
        Answer::Object(metadata, outgoing) if outgoing.size <= INLINE_BYTES_MAX as u64 => {
            let (data, body) = match whole(*outgoing).await {
                Ok(whole) => whole,
                Err(error) => {
                    note_refusal(&mut record, &error);
                    let refusal = Frame::refusal(stream_id, &error, &reply.request_id);
                    record.complete();
                    return send(wire, &refusal).await;
                }
            };
            note_success(&mut record);
            let reply = Reply {
                body: Some(body),
                ..reply
            };
            let metadata = enveloped(metadata, &reply)?;
            record.sent(data.len() as u64);
            send(wire, &frame(ok, stream_id, &metadata, data)?).await?;
            record.taken();
        }
        Answer::Object(metadata, outgoing) => {
            note_success(&mut record);
            let body = Some(call::Body::following(Some(outgoing.size)));
            let reply = Reply { body, ..reply };
            let metadata = enveloped(metadata, &reply)?;
            send(wire, &frame(ok, stream_id, &metadata, Bytes::new())?).await?;
            if !stream(wire, stream_id, *outgoing, &mut record).await? {
                return Ok(());
            }
        }
    }
    wire.flush().await?;
    record.complete();
    Ok(())
}

/// Sends a body in chunks, and its end. Whether all of it has gone.
async fn stream(
    wire: &mut Wire,
    stream_id: u32,
    mut outgoing: Outgoing,
    record: &mut Record,
) -> Result<bool, End> {
    // Of all of a body the sum that its writer gave it: what the reader computes is held against that.
    let mut sum = outgoing.crc64.is_none().then(Crc64::default);
    let mut size = 0;
    let failure = loop {
        if is_cancelled(wire, stream_id).await? {
            break Some(Error::cancelled());
        }
        match outgoing.next().await {
            Ok(Some(bytes)) => {
                for data in pieces(bytes) {
                    if let Some(sum) = &mut sum {
                        sum.update(&data);
                    }
                    size += data.len() as u64;
                    record.sent(data.len() as u64);
                    put(wire, kind::CHUNK, stream_id, &Chunk::of(&data), data).await?;
                    record.taken();
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(error.into()),
        }
    };
    let end = EndOfBody {
        size,
        crc64: outgoing
            .crc64
            .or(sum.map(|sum| sum.value()))
            .unwrap_or_default(),
        failure: failure.as_ref().map(Error::failure),
    };
    put(wire, kind::END, stream_id, &end, Bytes::new()).await?;
    wire.flush().await?;
    Ok(failure.is_none())
}

/// Bytes in pieces that fit into a frame.
fn pieces(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let piece = bytes.split_to(bytes.len().min(CHUNK_BYTES_MAX));
        (!piece.is_empty()).then_some(piece)
    })
}

/// Whether the client has given a request up whose answer is on its way; nothing is waited for.
async fn is_cancelled(wire: &mut Wire, stream_id: u32) -> Result<bool, End> {
    while let Some(frame) = wire.frame_that_has_come().await? {
        match frame.code {
            kind::PING => pong(wire, frame.stream_id).await?,
            kind::CANCEL if frame.stream_id == stream_id => return Ok(true),
            kind::PONG | kind::CANCEL | kind::CHUNK | kind::END => {}
            _ => return Err(End::OutOfOrder("an answer has not ended")),
        }
    }
    Ok(false)
}

fn frame(code: u8, stream_id: u32, metadata: &[u8], data: Bytes) -> Result<Frame, End> {
    Ok(Frame::new(code, stream_id, metadata, data)?)
}

async fn put(
    wire: &mut Wire,
    code: u8,
    stream_id: u32,
    metadata: &impl Tagged,
    data: Bytes,
) -> Result<(), End> {
    let metadata = metadata.to_metadata()?;
    send(wire, &frame(code, stream_id, &metadata, data)?).await
}

async fn send(wire: &mut Wire, frame: &Frame) -> Result<(), End> {
    wire.put(&frame.head).await?;
    wire.put(&frame.data).await
}
