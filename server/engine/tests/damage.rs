//! Damage at rest through the public engine, over a real directory: wrong bytes are never served, the object goes to
//! quarantine and comes back when it is whole again; a lost index is made anew.

mod store;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jay_engine::{
    BucketName, ByteRange, Caller, CompleteOptions, CompletedPart, CopyOptions, CopySource, Engine,
    EngineConfig, Error, ErrorKind, ListOptions, ObjectReader, PartOptions, PutOptions,
    ReadConditions, ScrubConfig, ScrubExtent, Select, UploadOptions,
};

use self::store::{SECRET, key, let_in, make_bucket, read};

const INLINE_MAX: usize = 1000;
const BLOCK: usize = 64 << 10;

struct Store {
    engine: Engine,
    caller: Caller,
    bucket: BucketName,
    dir: PathBuf,
}

/// A store that scrubs only when a test lets it.
fn config(dir: &Path) -> EngineConfig {
    let mut config = EngineConfig::new(dir, SECRET);
    config.inline_max = INLINE_MAX;
    config.verify_sample_rate = 0.0;
    config.local.pack_bytes = 256 << 10;
    config.local.zero_ahead = false;
    config
}

impl Store {
    async fn open(config: EngineConfig) -> Self {
        let dir = config.data_dir.clone();
        let engine = Engine::open(config).unwrap();
        Self::on(&dir, engine).await.map_err(|(_, e)| e).unwrap()
    }

    /// As its clients see it; the engine comes back when they cannot get in.
    async fn on(dir: &Path, engine: Engine) -> Result<Self, (Engine, Error)> {
        let bucket = BucketName::parse("bucket").unwrap();
        let entered = async {
            let caller = let_in(&engine).await?;
            make_bucket(&engine, &caller, &bucket).await?;
            Ok(caller)
        };
        match entered.await {
            Ok(caller) => Ok(Self {
                engine,
                caller,
                bucket,
                dir: dir.to_owned(),
            }),
            Err(error) => Err((engine, error)),
        }
    }

    async fn put(&self, name: &str, body: &[u8]) {
        let (name, options) = (key(name), PutOptions::default());
        let put = self
            .engine
            .put_object(&self.caller, &self.bucket, &name, options);
        let mut put = put.await.unwrap();
        put.write(body.to_vec().into()).await.unwrap();
        put.finish(None).await.unwrap();
    }

    async fn put_in_parts(&self, name: &str, parts: &[&[u8]]) {
        let (engine, caller, bucket) = (&self.engine, &self.caller, &self.bucket);
        let (name, options) = (key(name), UploadOptions::default());
        let upload = engine.create_multipart_upload(caller, bucket, &name, options);
        let id = upload.await.unwrap().upload_id;
        let mut listed = Vec::new();
        for (i, body) in parts.iter().enumerate() {
            let number = i as u16 + 1;
            let options = PartOptions::default();
            let part = engine.upload_part(caller, bucket, &name, id, number, options);
            let mut part = part.await.unwrap();
            part.write(body.to_vec().into()).await.unwrap();
            let etag = part.finish(None).await.unwrap().etag;
            listed.push(CompletedPart {
                number,
                etag: Some(etag),
                checksum: None,
            });
        }
        let options = CompleteOptions::default();
        let done = engine.complete_multipart_upload(caller, bucket, &name, id, &listed, options);
        done.await.unwrap();
    }

    async fn reader(&self, name: &str, select: Select) -> Result<ObjectReader, Error> {
        let name = key(name);
        let get = self
            .engine
            .get_object(&self.caller, &self.bucket, &name, select);
        get.await
    }

    async fn get(&self, name: &str, select: Select) -> Result<Vec<u8>, Error> {
        read(&mut self.reader(name, select).await?).await
    }

    async fn head(&self, name: &str) -> Result<u64, Error> {
        let name = key(name);
        let head = self.engine.head_object(&self.caller, &self.bucket, &name);
        Ok(head.await?.size)
    }

    async fn delete(&self, name: &str) {
        let name = key(name);
        let delete = self.engine.delete_object(&self.caller, &self.bucket, &name);
        delete.await.unwrap();
    }

