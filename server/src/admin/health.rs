//! `/health/live` and `/health/ready`: whether the process runs, and whether it serves.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, Ordering},
};

use http::{Response, StatusCode};
use jay_engine::Engine;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{Body, json};

const READY: u8 = 1;
const STOPPING: u8 = 2;

/// How far the process is; cheap to clone, shared by `serve` and the admin front.
#[derive(Clone, Default)]
pub struct Health(Arc<State>);

#[derive(Default)]
struct State {
    phase: AtomicU8,
    /// Set once the store is open, with the token of its operator.
    served: OnceLock<(Engine, Zeroizing<String>)>,
}

impl Health {
    /// Everything listens, and this is the store behind it.
    pub fn set_ready(&self, engine: Engine, admin_token: Zeroizing<String>) {
        let _ = self.0.served.set((engine, admin_token));
        self.0.phase.store(READY, Ordering::Release);
    }

    /// No new requests, please.
    pub fn set_stopping(&self) {
        self.0.phase.store(STOPPING, Ordering::Release);
    }

    /// False when the store has stopped writing, which only a restart ends.
    pub fn is_well(&self) -> bool {
        let served = self.0.served.get();
        served.is_none_or(|(engine, _)| engine.stopped().is_none())
    }

    /// The store and the token of its operator, once it is open.
    pub(super) fn served(&self) -> Option<(Engine, Zeroizing<String>)> {
        self.0.served.get().cloned()
    }

    pub(super) fn ready(&self) -> Response<Body> {
        let served = self.0.served.get();
        let has_stopped = || served.is_some_and(|(engine, _)| engine.stopped().is_some());
        match self.0.phase.load(Ordering::Acquire) {
            READY if has_stopped() => {
                not_ready("the store has stopped writing until it is restarted")
            }
            READY => status(StatusCode::OK, None, "ready"),
            STOPPING => not_ready("shutting down"),
            // Where it starts.
            _ => not_ready("recovery in progress"),
        }
    }
}

pub(super) fn live() -> Response<Body> {
    status(StatusCode::OK, None, "alive")
}

fn not_ready(reason: &'static str) -> Response<Body> {
    status(StatusCode::SERVICE_UNAVAILABLE, Some(reason), "not_ready")
}

fn status(code: StatusCode, reason: Option<&'static str>, status: &'static str) -> Response<Body> {
    #[derive(Serialize)]
    struct Answer {
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
        status: &'static str,
    }
    json(code, &Answer { reason, status })
}
