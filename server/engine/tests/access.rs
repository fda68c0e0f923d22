//! Who gets in and how far: bearers, links, callers without credentials, public buckets.

mod store;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jay_engine::{
    Action, BucketName, BucketOptions, Caller, CopyOptions, CopySource, Engine, EngineConfig,
    ErrorKind, Grant, Link, ListEntry, ListOptions, OldSecret, OpenError, PartOptions, Policy,
    PutOptions, Question, ReadConditions, Reason, RekeyReport, Result, SeedToken, Select, Tag,
    Tags, Timestamp, TokenInfo, TokenOptions, UploadOptions, rekey,
};
use zeroize::Zeroizing;

use self::store::{SECRET, key};

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

async fn put(engine: &Engine, caller: &Caller, bucket: &BucketName, text: &str) {
    let options = PutOptions::default();
    let mut writer = engine
        .put_object(caller, bucket, &key(text), options)
        .await
        .unwrap();
    writer.write("hello".into()).await.unwrap();
    writer.finish(None).await.unwrap();
}

/// Weakness 26: an unknown id was answered sooner.
#[tokio::test]
async fn wrong_secrets_and_unknown_ids_look_alike() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, caller) = open(dir.path()).await;
    assert_eq!(caller.token_id(), "key");
    let refused = async |id, secret| {
        let error = engine.bearer(id, secret).await.unwrap_err();
        (error.kind(), error.context().to_owned())
    };
    let wrong = refused("key", "a:secre").await;
    assert_eq!(wrong.0, ErrorKind::AccessDenied);
    for (id, secret) in [("key", ""), ("other", "a:secret"), ("other", ""), ("", "")] {
        assert_eq!(refused(id, secret).await, wrong, "{id}:{secret}");
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
    let options = BucketOptions {
        public_read: true,
        ..BucketOptions::default()
    };
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

async fn try_put(
    engine: &Engine,
    caller: &Caller,
    bucket: &BucketName,
    text: &str,
    size: usize,
) -> Result<()> {
    let options = PutOptions {
        size: Some(size as u64),
        ..PutOptions::default()
    };
    let put = engine.put_object(caller, bucket, &key(text), options).await;
    let mut put = put?;
    put.write(vec![7; size].into()).await?;
    put.finish(None).await.map(drop)
}

async fn get(engine: &Engine, caller: &Caller, bucket: &BucketName, text: &str) -> Result<()> {
    let key = key(text);
    let got = engine.get_object(caller, bucket, &key, Select::Whole);
    got.await.map(drop)
}

async fn list(
    engine: &Engine,
    caller: &Caller,
    bucket: &BucketName,
    prefix: &str,
    delimiter: Option<&str>,
) -> Result<Vec<String>> {
    let options = ListOptions {
        prefix: prefix.into(),
        delimiter: delimiter.map(str::to_owned),
        max_keys: 100,
        ..ListOptions::default()
    };
    let page = engine.list_objects(caller, bucket, &options).await?;
    let text = |entry: &ListEntry| match entry {
        ListEntry::Object(object) => object.key.as_str().to_owned(),
        ListEntry::CommonPrefix(prefix) => prefix.clone(),
    };
    Ok(page.entries.iter().map(text).collect())
}

async fn copy(
    engine: &Engine,
    caller: &Caller,
    from: (&BucketName, &str),
    to: (&BucketName, &str),
    tags: Option<Tags>,
) -> Result<()> {
    let source = CopySource {
        bucket: from.0.clone(),
        key: key(from.1),
        conditions: ReadConditions::default(),
    };
    let options = CopyOptions {
        tags,
        ..CopyOptions::default()
    };
    let key = key(to.1);
    let copied = engine.copy_object(caller, &source, to.0, &key, options);
    copied.await.map(drop)
}

/// A caller of an account of its own, with an access key that may do everything.
async fn stranger(engine: &Engine) -> (Caller, TokenInfo) {
    let account = engine.create_account("team").await.unwrap();
    let options = TokenOptions::default();
    let token = engine.create_token(&account.id, options).await.unwrap();
    let caller = engine.bearer(&token.info.id, &token.secret).await;
    (caller.unwrap(), token.info)
}

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[tokio::test]
async fn access_keys_are_limited_revoked_and_expire() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = open(dir.path()).await;
    let account = engine.create_account("team").await.unwrap();
    let twin = engine.create_account("team").await.unwrap();
    assert_ne!(account.id, twin.id, "names need not be unique");
    let actions = [
        Grant::One(Action::ObjectGet),
        Grant::One(Action::ObjectList),
    ];
    let options = TokenOptions {
        name: "reader".into(),
        actions: actions.into(),
        buckets: vec![name("public-assets")],
        prefixes: vec!["images/".into()],
        expires: None,
    };
    let reader = engine.create_token(&account.id, options).await.unwrap();
    assert_eq!((reader.secret.len(), reader.info.id.len()), (64, 36));
    let writer = engine
        .create_token(&account.id, TokenOptions::default())
        .await
        .unwrap();
    assert_eq!(writer.info.actions, ["*"], "no actions mean all");
    let writing = engine
        .bearer(&writer.info.id, &writer.secret)
        .await
        .unwrap();
    let assets = name("public-assets");
    engine.create_bucket(&writing, &assets).await.unwrap();
    for text in ["images/a", "other/b"] {
        put(&engine, &writing, &assets, text).await;
    }
    let reading = engine
        .bearer(&reader.info.id, &reader.secret)
        .await
        .unwrap();
    assert_eq!(
        kind(get(&engine, &reading, &assets, "images/a").await),
        None
    );
    let denied = Some(ErrorKind::AccessDenied);
    assert_eq!(
        kind(get(&engine, &reading, &assets, "other/b").await),
        denied
    );
    assert_eq!(
        kind(try_put(&engine, &reading, &assets, "images/c", 3).await),
        denied
    );
    assert_eq!(
        kind(list(&engine, &reading, &assets, "", None).await),
        denied
    );
    assert_eq!(
        list(&engine, &reading, &assets, "images/", None)
            .await
            .unwrap(),
        ["images/a"]
    );
    assert_eq!(
        engine.list_tokens(Some(&account.id)).await.unwrap().len(),
        2
    );
    assert_eq!(engine.list_tokens(Some(&twin.id)).await.unwrap(), []);

    engine.revoke_token(&reader.info.id).await.unwrap();
    engine.revoke_token(&reader.info.id).await.unwrap();
    assert_eq!(
        kind(engine.bearer(&reader.info.id, &reader.secret).await),
        denied
    );
    let unknown = Some(ErrorKind::InvalidAccessKeyId);
    assert_eq!(
        kind(engine.signing_key(&reader.info.id, "20260101", "r")),
        unknown
    );
    assert!(!engine.get_token(&reader.info.id).await.unwrap().active);
    assert_eq!(
        kind(engine.revoke_token("none").await),
        Some(ErrorKind::NoSuchToken)
    );
    engine.set_account_active(&account.id, false).await.unwrap();
    assert_eq!(
        kind(engine.bearer(&writer.info.id, &writer.secret).await),
        denied
    );
    engine.set_account_active(&account.id, true).await.unwrap();
    assert!(engine.bearer(&writer.info.id, &writer.secret).await.is_ok());

    let ends = SystemTime::now() + Duration::from_secs(3);
    let ends_ms = ends.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let brief = TokenOptions {
        expires: Some(Timestamp(ends_ms)),
        ..TokenOptions::default()
    };
    let brief = engine.create_token(&account.id, brief).await.unwrap();
    assert!(engine.bearer(&brief.info.id, &brief.secret).await.is_ok());
    let left = ends.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left + Duration::from_millis(10)).await;
    assert_eq!(
        kind(engine.bearer(&brief.info.id, &brief.secret).await),
        denied
    );
    let nobodys = engine.create_token("0123", TokenOptions::default()).await;
    assert_eq!(kind(nobodys), Some(ErrorKind::NoSuchAccount));
}

