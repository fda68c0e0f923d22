//! The native front: binary frames over TCP, version 1.
//!
//! `connection` shakes hands and goes from frame to frame; a request is one struct of [`jay_wire`], handled in the
//! file of its noun by one call of the engine. Absent on purpose: anything about rights, names or bytes on disk.

mod body;
mod bucket;
mod connection;
mod error;
mod list;
mod multipart;
mod object;

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicBool},
};

use jay_engine::{Caller, Engine, Timestamp};
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
}

/// The native front.
pub struct Native {
    engine: Engine,
    settings: Settings,
    limiter: Arc<RateLimiter>,
    /// The log has told of a secret that came in clear over a network.
    has_warned: AtomicBool,
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
            has_warned: AtomicBool::new(false),
        }
    }
}

/// What every operation is given.
struct Call<'a> {
    engine: &'a Engine,
    caller: &'a Caller,
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
