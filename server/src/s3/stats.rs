//! Jay's own `GET /_stats/{bucket}`: how full a bucket is, in JSON.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use jay_engine::{BucketName, Caller, ErrorKind};
use serde::Serialize;

use super::{Body, Call, error::Result, router::Target};
use crate::planted::{self, Fault};

#[derive(Serialize)]
struct Stats<'a> {
    bucket: &'a str,
    object_count: u64,
    total_size_bytes: u64,
}

#[derive(Serialize)]
struct NotFound {
    error: &'static str,
}

/// Answers with what the bucket holds, whose name stands where the key does elsewhere.
pub(crate) async fn get_bucket_stats(call: &Call<'_>, target: &Target) -> Result<Response<Body>> {
    let name = target.key.as_deref().unwrap_or_default();
    let caller = match planted::is(Fault::TellingStats) && !call.caller.is_anonymous() {
        true => &Caller::operator(),
        false => call.caller,
    };
    let usage = match BucketName::parse(name) {
        Ok(bucket) => call.engine.bucket_usage(caller, &bucket).await,
        Err(error) => Err(error),
    };
    match usage {
        Ok(usage) => {
            let stats = Stats {
                bucket: name,
                object_count: usage.objects,
                total_size_bytes: usage.bytes,
            };
            Ok(json(StatusCode::OK, &stats))
        }
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NoSuchBucket | ErrorKind::InvalidBucketName
            ) =>
        {
            let error = "bucket not found";
            Ok(json(StatusCode::NOT_FOUND, &NotFound { error }))
        }
        Err(error) => Err(error.into()),
    }
}

fn json(status: StatusCode, answer: &impl Serialize) -> Response<Body> {
    let mut bytes = serde_json::to_vec(answer).expect("numbers and texts are JSON");
    bytes.push(b'\n');
    let mut response = Response::new(Body::full(Bytes::from(bytes)));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