/// What a public bucket does not show, a copy of its objects must not either.
#[tokio::test]
async fn tags_are_copied_for_those_who_may_read_them() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, owner) = open(dir.path()).await;
    let (public, own) = (name("public"), name("own"));
    engine.create_bucket(&owner, &public).await.unwrap();
    engine.put_bucket_acl(&owner, &public, true).await.unwrap();
    for text in ["tagged", "plain"] {
        put(&engine, &owner, &public, text).await;
    }
    let tag = Tag {
        key: "customer".into(),
        value: "acme".into(),
    };
    let tags = Tags::new(vec![tag]).unwrap();
    let (tagged, copied_to) = (key("tagged"), key("copy"));
    let put = engine.put_object_tagging(&owner, &public, &tagged, tags.clone());
    put.await.unwrap();
    let (stranger, _) = stranger(&engine).await;
    engine.create_bucket(&stranger, &own).await.unwrap();

    let refused = engine.get_object_tagging(&stranger, &public, &tagged);
    assert!(refused.await.is_err());
    for (from, tags, expected) in [
        ("plain", None, None),
        ("tagged", None, Some(ErrorKind::AccessDenied)),
        ("tagged", Some(Tags::default()), None),
    ] {
        let copied = copy(&engine, &stranger, (&public, from), (&own, "copy"), tags).await;
        assert_eq!(kind(copied), expected, "{from}");
        let found = engine.get_object_tagging(&stranger, &own, &copied_to);
        assert_eq!(found.await.unwrap(), Tags::default());
    }
    let copied = copy(
        &engine,
        &owner,
        (&public, "tagged"),
        (&public, "copy"),
        None,
    );
    copied.await.unwrap();
    let found = engine.get_object_tagging(&owner, &public, &copied_to);
    assert_eq!(found.await.unwrap(), tags);
}