    async fn copy(&self, from: &str, to: &str) -> Result<(), Error> {
        let source = CopySource {
            bucket: self.bucket.clone(),
            key: key(from),
            conditions: ReadConditions::default(),
        };
        let (to, options) = (key(to), CopyOptions::default());
        let copy = self
            .engine
            .copy_object(&self.caller, &source, &self.bucket, &to, options);
        copy.await.map(drop)
    }

    async fn quarantined(&self) -> Vec<String> {
        let page = self.engine.list_quarantine(None).await.unwrap();
        page.objects.into_iter().map(|object| object.key).collect()
    }

    async fn is_corrupt(&self, name: &str) {
        let error = self.get(name, Select::Whole).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ObjectCorrupt, "{error}");
    }

    /// The one file that has these bytes, and where.
    fn find(&self, bytes: &[u8]) -> (PathBuf, usize) {
        let mut found = Vec::new();
        for path in files(&self.dir) {
            let content = fs::read(&path).unwrap();
            let at = content.windows(bytes.len()).position(|part| part == bytes);
            found.extend(at.map(|at| (path, at)));
        }
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// Flips a bit of the body that has these bytes.
    fn flip(&self, bytes: &[u8], at: usize) -> (PathBuf, usize) {
        let (path, begin) = self.find(&bytes[..64]);
        flip(&path, begin + at);
        (path, begin + at)
    }
}

fn flip(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 0x10;
    fs::write(path, content).unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push(path),
        }
    }
    all
}

/// Bytes that are found nowhere else.
fn body(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

#[tokio::test]
async fn a_damaged_object_is_quarantined_until_it_is_put_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(dir.path())).await;
    let (small, large) = (body(1, 900), body(2, 3 * BLOCK + 5));
    let parts = [body(3, 200_000), body(4, 500), body(5, 10)];
    store.put("small", &small).await;
    store.put("large", &large).await;
    store
        .put_in_parts("parts", &[&parts[0], &parts[1], &parts[2]])
        .await;
    store.put("good", &body(6, 2 * BLOCK)).await;
    store.flip(&small, 500);
    store.flip(&large, 2 * BLOCK + 7);
    store.flip(&parts[1], 3);

    // A range that does not touch the block is right.
    let first = Select::Range(ByteRange::FromTo { first: 0, last: 99 });
    assert_eq!(store.get("large", first).await.unwrap(), large[..100]);
    for name in ["small", "large", "parts"] {
        assert!(store.head(name).await.is_ok());
        store.is_corrupt(name).await;
        // It is known now: nothing of it is served any more.
        let error = store.head(name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ObjectCorrupt);
        assert!(error.to_string().contains("quarantined"), "{error}");
        let first = Select::Range(ByteRange::FromTo { first: 0, last: 9 });
        assert!(store.get(name, first).await.is_err());
    }
    assert_eq!(store.quarantined().await, ["large", "parts", "small"]);
    assert_eq!(store.engine.counters().objects_quarantined.value(), 3);
    assert!(store.get("good", Select::Whole).await.is_ok());
    let options = ListOptions {
        max_keys: 10,
        ..ListOptions::default()
    };
    let page = store
        .engine
        .list_objects(&store.caller, &store.bucket, &options);
    assert_eq!(page.await.unwrap().entries.len(), 4);
    // Its bytes are not copied either.
    let refused = store.copy("large", "copy").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ObjectCorrupt);

    // All that survives a restart; then one is put anew, one deleted, one purged.
    store.engine.close().unwrap();
    let store = Store::open(config(dir.path())).await;
    store.is_corrupt("small").await;
    store.put("small", &small).await;
    assert_eq!(store.get("small", Select::Whole).await.unwrap(), small);
    store.delete("large").await;
    let entry = store.engine.list_quarantine(None).await.unwrap().objects;
    assert_eq!(entry.len(), 1);
    assert_eq!(entry[0].bucket.as_deref(), Some("bucket"));
    assert!(entry[0].reason.contains("checksum"), "{}", entry[0].reason);
    let id = entry[0].bucket_id;
    let purge = async |name| store.engine.purge_quarantined(id, &key(name)).await;
    purge("parts").await.unwrap();
    assert_eq!(
        purge("good").await.unwrap_err().kind(),
        ErrorKind::NoSuchKey
    );
    assert!(store.quarantined().await.is_empty());
    assert_eq!(
        store.head("parts").await.unwrap_err().kind(),
        ErrorKind::NoSuchKey
    );
}

