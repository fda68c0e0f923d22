//! `/health/live` and `/health/ready`: whether the process runs, and whether it serves.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, Ordering},
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use jay_engine::Engine;

use super::json;

const READY: u8 = 1;
const STOPPING: u8 = 2;

/// How far the process is; cheap to clone, shared by `serve` and the admin front.
#[derive(Clone, Default)]
pub struct Health(Arc<State>);

#[derive(Default)]
struct State {
    phase: AtomicU8,
    /// Set once the store is open.
    engine: OnceLock<Engine>,
}

impl Health {
    /// Everything listens, and this is the store behind it.
    pub fn set_ready(&self, engine: Engine) {
        let _ = self.0.engine.set(engine);
        self.0.phase.store(READY, Ordering::Release);
    }

    /// No new requests, please.
    pub fn set_stopping(&self) {
        self.0.phase.store(STOPPING, Ordering::Release);
    }

    pub(super) fn ready(&self) -> Response<Full<Bytes>> {
        let has_stopped = || self.0.engine.get().is_some_and(|e| e.stopped().is_some());
        match self.0.phase.load(Ordering::Acquire) {
            READY if has_stopped() => not_ready(
                r#"{"reason":"the store has stopped writing until it is restarted","status":"not_ready"}"#,
            ),
            READY => json(StatusCode::OK, r#"{"status":"ready"}"#),
            STOPPING => not_ready(r#"{"reason":"shutting down","status":"not_ready"}"#),
            // Where it starts.
            _ => not_ready(r#"{"reason":"recovery in progress","status":"not_ready"}"#),
        }
    }
}

pub(super) fn live() -> Response<Full<Bytes>> {
    json(StatusCode::OK, r#"{"status":"alive"}"#)
}

fn not_ready(body: &'static str) -> Response<Full<Bytes>> {
    json(StatusCode::SERVICE_UNAVAILABLE, body)
}
