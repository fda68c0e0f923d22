//! The engine against a `BTreeMap`: whatever is done to both, both say the same, restarts included.

mod store;

use std::collections::BTreeMap;

use jay_engine::{
    BucketName, ByteRange, Caller, Conditions, Engine, EngineConfig, Error, ErrorKind, ListEntry,
    ListOptions, ObjectKey, PutOptions, Select,
};
use proptest::prelude::*;

use self::store::{SECRET, key, let_in, read};

const INLINE_MAX: usize = 1000;

#[derive(Clone, Debug)]
enum Step {
    Put {
        key: usize,
        size: usize,
        byte: u8,
        create_only: bool,
    },
    Delete {
        key: usize,
    },
    DeleteMany {
        keys: Vec<usize>,
    },
    Get {
        key: usize,
        range: Option<(u64, u64)>,
    },
    List {
        prefix: &'static str,
        delimiter: bool,
        page: usize,
    },
    DeleteBucket,
    Reopen,
}

const KEYS: [&str; 10] = [
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "a/c",
    "b",
    "b/1",
    "b//2",
    "ü/%20+",
    "z\u{10ffff}",
];

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    prop_oneof![
        6 => (key.clone(), 0..3 * INLINE_MAX, any::<u8>(), any::<bool>())
            .prop_map(|(key, size, byte, create_only)| Step::Put { key, size, byte, create_only }),
        1 => (key.clone(), 250_000..400_000usize, any::<u8>())
            .prop_map(|(key, size, byte)| Step::Put { key, size, byte, create_only: false }),
        3 => key.clone().prop_map(|key| Step::Delete { key }),
        1 => prop::collection::vec(key.clone(), 0..6).prop_map(|keys| Step::DeleteMany { keys }),
        4 => (key, prop::option::of((0..2000u64, 0..2000u64)))
            .prop_map(|(key, range)| Step::Get { key, range }),
        3 => (prop::sample::select(vec!["", "a", "a/", "b/", "x"]), any::<bool>(), 1..5usize)
            .prop_map(|(prefix, delimiter, page)| Step::List { prefix, delimiter, page }),
        1 => Just(Step::DeleteBucket),
        1 => Just(Step::Reopen),
    ]
}

/// A body that differs at every byte from its neighbours.
fn body(size: usize, byte: u8) -> Vec<u8> {
    (0..size)
        .map(|i| {
            byte.wrapping_add((i % 251) as u8)
                .wrapping_add((i / 65536) as u8)
        })
        .collect()
}

struct World {
    engine: Engine,
    caller: Caller,
    bucket: BucketName,
    model: BTreeMap<&'static str, Vec<u8>>,
}

impl World {
    async fn open(dir: &std::path::Path) -> Result<(Engine, Caller), Error> {
        let mut config = EngineConfig::new(dir, SECRET);
        config.inline_max = INLINE_MAX;
        config.local.pack_bytes = 256 << 10;
        config.local.batch_bytes_max = 32 << 10;
        config.local.apply_rows = 20;
        let engine = Engine::open(config).expect("the store opens");
        let caller = let_in(&engine).await?;
        Ok((engine, caller))
    }

    async fn put(&self, key: &str, bytes: &[u8], options: PutOptions) -> Result<(), Error> {
        let key = ObjectKey::parse(key)?;
        let mut put = self
            .engine
            .put_object(&self.caller, &self.bucket, &key, options)
            .await?;
        for chunk in bytes.chunks(70_001) {
            put.write(chunk.to_vec().into()).await?;
        }
        put.finish(None).await.map(drop)
    }

    async fn get(&self, key: &str, range: Option<ByteRange>) -> Result<Vec<u8>, Error> {
        let key = ObjectKey::parse(key)?;
        let mut got = self
            .engine
            .get_object(
                &self.caller,
                &self.bucket,
                &key,
                range.map_or(Select::Whole, Select::Range),
            )
            .await?;
        read(&mut got).await
    }

