//! One connection: the handshake, then frame after frame.
//!
//! Requests are done one after another. Answers gather until there is nothing more to read, so a client that sends many
//! requests at once gets their answers at once. Deadlines are the listener's, as for all fronts.

use std::{io, net::IpAddr, sync::atomic::Ordering};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use jay_engine::{Caller, ErrorKind, ObjectReader};
use jay_wire::{
    DecodeError, EncodeError, Header, Message as _, Operation, Ping, Status,
    bucket::*,
    frame::HEADER_BYTES,
    handshake::{Credentials, HELLO_BYTES, Hello, VERSION, Welcome},
    list::ListObjects,
    multipart::*,
    object::{DeleteObject, GetObject, HeadObject, PutObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    time::{Instant, timeout},
};
use zeroize::Zeroizing;

use super::{
    Call, Native,
    body::{Body, Broken},
    bucket,
    error::Error,
    list, multipart, object,
};
use crate::{
    limits,
    listener::{Io, Link, Phase, Record, RequestContext, Shared},
};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;
/// Answers that gather before they are sent all the same, in bytes.
const GATHERED_BYTES_MAX: usize = 64 << 10;
/// Most data of a refused request that is read before the answer; with more the connection ends behind the answer.
pub(super) const SKIPPED_BYTES_MAX: u64 = 10 << 20;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The socket failed.
    #[error("the connection is lost: {0}")]
    Lost(#[from] io::Error),
    /// The peer left in the middle of a request.
    #[error("the peer left in the middle of a request")]
    Left,
    /// Nobody knows where the next frame would begin.
    #[error("a frame is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// The handshake was refused.
    #[error("the handshake was refused")]
    NotWelcome,
    /// The access key of the connection is of no more use.
    #[error("the access key was revoked or has expired")]
    Revoked,
    /// A request was refused whose data would be too long to be skipped.
    #[error("the data of a refused request is too long")]
    Unread,
    /// The body that was being sent is damaged.
    #[error("the body of an object is damaged")]
    Damaged,
}

/// Serves one connection to its end.
pub(super) async fn serve(io: Io, peer: IpAddr, shared: &Shared<Native>) -> Result<(), End> {
    let session = Session {
        peer,
        link: io.link().clone(),
        shared,
    };
    let mut wire = Wire {
        io,
        input: BytesMut::new(),
        output: BytesMut::new(),
        stop: shared.stop.clone(),
    };
    let mut stop = shared.stop.clone();
    let shaken = timeout(
        shared.limits.handshake_timeout,
        session.shake_hands(&mut wire),
    );
    let caller = tokio::select! {
        caller = shaken => caller.map_err(io::Error::from)??,
        // Nothing is under way yet that would be worth waiting for.
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    session.link.lock().enter(Phase::Idle);
    while let Some((header, metadata)) = wire.request().await? {
        session
            .request(&caller, &mut wire, header, metadata)
            .await?;
    }
    wire.flush().await
}

/// What the requests of one connection have in common.
struct Session<'a> {
    peer: IpAddr,
    link: Link,
    shared: &'a Shared<Native>,
}

/// What a request is answered with.
enum Answer {
    Metadata(Vec<u8>),
    Object(Vec<u8>, Box<ObjectReader>),
}

impl Session<'_> {
    /// Who calls, once that is proven.
    async fn shake_hands(&self, wire: &mut Wire) -> Result<Caller, End> {
        let mut fixed = [0; HELLO_BYTES];
        wire.io.read_exact(&mut fixed).await?;
        // Who speaks another protocol gets no answer of this one.
        let hello = Hello::parse(&fixed)?;
        if hello.version != VERSION {
            return self.turn_away(wire, Welcome::VersionMismatch).await;
        }
        let mut credentials = Zeroizing::new(vec![0; hello.credentials_bytes.into()]);
        wire.io.read_exact(&mut credentials).await?;
        let front = &self.shared.front;
        front.must_be_private(self.peer, wire.io.is_tls());
        let caller = match Credentials::parse(&credentials) {
            Ok(it) => front.engine.bearer(&it.token_id, &it.secret).await,
            Err(error) => Err(jay_engine::Error::new(
                ErrorKind::AccessDenied,
                error.to_string(),
            )),
        };
        match caller {
            Ok(caller) => {
                wire.output.extend_from_slice(&Welcome::Accepted.to_bytes());
                wire.flush().await?;
                Ok(caller.at_address(self.peer))
            }
            Err(error) => {
                let refused = Error::from(error);
                let mut record = self.record();
                record.context.operation = "Handshake";
                record.context.auth_failed = true;
                record.context.error_code = Some(refused.code());
                record.answered(refused.http_status());
                record.complete();
                // Its line is in the log before its answer is out, as those of requests are.
                drop(record);
                self.turn_away(wire, Welcome::Refused).await
            }
        }
    }

    async fn turn_away(&self, wire: &mut Wire, welcome: Welcome) -> Result<Caller, End> {
        self.shared.metrics.handshake_failed();
        wire.output.extend_from_slice(&welcome.to_bytes());
        wire.flush().await?;
        wire.io.shutdown().await?;
        Err(End::NotWelcome)
    }

    fn record(&self) -> Record {
        // The same log line as of all fronts: what stands for the method tells that it came in here.
        let method = http::Method::from_bytes(b"NATIVE").expect("letters are a method");
        let from = (self.peer, self.peer);
        Record::new(method, String::new(), from, self.shared, self.link.clone())
    }

    /// Does one request and answers it.
    async fn request(
        &self,
        caller: &Caller,
        wire: &mut Wire,
        header: Header,
        metadata: Bytes,
    ) -> Result<(), End> {
        let mut record = self.record();
        self.link.lock().request_begins(self.peer);
        record.context.token_id = Some(caller.token_id().to_owned());
        let mut body = Body::new(wire, header.data_bytes);
        let done = match self.admit(caller, &header) {
            Ok(()) => {
                let call = Call {
                    engine: &self.shared.front.engine,
                    caller,
                };
                let context = &mut record.context;
                perform(&call, header.code, &metadata, &mut body, context).await
            }
            Err(refused) => Err(Broken::Refused(refused)),
        };
        let left = body.left();
        record.context.bytes_in = header.data_bytes - left;
        match done {
            Ok(answer) => self.answer(wire, header.stream_id, answer, record).await,
            Err(Broken::Ended(end)) => Err(end),
            Err(Broken::Refused(error)) => {
                if left <= SKIPPED_BYTES_MAX {
                    body.skip().await?;
                }
                self.refuse(wire, header.stream_id, &error, record).await?;
                if left > SKIPPED_BYTES_MAX {
                    wire.part().await?;
                    return Err(End::Unread);
                }
                match self.shared.front.engine.must_be_usable(caller.token_id()) {
                    Ok(()) => Ok(()),
                    Err(_) => {
                        wire.part().await?;
                        Err(End::Revoked)
                    }
                }
            }
        }
    }

    /// Lets a request in, unless its access key is of no more use, sends too many, or this one is too long.
    fn admit(&self, caller: &Caller, header: &Header) -> Result<(), Error> {
        let front = &self.shared.front;
        let token_id = caller.token_id();
        if front.engine.must_be_usable(token_id).is_err() {
            return Err(Error::new(ErrorKind::AccessDenied, ""));
        }
        let payer = limits::Caller::Token(token_id.to_owned());
        front
            .limiter
            .check(payer)
            .map_err(|_| Error::rate_limited())?;
        match front.settings.request_bytes_max {
            Some(most) if header.data_bytes > most => Err(Error::new(
                ErrorKind::EntityTooLarge,
                &format!(
                    "The data of a request has at most {most} bytes here (JAY_REQUEST_BYTES_MAX)."
                ),
            )),
            _ => Ok(()),
        }
    }

    async fn answer(
        &self,
        wire: &mut Wire,
        stream_id: u32,
        answer: Answer,
        mut record: Record,
    ) -> Result<(), End> {
        let (metadata, reader) = match answer {
            Answer::Metadata(metadata) => (metadata, None),
            Answer::Object(metadata, reader) => (metadata, Some(reader)),
        };
        let header = Header {
            code: Status::Ok as u8,
            stream_id,
            metadata_bytes: metadata.len() as u32,
            data_bytes: reader.as_ref().map_or(0, |reader| reader.info().size),
        };
        record.answered(StatusCode::OK);
        wire.put(&header.to_bytes()).await?;
        wire.put(&metadata).await?;
        if let Some(mut reader) = reader {
            loop {
                match reader.next().await {
                    Ok(Some(bytes)) => {
                        record.sent(bytes.len() as u64);
                        wire.put(&bytes).await?;
                        record.taken();
                    }
                    Ok(None) => break,
                    // Its length was told already: whoever waits for the rest sees the end of the connection.
                    Err(_) => return Err(End::Damaged),
                }
            }
        }
        record.complete();
        Ok(())
    }

    async fn refuse(
        &self,
        wire: &mut Wire,
        stream_id: u32,
        error: &Error,
        mut record: Record,
    ) -> Result<(), End> {
        record.context.error_code = Some(error.code());
        record.answered(error.http_status());
        let metadata = error.refusal().to_bytes().unwrap_or_default();
        let header = Header {
            code: error.status() as u8,
            stream_id,
            metadata_bytes: metadata.len() as u32,
            data_bytes: 0,
        };
        wire.put(&header.to_bytes()).await?;
        wire.put(&metadata).await?;
        record.complete();
        Ok(())
    }
}