#[tokio::test]
async fn a_body_that_is_whole_again_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(dir.path())).await;
    let large = body(1, 2 * BLOCK);
    store.put("large", &large).await;
    let (path, _) = store.find(&large[..64]);
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    store.is_corrupt("large").await;
    let id = store.engine.list_quarantine(None).await.unwrap().objects[0].bucket_id;
    let name = key("large");
    let revalidate = || store.engine.revalidate_quarantined(id, &name);
    assert!(!revalidate().await.unwrap(), "it is still missing");
    fs::rename(&elsewhere, &path).unwrap();
    assert!(revalidate().await.unwrap());
    assert_eq!(store.get("large", Select::Whole).await.unwrap(), large);
    assert!(store.quarantined().await.is_empty());
}

/// A body whose blocks agree with their sums, but which is another one: only its SHA-256 tells.
#[tokio::test]
async fn a_sampled_read_checks_the_sha256_before_its_last_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut sampling = config(dir.path());
    sampling.verify_sample_rate = 1.0;
    let store = Store::open(sampling).await;
    let large = body(1, 5 * BLOCK);
    store.put("large", &large).await;
    store.put("small", &body(2, 100)).await;
    assert_eq!(store.get("large", Select::Whole).await.unwrap(), large);
    forge(&store.find(&large[..64]).0, 5 * BLOCK);

    let reader = store.reader("large", Select::Whole).await;
    let (mut reader, mut served) = (reader.unwrap(), 0);
    let error = loop {
        match reader.next().await {
            Ok(Some(chunk)) => served += chunk.len(),
            Ok(None) => panic!("a wrong body was served to its end"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ObjectCorrupt);
    assert!(served < large.len());
    assert_eq!(store.quarantined().await, ["large"]);
    assert!(store.get("small", Select::Whole).await.is_ok());
}

/// Changes a body and makes its sums agree with it (FORMAT.md, "Object file").
fn forge(path: &Path, size: usize) {
    let mut content = fs::read(path).unwrap();
    content[10] ^= 1;
    let crc = |parts: &[&[u8]]| {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        parts.iter().for_each(|part| digest.update(part));
        (digest.finalize() as u32).to_le_bytes()
    };
    let sum = crc(&[&content[..BLOCK]]);
    content[size..size + 4].copy_from_slice(&sum);
    let name = path.file_name().unwrap().to_str().unwrap();
    let id = u128::from_str_radix(name, 16).unwrap().to_be_bytes();
    let sum = crc(&[&id, &0_u32.to_le_bytes(), &content[size..size + 4092]]);
    content[size + 4092..size + 4096].copy_from_slice(&sum);
    fs::write(path, content).unwrap();
}

#[tokio::test]
async fn a_start_looks_for_missing_and_short_bodies() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(dir.path())).await;
    let bodies = [body(1, 70_000), body(2, 70_000), body(3, 70_000)];
    for (i, body) in bodies.iter().enumerate() {
        store.put(&format!("k{i}"), body).await;
    }
    let missing = store.find(&bodies[0][..64]).0;
    let short = store.find(&bodies[1][..64]).0;
    store.engine.close().unwrap();
    fs::remove_file(missing).unwrap();
    let file = fs::OpenOptions::new().write(true).open(short).unwrap();
    file.set_len(50_000).unwrap();
    let store = Store::open(config(dir.path())).await;
    wait_for(async || store.quarantined().await == ["k0", "k1"]).await;
    assert_eq!(store.get("k2", Select::Whole).await.unwrap(), bodies[2]);
}

async fn wait_for(is_so: impl AsyncFn() -> bool) {
    for _ in 0..200 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it did not come to be");
}

