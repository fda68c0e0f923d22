//! The client against the real server, which the build puts beside the tests.

mod server;

use std::{collections::BTreeMap, net::TcpListener, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jay_client::{Body, Client, Config, ContentHeaders, ErrorKind, PutResult};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use self::server::{Server, bytes};

#[tokio::test]
async fn bodies_of_every_size_and_kind_come_back() {
    let server = Server::start().await;
    let bucket = server.bucket().await;
    for size in [0, 1, 65_536, 262_144, 262_145, 3_000_000] {
        let body = bytes(size, size as u64);
        let put = bucket.put("k", body.clone()).await.unwrap();
        assert_eq!(put.size, size as u64);
        let got = bucket.get("k").await.unwrap();
        assert_eq!(
            (got.meta().size, got.range()),
            (size as u64, 0..size as u64)
        );
        assert_eq!(got.bytes().await.unwrap(), body);

        for told in [None, Some(size as u64)] {
            let pieces: Vec<_> = body
                .chunks(10_000)
                .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
                .collect();
            bucket
                .put("s", Body::from_stream(stream::iter(pieces), told))
                .await
                .unwrap();
            let streamed: Vec<Bytes> = bucket.get("s").await.unwrap().try_collect().await.unwrap();
            assert_eq!(streamed.concat(), body);
        }
        let reader = std::io::Cursor::new(body.to_vec());
        bucket
            .put("r", Body::from_reader(reader, None))
            .await
            .unwrap();
        let mut read = Vec::new();
        bucket
            .get("r")
            .await
            .unwrap()
            .into_async_read()
            .read_to_end(&mut read)
            .await
            .unwrap();
        assert_eq!(read, body);
    }
}

#[tokio::test]
async fn an_object_is_what_was_said_of_it() {
    let server = Server::start().await;
    let bucket = server.bucket().await.with_prefix("a/");
    let headers = ContentHeaders {
        cache_control: Some("no-cache".into()),
        ..ContentHeaders::default()
    };
    let tags = BTreeMap::from([("colour".to_owned(), "red".to_owned())]);
    let put: PutResult = bucket
        .put("k", "body")
        .content_type("text/plain")
        .headers(headers.clone())
        .metadata("owner", "ana")
        .tags(tags.clone())
        .if_none_match_any()
        .await
        .unwrap();
    let meta = bucket.head("k").await.unwrap();
    assert_eq!(
        (meta.key.as_str(), meta.etag.as_str(), meta.tag_count),
        ("k", put.etag.as_str(), 1)
    );
    assert_eq!(meta.content_type.as_deref(), Some("text/plain"));
    assert_eq!(
        (meta.headers, meta.metadata["owner"].as_str()),
        (headers, "ana")
    );
    assert_eq!(bucket.tags("k").await.unwrap(), tags);

    let lost = bucket
        .put("k", "other")
        .if_none_match_any()
        .await
        .unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::AlreadyExists);
    assert_eq!(
        (lost.operation(), lost.bucket(), lost.key()),
        (Some("PutObject"), Some("bucket"), Some("a/k"))
    );
    assert!(
        lost.request_id().is_some() && lost.to_string().starts_with("PutObject bucket/a/k: "),
        "{lost}"
    );
    let known = bucket.get("k").if_none_match(&put.etag).await.unwrap_err();
    assert_eq!(known.kind(), ErrorKind::NotModified);
    assert_eq!(
        bucket
            .get("k")
            .range(1..3)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap(),
        "od"
    );
    assert_eq!(
        bucket
            .get("k")
            .suffix(1)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap(),
        "y"
    );
    assert_eq!(
        bucket.get_ranges("k", &[0..1, 2..9]).await.unwrap(),
        ["b", "dy"]
    );

    bucket.copy("k", "copy").await.unwrap();
    assert!(bucket.exists("copy").await.unwrap());
    let both = bucket.head_many(&["copy", "absent", "k"]).await.unwrap();
    assert_eq!(
        both[1].as_ref().unwrap_err().kind(),
        ErrorKind::ObjectNotFound
    );
    assert_eq!(both[0].as_ref().unwrap().size, 4);
    let wrong = bucket.delete("k").if_match("other").await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::PreconditionFailed);
    bucket.delete("k").await.unwrap();
    assert!(
        bucket
            .delete_many(&["copy", "absent"])
            .await
            .unwrap()
            .iter()
            .all(Result::is_ok)
    );
    assert!(!bucket.exists("k").await.unwrap());
}

#[tokio::test]
async fn listings_go_from_page_to_page() {
    let server = Server::start().await;
    let bucket = server.bucket().await;
    let puts = (0..250).map(|n| {
        let bucket = bucket.clone();
        async move { bucket.put(format!("d{}/{n:03}", n % 3), "x").await }
    });
    let done: Vec<_> = stream::iter(puts).buffer_unordered(64).collect().await;
    assert!(done.iter().all(Result::is_ok));
    let keys: Vec<String> = bucket
        .list("d1/")
        .page_size(7)
        .objects()
        .map_ok(|object| object.key)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(
        keys,
        (0..250)
            .filter(|n| n % 3 == 1)
            .map(|n| format!("d1/{n:03}"))
            .collect::<Vec<_>>()
    );
    let page = bucket.list_dir("").await.unwrap();
    assert_eq!(
        (page.prefixes, page.objects.len()),
        (vec!["d0/".into(), "d1/".into(), "d2/".into()], 0)
    );
    let below = bucket.clone().with_prefix("d2/");
    let first = below.list("").page_size(2).page().await.unwrap();
    assert_eq!(
        first
            .objects
            .iter()
            .map(|object| object.key.as_str())
            .collect::<Vec<_>>(),
        ["002", "005"]
    );
    assert_eq!(first.next.as_deref(), Some("005"));
    assert_eq!(bucket.delete_prefix("d1/").await.unwrap(), 83);
    assert_eq!(bucket.list("").objects().count().await, 167);
}

