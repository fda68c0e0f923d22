//! Stores of every format version that was ever released must open, and say what they said then.
//!
//! `fixtures/format-<version>` are data directories as a killed process of that version left them: something
//! in the index, something only in the log. They are never written again. To add one after a change of the
//! format: `cargo test -p jay-engine --test upgrade -- --ignored`.

use std::{fs, path::Path};

use jay_engine::{
    BucketName, Caller, Checksum, ChecksumAlgorithm, ContentHeaders, Engine, EngineConfig, Error,
    ErrorKind, ListEntry, ListOptions, ObjectKey, PutOptions, SeedToken, Select,
};

const SECRET: &str = "a signing secret of at least 32 bytes";
const CURRENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/format-1");

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i % 251) as u8).collect()
}

fn objects() -> [(&'static str, usize); 5] {
    [
        ("empty", 0),
        ("small", 100),
        ("dir/inline", 900),
        ("dir/file", 5_000),
        ("ünï/ +%", 70_000),
    ]
}

async fn open(dir: &Path) -> Result<(Engine, Caller), Error> {
    let mut config = EngineConfig::new(dir, SECRET);
    config.inline_max = 1000;
    config.local.pack_bytes = 64 << 10;
    config.local.batch_bytes_max = 16 << 10;
    config.local.zero_ahead = false;
    let engine = Engine::open(config).expect("the store opens");
    let secret = "the access secret".to_owned().into();
    let seed = SeedToken {
        account: "me".into(),
        id: "key".into(),
        secret,
    };
    engine.seed_token(seed).await?;
    let (caller, _) = engine.signing_key("key", "20260101", "us-east-1")?;
    Ok((engine, caller))
}

async fn put(engine: &Engine, caller: &Caller, key: &str, bytes: Vec<u8>) -> Result<(), Error> {
    let options = PutOptions {
        headers: ContentHeaders {
            content_type: Some("text/plain".into()),
            cache_control: Some("no-cache".into()),
            ..ContentHeaders::default()
        },
        metadata: [("colour".to_owned(), "grün".to_owned())].into(),
        checksum_algorithm: Some(ChecksumAlgorithm::Crc32c),
        ..PutOptions::default()
    };
    let (bucket, key) = (BucketName::parse("fixture")?, ObjectKey::parse(key)?);
    let mut put = engine.put_object(caller, &bucket, &key, options).await?;
    put.write(bytes.into()).await?;
    put.finish(None).await.map(drop)
}

async fn says_what_it_said(engine: &Engine, caller: &Caller) -> Result<(), Error> {
    let bucket = BucketName::parse("fixture")?;
    assert_eq!(engine.list_buckets(caller).await?.len(), 1);
    let all = ListOptions {
        max_keys: 100,
        ..ListOptions::default()
    };
    let page = engine.list_objects(caller, &bucket, &all).await?;
    let mut expected: Vec<_> = objects().iter().map(|(key, _)| *key).collect();
    expected.sort_unstable();
    let listed: Vec<_> = page
        .entries
        .iter()
        .map(|entry| match entry {
            ListEntry::Object(object) => object.key.as_str(),
            ListEntry::CommonPrefix(_) => panic!("nothing was asked to be rolled up"),
        })
        .collect();
    assert_eq!(listed, expected);
    for (name, size) in objects() {
        let key = ObjectKey::parse(name)?;
        let mut got = engine
            .get_object(caller, &bucket, &key, Select::Whole)
            .await?;
        let info = got.info().clone();
        let mut bytes = Vec::new();
        while let Some(chunk) = got.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        assert_eq!(bytes, body(size), "{name}");
        assert_eq!(info.size, size as u64);
        assert_eq!(info.metadata["colour"], "grün");
        assert_eq!(info.headers.content_type.as_deref(), Some("text/plain"));
        assert_eq!(info.checksums[0].algorithm, ChecksumAlgorithm::Crc32c);
        if name == "small" {
            assert_eq!(info.etag.as_str(), "7acedd1a84a4cfcb6e7a16003242945e");
            let crc32c = Checksum {
                algorithm: ChecksumAlgorithm::Crc32c,
                value: vec![0xc1, 0xca, 0xeb, 0xe5],
            };
            assert_eq!(info.checksums[0], crc32c);
        }
    }
    let deleted = ObjectKey::parse("deleted")?;
    let gone = engine
        .head_object(caller, &bucket, &deleted)
        .await
        .unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NoSuchKey);
    Ok(())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_store_of_format_1_opens_and_says_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    copy(Path::new(CURRENT), dir.path());
    // Twice: the second opening reads what the first one made of it.
    for _ in 0..2 {
        let (engine, caller) = open(dir.path()).await.unwrap();
        says_what_it_said(&engine, &caller).await.unwrap();
        engine.close().unwrap();
    }
}

#[tokio::test]
#[ignore = "writes the fixture of the current format"]
async fn write_the_fixture() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, caller) = open(dir.path()).await.unwrap();
    engine
        .create_bucket(&caller, &BucketName::parse("fixture").unwrap())
        .await
        .unwrap();
    put(&engine, &caller, "deleted", body(2_000)).await.unwrap();
    for (key, size) in objects().into_iter().take(4) {
        put(&engine, &caller, key, body(size)).await.unwrap();
    }
    // Closed and opened again, so that this much is in the index; the rest only in the log.
    engine.close().unwrap();
    let (engine, caller) = open(dir.path()).await.unwrap();
    let (bucket, key) = (
        BucketName::parse("fixture").unwrap(),
        ObjectKey::parse("deleted").unwrap(),
    );
    let (last, size) = objects()[4];
    put(&engine, &caller, last, body(size)).await.unwrap();
    engine.delete_object(&caller, &bucket, &key).await.unwrap();
    // As a killed process leaves it: copied while it runs, before the applier's turn.
    copy(dir.path(), Path::new(CURRENT));
    says_what_it_said(&engine, &caller).await.unwrap();
}