/// Runs the operation of this code.
async fn perform(
    call: &Call<'_>,
    code: u8,
    metadata: &[u8],
    body: &mut Body<'_>,
    context: &mut RequestContext,
) -> Result<Answer, Broken> {
    /// What was asked for, which the log tells too.
    fn parse<O: Operation>(
        metadata: &[u8],
        context: &mut RequestContext,
    ) -> Result<O, DecodeError> {
        context.operation = O::NAME;
        let asked = O::parse(metadata)?;
        let (bucket, key) = asked.resource();
        context.bucket = bucket.map(str::to_owned);
        context.key = key.map(str::to_owned);
        context.show();
        Ok(asked)
    }
    macro_rules! operations {
        (with data { $($bulk:ident => $bulk_handler:path,)+ } without { $($plain:ident => $handler:path,)+ }) => {
            match code {
                $($bulk::CODE => {
                    let asked: $bulk = parse(metadata, context)?;
                    let answer = $bulk_handler(call, asked, body).await?;
                    Ok(Answer::Metadata(answer.to_bytes()?))
                })+
                GetObject::CODE => {
                    body.skip_meaningless().await?;
                    let asked: GetObject = parse(metadata, context)?;
                    let (info, reader) = object::get_object(call, asked).await?;
                    Ok(Answer::Object(info.to_bytes()?, Box::new(reader)))
                }
                $($plain::CODE => {
                    body.skip_meaningless().await?;
                    let asked: $plain = parse(metadata, context)?;
                    let answer = $handler(call, asked).await?;
                    Ok(Answer::Metadata(answer.to_bytes()?))
                })+
                _ => Err(Error::unknown_operation().into()),
            }
        };
    }
    operations! {
        with data {
            PutObject => object::put_object,
            UploadPart => multipart::upload_part,
        } without {
            CreateBucket => bucket::create_bucket,
            DeleteBucket => bucket::delete_bucket,
            HeadBucket => bucket::head_bucket,
            ListBuckets => bucket::list_buckets,
            HeadObject => object::head_object,
            DeleteObject => object::delete_object,
            ListObjects => list::list_objects,
            CreateMultipartUpload => multipart::create_multipart_upload,
            CompleteMultipartUpload => multipart::complete_multipart_upload,
            AbortMultipartUpload => multipart::abort_multipart_upload,
            ListParts => multipart::list_parts,
            Ping => ping,
        }
    }
}

