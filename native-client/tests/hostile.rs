//! The client against servers that do not keep to the protocol: what goes wrong has a name, ends no more than it must, takes
//! no memory, and no longer than the client was told to wait.

mod scripted;
mod server;

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use jay_client::{Body, Bucket, Client, Config, Error, ErrorKind};
use jay_wire::{
    Empty, ErrorCode, Failure, Operation, Ping, Tagged,
    body::{self, Crc64},
    call::{Body as Head, Chunk, End},
    list::{ListObjects, ObjectEntry, ObjectPage},
    multipart::{ListParts, PartEntry, PartList},
    object::*,
    v2::{self, ServerHello, Status, Step, kind},
};
use scripted::{Peer, Scripted, long_body};
use server::memory;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// How long the client waits for anything.
const PATIENCE: Duration = Duration::from_secs(1);

fn client(server: &Scripted, change: impl FnOnce(&mut Config)) -> Bucket {
    let mut config = Config::parse(&server::url(server.address)).unwrap();
    config.options.connect_timeout = PATIENCE;
    config.options.idle_timeout = PATIENCE;
    config.options.retry_base = Duration::from_millis(1);
    config.options.retries = 0;
    change(&mut config);
    Client::new(config).unwrap().bucket("bucket")
}

fn patient(server: &Scripted) -> Bucket {
    client(server, |_| {})
}

/// What must come to an end comes to it in time.
async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(5 * PATIENCE, what)
        .await
        .expect("the client waits for ever")
}

fn info(size: u64, crc64: u64) -> ObjectInfo {
    ObjectInfo {
        size,
        crc64,
        etag: "etag".to_owned(),
        ..ObjectInfo::default()
    }
}

async fn read_whole(bucket: &Bucket) -> Result<Bytes, Error> {
    in_time(async { bucket.get("k").await?.bytes().await }).await
}

/// The next request on a bulk connection, answered with the head of a body of this size.
async fn long_get(peer: &mut Peer, size: u64) -> Option<v2::Frame> {
    while let Some(asked) = peer.request().await {
        if peer.is_bulk {
            let told = info(size, body::crc64(&long_body()));
            let head = Head::following(Some(size));
            peer.answer_with(&asked, &told, head, b"").await;
            return Some(asked);
        }
        peer.say(Status::UseBulk as u8, asked.stream_id, &Empty, b"")
            .await;
    }
    None
}

// The handshake.

