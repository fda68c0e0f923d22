//! `/_jay/upkeep`, `/_jay/scrub` and `/_jay/snapshots`: what the store has found in itself, the scrubber, and snapshots.

use std::time::Duration;

use axum::Extension;
use http::{Response, StatusCode};
use jay_engine::{Engine, ScrubExtent, ScrubPass, SnapshotInfo};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api, Body,
    error::{Error, ErrorAnswer},
    input::Optional,
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
pub(super) struct Scrub {
    /// Time that a whole round takes, in hours.
    round_hours: f64,
    /// What a whole round is to see: the objects in all buckets, and their bytes.
    objects_total: u64,
    bytes_total: u64,
    /// The pass under way.
    pass: Option<Pass>,
    /// A pass that was asked for and begins soon: its extent.
    wanted: Option<&'static str>,
    /// RFC 3339; when the next one begins by itself.
    next_pass_at: Option<String>,
    /// What the round under way has seen.
    round: Option<Round>,
    /// What the last whole round has seen.
    last_round: Option<Round>,
}

/// A pass that is under way.
#[derive(Serialize, ToSchema)]
struct Pass {
    /// `presence` (whether all bodies are there, after a start), `share` (the bytes of a share of everything) or
    /// `everything`.
    extent: &'static str,
    /// Share of it that is done, about.
    done: f64,
    began_at: String,
    /// Objects and parts of open uploads that it has seen.
    objects: u64,
    bytes: u64,
    damaged: u64,
    /// Those that the disk did not let us read.
    errors: u64,
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

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartScrub {
    /// The bytes of everything: the round begins anew. Else a share, from where the last pass ended.
    #[serde(default)]
    everything: bool,
}

impl Scrub {
    async fn of(engine: &Engine) -> Result<Self, Error> {
        let status = engine.scrub_status().await?;
        Ok(Self {
            round_hours: status.round_takes.as_secs_f64() / 3600.0,
            objects_total: status.objects,
            bytes_total: status.bytes,
            pass: status.pass.map(Pass::from),
            wanted: status.wanted.map(name),
            next_pass_at: status.next_pass_in.map(from_now),
            round: round(&status.round),
            last_round: round(&status.last),
        })
    }
}

impl From<ScrubPass> for Pass {
    fn from(pass: ScrubPass) -> Self {
        Self {
            extent: name(pass.extent),
            // Four digits are more than the estimate is worth.
            done: (pass.done * 1e4).round() / 1e4,
            began_at: time(pass.seen.began),
            objects: pass.seen.objects,
            bytes: pass.seen.bytes,
            damaged: pass.seen.damaged,
            errors: pass.seen.errors,
        }
    }
}

fn name(extent: ScrubExtent) -> &'static str {
    match extent {
        ScrubExtent::Presence => "presence",
        ScrubExtent::Share => "share",
        ScrubExtent::Everything => "everything",
    }
}

fn from_now(wait: Duration) -> String {
    format!("{:.0}", jiff::Timestamp::now() + wait)
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
    let status = Upkeep {
        checksum_failures: counters.checksum_failures.value(),
        objects_quarantined: counters.objects_quarantined.value(),
        reads_sampled: counters.reads_sampled.value(),
        index_rebuilt: engine.rebuilt(),
        stopped: engine.stopped(),
        scrub: Scrub::of(engine).await?,
    };
    Ok(json(StatusCode::OK, &status))
}

/// How far the scrubber is.
#[utoipa::path(get, path = "/_jay/scrub", operation_id = "GetScrub",
    responses((status = 200, body = Scrub), (status = "default", body = ErrorAnswer)))]
pub(super) async fn scrub(Extension(api): Extension<Api>) -> Result<Response<Body>, Error> {
    Ok(json(StatusCode::OK, &Scrub::of(&api.engine).await?))
}

/// Begins a pass of the scrubber now, unless one that checks as much is under way.
#[utoipa::path(post, path = "/_jay/scrub", operation_id = "StartScrub", request_body = Option<StartScrub>,
    responses((status = 202, body = Scrub), (status = "default", body = ErrorAnswer)))]
pub(super) async fn start_scrub(
    Extension(api): Extension<Api>,
    Optional(asked): Optional<StartScrub>,
) -> Result<Response<Body>, Error> {
    api.engine.start_scrub(match asked.everything {
        true => ScrubExtent::Everything,
        false => ScrubExtent::Share,
    });
    Ok(json(StatusCode::ACCEPTED, &Scrub::of(&api.engine).await?))
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
