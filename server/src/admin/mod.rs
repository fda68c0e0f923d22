//! The admin port. Today it answers for the process's health; the admin API joins here.
//!
//! Made by `serve`, run by the listener. It is up before the store is open, so that a long recovery can be
//! told from a dead process.

mod health;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;

use crate::listener::{Front, RequestBody, RequestContext};

pub use self::health::Health;

/// The admin front.
#[derive(Clone)]
pub struct Admin {
    health: Health,
}

impl Admin {
    /// A front that tells `health`.
    pub fn new(health: Health) -> Self {
        Self { health }
    }
}

impl Front for Admin {
    type Body = Full<Bytes>;
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
            _ => json(StatusCode::NOT_FOUND, r#"{"error":"not found"}"#),
        }
    }
}

/// An answer of JSON; every body ends with a newline.
fn json(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{body}\n")));
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
