//! Version 1: requests are done one after another, and answered in their order. Answers gather until there is nothing
//! more to read, so a client that sends many requests at once gets their answers at once.

use bytes::Bytes;
use http::StatusCode;
use jay_engine::{Caller, ErrorKind};
use jay_wire::{
    Header, Message as _, Status,
    handshake::{Credentials, HELLO_BYTES, Hello, Welcome},
    v2::Step,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{
    body::{Behind, Body, Broken, SKIPPED_BYTES_MAX},
    connection::Session,
    error::Error,
    operation::{Answer, V1, perform},
    wire::{End, Wire},
};
use crate::{
    listener::Record,
    planted::{self, Fault},
};

/// Who calls, once that is proven; `first` is the beginning of what it says.
pub(super) async fn shake_hands(
    session: &Session<'_>,
    wire: &mut Wire,
    first: &[u8; HELLO_BYTES],
) -> Result<Caller, End> {
    let hello = Hello::parse(first)?;
    let mut credentials = Zeroizing::new(vec![0; hello.credentials_bytes.into()]);
    wire.io.read_exact(&mut credentials).await?;
    let front = &session.shared.front;
    front.must_be_private(session.peer, wire.io.is_tls());
    let caller = match Credentials::parse(&credentials) {
        Ok(it) => front.engine.bearer(&it.token_id, &it.secret).await,
        Err(error) => Err(jay_engine::Error::new(
            ErrorKind::AccessDenied,
            error.to_string(),
        )),
    };
    match caller {
        Ok(caller) => {
            wire.put(&Welcome::Accepted.to_bytes()).await?;
            wire.flush().await?;
            match planted::is(Fault::LostAddressV1) {
                true => Ok(caller),
                false => Ok(caller.at_address(session.peer)),
            }
        }
        Err(error) => {
            session.refused_handshake(error);
            turn_away(session, wire, Step::Refused).await
        }
    }
}

/// Says why no session begins, in the words of version 1, and ends the connection.
pub(super) async fn turn_away<T>(
    session: &Session<'_>,
    wire: &mut Wire,
    why: Step,
) -> Result<T, End> {
    let welcome = match why {
        Step::VersionMismatch => Welcome::VersionMismatch,
        _ => Welcome::Refused,
    };
    session.shared.metrics.handshake_failed();
    wire.put(&welcome.to_bytes()).await?;
    wire.flush().await?;
    wire.io.shutdown().await?;
    Err(End::NotWelcome)
}

/// Answers requests to the end of the connection.
pub(super) async fn serve(
    session: &Session<'_>,
    caller: &Caller,
    mut wire: Wire,
) -> Result<(), End> {
    while let Some((header, metadata)) = wire.request().await? {
        request(session, caller, &mut wire, header, metadata).await?;
    }
    wire.flush().await
}

/// Does one request and answers it.
async fn request(
    session: &Session<'_>,
    caller: &Caller,
    wire: &mut Wire,
    header: Header,
    metadata: Bytes,
) -> Result<(), End> {
    let mut record = session.record();
    session.link.lock().request_begins(session.peer);
    record.context.token_id = Some(caller.token_id().to_owned());
    let mut body = Body::Behind(Behind::new(wire, header.data_bytes));
    let done = match session.admit(caller, header.data_bytes) {
        Ok(()) => {
            let (call, context) = (session.call(caller, false, None), &mut record.context);
            perform::<V1>(&call, header.code, &metadata, &mut body, context).await
        }
        Err(refused) => Err(Broken::Refused(refused)),
    };
    let Body::Behind(mut body) = body else {
        unreachable!("the body of a request of version 1 is behind it");
    };
    let left = body.left();
    record.context.bytes_in = header.data_bytes - left;
    match done {
        Ok(answered) => answer(wire, header.stream_id, answered, record).await,
        Err(Broken::Ended(end)) => Err(end),
        Err(Broken::Refused(error)) => {
            if left <= SKIPPED_BYTES_MAX {
                body.skip().await?;
            }
            refuse(wire, header.stream_id, &error, record).await?;
            let end = match left > SKIPPED_BYTES_MAX {
                true => End::Unread,
                false if !session.is_usable(caller) => End::Revoked,
                false => return Ok(()),
            };
            wire.part().await?;
            Err(end)
        }
    }
}

async fn answer(
    wire: &mut Wire,
    stream_id: u32,
    answer: Answer,
    mut record: Record,
) -> Result<(), End> {
    let (metadata, outgoing) = match answer {
        Answer::Metadata(metadata) => (metadata, None),
        Answer::Object(metadata, outgoing) => (metadata, Some(outgoing)),
    };
    let header = Header {
        code: Status::Ok as u8,
        stream_id,
        metadata_bytes: metadata.len() as u32,
        data_bytes: outgoing.as_ref().map_or(0, |outgoing| outgoing.size),
    };
    record.answered(StatusCode::OK);
    wire.put(&header.to_bytes()).await?;
    wire.put(&metadata).await?;
    if let Some(mut outgoing) = outgoing {
        loop {
            match outgoing.next().await {
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
