//! The client over version 1: against a server that knows no other and answers as the first one did, and against ours.

mod recorded;
mod server;

use std::{collections::BTreeMap, fmt::Debug, time::SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jay_client::{Body, Bucket, Checksum, Client, Config, ContentHeaders, ErrorKind, Result};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

use self::{
    recorded::{Recorded, long_body},
    server::{Server, bytes},
};

fn client(url: &str) -> Client {
    client_with(url, &[])
}

/// A client of version 1 that asks once.
fn client_with(url: &str, options: &[(&str, &str)]) -> Client {
    let mut config = Config::parse(url).unwrap();
    for (key, value) in [("protocol", "v1"), ("retries", "0")].iter().chain(options) {
        config.set(key, value).unwrap();
    }
    Client::new(config).unwrap()
}

fn kind<T: Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

async fn body(bucket: &Bucket, key: &str) -> Bytes {
    bucket.get(key).await.unwrap().bytes().await.unwrap()
}

#[tokio::test]
async fn the_first_server_is_understood() {
    let server = Recorded::start().await;
    let client = client(&server.url("vec-full"));
    client.ping().await.unwrap();
    buckets(&client).await;
    let [alpha, beta, nope] = ["alpha", "beta-2", "nope"].map(|name| client.bucket(name));
    objects(&alpha, &nope).await;
    listings(&alpha, &beta, &nope).await;
    uploads(&alpha, &nope).await;
    for _ in ["there", "gone"] {
        alpha.delete("hello.txt").await.unwrap();
    }
    assert_eq!(kind(nope.delete("x").await), ErrorKind::BucketNotFound);
    assert_eq!(
        kind(client.delete_bucket("alpha").await),
        ErrorKind::BucketNotEmpty
    );
    client.delete_bucket("beta-2").await.unwrap();
    assert_eq!(
        kind(client.delete_bucket("beta-2").await),
        ErrorKind::BucketNotFound
    );
    assert_eq!(
        kind(alpha.get("p/b").await),
        ErrorKind::PermissionDenied,
        "a policy denies it"
    );
    assert_eq!(
        kind(alpha.put("limited", "abc").await),
        ErrorKind::RateLimited
    );
    client.ping().await.unwrap();
    readers(&server).await;
    handshakes(&server).await;

    assert_eq!(server.unknown(), Vec::<Vec<u8>>::new());
    // Refused before they are sent, or sent by no client of ours.
    let unused = [
        "complete_multipart.missing_part",
        "complete_multipart.no_parts",
        "handshake.auth_failed.no_colon",
        "handshake.bad_magic",
        "handshake.empty_credentials",
        "handshake.nonzero_flags",
        "handshake.short",
        "handshake.version_mismatch",
        "list_objects.delimiter_page2_wrong_cursor",
    ];
    assert_eq!(server.unused(), unused.map(str::to_owned).into());
}

async fn buckets(client: &Client) {
    assert_eq!(client.list_buckets().await.unwrap(), []);
    client.create_bucket("alpha").await.unwrap();
    client.create_bucket("beta-2").await.unwrap();
    let taken = client.create_bucket("alpha").await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::BucketExists);
    assert_eq!(
        taken.to_string(),
        "CreateBucket alpha: bucket already exists (BucketExists)"
    );
    assert_eq!(
        kind(client.create_bucket("Bad_Name").await),
        ErrorKind::InvalidArgument
    );
    assert!(client.bucket_exists("alpha").await.unwrap());
    assert!(!client.bucket_exists("nope").await.unwrap());
    let names = client.list_buckets().await.unwrap();
    let names: Vec<_> = names.iter().map(|bucket| bucket.name.as_str()).collect();
    assert_eq!(names, ["alpha", "beta-2"]);
}

