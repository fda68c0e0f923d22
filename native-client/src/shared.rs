//! A shared connection: many small requests at once, each answered as it finishes.
//!
//! One task reads and writes for all. Whoever asks puts its request behind those that wait to be sent and is woken by its
//! answer; the task never waits for either, so nothing that an application does can stop it.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use jay_wire::{
    Tagged,
    call::GoAway,
    v2::{self, Frame, kind},
};
use tokio::{
    io::AsyncWrite,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, Sleep, timeout},
};

use crate::{
    connection::{Dialed, Io, fill, is_behind},
    error::{Error, ErrorKind, Result},
    options::Options,
};

/// After so long without a byte from a server that owes none it is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(15);

/// Handle on a shared connection; cheap to clone.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Link>);

struct Link {
    state: Mutex<State>,
    /// Requests that may still be sent before others are answered.
    places: Arc<Semaphore>,
    /// How long one waits for its place.
    pool_timeout: Duration,
    inline_bytes_max: u64,
    /// It takes no more requests.
    is_leaving: AtomicBool,
}

struct State {
    output: BytesMut,
    /// Those whose answers have not come.
    streams: HashMap<u32, Asked>,
    last_stream: u32,
    driver: Option<Waker>,
    is_closed: bool,
}

/// A request that was sent. It keeps its place until it is answered, as it does at the server, also when it was given up:
/// else whoever gives up again and again would pile up requests that are never taken.
struct Asked {
    /// Who waits for the answer, if somebody still does.
    give: Option<oneshot::Sender<Result<Frame>>>,
    _place: OwnedSemaphorePermit,
}

impl Shared {
    /// Starts the task of a connection. It ends with the connection, or when nobody has a handle on it any more.
    pub(crate) fn start(dialed: Dialed, options: &Options) -> Self {
        let idle_timeout = options.idle_timeout;
        let streams_max = dialed.server.streams_max.clamp(1, v2::STREAMS_MAX);
        let link = Arc::new(Link {
            state: Mutex::new(State {
                output: BytesMut::new(),
                streams: HashMap::new(),
                last_stream: 0,
                driver: None,
                is_closed: false,
            }),
            places: Arc::new(Semaphore::new(streams_max as usize)),
            pool_timeout: options.pool_timeout,
            inline_bytes_max: dialed.server.inline_bytes_max.into(),
            is_leaving: AtomicBool::new(false),
        });
        let mut driver = Driver {
            io: dialed.io,
            link: link.clone(),
            input: BytesMut::new(),
            sending: BytesMut::new(),
            unflushed: false,
            heard: Instant::now(),
            pinged: false,
            idle_timeout,
            sleep: Box::pin(tokio::time::sleep(PING_AFTER.min(idle_timeout))),
        };
        tokio::spawn(async move {
            let ended = poll_fn(|cx| driver.poll(cx)).await;
            driver.link.close(ended);
        });
        Self(link)
    }

    /// Longest body that goes over it, in bytes.
    pub(crate) fn inline_bytes_max(&self) -> u64 {
        self.0.inline_bytes_max
    }

    /// Whether further requests may be sent.
    pub(crate) fn is_open(&self) -> bool {
        !self.0.is_leaving.load(Ordering::Relaxed)
    }

    /// Whether as many requests are under way as may be.
    pub(crate) fn is_full(&self) -> bool {
        self.0.places.available_permits() == 0
    }

    /// Sends a request and waits for its answer. Dropped before, the request is given up.
    pub(crate) async fn ask(&self, code: u8, metadata: &[u8], data: &Bytes) -> Result<Frame> {
        let patience = self.0.pool_timeout;
        let place = timeout(patience, self.0.places.clone().acquire_owned()).await;
        let place = place.map_err(|_| {
            let message = format!(
                "So many requests were under way that there was no place for {patience:?}."
            );
            Error::new(ErrorKind::PoolTimeout, message).undone()
        })?;
        let place = place.map_err(|_| closed().undone())?;
        let waiting = self.send(code, metadata, data, place)?;
        waiting.answer().await
    }

    fn send(
        &self,
        code: u8,
        metadata: &[u8],
        data: &Bytes,
        place: OwnedSemaphorePermit,
    ) -> Result<Waiting<'_>> {
        let (give, answer) = oneshot::channel();
        let mut state = self.0.lock();
        if state.is_closed || !self.is_open() {
            return Err(closed().undone());
        }
        let stream_id = state.next_stream();
        v2::frame(code, stream_id, metadata, data.len(), &mut state.output)?;
        state.output.extend_from_slice(data);
        let asked = Asked {
            give: Some(give),
            _place: place,
        };
        state.streams.insert(stream_id, asked);
        state.wake();
        Ok(Waiting {
            link: &self.0,
            stream_id,
            answer,
        })
    }

    /// Ends it once what is under way is answered.
    pub(crate) fn leave(&self) {
        self.0.is_leaving.store(true, Ordering::Relaxed);
        self.0.lock().wake();
    }
}

fn closed() -> Error {
    Error::new(
        ErrorKind::ConnectionLost,
        "The connection to the server has ended.",
    )
}

impl State {
    /// One that is not in use.
    fn next_stream(&mut self) -> u32 {
        loop {
            self.last_stream = self.last_stream.wrapping_add(1);
            if !self.streams.contains_key(&self.last_stream) {
                return self.last_stream;
            }
        }
    }

