//! Each promise of the simulated disk, then redb over it.

use std::collections::BTreeSet;

use super::{random::Random, *};

fn contents(disk: &SimulatedDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// A disk with the durable file `f`.
fn disk_with(bytes: &[u8], seed: u64) -> (Arc<SimulatedDisk>, Arc<dyn DiskFile>) {
    let disk = SimulatedDisk::new(seed);
    let file = disk.create("f").unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    (disk, file)
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.err().expect("an error").kind()
}

#[test]
fn what_was_not_synced_may_vanish_and_may_survive() {
    for (survival, expected) in [
        (Survival::Nothing, b"old content"),
        (Survival::Everything, b"new content"),
    ] {
        let (disk, file) = disk_with(b"old content", 1);
        file.write_at(b"new", 0).unwrap();
        assert_eq!(contents(&disk, "f"), b"new content");
        assert_eq!(disk.durable_snapshot()["f"], b"old content");
        disk.crash_as(survival);
        assert_eq!(contents(&disk, "f"), expected);
    }
}

#[test]
fn what_was_synced_survives_every_cut() {
    for seed in 0..200 {
        let (disk, file) = disk_with(&[1; 9000], seed);
        file.write_at(&[2; 5000], 3000).unwrap();
        file.set_len(8500).unwrap();
        file.sync_data().unwrap();
        let expected = contents(&disk, "f");
        disk.crash();
        assert_eq!(contents(&disk, "f"), expected);
        assert_eq!(disk.durable_snapshot()["f"], expected);
    }
}

#[test]
fn a_name_is_lost_without_sync_dir() {
    let disk = SimulatedDisk::new(1);
    disk.create_dir("d").unwrap();
    let file = disk.create("d/f").unwrap();
    file.write_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("d").unwrap();
    disk.crash_as(Survival::Nothing);
    assert_eq!(
        kind(disk.read_dir("d")),
        io::ErrorKind::NotFound,
        "the parent was not synced"
    );

    disk.create_dir("d").unwrap();
    disk.sync_dir("").unwrap();
    let file = disk.create("d/f").unwrap();
    file.sync_data().unwrap();
    disk.crash_as(Survival::Nothing);
    assert_eq!(disk.read_dir("d").unwrap().len(), 0);

    disk.create("d/f").unwrap();
    disk.sync_dir("d").unwrap();
    disk.crash_as(Survival::Nothing);
    assert_eq!(disk.live_files(), ["d/f"]);
}

#[test]
fn a_removed_name_comes_back_with_its_durable_content() {
    let (disk, file) = disk_with(b"old", 1);
    file.write_at(b"new", 0).unwrap();
    disk.unlink("f").unwrap();
    assert_eq!(kind(disk.open("f")), io::ErrorKind::NotFound);
    let mut bytes = [0; 3];
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"new", "an unlinked file stays readable");
    disk.crash_as(Survival::Nothing);
    assert_eq!(contents(&disk, "f"), b"old");
    disk.unlink("f").unwrap();
    disk.sync_dir("").unwrap();
    disk.crash_as(Survival::Nothing);
    assert_eq!(disk.live_files().len(), 0);
}

#[test]
fn a_rename_happens_entirely_or_not_at_all() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let (disk, _) = disk_with(b"x", seed);
        disk.rename("f", "g").unwrap();
        assert_eq!(kind(disk.rename("f", "h")), io::ErrorKind::NotFound);
        disk.crash();
        outcomes.insert(disk.live_files());
    }
    assert_eq!(
        outcomes,
        BTreeSet::from([vec!["f".to_owned()], vec!["g".to_owned()]])
    );
}

#[test]
fn a_move_between_directories_may_show_both_names_but_never_none() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..300 {
        let (disk, _) = disk_with(b"x", seed);
        disk.create_dir("d").unwrap();
        disk.sync_dir("").unwrap();
        disk.rename("f", "d/f").unwrap();
        if seed % 3 == 0 {
            disk.sync_dir("").unwrap();
            disk.crash();
            assert_eq!(
                disk.live_files(),
                ["d/f"],
                "the old name does not go before the new one"
            );
        } else {
            disk.crash();
            outcomes.insert(disk.live_files());
        }
    }
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    assert!(!outcomes.contains(&vec![]));
}

