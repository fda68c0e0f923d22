//! `/_jay/upkeep` and `/_jay/snapshots`: what the store has found in itself, and its snapshots.

use axum::Extension;
use http::{Response, StatusCode};
use jay_engine::SnapshotInfo;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api, Body,
    error::{Error, ErrorAnswer},
    json, time,
};

/// How the store is.
#[derive(Serialize, ToSchema)]
pub(super) struct Upkeep {
    checksum_failures: u64,
    objects_quarantined: u64,
    reads_sampled: u64,
    /// Why the index was made anew at this start.
    index_rebuilt: Option<String>,
    /// Why the store writes no more.
    stopped: Option<String>,
    scrub: Scrub,
}

/// How far the scrubber is.
#[derive(Serialize, ToSchema)]
struct Scrub {
    /// Time that a whole round takes, in hours.
    round_hours: f64,
    round: Option<Round>,
    last_round: Option<Round>,
}

#[derive(Serialize, ToSchema)]
struct Round {
    began_at: String,
    ended_at: Option<String>,
    objects: u64,
    bytes: u64,
    damaged: u64,
    errors: u64,
}

fn round(tally: &jay_engine::ScrubTally) -> Option<Round> {
    (tally.began.0 > 0).then(|| Round {
        began_at: time(tally.began),
        ended_at: (tally.ended.0 > 0).then(|| time(tally.ended)),
        objects: tally.objects,
        bytes: tally.bytes,
        damaged: tally.damaged,
        errors: tally.errors,
    })
}

/// What the store has found in itself, and how far the scrubber is.
#[utoipa::path(get, path = "/_jay/upkeep", operation_id = "GetUpkeep",
    responses((status = 200, body = Upkeep), (status = "default", body = ErrorAnswer)))]
pub(super) async fn status(Extension(api): Extension<Api>) -> Result<Response<Body>, Error> {
    let engine = &api.engine;
    let counters = engine.counters();
    let scrub = engine.scrub_status().await?;
    let status = Upkeep {
        checksum_failures: counters.checksum_failures.value(),
        objects_quarantined: counters.objects_quarantined.value(),
        reads_sampled: counters.reads_sampled.value(),
        index_rebuilt: engine.rebuilt(),
        stopped: engine.stopped(),
        scrub: Scrub {
            round_hours: scrub.round_takes.as_secs_f64() / 3600.0,
            round: round(&scrub.round),
            last_round: round(&scrub.last),
        },
    };
    Ok(json(StatusCode::OK, &status))
}

/// A snapshot of the index.
#[derive(Serialize, ToSchema)]
pub(super) struct Snapshot {
    name: String,
    created_at: String,
    rows: u64,
    lsn: u64,
}

/// Takes a snapshot of the index now.
#[utoipa::path(post, path = "/_jay/snapshots", operation_id = "TakeSnapshot",
    responses((status = 201, body = Snapshot), (status = "default", body = ErrorAnswer)))]
pub(super) async fn take_snapshot(Extension(api): Extension<Api>) -> Result<Response<Body>, Error> {
    let SnapshotInfo {
        name,
        created,
        checkpoint,
        rows,
    } = api.engine.take_snapshot().await?;
    let answer = Snapshot {
        name,
        created_at: time(created),
        rows,
        lsn: checkpoint.applied_lsn,
    };
    Ok(json(StatusCode::CREATED, &answer))
}
