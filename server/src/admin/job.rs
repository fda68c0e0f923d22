//! A long job on a thread of its own: its answer is lines of JSON, first `{"progress": …}` now and then, in the end
//! `{"report": …}` or `{"error": …}`.
//!
//! A caller that goes away ends the job at its next sign of progress.

use http::{HeaderValue, Response, header};
use serde::Serialize;

use super::{Body, body::Lines};

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a, T> {
    Progress(&'a T),
    Report(&'a T),
    Error(&'a T),
}

/// Where a job tells how far it is.
pub(super) struct Progress(Lines);

impl Progress {
    /// Tells it. False when nobody listens any more.
    pub(super) fn tell(&self, progress: &impl Serialize) -> bool {
        self.0.offer(&Line::Progress(progress))
    }
}

/// Begins a job and answers with what it will say.
pub(super) fn start<T: Serialize, E: std::fmt::Display>(
    job: impl FnOnce(&Progress) -> Result<T, E> + Send + 'static,
) -> Response<Body> {
    let (lines, body) = Body::lines();
    tokio::task::spawn_blocking(move || {
        let progress = Progress(lines);
        match job(&progress) {
            Ok(report) => progress.0.send(&Line::Report(&report)),
            Err(error) => {
                tracing::error!(%error, "an admin job failed");
                progress.0.send(&Line::Error(&error.to_string()))
            }
        }
    });
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let ndjson = HeaderValue::from_static("application/x-ndjson");
    headers.insert(header::CONTENT_TYPE, ndjson);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
