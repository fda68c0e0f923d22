//! One connection: its first bytes say which version it speaks. What the requests of a connection have in common, in
//! both versions, is here too. Deadlines are the listener's, as for all fronts.

use std::{io, net::IpAddr};

use jay_engine::{Caller, ErrorKind, Once};
use jay_wire::v2::{self, PREFIX_BYTES, Prefix, Step};
use tokio::{io::AsyncReadExt, time::timeout};

use super::{
    Native,
    error::Error,
    operation::Call,
    v1,
    v2::{Lane, serve_bulk, serve_shared, shake_hands},
    wire::{End, Wire},
};
use crate::{
    limits,
    listener::{Io, Link, Phase, Record, Shared},
    planted::{self, Fault},
};

/// Serves one connection to its end.
pub(super) async fn serve(io: Io, peer: IpAddr, shared: &Shared<Native>) -> Result<(), End> {
    let session = Session {
        peer,
        link: io.link().clone(),
        shared,
    };
    let mut wire = Wire::new(io, shared.stop.clone());
    let mut stop = shared.stop.clone();
    let shaken = timeout(shared.limits.handshake_timeout, session.begin(&mut wire));
    let begun = tokio::select! {
        begun = shaken => begun.map_err(io::Error::from)??,
        // Nothing is under way yet that would be worth waiting for.
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    session.link.lock().enter(Phase::Idle);
    match begun {
        Begun::V1(caller) => v1::serve(&session, &caller, wire).await,
        Begun::V2(caller, Lane::Bulk) => serve_bulk(&session, &caller, wire).await,
        Begun::V2(caller, Lane::Shared) => serve_shared(&session, &caller, wire).await,
    }
}

/// What a connection has become by its handshake.
enum Begun {
    V1(Caller),
    V2(Caller, Lane),
}

/// What the requests of one connection have in common.
pub(super) struct Session<'a> {
    pub(super) peer: IpAddr,
    pub(super) link: Link,
    pub(super) shared: &'a Shared<Native>,
}

impl Session<'_> {
    /// Who calls, once that is proven, and by which version.
    async fn begin(&self, wire: &mut Wire) -> Result<Begun, End> {
        let mut first = [0; PREFIX_BYTES];
        wire.io.read_exact(&mut first).await?;
        // Who speaks another protocol gets no answer of this one.
        let prefix = Prefix::parse(&first)?;
        match prefix.version {
            jay_wire::handshake::VERSION => {
                v1::shake_hands(self, wire, &first).await.map(Begun::V1)
            }
            v2::VERSION => {
                let (caller, lane) = shake_hands(self, wire, &first, prefix.length).await?;
                Ok(Begun::V2(caller, lane))
            }
            // As version 1 has always said it, which all others begin alike.
            _ => v1::turn_away(self, wire, Step::VersionMismatch).await,
        }
    }

    pub(super) fn record(&self) -> Record {
        // The same log line as of all fronts: what stands for the method tells that it came in here.
        let method = http::Method::from_bytes(b"NATIVE").expect("letters are a method");
        let from = (self.peer, self.peer);
        Record::new(method, String::new(), from, self.shared, self.link.clone())
    }

    pub(super) fn call<'a>(
        &'a self,
        caller: &'a Caller,
        is_v2: bool,
        once: Option<Once>,
    ) -> Call<'a> {
        Call {
            is_v2,
            once,
            engine: &self.shared.front.engine,
            caller,
            region: &self.shared.front.settings.region,
        }
    }

    /// Notes that somebody could not prove who it is. The line is in the log before the answer is out, as those of requests
    /// are.
    pub(super) fn refused_handshake(&self, error: jay_engine::Error) {
        let refused = Error::from(error);
        let mut record = self.record();
        record.context.operation = "Handshake";
        record.context.auth_failed = true;
        record.context.error_code = Some(refused.code());
        record.answered(refused.http_status());
        record.complete();
    }

    /// Whether the access key of the connection can still be used.
    pub(super) fn is_usable(&self, caller: &Caller) -> bool {
        let engine = &self.shared.front.engine;
        engine.must_be_usable(caller.token_id()).is_ok() || planted::is(Fault::EndlessConnection)
    }

    /// Lets a request in, unless its access key is of no more use, sends too many, or this one is too long.
    pub(super) fn admit(&self, caller: &Caller, body_bytes: u64) -> Result<(), Error> {
        let front = &self.shared.front;
        if !self.is_usable(caller) {
            return Err(Error::new(ErrorKind::AccessDenied, "Access denied."));
        }
        let payer = limits::Caller::Token(caller.token_id().to_owned());
        front
            .limiter
            .check(payer)
            .map_err(|_| Error::rate_limited())?;
        match front.settings.request_bytes_max {
            Some(most) if body_bytes > most => Err(Error::too_long(most)),
            _ => Ok(()),
        }
    }
}