#[tokio::test]
async fn the_scrubber_finds_what_nobody_reads() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(dir.path())).await;
    let bodies: Vec<Vec<u8>> = (0..20).map(|i| body(i, 300 + 9000 * i as usize)).collect();
    for (i, body) in bodies.iter().enumerate() {
        store.put(&format!("k{i:02}"), body).await;
    }
    store.flip(&bodies[0], 200);
    store.flip(&bodies[15], 70_000);
    store.engine.close().unwrap();
    // Passes of a third each, one behind the other.
    let store = Store::open(scrubbing(dir.path(), 0.3, Duration::from_millis(1))).await;
    wait_for(async || store.quarantined().await == ["k00", "k15"]).await;
    wait_for(async || store.engine.scrub_status().await.unwrap().last.objects > 0).await;
    let status = store.engine.scrub_status().await.unwrap();
    assert_eq!(status.last.errors, 0);
    assert!(status.last.ended >= status.last.began);
    for (i, body) in bodies
        .iter()
        .enumerate()
        .filter(|(i, _)| ![0, 15].contains(i))
    {
        assert_eq!(
            store.get(&format!("k{i:02}"), Select::Whole).await.unwrap(),
            *body
        );
    }
}

/// A store whose scrubber is at work from the start on.
fn scrubbing(dir: &Path, sample_rate: f64, every: Duration) -> EngineConfig {
    let mut scrubbing = config(dir);
    scrubbing.upkeep.first_scrub_after = Duration::ZERO;
    scrubbing.upkeep.scrub_every = every;
    scrubbing.upkeep.scrub_bytes_per_second = None;
    scrubbing.upkeep.scrub = ScrubConfig {
        sample_rate,
        max_per_run: None,
    };
    scrubbing
}

/// Weakness 5: the scrubber marked by key what it had seen as missing, and so put the version that had come meanwhile
/// into quarantine.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_overwritten_meanwhile_is_not_quarantined() {
    let dir = tempfile::tempdir().unwrap();
    let config = scrubbing(dir.path(), 1.0, Duration::from_millis(1));
    let store = Store::open(config).await;
    let ended = tokio::time::Instant::now() + Duration::from_secs(3);
    let mut versions = 0;
    while tokio::time::Instant::now() < ended {
        versions += 1;
        for key in ["a", "b", "c", "d"] {
            store.put(key, &body(versions, 70_000)).await;
        }
    }
    assert_eq!(store.quarantined().await, [""; 0]);
    for key in ["a", "b", "c", "d"] {
        let is_last = store.get(key, Select::Whole).await.unwrap() == body(versions, 70_000);
        assert!(is_last, "{key} after {versions} versions");
    }
    let status = store.engine.scrub_status().await.unwrap();
    assert!(status.last.objects > 0, "the scrubber has looked");
}

/// Weakness 37: the scrubber forgot where it was, so that what came late in the order was never read.
#[tokio::test]
async fn the_scrubber_goes_on_after_a_restart_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(dir.path())).await;
    let bodies: Vec<Vec<u8>> = (0..20).map(|i| body(i, 9000)).collect();
    for (i, body) in bodies.iter().enumerate() {
        store.put(&format!("k{i:02}"), body).await;
    }
    store.flip(&bodies[19], 200);
    store.engine.close().unwrap();
    // One pass of a tenth in each life.
    for life in 0..20 {
        let config = scrubbing(dir.path(), 0.1, Duration::from_secs(3600));
        let store = Store::open(config).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let found = store.quarantined().await;
        store.engine.close().unwrap();
        if !found.is_empty() {
            assert!(found == ["k19"] && life >= 8, "{found:?} in life {life}");
            return;
        }
    }
    panic!("the last body was never read");
}