#[tokio::test]
async fn uploads_in_parts() {
    let server = Server::start().await;
    let bucket = server.bucket().await;
    let upload = bucket.create_multipart("k", "text/plain").await.unwrap();
    let (one, two) = (bytes(400_000, 1), bytes(100, 2));
    let parts = [
        upload.part(1, one.clone()).await.unwrap(),
        upload.part(2, two.clone()).await.unwrap(),
    ];
    assert_eq!(upload.list_parts().await.unwrap(), parts);
    let open = bucket.list_multiparts("").await.unwrap();
    assert_eq!(
        open.iter()
            .map(|open| open.upload_id.as_str())
            .collect::<Vec<_>>(),
        [upload.upload_id()]
    );
    let done = upload.complete(&parts).await.unwrap();
    assert!(done.etag.ends_with("-2"));
    assert_eq!(
        bucket.get("k").await.unwrap().bytes().await.unwrap(),
        [one, two].concat()
    );
    let other = bucket.create_multipart("k", "").await.unwrap();
    other.abort().await.unwrap();
    assert_eq!(
        other.part(1, "x").await.unwrap_err().kind(),
        ErrorKind::UploadNotFound
    );
}

#[tokio::test]
async fn files_are_whole_or_not_there() {
    let server = Server::start().await;
    let bucket = server.bucket().await;
    let dir = TempDir::new().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let body = bytes(700_000, 3);
    std::fs::write(&from, &body).unwrap();
    bucket
        .put("f", Body::from_path(&from).await.unwrap())
        .await
        .unwrap();
    bucket
        .get("f")
        .await
        .unwrap()
        .write_to_file(&to)
        .await
        .unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), body);
    let nowhere: PathBuf = dir.path().join("no/such/directory");
    let error = bucket
        .get("f")
        .await
        .unwrap()
        .write_to_file(&nowhere)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn a_source_that_fails_stores_nothing() {
    let server = Server::start().await;
    let bucket = server.bucket().await;
    let pieces = [
        Ok(bytes(300_000, 4)),
        Err(std::io::Error::other("the disk of the reader is gone")),
    ];
    let error = bucket
        .put("k", Body::from_stream(stream::iter(pieces), None))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("the disk of the reader is gone"),
        "{error}"
    );
    assert!(!bucket.exists("k").await.unwrap());
    // One that is shorter than it was told to be.
    let short = Body::from_stream(
        stream::iter([Ok::<_, std::io::Error>(bytes(10, 5))]),
        Some(11),
    );
    assert_eq!(
        bucket.put("k", short).await.unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    assert!(!bucket.exists("k").await.unwrap());
}

#[tokio::test]
async fn whoever_is_refused_is_told_why() {
    let server = Server::start().await;
    let wrong = server.url.replace("secret", "other");
    assert_eq!(
        Client::connect(&wrong).await.unwrap_err().kind(),
        ErrorKind::Unauthenticated
    );
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut config = Config::parse(&format!("jay://id:s@{free}")).unwrap();
    config.options.retries = 0;
    let error = Client::new(config).unwrap().ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().contains(&free.to_string()) && error.is_retryable(),
        "{error}"
    );
    let client = Client::connect(&server.url).await.unwrap();
    assert_eq!(
        client.bucket("absent").get("k").await.unwrap_err().kind(),
        ErrorKind::BucketNotFound
    );
    assert!(!client.bucket_exists("absent").await.unwrap());
    client.close();
    assert_eq!(client.ping().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn another_address_takes_over() {
    let server = Server::start().await;
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (user, address) = server.url.split_once('@').unwrap();
    let client = Client::connect(&format!("{user}@{free},{address}"))
        .await
        .unwrap();
    assert_eq!(client.server_info().await.unwrap().token_id, "id");
}

#[tokio::test]
async fn a_dropped_request_leaves_the_connection_to_others() {
    let server = Server::start().await;
    let bucket = server.bucket().await;
    bucket.put("big", bytes(20_000_000, 6)).await.unwrap();
    for _ in 0..20 {
        let mut got = bucket.get("big").await.unwrap();
        got.next_chunk().await.unwrap();
        drop(got);
        let _ = tokio::time::timeout(Duration::from_micros(50), bucket.head("big")).await;
    }
    assert_eq!(bucket.head("big").await.unwrap().size, 20_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_a_client() {
    let server = Server::start().await;
    let bucket = server.bucket().await;
    let tasks = (0..64).map(|n: u64| {
        let bucket = bucket.clone();
        tokio::spawn(async move {
            for m in 0..20 {
                let (key, body) = (format!("{n}-{m}"), bytes(1000, n * 1000 + m));
                bucket.put(&key, body.clone()).await.unwrap();
                assert_eq!(bucket.get(&key).await.unwrap().bytes().await.unwrap(), body);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}