#[tokio::test]
async fn a_body_that_was_long_on_its_way_needs_a_key_that_still_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = open(dir.path()).await;
    let account = engine.create_account("team").await.unwrap();
    let token = engine
        .create_token(&account.id, TokenOptions::default())
        .await
        .unwrap();
    let caller = engine.bearer(&token.info.id, &token.secret).await.unwrap();
    let bucket = name("bucket");
    engine.create_bucket(&caller, &bucket).await.unwrap();
    let options = PutOptions::default();
    let mut slow = engine
        .put_object(&caller, &bucket, &key("slow"), options)
        .await
        .unwrap();
    slow.write("some".into()).await.unwrap();
    engine.revoke_token(&token.info.id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(kind(slow.finish(None).await), Some(ErrorKind::AccessDenied));
}

/// Only the access key was looked at again: what a policy no longer allowed, or a new quota had no room for, was stored
/// when its body had begun to come before, and a body may take hours.
#[tokio::test]
async fn a_body_that_was_long_on_its_way_is_held_against_the_bucket_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, owner) = open(dir.path()).await;
    let bucket = name("bucket");
    engine.create_bucket(&owner, &bucket).await.unwrap();
    let policy = |effect: &str, subject: &str| {
        let statement = format!(
            r#"{{"effect":"{effect}","actions":["object:put","multipart:upload-part"],"subjects":["{subject}"]}}"#
        );
        let json = format!(r#"{{"version":"2024-01-01","statements":[{statement}]}}"#);
        Policy::parse(json.as_bytes()).unwrap()
    };
    let set = async |policy| {
        let done = engine.put_bucket_policy(&owner, &bucket, policy).await;
        done.unwrap();
    };
    set(policy("allow", "*")).await;
    let begin = async |caller: &Caller, text: &str| {
        let (key, options) = (key(text), PutOptions::default());
        let begun = engine.put_object(caller, &bucket, &key, options);
        let mut writer = begun.await.unwrap();
        writer.write("hello".into()).await.unwrap();
        writer
    };
    let anybody = Caller::anonymous();
    let (strange, own) = (begin(&anybody, "strange").await, begin(&owner, "own").await);
    let upload = engine
        .create_multipart_upload(&owner, &bucket, &key("parts"), UploadOptions::default())
        .await
        .unwrap()
        .upload_id;
    let options = PartOptions::default();
    let mut part = engine
        .upload_part(&owner, &bucket, &key("parts"), upload, 1, options)
        .await
        .unwrap();
    part.write("hello".into()).await.unwrap();
    set(policy("deny", "key")).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let denied = Some(ErrorKind::AccessDenied);
    assert_eq!(kind(strange.finish(None).await), denied);
    assert_eq!(kind(own.finish(None).await), denied);
    assert_eq!(kind(part.finish(None).await), denied);

    set(policy("allow", "*")).await;
    let more = begin(&owner, "more").await;
    let operator = Caller::operator();
    let limited = engine.put_bucket_quota(&operator, &bucket, Some(3));
    limited.await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(
        kind(more.finish(None).await),
        Some(ErrorKind::QuotaExceeded)
    );
    assert!(
        list(&engine, &owner, &bucket, "", None)
            .await
            .unwrap()
            .is_empty()
    );
}

/// Their limits are kept in the same record of the log, which has a limit too.
#[tokio::test]
async fn a_new_signing_secret_takes_over_access_keys_with_long_limits() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = open(dir.path()).await;
    let account = engine.create_account("team").await.unwrap();
    for _ in 0..12 {
        let prefix = |i| format!("{i:01024}");
        let options = TokenOptions {
            prefixes: (0..100).map(prefix).collect(),
            ..TokenOptions::default()
        };
        engine.create_token(&account.id, options).await.unwrap();
    }
    engine.close().unwrap();
    let config = EngineConfig::new(dir.path(), "another signing secret of 32 bytes, at least");
    let old = OldSecret::Is(Zeroizing::new(SECRET.into()));
    let report = rekey(config, old).await.unwrap();
    assert_eq!((report.resealed, report.unchanged), (13, 0));
}

