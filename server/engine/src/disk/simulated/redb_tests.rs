//! redb over the simulated disk: after every power cut it opens, and holds a state that was committed.

use std::time::{Duration, Instant};

use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
};

use super::{random::Random, *};

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("table");

struct Backend(Arc<dyn DiskFile>);

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}

type State = BTreeMap<u64, Vec<u8>>;

fn open(disk: &SimulatedDisk) -> Result<Database, redb::DatabaseError> {
    let file = disk.open("index.redb").map_err(redb::StorageError::from)?;
    redb::Builder::new()
        .set_cache_size(1 << 20)
        .create_with_backend(Backend(file))
}

/// A disk with an empty database, closed.
fn prepared() -> Arc<SimulatedDisk> {
    let disk = SimulatedDisk::new(0);
    disk.create("index.redb").unwrap();
    disk.sync_dir("").unwrap();
    drop(open(&disk).unwrap());
    disk
}

/// Commits a few random changes; `state` is what the database holds if it succeeds.
fn commit(db: &Database, state: &mut State, random: &mut Random) -> Result<(), redb::Error> {
    let mut transaction = db.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    {
        let mut table = transaction.open_table(TABLE)?;
        for _ in 0..1 + random.below(16) {
            let key = random.below(200);
            if random.below(4) == 0 {
                table.remove(key)?;
                state.remove(&key);
            } else {
                let value = vec![random.next() as u8; random.below(600) as usize];
                table.insert(key, &value[..])?;
                state.insert(key, value);
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn held(db: &Database) -> Result<State, redb::Error> {
    let transaction = db.begin_read()?;
    let table = match transaction.open_table(TABLE) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(State::new()),
        Err(error) => return Err(error.into()),
    };
    table
        .iter()?
        .map(|entry| entry.map(|(key, value)| (key.value(), value.value().to_vec())))
        .collect::<Result<_, _>>()
        .map_err(redb::Error::from)
}

/// Several lives of one database, each ended by a power cut at a random operation.
fn live_and_crash(template: &SimulatedDisk, seed: u64) {
    let mut random = Random::new(seed);
    let disk = template.fork(seed);
    let mut acknowledged = State::new();
    let mut in_flight = None;
    for life in 0..5 {
        disk.crash_at(1 + random.below(60));
        let lived = (|| -> Result<(), redb::Error> {
            let db = open(&disk)?;
            let found = held(&db)?;
            assert!(
                found == acknowledged || Some(&found) == in_flight.as_ref(),
                "seed {seed}, life {life}: holds what was never committed"
            );
            acknowledged = found;
            in_flight = None;
            loop {
                let mut next = acknowledged.clone();
                // The closure may end in any step of the commit.
                let result = commit(&db, &mut next, &mut random);
                if let Err(error) = result {
                    in_flight = Some(next);
                    return Err(error);
                }
                acknowledged = next;
            }
        })();
        assert!(!disk.is_powered(), "seed {seed}, life {life}: {lived:?}");
        disk.crash();
    }
    let found = held(&open(&disk).unwrap()).unwrap();
    assert!(
        found == acknowledged || Some(found) == in_flight,
        "seed {seed}"
    );
}

#[test]
fn redb_holds_a_committed_state_after_every_cut() {
    let template = prepared();
    for seed in 0..300 {
        live_and_crash(&template, seed);
    }
}

#[test]
fn redb_whose_creation_was_cut_opens_empty_or_is_refused_as_no_database() {
    for seed in 0..100 {
        let disk = SimulatedDisk::new(seed);
        disk.create("index.redb").unwrap();
        disk.sync_dir("").unwrap();
        disk.crash_at(1 + seed % 6);
        let _ = open(&disk);
        disk.crash();
        match open(&disk) {
            Ok(db) => assert_eq!(held(&db).unwrap(), State::new()),
            Err(error) => assert!(error.to_string().contains("magic number"), "{error}"),
        };
    }
}

/// What a cycle costs: `cargo test --release -- --ignored --nocapture redb_cycle`.
#[test]
#[ignore = "a measurement"]
fn redb_cycle() {
    const ROUNDS: u32 = 500;
    let template = prepared();
    let mut spent = [Duration::ZERO; 7];
    for seed in 0..u64::from(ROUNDS) {
        let mut random = Random::new(seed);
        let mut state = State::new();
        let mut last = Instant::now();
        let mut lap = |n: usize| {
            spent[n] += last.elapsed();
            last = Instant::now();
        };
        drop(prepared());
        lap(0);
        let disk = template.fork(seed);
        lap(1);
        let db = open(&disk).unwrap();
        lap(2);
        commit(&db, &mut state, &mut random).unwrap();
        lap(3);
        for _ in 0..10 {
            commit(&db, &mut state, &mut random).unwrap();
        }
        lap(4);
        disk.crash();
        drop(db);
        lap(5);
        assert_eq!(held(&open(&disk).unwrap()).unwrap(), state);
        lap(6);
    }
    let names = [
        "create+close",
        "fork",
        "open",
        "first commit",
        "10 commits",
        "crash",
        "open+read+close",
    ];
    for (name, spent) in names.iter().zip(spent) {
        println!("{name}: {:?}", spent / ROUNDS);
    }
}
