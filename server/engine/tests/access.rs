//! Who gets in and how far: bearers, links, callers without credentials, public buckets.

use std::time::{SystemTime, UNIX_EPOCH};

use jay_engine::{
    BucketName, BucketOptions, Caller, Engine, EngineConfig, ErrorKind, Link, ListOptions,
    ObjectKey, PutOptions, SeedToken, Select,
};

const SECRET: &str = "a signing secret of at least 32 bytes";

async fn open(dir: &std::path::Path) -> (Engine, Caller) {
    let engine = Engine::open(EngineConfig::new(dir, SECRET)).unwrap();
    let seed = SeedToken {
        account: "me".into(),
        id: "key".into(),
        secret: "a:secret".to_owned().into(),
    };
    engine.seed_token(seed).await.unwrap();
    let caller = engine.bearer("key", "a:secret").await.unwrap();
    (engine, caller)
}

fn name(text: &str) -> BucketName {
    BucketName::parse(text).unwrap()
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

async fn put(engine: &Engine, caller: &Caller, bucket: &BucketName, text: &str) {
    let options = PutOptions::default();
    let mut writer = engine
        .put_object(caller, bucket, &key(text), options)
        .await
        .unwrap();
    writer.write("hello".into()).await.unwrap();
    writer.finish(None).await.unwrap();
}

#[tokio::test]
async fn wrong_secrets_and_unknown_ids_look_alike() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, caller) = open(dir.path()).await;
    assert_eq!(caller.token_id(), "key");
    let refused = |id, secret| {
        let error = engine.bearer(id, secret).await.unwrap_err();
        (error.kind(), error.context().to_owned())
    };
    let wrong = refused("key", "a:secre");
    assert_eq!(wrong.0, ErrorKind::AccessDenied);
    for (id, secret) in [("key", ""), ("other", "a:secret"), ("other", ""), ("", "")] {
        assert_eq!(refused(id, secret), wrong, "{id}:{secret}");
    }
}

/// The signature comes from Python: `hmac.digest(b"a:secret", b"to sign", "sha1").hex()`.
#[tokio::test]
async fn signatures_of_version_2_are_checked_with_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = open(dir.path()).await;
    let signature =
        b"\x7f\x54\x9a\x97\xcb\x85\xd6\xd2\x6e\x4d\x9f\x52\xa3\x73\x78\x39\xd0\x44\xf7\x0f";
    let caller = engine.verify_v2("key", b"to sign", signature).unwrap();
    assert_eq!(caller.token_id(), "key");
    let refused = |id, text: &str, signature| {
        let result = engine.verify_v2(id, text.as_bytes(), signature);
        result.unwrap_err().kind()
    };
    let mismatch = ErrorKind::SignatureDoesNotMatch;
    assert_eq!(refused("key", "to sigN", signature), mismatch);
    assert_eq!(refused("key", "to sign", b""), mismatch);
    assert_eq!(
        refused("other", "to sign", signature),
        ErrorKind::InvalidAccessKeyId
    );
}

#[tokio::test]
async fn a_link_carries_the_rights_of_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, caller) = open(dir.path()).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let expires = (now.as_secs() + 60).to_string();
    let link = Link {
        token_id: "key",
        method: "GET",
        path: "/bucket/k",
        canonical_query: "",
        expires: &expires,
    };
    let sign = |link| {
        let hex = engine.sign_link(link);
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect::<Vec<u8>>()
    };
    let linked = engine.verify_link(link, &sign(link)).unwrap();
    assert_eq!(linked.account_id(), caller.account_id());
    let unknown = Link {
        token_id: "other",
        ..link
    };
    for (link, signature) in [
        (unknown, sign(unknown)),
        (link, vec![0; 32]),
        (link, vec![]),
    ] {
        let error = engine.verify_link(link, &signature).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AccessDenied);
        assert_eq!(error.context(), "Invalid presigned URL");
    }
}