#[test]
fn an_unnamed_file_vanishes_unless_it_is_linked() {
    let disk = SimulatedDisk::new(1);
    let file = disk.create_unnamed("").unwrap();
    file.write_at(b"body", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.live_files().len(), 0);
    disk.create("taken").unwrap();
    assert_eq!(
        kind(disk.link(&*file, "taken")),
        io::ErrorKind::AlreadyExists
    );
    disk.link(&*file, "f").unwrap();
    disk.sync_dir("").unwrap();
    let other = disk.create_unnamed("").unwrap();
    disk.crash_as(Survival::Everything);
    assert_eq!(contents(&disk, "f"), b"body");
    assert_eq!(disk.live_files(), ["f", "taken"]);
    assert_eq!(kind(disk.link(&*other, "g")), io::ErrorKind::Other);
}

#[test]
fn verbs_refuse_as_the_system_does() {
    let (disk, file) = disk_with(b"x", 1);
    disk.create_dir("d").unwrap();
    disk.create_dir("d").unwrap();
    disk.create("d/g").unwrap();
    assert_eq!(kind(disk.create_dir("f")), io::ErrorKind::NotADirectory);
    assert_eq!(kind(disk.create("f")), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.create("none/f")), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.rename("f", "d/g")), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.remove_dir("d")), io::ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(disk.unlink("d")), io::ErrorKind::IsADirectory);
    assert_eq!(
        kind(file.read_at(&mut [0; 2], 0)),
        io::ErrorKind::UnexpectedEof
    );
    file.read_at(&mut [], 1).unwrap();
    disk.unlink("d/g").unwrap();
    disk.remove_dir("d").unwrap();
    assert_eq!(kind(disk.read_dir("d")), io::ErrorKind::NotFound);
}

#[test]
fn writes_are_torn_at_sectors_and_nowhere_else() {
    let mut torn = 0;
    for seed in 0..300 {
        let (disk, file) = disk_with(&[1; 16384], seed);
        file.write_at(&[2; 16384], 0).unwrap();
        disk.crash();
        let bytes = contents(&disk, "f");
        let sectors: Vec<_> = bytes.chunks(512).collect();
        assert!(
            sectors
                .iter()
                .all(|sector| sector.iter().all(|byte| byte == &sector[0]))
        );
        torn += u32::from(sectors.iter().any(|sector| sector[0] != sectors[0][0]));
    }
    assert!((30..200).contains(&torn), "{torn} of 300 writes were torn");
}

#[test]
fn a_failed_sync_forgets_what_it_did_not_write() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..300 {
        let (disk, file) = disk_with(&[1; 8192], seed);
        file.write_at(&[2; 8192], 0).unwrap();
        disk.fail_sync_after(1);
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
        assert_eq!(contents(&disk, "f"), [2; 8192], "readers still see it");
        file.write_at(&[3; 100], 4096).unwrap();
        file.sync_data().unwrap();
        disk.crash();
        let bytes = contents(&disk, "f");
        assert_eq!(bytes[4096..4196], [3; 100]);
        assert_eq!(bytes[4196..], [2; 3996], "a page written anew is whole");
        lost += u32::from(bytes[..4096].contains(&1));
        kept += u32::from(bytes[..4096].contains(&2));
    }
    assert!(lost > 50 && kept > 50, "{lost} lost, {kept} kept");
}

#[test]
fn a_failed_directory_sync_leaves_its_changes_pending() {
    for seed in 0..100 {
        let disk = SimulatedDisk::new(seed);
        for name in ["a", "b", "c"] {
            disk.create(name).unwrap();
        }
        disk.fail_sync_after(1);
        disk.sync_dir("").unwrap_err();
        disk.sync_dir("").unwrap();
        disk.crash();
        assert_eq!(disk.live_files(), ["a", "b", "c"]);
    }
}