async fn objects(alpha: &Bucket, nope: &Bucket) {
    let put = alpha.put("hello.txt", "hello world").await.unwrap();
    assert_eq!(
        (put.etag.as_str(), put.size, put.version),
        ("5eb63bbbe01eeed093cb22bb8f5acdc3", 11, None)
    );
    assert_eq!(put.checksum.unwrap().algorithm, "SHA256");
    alpha
        .put("docs/a.txt", "alpha doc")
        .content_type("text/plain")
        .metadata("owner", "ana")
        .await
        .unwrap();
    alpha.put("empty", "").await.unwrap();
    alpha.put("emptymap", "x").await.unwrap();
    let (unicode, title) = ("docs/ünï/日本語 🦀.txt", "título");
    alpha
        .put(unicode, "snow ☃")
        .content_type("text/plain; charset=utf-8")
        .metadata(title, "ñandú")
        .await
        .unwrap();
    alpha.put("hello.txt", "hello again").await.unwrap();
    assert_eq!(kind(nope.put("k", "abc").await), ErrorKind::BucketNotFound);
    let big = alpha.put("big.bin", long_body()).await.unwrap();
    assert_eq!(big.size, 1_048_593);

    assert_eq!(body(alpha, "hello.txt").await, "hello again");
    let got = alpha.get("docs/a.txt").await.unwrap();
    assert_eq!((got.meta().size, got.range()), (9, 0..9));
    assert_eq!(got.meta().metadata["owner"], "ana");
    assert_eq!(got.meta().content_type.as_deref(), Some("text/plain"));
    assert_eq!(got.bytes().await.unwrap(), "alpha doc");
    assert_eq!(body(alpha, "empty").await, "");
    let got = alpha.get(unicode).await.unwrap();
    assert_eq!(got.meta().metadata[title], "ñandú");
    assert_eq!(got.bytes().await.unwrap(), "snow ☃");
    assert_eq!(body(alpha, "big.bin").await, long_body());
    let missing = alpha.get("missing").await.unwrap_err();
    assert_eq!(
        (missing.kind(), missing.s3_code()),
        (ErrorKind::ObjectNotFound, Some("NoSuchKey"))
    );
    assert_eq!(kind(nope.get("missing").await), ErrorKind::BucketNotFound);
    let head = alpha.head("docs/a.txt").await.unwrap();
    assert_eq!((head.size, head.metadata["owner"].as_str()), (9, "ana"));
    assert!(!alpha.exists("missing").await.unwrap());
}

async fn listings(alpha: &Bucket, beta: &Bucket, nope: &Bucket) {
    assert_eq!(beta.list("").page().await.unwrap().objects, []);
    let all = alpha.list("").page().await.unwrap();
    assert_eq!((all.objects.len(), all.next), (11, None));
    assert_eq!(alpha.list("docs/").page().await.unwrap().objects.len(), 2);
    let dir = alpha.list_dir("p/").await.unwrap();
    let keys = |objects: &[jay_client::ObjectMeta]| -> Vec<_> {
        objects.iter().map(|object| object.key.clone()).collect()
    };
    assert_eq!(dir.prefixes, ["p/a/", "p/c/"]);
    assert_eq!(keys(&dir.objects), ["p/b", "p/d"]);
    let paged: Vec<_> = alpha
        .list("p/")
        .page_size(2)
        .objects()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(keys(&paged), ["p/a/1", "p/a/2", "p/b", "p/c/1", "p/d"]);
    // Its own cursor would list this for ever.
    let stuck = alpha
        .list("p/")
        .delimiter("/")
        .page_size(1)
        .page()
        .await
        .unwrap();
    let next = stuck.next.unwrap();
    assert!(next.as_str() > "p/a/\u{10FFFF}zzz" && next.as_str() < "p/b");
    assert_eq!(kind(nope.list("").page().await), ErrorKind::BucketNotFound);
}

