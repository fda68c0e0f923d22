//! Multipart uploads, copies and tags through the public engine, over a real directory, restarts included.

mod store;

use std::{fs, path::Path, time::Duration};

use jay_engine::{
    BucketName, ByteRange, Caller, CompleteOptions, CompletedPart, CopyOptions, CopySource, Engine,
    EngineConfig, Error, ErrorKind, ListOptions, ListPartsOptions, ListUploadsOptions, PartInfo,
    PartOptions, PutOptions, ReadConditions, Select, Tag, Tags, UploadEntry, UploadId,
    UploadOptions,
};

use self::store::{SECRET, key, let_in, make_bucket, read};

const INLINE_MAX: usize = 1000;

struct Store {
    engine: Engine,
    caller: Caller,
    bucket: BucketName,
}

impl Store {
    async fn open(dir: &Path) -> Self {
        let mut config = EngineConfig::new(dir, SECRET);
        config.inline_max = INLINE_MAX;
        config.local.pack_bytes = 256 << 10;
        config.local.zero_ahead = false;
        let engine = Engine::open(config).unwrap();
        let caller = let_in(&engine).await.unwrap();
        let bucket = BucketName::parse("bucket").unwrap();
        make_bucket(&engine, &caller, &bucket).await.unwrap();
        Self {
            engine,
            caller,
            bucket,
        }
    }

    async fn create(&self, name: &str) -> UploadId {
        let (engine, options) = (&self.engine, UploadOptions::default());
        engine
            .create_multipart_upload(&self.caller, &self.bucket, &key(name), options)
            .await
            .unwrap()
            .upload_id
    }

    async fn part(&self, name: &str, id: UploadId, number: u16, bytes: &[u8]) -> PartInfo {
        self.try_part(name, id, number, bytes).await.unwrap()
    }

    async fn try_part(
        &self,
        name: &str,
        id: UploadId,
        number: u16,
        bytes: &[u8],
    ) -> Result<PartInfo, Error> {
        let options = PartOptions {
            size: Some(bytes.len() as u64),
            ..PartOptions::default()
        };
        let key = key(name);
        let part = self
            .engine
            .upload_part(&self.caller, &self.bucket, &key, id, number, options);
        let mut part = part.await?;
        part.write(bytes.to_vec().into()).await?;
        part.finish(None).await
    }

    async fn complete(
        &self,
        name: &str,
        id: UploadId,
        parts: &[PartInfo],
    ) -> Result<String, Error> {
        let parts: Vec<CompletedPart> = parts
            .iter()
            .map(|part| CompletedPart {
                number: part.number,
                etag: Some(part.etag.clone()),
                checksum: None,
            })
            .collect();
        let (engine, options) = (&self.engine, CompleteOptions::default());
        let (caller, bucket) = (&self.caller, &self.bucket);
        let info = engine
            .complete_multipart_upload(caller, bucket, &key(name), id, &parts, options)
            .await?;
        Ok(info.etag.as_str().to_owned())
    }

    async fn abort(&self, name: &str, id: UploadId) -> Result<(), Error> {
        let (engine, caller) = (&self.engine, &self.caller);
        engine
            .abort_multipart_upload(caller, &self.bucket, &key(name), id)
            .await
    }

    async fn get(&self, name: &str, select: Select) -> Result<Vec<u8>, Error> {
        let (engine, caller) = (&self.engine, &self.caller);
        let mut reader = engine
            .get_object(caller, &self.bucket, &key(name), select)
            .await?;
        read(&mut reader).await
    }

    async fn put(&self, name: &str, bytes: &[u8]) {
        let (engine, options) = (&self.engine, PutOptions::default());
        let mut put = engine
            .put_object(&self.caller, &self.bucket, &key(name), options)
            .await
            .unwrap();
        put.write(bytes.to_vec().into()).await.unwrap();
        put.finish(None).await.unwrap();
    }

    async fn copy(&self, from: &str, to: &str, options: CopyOptions) -> Result<(), Error> {
        let source = CopySource {
            bucket: self.bucket.clone(),
            key: key(from),
            conditions: ReadConditions::default(),
        };
        let (engine, caller) = (&self.engine, &self.caller);
        engine
            .copy_object(caller, &source, &self.bucket, &key(to), options)
            .await
            .map(drop)
    }

    async fn delete(&self, name: &str) {
        let engine = &self.engine;
        engine
            .delete_object(&self.caller, &self.bucket, &key(name))
            .await
            .unwrap();
    }

    async fn uploads(&self) -> Vec<UploadId> {
        let (engine, options) = (&self.engine, uploads_options());
        let entries = engine
            .list_multipart_uploads(&self.caller, &self.bucket, &options)
            .await
            .unwrap()
            .entries
            .into_iter();
        let upload = |entry| match entry {
            UploadEntry::Upload(upload) => Some(upload.upload_id),
            UploadEntry::CommonPrefix(_) => None,
        };
        entries.filter_map(upload).collect()
    }

