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
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
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

/// The type of the record that every TLS connection begins with (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What one port allows.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most connections at a time; further ones wait in the kernel.
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
        let slots = Arc::new(Semaphore::new(limits.connections_max));
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
            never = accept(&self.listener, &slots, &shared, &mut connections) => match never {},
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
    slots: &Arc<Semaphore>,
    shared: &Arc<Shared<P>>,
    connections: &mut JoinSet<()>,
) -> Infallible {
    let mut pause = ACCEPT_PAUSE.0;
    let mut full = false;
    loop {
        // Forget those that ended.
        while connections.try_join_next().is_some() {}
        let slot = match slots.clone().try_acquire_owned() {
            Ok(slot) => {
                full = false;
                slot
            }
            Err(_) => {
                if !std::mem::replace(&mut full, true) {
                    tracing::warn!(
                        connections = shared.limits.connections_max,
                        "all connections are taken, further clients wait; JAY_CONNECTIONS_MAX sets how many"
                    );
                }
                // The semaphore is never closed.
                let Ok(slot) = slots.clone().acquire_owned().await else {
                    continue;
                };
                slot
            }
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                pause = ACCEPT_PAUSE.0;
                let shared = shared.clone();
                connections.spawn(async move {
                    accepted(stream, peer, shared).await;
                    drop(slot);
                });
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

/// Serves a connection until it ends or is closed from outside.
async fn accepted<P: Protocol>(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared<P>>) {
    // Fails only when the client is gone already, which the first read will tell.
    let _ = stream.set_nodelay(true);
    let _counted = shared.metrics.connection();
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let link = Link::new(&shared.limits);
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

/// The connection inside TLS, where that is configured and wanted; unless it takes too long or the port stops meanwhile.
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
        _ = stop.wait_for(|stop| *stop) => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

#[cfg(test)]
mod tests;