#[test]
fn the_power_goes_at_the_chosen_operation() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let (disk, file) = disk_with(b"00", seed);
        let before = disk.operations();
        disk.crash_at(2);
        file.write_at(b"1", 0).unwrap();
        assert!(disk.is_powered());
        assert_eq!(kind(file.write_at(b"2", 1)), io::ErrorKind::Other);
        assert!(!disk.is_powered());
        assert_eq!(kind(file.sync_data()), io::ErrorKind::Other);
        assert_eq!(kind(disk.open("f")), io::ErrorKind::Other);
        assert_eq!(kind(disk.read_dir("")), io::ErrorKind::Other);
        assert_eq!(disk.operations(), before + 2);
        disk.crash_as(Survival::Everything);
        outcomes.insert(contents(&disk, "f"));
    }
    assert_eq!(outcomes, BTreeSet::from([b"10".to_vec(), b"12".to_vec()]));
}

#[test]
fn handles_die_with_the_machine() {
    let (disk, file) = disk_with(b"x", 1);
    disk.crash();
    assert_eq!(kind(file.len()), io::ErrorKind::Other);
    assert_eq!(kind(file.read_at(&mut [0], 0)), io::ErrorKind::Other);
    assert_eq!(kind(file.write_at(b"y", 0)), io::ErrorKind::Other);
    assert_eq!(kind(file.sync_data()), io::ErrorKind::Other);
    assert_eq!(contents(&disk, "f"), b"x");
}

#[test]
fn faults_come_at_their_rates_and_reserved_space_does_not_run_out() {
    let (disk, file) = disk_with(&[0; 4096], 1);
    file.allocate(8192).unwrap();
    let always = 1_000_000;
    disk.set_faults(Faults {
        full_on_write: always,
        full_on_create: always,
        full_on_allocate: always,
        read_errors: always / 2,
        ..Faults::default()
    });
    assert_eq!(kind(disk.create("g")), io::ErrorKind::StorageFull);
    assert_eq!(kind(file.allocate(8193)), io::ErrorKind::StorageFull);
    assert_eq!(
        kind(file.write_at(&[1; 4097], 4096)),
        io::ErrorKind::StorageFull
    );
    file.allocate(8192).unwrap();
    file.write_at(&[1; 4096], 4096).unwrap();
    let failures = (0..1000)
        .filter(|_| file.read_at(&mut [0], 0).is_err())
        .count();
    assert!((400..600).contains(&failures), "{failures}");
    disk.set_faults(Faults {
        write_errors: always,
        sync_errors: always,
        ..Faults::default()
    });
    assert_eq!(file.write_at(b"x", 0).unwrap_err().raw_os_error(), Some(5));
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
}

/// What is left after a verb that answered an I/O error: as before it or as if it had been done.
fn after_an_error(seed: u64, faults: Faults, verb: fn(&SimulatedDisk) -> io::Result<()>) -> String {
    let disk = SimulatedDisk::new(seed);
    disk.create_dir("d").unwrap();
    disk.create("f").unwrap().write_at(b"1234", 0).unwrap();
    disk.set_faults(faults);
    let error = verb(&disk).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5), "{error}");
    disk.set_faults(Faults::default());
    let names = disk.read_dir("").unwrap();
    let files = disk.live_files().into_iter();
    let files: Vec<_> = files.map(|path| (contents(&disk, &path), path)).collect();
    format!("{names:?} {files:?}")
}

