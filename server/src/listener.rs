//! What all fronts share below their protocols: sockets, limits, deadlines, the log line of each request, and the
//! graceful stop. Written once.
//!
//! `serve` reserves a [`Port`], and hands it with a [`Front`] to [`Port::serve`], which runs until it is
//! told to stop. Each connection is one task; [`connection`] drives it and holds its deadlines, [`body`]
//! is what a front reads and what goes back, [`record`] the log line, [`connections`] the list of all that are open,
//! [`tls`] what is around it all where a certificate is configured. Absent on purpose: routing, and anything about buckets.

mod body;
mod client;
mod connection;
mod connections;
mod record;
mod stream;
pub mod tls;

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{self, JoinSet},
};

use self::{connections::Open, stream::Stream, tls::Tls};
use crate::{
    config::{ListenAddr, TrustedProxies},
    metrics::{Metrics, PortMetrics},
};

pub use self::{
    body::RequestBody,
    connection::{Io, Link, Phase, within_deadlines},
    connections::{Connection, Connections},
    record::{Record, RequestContext, Window},
};

/// Most bytes of a request's head; longer ones (the last read is not counted) are answered with 431. Also
/// the size of one read.
const HEAD_BYTES_MAX: usize = 128 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 256;
/// Connections that the kernel keeps for us while none is accepted.
const BACKLOG: u32 = 1024;
/// Shortest and longest pause after a failed accept.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// How long a connection that gives way may take to do so before the next one is asked.
const GIVE_WAY_TIMEOUT: Duration = Duration::from_millis(100);

/// How often a port looks whether memory is short.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The type of the record that every TLS connection begins with (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What one port allows.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most connections at a time. For a further one the connection that has been without a request for longest gives
    /// way; while all have one, it waits.
    pub connections_max: usize,
    /// From the connection to the end of the TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// From the first byte of a head to its last. Default 30 s.
    pub head_timeout: Duration,
    /// How long a connection may be kept without a request. Default 2 min.
    pub idle_timeout: Duration,
    /// How long a peer may neither send the body it announced nor take the answer. There is no limit on
    /// the whole: large objects over slow lines take hours. Default 90 s, so that a front which allows 60 s
    /// for a body can say so.
    pub progress_timeout: Duration,
    /// How long a stop waits for requests in flight. Default 30 s.
    pub stop_timeout: Duration,
}

impl Limits {
    /// The defaults, with `connections_max` connections and `stop_timeout`.
    pub fn new(connections_max: usize, stop_timeout: Duration) -> Self {
        Self {
            connections_max,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            head_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            progress_timeout: Duration::from_secs(90),
            stop_timeout,
        }
    }
}

/// What all ports have in common; cheap to clone.
#[derive(Clone, Default)]
pub struct Edge {
    /// TLS, where it is configured.
    pub tls: Option<Arc<Tls>>,
    /// Whose word about the client's address is taken.
    pub proxies: TrustedProxies,
    /// Where requests and connections are counted.
    pub metrics: Arc<Metrics>,
    /// Those that are open.
    pub connections: Arc<Connections>,
    /// Whether the memory that bodies share is short. Who is slow with a body is then cut; else some hundred clients
    /// that take nothing of what they ask for would stop everybody's bodies.
    pub memory_is_short: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

/// What is spoken on a port.
pub trait Protocol: Send + Sync + Sized + 'static {
    /// Whether its requests are logged at INFO; else at DEBUG.
    const LOGGED: bool;

    /// Where TLS is configured: whether clients may do without it. The first byte tells.
    const MAY_BE_PLAIN: bool;

    /// Serves one connection to its end, or until the port stops.
    fn serve(io: Io, peer: IpAddr, shared: Arc<Shared<Self>>) -> impl Future<Output = ()> + Send;
}

/// HTTP/1.1, with a front that answers.
pub struct Http<F>(pub F);

impl<F: Front> Protocol for Http<F> {
    const LOGGED: bool = F::LOGGED;
    const MAY_BE_PLAIN: bool = false;

    async fn serve(io: Io, peer: IpAddr, shared: Arc<Shared<Self>>) {
        connection::serve(io, peer, shared).await;
    }
}

/// Answers requests over HTTP: the S3 front or the admin front.
pub trait Front: Clone + Send + Sync + 'static {
    /// The body of its answers.
    type Body: http_body::Body<Data = bytes::Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static;

    /// Whether its requests are logged at INFO; else at DEBUG.
    const LOGGED: bool;

    /// Answers one request, and notes in `context` what the log should say of it.
    fn handle(
        &self,
        request: http::Request<RequestBody>,
        context: &mut RequestContext,
    ) -> impl Future<Output = http::Response<Self::Body>> + Send;
}

