//! The shadow beside a disk that is really changed: the same answers, and nothing happens below.

use proptest::{prelude::*, sample::select};

use super::*;
use crate::{
    disk::{real::RealDisk, simulated::SimulatedDisk},
    env::Env,
    meta::{
        Body, Change, Transaction,
        key::{BucketId, Key},
        local::{LocalConfig, recovery},
        record::{Location, Record, sample},
    },
};

/// Few names, so that verbs meet: files and directories, one in the other and one in the place of the other.
const PATHS: [&str; 10] = [
    "a", "b", "d", "e", "d/a", "d/b", "d/e", "d/e/a", "e/a", "a/b",
];

/// A verb, with which of the open files it is about.
#[derive(Clone, Debug)]
enum Verb {
    CreateDir(&'static str),
    RemoveDir(&'static str),
    Open(&'static str),
    Create(&'static str),
    CreateUnnamed(&'static str),
    Link(usize, &'static str),
    Rename(&'static str, &'static str),
    Unlink(&'static str),
    SyncDir(&'static str),
    ReadDir(&'static str),
    Close(usize),
    Read(usize, u64, usize),
    Write(usize, u64, usize, u8),
    Sync(usize),
    SetLen(usize, u64),
    Allocate(usize, u64),
}

fn verb() -> impl Strategy<Value = Verb> {
    let path = || select(&PATHS[..]);
    let dir = || select(vec!["", "d", "e", "d/e", "a"]);
    let (file, at) = (0_usize..3, 0_u64..14_000);
    // Around whole pages too.
    let size = prop_oneof![1_usize..9000, Just(4096_usize), Just(8192_usize)];
    let at = prop_oneof![at, (0_u64..4).prop_map(|page| page * 4096)];
    prop_oneof![
        2 => path().prop_map(Verb::CreateDir),
        1 => path().prop_map(Verb::RemoveDir),
        4 => path().prop_map(Verb::Open),
        2 => path().prop_map(Verb::Create),
        1 => dir().prop_map(Verb::CreateUnnamed),
        1 => (file.clone(), path()).prop_map(|(file, path)| Verb::Link(file, path)),
        3 => (path(), path()).prop_map(|(from, to)| Verb::Rename(from, to)),
        2 => path().prop_map(Verb::Unlink),
        1 => dir().prop_map(Verb::SyncDir),
        2 => dir().prop_map(Verb::ReadDir),
        2 => file.clone().prop_map(Verb::Close),
        4 => (file.clone(), at.clone(), size.clone()).prop_map(|(f, at, n)| Verb::Read(f, at, n)),
        5 => (file.clone(), at.clone(), size, 0_u8..4)
            .prop_map(|(f, at, n, byte)| Verb::Write(f, at, n, byte)),
        1 => file.clone().prop_map(Verb::Sync),
        3 => (file.clone(), at.clone()).prop_map(|(file, len)| Verb::SetLen(file, len)),
        2 => (file, at).prop_map(|(file, len)| Verb::Allocate(file, len)),
    ]
}

/// A disk and the files that are open on it.
struct User<'a> {
    disk: &'a dyn Disk,
    open: Vec<Arc<dyn DiskFile>>,
}

/// What a verb answered, in words.
type Answer = Result<String, io::ErrorKind>;

impl<'a> User<'a> {
    fn new(disk: &'a dyn Disk) -> Self {
        let open = Vec::new();
        Self { disk, open }
    }

    fn run(&mut self, verb: &Verb) -> Answer {
        self.attempt(verb).map_err(|error| error.kind())
    }

    fn attempt(&mut self, verb: &Verb) -> io::Result<String> {
        let disk = self.disk;
        let file = match verb {
            Verb::Link(n, _)
            | Verb::Close(n)
            | Verb::Read(n, ..)
            | Verb::Write(n, ..)
            | Verb::Sync(n)
            | Verb::SetLen(n, _)
            | Verb::Allocate(n, _) => match self.open.get(*n) {
                Some(file) => file.clone(),
                None => return Ok("not open".into()),
            },
            Verb::CreateDir(path) => return done(disk.create_dir(path)),
            Verb::RemoveDir(path) => return done(disk.remove_dir(path)),
            Verb::Rename(from, to) => return done(disk.rename(from, to)),
            Verb::Unlink(path) => return done(disk.unlink(path)),
            Verb::SyncDir(path) => return done(disk.sync_dir(path)),
            Verb::ReadDir(path) => return Ok(format!("{:?}", sorted(disk.read_dir(path)?))),
            Verb::Open(path) => return self.keep(disk.open(path)),
            Verb::Create(path) => return self.keep(disk.create(path)),
            Verb::CreateUnnamed(dir) => return self.keep(disk.create_unnamed(dir)),
        };
        match verb {
            Verb::Link(_, path) => done(disk.link(&*file, path)),
            Verb::Close(n) => {
                self.open.remove(*n);
                Ok("closed".into())
            }
            Verb::Read(_, at, len) => {
                let mut bytes = vec![9; *len];
                file.read_at(&mut bytes, *at)?;
                Ok(format!("{bytes:?}"))
            }
            Verb::Write(_, at, len, byte) => done(file.write_at(&vec![*byte; *len], *at)),
            Verb::Sync(_) => done(file.sync_data()),
            Verb::SetLen(_, len) => done(file.set_len(*len)),
            Verb::Allocate(_, len) => done(file.allocate(*len)),
            _ => unreachable!("answered above"),
        }
    }

    fn keep(&mut self, file: io::Result<Arc<dyn DiskFile>>) -> io::Result<String> {
        let file = file?;
        let len = file.len()?;
        // Not too many, so that the numbers of the verbs meet files.
        if self.open.len() < 3 {
            self.open.push(file);
        }
        Ok(format!("{len} bytes"))
    }

    /// All names, and the content of all files with and without one.
    fn everything(&self) -> BTreeMap<String, Vec<u8>> {
        let mut all = BTreeMap::new();
        let mut dirs = vec![String::new()];
        while let Some(dir) = dirs.pop() {
            for name in sorted(self.disk.read_dir(&dir).unwrap()) {
                let path = match dir.as_str() {
                    "" => name,
                    _ => format!("{dir}/{name}"),
                };
                match self.disk.open(&path) {
                    Ok(file) => drop(all.insert(path, content(&*file))),
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::IsADirectory, "{path}");
                        all.insert(format!("{path}/"), Vec::new());
                        dirs.push(path);
                    }
                }
            }
        }
        let open = self.open.iter().enumerate();
        all.extend(open.map(|(n, file)| (format!("open file {n}"), content(&**file))));
        all
    }
}

fn done(result: io::Result<()>) -> io::Result<String> {
    result.map(|()| "done".into())
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

fn content(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Some verbs make the disk below; the same verbs then change the shadow over it and a copy of it.
    #[test]
    fn a_shadow_behaves_like_a_disk_and_changes_nothing_below(
        before in proptest::collection::vec(verb(), 0..10),
        after in proptest::collection::vec(verb(), 0..100),
    ) {
        let below = made_by(&before);
        let (copy, operations) = (below.fork(1), below.operations());
        let untouched = User::new(&*below).everything();
        compare(below.clone(), &*copy, &after)?;
        prop_assert_eq!(operations, below.operations());
        prop_assert_eq!(User::new(&*below).everything(), untouched);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The same over a disk of the operating system, which has its own ways to say what a path is.
    #[test]
    fn a_shadow_over_a_real_disk_behaves_the_same(
        before in proptest::collection::vec(verb(), 0..10),
        after in proptest::collection::vec(verb(), 0..100),
    ) {
        let model = made_by(&before);
        let untouched = User::new(&*model).everything();
        let dir = tempfile::tempdir().unwrap();
        let below = RealDisk::open(dir.path()).unwrap();
        for (path, bytes) in &untouched {
            match path.strip_suffix('/') {
                Some(path) => below.create_dir(path).unwrap(),
                None => below.create(path).unwrap().write_at(bytes, 0).unwrap(),
            }
        }
        compare(below.clone(), &*model, &after)?;
        prop_assert_eq!(User::new(&*below).everything(), untouched);
    }
}

/// A disk with something on it, then changed by `verbs`.
fn made_by(verbs: &[Verb]) -> Arc<SimulatedDisk> {
    let disk = SimulatedDisk::new(1);
    for path in ["d", "d/e"] {
        disk.create_dir(path).unwrap();
    }
    for (path, len) in [("a", 10_000), ("d/a", 8192), ("d/b", 3), ("d/e/a", 0)] {
        let bytes: Vec<u8> = (0..len).map(|n| n as u8 | 1).collect();
        disk.create(path).unwrap().write_at(&bytes, 0).unwrap();
    }
    let mut maker = User::new(&*disk);
    for verb in verbs {
        let _ = maker.run(verb);
    }
    drop(maker);
    disk
}

/// Runs the verbs on a shadow over `below` and on `copy`, which holds the same.
fn compare(below: Arc<dyn Disk>, copy: &dyn Disk, verbs: &[Verb]) -> Result<(), TestCaseError> {
    let shadow = ShadowDisk::over(below);
    let (mut real, mut shadowed) = (User::new(copy), User::new(&*shadow));
    for verb in verbs {
        prop_assert_eq!(shadowed.run(verb), real.run(verb), "{:?}", verb);
    }
    prop_assert_eq!(shadowed.everything(), real.everything());
    Ok(())
}

/// How many names and pages the shadow holds in memory.
fn held(shadow: &ShadowDisk) -> (usize, usize) {
    let tree = shadow.tree();
    let entries = tree.entries.values().flat_map(BTreeMap::values);
    let pages = entries.clone().map(|entry| match entry {
        Entry::File(node) => node.pages(),
        Entry::Removed | Entry::Directory => 0,
    });
    (entries.count(), pages.sum())
}

#[test]
fn only_what_was_changed_takes_memory() {
    let below = SimulatedDisk::new(1);
    below.create_dir("d").unwrap();
    let file = below.create("d/f").unwrap();
    file.write_at(&[7; 1 << 20], 0).unwrap();
    let shadow = ShadowDisk::over(below);

    let (one, other) = (shadow.open("d/f").unwrap(), shadow.open("d/f").unwrap());
    assert_eq!(content(&*one), [7; 1 << 20]);
    drop(one);
    assert_eq!(held(&shadow), (1, 0), "a file that is open is known");
    drop(other);
    assert_eq!(held(&shadow), (0, 0), "a file that was only read is not");

    let file = shadow.open("d/f").unwrap();
    file.write_at(&[8; 2], 4095).unwrap();
    drop(file);
    assert_eq!(held(&shadow), (1, 2));
    let new = shadow.create("d/new").unwrap();
    new.allocate(64 << 20).unwrap();
    new.write_at(&vec![0; 1 << 20], 8 << 20).unwrap();
    assert_eq!(new.len().unwrap(), 64 << 20);
    assert_eq!(held(&shadow), (2, 2), "reserved space and zeros take none");
    new.write_at(&[1; 4096], 9 << 20).unwrap();
    new.write_at(&[0; 4096], 9 << 20).unwrap();
    let mut bytes = [7; 4096];
    new.read_at(&mut bytes, 9 << 20).unwrap();
    assert_eq!(bytes, [0; 4096], "zeros over something are written");
}

#[test]
fn a_page_that_was_written_is_not_read_below() {
    use crate::disk::simulated::Faults;
    let below = SimulatedDisk::new(1);
    let file = below.create("f").unwrap();
    file.write_at(&[7; 3 * 4096], 0).unwrap();
    let shadow = ShadowDisk::over(below.clone());
    let file = shadow.open("f").unwrap();
    below.set_faults(Faults {
        read_errors: 1_000_000,
        ..Faults::default()
    });
    assert!(file.write_at(&[8; 8192], 2048).is_err());
    file.write_at(&[8; 4096], 4096).unwrap();
    let mut bytes = [0; 4096];
    file.read_at(&mut bytes, 4096).unwrap();
    assert_eq!(bytes, [8; 4096]);
    assert!(file.read_at(&mut bytes, 4095).is_err());
}

/// A file that was moved away and back into a directory that is another one by now is as it is below, but
/// nothing below shows there: it must not be forgotten when it is closed.
#[test]
fn a_file_that_moved_is_kept() {
    let below = SimulatedDisk::new(1);
    below.create_dir("d").unwrap();
    below.create("d/f").unwrap();
    let shadow = ShadowDisk::over(below);
    shadow.rename("d/f", "f").unwrap();
    shadow.remove_dir("d").unwrap();
    shadow.create_dir("d").unwrap();
    shadow.rename("f", "d/f").unwrap();
    drop(shadow.open("d/f").unwrap());
    assert_eq!(shadow.read_dir("d").unwrap(), ["f"]);
}

fn config() -> LocalConfig {
    LocalConfig {
        pack_bytes: 64 << 10,
        index_cache_bytes: 1 << 20,
        ..LocalConfig::default()
    }
}

fn put(store: &mut recovery::Opened, key: &str, body: &'static [u8]) {
    let record = sample::object(body.len() as u64, Location::Here);
    let row = Key::Object(BucketId(1), key.into());
    let transaction = Transaction {
        changes: vec![Change::put(row, Record::Object(Box::new(record)))],
        body: Some(Body::new(bytes::Bytes::from_static(body))),
        ..Transaction::default()
    };
    store.committer.commit(vec![transaction]).remove(0).unwrap();
}

fn get(store: &recovery::Opened, key: &str) -> Option<Vec<u8>> {
    let row = Key::Object(BucketId(1), key.into());
    let Some(Record::Object(object)) = store.local.get(&row).unwrap() else {
        return None;
    };
    let body = store.local.open_inline(&object.location).unwrap().unwrap();
    Some(body.read(object.size, 0..object.size).unwrap().to_vec())
}

/// What `jay fsck` does, and more: the store replays its log, writes its last batch anew, takes more objects,
/// applies them and is opened again, all in the shadow.
#[test]
fn a_store_lives_in_the_shadow_of_its_disk() {
    let below = SimulatedDisk::new(1);
    let open = |disk: Arc<dyn Disk>| recovery::open(disk, config(), Env::real()).unwrap();
    let mut store = open(below.clone());
    put(&mut store, "applied", b"one");
    while store.applier.step().unwrap() {}
    put(&mut store, "in the log", b"two");
    drop(store);
    let (untouched, operations) = (User::new(&*below).everything(), below.operations());

    let shadow = ShadowDisk::over(below.clone());
    let mut store = open(shadow.clone());
    for n in 0..40 {
        put(&mut store, &format!("later {n}"), &[3; 4000]);
    }
    put(&mut store, "in the shadow", b"three");
    while store.applier.step().unwrap() {}
    drop(store);
    let store = open(shadow);
    for (key, body) in [
        ("applied", b"one".as_slice()),
        ("in the log", b"two"),
        ("later 39", &[3; 4000]),
        ("in the shadow", b"three"),
    ] {
        assert_eq!(get(&store, key).as_deref(), Some(body), "{key}");
    }
    drop(store);
    assert_eq!(below.operations(), operations);
    assert_eq!(User::new(&*below).everything(), untouched);
    let store = open(below);
    assert_eq!(
        get(&store, "in the log").as_deref(),
        Some(b"two".as_slice())
    );
    assert_eq!(get(&store, "in the shadow"), None);
}
