//! What every operation goes through: a request is sent, by whichever lane its body needs, and sent again where that is
//! safe; its answer is taken apart and checked.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jay_wire::{
    Call, ErrorCode, Failure, Operation, Reply, Tagged,
    body::{CHUNK_BYTES_MAX, Crc64},
    call,
    object::Stored,
    server::{OpenSession, SessionInfo},
    v2::{Frame, Status},
};
use tracing::{Instrument, Span};

use crate::{
    body::{Body, Pieces},
    bulk::Piece,
    config::Config,
    error::{Error, ErrorKind, Result},
    pool::{Lane, Pool, Way},
    retry::{Attempts, Budget, Safety},
    session::{Place, Sessions},
    v1,
};

/// What may be said with every request.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOptions {
    /// Names it in the logs of both sides.
    pub(crate) request_id: Option<String>,
    /// After so long nobody waits for the answer any more.
    pub(crate) timeout: Option<Duration>,
}

impl CallOptions {
    fn envelope(&self, place: Option<&Place<'_>>) -> Call {
        Call {
            session: place.map(Place::envelope),
            request_id: self.request_id.clone().unwrap_or_default(),
            deadline_ms: self.timeout.map_or(0, |timeout| {
                u32::try_from(timeout.as_millis())
                    .unwrap_or(u32::MAX)
                    .max(1)
            }),
            ..Call::default()
        }
    }
}

/// What all handles of a client share.
pub(crate) struct Core {
    pub(crate) pool: Arc<Pool>,
    budget: Budget,
    sessions: Sessions,
}

/// An answer, and the body behind it.
pub(crate) struct Response<A> {
    pub(crate) told: A,
    pub(crate) body: Incoming,
}

/// A body on its way in.
pub(crate) enum Incoming {
    /// It has come; with its CRC64-NVME, if that was checked.
    Whole(Bytes, Option<u64>),
    /// It comes.
    Following(Box<Download>),
    /// It comes by version 1.
    Raw(Box<v1::Download>),
}

/// A body that comes in chunks.
pub(crate) struct Download {
    lane: Lane,
    size: Option<u64>,
    crc64: Crc64,
    received: u64,
    verify: bool,
    is_over: bool,
}

impl Core {
    pub(crate) fn new(config: Config) -> Result<Self> {
        let budget = Budget::new(&config.options);
        let pool = Arc::new(Pool::new(Arc::new(config))?);
        Ok(Self {
            pool,
            budget,
            sessions: Sessions::default(),
        })
    }

    pub(crate) fn config(&self) -> &Config {
        self.pool.config()
    }

    /// How often a request may be sent, and its place in a session, if it is to have one.
    async fn begin(&self, safety: Safety) -> Result<(Attempts<'_>, Option<Place<'_>>)> {
        let place = match safety {
            // Version 1 has none.
            Safety::InSession if self.is_v1() => None,
            Safety::InSession => self.sessions.place(self.open_session()).await?,
            Safety::Repeatable | Safety::Once => None,
        };
        let safety = match (safety, &place) {
            (Safety::InSession, None) => Safety::Once,
            (safety, _) => safety,
        };
        let attempts = Attempts::new(&self.config().options, &self.budget, safety);
        Ok((attempts, place))
    }