    async fn keys(&self) -> usize {
        let options = ListOptions {
            max_keys: 1000,
            ..ListOptions::default()
        };
        let page = self
            .engine
            .list_objects(&self.caller, &self.bucket, &options);
        page.await.unwrap().entries.len()
    }
}

fn uploads_options() -> ListUploadsOptions {
    ListUploadsOptions {
        max_uploads: 1000,
        ..ListUploadsOptions::default()
    }
}

fn bytes(seed: u8, size: usize) -> Vec<u8> {
    (0..size).map(|i| (i % 251) as u8 ^ seed).collect()
}

fn files(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path()),
            false => 1,
        })
        .sum()
}

/// Waits until so many body files are left.
async fn wait_for_files(dir: &Path, wanted: usize) {
    for _ in 0..500 {
        if files(&dir.join("objects")) == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!(
        "{} files are left instead of {wanted}",
        files(&dir.join("objects"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_all_sizes_make_one_object() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await;
    let id = store.create("a").await;
    // In the log, in a file, empty, over several chunks; in no order, one of them twice, one not asked for.
    let bodies = [
        bytes(1, 700),
        bytes(2, 5_000),
        Vec::new(),
        bytes(4, 600_001),
        bytes(5, 5),
    ];
    let mut parts = Vec::new();
    store.part("a", id, 4, &bytes(9, 9_999)).await;
    for n in [5, 3, 1, 4, 2] {
        parts.push(store.part("a", id, n, &bodies[usize::from(n) - 1]).await);
    }
    store.part("a", id, 77, &bytes(7, 3_000)).await;
    parts.sort_by_key(|part| part.number);
    assert!(store.get("a", Select::Whole).await.is_err());
    let etag = store.complete("a", id, &parts).await.unwrap();
    assert!(etag.ends_with("-5"), "{etag}");
    assert_eq!(
        store.complete("a", id, &parts).await.unwrap(),
        etag,
        "asked again"
    );
    let error = store.complete("a", id, &parts[..2]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchUpload);
    assert!(store.uploads().await.is_empty());
    wait_for_files(dir.path(), 2).await;
    drop(store);

    let store = Store::open(dir.path()).await;
    let whole = bodies.concat();
    assert!(store.get("a", Select::Whole).await.unwrap() == whole);
    for (first, last) in [
        (0, 0),
        (699, 700),
        (5_699, 5_700),
        (690, 300_000),
        (605_700, 605_705),
    ] {
        let range = Select::Range(ByteRange::FromTo { first, last });
        let got = store.get("a", range).await.unwrap();
        let end = (last as usize + 1).min(whole.len());
        assert!(got == whole[first as usize..end], "{first}-{last}");
    }
    for n in 1..=5_u16 {
        let got = store.get("a", Select::Part(n)).await.unwrap();
        assert!(got == bodies[usize::from(n) - 1], "part {n}");
    }
    let error = store.get("a", Select::Part(6)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidPartNumber);
    store.delete("a").await;
    wait_for_files(dir.path(), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_upload_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await;
    let (one, two) = (store.create("k").await, store.create("k").await);
    for n in 1..=300 {
        store.part("k", one, n, &bytes(0, 1_001)).await;
    }
    store.part("k", two, 1, &bytes(0, 2_000)).await;
    assert_eq!(store.uploads().await, [one.min(two), one.max(two)]);
    store.abort("k", one).await.unwrap();
    let gone = store.try_part("k", one, 1, b"x").await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NoSuchUpload);
    assert_eq!(
        store.abort("k", one).await.unwrap_err().kind(),
        ErrorKind::NoSuchUpload
    );
    assert_eq!(store.uploads().await, [two]);
    wait_for_files(dir.path(), 1).await;
    // A bucket that goes takes its uploads along.
    store
        .engine
        .delete_bucket(&store.caller, &store.bucket)
        .await
        .unwrap();
    let gone = store.try_part("k", two, 1, b"x").await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NoSuchBucket);
    wait_for_files(dir.path(), 0).await;
    store
        .engine
        .create_bucket(&store.caller, &store.bucket)
        .await
        .unwrap();
    assert!(store.uploads().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_share_bytes_and_outlive_their_source() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await;
    let (small, large) = (bytes(1, 500), bytes(2, 50_000));
    store.put("small", &small).await;
    store.put("large", &large).await;
    let id = store.create("parts").await;
    let parts = [
        store.part("parts", id, 1, &large).await,
        store.part("parts", id, 2, &small).await,
    ];
    store.complete("parts", id, &parts).await.unwrap();
    for name in ["small", "large", "parts"] {
        for n in 0..2 {
            let to = format!("{name}-{n}");
            store.copy(name, &to, CopyOptions::default()).await.unwrap();
        }
        let error = store
            .copy(name, name, CopyOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        let replace = CopyOptions {
            replace: Some((
                Default::default(),
                [("a".to_owned(), "b".to_owned())].into(),
            )),
            ..CopyOptions::default()
        };
        store.copy(name, name, replace).await.unwrap();
        let head = store
            .engine
            .head_object(&store.caller, &store.bucket, &key(name))
            .await;
        assert_eq!(head.unwrap().metadata["a"], "b");
    }
    assert_eq!(files(&dir.path().join("objects")), 2);
    for name in ["small", "large", "parts"] {
        store.delete(name).await;
        store.delete(&format!("{name}-0")).await;
    }
    drop(store);
    let store = Store::open(dir.path()).await;
    assert!(store.get("small-1", Select::Whole).await.unwrap() == small);
    assert!(store.get("large-1", Select::Whole).await.unwrap() == large);
    let whole = [large.clone(), small.clone()].concat();
    assert!(store.get("parts-1", Select::Whole).await.unwrap() == whole);
    assert_eq!(store.keys().await, 3);
    // Outside of the source nothing is made up.
    let (engine, caller, beyond) = (&store.engine, &store.caller, key("beyond"));
    let id = store.create("beyond").await;
    let source = CopySource {
        bucket: store.bucket.clone(),
        key: key("small-1"),
        conditions: ReadConditions::default(),
    };
    for (first, last) in [(0, 500), (499, 500), (500, 500)] {
        let range = Some(ByteRange::FromTo { first, last });
        let error = engine
            .upload_part_copy(caller, &store.bucket, &beyond, id, 1, &source, range)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{first}-{last}");
    }
    store.abort("beyond", id).await.unwrap();
    // A part of a part of an object of parts.
    let id = store.create("again").await;
    let source = CopySource {
        bucket: store.bucket.clone(),
        key: key("parts-1"),
        conditions: ReadConditions::default(),
    };
    let range = ByteRange::FromTo {
        first: 49_000,
        last: 50_199,
    };
    let (engine, caller, to) = (&store.engine, &store.caller, key("again"));
    let part = engine
        .upload_part_copy(caller, &store.bucket, &to, id, 1, &source, Some(range))
        .await
        .unwrap();
    store.complete("again", id, &[part]).await.unwrap();
    assert!(store.get("again", Select::Whole).await.unwrap() == whole[49_000..50_200]);
    for name in ["small-1", "large-1", "parts-1", "again"] {
        store.delete(name).await;
    }
    wait_for_files(dir.path(), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_keeps_the_parts_it_is_at() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await;
    let id = store.create("k").await;
    let mut parts = Vec::new();
    for n in 1..=4 {
        parts.push(store.part("k", id, n, &bytes(n as u8, 300_000)).await);
    }
    store.complete("k", id, &parts).await.unwrap();
    let (engine, caller) = (&store.engine, &store.caller);
    let mut reader = engine
        .get_object(caller, &store.bucket, &key("k"), Select::Whole)
        .await
        .unwrap();
    let mut got = reader.next().await.unwrap().unwrap().to_vec();
    store.delete("k").await;
    // Another round of the collector, which must leave these parts alone.
    store.put("other", &bytes(0, 5_000)).await;
    store.delete("other").await;
    wait_for_files(dir.path(), 4).await;
    got.extend(read(&mut reader).await.unwrap());
    let whole: Vec<u8> = (1..=4).flat_map(|n| bytes(n, 300_000)).collect();
    assert!(got == whole);
    drop(reader);
    wait_for_files(dir.path(), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_completes_and_aborts_at_once_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await;
    for _ in 0..20 {
        let id = store.create("k").await;
        let parts = [store.part("k", id, 1, b"one").await];
        let (complete, abort) = tokio::join!(store.complete("k", id, &parts), store.abort("k", id));
        assert!(complete.is_ok() != abort.is_ok(), "{complete:?} {abort:?}");
        let kind = complete.err().or(abort.err()).unwrap().kind();
        assert_eq!(kind, ErrorKind::NoSuchUpload);
    }
    let id = store.create("k").await;
    let parts = [store.part("k", id, 1, b"one").await];
    let (a, b) = tokio::join!(
        store.complete("k", id, &parts),
        store.complete("k", id, &parts)
    );
    assert_eq!(a.unwrap(), b.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_and_parts_are_listed_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await;
    let mut made = Vec::new();
    for name in ["a", "a", "b/1", "b/2", "b/2", "c"] {
        made.push((name.to_owned(), store.create(name).await));
    }
    // Those of one millisecond have no order of age.
    made.sort();
    let mut options = ListUploadsOptions {
        max_uploads: 2,
        ..ListUploadsOptions::default()
    };
    let mut found = Vec::new();
    loop {
        let (engine, caller) = (&store.engine, &store.caller);
        let page = engine
            .list_multipart_uploads(caller, &store.bucket, &options)
            .await
            .unwrap();
        assert!(page.entries.len() <= 2);
        for entry in page.entries {
            let UploadEntry::Upload(upload) = entry else {
                panic!("there is no delimiter")
            };
            found.push((upload.key.as_str().to_owned(), upload.upload_id));
        }
        let Some((name, id)) = found.last().filter(|_| page.is_truncated) else {
            break;
        };
        options.key_marker = Some(name.clone());
        options.upload_id_marker = Some(*id);
    }
    assert_eq!(found, made);
    let options = ListUploadsOptions {
        delimiter: Some("/".into()),
        key_marker: Some("a".into()),
        ..uploads_options()
    };
    let (engine, caller) = (&store.engine, &store.caller);
    let page = engine.list_multipart_uploads(caller, &store.bucket, &options);
    let names: Vec<String> = page.await.unwrap().entries.iter().map(name_of).collect();
    assert_eq!(names, ["b/", "c"]);

    let id = made[5].1;
    for n in [1, 5, 9] {
        store.part("c", id, n, b"x").await;
    }
    let options = ListPartsOptions {
        after: 1,
        max_parts: 1,
    };
    let page = engine
        .list_parts(caller, &store.bucket, &key("c"), id, &options)
        .await
        .unwrap();
    assert_eq!((page.parts[0].number, page.is_truncated), (5, true));
}

fn name_of(entry: &UploadEntry) -> String {
    match entry {
        UploadEntry::Upload(upload) => upload.key.as_str().to_owned(),
        UploadEntry::CommonPrefix(prefix) => prefix.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_change_without_the_object_changing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await;
    let tags = |value: &str| {
        let tag = Tag {
            key: "colour".into(),
            value: value.into(),
        };
        Tags::new(vec![tag]).unwrap()
    };
    let (engine, caller, bucket) = (&store.engine, &store.caller, &store.bucket);
    for (name, size) in [("small", 10), ("large", 5_000), ("empty", 0)] {
        store.put(name, &bytes(1, size)).await;
        let before = engine
            .head_object(caller, bucket, &key(name))
            .await
            .unwrap();
        for value in ["red", "blue"] {
            engine
                .put_object_tagging(caller, bucket, &key(name), tags(value))
                .await
                .unwrap();
        }
        let after = engine
            .head_object(caller, bucket, &key(name))
            .await
            .unwrap();
        assert_eq!(after.last_modified, before.last_modified);
        assert_eq!(after.tag_count, 1);
        store
            .copy(name, &format!("{name}-copy"), CopyOptions::default())
            .await
            .unwrap();
    }
    drop(store);
    let store = Store::open(dir.path()).await;
    let (engine, caller, bucket) = (&store.engine, &store.caller, &store.bucket);
    for (name, size) in [("small", 10), ("large", 5_000), ("empty", 0)] {
        assert_eq!(
            store.get(name, Select::Whole).await.unwrap(),
            bytes(1, size)
        );
        let copy = key(&format!("{name}-copy"));
        for key in [key(name), copy] {
            let found = engine
                .get_object_tagging(caller, bucket, &key)
                .await
                .unwrap();
            assert_eq!(found, tags("blue"));
        }
    }
    let error = engine
        .get_object_tagging(caller, bucket, &key("none"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchKey);
}

/// Listings of objects whose parts alternate in size took memory for all the sizes at once.
#[tokio::test(flavor = "multi_thread")]
async fn long_rows_are_listed_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await;
    let id = store.create("0").await;
    let mut parts = Vec::new();
    for n in 1..=3_000 {
        parts.push(store.part("0", id, n, &bytes(0, usize::from(n % 2))).await);
    }
    store.complete("0", id, &parts).await.unwrap();
    // A row has 36 KB, so that a scan ends after some 30.
    for n in 1..100 {
        let to = n.to_string();
        store.copy("0", &to, CopyOptions::default()).await.unwrap();
    }
    assert_eq!(store.keys().await, 100);
    let options = ListOptions {
        delimiter: Some("0".into()),
        max_keys: 1000,
        ..ListOptions::default()
    };
    let engine = &store.engine;
    let page = engine
        .list_objects(&store.caller, &store.bucket, &options)
        .await;
    // 1 to 9, those of two digits without a zero, and "0", "10" to "90" as common prefixes.
    assert_eq!(page.unwrap().entries.len(), 100);
    assert_eq!(store.get("42", Select::Whole).await.unwrap().len(), 1_500);
}