async fn uploads(alpha: &Bucket, nope: &Bucket) {
    let begun = alpha.create_multipart("mp.bin", "application/x-mp").await;
    let upload = begun.unwrap();
    assert_eq!(
        kind(nope.create_multipart("k", "").await),
        ErrorKind::BucketNotFound
    );
    let two = upload.part(2, "part-two").await.unwrap();
    upload.part(1, "part-one;").await.unwrap();
    let three = upload.part(3, "").await.unwrap();
    let one = upload.part(1, "PART-ONE;").await.unwrap();
    assert_eq!((one.part_number, one.size, three.size), (1, 9, 0));
    for number in [0, 10_001] {
        assert_eq!(
            kind(upload.part(number, "x").await),
            ErrorKind::InvalidArgument
        );
    }
    let other = alpha.multipart("mp.bin", "00000000-0000-0000-0000-000000000000");
    assert_eq!(kind(other.part(1, "x").await), ErrorKind::UploadNotFound);
    let other = alpha.multipart("other.bin", upload.upload_id());
    assert_eq!(kind(other.list_parts().await), ErrorKind::UploadNotFound);

    let all = [one.clone(), two.clone(), three];
    assert_eq!(upload.list_parts().await.unwrap(), all);
    // What version 1 does not say, the client looks after itself.
    let (mut missing, mut changed) = (one.clone(), two.clone());
    (missing.part_number, changed.etag) = (9, one.etag.clone());
    for (wrong, code) in [
        (&[one.clone(), missing][..], "InvalidPart"),
        (&[one.clone(), changed], "InvalidPart"),
        (&[two.clone(), one.clone()], "InvalidPartOrder"),
        (&[one.clone(), one.clone()], "InvalidPartOrder"),
        (&[], "MalformedXML"),
    ] {
        let refused = upload.complete(wrong).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        assert_eq!(refused.s3_code(), Some(code));
    }
    let done = upload.complete(&[one.clone(), two]).await.unwrap();
    assert_eq!((done.size, done.etag.ends_with("-2")), (17, true));
    assert_eq!(body(alpha, "mp.bin").await, "PART-ONE;part-two");
    let again: Result<_> = upload.complete(&[one]).await;
    assert_eq!(kind(again), ErrorKind::UploadNotFound);

    alpha.create_multipart("mp0.bin", "").await.unwrap();
    let given_up = alpha.create_multipart("mpx.bin", "").await.unwrap();
    given_up.abort().await.unwrap();
    assert_eq!(kind(given_up.abort().await), ErrorKind::UploadNotFound);
}

/// An access key with few rights.
async fn readers(server: &Recorded) {
    let client = client(&server.url("vec-readonly"));
    let alpha = client.bucket("alpha");
    let denied = ErrorKind::PermissionDenied;
    assert_eq!(kind(alpha.put("docs/new", "abc").await), denied);
    assert_eq!(kind(client.create_bucket("gamma").await), denied);
    assert_eq!(kind(client.list_buckets().await), denied);
    assert_eq!(kind(alpha.get("big.bin").await), denied);
    assert_eq!(body(&alpha, "docs/a.txt").await, "alpha doc");
    let outside = alpha.list("p/").page_size(1).page().await.unwrap();
    assert_eq!(outside.objects[0].key, "p/a/1");
    assert_eq!(
        kind(client.bucket("other-bucket").list("").page().await),
        denied
    );
}

async fn handshakes(server: &Recorded) {
    for user in [
        "vec-full:nope",
        "nobody:nope",
        "vec-revoked:vec-revoked-secret",
    ] {
        let client = client(&format!("jay://{user}@{}", server.address));
        assert_eq!(kind(client.ping().await), ErrorKind::Unauthenticated);
    }
}