/// An address that is ours, though nobody can connect to it yet.
///
/// Taken before anything is written, so that a port in use is found while there is nothing to undo.
pub struct Port {
    name: &'static str,
    variable: &'static str,
    socket: TcpSocket,
    addr: SocketAddr,
}

/// Why an address could not be taken; Display says what to do.
#[derive(Debug, thiserror::Error)]
#[error("the {name} port cannot listen on {addr} ({error}): {advice}")]
pub struct PortError {
    name: &'static str,
    addr: String,
    advice: String,
    error: io::Error,
}

impl Port {
    /// Takes `addr`, which the setting `variable` holds, for the port called `name`.
    pub fn reserve(
        name: &'static str,
        variable: &'static str,
        addr: &ListenAddr,
    ) -> Result<Self, PortError> {
        let mut failure = None;
        for candidate in addr.candidates() {
            match bind(candidate) {
                Ok(socket) => {
                    let addr = socket.local_addr().unwrap_or(candidate);
                    return Ok(Self {
                        name,
                        variable,
                        socket,
                        addr,
                    });
                }
                // In use is in use: the other family would only hide half of the port.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    failure = Some(error);
                    break;
                }
                Err(error) => failure = Some(error),
            }
        }
        let error = failure.unwrap_or_else(|| io::Error::other("no address"));
        Err(PortError {
            name,
            addr: addr.to_string(),
            advice: advice(&error, variable),
            error,
        })
    }

    /// Lets clients connect; they wait until [`Listening::serve`] runs.
    pub fn listen(self, edge: Edge) -> Result<Listening, PortError> {
        match self.socket.listen(BACKLOG) {
            Ok(listener) => {
                let (name, addr) = (self.name, self.addr);
                match edge.tls {
                    Some(_) => tracing::info!(name, %addr, "server listening (TLS)"),
                    None => tracing::info!(name, %addr, "server listening"),
                }
                Ok(Listening {
                    name,
                    listener,
                    edge,
                })
            }
            Err(error) => Err(PortError {
                name: self.name,
                addr: self.addr.to_string(),
                advice: advice(&error, self.variable),
                error,
            }),
        }
    }
}

/// A port that clients can connect to.
pub struct Listening {
    name: &'static str,
    listener: TcpListener,
    edge: Edge,
}

impl Listening {
    /// Answers clients through `front` until `stop` turns true; then finishes what is in flight.
    pub async fn serve<P: Protocol>(
        self,
        front: P,
        limits: Limits,
        mut stop: watch::Receiver<bool>,
    ) {
        let stop_timeout = limits.stop_timeout;
        let shared = Arc::new(Shared {
            name: self.name,
            front,
            limits,
            metrics: self.edge.metrics.port(self.name),
            edge: self.edge,
            stop: stop.clone(),
        });
        let mut connections = JoinSet::new();
        tokio::select! {
            never = accept(&self.listener, &shared, &mut connections) => match never {},
            _ = stop.wait_for(|stop| *stop) => {}
        }
        drop(self.listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(stop_timeout, ended).await.is_err() {
            tracing::warn!(
                name = self.name,
                connections = connections.len(),
                "requests did not end in time and are cut"
            );
        }
        connections.shutdown().await;
    }
}

/// What the connections of one port have in common.
pub struct Shared<P> {
    name: &'static str,
    /// Who answers.
    pub front: P,
    /// What the port allows.
    pub limits: Limits,
    edge: Edge,
    /// Where it counts.
    pub metrics: Arc<PortMetrics>,
    /// Turns true when the port stops.
    pub stop: watch::Receiver<bool>,
}

/// A socket on `addr` that does not listen yet. On the unspecified IPv6 address it takes IPv4 too.
fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
    }
    // A restart must not wait for the connections of the process before.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

fn advice(error: &io::Error, variable: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "another process (or another Jay) uses it: stop that one, or choose another {variable}"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need rights; choose a higher one in {variable}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine does not have that address; correct {variable}")
        }
        _ => format!("correct {variable}"),
    }
}