#[test]
fn any_verb_may_answer_an_error_and_may_be_done_all_the_same() {
    type Verb = fn(&SimulatedDisk) -> io::Result<()>;
    const ALWAYS: u32 = 1_000_000;
    let none = Faults::default();
    macro_rules! faults {
        ($rate:ident) => {
            Faults {
                $rate: ALWAYS,
                ..none.clone()
            }
        };
    }
    // How many outcomes there are: a verb that changes nothing has one.
    let verbs: [(Faults, usize, Verb); 14] = [
        (faults!(create_dir_errors), 2, |disk| disk.create_dir("e")),
        (faults!(remove_dir_errors), 2, |disk| disk.remove_dir("d")),
        (faults!(open_errors), 1, |disk| disk.open("f").map(drop)),
        (faults!(create_errors), 2, |disk| disk.create("g").map(drop)),
        (faults!(create_errors), 1, |disk| {
            disk.create_unnamed("").map(drop)
        }),
        (faults!(link_errors), 2, |disk| {
            disk.link(&*disk.create_unnamed("")?, "g")
        }),
        (faults!(rename_errors), 2, |disk| disk.rename("f", "d/f")),
        (faults!(unlink_errors), 2, |disk| disk.unlink("f")),
        (faults!(read_dir_errors), 1, |disk| {
            disk.read_dir("").map(drop)
        }),
        (faults!(read_errors), 1, |disk| {
            disk.open("f")?.read_at(&mut [0], 0)
        }),
        (faults!(len_errors), 1, |disk| {
            disk.open("f")?.len().map(drop)
        }),
        (faults!(set_len_errors), 2, |disk| {
            disk.open("f")?.set_len(2)
        }),
        (faults!(allocate_errors), 2, |disk| {
            disk.open("f")?.allocate(8)
        }),
        (faults!(write_errors), 2, |disk| {
            disk.open("f")?.write_at(b"56", 0)
        }),
    ];
    for (faults, outcomes, verb) in verbs {
        let run = |seed| after_an_error(seed, faults.clone(), verb);
        let seen: BTreeSet<String> = (0..50).map(run).collect();
        assert_eq!(seen.len(), outcomes, "{faults:?}: {seen:?}");
    }
}

const PAGE: u64 = PAGE_BYTES as u64;