#[tokio::test]
async fn a_scrub_that_is_asked_for_checks_everything_now_and_tells_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut slowly = config(dir.path());
    slowly.upkeep.scrub_bytes_per_second = Some(1 << 20);
    let store = Store::open(slowly).await;
    let bodies: Vec<Vec<u8>> = (0..20).map(|i| body(i, 100_000)).collect();
    for (i, body) in bodies.iter().enumerate() {
        store.put(&format!("k{i:02}"), body).await;
    }
    store.flip(&bodies[3], 200);
    store.flip(&bodies[19], 99_000);
    let status = async || store.engine.scrub_status().await.unwrap();
    wait_for(async || status().await.next_pass_in.is_some()).await;
    let before = status().await;
    assert_eq!((before.objects, before.bytes), (20, 2_000_000));
    assert!(before.pass.is_none() && before.wanted.is_none() && before.last.ended.0 == 0);

    // A share first, which gives way to everything.
    store.engine.start_scrub(ScrubExtent::Share);
    wait_for(async || status().await.wanted.is_none()).await;
    store.engine.start_scrub(ScrubExtent::Everything);
    // A share would be nothing more.
    store.engine.start_scrub(ScrubExtent::Share);
    wait_for(async || status().await.wanted.is_none()).await;
    let mut told = Vec::new();
    while let Some(pass) = status().await.pass {
        assert_eq!(pass.extent, ScrubExtent::Everything);
        assert_eq!(pass.seen.objects, pass.round.objects);
        told.push((pass.done, pass.seen.objects, pass.seen.damaged));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(told.is_sorted(), "{told:?}");
    assert!(
        told.iter().any(|(done, ..)| *done > 0.2 && *done < 0.8),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|(_, objects, damaged)| *objects > 5 && *damaged == 1)
    );
    let after = status().await;
    assert_eq!((after.last.objects, after.last.bytes), (18, 1_800_000));
    assert_eq!((after.last.damaged, after.last.errors), (2, 0));
    assert!(after.wanted.is_none() && after.round.began.0 == 0);
    assert_eq!(store.quarantined().await, ["k03", "k19"]);
}

#[tokio::test]
async fn a_lost_index_is_made_anew_from_a_snapshot_and_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(dir.path())).await;
    for i in 0..300 {
        store.put(&format!("before/{i:03}"), &body(i, 700)).await;
    }
    let snapshot = store.engine.take_snapshot().await.unwrap();
    assert!(snapshot.rows > 300);
    for i in 0..300 {
        store
            .put(&format!("after/{i:03}"), &body(1000 + i, 700))
            .await;
        if i % 3 == 0 {
            store.delete(&format!("before/{i:03}")).await;
        }
    }
    store.engine.close().unwrap();
    for lost in [true, false] {
        let index = dir.path().join("index.redb");
        match lost {
            true => fs::remove_file(&index).unwrap(),
            false => fs::write(&index, vec![7; 100_000]).unwrap(),
        }
        let store = Store::open(config(dir.path())).await;
        assert!(store.engine.rebuilt().is_some());
        for i in 0..300 {
            let after = store.get(&format!("after/{i:03}"), Select::Whole).await;
            assert_eq!(after.unwrap(), body(1000 + i, 700));
            let before = store.get(&format!("before/{i:03}"), Select::Whole).await;
            match i % 3 {
                0 => assert_eq!(before.unwrap_err().kind(), ErrorKind::NoSuchKey),
                _ => assert_eq!(before.unwrap(), body(i, 700)),
            }
        }
        store.engine.take_snapshot().await.unwrap();
        store.engine.close().unwrap();
    }
    let store = Store::open(config(dir.path())).await;
    assert!(store.engine.rebuilt().is_none());
}

/// Bits of any page of the index flip: a snapshot sees it, and the next start makes the index anew.
#[tokio::test]
async fn rot_in_the_index_is_found_by_the_next_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(dir.path())).await;
    for i in 0..2000 {
        store.put(&format!("k{i:04}"), &body(i, 50)).await;
    }
    store.engine.take_snapshot().await.unwrap();
    store.engine.close().unwrap();
    let whole = fs::read(dir.path().join("index.redb")).unwrap();
    let (mut seen, mut rotten) = (0, 0);
    for page in (1..whole.len() / 4096).step_by(7) {
        if whole[page * 4096..][..4096].iter().all(|&byte| byte == 0) {
            continue;
        }
        rotten += 1;
        let copy = tempfile::tempdir().unwrap();
        copy_all(dir.path(), copy.path());
        // In the head of the page: how many entries it has, and where.
        flip(&copy.path().join("index.redb"), page * 4096 + 2);
        let engine = Engine::open(config(copy.path())).unwrap();
        let (engine, made) = match Store::on(copy.path(), engine).await {
            Ok(store) => {
                // So that there is something new to save.
                let bucket = BucketName::parse("another").unwrap();
                let made = store.engine.create_bucket(&store.caller, &bucket).await;
                (store.engine, made)
            }
            // The rows of the account, or of its token, are hidden.
            Err((engine, error)) => (engine, Err(error)),
        };
        let snapshot = engine.take_snapshot().await;
        seen += u32::from(engine.rebuilt().is_some() || snapshot.is_err());
        assert!(made.is_ok() || snapshot.is_err() || engine.stopped().is_some());
        let _ = engine.close();
        let store = Store::open(config(copy.path())).await;
        for i in (0..2000).step_by(37) {
            let got = store.get(&format!("k{i:04}"), Select::Whole).await;
            assert_eq!(got.unwrap(), body(i, 50), "page {page}");
        }
        store.engine.close().unwrap();
    }
    assert!(seen >= rotten / 2, "{seen} of {rotten} were seen");
}