/// Accepts for ever, each connection in a task of its own.
async fn accept<P: Protocol>(
    listener: &TcpListener,
    shared: &Arc<Shared<P>>,
    connections: &mut JoinSet<()>,
) -> Infallible {
    let mut slots = Slots::new(shared.limits.connections_max);
    let mut pause = ACCEPT_PAUSE.0;
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let next = tokio::select! {
            next = listener.accept() => next,
            _ = look.tick() => {
                if shared.edge.memory_is_short.as_ref().is_some_and(|is_short| is_short()) {
                    slots.open.values().for_each(Link::cut_if_slow);
                }
                continue;
            }
        };
        match next {
            Ok((stream, peer)) => {
                pause = ACCEPT_PAUSE.0;
                slots.forget_ended(connections);
                let slot = slots.take().await;
                let (shared, link) = (shared.clone(), Link::new(&shared.limits));
                let linked = link.clone();
                let task = connections.spawn(async move {
                    accepted(stream, linked, peer, shared).await;
                    drop(slot);
                });
                slots.open.insert(task.id(), link);
            }
            // The client went away while it waited: nothing is wrong here.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            // Mostly out of file descriptors: trying again at once would only burn the processor.
            Err(error) => {
                tracing::error!(%error, pause_ms = pause.as_millis() as u64, "accept failed");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE.1);
            }
        }
    }
}

/// The connections that a port may have, and those that are open.
struct Slots {
    free: Arc<Semaphore>,
    connections_max: usize,
    open: HashMap<task::Id, Link>,
    is_full: bool,
}

impl Slots {
    fn new(connections_max: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            open: HashMap::new(),
            is_full: false,
        }
    }

    fn forget_ended(&mut self, connections: &mut JoinSet<()>) {
        while let Some(ended) = connections.try_join_next_with_id() {
            let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
            self.open.remove(&id);
        }
    }

    /// A free slot, else that of a connection which gives way or ends by itself. If none gave way, some thousand
    /// connections that ask for nothing would keep everybody out for as long as their owner likes.
    async fn take(&mut self) -> OwnedSemaphorePermit {
        if let Ok(slot) = self.free.clone().try_acquire_owned() {
            self.is_full = false;
            return slot;
        }
        if !std::mem::replace(&mut self.is_full, true) {
            tracing::warn!(
                connections = self.connections_max,
                "all connections are taken: those without a request give way, and clients wait while there are none; \
                 JAY_CONNECTIONS_MAX sets how many there are"
            );
        }
        loop {
            let waiting = self.open.iter().filter_map(|(id, link)| {
                let since = link.lock().waits_since()?;
                Some((since, *id))
            });
            // Asked once: that one ends as soon as it may, and the next time it is another one's turn.
            let longest = waiting.min_by_key(|(since, _)| *since);
            if let Some(link) = longest.and_then(|(_, id)| self.open.remove(&id)) {
                link.give_way();
            }
            let freed = self.free.clone().acquire_owned();
            if let Ok(Ok(slot)) = tokio::time::timeout(GIVE_WAY_TIMEOUT, freed).await {
                return slot;
            }
        }
    }
}

/// Serves a connection until it ends or is closed from outside.
async fn accepted<P: Protocol>(
    stream: TcpStream,
    link: Link,
    peer: SocketAddr,
    shared: Arc<Shared<P>>,
) {
    // Fails only when the client is gone already, which the first read will tell.
    let _ = stream.set_nodelay(true);
    let _counted = shared.metrics.connection();
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let open = shared.edge.connections.open(shared.name, peer, link);
    tokio::select! {
        () = serve(stream, &open, shared) => {}
        () = open.is_closed() => {}
    }
}

async fn serve<P: Protocol>(stream: TcpStream, open: &Open, shared: Arc<Shared<P>>) {
    let peer = open.peer();
    match secured(stream, open, &shared).await {
        Ok(stream) => P::serve(Io::new(stream, open.link().clone()), peer, shared).await,
        Err(error) => {
            shared.metrics.handshake_failed();
            tracing::debug!(%peer, %error, "TLS handshake failed");
        }
    }
}

/// The connection inside TLS, where that is configured and wanted; unless it takes too long, another connection needs the
/// place or the port stops meanwhile.
async fn secured<P: Protocol>(
    stream: TcpStream,
    open: &Open,
    shared: &Shared<P>,
) -> io::Result<Stream> {
    let Some(tls) = &shared.edge.tls else {
        return Ok(Stream::Plain(stream));
    };
    let handshake = async {
        let mut first = [0];
        if P::MAY_BE_PLAIN && stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
            return Ok(Stream::Plain(stream));
        }
        open.speaks_tls();
        Ok(Stream::Tls(Box::new(tls.accept(stream).await?)))
    };
    let mut stop = shared.stop.clone();
    tokio::select! {
        accepted = tokio::time::timeout(shared.limits.handshake_timeout, handshake) => accepted?,
        () = open.link().outdone() => Err(io::ErrorKind::ConnectionAborted.into()),
        _ = stop.wait_for(|stop| *stop) => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

#[cfg(test)]
mod tests;
