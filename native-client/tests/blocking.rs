//! The client without a runtime.

mod server;

use std::io::{Read, Write};

use jay_client::{ErrorKind, blocking::Client};

use self::server::{Server, bytes};

fn server() -> Server {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Server::start())
}

#[test]
fn every_call_waits_for_its_answer() {
    let server = server();
    let client = Client::connect(&server.url).unwrap();
    let bucket = client.create_bucket("bucket").unwrap();
    let body = bytes(3_000_000, 1);
    let stored = bucket
        .put("k", body.clone())
        .with(|put| put.content_type("text/x-test"))
        .send()
        .unwrap();
    assert_eq!(stored.size, 3_000_000);
    assert_eq!(
        bucket.head("k").unwrap().content_type.as_deref(),
        Some("text/x-test")
    );
    let mut got = bucket.get("k").send().unwrap();
    let mut some = [0; 1000];
    got.read_exact(&mut some).unwrap();
    assert_eq!(some[..], body[..1000]);
    // The rest of it.
    assert_eq!(got.bytes().unwrap(), body[1000..]);
    let ranges = bucket.get_ranges("k", &[0..3, 10..20]).unwrap();
    assert_eq!(ranges, [&body[0..3], &body[10..20]]);

    let mut writer = bucket
        .writer("written")
        .with(|it| it.part_size(100_000))
        .send()
        .unwrap();
    writer.write_all(&body).unwrap();
    assert_eq!(writer.finish().unwrap().size, 3_000_000);
    let mut given_up = bucket
        .writer("given up")
        .with(|it| it.part_size(100_000))
        .send()
        .unwrap();
    given_up.write_all(&body).unwrap();
    drop(given_up);
    assert!(!bucket.exists("given up").unwrap());

    bucket.copy("k", "copy").send().unwrap();
    let listed: Vec<_> = bucket.list("").map(|object| object.unwrap().key).collect();
    assert_eq!(listed, ["copy", "k", "written"]);
    assert!(bucket.delete_many(&["copy".to_owned()]).unwrap()[0].is_ok());
    bucket.delete("k").send().unwrap();
    assert_eq!(
        bucket.get("k").send().err().unwrap().kind(),
        ErrorKind::ObjectNotFound
    );
    assert_eq!(bucket.delete_prefix("").unwrap(), 1);
    client.delete_bucket("bucket").unwrap();
    client.close();
    assert_eq!(client.ping().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn it_may_be_used_and_dropped_within_a_runtime() {
    let server = server();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = Client::connect(&server.url).unwrap();
        let bucket = client.create_bucket("bucket").unwrap();
        bucket.put("k", "body").send().unwrap();
        let got = bucket.get("k").send().unwrap();
        drop((client, bucket));
        assert_eq!(got.bytes().unwrap(), "body");
    });
}
