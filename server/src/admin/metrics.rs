//! `/_jay/metrics` and `/metrics`: what is counted, in the JSON of the original and as Prometheus reads it.

use axum::Extension;
use http::{Response, StatusCode, header};
use jay_engine::{Caller, Engine};

use super::{
    Api, Body,
    error::{Error, ErrorAnswer},
    json,
};
use crate::metrics::{JayMetrics, Sources};

/// The counters of the original, under its names.
#[utoipa::path(get, path = "/_jay/metrics", operation_id = "GetMetrics",
    responses((status = 200, body = JayMetrics), (status = "default", body = ErrorAnswer)))]
pub(super) async fn show(Extension(api): Extension<Api>) -> Response<Body> {
    let counted = api.settings.metrics.jay_json(Some(&api.engine));
    json(StatusCode::OK, &counted)
}

/// Everything that is counted, for Prometheus.
pub(super) async fn prometheus(
    sources: &Sources,
    engine: Option<&Engine>,
) -> Result<Response<Body>, Error> {
    let usage = match engine {
        None => Vec::new(),
        Some(engine) => usage(engine).await?,
    };
    let text = sources.prometheus(engine, usage);
    let mut response = Response::new(Body::Full(text.into()));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    Ok(response)
}

/// Name, objects and bytes of every bucket.
async fn usage(engine: &Engine) -> Result<Vec<(String, u64, u64)>, Error> {
    let operator = Caller::operator();
    let mut all = Vec::new();
    for bucket in engine.list_buckets(&operator).await? {
        // One that was deleted meanwhile has none.
        if let Ok(usage) = engine.bucket_usage(&operator, &bucket.name).await {
            all.push((bucket.name.to_string(), usage.objects, usage.bytes));
        }
    }
    Ok(all)
}
