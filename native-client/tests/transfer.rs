//! Files up and down, and objects that are written bit by bit.

mod server;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jay_client::{Bucket, CancelToken, Client, Config, ErrorKind, Method};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use self::server::{Server, bytes};

const MIB: usize = 1 << 20;

/// A bucket whose files go in parts from 1 MiB on, of 256 KiB.
async fn in_small_parts(server: &Server) -> Bucket {
    let mut config = Config::parse(&server.url).unwrap();
    config.set("multipart_threshold", "1MiB").unwrap();
    config.set("part_size", "256KiB").unwrap();
    config.set("concurrency", "3").unwrap();
    let client = Client::new(config).unwrap();
    client.create_bucket("bucket").await.unwrap()
}

/// Waits until nothing is left of uploads that were given up.
async fn no_upload_is_open(bucket: &Bucket) {
    for _ in 0..100 {
        if bucket.list_multiparts("").await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("an upload was left open");
}

fn names(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn files_of_every_size_go_up_and_come_back() {
    let server = Server::start().await;
    let bucket = in_small_parts(&server).await;
    let dir = TempDir::new().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    for size in [0, 1, MIB, MIB + 1, 3 * MIB + 17] {
        let body = bytes(size, 7 + size as u64);
        std::fs::write(&from, &body).unwrap();
        let (up, down) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let told = |last: &Arc<AtomicU64>| {
            let last = last.clone();
            move |so_far: jay_client::Progress| {
                assert_eq!(so_far.total, size as u64);
                last.fetch_max(so_far.transferred, Ordering::Relaxed);
            }
        };
        let stored = bucket
            .upload_file("k", &from)
            .content_type("text/x-test")
            .metadata("name", "value")
            .tags([("a".to_owned(), "b".to_owned())].into())
            .progress(told(&up))
            .await
            .unwrap();
        assert_eq!(stored.size, size as u64);
        assert_eq!(stored.etag.contains('-'), size > MIB, "{}", stored.etag);
        let meta = bucket
            .download_file("k", &to)
            .progress(told(&down))
            .await
            .unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), body);
        assert_eq!(
            (meta.content_type.as_deref(), meta.tag_count),
            (Some("text/x-test"), 1)
        );
        assert_eq!(meta.metadata["name"], "value");
        assert_eq!(up.load(Ordering::Relaxed), size as u64);
        assert_eq!(down.load(Ordering::Relaxed), size as u64);
        assert_eq!(names(dir.path()), ["from", "to"]);
    }
    no_upload_is_open(&bucket).await;
}

#[tokio::test]
async fn conditions_hold_for_long_files_too() {
    let server = Server::start().await;
    let bucket = in_small_parts(&server).await;
    let dir = TempDir::new().unwrap();
    let from = dir.path().join("from");
    std::fs::write(&from, bytes(2 * MIB, 1)).unwrap();
    let first = bucket
        .upload_file("k", &from)
        .if_none_match_any()
        .await
        .unwrap();
    let lost = bucket
        .upload_file("k", &from)
        .if_none_match_any()
        .await
        .unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::AlreadyExists);
    let lost = bucket
        .upload_file("k", &from)
        .if_match("another")
        .await
        .unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::PreconditionFailed);
    no_upload_is_open(&bucket).await;
    let to = dir.path().join("to");
    let same = bucket
        .download_file("k", &to)
        .if_none_match(&first.etag)
        .await
        .unwrap_err();
    assert_eq!(same.kind(), ErrorKind::NotModified);
    let absent = bucket.download_file("absent", &to).await.unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::ObjectNotFound);
    assert_eq!(names(dir.path()), ["from"]);
}

