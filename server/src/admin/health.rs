//! `/health/live` and `/health/ready`: whether the process runs, and whether it serves.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::json;

const READY: u8 = 1;
const STOPPING: u8 = 2;

/// How far the process is; cheap to clone, shared by `serve` and the admin front.
#[derive(Clone, Default)]
pub struct Health(Arc<AtomicU8>);

impl Health {
    /// Everything listens.
    pub fn set_ready(&self) {
        self.0.store(READY, Ordering::Release);
    }

    /// No new requests, please.
    pub fn set_stopping(&self) {
        self.0.store(STOPPING, Ordering::Release);
    }

    pub(super) fn ready(&self) -> Response<Full<Bytes>> {
        match self.0.load(Ordering::Acquire) {
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
