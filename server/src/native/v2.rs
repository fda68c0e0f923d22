//! Version 2: who calls and who answers prove that they have the secret without sending it; then a connection is either
//! [`shared`] by many small requests, or carries bodies of any length, one request at a time ([`bulk`]).

pub(super) mod bulk;
mod shared;

use bytes::Bytes;
use http::StatusCode;
use jay_engine::{Caller, Once, SessionId};
use jay_wire::{
    EncodeError, ErrorCode, Problem, Tagged, call,
    v2::{
        self, ClientHello, KEY_LABEL, PREFIX_BYTES, PROOF_BYTES, ProofKey, ServerHello, Status,
        Step, Transcript,
    },
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{
    connection::Session,
    error::Error,
    v1,
    wire::{End, Wire},
};
use crate::{
    listener::Record,
    planted::{self, Fault},
};

pub(super) use self::{bulk::serve as serve_bulk, shared::serve as serve_shared};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Many requests at once, whose bodies are short.
    Shared,
    /// One at a time, with bodies of any length.
    Bulk,
}

/// Longest body on a shared connection, in bytes.
pub(super) const INLINE_BYTES_MAX: usize = jay_wire::body::CHUNK_BYTES_MAX;
/// Why a connection ends whose access key is of no more use.
const REVOKED: &str = "The access key was revoked or has expired.";
/// What this server is called.
const AGENT: &str = concat!("jay/", env!("CARGO_PKG_VERSION"));

/// Who calls, once both sides have proven who they are; `first` is the beginning of what the client says.
pub(super) async fn shake_hands(
    session: &Session<'_>,
    wire: &mut Wire,
    first: &[u8; PREFIX_BYTES],
    length: u16,
) -> Result<(Caller, Lane), End> {
    let mut fields = vec![0; length.into()];
    wire.io.read_exact(&mut fields).await?;
    let Ok(hello) = ClientHello::from_metadata(&fields) else {
        // Some version 2, but not this one.
        return v1::turn_away(session, wire, Step::VersionMismatch).await;
    };
    let nonce = random().map_err(std::io::Error::other)?;
    let ours = ServerHello {
        nonce,
        agent: AGENT.to_owned(),
        streams_max: v2::STREAMS_MAX,
        inline_bytes_max: INLINE_BYTES_MAX as u32,
    };
    let ours = ours
        .to_metadata()
        .and_then(|fields| v2::step(Step::Proceed, &fields));
    let ours = ours?;
    wire.put(&ours).await?;
    wire.flush().await?;
    let theirs = [&first[..], &fields].concat();
    let transcript = Transcript::new(
        &theirs,
        &ours,
        wire.io.exported(v2::EXPORTER_LABEL).as_ref(),
    );
    let mut proof = [0; PROOF_BYTES];
    wire.io.read_exact(&mut proof).await?;

    let engine = &session.shared.front.engine;
    let known = engine.proof_key(&hello.token_id, KEY_LABEL);
    let (caller, key) = match known {
        Ok((caller, key)) => (Ok(caller), key),
        // The same work for an access key that is not there, with a key that nobody can have.
        Err(error) => (
            Err(error),
            Zeroizing::new(random().map_err(std::io::Error::other)?),
        ),
    };
    let key = ProofKey::from_bytes(key);
    let is_proven = key.proves_client(&transcript, &proof) || planted::is(Fault::BelievedProof);
    let refused = match caller {
        Ok(caller) if is_proven => {
            let answer = v2::step(Step::Proceed, &key.server_proof(&transcript));
            wire.put(&answer?).await?;
            wire.flush().await?;
            let lane = match hello.bulk {
                true => Lane::Bulk,
                false => Lane::Shared,
            };
            session
                .shared
                .front
                .may_be_listened_to(session.peer, wire.io.is_tls());
            let caller = match planted::is(Fault::LostAddressV2) {
                true => caller,
                false => caller.at_address(session.peer),
            };
            return Ok((caller, lane));
        }
        Ok(_) => jay_engine::Error::new(
            jay_engine::ErrorKind::SignatureDoesNotMatch,
            "The proof of the access key is wrong.",
        ),
        Err(error) => error,
    };
    session.refused_handshake(refused);
    turn_away(session, wire, Step::Refused).await
}

fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// Says why no session begins, and ends the connection.
async fn turn_away<T>(session: &Session<'_>, wire: &mut Wire, why: Step) -> Result<T, End> {
    session.shared.metrics.handshake_failed();
    wire.put(&v2::step(why, &[])?).await?;
    wire.flush().await?;
    wire.io.shutdown().await?;
    Err(End::NotWelcome)
}

/// Which request of a session of its caller one is, if it says so.
fn once(caller: &Caller, place: Option<call::Session>) -> Result<Option<Once>, Error> {
    let once = place.map(|place| {
        let id = SessionId::try_from(&place.id[..])?;
        Once::new(caller, id, place.sequence, place.lowest, place.again)
    });
    Ok(once.transpose()?)
}

/// An answer as it goes out.
struct Frame {
    head: Vec<u8>,
    data: Bytes,
}

impl Frame {
    fn new(code: u8, stream_id: u32, metadata: &[u8], data: Bytes) -> Result<Self, EncodeError> {
        let mut head = Vec::with_capacity(v2::HEAD_BYTES + metadata.len());
        v2::frame(code, stream_id, metadata, data.len(), &mut head)?;
        Ok(Self { head, data })
    }

    /// An answer that is known to fit: what is told of a refusal is short.
    fn refusal(stream_id: u32, error: &Error, request_id: &str) -> Self {
        let reply = call::Reply {
            request_id: request_id.to_owned(),
            body: None,
        };
        let metadata = call::answer(&error.failure(), &reply).unwrap_or_default();
        let code = Status::Failed as u8;
        Self::new(code, stream_id, &metadata, Bytes::new()).unwrap_or(Self {
            head: Vec::new(),
            data: Bytes::new(),
        })
    }
}

/// What a peer is told that does not keep to the protocol, or whose frames are changed on their way.
fn protocol_failure(end: &End) -> call::Failure {
    let code = match end {
        End::Malformed(error) if error.problem == Problem::Checksum => ErrorCode::ChecksumMismatch,
        _ => ErrorCode::Protocol,
    };
    call::Failure {
        code: code as u32,
        message: format!("The connection ends: {end}."),
        ..call::Failure::default()
    }
}

/// Notes in the record of a request that it was refused.
fn note_refusal(record: &mut Record, error: &Error) {
    record.context.error_code = Some(error.code());
    record.answered(error.http_status());
}

/// Notes that it was done.
fn note_success(record: &mut Record) {
    record.answered(StatusCode::OK);
}
