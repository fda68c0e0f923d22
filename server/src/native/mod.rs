//! The native front: binary frames over TCP, in both versions.
//!
//! `connection` finds out which version a client speaks; `v1` and `v2` shake hands and go from frame to frame. A request
//! is one struct of [`jay_wire`], found in the one table of `operation` and handled in the file of its noun by one call
//! of the engine, whichever version it came by. Absent on purpose: anything about rights, names or bytes on disk.

mod body;
mod bucket;
mod connection;
mod error;
mod list;
mod multipart;
mod object;
mod operation;
mod server;
mod tagging;
mod v1;
mod v2;
mod wire;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jay_engine::{Engine, Timestamp};
use jay_wire::Time;

use crate::{
    limits::RateLimiter,
    listener::{Io, Protocol, Shared, within_deadlines},
};

/// What the configuration says about the native port.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `JAY_REQUEST_BYTES_MAX`: most bytes of the data of a request.
    pub request_bytes_max: Option<u64>,
    /// `JAY_REGION`, which clients are told.
    pub region: String,
}

/// The native front.
pub struct Native {
    engine: Engine,
    settings: Settings,
    limiter: Arc<RateLimiter>,
    /// The log has told of a secret that came in clear over a network, and of a session in clear.
    has_warned: [AtomicBool; 2],
}

impl Protocol for Native {
    const LOGGED: bool = true;
    const MAY_BE_PLAIN: bool = true;

    async fn serve(io: Io, peer: IpAddr, shared: Arc<Shared<Self>>) {
        let link = io.link().clone();
        let served = connection::serve(io, peer, &shared);
        within_deadlines(&link, peer, served).await;
    }
}

impl Native {
    /// A front of this engine, whose callers share `limiter` with those of other fronts.
    pub fn new(engine: Engine, settings: Settings, limiter: Arc<RateLimiter>) -> Self {
        Self {
            engine,
            settings,
            limiter,
            has_warned: [AtomicBool::new(false), AtomicBool::new(false)],
        }
    }

    /// Tells the log, once, of a secret that crossed a network in clear.
    fn must_be_private(&self, peer: IpAddr, is_tls: bool) {
        if !is_tls && self.is_first(0, peer) {
            tracing::warn!(
                %peer,
                "version 1 of the native protocol sends the secret of the access key in clear: use TLS beyond this machine"
            );
        }
    }

    /// Tells the log, once, of a session that others on the way can read and change.
    fn may_be_listened_to(&self, peer: IpAddr, is_tls: bool) {
        if !is_tls && self.is_first(1, peer) {
            tracing::warn!(
                %peer,
                "a native client does without TLS beyond this machine: no secret crosses the network, but who is on the way \
                 reads what is sent, and may change it"
            );
        }
    }

    fn is_first(&self, warning: usize, peer: IpAddr) -> bool {
        !peer.is_loopback() && !self.has_warned[warning].swap(true, Ordering::Relaxed)
    }
}

fn time(at: Timestamp) -> Time {
    Time(at.0)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An id in the form of a UUID.
fn uuid(id: u128) -> String {
    let digits = format!("{id:032x}");
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| &digits[group]);
    groups.join("-")
}