#[tokio::test]
async fn a_public_bucket_can_be_read_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, caller) = open(dir.path()).await;
    let (public, nobody) = (name("public"), Caller::anonymous());
    let options = BucketOptions { public_read: true };
    engine
        .create_bucket_with(&caller, &public, options)
        .await
        .unwrap();
    put(&engine, &caller, &public, "k").await;

    let mut reader = engine
        .get_object(&nobody, &public, &key("k"), Select::Whole)
        .await
        .unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap(), "hello");
    let missing = engine.head_object(&nobody, &public, &key("x")).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NoSuchKey);

    let list = ListOptions::default();
    let refused = [
        engine.list_buckets(&nobody).await.err(),
        engine.head_bucket(&nobody, &public).await.err(),
        engine.list_objects(&nobody, &public, &list).await.err(),
        engine
            .delete_object(&nobody, &public, &key("k"))
            .await
            .err(),
        engine
            .delete_objects(&nobody, &public, &[key("k")])
            .await
            .err(),
        engine.delete_bucket(&nobody, &public).await.err(),
        engine.create_bucket(&nobody, &name("mine")).await.err(),
        engine.put_bucket_acl(&nobody, &public, false).await.err(),
        engine
            .object_is_public(&nobody, &public, &key("k"))
            .await
            .err(),
        engine
            .put_object_acl(&nobody, &public, &key("k"))
            .await
            .err(),
        engine
            .put_object(&nobody, &public, &key("k"), PutOptions::default())
            .await
            .err(),
        engine
            .head_object(&nobody, &name("unknown"), &key("k"))
            .await
            .err(),
    ];
    for (at, error) in refused.into_iter().enumerate() {
        let kind = error.expect("must be refused").kind();
        assert_eq!(kind, ErrorKind::AccessDenied, "{at}");
    }
}

#[tokio::test]
async fn the_flag_of_a_bucket_is_kept_and_changes_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, caller) = open(dir.path()).await;
    let bucket = name("bucket");
    engine.create_bucket(&caller, &bucket).await.unwrap();
    put(&engine, &caller, &bucket, "k").await;
    let before = engine.head_bucket(&caller, &bucket).await.unwrap();
    assert!(!before.public_read);

    engine.put_bucket_acl(&caller, &bucket, true).await.unwrap();
    assert!(
        engine
            .object_is_public(&caller, &bucket, &key("k"))
            .await
            .unwrap()
    );
    assert_eq!(
        engine
            .object_is_public(&caller, &bucket, &key("x"))
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::NoSuchKey
    );
    engine
        .put_object_acl(&caller, &bucket, &key("k"))
        .await
        .unwrap();
    assert_eq!(
        engine
            .put_object_acl(&caller, &bucket, &key("x"))
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::NoSuchKey
    );
    engine.close().unwrap();
    drop(engine);

    let (engine, caller) = open(dir.path()).await;
    let after = engine.head_bucket(&caller, &bucket).await.unwrap();
    assert!(after.public_read && after.created == before.created);
    // The counters are still those of one object.
    let error = engine.delete_bucket(&caller, &bucket).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BucketNotEmpty);
    let error = engine.put_bucket_acl(&caller, &name("other"), true).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NoSuchBucket);
}

/// Many change the flag of one bucket at once while it is deleted and made anew: a change that comes late finds
/// no bucket and does not bring the old one back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn flags_race_with_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, caller) = open(dir.path()).await;
    let bucket = name("bucket");
    for _ in 0..50 {
        engine.create_bucket(&caller, &bucket).await.unwrap();
        let changes = (0..8).map(|at| {
            let (engine, caller, bucket) = (engine.clone(), caller.clone(), bucket.clone());
            tokio::spawn(async move { engine.put_bucket_acl(&caller, &bucket, at % 2 == 0).await })
        });
        let changes: Vec<_> = changes.collect();
        engine.delete_bucket(&caller, &bucket).await.unwrap();
        engine.create_bucket(&caller, &bucket).await.unwrap();
        for change in changes {
            if let Err(error) = change.await.unwrap() {
                assert_eq!(error.kind(), ErrorKind::NoSuchBucket);
            }
        }
        engine.delete_bucket(&caller, &bucket).await.unwrap();
    }
}