#[tokio::test]
async fn version_2_never_becomes_version_1() {
    let server = Recorded::start().await;
    let client = Client::new(Config::parse(&server.url("vec-full")).unwrap()).unwrap();
    let error = client.bucket("alpha").put("k", "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("protocol=v1"), "{error}");
    let error = Client::connect(&server.url("vec-full")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    server.has_ended().await;
    assert_eq!(server.connections(), 2);
    let received = server.received();
    let is_in = |secret: &[u8]| received.windows(secret.len()).any(|bytes| bytes == secret);
    assert!(
        is_in(b"vec-full") && !is_in(b"vec-full-secret"),
        "{received:?}"
    );
    // Two hellos, of fields that say how long they are, and not a byte behind them.
    let length = 8 + usize::from(u16::from_be_bytes([received[6], received[7]]));
    assert_eq!(received.len(), 2 * length);
}

#[tokio::test]
async fn what_it_has_not_is_refused_before_it_is_sent() {
    let server = Recorded::start().await;
    let client = client(&server.url("vec-full"));
    let b = client.bucket("alpha");
    let headers = ContentHeaders {
        cache_control: Some("no-cache".into()),
        ..ContentHeaders::default()
    };
    let tags = || BTreeMap::from([("colour".to_owned(), "red".to_owned())]);
    let sum = Checksum {
        algorithm: "CRC32C".into(),
        value: vec![0; 4],
    };
    let unsized_body = || Body::from_reader(&b"x"[..], None);
    let (now, upload) = (SystemTime::now(), b.multipart("k", "id"));
    let refused = [
        ("range", b.get("k").range(1..2).await.map(drop)),
        ("range", b.get("k").suffix(2).await.map(drop)),
        ("conditions", b.get("k").if_match("e").await.map(drop)),
        ("conditions", b.get("k").if_none_match("e").await.map(drop)),
        (
            "conditions",
            b.get("k").if_modified_since(now).await.map(drop),
        ),
        ("conditions", b.put("k", "").if_match("e").await.map(drop)),
        (
            "conditions",
            b.put("k", "").if_none_match_any().await.map(drop),
        ),
        ("headers", b.put("k", "").headers(headers).await.map(drop)),
        (
            "conditions",
            b.put("k", unsized_body()).if_match("e").await.map(drop),
        ),
        ("tags", b.put("k", "").tags(tags()).await.map(drop)),
        ("checksum", b.put("k", "").checksum(sum).await.map(drop)),
        (
            "request_id",
            b.put("k", "").request_id("id").await.map(drop),
        ),
        ("request_id", b.get("k").request_id("id").await.map(drop)),
        (
            "unknown length",
            upload.part(1, unsized_body()).await.map(drop),
        ),
        ("if_match", b.delete("k").if_match("e").await),
        (
            "GetRanges",
            b.get_ranges("k", &[0..1, 2..3]).await.map(drop),
        ),
        ("CopyObject", b.copy("k", "l").await.map(drop)),
        ("GetObjectTagging", b.tags("k").await.map(drop)),
        ("PutObjectTagging", b.set_tags("k", tags()).await),
        ("DeleteObjectTagging", b.delete_tags("k").await),
        (
            "with_metadata",
            b.list("").with_metadata().page().await.map(drop),
        ),
        (
            "ListMultipartUploads",
            b.list_multiparts("").await.map(drop),
        ),
        ("GetServerInfo", client.server_info().await.map(drop)),
    ];
    for (what, refused) in refused {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{what}: {error}");
        assert!(error.to_string().contains(what), "{what}: {error}");
    }
    assert_eq!(server.received(), b"");
}

/// What a server does to the answer to `get_object.one_mib_plus_17` or `get_object.basic`, and what the client says to it.
async fn read_changed(change: recorded::Change, key: &str, verify: &str) -> Result<Bytes> {
    let server = Recorded::start_with(change).await;
    let client = client_with(&server.url("vec-full"), &[("verify", verify)]);
    client.bucket("alpha").get(key).await?.bytes().await
}

#[tokio::test]
async fn a_body_that_is_not_the_right_one_is_found() {
    let cut: recorded::Change = |_, answer| {
        answer.pop();
        false
    };
    let changed: recorded::Change = |_, answer| {
        *answer.last_mut().unwrap() ^= 1;
        true
    };
    // An object of which the server tells no SHA-256, only MD5.
    let without_sha256: recorded::Change = |_, answer| {
        let mut starts = answer.windows(8);
        let at = starts.position(|start| start == b"3908c567").unwrap();
        answer[at..at + 64].fill(b'-');
        *answer.last_mut().unwrap() ^= 1;
        true
    };
    for key in ["hello.txt", "big.bin"] {
        for verify in ["true", "false"] {
            let short = read_changed(cut, key, verify).await;
            assert_eq!(kind(short), ErrorKind::ConnectionLost, "{key} {verify}");
        }
        let wrong = read_changed(changed, key, "true").await;
        assert_eq!(kind(wrong), ErrorKind::ChecksumMismatch, "{key}");
        assert!(read_changed(changed, key, "false").await.is_ok());
    }
    let wrong = read_changed(without_sha256, "hello.txt", "true").await;
    assert_eq!(kind(wrong), ErrorKind::ChecksumMismatch);
}

#[tokio::test]
async fn a_file_that_has_not_come_whole_is_not_there() {
    let server = Recorded::start_with(|_, answer| {
        *answer.last_mut().unwrap() ^= 1;
        true
    });
    let server = server.await;
    let bucket = client(&server.url("vec-full")).bucket("alpha");
    let dir = TempDir::new().unwrap();
    let got = bucket.get("big.bin").await.unwrap();
    let written = got.write_to_file(dir.path().join("f")).await;
    assert_eq!(kind(written), ErrorKind::ChecksumMismatch);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_stored_is_held_against_what_was_sent() {
    let server = Recorded::start_with(|_, answer| {
        let last = answer.last_mut().unwrap();
        *last = if *last == b'0' { b'1' } else { b'0' };
        true
    });
    let server = server.await;
    let bucket = client(&server.url("vec-full")).bucket("alpha");
    let stored = bucket.put("hello.txt", "hello world").await;
    assert_eq!(kind(stored), ErrorKind::ChecksumMismatch);
    let client = client_with(&server.url("vec-full"), &[("verify", "false")]);
    client
        .bucket("alpha")
        .put("hello.txt", "hello again")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_used_by_nobody() {
    let server = Recorded::start_with(|name, _| name != "put_object.basic").await;
    let bucket = client(&server.url("vec-full")).bucket("alpha");
    bucket.put("hello.txt", "hello world").await.unwrap();
    // Time for the end to come.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    bucket.put("hello.txt", "hello again").await.unwrap();
    assert_eq!(server.connections(), 2);
    bucket.head("docs/a.txt").await.unwrap();
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn an_answer_with_something_behind_it_is_the_last_of_its_connection() {
    let server = Recorded::start_with(|name, answer| {
        if name == "head_object.ok" {
            answer.extend([0; 17]);
        }
        true
    });
    let server = server.await;
    let bucket = client(&server.url("vec-full")).bucket("alpha");
    assert_eq!(bucket.head("docs/a.txt").await.unwrap().size, 9);
    assert_eq!(body(&bucket, "hello.txt").await, "hello again");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn bodies_of_every_size_and_kind_come_back() {
    let server = Server::start().await;
    server.bucket().await;
    let options = [("multipart_threshold", "300000"), ("part_size", "100000")];
    let bucket = client_with(&server.url, &options).bucket("bucket");
    for size in [0, 1, 65_536, 262_144, 262_145, 300_000, 300_001, 3_000_000] {
        let all = bytes(size, size as u64);
        let put = bucket.put("k", all.clone()).await.unwrap();
        assert_eq!(put.size, size as u64);
        assert_eq!(body(&bucket, "k").await, all);
        for told in [None, Some(size as u64)] {
            let pieces: Vec<_> = all
                .chunks(70_000)
                .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
                .collect();
            let stream = Body::from_stream(stream::iter(pieces), told);
            let put = bucket.put("s", stream).content_type("text/plain").await;
            let put = put.unwrap();
            let is_in_parts = told.is_none() && size > 300_000;
            assert_eq!(
                (put.size, put.etag.contains('-')),
                (size as u64, is_in_parts)
            );
            let got = bucket.get("s").await.unwrap();
            assert_eq!(got.meta().content_type.as_deref(), Some("text/plain"));
            assert_eq!(got.bytes().await.unwrap(), all);
        }
        let reader = Body::from_reader(std::io::Cursor::new(all.to_vec()), None);
        bucket.put("r", reader).await.unwrap();
        let mut read = Vec::new();
        let mut reader = bucket.get("r").await.unwrap().into_async_read();
        reader.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, all);
    }
    let long = || Body::from_reader(std::io::Cursor::new(vec![0; 400_000]), None);
    let with_metadata = bucket.put("m", long()).metadata("owner", "ana").await;
    assert_eq!(kind(with_metadata), ErrorKind::Unsupported);
    assert!(!bucket.exists("m").await.unwrap());
}

#[tokio::test]
async fn a_source_that_fails_stores_nothing() {
    let server = Server::start().await;
    server.bucket().await;
    let options = [("multipart_threshold", "300000"), ("part_size", "100000")];
    let bucket = client_with(&server.url, &options).bucket("bucket");
    let failed = || Err(std::io::Error::other("the disk of the reader is gone"));
    for (pieces, told) in [
        (vec![Ok(bytes(300_000, 4)), failed()], Some(400_000)),
        // All that was told has come, and then it fails.
        (vec![Ok(bytes(10, 4)), Ok(bytes(10, 4)), failed()], Some(20)),
        (vec![Ok(bytes(10, 4)), failed()], None),
        (vec![Ok(bytes(400_000, 4)), failed()], None),
    ] {
        let error = bucket
            .put("k", Body::from_stream(stream::iter(pieces), told))
            .await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("the disk of the reader is gone"), "{error}");
        assert!(!bucket.exists("k").await.unwrap());
    }
    for told in [9, 11] {
        let pieces = stream::iter([Ok::<_, std::io::Error>(bytes(10, 5))]);
        let other = bucket.put("k", Body::from_stream(pieces, Some(told))).await;
        assert_eq!(kind(other), ErrorKind::InvalidArgument);
        assert!(!bucket.exists("k").await.unwrap());
    }
    // Nothing is left of the uploads that were begun.
    let over_v2 = Client::connect(&server.url).await.unwrap().bucket("bucket");
    assert_eq!(over_v2.list_multiparts("").await.unwrap(), []);
}

#[tokio::test]
async fn a_refused_upload_is_not_sent_to_its_end() {
    let server = Server::start().await;
    let client = client(&server.url);
    let piece = bytes(1 << 20, 1);
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = sent.clone();
    let pieces = stream::iter(std::iter::repeat_n(piece, 4096)).map(move |piece| {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok::<_, std::io::Error>(piece)
    });
    let put = client
        .bucket("absent")
        .put("k", Body::from_stream(pieces, Some(4 << 30)));
    assert_eq!(kind(put.await), ErrorKind::BucketNotFound);
    let sent = sent.load(std::sync::atomic::Ordering::Relaxed);
    assert!(sent < 100, "{sent} MiB");
    client.ping().await.unwrap();
}

#[tokio::test]
async fn what_takes_one_request_otherwise_is_asked_one_by_one() {
    let server = Server::start().await;
    server.bucket().await;
    let bucket = client(&server.url).bucket("bucket").with_prefix("a/");
    let puts = (0..250).map(|n| {
        let bucket = bucket.clone();
        async move { bucket.put(format!("d{}/{n:03}", n % 3), "x").await }
    });
    let done: Vec<_> = stream::iter(puts).buffer_unordered(64).collect().await;
    assert!(done.iter().all(Result::is_ok));
    let page = bucket.list_dir("").await.unwrap();
    assert_eq!((page.prefixes.len(), page.objects.len()), (3, 0));
    let heads = bucket
        .head_many(&["d0/000", "absent", "d2/002"])
        .await
        .unwrap();
    assert_eq!(heads[0].as_ref().unwrap().key, "d0/000");
    assert_eq!(
        heads[1].as_ref().unwrap_err().kind(),
        ErrorKind::ObjectNotFound
    );
    assert!(heads[2].is_ok());
    // As a task of its own, which wants what it waits for to go from thread to thread.
    let deleting = bucket.clone();
    let gone = tokio::spawn(async move { deleting.delete_many(&["d0/000", "absent"]).await });
    assert!(gone.await.unwrap().unwrap().iter().all(Result::is_ok));
    assert_eq!(bucket.delete_prefix("d1/").await.unwrap(), 83);
    assert_eq!(bucket.list("").page_size(7).objects().count().await, 166);
    let absent = client(&server.url).bucket("absent");
    assert_eq!(
        kind(absent.delete_many(&["k"]).await),
        ErrorKind::BucketNotFound
    );
    assert_eq!(
        kind(absent.head_many(&["k"]).await),
        ErrorKind::BucketNotFound
    );
    assert_eq!(
        kind(absent.delete_prefix("").await),
        ErrorKind::BucketNotFound
    );
}

#[tokio::test]
async fn a_complete_that_comes_again_answers_the_same() {
    let server = Server::start().await;
    server.bucket().await;
    let bucket = client(&server.url).bucket("bucket");
    let upload = bucket.create_multipart("k", "text/plain").await.unwrap();
    let parts = [
        upload.part(1, bytes(400_000, 1)).await.unwrap(),
        upload.part(2, bytes(100, 2)).await.unwrap(),
    ];
    let first = upload.complete(&parts).await.unwrap();
    assert_eq!(upload.complete(&parts).await.unwrap(), first);
    let whole = [bytes(400_000, 1), bytes(100, 2)].concat();
    assert_eq!(body(&bucket, "k").await, whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_a_client() {
    let server = Server::start().await;
    server.bucket().await;
    let bucket = client_with(&server.url, &[("connections_max", "6")]).bucket("bucket");
    bucket.put("big", bytes(3_000_000, 6)).await.unwrap();
    let tasks = (0..64).map(|n: u64| {
        let bucket = bucket.clone();
        tokio::spawn(async move {
            for m in 0..10 {
                let (key, all) = (format!("{n}-{m}"), bytes(1000, n * 1000 + m));
                bucket.put(&key, all.clone()).await.unwrap();
                assert_eq!(body(&bucket, &key).await, all);
            }
            // Half-read: its connection is of use to nobody else.
            let mut got = bucket.get("big").await.unwrap();
            got.next_chunk().await.unwrap();
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(body(&bucket, "big").await, bytes(3_000_000, 6));
}