async fn ping(_: &Call<'_>, _: Ping) -> Result<jay_wire::Empty, Error> {
    Ok(jay_wire::Empty)
}

impl From<EncodeError> for Broken {
    fn from(error: EncodeError) -> Self {
        tracing::error!(%error, "an answer has no form in version 1 of the protocol");
        let why = format!("The answer has no form in version 1 of the protocol: {error}.");
        Self::Refused(Error::new(ErrorKind::InternalError, &why))
    }
}

impl Native {
    /// Tells the log, once, of a secret that crossed a network in clear.
    fn must_be_private(&self, peer: IpAddr, is_tls: bool) {
        if is_tls || peer.is_loopback() || self.has_warned.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(
            %peer,
            "version 1 of the native protocol sends the secret of the access key in clear: use TLS beyond this machine"
        );
    }
}

/// Bytes in and out.
pub(super) struct Wire {
    io: Io,
    input: BytesMut,
    output: BytesMut,
    stop: watch::Receiver<bool>,
}

impl Wire {
    /// The next request, up to its data; `None` when the peer has left in order or the server stops.
    async fn request(&mut self) -> Result<Option<(Header, Bytes)>, End> {
        while self.input.len() < HEADER_BYTES {
            self.flush().await?;
            let mut stop = self.stop.clone();
            let read = tokio::select! {
                biased;
                read = fill(&mut self.io, &mut self.input) => read?,
                _ = stop.wait_for(|stop| *stop) => return Ok(None),
            };
            match (read, self.input.is_empty()) {
                (0, true) => return Ok(None),
                (0, false) => return Err(End::Left),
                _ => {}
            }
        }
        let header = self.input.split_to(HEADER_BYTES);
        let header = Header::parse(header.first_chunk().ok_or(End::Left)?)?;
        let metadata_bytes = header.metadata_bytes as usize;
        while self.input.len() < metadata_bytes {
            self.flush().await?;
            if fill(&mut self.io, &mut self.input).await? == 0 {
                return Err(End::Left);
            }
        }
        Ok(Some((header, self.input.split_to(metadata_bytes).freeze())))
    }