/// Longer ones would not fit into their records.
#[tokio::test]
async fn what_a_seed_may_be_called_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = open(dir.path()).await;
    let long = |bytes: usize| "x".repeat(bytes);
    for (account, id, secret) in [
        (long(257), long(1), long(1)),
        (long(1), long(129), long(1)),
        (long(1), String::new(), long(1)),
        (long(1), long(1), long(4097)),
        (long(1), long(1), long(70_000)),
    ] {
        let seed = SeedToken {
            account,
            id,
            secret: secret.into(),
        };
        let refused = engine.seed_token(seed).await;
        assert_eq!(kind(refused), Some(ErrorKind::InvalidArgument));
    }
    let seed = SeedToken {
        account: long(256),
        id: long(128),
        secret: long(4096).into(),
    };
    engine.seed_token(seed).await.unwrap();
    assert_eq!(engine.list_accounts().await.unwrap().len(), 2);
}

/// Weakness 21: they governed neither.
#[tokio::test]
async fn policies_govern_listings_and_copies_too() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, owner) = open(dir.path()).await;
    let bucket = name("bucket");
    engine.create_bucket(&owner, &bucket).await.unwrap();
    for text in ["a", "public/x", "secret/x", "secret/y", "z"] {
        put(&engine, &owner, &bucket, text).await;
    }
    let policy = r#"{"version":"2024-01-01","statements":[
        {"effect":"allow","actions":["object:get","object:list"],"prefixes":["public/"],"subjects":["*"]},
        {"effect":"deny","actions":["*"],"prefixes":["secret/"],"subjects":["*"]}]}"#;
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    let none = engine.get_bucket_policy(&owner, &bucket).await;
    assert_eq!(kind(none), Some(ErrorKind::NoSuchBucketPolicy));
    engine
        .put_bucket_policy(&owner, &bucket, policy.clone())
        .await
        .unwrap();
    let anonymous = Caller::anonymous();
    assert_eq!(
        kind(get(&engine, &anonymous, &bucket, "public/x").await),
        None
    );
    assert_eq!(
        list(&engine, &anonymous, &bucket, "public/", None)
            .await
            .unwrap(),
        ["public/x"]
    );
    let denied = Some(ErrorKind::AccessDenied);
    for text in ["a", "secret/x"] {
        assert_eq!(kind(get(&engine, &anonymous, &bucket, text).await), denied);
    }
    assert_eq!(
        list(&engine, &owner, &bucket, "", None).await.unwrap(),
        ["a", "public/x", "z"]
    );
    assert_eq!(
        list(&engine, &owner, &bucket, "", Some("/")).await.unwrap(),
        ["a", "z", "public/"]
            .map(String::from)
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    assert_eq!(
        kind(list(&engine, &owner, &bucket, "secret/", None).await),
        denied
    );
    let copied = copy(
        &engine,
        &owner,
        (&bucket, "secret/x"),
        (&bucket, "out"),
        None,
    );
    assert_eq!(kind(copied.await), denied);
    let gone = engine
        .delete_objects(&owner, &bucket, &[key("secret/x"), key("z")])
        .await
        .unwrap();
    assert_eq!(
        gone.into_iter().map(kind).collect::<Vec<_>>(),
        [denied, None]
    );
    let question = Question {
        token_id: Some("key".into()),
        action: Grant::One(Action::ObjectGet),
        bucket: bucket.clone(),
        key: Some(key("secret/x")),
        prefix: None,
        address: None,
    };
    assert_eq!(engine.explain(&question).await.unwrap(), Reason::Denied(1));
    assert_eq!(
        *engine.get_bucket_policy(&owner, &bucket).await.unwrap(),
        policy
    );
    engine.close().unwrap();

    // It is there after a restart.
    let (engine, owner) = open(dir.path()).await;
    assert_eq!(
        *engine.get_bucket_policy(&owner, &bucket).await.unwrap(),
        policy
    );
    engine.delete_bucket_policy(&owner, &bucket).await.unwrap();
    assert_eq!(kind(get(&engine, &owner, &bucket, "secret/x").await), None);
    assert_eq!(
        kind(get(&engine, &anonymous, &bucket, "public/x").await),
        denied
    );
}

