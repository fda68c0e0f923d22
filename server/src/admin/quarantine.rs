//! `/_jay/quarantine`: objects whose stored bytes are damaged.

use axum::Extension;
use http::{Response, StatusCode};
use jay_engine::{Engine, ErrorKind, ObjectKey, QuarantinedObject};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api, Body,
    error::{Error, ErrorAnswer},
    input::Input,
    json, no_content, time,
};

/// One entry of the list. The first seven fields are those of the original Jay.
#[derive(Serialize, ToSchema)]
pub(super) struct Entry {
    bucket_id: String,
    bucket_name: Option<String>,
    key: String,
    object_id: String,
    size_bytes: u64,
    expected_checksum: String,
    quarantined_at: String,
    reason: String,
}

impl From<QuarantinedObject> for Entry {
    fn from(object: QuarantinedObject) -> Self {
        Self {
            bucket_id: object.bucket_id.to_string(),
            bucket_name: object.bucket,
            key: object.key,
            object_id: format!("{:032x}", object.version),
            size_bytes: object.size,
            expected_checksum: object
                .sha256
                .iter()
                .flatten()
                .map(|b| format!("{b:02x}"))
                .collect(),
            quarantined_at: time(object.since),
            reason: object.reason,
        }
    }
}

/// Names one object in quarantine.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Quarantined {
    /// As the list shows it.
    bucket_id: String,
    #[schema(min_length = 1, max_length = 1024)]
    key: String,
}

/// Names one object in quarantine, or all of them.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PurgeQuarantined)]
pub(super) struct Which {
    /// As the list shows it.
    bucket_id: Option<String>,
    key: Option<String>,
    /// `all`, and nothing else, when everything is to be purged.
    mode: Option<Mode>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = PurgeMode)]
enum Mode {
    All,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Revalidated {
    restored: bool,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Purged {
    purged: u64,
}

impl Quarantined {
    fn place(&self) -> Result<(u64, ObjectKey), Error> {
        let bucket_id = self
            .bucket_id
            .parse()
            .map_err(|_| Error::bad_request("bucket_id must be the one that the list shows"))?;
        Ok((bucket_id, ObjectKey::parse(&self.key)?))
    }
}

/// All objects in quarantine.
#[utoipa::path(get, path = "/_jay/quarantine", operation_id = "ListQuarantine",
    responses((status = 200, body = Vec<Entry>), (status = "default", body = ErrorAnswer)))]
pub(super) async fn list(Extension(api): Extension<Api>) -> Result<Response<Body>, Error> {
    let engine = &api.engine;
    let (mut entries, mut after) = (Vec::new(), None);
    loop {
        let page = engine.list_quarantine(after).await?;
        after = page.objects.last().and_then(place);
        entries.extend(page.objects.into_iter().map(Entry::from));
        if !page.is_truncated || after.is_none() {
            return Ok(json(StatusCode::OK, &entries));
        }
    }
}

fn place(object: &QuarantinedObject) -> Option<(u64, ObjectKey)> {
    Some((object.bucket_id, ObjectKey::parse(&object.key).ok()?))
}

/// Checks an object again: `{"restored": true}` when it is whole and readable now.
#[utoipa::path(post, path = "/_jay/quarantine/revalidate", operation_id = "RevalidateQuarantined",
    request_body = Quarantined,
    responses((status = 200, body = Revalidated), (status = "default", body = ErrorAnswer)))]
pub(super) async fn revalidate(
    Extension(api): Extension<Api>,
    Input(which): Input<Quarantined>,
) -> Result<Response<Body>, Error> {
    let (bucket_id, key) = which.place()?;
    let restored = api.engine.revalidate_quarantined(bucket_id, &key).await?;
    Ok(json(StatusCode::OK, &Revalidated { restored }))
}

/// Deletes one object that is in quarantine, or with `{"mode":"all"}` all of them.
#[utoipa::path(delete, path = "/_jay/quarantine", operation_id = "PurgeQuarantined",
    request_body = Which,
    responses((status = 204, description = "The one object is deleted"),
        (status = 200, body = Purged, description = "All are deleted: how many there were"),
        (status = "default", body = ErrorAnswer)))]
pub(super) async fn purge(
    Extension(api): Extension<Api>,
    Input(which): Input<Which>,
) -> Result<Response<Body>, Error> {
    match (which.mode, which.bucket_id, which.key) {
        (None, Some(bucket_id), Some(key)) => {
            let (bucket_id, key) = Quarantined { bucket_id, key }.place()?;
            api.engine.purge_quarantined(bucket_id, &key).await?;
            Ok(no_content())
        }
        (None, ..) => Err(Error::bad_request("bucket_id and key are required")),
        (Some(Mode::All), None, None) => {
            let purged = purge_all(&api.engine).await?;
            Ok(json(StatusCode::OK, &Purged { purged }))
        }
        (Some(Mode::All), ..) => Err(Error::bad_request(
            "mode \"all\" goes without bucket_id and key",
        )),
    }
}

async fn purge_all(engine: &Engine) -> Result<u64, Error> {
    let (mut purged, mut after) = (0, None);
    loop {
        let page = engine.list_quarantine(after).await?;
        after = page.objects.last().and_then(place);
        for (bucket_id, key) in page.objects.iter().filter_map(place) {
            match engine.purge_quarantined(bucket_id, &key).await {
                Ok(()) => purged += 1,
                // It was put anew or deleted meanwhile.
                Err(error) if error.kind() == ErrorKind::NoSuchKey => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !page.is_truncated || after.is_none() {
            return Ok(purged);
        }
    }
}