    /// Some of the next `most` bytes of data, at least one.
    pub(super) async fn data(&mut self, most: u64) -> Result<Bytes, End> {
        if self.input.is_empty() {
            self.flush().await?;
            let link = self.io.link().clone();
            link.lock().body_waits = Some(Instant::now());
            let read = fill(&mut self.io, &mut self.input).await?;
            link.lock().body_waits = None;
            if read == 0 {
                return Err(End::Left);
            }
        }
        let count = self
            .input
            .len()
            .min(usize::try_from(most).unwrap_or(usize::MAX));
        Ok(self.input.split_to(count).freeze())
    }

    /// Sends bytes, soon.
    async fn put(&mut self, bytes: &[u8]) -> Result<(), End> {
        if self.output.len() + bytes.len() <= GATHERED_BYTES_MAX {
            self.output.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush().await?;
        self.io.write_all(bytes).await?;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), End> {
        if !self.output.is_empty() {
            self.io.write_all(&self.output).await?;
            self.output.clear();
        }
        self.io.flush().await?;
        Ok(())
    }

    /// Ends the connection so that the peer gets what was sent, even if it is still sending itself.
    async fn part(&mut self) -> Result<(), End> {
        self.flush().await?;
        self.io.link().lock().body_unread = true;
        self.io.shutdown().await?;
        Ok(())
    }
}

/// Reads what there is; 0 when the peer has left.
async fn fill(io: &mut Io, input: &mut BytesMut) -> io::Result<usize> {
    input.reserve(READ_BYTES);
    io.read_buf(input).await
}