#[tokio::test]
async fn a_quota_is_kept_whoever_writes_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, owner) = open(dir.path()).await;
    let bucket = name("bucket");
    engine.create_bucket(&owner, &bucket).await.unwrap();
    let operator = Caller::operator();
    let by_owner = engine.put_bucket_quota(&owner, &bucket, Some(1)).await;
    assert_eq!(kind(by_owner), Some(ErrorKind::AccessDenied));
    engine
        .put_bucket_quota(&operator, &bucket, Some(1000))
        .await
        .unwrap();
    let over = Some(ErrorKind::QuotaExceeded);
    assert_eq!(
        kind(try_put(&engine, &owner, &bucket, "large", 1001).await),
        over
    );
    let puts: Vec<_> = (0..20)
        .map(|i| {
            let (engine, owner, bucket) = (engine.clone(), owner.clone(), bucket.clone());
            tokio::spawn(async move {
                let text = format!("k{i}");
                try_put(&engine, &owner, &bucket, &text, 100)
                    .await
                    .map(|()| text)
            })
        })
        .collect();
    let mut stored = Vec::new();
    for put in puts {
        stored.extend(put.await.unwrap().ok());
    }
    let [first, second] = [&stored[0], &stored[1]];
    assert_eq!(stored.len(), 10);
    assert_eq!(
        engine.bucket_usage(&owner, &bucket).await.unwrap().bytes,
        1000
    );
    assert_eq!(
        kind(try_put(&engine, &owner, &bucket, first, 100).await),
        None,
        "in place of itself"
    );
    assert_eq!(
        kind(try_put(&engine, &owner, &bucket, first, 101).await),
        over
    );
    let copied = copy(&engine, &owner, (&bucket, second), (&bucket, "copy"), None);
    assert_eq!(kind(copied.await), over);
    engine
        .put_bucket_quota(&operator, &bucket, None)
        .await
        .unwrap();
    assert_eq!(
        kind(try_put(&engine, &owner, &bucket, "more", 5000).await),
        None
    );
}

#[tokio::test]
async fn a_new_signing_secret_takes_over_all_access_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = open(dir.path()).await;
    let account = engine.create_account("team").await.unwrap();
    let token = engine
        .create_token(&account.id, TokenOptions::default())
        .await
        .unwrap();
    let before = engine
        .signing_key(&token.info.id, "20260101", "r")
        .unwrap()
        .1;
    engine.close().unwrap();
    let new = "another signing secret of 32 bytes, at least";
    let config = || EngineConfig::new(dir.path(), new);
    assert!(matches!(
        Engine::open(config()),
        Err(OpenError::WrongSecret)
    ));
    let wrong = OldSecret::Is(Zeroizing::new("this was never the signing secret".into()));
    assert!(matches!(
        rekey(config(), wrong).await,
        Err(OpenError::WrongSecret)
    ));
    let old = OldSecret::Is(Zeroizing::new(SECRET.into()));
    let report = rekey(config(), old.clone()).await.unwrap();
    assert_eq!(
        report,
        RekeyReport {
            resealed: 2,
            ..RekeyReport::default()
        }
    );
    let again = rekey(config(), old).await.unwrap();
    assert_eq!(
        again,
        RekeyReport {
            unchanged: 2,
            ..RekeyReport::default()
        }
    );
    let engine = Engine::open(config()).unwrap();
    let after = engine
        .signing_key(&token.info.id, "20260101", "r")
        .unwrap()
        .1;
    assert_eq!(before.as_bytes(), after.as_bytes());
    assert!(engine.bearer(&token.info.id, &token.secret).await.is_ok());
    engine.close().unwrap();

    // The signing secret is lost: who brings the secret itself still gets in, signatures do not.
    let third = || EngineConfig::new(dir.path(), "a third signing secret, 32 bytes or more");
    let report = rekey(third(), OldSecret::Lost).await.unwrap();
    assert_eq!(
        report,
        RekeyReport {
            given_up: 2,
            ..RekeyReport::default()
        }
    );
    let engine = Engine::open(third()).unwrap();
    for _ in 0..2 {
        assert!(engine.bearer(&token.info.id, &token.secret).await.is_ok());
        assert!(
            engine
                .bearer(&token.info.id, &token.secret[..63])
                .await
                .is_err()
        );
    }
    let refused = engine.signing_key(&token.info.id, "20260101", "r");
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::AccessDenied);
    engine.close().unwrap();

    // Which does not stand in the way of the next change.
    let fourth = EngineConfig::new(dir.path(), "a fourth signing secret, 32 bytes or more");
    let known = OldSecret::Is("a third signing secret, 32 bytes or more".to_owned().into());
    let report = rekey(fourth.clone(), known).await.unwrap();
    assert_eq!((report.resealed, report.given_up), (0, 2));
    let engine = Engine::open(fourth).unwrap();
    assert!(engine.bearer(&token.info.id, &token.secret).await.is_ok());
    engine.close().unwrap();
}