    async fn list(&self, options: ListOptions) -> Result<Vec<String>, Error> {
        let (mut all, mut options) = (Vec::new(), options);
        loop {
            let page = self
                .engine
                .list_objects(&self.caller, &self.bucket, &options)
                .await?;
            assert!(page.entries.len() <= options.max_keys);
            all.extend(page.entries.into_iter().map(|entry| match entry {
                ListEntry::Object(object) => object.key.as_str().to_owned(),
                ListEntry::CommonPrefix(prefix) => format!("{prefix}*"),
            }));
            match page.next {
                Some(next) => options.after = Some(next),
                None => return Ok(all),
            }
        }
    }

    fn listed(&self, prefix: &str, delimiter: bool) -> Vec<String> {
        let mut all = Vec::new();
        for key in self.model.keys().filter(|key| key.starts_with(prefix)) {
            let rolled = key[prefix.len()..].find('/').filter(|_| delimiter);
            let entry = match rolled {
                Some(at) => format!("{}*", &key[..prefix.len() + at + 1]),
                None => (*key).to_owned(),
            };
            if all.last() != Some(&entry) {
                all.push(entry);
            }
        }
        all
    }

    async fn play(&mut self, step: Step, dir: &std::path::Path) -> Result<(), Error> {
        match step {
            Step::Put {
                key,
                size,
                byte,
                create_only,
            } => {
                let (key, bytes) = (KEYS[key], body(size, byte));
                let if_none_match = create_only.then_some(None);
                let conditions = Conditions {
                    if_none_match,
                    ..Conditions::default()
                };
                let options = PutOptions {
                    conditions,
                    ..PutOptions::default()
                };
                match self.put(key, &bytes, options).await {
                    Err(error) if error.kind() == ErrorKind::PreconditionFailed => {
                        assert!(create_only && self.model.contains_key(key));
                    }
                    outcome => {
                        outcome?;
                        assert!(!create_only || !self.model.contains_key(key));
                        self.model.insert(key, bytes);
                    }
                }
            }
            Step::Delete { key } => {
                let parsed = ObjectKey::parse(KEYS[key])?;
                self.engine
                    .delete_object(&self.caller, &self.bucket, &parsed)
                    .await?;
                self.model.remove(KEYS[key]);
            }
            Step::DeleteMany { keys } => {
                let parsed: Vec<_> = keys.iter().map(|&at| key(KEYS[at])).collect();
                let outcomes = self
                    .engine
                    .delete_objects(&self.caller, &self.bucket, &parsed)
                    .await?;
                assert_eq!(outcomes.len(), keys.len());
                for (key, outcome) in keys.into_iter().zip(outcomes) {
                    outcome?;
                    self.model.remove(KEYS[key]);
                }
            }
            Step::Get { key, range } => {
                let wanted = range.map(|(a, b)| ByteRange::FromTo {
                    first: a.min(b),
                    last: a.max(b),
                });
                match (self.get(KEYS[key], wanted).await, self.model.get(KEYS[key])) {
                    (Ok(bytes), Some(expected)) => match wanted {
                        None => assert_eq!(bytes, *expected),
                        Some(range) => {
                            let range = range.resolve(expected.len() as u64)?;
                            assert_eq!(bytes, expected[range.start as usize..range.end as usize]);
                        }
                    },
                    (Err(error), None) => assert_eq!(error.kind(), ErrorKind::NoSuchKey),
                    (Err(error), Some(bytes)) => {
                        assert_eq!(error.kind(), ErrorKind::InvalidRange, "{error}");
                        assert!(wanted.unwrap().resolve(bytes.len() as u64).is_err());
                    }
                    (Ok(_), None) => panic!("an object that is not there was read"),
                }
            }
            Step::List {
                prefix,
                delimiter,
                page,
            } => {
                let delimiter_text = delimiter.then(|| "/".to_owned());
                let options = ListOptions {
                    prefix: prefix.into(),
                    delimiter: delimiter_text,
                    after: None,
                    max_keys: page,
                };
                assert_eq!(self.list(options).await?, self.listed(prefix, delimiter));
            }
            Step::DeleteBucket => {
                match self.engine.delete_bucket(&self.caller, &self.bucket).await {
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::BucketNotEmpty);
                        assert!(!self.model.is_empty());
                    }
                    Ok(()) => {
                        assert!(self.model.is_empty());
                        self.engine
                            .create_bucket(&self.caller, &self.bucket)
                            .await?;
                    }
                }
            }
            Step::Reopen => {
                self.engine.close().unwrap();
                (self.engine, self.caller) = World::open(dir).await?;
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_is_a_sorted_map(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let (engine, caller) = World::open(dir.path()).await.unwrap();
            let bucket = BucketName::parse("model").unwrap();
            engine.create_bucket(&caller, &bucket).await.unwrap();
            let mut world = World { engine, caller, bucket, model: BTreeMap::new() };
            for step in steps.into_iter().chain([Step::Reopen]) {
                world.play(step, dir.path()).await.unwrap();
            }
            let all = ListOptions { max_keys: 1000, ..ListOptions::default() };
            assert_eq!(world.list(all).await.unwrap(), world.listed("", false));
            for key in world.model.keys() {
                assert_eq!(world.get(key, None).await.unwrap(), world.model[key]);
            }
        });
    }
}

