//! The listener against raw sockets: deadlines, limits, stopping.

use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// More than the buffers of two sockets hold.
const LARGE: usize = 32 << 20;

/// Answers with the length of the body; `/slow` takes half a second, `/refuse` reads nothing, and
/// `/large` answers much.
#[derive(Clone)]
struct Echo;

impl Front for Echo {
    type Body = Full<Bytes>;
    const LOGGED: bool = false;

    async fn handle(
        &self,
        request: http::Request<RequestBody>,
        context: &mut RequestContext,
    ) -> http::Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        context.operation = "Echo";
        context.bucket = Some(path[1..].to_owned());
        context.token_id = Some("token".to_owned());
        context.show();
        if path == "/refuse" {
            return http::Response::new(Full::from("refused"));
        }
        if path == "/large" {
            return http::Response::new(Full::from(vec![0; LARGE]));
        }
        let answer = match request.into_body().collect().await {
            Ok(body) => body.to_bytes().len().to_string(),
            Err(_) => "broken".to_owned(),
        };
        if path == "/slow" {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        http::Response::new(Full::from(answer))
    }
}

struct Served {
    addr: SocketAddr,
    connections: Arc<Connections>,
    stop: watch::Sender<bool>,
    ended: tokio::task::JoinHandle<()>,
}

fn serve(change: impl FnOnce(&mut Limits)) -> Served {
    serve_with(Edge::default(), change)
}

fn serve_with(edge: Edge, change: impl FnOnce(&mut Limits)) -> Served {
    let mut limits = Limits::new(16, Duration::from_secs(5));
    change(&mut limits);
    let port = Port::reserve("test", "TEST", &"127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = port.addr;
    let connections = edge.connections.clone();
    let (stop, stopped) = watch::channel(false);
    let ended = tokio::spawn(
        port.listen(edge)
            .unwrap()
            .serve(Http(Echo), limits, stopped),
    );
    Served {
        addr,
        connections,
        stop,
        ended,
    }
}

impl Served {
    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }
}