#[tokio::test]
async fn a_hello_that_is_none() {
    let hello = ServerHello::default().to_metadata().unwrap();
    let must = [&[0xBF, 0xFF, 0, 0, 0, 0][..]].concat();
    let right = v2::step(Step::Proceed, &hello).unwrap();
    for (said, kind) in [
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            ErrorKind::Protocol,
        ),
        (b"JAY\0\x02\x00\xFF\xFF".to_vec(), ErrorKind::Protocol),
        (b"JAY\0\x02\x09\x00\x00".to_vec(), ErrorKind::Protocol),
        (v2::step(Step::Proceed, &must).unwrap(), ErrorKind::Protocol),
        (
            v2::step(Step::Proceed, b"\0\x01\0\0").unwrap(),
            ErrorKind::Protocol,
        ),
        (b"JAY\0\x01\x02\0\0".to_vec(), ErrorKind::Unsupported),
        (b"JAY\0\x07\0\0\0".to_vec(), ErrorKind::Unsupported),
        (
            v2::step(Step::Refused, b"").unwrap(),
            ErrorKind::Unauthenticated,
        ),
        (
            v2::step(Step::Unavailable, b"").unwrap(),
            ErrorKind::Unavailable,
        ),
        (right[..right.len() / 2].to_vec(), ErrorKind::Unavailable),
        (Vec::new(), ErrorKind::Unavailable),
    ] {
        let shown = String::from_utf8_lossy(&said).into_owned();
        let server = Scripted::raw(move |mut stream| {
            let said = said.clone();
            async move {
                stream.write_all(&said).await.unwrap();
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await;
        let error = in_time(patient(&server).head("k")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{shown}: {error}");
    }
}

#[tokio::test]
async fn a_server_without_the_secret_gets_no_request() {
    let server = Scripted::raw(|mut stream| async move {
        let mut hello = [0; 8];
        stream.read_exact(&mut hello).await.unwrap();
        let mut fields = vec![0; u16::from_be_bytes([hello[6], hello[7]]).into()];
        stream.read_exact(&mut fields).await.unwrap();
        let ours = ServerHello::default().to_metadata().unwrap();
        stream
            .write_all(&v2::step(Step::Proceed, &ours).unwrap())
            .await
            .unwrap();
        let mut proof = [0; 32];
        stream.read_exact(&mut proof).await.unwrap();
        // The client's own proof is none of the server.
        stream
            .write_all(&v2::step(Step::Proceed, &proof).unwrap())
            .await
            .unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{rest:?}");
    })
    .await;
    let error = in_time(patient(&server).head("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.message().contains("has not proven"), "{error}");
}

/// Each of a crowd dialled for itself, one behind the other: the last one waited for all of them.
#[tokio::test]
async fn a_crowd_before_a_server_that_says_nothing() {
    let server = Scripted::raw(|mut stream: TcpStream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let bucket = patient(&server);
    let began = Instant::now();
    let heads = join_all((0..50).map(|_| bucket.head("k"))).await;
    assert!(began.elapsed() < 3 * PATIENCE, "{:?}", began.elapsed());
    for head in heads {
        assert_eq!(head.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!(server.accepted(), 1);
}

// Shared connections.

#[tokio::test]
async fn nonsense_in_one_answer_harms_no_other() {
    let server = Scripted::start(async |mut peer: Peer| {
        let mut other = None;
        while let Some(asked) = peer.request().await {
            let head = HeadObject::from_metadata(asked.metadata().unwrap()).unwrap();
            match head.key.as_str() {
                "other" => other = Some(asked),
                "status" => peer.say(77, asked.stream_id, &Empty, b"").await,
                "metadata" => peer.say_bytes(0, asked.stream_id, b"\0", b"").await,
                "must" => {
                    peer.say_bytes(0, asked.stream_id, &[0xBF, 0xFF, 0, 0, 0, 0], b"")
                        .await
                }
                "code" => {
                    let failure = Failure {
                        code: 4711,
                        ..Failure::default()
                    };
                    peer.say(Status::Failed as u8, asked.stream_id, &failure, b"")
                        .await;
                }
                _ => {
                    // Of a later version.
                    peer.say(0xF8, asked.stream_id, &Empty, b"later").await;
                    peer.answer(&asked, &info(1, 2)).await;
                    peer.answer(&other.take().unwrap(), &info(3, 4)).await;
                }
            }
        }
    })
    .await;
    let bucket = patient(&server);
    let other = bucket.clone();
    let other = tokio::spawn(async move { other.head("other").await });
    sleep(PATIENCE / 10).await;
    for (key, kind) in [
        ("status", ErrorKind::Protocol),
        ("metadata", ErrorKind::Protocol),
        ("must", ErrorKind::Protocol),
        ("code", ErrorKind::Internal),
    ] {
        let error = in_time(bucket.head(key)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{key}: {error}");
    }
    assert_eq!(in_time(bucket.head("last")).await.unwrap().size, 1);
    assert_eq!(in_time(other).await.unwrap().unwrap().size, 3);
    assert_eq!(server.accepted(), 1);
}

/// Who asked would wait for ever: the answer was for somebody.
#[tokio::test]
async fn an_answer_to_what_nobody_asked_ends_the_connection() {
    for (code, stream_id) in [(0, 1000), (1, 1000), (kind::CHUNK, 1), (kind::END, 1)] {
        let server = Scripted::start(move |mut peer: Peer| async move {
            peer.request().await;
            peer.say(code, stream_id, &Empty, b"").await;
            peer.request().await;
        })
        .await;
        let error = in_time(patient(&server).head("k")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionLost);
        assert!(error.message().contains("(Protocol)"), "{error}");
    }
}

#[tokio::test]
async fn a_body_without_sums_or_with_wrong_ones_is_no_body() {
    let wrong = |head: Head| (head, ErrorKind::ChecksumMismatch);
    for (head, kind) in [
        wrong(Head::whole(b"body?")),
        wrong(Head {
            crc64: Some(1),
            ..Head::whole(b"body!")
        }),
        wrong(Head {
            sums: Vec::new(),
            ..Head::whole(b"body!")
        }),
        (Head::following(Some(5)), ErrorKind::Protocol),
    ] {
        let server = Scripted::start(move |mut peer: Peer| {
            let head = head.clone();
            async move {
                while let Some(asked) = peer.request().await {
                    let told = info(5, body::crc64(b"body!"));
                    peer.answer_with(&asked, &told, head.clone(), b"body!")
                        .await;
                }
            }
        })
        .await;
        assert_eq!(
            read_whole(&patient(&server)).await.unwrap_err().kind(),
            kind
        );
    }
    let server = Scripted::start(async |mut peer: Peer| {
        while let Some(asked) = peer.request().await {
            let told = info(5, 0).to_metadata().unwrap();
            peer.say_bytes(0, asked.stream_id, &told, b"body!").await;
        }
    })
    .await;
    let error = read_whole(&patient(&server)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn other_bytes_than_were_asked_for_are_none() {
    let server = Scripted::start(async |mut peer: Peer| {
        while let Some(asked) = peer.request().await {
            // The object is said to have more.
            let told = info(500, 0);
            peer.answer_with(&asked, &told, Head::whole(b"some"), b"some")
                .await;
        }
    })
    .await;
    let bucket = patient(&server);
    let gets = [
        bucket.get("k"),
        bucket.get("k").range(1..5),
        bucket.get("k").range(0..5),
        bucket.get("k").suffix(4),
    ];
    for get in gets {
        assert_eq!(
            in_time(async { get.await }).await.unwrap_err().kind(),
            ErrorKind::Protocol
        );
    }
    assert_eq!(
        in_time(async { bucket.get("k").range(..4).await })
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap(),
        "some"
    );
}

/// The room for a body was made by what was told of its size: the process was ended for want of memory.
#[tokio::test]
async fn what_is_told_takes_no_memory() {
    let huge = [i64::MAX as u64, u64::MAX];
    for size in huge {
        let server = Scripted::start(move |mut peer: Peer| async move {
            while let Some(asked) = long_get(&mut peer, size).await {
                peer.chunk(&asked, &long_body()[..1000]).await;
                peer.end(&asked, &long_body()[..1000]).await;
            }
        })
        .await;
        let error = read_whole(&patient(&server)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
}

/// Metadata of a mebibyte that mean thousands of entries, or more of them than may be.
#[tokio::test]
async fn lists_take_no_more_than_their_limit() {
    let server = Scripted::start(async |mut peer: Peer| {
        while let Some(asked) = peer.request().await {
            // A list of empty entries, four bytes each.
            let count = [10_000, 10_001, 200_000][asked.stream_id as usize % 3];
            let mut page = vec![0, 1];
            page.extend_from_slice(&(4 * count as u32).to_be_bytes());
            page.resize(page.len() + 4 * count, 0);
            peer.say_bytes(0, asked.stream_id, &page, b"").await;
        }
    })
    .await;
    let bucket = patient(&server);
    let before = memory("self");
    let mut listed = Vec::new();
    for _ in 0..60 {
        listed.push(
            in_time(bucket.list("").page())
                .await
                .map(|page| page.objects.len()),
        );
    }
    assert!(memory("self") < before + (64 << 20));
    let (right, wrong): (Vec<_>, Vec<_>) = listed.into_iter().partition(Result::is_ok);
    assert!(right.iter().all(|page| *page.as_ref().unwrap() == 10_000) && right.len() == 20);
    assert!(
        wrong
            .iter()
            .all(|page| page.as_ref().unwrap_err().kind() == ErrorKind::Protocol)
    );
}

/// A frame that says that it is longer than any may be.
#[tokio::test]
async fn a_frame_that_is_too_long_ends_the_connection() {
    for (metadata, data) in [(1_u32 << 21, 0_u64), (0, 1 << 40), (0, u64::MAX)] {
        let server = Scripted::start(move |mut peer: Peer| async move {
            let asked = peer.request().await.unwrap();
            let mut head = vec![0];
            head.extend_from_slice(&asked.stream_id.to_be_bytes());
            head.extend_from_slice(&metadata.to_be_bytes());
            head.extend_from_slice(&data.to_be_bytes());
            head.extend_from_slice(&[0; 4]);
            let sum = body::sums(&head)[0];
            head.extend_from_slice(&sum.to_be_bytes());
            peer.stream.write_all(&head).await.unwrap();
            while peer.frame().await.is_some() {}
        })
        .await;
        let error = in_time(patient(&server).head("k")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionLost);
        assert!(error.message().contains("(Protocol)"), "{error}");
    }
}

#[tokio::test]
async fn silence_has_an_end() {
    let server = Scripted::start(async |mut peer: Peer| {
        // Pings are heard, and not answered.
        while peer.frame().await.is_some() {}
    })
    .await;
    let bucket = patient(&server);
    let (head, get) = (bucket.head("k"), read_whole(&bucket));
    let (head, get) = in_time(async { tokio::join!(head, get) }).await;
    for error in [head.unwrap_err(), get.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
        assert!(error.message().contains("has said nothing"), "{error}");
    }
    // Whoever answers nothing but pings is there; how long to wait then is for the caller to say.
    let server =
        Scripted::start(async |mut peer: Peer| while peer.request().await.is_some() {}).await;
    let bucket = patient(&server);
    let get = async { bucket.get("k").timeout(2 * PATIENCE).await };
    assert_eq!(in_time(get).await.unwrap_err().kind(), ErrorKind::Timeout);
}

/// What was given up was forgotten at once, so others took its place: those who gave up again and again piled up requests.
#[tokio::test]
async fn requests_that_were_given_up_do_not_pile_up() {
    let server = Scripted::raw(async |stream: TcpStream| {
        if let Some(peer) = Peer::proven(stream, 0, 4).await {
            // It reads nothing.
            sleep(10 * PATIENCE).await;
            drop(peer);
        }
    })
    .await;
    let bucket = client(&server, |config| {
        config.options.connections_max = 3;
        config.options.idle_timeout = 10 * PATIENCE;
        config.options.pool_timeout = PATIENCE / 10;
    });
    let before = memory("self");
    let body = Bytes::from(vec![7; 256 << 10]);
    let mut kinds = Vec::new();
    for _ in 0..400 {
        let put = bucket
            .put("k", body.clone())
            .timeout(Duration::from_millis(5));
        kinds.push(in_time(async { put.await }).await.unwrap_err().kind());
    }
    assert!(kinds.iter().all(|kind| *kind == ErrorKind::Timeout));
    assert!(
        memory("self") < before + (16 << 20),
        "{}",
        memory("self") - before
    );
    let error = in_time(bucket.head("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PoolTimeout, "{error}");
}

// Going away.

/// Puts are answered up to the last id and done anew beyond it: once each, wherever the server draws the line.
#[tokio::test]
async fn what_a_server_leaves_behind_is_asked_again() {
    const PUTS: u32 = 6;
    for last in 0..=PUTS {
        let done = Arc::new(AtomicUsize::new(0));
        let counter = done.clone();
        let server = Scripted::start(move |mut peer: Peer| {
            let counter = counter.clone();
            async move {
                let mut asked = Vec::new();
                while peer.number == 0 && asked.len() < PUTS as usize {
                    asked.push(peer.request().await.unwrap());
                }
                if peer.number == 0 {
                    let first = asked[0].stream_id;
                    peer.leave(first + last - 1, None).await;
                    for put in asked
                        .iter()
                        .rev()
                        .filter(|put| put.stream_id < first + last)
                    {
                        counter.fetch_add(1, Ordering::SeqCst);
                        peer.answer(put, &Stored::default()).await;
                    }
                }
                while let Some(put) = peer.request().await {
                    counter.fetch_add(1, Ordering::SeqCst);
                    peer.answer(&put, &Stored::default()).await;
                }
            }
        })
        .await;
        let bucket = client(&server, |config| config.options.retries = 1);
        let puts = (0..PUTS).map(|n| bucket.put(n.to_string(), "x").into_future());
        let puts = in_time(join_all(puts)).await;
        assert!(puts.iter().all(Result::is_ok), "{last}: {puts:?}");
        assert_eq!(done.load(Ordering::SeqCst), PUTS as usize, "{last}");
    }
}

/// A server that leaves answers what it has begun, also on a bulk connection: the client has to wait for that.
#[tokio::test]
async fn a_server_that_leaves_in_mid_upload() {
    for is_answered in [true, false] {
        let done = Arc::new(AtomicUsize::new(0));
        let counter = done.clone();
        let server = Scripted::start(move |mut peer: Peer| {
            let counter = counter.clone();
            async move {
                let Some(put) = peer.request().await else {
                    return;
                };
                // The first connection is that by which a session is asked for.
                if peer.number == 1 {
                    let last = put.stream_id - u32::from(!is_answered);
                    peer.leave(last, Some(ErrorCode::Unavailable)).await;
                }
                if peer.number > 1 || is_answered {
                    while peer.frame().await.unwrap().code != kind::END {}
                    counter.fetch_add(1, Ordering::SeqCst);
                    peer.answer(&put, &Stored::default()).await;
                }
                peer.request().await;
            }
        })
        .await;
        let bucket = client(&server, |config| config.options.retries = 1);
        in_time(async { bucket.put("k", long_body()).await })
            .await
            .unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 1);
        assert_eq!(server.accepted(), 2 + usize::from(!is_answered));
    }
}

// Bulk connections.

#[tokio::test]
async fn bodies_that_are_not_what_was_told() {
    type Script =
        fn(&mut Peer, &v2::Frame, Bytes) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
    let _: Option<Script> = None;
    for (name, kind) in [
        ("never ends", ErrorKind::Protocol),
        ("is empty again and again", ErrorKind::Protocol),
        ("is shorter", ErrorKind::Protocol),
        ("has a wrong size", ErrorKind::ChecksumMismatch),
        ("has a wrong sum", ErrorKind::ChecksumMismatch),
        ("is another one", ErrorKind::ChecksumMismatch),
        ("fails", ErrorKind::ObjectCorrupt),
        ("has a chunk with wrong sums", ErrorKind::ChecksumMismatch),
        ("is answered within", ErrorKind::Protocol),
        ("stands still", ErrorKind::Timeout),
    ] {
        let body = long_body();
        let server = Scripted::start(move |mut peer: Peer| {
            let body = body.clone();
            async move {
                while let Some(asked) = long_get(&mut peer, body.len() as u64).await {
                    tell(name, &mut peer, &asked, &body).await;
                }
            }
        })
        .await;
        let before = memory("self");
        let error = read_whole(&patient(&server)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(memory("self") < before + (32 << 20), "{name}");
    }
}

/// Sends a body with which something is wrong.
async fn tell(what: &str, peer: &mut Peer, asked: &v2::Frame, body: &Bytes) {
    let (first, second) = body.split_at(200_000);
    match what {
        "never ends" => {
            while peer.stream.writable().await.is_ok() && peer.stream.peer_addr().is_ok() {
                peer.chunk(asked, second).await;
                if peer.stream.try_read(&mut [0]).is_ok_and(|read| read == 0) {
                    return;
                }
            }
        }
        "is empty again and again" => {
            while !peer.stream.try_read(&mut [0]).is_ok_and(|read| read == 0) {
                peer.chunk(asked, b"").await;
            }
        }
        "is shorter" => {
            peer.chunk(asked, first).await;
            peer.end(asked, first).await;
        }
        "has a wrong size" | "has a wrong sum" => {
            let mut sum = Crc64::default();
            sum.update(body);
            let is_size = what == "has a wrong size";
            peer.chunk(asked, first).await;
            peer.chunk(asked, second).await;
            let end = End {
                size: body.len() as u64 - u64::from(is_size),
                crc64: sum.value() ^ u64::from(!is_size),
                failure: None,
            };
            peer.say(kind::END, asked.stream_id, &end, b"").await;
        }
        "is another one" => {
            // Right in itself, and not what was stored.
            let other = vec![1; body.len()];
            peer.chunk(asked, &other[..200_000]).await;
            peer.chunk(asked, &other[200_000..]).await;
            peer.end(asked, &other).await;
        }
        "fails" => {
            peer.chunk(asked, first).await;
            let failure = Failure {
                code: ErrorCode::ObjectCorrupt as u32,
                ..Failure::default()
            };
            let end = End {
                failure: Some(failure),
                ..End::default()
            };
            peer.say(kind::END, asked.stream_id, &end, b"").await;
        }
        "has a chunk with wrong sums" => {
            let head = Chunk::of(first);
            peer.say(kind::CHUNK, asked.stream_id, &head, &body[1..200_001])
                .await;
        }
        "is answered within" => {
            peer.chunk(asked, first).await;
            peer.answer(asked, &info(1, 1)).await;
        }
        "stands still" => {
            peer.chunk(asked, first).await;
            sleep(3 * PATIENCE).await;
        }
        _ => unreachable!("{what}"),
    }
}

/// Chunks of another stream are not of this one, and those behind the end of none.
#[tokio::test]
async fn chunks_belong_to_one_stream() {
    let server = Scripted::start(async |mut peer: Peer| {
        while let Some(asked) = long_get(&mut peer, long_body().len() as u64).await {
            let body = long_body();
            let stray = Chunk::of(b"stray");
            peer.say(kind::CHUNK, asked.stream_id + 7, &stray, b"stray")
                .await;
            peer.chunk(&asked, &body[..250_000]).await;
            peer.say(kind::PING, 4, &Empty, b"").await;
            peer.chunk(&asked, &body[250_000..]).await;
            peer.end(&asked, &body).await;
            let pong = peer.frame().await.unwrap();
            assert_eq!((pong.code, pong.stream_id), (kind::PONG, 4));
        }
    })
    .await;
    let bucket = patient(&server);
    for _ in 0..3 {
        assert_eq!(read_whole(&bucket).await.unwrap(), long_body());
    }
}

/// All bytes were there and checked; only the word that there are no more was lost.
#[tokio::test]
async fn a_body_whose_end_is_lost_is_whole() {
    let server = Scripted::start(async |mut peer: Peer| {
        while let Some(asked) = long_get(&mut peer, long_body().len() as u64).await {
            let body = long_body();
            peer.chunk(&asked, &body[..250_000]).await;
            peer.chunk(&asked, &body[250_000..]).await;
            let _ = peer.stream.shutdown().await;
        }
    })
    .await;
    assert_eq!(read_whole(&patient(&server)).await.unwrap(), long_body());
}

/// A GET that breaks goes on where it was; and not with bytes of something else.
#[tokio::test]
async fn a_body_goes_on_where_it_broke() {
    for (etag, start, kind) in [
        ("etag", 0, None),
        ("other", 0, Some(ErrorKind::Protocol)),
        ("etag", 1, Some(ErrorKind::Protocol)),
    ] {
        let server = Scripted::start(move |mut peer: Peer| async move {
            while let Some(asked) = peer.request().await {
                if !peer.is_bulk {
                    peer.say(Status::UseBulk as u8, asked.stream_id, &Empty, b"")
                        .await;
                    continue;
                }
                let get = GetObject::from_metadata(asked.metadata().unwrap()).unwrap();
                let body = long_body();
                let from = get.range.map_or(0, |range| range.start + start);
                let etag = if from == 0 { "etag" } else { etag };
                let told = ObjectInfo {
                    range_start: from,
                    etag: etag.to_owned(),
                    ..info(body.len() as u64, body::crc64(&body))
                };
                let rest = body.slice(from as usize..);
                peer.answer_with(&asked, &told, Head::following(Some(rest.len() as u64)), b"")
                    .await;
                peer.chunk(&asked, &rest[..rest.len().min(100_000)]).await;
                if rest.len() <= 100_000 {
                    peer.end(&asked, &rest).await;
                    continue;
                }
                return;
            }
        })
        .await;
        let bucket = client(&server, |config| config.options.retries = 4);
        let read = read_whole(&bucket).await;
        match kind {
            None => assert_eq!(read.unwrap(), long_body()),
            Some(kind) => assert_eq!(read.unwrap_err().kind(), kind),
        }
    }
}

#[tokio::test]
async fn an_upload_that_is_done_before_it_has_come() {
    let server = Scripted::start(async |mut peer: Peer| {
        let put = peer.request().await.unwrap();
        peer.answer(&put, &Stored::default()).await;
        while peer.frame().await.is_some() {}
    })
    .await;
    let pieces = stream::iter(0..).then(|n| async move {
        sleep(Duration::from_millis(10 * n.min(5))).await;
        Ok::<_, std::io::Error>(Bytes::from_static(b"more"))
    });
    let bucket = patient(&server);
    let put = bucket.put("k", Body::from_stream(pieces, None));
    let error = in_time(async { put.await }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn pings_are_answered_in_mid_upload() {
    let server = Scripted::start(async |mut peer: Peer| {
        let put = peer.request().await.unwrap();
        peer.say(kind::PING, put.stream_id, &Empty, b"").await;
        let mut pongs = 0;
        loop {
            let frame = peer.frame().await.unwrap();
            match frame.code {
                kind::PONG => pongs += 1,
                kind::END => break,
                _ => {}
            }
        }
        assert_eq!(pongs, 1);
        peer.answer(&put, &Stored::default()).await;
        peer.request().await;
    })
    .await;
    let pieces = stream::iter(0..20).then(|_| async {
        sleep(Duration::from_millis(10)).await;
        Ok::<_, std::io::Error>(Bytes::from_static(b"more"))
    });
    let bucket = patient(&server);
    let put = bucket.put("k", Body::from_stream(pieces, None));
    in_time(async { put.await }).await.unwrap();
}

/// A lane that the server has ended lay in the pool until a request was lost on it.
#[tokio::test]
async fn a_lane_that_has_ended_is_not_used_again() {
    let server = Scripted::start(async |mut peer: Peer| {
        // One that is not bulk is that by which a session is asked for.
        let Some(put) = peer.request().await else {
            return;
        };
        while peer.frame().await.unwrap().code != kind::END {}
        peer.answer(&put, &Stored::default()).await;
        match peer.number % 2 {
            0 => peer.leave(put.stream_id, None).await,
            _ => drop(peer.stream.shutdown().await),
        }
        assert!(peer.frame().await.is_none());
    })
    .await;
    let bucket = patient(&server);
    for _ in 0..4 {
        in_time(async { bucket.put("k", long_body()).await })
            .await
            .unwrap();
        sleep(PATIENCE / 10).await;
    }
    assert_eq!(server.accepted(), 1 + 4);
}

#[tokio::test]
async fn ranges_that_nobody_asked_for() {
    let lengths = [
        vec![],
        vec![4],
        vec![4, 4, 0],
        vec![5, 3],
        vec![4, 5],
        vec![u64::MAX, 9],
    ];
    for lengths in lengths {
        let server = Scripted::start(move |mut peer: Peer| {
            let lengths = lengths.clone();
            async move {
                while let Some(asked) = peer.request().await {
                    let told = RangesInfo {
                        object: info(500, 0),
                        lengths: lengths.clone(),
                    };
                    peer.answer_with(&asked, &told, Head::whole(b"12345678"), b"12345678")
                        .await;
                }
            }
        })
        .await;
        let error = in_time(patient(&server).get_ranges("k", &[0..4, 8..12]))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }
}

/// More than was asked for was taken into memory, as long as it came.
#[tokio::test]
async fn ranges_without_end() {
    let server = Scripted::start(async |mut peer: Peer| {
        while let Some(asked) = peer.request().await {
            if !peer.is_bulk {
                peer.say(Status::UseBulk as u8, asked.stream_id, &Empty, b"")
                    .await;
                continue;
            }
            let told = RangesInfo::default();
            peer.answer_with(&asked, &told, Head::following(None), b"")
                .await;
            tell("never ends", &mut peer, &asked, &long_body()).await;
        }
    })
    .await;
    let before = memory("self");
    let error = in_time(patient(&server).get_ranges("k", std::slice::from_ref(&(0..400_000))))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(memory("self") < before + (32 << 20));
}

// Pages.

/// A page whose next one is itself was asked for for ever, and all that came was kept.
#[tokio::test]
async fn pages_that_turn_in_circles() {
    let server = Scripted::start(async |mut peer: Peer| {
        while let Some(asked) = peer.request().await {
            match asked.code {
                ListObjects::CODE => {
                    let page = ObjectPage {
                        objects: vec![ObjectEntry {
                            key: "a".to_owned(),
                            ..ObjectEntry::default()
                        }],
                        is_truncated: true,
                        next_start_after: "a".to_owned(),
                        ..ObjectPage::default()
                    };
                    peer.answer(&asked, &page).await;
                }
                ListParts::CODE => {
                    let parts = vec![PartEntry {
                        part_number: 1,
                        ..PartEntry::default()
                    }];
                    let is_truncated = true;
                    peer.answer(
                        &asked,
                        &PartList {
                            parts,
                            is_truncated,
                        },
                    )
                    .await;
                }
                DeletePrefix::CODE => {
                    let told = DeletedPrefix {
                        is_truncated: true,
                        ..DeletedPrefix::default()
                    };
                    peer.answer(&asked, &told).await;
                }
                Ping::CODE => peer.answer(&asked, &Empty).await,
                _ => {
                    let told = jay_wire::multipart::UploadPage {
                        is_truncated: true,
                        ..Default::default()
                    };
                    peer.answer(&asked, &told).await;
                }
            }
        }
    })
    .await;
    let bucket = patient(&server);
    let listed: Result<Vec<_>, Error> = in_time(bucket.list("").objects().try_collect()).await;
    let upload = bucket.multipart("k", "id");
    for error in [
        listed.unwrap_err(),
        in_time(bucket.list_dir("")).await.unwrap_err(),
        in_time(bucket.delete_prefix("")).await.unwrap_err(),
        in_time(upload.list_parts()).await.unwrap_err(),
        in_time(bucket.list_multiparts("")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
}
