//! Whole runs against a small S3 server in memory that can be told to misbehave.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;
use crate::cli::sign::Credentials;

#[derive(Default)]
struct Server {
    objects: Mutex<BTreeMap<String, Bytes>>,
    requests: AtomicU64,
    fault: Fault,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    /// Every tenth PUT of an object is acknowledged and thrown away.
    Forget,
    /// Every tenth GET of an object is refused.
    SlowDown,
    /// Request number 20 takes 300 ms.
    Stall,
    /// The connection is closed after every tenth answer.
    Close,
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let number = self.requests.fetch_add(1, Relaxed);
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let (path, tenth) = (head.uri.path().to_owned(), number % 10 == 9);
        let is_object = path.matches('/').count() > 1;
        assert!(
            head.headers["authorization"]
                .to_str()
                .unwrap()
                .starts_with("AWS4-HMAC-SHA256 ")
        );
        if self.fault == Fault::Stall && number == 20 {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let mut objects = self.objects.lock().unwrap();
        let answer = |status: u16, body: Bytes| {
            let length = body.len();
            let mut answer = Response::builder()
                .status(status)
                .header("content-length", length);
            if self.fault == Fault::Close && tenth {
                answer = answer.header("connection", "close");
            }
            answer.body(Full::new(body)).unwrap()
        };
        match head.method {
            Method::PUT => {
                if !(is_object && tenth && self.fault == Fault::Forget) {
                    objects.insert(path, body);
                }
                answer(200, Bytes::new())
            }
            Method::GET if head.uri.query().is_some() => {
                answer(200, "<ListBucketResult></ListBucketResult>".into())
            }
            Method::GET if is_object && tenth && self.fault == Fault::SlowDown => answer(
                503,
                "<Error><Code>SlowDown</Code><Message>Later.</Message></Error>".into(),
            ),
            Method::GET | Method::HEAD => match objects.get(&path) {
                Some(body) => answer(200, body.clone()),
                None => answer(404, "<Error><Code>NoSuchKey</Code></Error>".into()),
            },
            _ => {
                objects.remove(&path);
                Response::builder()
                    .status(204)
                    .body(Full::default())
                    .unwrap()
            }
        }
    }
}

/// Runs `jay bench` with `arguments` against a server with `fault`; answers the report and what the server still holds.
async fn bench(fault: Fault, arguments: &str) -> (anyhow::Result<Report>, usize) {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }
    let args = Line::parse_from(std::iter::once("bench").chain(arguments.split(' '))).bench;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server: &'static Server = Box::leak(Box::new(Server {
        fault,
        ..Server::default()
    }));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service =
                service_fn(async |request| Ok::<_, hyper::Error>(server.answer(request).await));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let credentials = Credentials {
        access_key_id: "key".into(),
        secret_access_key: "secret".to_owned().into(),
        session_token: None,
    };
    let client = Client::S3(S3::new(
        Endpoint::parse(&endpoint).unwrap(),
        Signer::new(credentials, "us-east-1".into()),
        args.timeout,
        args.sign_payload,
    ));
    let report = measure(&args, client).await.map(|(report, cleaned)| {
        cleaned.unwrap();
        report
    });
    let left = server.objects.lock().unwrap().len();
    (report, left)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_server_passes_and_is_left_empty() {
    for more in ["", " --sign-payload", " --rate 2000"] {
        let arguments = "--mix put=2,get=4,head=1,delete=1,list=1 --size 0..1MiB --keys 100 \
                         --concurrency 8 --warmup 0s --requests 500"
            .to_owned()
            + more;
        let (report, left) = bench(Fault::None, &arguments).await;
        let total = report.unwrap().total;
        assert_eq!((total.count, total.error_count()), (500, 0), "{arguments}");
        assert_eq!(left, 0, "objects and bucket are removed");
    }
}

#[tokio::test]
async fn what_was_written_is_kept_on_demand() {
    let arguments = "--mix put=1 --keys 20 --concurrency 1 --warmup 0s --requests 200 --keep";
    let (report, left) = bench(Fault::None, arguments).await;
    assert_eq!(report.unwrap().total.count, 200);
    assert_eq!(
        left, 21,
        "20 keys, each written with all but certainty, and the bucket"
    );
}

#[tokio::test]
async fn an_acknowledged_write_that_is_gone_is_an_error() {
    // Some forgotten writes are overwritten before they are read: enough requests that it cannot be all.
    let arguments = "--mix put=1,get=1 --keys 4 --concurrency 1 --warmup 0s --requests 3000";
    let (report, _) = bench(Fault::Forget, arguments).await;
    let report = serde_json::to_value(report.unwrap()).unwrap();
    let errors = &report["operations"]["get"]["errors"];
    assert!(errors["wrong-body"]["count"].as_u64() > Some(5), "{report}");
    assert_eq!(
        report["operations"]["put"]["errors"],
        serde_json::json!({}),
        "{report}"
    );
}

#[tokio::test]
async fn errors_are_counted_by_code() {
    let arguments = "--mix get=1 --keys 5 --concurrency 1 --warmup 0s --requests 100";
    let (report, _) = bench(Fault::SlowDown, arguments).await;
    let report = report.unwrap();
    assert_eq!((report.total.count, report.total.error_count()), (90, 10));
    assert!(
        report.to_string().contains("get: 10 x SlowDown: Later."),
        "{report}"
    );
}

#[tokio::test]
async fn a_closed_connection_is_opened_again() {
    let arguments = "--mix put=1 --keys 5 --concurrency 1 --warmup 0s --requests 100";
    let (report, _) = bench(Fault::Close, arguments).await;
    let total = report.unwrap().total;
    assert_eq!((total.count, total.error_count()), (100, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_above_what_can_be_sent_is_said() {
    let arguments = "--mix put=1 --size 1MiB --keys 1 --concurrency 1 --warmup 200ms --duration \
                     300ms --rate 100000";
    let (report, _) = bench(Fault::None, arguments).await;
    let report = report.unwrap();
    assert!(report.total.count > 0, "{report}");
    assert!(
        report
            .to_string()
            .contains("requests were due but never sent"),
        "{report}"
    );
}

/// The server stalls for 300 ms. At 200 requests a second 60 more are due meanwhile and wait: half of all requests in
/// the first 600 ms are late. In the closed loop exactly one is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_shows_in_the_open_loop() {
    let common = "--mix put=1 --keys 5 --concurrency 1 --warmup 0s --requests 120";
    let late = async |arguments: &str| {
        let (report, _) = bench(Fault::Stall, arguments).await;
        let report = serde_json::to_value(report.unwrap()).unwrap();
        let latency = report["total"]["latency_ms"].clone();
        assert!(latency["max"].as_f64() >= Some(300.0), "{latency}");
        latency["p90"].as_f64().unwrap()
    };
    let open = late(&format!("{common} --rate 200")).await;
    let closed = late(common).await;
    assert!(open > 150.0, "p90 in the open loop is {open} ms");
    assert!(closed < 100.0, "p90 in the closed loop is {closed} ms");
}