/// A start reads the rows of all access keys, to see whether it has the right signing secret.
#[tokio::test]
async fn a_start_that_meets_a_damaged_row_makes_the_index_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(dir.path())).await;
    store.put("k", b"hello").await;
    store.engine.take_snapshot().await.unwrap();
    store.engine.close().unwrap();
    let index = dir.path().join("index.redb");
    let hash = b"$2b$10$";
    let content = fs::read(&index).unwrap();
    let places = (0..content.len()).filter(|&at| content[at..].starts_with(hash));
    let places: Vec<_> = places.collect();
    assert!(!places.is_empty(), "the row of the access key is there");
    places.iter().for_each(|at| flip(&index, at + 20));
    let store = Store::open(config(dir.path())).await;
    assert!(store.engine.rebuilt().is_some());
    assert_eq!(store.get("k", Select::Whole).await.unwrap(), b"hello");
    store.engine.close().unwrap();
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        match path.is_dir() {
            true => {
                fs::create_dir_all(&to).unwrap();
                copy_all(&path, &to);
            }
            false => drop(fs::copy(path, to).unwrap()),
        }
    }
}

/// What a truncation or a bad copy leaves: the log behind the last snapshot is enough.
#[tokio::test]
async fn an_empty_index_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = grown(dir.path()).await;
    store.engine.close().unwrap();
    fs::write(dir.path().join("index.redb"), b"").unwrap();
    let store = Store::open(config(dir.path())).await;
    assert!(store.engine.rebuilt().is_some());
    for i in 0..600 {
        let got = store.get(&format!("k{i:04}"), Select::Whole).await;
        assert_eq!(got.unwrap(), body(i, 3000), "{i}");
    }
    store.engine.close().unwrap();
}

/// The index of another store agrees with itself, but not with the log: nothing is done on its word.
#[tokio::test]
async fn the_index_of_another_store_is_not_believed() {
    for is_young in [false, true] {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = grown(dir.path()).await;
        store.put("large", &body(7, 700_000)).await;
        store.engine.close().unwrap();
        let stranger = match is_young {
            true => Store::open(config(other.path())).await,
            false => grown(other.path()).await,
        };
        stranger.put("stranger", &body(9, 3000)).await;
        stranger.engine.close().unwrap();
        let index = |dir: &Path| dir.join("index.redb");
        fs::copy(index(other.path()), index(dir.path())).unwrap();
        let store = Store::open(config(dir.path())).await;
        let why = store.engine.rebuilt().expect("it is made anew");
        assert!(why.contains("another store"), "{why}");
        let got = store.get("large", Select::Whole).await;
        assert_eq!(got.unwrap(), body(7, 700_000));
        assert!(store.get("stranger", Select::Whole).await.is_err());
        store.engine.close().unwrap();
    }
}

/// A store whose log has lost its beginning behind a snapshot.
async fn grown(dir: &Path) -> Store {
    let store = Store::open(config(dir)).await;
    for i in 0..600 {
        store.put(&format!("k{i:04}"), &body(i, 3000)).await;
    }
    store.engine.take_snapshot().await.unwrap();
    // Overwritten, so that old log files go.
    for round in 0..2 {
        for i in 0..600 {
            store.put(&format!("k{i:04}"), &body(i, 3000)).await;
        }
        store.engine.take_snapshot().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(300 * (1 + round))).await;
    }
    assert!(
        !dir.join("log/00000001.pack").exists(),
        "the log has its beginning"
    );
    store
}