#[tokio::test]
async fn a_transfer_that_is_given_up_leaves_nothing() {
    let server = Server::start().await;
    let bucket = in_small_parts(&server).await;
    let dir = TempDir::new().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::write(&from, bytes(8 * MIB, 1)).unwrap();
    for token in [CancelToken::new(), CancelToken::new()] {
        let other = token.clone();
        // When some of it has gone.
        let upload = bucket
            .upload_file("k", &from)
            .progress(move |so_far| {
                if so_far.transferred > MIB as u64 {
                    other.cancel();
                }
            })
            .cancel(token)
            .await;
        assert_eq!(upload.unwrap_err().kind(), ErrorKind::Cancelled);
        no_upload_is_open(&bucket).await;
        assert!(!bucket.exists("k").await.unwrap());
    }
    bucket.upload_file("k", &from).await.unwrap();
    let token = CancelToken::new();
    let other = token.clone();
    let download = bucket
        .download_file("k", &to)
        .progress(move |_| other.cancel())
        .cancel(token);
    assert_eq!(download.await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(names(dir.path()), ["from"]);
    // Dropped, without a word.
    let dropped = tokio::time::timeout(
        Duration::from_millis(5),
        bucket.upload_file("dropped", &from).into_future(),
    )
    .await;
    assert!(dropped.is_err());
    no_upload_is_open(&bucket).await;
}

#[tokio::test]
async fn files_that_cannot_be_read_or_change_are_refused() {
    let server = Server::start().await;
    let bucket = in_small_parts(&server).await;
    let dir = TempDir::new().unwrap();
    let missing = bucket
        .upload_file("k", dir.path().join("missing"))
        .await
        .unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::InvalidArgument);
    assert!(missing.message().contains("missing"), "{missing}");
    let from = dir.path().join("from");
    let body = bytes(4 * MIB, 1);
    std::fs::write(&from, &body).unwrap();
    for changed in [vec![], [&body[..], b"more"].concat()] {
        std::fs::write(&from, &body).unwrap();
        let (path, once) = (from.clone(), std::sync::Once::new());
        let upload = bucket
            .upload_file("k", &from)
            .concurrency(1)
            .progress(move |_| {
                once.call_once(|| std::fs::write(&path, &changed).unwrap());
            });
        assert_eq!(upload.await.unwrap_err().kind(), ErrorKind::InvalidArgument);
        no_upload_is_open(&bucket).await;
        assert!(!bucket.exists("k").await.unwrap());
    }
    let nowhere = bucket
        .download_file("k", dir.path().join("no/such/dir"))
        .await;
    assert_eq!(nowhere.unwrap_err().kind(), ErrorKind::ObjectNotFound);
    bucket.put("k", "body").await.unwrap();
    let nowhere = bucket
        .download_file("k", dir.path().join("no/such/dir"))
        .await;
    assert_eq!(nowhere.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn what_is_written_becomes_an_object_when_it_is_finished() {
    let server = Server::start().await;
    let bucket = in_small_parts(&server).await;
    for size in [0, 1000, 256 << 10, (256 << 10) + 1, 2 * MIB + 5] {
        let body = bytes(size, 3 + size as u64);
        let mut writer = bucket
            .writer("k")
            .content_type("text/x-test")
            .metadata("n", "v")
            .await
            .unwrap();
        for piece in body.chunks(70_001) {
            writer.write_all(piece).await.unwrap();
            writer.flush().await.unwrap();
        }
        writer.shutdown().await.unwrap();
        assert!(!bucket.exists("k").await.unwrap(), "before it is finished");
        let stored = writer.finish().await.unwrap();
        assert_eq!(
            (stored.size, stored.etag.contains('-')),
            (size as u64, size > 256 << 10)
        );
        let got = bucket.get("k").await.unwrap();
        assert_eq!(
            (
                got.meta().content_type.as_deref(),
                got.meta().metadata.len()
            ),
            (Some("text/x-test"), 1)
        );
        assert_eq!(got.bytes().await.unwrap(), body);
        bucket.delete("k").await.unwrap();
    }
    for is_told in [false, true] {
        let mut writer = bucket.writer("k").await.unwrap();
        writer.write_all(&bytes(MIB, 5)).await.unwrap();
        match is_told {
            true => writer.abort().await.unwrap(),
            false => drop(writer),
        }
        no_upload_is_open(&bucket).await;
        assert!(!bucket.exists("k").await.unwrap());
    }
    bucket.put("k", "there").await.unwrap();
    let mut writer = bucket.writer("k").if_none_match_any().await.unwrap();
    writer.write_all(&bytes(MIB, 6)).await.unwrap();
    assert_eq!(
        writer.finish().await.unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    no_upload_is_open(&bucket).await;
}

#[tokio::test]
async fn a_writer_whose_server_is_gone_says_so() {
    let server = Server::start().await;
    let mut config = Config::parse(&server.url).unwrap();
    config.set("part_size", "256KiB").unwrap();
    config.set("retries", "0").unwrap();
    let bucket = Client::new(config)
        .unwrap()
        .create_bucket("bucket")
        .await
        .unwrap();
    let mut writer = bucket.writer("k").await.unwrap();
    writer.write_all(&bytes(MIB, 5)).await.unwrap();
    drop(server);
    let failed = loop {
        if let Err(error) = writer.write_all(&bytes(MIB, 5)).await {
            break error;
        }
    };
    assert!(
        failed
            .get_ref()
            .is_some_and(|error| error.is::<jay_client::Error>()),
        "{failed}"
    );
    assert!(writer.write_all(b"more").await.is_err());
    assert_eq!(writer.finish().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn links_do_what_they_are_for() {
    let server = Server::start().await;
    let mut config = Config::parse(&server.url).unwrap();
    config.set("s3_endpoint", &server.s3_endpoint).unwrap();
    let bucket = Client::new(config)
        .unwrap()
        .create_bucket("bucket")
        .await
        .unwrap();
    let bucket = bucket.with_prefix("Ü /+?");
    let key = "a&b=c/d~ e";
    let ask = async |method: Method, body: &str| {
        let link = bucket
            .presign(method, key, Duration::from_secs(60))
            .unwrap();
        server::fetch(&method.to_string(), &link, body).await
    };
    assert_eq!(ask(Method::Put, "body").await.0, 200);
    assert_eq!(
        bucket.get(key).await.unwrap().bytes().await.unwrap(),
        "body"
    );
    assert_eq!(ask(Method::Get, "").await, (200, "body".to_owned()));
    assert_eq!(ask(Method::Head, "").await.0, 200);
    assert_eq!(ask(Method::Delete, "").await.0, 204);
    assert!(!bucket.exists(key).await.unwrap());
    let link = bucket
        .presign(Method::Get, key, Duration::from_secs(60))
        .unwrap();
    assert_eq!(server::fetch("PUT", &link, "x").await.0, 403);
}
