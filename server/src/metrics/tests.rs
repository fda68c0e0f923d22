use std::num::NonZeroU32;

use super::*;
use crate::{
    config::RateLimit,
    limits::{Caller, RateLimiter},
};

fn sources() -> Sources {
    let limit = RateLimit {
        per_second: 0.001,
        burst: NonZeroU32::MIN,
    };
    Sources {
        metrics: Arc::default(),
        limiter: Arc::new(RateLimiter::new(Some(limit))),
    }
}

fn ended(operation: &'static str) -> Ended {
    Ended {
        operation,
        outcome: Outcome::Success,
        error_code: None,
        auth_failed: false,
        took: Duration::from_micros(2_500),
        bytes_in: 10,
        bytes_out: 100,
    }
}

#[test]
fn jays_names_are_all_there_and_count() {
    let sources = sources();
    let port = sources.metrics.port("s3");
    for operation in [
        "PutObject",
        "UploadPart",
        "GetObject",
        "HeadObject",
        "DeleteObject",
        "ListObjects",
        "ListObjectsV2",
        "CreateBucket",
        "DeleteBucket",
    ] {
        port.request(&ended(operation));
        port.request(&Ended {
            outcome: Outcome::ClientError,
            error_code: Some("SignatureDoesNotMatch"),
            auth_failed: true,
            bytes_in: 0,
            bytes_out: 0,
            ..ended(operation)
        });
    }
    let json = serde_json::to_value(sources.jay_json(None)).unwrap();
    let expected = serde_json::json!({
        "uptime_seconds": 0, "put_object_total": 1, "get_object_total": 1, "delete_object_total": 1,
        "head_object_total": 1, "list_objects_total": 2, "create_bucket_total": 1, "delete_bucket_total": 1,
        "auth_failures": 9, "checksum_failures": 0, "fsync_failures": 0, "objects_quarantined": 0,
        "bytes_uploaded": 20, "bytes_downloaded": 100,
    });
    assert_eq!(json, expected);
}

#[test]
fn outcomes_follow_status_and_end() {
    for (status, complete, expected) in [
        (200, true, Outcome::Success),
        (304, true, Outcome::Success),
        (200, false, Outcome::Aborted),
        (0, false, Outcome::Aborted),
        (404, false, Outcome::ClientError),
        (503, true, Outcome::ServerError),
    ] {
        assert_eq!(Outcome::of(status, complete), expected, "{status}");
    }
}

#[test]
fn prometheus_text_has_what_was_counted() {
    let sources = sources();
    let port = sources.metrics.port("s3");
    port.request(&ended("PutObject"));
    port.request(&Ended {
        error_code: Some("NoSuchKey"),
        outcome: Outcome::ClientError,
        ..ended("")
    });
    let open = port.connection();
    let gone = port.connection();
    drop(gone);
    let _ = sources.limiter.check(Caller::Others);
    let _ = sources.limiter.check(Caller::Others);
    let text = sources.prometheus(None, [("a\"b\\c\nd".to_owned(), 3, 4)]);
    for line in [
        "# TYPE jay_request_duration_seconds histogram",
        r#"jay_requests_total{port="s3",operation="PutObject",outcome="success"} 1"#,
        r#"jay_requests_total{port="s3",operation="Unknown",outcome="client_error"} 1"#,
        r#"jay_request_duration_seconds_bucket{port="s3",operation="PutObject",le="0.001"} 0"#,
        r#"jay_request_duration_seconds_bucket{port="s3",operation="PutObject",le="0.0025"} 1"#,
        r#"jay_request_duration_seconds_bucket{port="s3",operation="PutObject",le="+Inf"} 1"#,
        r#"jay_request_duration_seconds_sum{port="s3",operation="PutObject"} 0.0025"#,
        r#"jay_request_duration_seconds_count{port="s3",operation="PutObject"} 1"#,
        r#"jay_request_bytes_total{port="s3",operation="PutObject"} 10"#,
        r#"jay_response_bytes_total{port="s3",operation="PutObject"} 100"#,
        r#"jay_errors_total{port="s3",code="NoSuchKey"} 1"#,
        r#"jay_open_connections{port="s3"} 1"#,
        r#"jay_connections_total{port="s3"} 2"#,
        "jay_rate_limited_requests_total 1",
        r#"jay_bucket_objects{bucket="a\"b\\c\nd"} 3"#,
        r#"jay_bucket_bytes{bucket="a\"b\\c\nd"} 4"#,
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in:\n{text}"
        );
    }
    drop(open);
}