async fn to_end(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

async fn one_answer(stream: &mut TcpStream) -> String {
    let mut text = vec![0; 4096];
    let length = stream.read(&mut text).await.unwrap();
    String::from_utf8_lossy(&text[..length]).into_owned()
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let port = Port::reserve("test", "JAY_X", &"127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = port.addr.to_string();
    let _listening = port.listen(Edge::default()).unwrap();
    let error = Port::reserve("test", "JAY_X", &addr.parse().unwrap())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains(&addr) && error.contains("choose another JAY_X"),
        "{error}"
    );
}

#[tokio::test]
async fn every_interface_takes_both_families() {
    let port = Port::reserve("test", "JAY_X", &":0".parse().unwrap()).unwrap();
    let number = port.addr.port();
    let _listening = port.listen(Edge::default()).unwrap();
    TcpStream::connect(("127.0.0.1", number)).await.unwrap();
}

#[tokio::test]
async fn a_slow_head_is_cut_and_a_kept_connection_is_not() {
    let served = serve(|limits| limits.head_timeout = Duration::from_millis(300));
    let started = Instant::now();
    let slow = served.send("GET / HTTP/1.1\r\nHost: x\r\n").await;
    let mut kept = served.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(one_answer(&mut kept).await.ends_with("\r\n\r\n0"));
    assert_eq!(to_end(slow).await, "");
    let took = started.elapsed();
    assert!((250..2000).contains(&took.as_millis()), "{took:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    kept.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(one_answer(&mut kept).await.ends_with("\r\n\r\n0"));
}

/// Slow-loris: each byte is progress, the head is not.
#[tokio::test]
async fn a_head_that_trickles_is_cut() {
    let served = serve(|limits| limits.head_timeout = Duration::from_millis(300));
    let started = Instant::now();
    let mut stream = served.send("GET / HTTP/1.1\r\n").await;
    while stream.write_all(b"A: b\r\n").await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(2), "it goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(started.elapsed() > Duration::from_millis(250));
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let served = serve(|limits| limits.idle_timeout = Duration::from_millis(200));
    let kept = served.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(to_end(kept).await.ends_with("\r\n\r\n0"));
}

/// Weakness 32: a request had five minutes, whatever came.
#[tokio::test]
async fn a_stalled_body_is_cut_and_a_slow_one_is_read() {
    let served = serve(|limits| limits.progress_timeout = Duration::from_millis(300));
    let head = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n";
    let stalled = served.send(head).await;
    let mut slow = served.send(head).await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        slow.write_all(b"x").await.unwrap();
    }
    assert!(one_answer(&mut slow).await.ends_with("\r\n\r\n8"));
    assert_eq!(to_end(stalled).await, "");
}

#[tokio::test]
async fn the_answer_to_an_unread_body_arrives() {
    let served = serve(|_| ());
    let mut stream = served
        .send("PUT /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n")
        .await;
    // More than any buffer between us holds: without lingering this write, or the read, is reset.
    let body = vec![0; 8_000_000];
    stream.write_all(&body).await.unwrap();
    assert!(to_end(stream).await.ends_with("\r\n\r\nrefused"));
}

#[tokio::test]
async fn too_long_a_head_is_refused() {
    let served = serve(|_| ());
    let long = "x".repeat(8 * HEAD_BYTES_MAX);
    let stream = served
        .send(&format!("GET / HTTP/1.1\r\nA: {long}\r\n\r\n"))
        .await;
    assert!(to_end(stream).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_while_all_have_a_request() {
    let served = serve(|limits| limits.connections_max = 1);
    let head = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx";
    let mut first = served.send(head).await;
    let mut second = served.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let waits = tokio::time::timeout(Duration::from_millis(400), one_answer(&mut second)).await;
    assert!(waits.is_err(), "served beyond the limit");
    first.write_all(b"x").await.unwrap();
    assert!(one_answer(&mut first).await.ends_with('2'));
    assert!(one_answer(&mut second).await.ends_with('0'));
}

/// Connections that asked for nothing kept everybody else out for as long as their owner opened them anew: 4096 of them
/// the S3 port, 256 the port that a supervisor asks whether we live. Now the one that has waited longest gives way.
#[tokio::test]
async fn connections_without_a_request_give_way() {
    let served = serve(|limits| limits.connections_max = 4);
    let mut busy = served
        .send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx")
        .await;
    let fresh = served.send("").await;
    let slow = served.send("GET / HTTP/1.1\r\nHost: x\r\n").await;
    let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut kept = served.send(get).await;
    assert!(one_answer(&mut kept).await.ends_with('0'));
    let started = Instant::now();
    let mut second = served.send(get).await;
    assert!(one_answer(&mut second).await.ends_with('0'));
    assert_eq!(to_end(fresh).await, "", "the one that has waited longest");
    let mut third = served.send(get).await;
    assert!(one_answer(&mut third).await.ends_with('0'));
    assert_eq!(to_end(slow).await, "");
    assert!(started.elapsed() < Duration::from_secs(2));
    for stream in [&mut kept, &mut second, &mut third] {
        stream.write_all(get.as_bytes()).await.unwrap();
        let answer = one_answer(stream).await;
        assert!(answer.ends_with('0'), "the others stay");
    }
    busy.write_all(b"x").await.unwrap();
    assert!(one_answer(&mut busy).await.ends_with('2'));
}

#[tokio::test]
async fn a_stop_finishes_requests_and_closes_idle_connections_at_once() {
    let served = serve(|_| ());
    let mut idle = served.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    one_answer(&mut idle).await;
    let fresh = served.send("").await;
    let slow = served
        .send("PUT /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = Instant::now();
    served.stop.send(true).unwrap();
    assert_eq!(to_end(idle).await, "");
    assert_eq!(to_end(fresh).await, "");
    assert!(
        started.elapsed() < Duration::from_millis(250),
        "{:?}",
        started.elapsed()
    );
    assert!(
        TcpStream::connect(served.addr).await.is_err(),
        "still accepts"
    );
    assert!(to_end(slow).await.ends_with("\r\n\r\n2"));
    served.ended.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_stop_cuts_what_does_not_end() {
    let served = serve(|limits| limits.stop_timeout = Duration::from_millis(200));
    let stalled = served
        .send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(2), served.ended)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(to_end(stalled).await, "");
}

/// Without it a client that asks and never reads would hold its answer for ever.
#[tokio::test]
async fn an_answer_that_nobody_reads_is_cut() {
    let served = serve(|limits| limits.progress_timeout = Duration::from_millis(300));
    let stream = served.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(to_end(stream).await.len() < LARGE);
}

/// TLS with a certificate made for the test.
fn tls_edge() -> (Edge, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = tls::TlsFiles {
        cert: dir.path().join("cert"),
        key: dir.path().join("key"),
        names: ("CERT", "KEY"),
    };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let edge = Edge {
        tls: Some(Tls::load(files).unwrap()),
        ..Edge::default()
    };
    (edge, dir)
}

/// Handshakes hold connections: without a deadline whoever never begins one would hold them for ever.
#[tokio::test]
async fn a_handshake_that_does_not_come_is_cut() {
    let (edge, _dir) = tls_edge();
    let metrics = edge.metrics.port("test");
    let served = serve_with(edge, |limits| {
        limits.handshake_timeout = Duration::from_millis(300);
    });
    let started = Instant::now();
    let silent = served.send("").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(metrics.connection_counts(), (1, 1, 0));
    assert_eq!(to_end(silent).await, "");
    let took = started.elapsed();
    assert!((250..2000).contains(&took.as_millis()), "{took:?}");
    // Plain HTTP is no handshake.
    let plain = served.send("GET / HTTP/1.1\r\n").await;
    assert!(!to_end(plain).await.starts_with("HTTP"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(metrics.connection_counts(), (0, 2, 2));
}

/// Room is made among those that still shake hands, too.
#[tokio::test]
async fn a_handshake_that_does_not_come_gives_way() {
    let (edge, _dir) = tls_edge();
    let metrics = edge.metrics.port("test");
    let served = serve_with(edge, |limits| limits.connections_max = 1);
    let silent = served.send("").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _next = served.send("").await;
    let cut = tokio::time::timeout(Duration::from_secs(2), to_end(silent)).await;
    assert_eq!(cut.unwrap(), "");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(metrics.connection_counts(), (1, 2, 1));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_handshakes() {
    let (edge, _dir) = tls_edge();
    let served = serve_with(edge, |_| ());
    let silent = served.send("").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.send(true).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(1), served.ended).await;
    ended.unwrap().unwrap();
    assert_eq!(to_end(silent).await, "");
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let served = serve(|_| ());
    let many = "A: x\r\n".repeat(HEADERS_MAX + 1);
    let stream = served.send(&format!("GET / HTTP/1.1\r\n{many}\r\n")).await;
    assert!(to_end(stream).await.starts_with("HTTP/1.1 431"));
}

async fn shake_hands(served: &Served) -> tokio_rustls::client::TlsStream<TcpStream> {
    let client = crate::cli::tls::trusting_anybody().unwrap();
    let stream = served.send("").await;
    let name = rustls::pki_types::ServerName::from(served.addr.ip());
    let connector = tokio_rustls::TlsConnector::from(client);
    connector.connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn requests_under_tls_are_answered_and_counted() {
    let (edge, _dir) = tls_edge();
    let metrics = edge.metrics.port("test");
    let served = serve_with(edge, |_| ());
    let mut stream = shake_hands(&served).await;
    for _ in 0..2 {
        let request = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
        stream.write_all(request).await.unwrap();
        let mut text = vec![0; 4096];
        let length = stream.read(&mut text).await.unwrap();
        assert!(text[..length].ends_with(b"\r\n\r\n2"));
    }
    assert_eq!(metrics.connection_counts(), (1, 1, 0));
}

/// TLS holds back a small answer that the socket has no room for: nothing else would notice that it stands still.
#[tokio::test]
async fn answers_under_tls_that_nobody_reads_are_cut() {
    for path in ["/large", "/refuse"] {
        let (edge, _dir) = tls_edge();
        let metrics = edge.metrics.port("test");
        let served = serve_with(edge, |limits| {
            limits.progress_timeout = Duration::from_millis(300);
        });
        let mut stream = shake_hands(&served).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(10_000);
        let began = Instant::now();
        while metrics.connection_counts().0 > 0 {
            let sent = stream.write_all(request.as_bytes());
            let _ = tokio::time::timeout(Duration::from_millis(100), sent).await;
            assert!(began.elapsed() < Duration::from_secs(20), "{path} is held");
        }
    }
}

impl Served {
    /// The only connection that is open, as soon as it is what it is waited for to be.
    async fn only(&self, is_so: impl Fn(&Connection) -> bool) -> Connection {
        let began = Instant::now();
        loop {
            match self.connections.list().as_slice() {
                [only] if is_so(only) => return only.clone(),
                others => assert!(began.elapsed() < Duration::from_secs(5), "{others:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn is_left_alone(&self) {
        let began = Instant::now();
        while !self.connections.list().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(5), "it stays open");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Long before a deadline of the listener ends anything.
async fn at_once<T>(what: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(5);
    tokio::time::timeout(patience, what).await.expect("in time")
}

#[tokio::test]
async fn what_a_connection_does_is_seen_from_outside() {
    let served = serve(|_| ());
    assert!(served.connections.list().is_empty());
    let mut stream = served.send("").await;
    let fresh = served.only(|_| true).await;
    assert_eq!((fresh.port, fresh.is_tls), ("test", false));
    assert_eq!(fresh.peer, stream.local_addr().unwrap());
    assert_eq!(fresh.activity.client, None);

    let head = "PUT /photos HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n";
    stream.write_all(&head.as_bytes()[..10]).await.unwrap();
    served.only(|it| it.activity.phase == Phase::Head).await;
    stream.write_all(&head.as_bytes()[10..]).await.unwrap();
    let stalled = served.only(|it| it.activity.waits.is_some()).await;
    assert_eq!(stalled.id, fresh.id);
    let activity = stalled.activity;
    assert_eq!(activity.phase, Phase::Request);
    assert_eq!(activity.waits.map(|waits| waits.what), Some("body"));
    assert!(activity.waits.unwrap().since >= stalled.opened && activity.since >= stalled.opened);
    assert_eq!(activity.client, Some(stalled.peer.ip()));
    assert_eq!(activity.request.operation, "Echo");
    assert_eq!(activity.request.bucket.as_deref(), Some("photos"));
    assert_eq!(activity.request.token_id.as_deref(), Some("token"));
    assert_eq!((activity.requests, activity.bytes_out), (0, 0));

    stream.write_all(b"hi").await.unwrap();
    let answer = one_answer(&mut stream).await;
    let idle = served.only(|it| it.activity.phase == Phase::Idle).await;
    let activity = idle.activity;
    assert_eq!(activity.bytes_in, head.len() as u64 + 2);
    assert_eq!(
        (activity.requests, activity.bytes_out),
        (1, answer.len() as u64)
    );
    assert!(activity.waits.is_none() && activity.request.operation.is_empty());
    assert!(activity.request.bucket.is_none() && activity.request.token_id.is_none());
    drop(stream);
    served.is_left_alone().await;
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_seen() {
    let served = serve(|_| ());
    let _stream = served.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let waits = |it: &Connection| {
        it.activity
            .waits
            .is_some_and(|waits| waits.what == "answer")
    };
    let seen = served.only(waits).await.activity;
    assert!(seen.bytes_out > 0 && seen.bytes_out < LARGE as u64);
}

/// What is kept of a connection must not grow with what its client sends.
#[tokio::test]
async fn a_name_that_no_bucket_has_is_not_kept() {
    let served = serve(|_| ());
    for (length, is_shown) in [(63, true), (64, false)] {
        let name = "b".repeat(length);
        let head = format!("PUT /{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n");
        let stream = served.send(&head).await;
        let seen = served.only(|it| it.activity.waits.is_some()).await.activity;
        assert_eq!(seen.request.bucket, is_shown.then_some(name));
        drop(stream);
        served.is_left_alone().await;
    }
}

#[tokio::test]
async fn a_connection_is_closed_from_outside_and_others_are_not() {
    let served = serve(|_| ());
    let head = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n";
    let stalled = served.send(head).await;
    let id = served.only(|it| it.activity.waits.is_some()).await.id;
    let mut other = served.send(head).await;
    assert!(served.connections.close(id + 100).is_none());
    let (port, peer) = served.connections.close(id).unwrap();
    assert_eq!((port, peer), ("test", stalled.local_addr().unwrap()));
    assert_eq!(at_once(to_end(stalled)).await, "");
    assert_ne!(served.only(|_| true).await.id, id);
    assert!(served.connections.close(id).is_none());
    other.write_all(b"hi").await.unwrap();
    assert!(one_answer(&mut other).await.ends_with("\r\n\r\n2"));
}

#[tokio::test]
async fn a_handshake_is_seen_and_can_be_closed() {
    let (edge, _dir) = tls_edge();
    let served = serve_with(edge, |_| ());
    let silent = served.send("").await;
    let seen = served.only(|_| true).await;
    assert!(seen.is_tls && seen.activity.phase == Phase::Handshake);
    served.connections.close(seen.id).unwrap();
    assert_eq!(at_once(to_end(silent)).await, "");
    served.is_left_alone().await;
}