#[test]
fn a_full_disk_takes_what_fits_and_has_space_again_when_files_go() {
    let (disk, file) = disk_with(&[1; 4096], 1);
    disk.set_capacity(Some(4 * PAGE + 5));
    assert_eq!(disk.used_bytes(), PAGE);
    // Four pages: one is written over, two fit, the fourth has none.
    disk.create("g").unwrap().allocate(PAGE).unwrap();
    assert_eq!(
        kind(file.write_at(&[2; 16000], 100)),
        io::ErrorKind::StorageFull
    );
    assert_eq!(contents(&disk, "f").len() as u64, 3 * PAGE);
    assert_eq!(disk.used_bytes(), 4 * PAGE);
    assert_eq!(
        kind(file.write_at(&[2], 3 * PAGE)),
        io::ErrorKind::StorageFull
    );
    assert_eq!(contents(&disk, "f").len() as u64, 3 * PAGE);
    assert_eq!(
        kind(file.allocate(3 * PAGE + 1)),
        io::ErrorKind::StorageFull
    );

    // What is there can be written over, what is reserved can be written, what is empty takes nothing.
    file.write_at(&[3; 100], 2 * PAGE).unwrap();
    let reserved = disk.open("g").unwrap();
    assert_eq!(
        kind(reserved.write_at(&[4; 5000], 0)),
        io::ErrorKind::StorageFull
    );
    assert_eq!(contents(&disk, "g"), [4; 4096]);
    file.allocate(3 * PAGE).unwrap();
    file.set_len(1 << 30).unwrap();
    disk.create("empty").unwrap().set_len(PAGE).unwrap();
    assert_eq!(disk.used_bytes(), 4 * PAGE);

    disk.unlink("g").unwrap();
    assert_eq!(
        kind(file.write_at(&[2], 3 * PAGE)),
        io::ErrorKind::StorageFull
    );
    drop(reserved);
    file.write_at(&[2], 3 * PAGE).unwrap();
    file.set_len(PAGE).unwrap();
    assert_eq!(disk.used_bytes(), PAGE);

    let unnamed = disk.create_unnamed("").unwrap();
    unnamed.write_at(&[5; 3 * 4096], 0).unwrap();
    assert_eq!(kind(disk.open("g").map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(file.write_at(&[2], PAGE)), io::ErrorKind::StorageFull);
    disk.restart();
    assert_eq!(
        disk.used_bytes(),
        PAGE,
        "the process that had it open is gone"
    );
    disk.open("f").unwrap().allocate(4 * PAGE).unwrap();
    disk.crash_as(Survival::Nothing);
    assert_eq!(disk.used_bytes(), PAGE);
    disk.set_capacity(None);
    disk.open("f").unwrap().allocate(1 << 30).unwrap();
}

#[test]
fn verbs_take_their_time() {
    let (disk, file) = disk_with(b"x", 1);
    let told = Arc::new(Mutex::new(Vec::new()));
    let clock = told.clone();
    disk.set_clock(move |ms| clock.lock().unwrap().push(ms));
    disk.sync_dir("").unwrap();
    assert_eq!(told.lock().unwrap().len(), 0);
    disk.set_faults(Faults {
        delays: 500_000,
        delay_ms_max: 3000,
        ..Faults::default()
    });
    for _ in 0..100 {
        file.read_at(&mut [0], 0).unwrap();
        file.sync_data().unwrap();
        disk.read_dir("").unwrap();
    }
    let told = told.lock().unwrap();
    assert!((100..200).contains(&told.len()), "{}", told.len());
    assert!(told.iter().all(|ms| (1..=3000).contains(ms)));
    assert!(told.iter().any(|&ms| ms > 2000));
}

#[test]
fn bits_rot_at_rest() {
    let (disk, _) = disk_with(&[0b1010; 5000], 1);
    disk.corrupt("f", 4999, 0b0110).unwrap();
    assert_eq!(
        kind(disk.corrupt("f", 5000, 1)),
        io::ErrorKind::UnexpectedEof
    );
    disk.crash();
    assert_eq!(contents(&disk, "f")[4998..], [0b1010, 0b1100]);
}

#[test]
fn the_same_seed_gives_the_same_accidents() {
    let run = |seed| {
        let (disk, _) = disk_with(&[1; 20_000], 7);
        let disk = disk.fork(seed);
        disk.set_lies(Lies {
            lost_writes: 300_000,
            misdirected_writes: 300_000,
        });
        disk.set_faults(Faults {
            create_errors: 300_000,
            ..Faults::default()
        });
        for round in 0..20 {
            let file = disk.open("f").unwrap();
            file.write_at(&[round; 10_000], u64::from(round) * 700)
                .unwrap();
            let _ = disk.create(&format!("g{round}"));
            file.sync_data().unwrap();
            disk.crash();
        }
        (disk.durable_snapshot(), disk.damages())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_fork_leaves_its_origin_alone() {
    let (disk, file) = disk_with(b"one", 1);
    let fork = disk.fork(2);
    fork.open("f").unwrap().write_at(b"two", 0).unwrap();
    fork.create("g").unwrap();
    file.write_at(b"six", 0).unwrap();
    assert_eq!(contents(&fork, "f"), b"two");
    assert_eq!(contents(&disk, "f"), b"six");
    assert_eq!(disk.live_files(), ["f"]);
}

/// The pages in which two contents differ.
fn differing(one: &[u8], other: &[u8]) -> BTreeSet<u64> {
    assert_eq!(one.len(), other.len());
    let pages = one.chunks(PAGE_BYTES).zip(other.chunks(PAGE_BYTES));
    let differing = pages.enumerate().filter(|(_, (one, other))| one != other);
    differing.map(|(page, _)| page as u64).collect()
}

/// Three pages of different bytes.
fn three_pages() -> Vec<u8> {
    [[2; PAGE_BYTES], [3; PAGE_BYTES], [4; PAGE_BYTES]].concat()
}

/// Makes the disk lie about one write of three pages, and syncs it.
fn lie_about_three_pages(seed: u64, lie: Lie) -> Arc<SimulatedDisk> {
    let (disk, file) = disk_with(&[1; 3 * PAGE_BYTES], seed);
    let other = disk.create("g").unwrap();
    other.write_at(&[7; 9000], 0).unwrap();
    other.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    disk.lie_about(2, lie);
    file.write_at(&[1; 3 * PAGE_BYTES], 0).unwrap();
    file.write_at(&three_pages(), 0).unwrap();
    assert_eq!(contents(&disk, "f"), three_pages());
    assert_eq!(disk.damages(), [], "the sync is still to come");
    file.sync_data().unwrap();
    disk
}

#[test]
fn a_lost_write_leaves_what_was_there_before() {
    let (mut at_once, mut of, mut sizes) = (0, 0, BTreeSet::new());
    for seed in 0..100 {
        let disk = lie_about_three_pages(seed, Lie::Lost);
        let before_the_cut = contents(&disk, "f");
        let [damage] = &disk.damages()[..] else {
            panic!("seed {seed}: {:?}", disk.damages());
        };
        assert_eq!((damage.path.as_str(), damage.harm), ("f", Harm::Lost));
        disk.crash();
        let after = contents(&disk, "f");
        let lost: BTreeSet<u64> = damage.pages.clone().collect();
        assert_eq!(differing(&after, &three_pages()), lost);
        for page in &lost {
            let bytes = &after[*page as usize * PAGE_BYTES..][..PAGE_BYTES];
            assert!(bytes.iter().all(|&byte| byte == 1));
        }
        sizes.insert(lost.len());
        let seen = differing(&before_the_cut, &three_pages());
        assert!(seen.is_subset(&lost));
        at_once += seen.len();
        of += lost.len();

        let file = disk.open("f").unwrap();
        file.write_at(&[3; 3 * PAGE_BYTES], 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(disk.damages(), [], "written anew");
        disk.crash_as(Survival::Nothing);
        assert_eq!(contents(&disk, "f"), [3; 3 * PAGE_BYTES]);
    }
    assert!((of / 4..of / 4 * 3).contains(&at_once), "{at_once} of {of}");
    assert_eq!(sizes, BTreeSet::from([1, 2, 3]));
}

#[test]
fn a_misdirected_write_lands_in_another_page() {
    let mut victims = BTreeSet::new();
    for seed in 0..100 {
        let disk = lie_about_three_pages(seed, Lie::Misdirected);
        disk.crash();
        let files = BTreeMap::from(["f", "g"].map(|path| (path, contents(&disk, path))));
        let damages = disk.damages();
        let [away, to] = [Harm::Misdirected, Harm::Overwritten].map(|harm| {
            let mut of_it = damages.iter().filter(|damage| damage.harm == harm);
            let damage = of_it.next().expect("one of each");
            assert_eq!(damage.pages.end - damage.pages.start, 1);
            (damage.path.as_str(), damage.pages.start)
        });
        assert_eq!(
            (damages.len(), away.0),
            (2, "f"),
            "seed {seed}: {damages:?}"
        );
        let mut expected = BTreeMap::from([("f", three_pages()), ("g", vec![7; 9000])]);
        for ((path, page), byte) in [(away, 1), (to, away.1 as u8 + 2)] {
            let bytes = &mut expected.get_mut(path).unwrap()[page as usize * PAGE_BYTES..];
            let len = bytes.len().min(PAGE_BYTES);
            bytes[..len].fill(byte);
        }
        assert_eq!(files, expected, "seed {seed}: {damages:?}");
        victims.insert(to.0.to_owned());
    }
    assert_eq!(victims.len(), 2, "{victims:?}");
}

#[test]
fn nothing_is_a_lie_that_was_not_synced() {
    for seed in 0..50 {
        let (disk, file) = disk_with(&[1; 8192], seed);
        disk.lie_about(1, Lie::Lost);
        file.write_at(&[2; 8192], 0).unwrap();
        disk.fail_sync_after(1);
        file.sync_data().unwrap_err();
        file.write_at(&[5; 8192], 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(disk.damages(), []);
        disk.lie_about(1, Lie::Misdirected);
        file.write_at(&[3; 8192], 0).unwrap();
        disk.crash();
        assert_eq!(disk.damages(), []);
        let file = disk.open("f").unwrap();
        file.write_at(&[4; 8192], 0).unwrap();
        file.sync_data().unwrap();
        disk.crash_as(Survival::Nothing);
        assert_eq!(contents(&disk, "f"), [4; 8192]);
    }
}

/// The same changes on a disk that lies and on an honest one: what differs is what the disk says is damaged.
#[test]
fn the_disk_knows_what_it_has_damaged() {
    let (mut damaged, mut differed) = (0, 0);
    for seed in 0..1000 {
        let mut random = Random::new(seed);
        let (honest, _) = disk_with(&[255; 30_000], seed);
        let liar = honest.fork(seed);
        for disk in [&honest, &liar] {
            disk.create("g").unwrap().write_at(&[254; 9000], 0).unwrap();
            disk.open("g").unwrap().sync_data().unwrap();
            disk.sync_dir("").unwrap();
        }
        liar.set_lies(Lies {
            lost_writes: 100_000,
            misdirected_writes: 100_000,
        });
        for step in 0..40 {
            let path = ["f", "g"][random.below(2) as usize];
            let verb = random.below(16);
            let (at, len) = (random.below(20_000), 1 + random.below(9000));
            for disk in [&honest, &liar] {
                let file = disk.open(path).unwrap();
                match verb {
                    0 => file.set_len(at).unwrap(),
                    1 => disk.crash_as(Survival::Everything),
                    2..8 => file.sync_data().unwrap(),
                    _ => file.write_at(&vec![step; len as usize], at).unwrap(),
                }
            }
        }
        for disk in [&honest, &liar] {
            disk.open("f").unwrap().sync_data().unwrap();
            disk.open("g").unwrap().sync_data().unwrap();
            disk.crash_as(Survival::Nothing);
        }
        let mut told = BTreeSet::new();
        for Damage { path, pages, .. } in liar.damages() {
            told.extend(pages.map(|page| (path.clone(), page)));
        }
        let mut found = BTreeSet::new();
        for path in ["f", "g"] {
            let pages = differing(&contents(&honest, path), &contents(&liar, path));
            found.extend(pages.into_iter().map(|page| (path.to_owned(), page)));
        }
        assert!(found.is_subset(&told), "seed {seed}: {found:?} {told:?}");
        (damaged, differed) = (damaged + told.len(), differed + found.len());
    }
    assert!(
        damaged > 1000 && differed * 10 > damaged * 8,
        "{differed} of {damaged}"
    );
}

#[test]
fn files_are_damaged_at_rest() {
    let (disk, file) = disk_with(&[1; 3 * PAGE_BYTES], 1);
    file.write_at(&[2; 2 * PAGE_BYTES], 0).unwrap();
    file.sync_data().unwrap();
    let other = disk.create("g").unwrap();
    other.write_at(&[7; 5000], 0).unwrap();
    other.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    disk.crash();

    assert!(disk.lose_page("f", 0).unwrap());
    assert!(!disk.lose_page("f", 0).unwrap(), "it is lost already");
    assert!(
        !disk.misdirect_page(("f", 1), ("g", 1)).unwrap(),
        "written later"
    );
    assert!(disk.misdirect_page(("g", 1), ("f", 1)).unwrap());
    assert!(disk.lose_page("g", 2).is_err() && disk.misdirect_page(("f", 0), ("g", 2)).is_err());
    let told = [
        ("f", 0, Harm::Lost),
        ("f", 1, Harm::Overwritten),
        ("g", 1, Harm::Misdirected),
    ];
    let told = told.map(|(path, page, harm)| Damage {
        path: path.into(),
        pages: page..page + 1,
        harm,
    });
    assert_eq!(disk.damages(), told);
    let mut overwritten = [1; 3 * PAGE_BYTES];
    overwritten[PAGE_BYTES..2 * PAGE_BYTES].fill(0);
    overwritten[PAGE_BYTES..][..904].fill(7);
    assert_eq!(contents(&disk, "f"), overwritten);
    assert_eq!(contents(&disk, "g"), [&[7; 4096][..], &[0; 904]].concat());

    disk.truncate_at_rest("g", 4000).unwrap();
    assert_eq!(
        kind(disk.truncate_at_rest("g", 4000)),
        io::ErrorKind::UnexpectedEof
    );
    disk.crash();
    assert_eq!(contents(&disk, "g"), [7; 4000]);
    assert_eq!(disk.damages(), told[..2]);
    let file = disk.open("g").unwrap();
    assert_eq!(
        kind(file.read_at(&mut [0], 4000)),
        io::ErrorKind::UnexpectedEof
    );
    file.set_len(5000).unwrap();
    assert_eq!(contents(&disk, "g"), [&[7; 4000][..], &[0; 1000]].concat());
}

#[test]
fn a_lost_page_goes_back_by_one_write() {
    let (disk, file) = disk_with(&[1; PAGE_BYTES], 1);
    file.write_at(&[2; PAGE_BYTES], 0).unwrap();
    disk.crash_as(Survival::Everything);
    assert!(disk.lose_page("f", 0).unwrap());
    assert_eq!(
        contents(&disk, "f"),
        [1; PAGE_BYTES],
        "the write that no sync covered"
    );

    let file = disk.open("f").unwrap();
    file.write_at(&[3; PAGE_BYTES], 0).unwrap();
    file.sync_data().unwrap();
    file.set_len(0).unwrap();
    file.allocate(4 * PAGE).unwrap();
    file.sync_data().unwrap();
    assert!(
        !disk.lose_page("f", 0).unwrap(),
        "what was cut off is no more"
    );
    assert_eq!(contents(&disk, "f"), [0; 4 * PAGE_BYTES]);
    disk.truncate_at_rest("f", PAGE).unwrap();
    assert_eq!(disk.used_bytes(), PAGE);
}

/// Random changes of one file: after a cut each byte is one it was since the last sync, and so is the
/// length; without cuts of the file the same holds of each sector as a whole.
#[test]
fn after_a_cut_everything_is_as_it_was_at_some_moment_since_the_sync() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let shrinks = seed % 2 == 0;
        let (disk, _) = disk_with(&[255; 6000], seed);
        for _ in 0..3 {
            let file = disk.open("f").unwrap();
            let mut versions = vec![contents(&disk, "f")];
            let mut failed = false;
            for step in 0..random.below(12) {
                match random.below(8) {
                    0 if shrinks => file.set_len(random.below(16_000)).unwrap(),
                    1 => file.allocate(random.below(16_000)).unwrap(),
                    2 => {
                        file.sync_data().unwrap();
                        if !failed {
                            versions.clear();
                        }
                    }
                    3 if random.below(8) == 0 => {
                        disk.fail_sync_after(1);
                        file.sync_data().unwrap_err();
                        failed = true;
                    }
                    _ => {
                        let bytes = vec![step as u8 + 1; 1 + random.below(7000) as usize];
                        file.write_at(&bytes, random.below(8000)).unwrap();
                    }
                }
                versions.push(contents(&disk, "f"));
            }
            disk.crash();
            let left = contents(&disk, "f");
            assert_eq!(left, disk.durable_snapshot()["f"], "seed {seed}");
            check_versions(seed, &left, &versions, if shrinks { 1 } else { 512 });
        }
    }
}

fn check_versions(seed: u64, left: &[u8], versions: &[Vec<u8>], unit: usize) {
    assert!(
        versions.iter().any(|version| version.len() == left.len()),
        "seed {seed}: length"
    );
    for (n, part) in left.chunks(unit).enumerate() {
        let at = |version: &Vec<u8>| -> Vec<u8> {
            let bytes = version.iter().skip(n * unit).copied();
            bytes.chain(std::iter::repeat(0)).take(part.len()).collect()
        };
        assert!(
            versions.iter().any(|version| at(version) == part),
            "seed {seed}: part {n}"
        );
    }
}

/// What the disk itself costs a simulated run: run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn a_run_of_writes_and_cuts() {
    const RUNS: u32 = 1000;
    let (template, file) = disk_with(&[0; 4096], 1);
    file.allocate(64 << 20).unwrap();
    file.sync_data().unwrap();
    let start = std::time::Instant::now();
    for seed in 0..u64::from(RUNS) {
        let disk = template.fork(seed);
        for life in 0..5 {
            let file = disk.open("f").unwrap();
            for step in 0..60 {
                file.write_at(&[step; 4096], (life * 60 + u64::from(step)) * 4096)
                    .unwrap();
                if step % 3 == 0 {
                    file.sync_data().unwrap();
                }
            }
            for name in 0..5 {
                let body = disk.create_unnamed("").unwrap();
                body.write_at(&[7; 20_000], 0).unwrap();
                body.sync_data().unwrap();
                disk.link(&*body, &format!("body-{life}-{name}")).unwrap();
                disk.sync_dir("").unwrap();
            }
            disk.crash();
        }
    }
    println!("300 writes, 25 files, 5 cuts: {:?}", start.elapsed() / RUNS);
}
