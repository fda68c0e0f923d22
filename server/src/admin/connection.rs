//! `/_jay/connections`: the open connections of all ports.

use std::{net::IpAddr, time::SystemTime};

use axum::Extension;
use http::{Response, StatusCode};
use jay_engine::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, Body, Error, error::ErrorAnswer, input::Name, json, no_content, time};
use crate::listener::{self, Phase};

/// A connection that is open.
#[derive(Serialize, ToSchema)]
pub(super) struct Connection {
    /// Not used again before the server ends.
    id: u64,
    /// `s3` or `admin`.
    port: &'static str,
    tls: bool,
    /// Who connected: address and port.
    peer: String,
    /// Who sent the request under way, or the last one: the peer, or the client that a trusted proxy names.
    #[schema(value_type = Option<String>)]
    client: Option<IpAddr>,
    /// RFC 3339.
    opened_at: String,
    /// Requests that are over.
    requests: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// `handshake` (of TLS), `idle`, `head` (of a request, on its way) or `request`.
    state: &'static str,
    /// RFC 3339; since when it is in this state.
    since: String,
    /// The request under way.
    operation: Option<&'static str>,
    bucket: Option<String>,
    /// Id of the access key, once it is proven.
    token_id: Option<String>,
    /// What the client is to go on with: to send more of the `body`, or to take more of the `answer`.
    waits_for: Option<&'static str>,
    /// RFC 3339; since when.
    waits_since: Option<String>,
}

impl From<listener::Connection> for Connection {
    fn from(connection: listener::Connection) -> Self {
        let activity = connection.activity;
        let waits = activity.waits;
        let request = activity.request;
        Self {
            id: connection.id,
            port: connection.port,
            tls: connection.is_tls,
            peer: connection.peer.to_string(),
            client: activity.client,
            opened_at: at(connection.opened),
            requests: activity.requests,
            bytes_in: activity.bytes_in,
            bytes_out: activity.bytes_out,
            state: match activity.phase {
                Phase::Handshake => "handshake",
                Phase::Fresh | Phase::Idle => "idle",
                Phase::Head => "head",
                Phase::Request => "request",
            },
            since: at(activity.since),
            operation: Some(request.operation).filter(|name| !name.is_empty()),
            bucket: request.bucket,
            token_id: request.token_id,
            waits_for: waits.map(|waits| waits.what),
            waits_since: waits.map(|waits| at(waits.since)),
        }
    }
}

fn at(moment: SystemTime) -> String {
    let since_1970 = moment.duration_since(SystemTime::UNIX_EPOCH);
    time(Timestamp(since_1970.unwrap_or_default().as_millis() as u64))
}

/// The open connections of all ports, the oldest first.
#[utoipa::path(get, path = "/_jay/connections", operation_id = "ListConnections",
    responses((status = 200, body = Vec<Connection>), (status = "default", body = ErrorAnswer)))]
pub(super) async fn list(Extension(api): Extension<Api>) -> Response<Body> {
    let open = api.settings.connections.list().into_iter();
    json(
        StatusCode::OK,
        &open.map(Connection::from).collect::<Vec<_>>(),
    )
}

/// Closes a connection, and gives up the request under way on it.
#[utoipa::path(delete, path = "/_jay/connections/{id}", operation_id = "CloseConnection",
    params(("id" = u64, Path, description = "As the list shows it")),
    responses((status = 204), (status = "default", body = ErrorAnswer)))]
pub(super) async fn close(
    Extension(api): Extension<Api>,
    Name(id): Name,
) -> Result<Response<Body>, Error> {
    let id = id
        .parse()
        .map_err(|_| Error::bad_request("id must be a number of the list"))?;
    let Some((port, peer)) = api.settings.connections.close(id) else {
        return Err(Error::new(
            StatusCode::NOT_FOUND,
            "there is no such connection",
        ));
    };
    tracing::info!(id, port, %peer, "a connection was closed by the operator");
    Ok(no_content())
}
