//! The admin port: the process's health for everybody, and the admin API under `/_jay` for who has the admin token.
//!
//! Made by `serve`, run by the listener. The routes of the API, and the document that describes them, are in [`openapi`];
//! each handler is in the file of its noun. It is up before the store is open, so that a long recovery can be
//! told from a dead process.

mod account;
mod attempts;
pub mod backup;
mod body;
mod bucket;
mod connection;
mod error;
pub mod fsck;
mod health;
mod input;
mod job;
mod metrics;
mod openapi;
mod policy;
mod presign;
mod quarantine;
mod token;
mod upkeep;

use std::{sync::Arc, time::Instant};

use axum::{Router, response::IntoResponse as _};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use jay_engine::{Engine, Timestamp};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tower_service::Service as _;

use self::{
    attempts::{Attempts, Verdict, WINDOW},
    error::Error,
};
use crate::{
    listener::{Connections, Front, RequestBody, RequestContext, Window},
    metrics::Sources,
    planted::{self, Fault},
};

pub use self::{body::Body, health::Health};

/// Names the store that a request is meant for, by its id.
pub const STORE: http::HeaderName = http::HeaderName::from_static("x-jay-store");

/// What the admin front is told of the configuration.
pub struct Settings {
    /// How clients reach the S3 port, as links begin: scheme and authority, without a slash at the end.
    pub s3_url: String,
    /// The region in the scope of links in the AWS style.
    pub region: String,
    /// What is in effect, without secrets, as `GET /_jay/config` answers.
    pub config: serde_json::Value,
    /// Where the counters are.
    pub metrics: Sources,
    /// Those that are open, on all ports.
    pub connections: Arc<Connections>,
    /// `/metrics` asks for no token.
    pub metrics_public: bool,
}

/// The admin front.
#[derive(Clone)]
pub struct Admin {
    health: Health,
    settings: Arc<Settings>,
    attempts: Arc<Attempts>,
    router: Router,
}

/// What a handler works with; in the extensions of its request.
#[derive(Clone)]
struct Api {
    engine: Engine,
    settings: Arc<Settings>,
    window: Window,
}

impl Admin {
    /// A front that tells `health`.
    pub fn new(health: Health, settings: Settings) -> Self {
        Self {
            health,
            settings: Arc::new(settings),
            attempts: Arc::default(),
            router: openapi::router(),
        }
    }

    async fn api(
        &self,
        mut request: http::Request<RequestBody>,
        context: &mut RequestContext,
    ) -> Result<axum::response::Response, Error> {
        let Some((engine, token)) = self.health.served() else {
            return Err(not_open());
        };
        self.must_be_operator(request.headers(), &token, context)?;
        must_be_meant(request.headers(), &engine)?;
        request.extensions_mut().insert(Api {
            engine,
            settings: self.settings.clone(),
            window: context.window(),
        });
        let Ok(response) = self.router.clone().call(request).await;
        context.operation = openapi::operation_of(&response);
        Ok(response)
    }

    /// Metrics as Prometheus reads them: for the operator, unless they are public.
    async fn prometheus(
        &self,
        headers: &HeaderMap,
        context: &mut RequestContext,
    ) -> Result<Response<Body>, Error> {
        context.operation = "Metrics";
        let served = self.health.served();
        if !self.settings.metrics_public && !planted::is(Fault::OpenMetrics) {
            let (_, token) = served.as_ref().ok_or_else(not_open)?;
            self.must_be_operator(headers, token, context)?;
        }
        let engine = served.as_ref().map(|(engine, _)| engine);
        metrics::prometheus(&self.settings.metrics, engine).await
    }

    /// Refuses, and counts, a caller without the admin token.
    fn must_be_operator(
        &self,
        headers: &HeaderMap,
        token: &str,
        context: &mut RequestContext,
    ) -> Result<(), Error> {
        if is_operator(headers, token) || planted::is(Fault::OpenAdmin) {
            return Ok(());
        }
        context.auth_failed = true;
        // The peer itself: whoever can set a header would choose which address it counts for.
        let ip = context.peer;
        match self.attempts.note(ip, Instant::now()) {
            Verdict::Wrong => {
                tracing::warn!(%ip, "admin auth failure");
                Err(Error::new(StatusCode::UNAUTHORIZED, "unauthorized"))
            }
            Verdict::TooOften(failures) => {
                tracing::warn!(%ip, failures, "admin auth rate limited");
                let why = "unauthorized: too many wrong tries; the right token still passes";
                let error = Error::new(StatusCode::TOO_MANY_REQUESTS, why);
                Err(error.retry_after(WINDOW.as_secs()))
            }
        }
    }
}

/// Who works on a data directory and finds it in use asks the server at the address that is configured: it may be that
/// of another store.
fn must_be_meant(headers: &HeaderMap, engine: &Engine) -> Result<(), Error> {
    match headers.get(STORE) {
        Some(meant) if meant.as_bytes() != hex(engine.store_id()).as_bytes() => Err(Error::new(
            StatusCode::CONFLICT,
            "this server has another store open than the one that is meant: check JAY_ADMIN_ADDR and JAY_DATA_DIR",
        )),
        _ => Ok(()),
    }
}

/// An id as text.
pub fn hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

fn not_open() -> Error {
    Error::new(StatusCode::SERVICE_UNAVAILABLE, "the store is not open yet")
}

/// Whether the caller has the admin token.
fn is_operator(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).map(|v| v.as_bytes());
    let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
    // Digests, so that the comparison does not tell lengths.
    let digest = |text: &[u8]| Sha256::digest(text);
    given.is_some_and(|given| digest(given).ct_eq(&digest(token.as_bytes())).into())
}

impl Front for Admin {
    type Body = axum::body::Body;
    // Probes ask every few seconds, for ever.
    const LOGGED: bool = false;

    async fn handle(
        &self,
        request: http::Request<RequestBody>,
        context: &mut RequestContext,
    ) -> Response<Self::Body> {
        match request.uri().path() {
            "/health/live" => {
                context.operation = "HealthLive";
                health::live().into_response()
            }
            "/health" | "/health/ready" => {
                context.operation = "HealthReady";
                self.health.ready().into_response()
            }
            "/metrics" if request.method() == Method::GET => {
                let answer = self.prometheus(request.headers(), context).await;
                answer.map_or_else(
                    |error| error.into_response(),
                    |answer| answer.into_response(),
                )
            }
            path if path.starts_with("/_jay/") => {
                context.path = noun_of(path);
                let answer = self.api(request, context).await;
                answer.unwrap_or_else(|error| error.into_response())
            }
            _ => not_found().await.into_response(),
        }
    }
}

/// As much of a path as the log may tell: an id behind it may be a secret that somebody took for one.
fn noun_of(path: &str) -> String {
    let mut pieces = path.splitn(4, '/');
    let noun: Vec<&str> = pieces.by_ref().take(3).collect();
    let rest = pieces.next().map_or("", |_| "/…");
    noun.join("/") + rest
}

async fn not_found() -> Error {
    Error::new(StatusCode::NOT_FOUND, "not found")
}

/// An answer of JSON; every body ends with a newline.
fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let mut bytes = serde_json::to_vec(body).expect("what we answer is JSON");
    bytes.push(b'\n');
    let mut response = Response::new(Body::Full(bytes.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}

fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::Full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// RFC 3339 in UTC, with milliseconds.
pub fn time(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0 as i64).unwrap_or_default();
    format!("{at:.3}")
}
