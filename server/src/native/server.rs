//! GetServerInfo and OpenSession.

use bytes::Bytes;
use jay_engine::SESSION_LIFETIME;
use jay_wire::{
    Time,
    server::{GetServerInfo, OpenSession, ServerInfo, SessionInfo},
};

use super::{error::Result, hex, operation::Call};

pub(super) async fn get_server_info(call: &Call<'_>, _: GetServerInfo) -> Result<ServerInfo> {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Ok(ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store_id: hex(&call.engine.store_id()),
        region: call.region.to_owned(),
        now: Time(now.as_millis() as u64),
        token_id: call.caller.token_id().to_owned(),
        account_id: call.caller.account_id(),
    })
}

pub(super) async fn open_session(call: &Call<'_>, _: OpenSession) -> Result<SessionInfo> {
    let id = call.engine.open_session();
    Ok(SessionInfo {
        id: Bytes::copy_from_slice(id.as_bytes()),
        lifetime_ms: SESSION_LIFETIME.as_millis() as u32,
    })
}