    /// The request of this stream is over: `told` is for whoever waits for it.
    fn end(&mut self, stream_id: u32, told: Result<Frame>) -> Result<()> {
        let Some(asked) = self.streams.remove(&stream_id) else {
            return Err(Error::protocol("The server answers what nobody has asked."));
        };
        if let Some(give) = asked.give {
            let _ = give.send(told);
        }
        Ok(())
    }

    fn wake(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave these few fields half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody who waits that nothing comes any more.
    fn close(&self, why: Result<()>) {
        self.is_leaving.store(true, Ordering::Relaxed);
        self.places.close();
        let streams = {
            let mut state = self.lock();
            state.is_closed = true;
            std::mem::take(&mut state.streams)
        };
        let message = why
            .err()
            .map_or_else(|| closed().message().to_owned(), |error| error.to_string());
        for give in streams.into_values().filter_map(|asked| asked.give) {
            let _ = give.send(Err(Error::new(ErrorKind::ConnectionLost, message.clone())));
        }
    }
}

/// A request that was sent.
struct Waiting<'a> {
    link: &'a Link,
    stream_id: u32,
    answer: oneshot::Receiver<Result<Frame>>,
}

impl Waiting<'_> {
    async fn answer(mut self) -> Result<Frame> {
        (&mut self.answer).await.unwrap_or_else(|_| Err(closed()))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        if let Some(asked) = state.streams.get_mut(&self.stream_id) {
            // Nobody waits for it any more: the server need not go on.
            asked.give = None;
            let _ = v2::frame(kind::CANCEL, self.stream_id, &[], 0, &mut state.output);
            state.wake();
        }
    }
}

/// Reads and writes.
struct Driver {
    io: Box<dyn Io>,
    link: Arc<Link>,
    input: BytesMut,
    sending: BytesMut,
    unflushed: bool,
    /// When something came last.
    heard: Instant,
    pinged: bool,
    idle_timeout: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // Answers first: they make room for requests.
        if let Poll::Ready(ended) = self.poll_read(cx) {
            return Poll::Ready(ended);
        }
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(Err(error));
        }
        self.poll_silence(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            let read = pin!(fill(&mut self.io, &mut self.input)).poll(cx);
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Error::lost(error))),
                Poll::Ready(Ok(())) => {}
            }
            (self.heard, self.pinged) = (Instant::now(), false);
            while let Some(frame) = Frame::take(&mut self.input)? {
                self.take(frame)?;
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<()> {
        let mut state = self.link.lock();
        match frame.code {
            kind::PING => {
                v2::frame(kind::PONG, frame.stream_id, &[], 0, &mut state.output)?;
            }
            kind::PONG => {}
            kind::GO_AWAY => {
                self.link.is_leaving.store(true, Ordering::Relaxed);
                // What the server has not begun to do it never will.
                let last = frame.stream_id;
                let word = GoAway::from_metadata(frame.metadata()?)?;
                let error = |word: &GoAway| {
                    match &word.failure {
                        None => Error::new(ErrorKind::Unavailable, "The server is about to leave."),
                        Some(failure) => Error::of_server(failure.clone(), String::new()),
                    }
                    .undone()
                };
                let ids = state.streams.keys().copied();
                let late: Vec<u32> = ids.filter(|id| is_behind(*id, last)).collect();
                for id in late {
                    state.end(id, Err(error(&word)))?;
                }
            }
            kind::CHUNK | kind::END => {
                return Err(Error::protocol(
                    "Some of a body comes on a shared connection.",
                ));
            }
            // Of a later version.
            code if code > kind::CHUNK && code != u8::MAX => {}
            _ => state.end(frame.stream_id, Ok(frame))?,
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            if self.sending.is_empty() {
                let mut state = self.link.lock();
                state.driver = Some(cx.waker().clone());
                self.sending = state.output.split();
            }
            if self.sending.is_empty() {
                if self.unflushed {
                    match Pin::new(&mut self.io).poll_flush(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(flushed) => flushed.map_err(Error::lost)?,
                    }
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
            match Pin::new(&mut self.io).poll_write(cx, &self.sending) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(closed())),
                Poll::Ready(Ok(sent)) => {
                    self.sending.advance(sent);
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Error::lost(error))),
            }
        }
    }

    /// Finds out whether the server is still there when it says nothing for long; and ends when all is done.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let is_leaving = self.link.is_leaving.load(Ordering::Relaxed);
        let (is_idle, is_wanted) = {
            let state = self.link.lock();
            let is_wanted = |asked: &Asked| asked.give.is_some();
            (
                state.streams.is_empty(),
                !is_leaving || state.streams.values().any(is_wanted),
            )
        };
        if !is_wanted && self.sending.is_empty() {
            return Poll::Ready(Ok(()));
        }
        loop {
            let silence = self.heard.elapsed();
            if silence >= self.idle_timeout && (self.pinged || !is_idle) {
                let message = format!("The server has said nothing for {silence:?}.");
                return Poll::Ready(Err(Error::new(ErrorKind::ConnectionLost, message)));
            }
            let ping_after = PING_AFTER.min(self.idle_timeout / 2);
            if silence >= ping_after && !self.pinged {
                self.pinged = true;
                v2::frame(kind::PING, 0, &[], 0, &mut self.link.lock().output)?;
                if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                    return Poll::Ready(Err(error));
                }
            }
            let wait = match self.pinged {
                true => self.idle_timeout,
                false => ping_after,
            };
            let next = self.heard + wait;
            if self.sleep.deadline() != next {
                self.sleep.as_mut().reset(next);
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
