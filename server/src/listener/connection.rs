//! One HTTP/1.1 connection: hyper inside, our deadlines around it.
//!
//! Called by the listener for each accepted stream. hyper's own timer would count a kept connection's
//! idle time against the head of its next request, and knows nothing of stalled bodies; so the state of a
//! connection is kept here ([`State`]), everything that happens on it writes to that state, and after each
//! poll one timer is held against it.

use std::{
    convert::Infallible,
    fmt::Display,
    future::poll_fn,
    io::{self, IoSlice},
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Front, HEAD_BYTES_MAX, HEADERS_MAX, Http, Limits, Shared,
    body::{AnswerBody, RequestBody},
    connections::{Activity, Shown, Waits},
    record::Record,
    stream::Stream,
};

/// How long, after an answer that did not wait for the rest of the request, the rest is read and thrown
/// away: a client that still sends would otherwise get a reset instead of the answer.
const LINGER: Duration = Duration::from_secs(5);

/// A peer that takes longer for one piece of a body (256 KiB of an answer) is slow.
const SLOW: Duration = Duration::from_secs(10);

/// Serves one connection to its end.
pub async fn serve<F: Front>(io: Io, peer: IpAddr, shared: Arc<Shared<Http<F>>>) {
    let link = io.link.clone();
    link.lock().enter(Phase::Fresh);
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let shared = shared.clone();
        let link = link.clone();
        async move {
            let mut record = Record::of_http(&request, peer, &shared, link.clone());
            link.lock().request_begins(record.context.client);
            let request = request.map(|body| RequestBody::new(body, link, record.bytes_in()));
            let front = &shared.front.0;
            let response = front.handle(request, &mut record.context).await;
            record.answered(response.status());
            Ok::<_, Infallible>(response.map(|body| AnswerBody::new(body, record)))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    let mut stop = shared.stop.clone();
    let mut stopping = std::pin::pin!(stop.wait_for(|stop| *stop));
    let mut stopped = false;
    let ended = poll_fn(|cx| {
        if !stopped && stopping.as_mut().poll(cx).is_ready() {
            stopped = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        // hyper waits for the first request of a fresh connection even when it should stop.
        if stopped && link.lock().phase == Phase::Fresh {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    });
    within_deadlines(&link, peer, ended).await;
}

/// Serves until `ended`, until one of the deadlines of the connection has passed, or until it gives way to another one.
pub async fn within_deadlines<E: Display>(
    link: &Link,
    peer: IpAddr,
    ended: impl Future<Output = Result<(), E>>,
) {
    let mut ended = std::pin::pin!(ended);
    let mut outdone = std::pin::pin!(link.outdone());
    let mut gives_way = false;
    let mut deadline = Deadline::new(link.clone());
    let ended = poll_fn(|cx| {
        gives_way = gives_way || outdone.as_mut().poll(cx).is_ready();
        // In this order: what happens on the connection moves its deadlines.
        if let Poll::Ready(ended) = ended.as_mut().poll(cx) {
            return Poll::Ready(ended.map_err(|error| error.to_string()));
        }
        if gives_way && link.lock().may_end() {
            return Poll::Ready(Err("it gave way to others".to_owned()));
        }
        deadline
            .poll(cx)
            .map(|what| Err(format!("{what} took too long")))
    });
    if let Err(error) = ended.await {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// TLS is being agreed on; the listener sees to it that this ends.
    Handshake,
    /// Accepted, and nothing came yet.
    Fresh,
    /// Kept for another request.
    Idle,
    /// A head has begun to arrive.
    Head,
    /// A request is being answered.
    Request,
}

/// What a connection does, and since when it waits for its peer and for what.
#[derive(Debug)]
pub struct State {
    phase: Phase,
    phase_since: Instant,
    /// Since when the front waits for more of the body.
    pub body_waits: Option<Instant>,
    /// Since when the socket takes nothing more.
    write_waits: Option<Instant>,
    /// Since when there is a piece of the answer for it to take.
    piece_since: Option<Instant>,
    /// Others need the memory that the peer was slow with.
    is_cut: bool,
    /// The front answered without reading the whole body.
    pub body_unread: bool,
    client: Option<IpAddr>,
    /// What is known of the request under way.
    pub shown: Shown,
    requests: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// Those that have begun and are not over: on some connections there are many at a time.
    under_way: u64,
    progress_timeout: Duration,
    head_timeout: Duration,
    idle_timeout: Duration,
}

impl State {
    /// Another phase begins.
    pub fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_since = Instant::now();
    }

    /// A request of `client` begins: nothing else is known of it yet.
    pub fn request_begins(&mut self, client: IpAddr) {
        self.enter(Phase::Request);
        self.under_way += 1;
        self.client = Some(client);
    }

    /// The request is over: its answer was sent, or the front gave up on it.
    pub fn request_ended(&mut self) {
        self.requests += 1;
        // A refused handshake is noted like a request that never began.
        self.under_way = self.under_way.saturating_sub(1);
        if self.under_way > 0 {
            return;
        }
        self.enter(Phase::Idle);
        self.piece_since = None;
        self.shown = Shown::default();
    }

    /// What has come was no request: the connection waits for one as before.
    pub fn nothing_began(&mut self) {
        if self.phase == Phase::Head && self.under_way == 0 {
            self.enter(Phase::Idle);
        }
    }

    /// The peer is given a piece of the answer, or has taken it.
    pub fn piece(&mut self, is_given: bool) {
        self.piece_since = is_given.then(Instant::now);
    }

    /// Since when there has been no request and nothing left to send; `None` while there is.
    pub fn waits_since(&self) -> Option<Instant> {
        let is_busy = self.phase == Phase::Request || self.write_waits.is_some();
        (!is_busy).then_some(self.phase_since)
    }

    /// Whether the connection may end for the sake of others.
    fn may_end(&self) -> bool {
        self.is_cut || self.waits_since().is_some()
    }

    /// Whether the peer keeps memory for a body and is slow to send it or to take it.
    fn is_slow(&self) -> bool {
        let mut waits = [self.body_waits, self.piece_since].into_iter().flatten();
        waits.any(|since| since.elapsed() > SLOW)
    }

    /// All of this for who looks from outside.
    pub fn activity(&self) -> Activity {
        let now = SystemTime::now();
        let time = |at: Instant| now - at.elapsed();
        let waits = |what, since: Option<Instant>| {
            let since = time(since?);
            Some(Waits { what, since })
        };
        Activity {
            phase: self.phase,
            since: time(self.phase_since),
            waits: waits("answer", self.write_waits).or_else(|| waits("body", self.body_waits)),
            client: self.client,
            request: self.shown.clone(),
            requests: self.requests,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        }
    }

    /// When to give up on the peer, if nothing changes, and what it failed to do.
    fn deadline(&self) -> Option<(Instant, &'static str)> {
        let phase = match self.phase {
            Phase::Fresh => Some((self.phase_since + self.head_timeout, "the first request")),
            Phase::Idle => Some((self.phase_since + self.idle_timeout, "the next request")),
            Phase::Head => Some((
                self.phase_since + self.head_timeout,
                "the head of a request",
            )),
            Phase::Handshake | Phase::Request => None,
        };
        let body = self
            .body_waits
            .map(|since| (since + self.progress_timeout, "a body"));
        let write = self
            .write_waits
            .map(|since| (since + self.progress_timeout, "the answer"));
        [phase, body, write].into_iter().flatten().min()
    }
}

/// A handle on the [`State`] of one connection, and on its place among the others.
#[derive(Clone)]
pub struct Link(Arc<Linked>);

struct Linked {
    state: Mutex<State>,
    outdone: Notify,
}

impl Link {
    /// That of a connection which was accepted just now.
    pub fn new(limits: &Limits) -> Self {
        let state = Mutex::new(State {
            phase: Phase::Handshake,
            phase_since: Instant::now(),
            body_waits: None,
            write_waits: None,
            piece_since: None,
            is_cut: false,
            body_unread: false,
            client: None,
            shown: Shown::default(),
            requests: 0,
            bytes_in: 0,
            bytes_out: 0,
            under_way: 0,
            progress_timeout: limits.progress_timeout,
            head_timeout: limits.head_timeout,
            idle_timeout: limits.idle_timeout,
        });
        let outdone = Notify::new();
        Self(Arc::new(Linked { state, outdone }))
    }

    /// The state, for a moment; never held across a wait.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave these few fields half-changed.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection as soon as it has no request: another one needs its place.
    pub fn give_way(&self) {
        self.0.outdone.notify_one();
    }

    /// Ends the connection if its peer is slow with a body: others need the memory.
    pub fn cut_if_slow(&self) {
        let mut state = self.lock();
        state.is_cut = state.is_slow();
        if state.is_cut {
            self.0.outdone.notify_one();
        }
    }

    /// Until the connection has to give way.
    pub async fn outdone(&self) {
        self.0.outdone.notified().await;
    }
}

/// The one timer of a connection. It is moved forward only when it fires, since most deadlines are
/// replaced by later ones long before.
struct Deadline {
    link: Link,
    sleep: Pin<Box<Sleep>>,
}

impl Deadline {
    fn new(link: Link) -> Self {
        Self {
            link,
            sleep: Box::pin(sleep_until(Instant::now())),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        loop {
            // A statement of its own, so that the lock is gone.
            let deadline = self.link.lock().deadline();
            let Some((at, what)) = deadline else {
                return Poll::Pending;
            };
            if at <= Instant::now() {
                return Poll::Ready(what);
            }
            if at < self.sleep.deadline() || self.sleep.is_elapsed() {
                self.sleep.as_mut().reset(at);
            }
            ready!(self.sleep.as_mut().poll(cx));
        }
    }
}

/// The socket, telling the state what it sees.
pub struct Io {
    stream: Stream,
    link: Link,
    linger: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        if read > 0 {
            let mut state = self.link.lock();
            state.bytes_in += read as u64;
            if matches!(state.phase, Phase::Fresh | Phase::Idle) {
                state.enter(Phase::Head);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Io {
    /// The socket of the connection with this state.
    pub fn new(stream: Stream, link: Link) -> Self {
        Self {
            stream,
            link,
            linger: None,
        }
    }

    /// The state.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// 32 bytes that both ends of a TLS session get by this label, and nobody else (RFC 5705); `None` without TLS.
    pub fn exported(&self, label: &[u8]) -> Option<[u8; 32]> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => {
                let (_, session) = stream.get_ref();
                session.export_keying_material([0; 32], label, None).ok()
            }
        }
    }

    /// Whether it is inside TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Notes how much the socket took, or since when it is full.
    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let mut state = self.link.lock();
        match &result {
            Poll::Pending => state.write_waits = state.write_waits.or_else(|| Some(Instant::now())),
            Poll::Ready(written) => {
                state.write_waits = None;
                state.bytes_out += written.as_ref().map_or(0, |&bytes| bytes as u64);
            }
        }
        result
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS takes a small answer at once and waits for the socket here.
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.wrote(flushed.map_ok(|()| 0)).map_ok(drop)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            let state = self.link.lock();
            let unread = state.body_unread || state.phase == Phase::Head;
            drop(state);
            if !unread {
                return Poll::Ready(Ok(()));
            }
            self.linger = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        let mut rest = [std::mem::MaybeUninit::uninit(); 16 << 10];
        loop {
            if let Some(linger) = &mut self.linger
                && linger.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::uninit(&mut rest);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