/// A damaged body is an error before anything of it is given away, and the object beside it stays readable.
#[tokio::test]
async fn damage_is_told_and_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, caller) = World::open(dir.path()).await.unwrap();
    let bucket = BucketName::parse("damage").unwrap();
    engine.create_bucket(&caller, &bucket).await.unwrap();
    let model = BTreeMap::new();
    let world = World {
        engine,
        caller,
        bucket,
        model,
    };
    let sizes = [("inline", 900), ("file", 300_000), ("whole", 901)];
    for (key, size) in sizes {
        world
            .put(key, &body(size, size as u8), PutOptions::default())
            .await
            .unwrap();
    }
    for (key, size) in &sizes[..2] {
        let changed = flip_in_files(dir.path(), &body(*size, *size as u8)[..600]);
        assert!(changed > 0, "{key} was found on the disk");
        let key = ObjectKey::parse(key).unwrap();
        let got = world
            .engine
            .get_object(&world.caller, &world.bucket, &key, Select::Whole)
            .await;
        let error = got.unwrap().prepare().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ObjectCorrupt);
    }
    let (whole, size) = sizes[2];
    assert_eq!(
        world.get(whole, None).await.unwrap(),
        body(size, size as u8)
    );
}

/// Flips a bit wherever `pattern` stands in a file below `dir`.
fn flip_in_files(dir: &std::path::Path, pattern: &[u8]) -> usize {
    let mut changed = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            changed += flip_in_files(&path, pattern);
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let found: Vec<usize> = bytes
            .windows(pattern.len())
            .enumerate()
            .filter(|(_, window)| *window == pattern)
            .map(|(at, _)| at)
            .collect();
        for at in &found {
            bytes[at + 7] ^= 4;
        }
        if !found.is_empty() {
            // In place: the store has the file open.
            use std::os::unix::fs::FileExt as _;
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
        }
        changed += found.len();
    }
    changed
}

/// The memory for bodies is a limit: the second upload waits until the first one gives its share back.
#[tokio::test]
async fn uploads_beyond_the_memory_for_bodies_wait() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(dir.path(), SECRET);
    config.buffer_bytes_max = 1 << 20;
    let engine = Engine::open(config).unwrap();
    let caller = let_in(&engine).await.unwrap();
    let bucket = BucketName::parse("memory").unwrap();
    engine.create_bucket(&caller, &bucket).await.unwrap();
    let key = key("k");
    let options = || PutOptions {
        size: Some(10 << 20),
        ..PutOptions::default()
    };
    let first = engine
        .put_object(&caller, &bucket, &key, options())
        .await
        .unwrap();
    let second = engine.put_object(&caller, &bucket, &key, options());
    let mut second = std::pin::pin!(second);
    let early = std::future::poll_fn(|cx| {
        std::task::Poll::Ready(std::future::Future::poll(second.as_mut(), cx).is_ready())
    });
    assert!(!early.await, "there is memory for one");
    drop(first);
    second.await.unwrap();
}
