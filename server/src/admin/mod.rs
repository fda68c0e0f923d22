//! The admin port: the process's health for everybody, and the admin API under `/_jay` for who has the admin token.
//!
//! Made by `serve`, run by the listener. It is up before the store is open, so that a long recovery can be
//! told from a dead process.

pub mod backup;
mod body;
mod error;
pub mod fsck;
mod health;
mod job;
mod quarantine;
mod upkeep;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use jay_engine::{Engine, Timestamp};
use serde::Serialize;
use subtle::ConstantTimeEq as _;

use self::error::Error;
use crate::{
    listener::{Front, RequestBody, RequestContext},
    metrics::Sources,
};

pub use self::{body::Body, health::Health};

/// Names the store that a request is meant for, by its id.
pub const STORE: http::HeaderName = http::HeaderName::from_static("x-jay-store");
/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The admin front.
#[derive(Clone)]
pub struct Admin {
    health: Health,
    metrics: Sources,
    /// `/metrics` asks for no token.
    metrics_public: bool,
}

impl Admin {
    /// A front that tells `health`, and `metrics` to everybody if they are public.
    pub fn new(health: Health, metrics: Sources, metrics_public: bool) -> Self {
        Self {
            health,
            metrics,
            metrics_public,
        }
    }

    /// Metrics as Prometheus reads them.
    fn prometheus(
        &self,
        headers: &HeaderMap,
        context: &mut RequestContext,
    ) -> Result<Response<Body>, Error> {
        context.operation = "Metrics";
        let served = self.health.served();
        if !self.metrics_public {
            let (_, token) = served.as_ref().ok_or_else(not_open)?;
            must_be_operator(headers, token, context)?;
        }
        let engine = served.as_ref().map(|(engine, _)| engine);
        let text = self.metrics.prometheus(engine, []);
        let mut response = Response::new(Body::Full(text.into()));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
        );
        Ok(response)
    }

    async fn api(
        &self,
        request: http::Request<RequestBody>,
        context: &mut RequestContext,
    ) -> Result<Response<Body>, Error> {
        let Some((engine, token)) = self.health.served() else {
            return Err(not_open());
        };
        must_be_operator(request.headers(), &token, context)?;
        must_be_meant(request.headers(), &engine)?;
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body: Bytes = body
            .map_err(|error| Error::bad_request(format!("invalid request body: {error}")))?
            .to_bytes();
        let route = parts.uri.path().strip_prefix("/_jay").unwrap_or_default();
        let mut named = |name| context.operation = name;
        match (&parts.method, route) {
            (&Method::GET, "/quarantine") => {
                named("ListQuarantine");
                quarantine::list(&engine).await
            }
            (&Method::POST, "/quarantine/revalidate") => {
                named("RevalidateQuarantined");
                quarantine::revalidate(&engine, &body).await
            }
            (&Method::DELETE, "/quarantine") => {
                named("PurgeQuarantined");
                quarantine::purge(&engine, &body).await
            }
            (&Method::GET, "/metrics") => {
                named("JayMetrics");
                Ok(json(StatusCode::OK, &self.metrics.jay_json(Some(&engine))))
            }
            (&Method::GET, "/upkeep") => {
                named("GetUpkeep");
                upkeep::status(&engine).await
            }
            (&Method::POST, "/fsck") => {
                named("Fsck");
                fsck::check(&engine, &body)
            }
            (&Method::POST, "/backups") => {
                named("CreateBackup");
                backup::create(engine, &body)
            }
            (&Method::POST, "/snapshots") => {
                named("TakeSnapshot");
                upkeep::take_snapshot(&engine).await
            }
            _ => Err(Error::new(StatusCode::NOT_FOUND, "not found")),
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

/// Refuses, and counts, a caller without the admin token.
fn must_be_operator(
    headers: &HeaderMap,
    token: &str,
    context: &mut RequestContext,
) -> Result<(), Error> {
    match is_operator(headers, token) {
        true => Ok(()),
        false => {
            context.auth_failed = true;
            Err(Error::new(StatusCode::UNAUTHORIZED, "unauthorized"))
        }
    }
}

/// Whether the caller has the admin token.
fn is_operator(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).map(|v| v.as_bytes());
    let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
    given.is_some_and(|given| given.ct_eq(token.as_bytes()).into())
}

impl Front for Admin {
    type Body = Body;
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
                health::live()
            }
            "/health" | "/health/ready" => {
                context.operation = "HealthReady";
                self.health.ready()
            }
            "/metrics" if request.method() == Method::GET => {
                let answer = self.prometheus(request.headers(), context);
                answer.unwrap_or_else(|error| error.response())
            }
            path if path.starts_with("/_jay/") => {
                let answer = self.api(request, context).await;
                answer.unwrap_or_else(|error| error.response())
            }
            _ => Error::new(StatusCode::NOT_FOUND, "not found").response(),
        }
    }
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