    /// A session on the server; `None` where it has none.
    async fn open_session(&self) -> Result<Option<SessionInfo>> {
        let options = CallOptions::default();
        // It asks for none itself, but the compiler cannot know.
        let asked = Box::pin(self.ask(&OpenSession {}, Safety::Repeatable, &options));
        match asked.await {
            Ok(told) => Ok(Some(told)),
            // Said by a server that speaks this version, not of the version.
            Err(error) if error.kind() == ErrorKind::Unsupported && error.s3_code().is_some() => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks something that has no body, either way.
    pub(crate) async fn ask<O: Operation + Sync>(
        &self,
        asked: &O,
        safety: Safety,
        options: &CallOptions,
    ) -> Result<O::Answer> {
        Ok(self.read(asked, safety, options).await?.told)
    }

    /// Asks something whose answer may have a body.
    pub(crate) async fn read<O: Operation + Sync>(
        &self,
        asked: &O,
        safety: Safety,
        options: &CallOptions,
    ) -> Result<Response<O::Answer>> {
        let work = async {
            let (mut attempts, mut place) = self.begin(safety).await?;
            loop {
                let metadata = match self.is_v1() {
                    true => v1::request(asked, options)?,
                    false => call::request(asked, &options.envelope(place.as_ref()))?,
                };
                match self.read_once::<O>(&metadata).await {
                    Ok(response) => return Ok(response),
                    Err(error) => {
                        let error = self.noted(error, &mut place).await?;
                        attempts.pause(error).await?;
                    }
                }
            }
        };
        within(options.timeout, work)
            .instrument(span(asked, options))
            .await
            .map_err(|error| error.about(O::NAME, asked.resource()))
    }

    /// What a failure says of the session: the next attempt is not the first, unless this one was certainly not done.
    async fn noted<'a>(&'a self, error: Error, place: &mut Option<Place<'a>>) -> Result<Error> {
        let Some(here) = place else {
            return Ok(error);
        };
        if error.kind() == ErrorKind::OutcomeUnknown {
            here.is_unknown();
            if !here.is_again() {
                // The first attempt, in a session that was forgotten: another one will do.
                *place = self.sessions.place(self.open_session()).await?;
                return Ok(error.undone());
            }
        }
        if !error.is_undone() {
            here.comes_again();
        }
        Ok(error)
    }

    /// Asks something whose answer has a body, and takes that into memory: no more than `most` bytes of it.
    pub(crate) async fn read_all<O: Operation + Sync>(
        &self,
        asked: &O,
        most: u64,
        options: &CallOptions,
    ) -> Result<(O::Answer, Bytes)> {
        let work = async {
            let metadata = match self.is_v1() {
                true => v1::request(asked, options)?,
                false => call::request(asked, &options.envelope(None))?,
            };
            let (mut attempts, _) = self.begin(Safety::Repeatable).await?;
            loop {
                let once = async {
                    let response = self.read_once::<O>(&metadata).await?;
                    Ok((response.told, response.body.all(most).await?))
                };
                match once.await {
                    Ok(all) => return Ok(all),
                    Err(error) => attempts.pause(error).await?,
                }
            }
        };
        within(options.timeout, work)
            .instrument(span(asked, options))
            .await
            .map_err(|error| error.about(O::NAME, asked.resource()))
    }

    async fn read_once<O: Operation>(&self, metadata: &[u8]) -> Result<Response<O::Answer>> {
        if self.is_v1() {
            return self.read_v1::<O>(metadata).await;
        }
        let shared = self.pool.shared().await?;
        let frame = shared.ask(O::CODE, metadata, &Bytes::new()).await?;
        if frame.code != Status::UseBulk as u8 {
            let (told, reply) = parsed::<O>(&frame)?;
            let body = self.whole(reply, frame.data)?;
            return Ok(Response { told, body });
        }
        let mut lane = self.pool.lane(Way::Down).await?;
        let frame = lane.bulk().ask(O::CODE, metadata, &Bytes::new()).await?;
        self.answered::<O>(lane, frame)
    }

    /// Takes an answer of a lane apart; whoever reads its body keeps the lane.
    fn answered<O: Operation>(&self, mut lane: Lane, frame: Frame) -> Result<Response<O::Answer>> {
        let (told, reply) = match parsed::<O>(&frame) {
            Ok(parsed) => parsed,
            Err(error) => {
                if frame.code == Status::Failed as u8 {
                    lane.bulk().is_done();
                }
                return Err(error);
            }
        };
        if let Some(head) = reply.body.as_ref().filter(|body| body.follows) {
            let download = Download {
                size: head.size,
                lane,
                crc64: Crc64::default(),
                received: 0,
                verify: self.config().options.verify,
                is_over: false,
            };
            let body = Incoming::Following(Box::new(download));
            return Ok(Response { told, body });
        }
        lane.bulk().is_done();
        let body = self.whole(reply, frame.data)?;
        Ok(Response { told, body })
    }

    fn whole(&self, reply: Reply, data: Bytes) -> Result<Incoming> {
        let Some(head) = reply.body else {
            return match data.is_empty() {
                true => Ok(Incoming::Whole(data, None)),
                false => Err(Error::protocol("A body has no sums.")),
            };
        };
        if head.follows {
            return Err(Error::protocol("A body follows where none can."));
        }
        if !self.config().options.verify {
            return Ok(Incoming::Whole(data, None));
        }
        head.check(&data)?;
        Ok(Incoming::Whole(data, head.crc64))
    }

    /// Asks something that has a body.
    pub(crate) async fn write<O: Operation<Answer = Stored> + Sync>(
        &self,
        asked: &O,
        body: Body,
        safety: Safety,
        options: &CallOptions,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Stored> {
        let work = async {
            let (mut attempts, mut place) = self.begin(safety).await?;
            let mut body = body;
            loop {
                let is_replayable = body.is_replayable();
                let pieces = body.pieces().await?;
                let sent = self.write_once(asked, pieces, (options, place.as_ref()), progress);
                match sent.await {
                    Ok(answer) => return Ok(answer),
                    Err(error) if !is_replayable => return Err(error),
                    Err(error) => {
                        let error = self.noted(error, &mut place).await?;
                        attempts.pause(error).await?;
                    }
                }
            }
        };
        within(options.timeout, work)
            .instrument(span(asked, options))
            .await
            .map_err(|error| error.about(O::NAME, asked.resource()))
    }

    async fn write_once<O: Operation<Answer = Stored>>(
        &self,
        asked: &O,
        mut pieces: Pieces,
        (options, place): (&CallOptions, Option<&Place<'_>>),
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Stored> {
        if self.is_v1() {
            return self.write_v1(asked, pieces, options, progress).await;
        }
        let envelope = options.envelope(place);
        let short = pieces
            .at_hand()
            .filter(|data| data.len() <= CHUNK_BYTES_MAX);
        if let Some(data) = short
            && let shared = self.pool.shared().await?
            && data.len() as u64 <= shared.inline_bytes_max()
        {
            let head = call::Body::whole(&data);
            let metadata = call::request(
                asked,
                &Call {
                    body: Some(head),
                    ..envelope
                },
            )?;
            let frame = shared.ask(O::CODE, &metadata, &data).await?;
            let (told, _) = parsed::<O>(&frame)?;
            progress(data.len() as u64);
            return Ok(told);
        }
        let head = call::Body::following(pieces.size());
        let metadata = call::request(
            asked,
            &Call {
                body: Some(head),
                ..envelope
            },
        )?;
        let mut lane = self.pool.lane(Way::Up).await?;
        let frame = lane
            .bulk()
            .upload(O::CODE, &metadata, &mut pieces, progress)
            .await?;
        let (told, _) = parsed::<O>(&frame)?;
        lane.bulk().is_done();
        Ok(told)
    }
}

/// What an answer tells.
fn parsed<O: Operation>(frame: &Frame) -> Result<(O::Answer, Reply)> {
    match Status::of_code(frame.code) {
        Some(Status::Ok) => {
            let reply = Reply::from_metadata(frame.metadata()?)?;
            Ok((O::Answer::from_metadata(frame.metadata()?)?, reply))
        }
        Some(Status::Failed) => {
            let reply = Reply::from_metadata(frame.metadata()?)?;
            let failure = Failure::from_metadata(frame.metadata()?)?;
            Err(Error::of_server(failure, reply.request_id))
        }
        Some(Status::UseBulk) => Err(Error::protocol(
            "The server sends a request from one lane to the other.",
        )),
        None => Err(Error::protocol(format!(
            "The server answers with a status that is none: {}.",
            frame.code
        ))),
    }
}

/// What comes of some work, unless it takes too long.
/// What the events of a request have in common.
fn span<O: Operation>(asked: &O, options: &CallOptions) -> Span {
    let (bucket, key) = asked.resource();
    let request_id = options.request_id.as_deref();
    tracing::debug_span!("request", operation = O::NAME, bucket, key, request_id)
}

pub(crate) async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match limit {
        None => work.await,
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let message =
                format!("It took longer than {limit:?}; whether it was done is not known.");
            Err(Error::new(ErrorKind::Timeout, message))
        }),
    }
}

impl Incoming {
    /// How many bytes it has, as far as that was told.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::Whole(bytes, _) => Some(bytes.len() as u64),
            Self::Following(download) => download.size,
            Self::Raw(download) => Some(download.size()),
        }
    }

    /// CRC64-NVME of the `received` bytes that it has given, if it is checked.
    pub(crate) fn crc64(&self) -> Option<u64> {
        match self {
            Self::Whole(_, crc64) => *crc64,
            Self::Following(download) => download.verify.then(|| download.crc64.value()),
            Self::Raw(_) => None,
        }
    }

    /// Whether its end has come, right or wrong.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Self::Whole(..) => true,
            Self::Following(download) => download.is_over,
            // No word follows the last byte there.
            Self::Raw(_) => true,
        }
    }

    /// The next piece, checked; `None` at the end, when all was checked.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Whole(bytes, _) => {
                let bytes = std::mem::take(bytes);
                Ok((!bytes.is_empty()).then_some(bytes))
            }
            Self::Following(download) => download.next().await,
            Self::Raw(download) => download.next().await,
        }
    }
}

impl Download {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.is_over {
            return Ok(None);
        }
        match self.lane.bulk().piece(self.verify).await? {
            Piece::Chunk(data) => {
                self.received += data.len() as u64;
                if self.verify {
                    self.crc64.update(&data);
                }
                Ok(Some(data))
            }
            Piece::End(end) => {
                self.is_over = true;
                self.lane.bulk().is_done();
                if let Some(failure) = end.failure {
                    return Err(Error::of_server(failure, String::new()));
                }
                let is_whole =
                    end.size == self.received && (!self.verify || end.crc64 == self.crc64.value());
                match is_whole {
                    true => Ok(None),
                    false => Err(Error::new(
                        ErrorCode::ChecksumMismatch,
                        "The body that has come is not the one that was stored.",
                    )),
                }
            }
        }
    }
}
