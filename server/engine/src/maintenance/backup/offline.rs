//! Backups of directories that no server has open: `jay backup` without a server.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Backup, BackupError, BackupInfo, BackupOptions, BackupReport, Damage, Progress, Restore,
    RestoreOptions, RestoreReport, Step, UnreadableBackup, Vault, Verify, VerifyReport, not_done,
    vault,
};
use crate::{
    disk::{
        Disk,
        real::{LockGuard, RealDisk},
    },
    engine::{open_disk, unobtrusive},
    env::Env,
    error::{Error, ErrorKind},
    maintenance::{
        scrub::{ScrubConfig, ScrubExtent, Scrubber},
        verify::{self as bodies, Depth},
    },
    meta::{
        key::{Key, after_prefix, tag},
        local::{
            Local, format,
            recovery::{self, Opened},
        },
        record::Record,
    },
    service::quarantine,
};

/// Objects in quarantine that are told one by one; more are only counted.
const TOLD_MAX: usize = 1000;
/// Rows that are looked up together.
const ROWS: usize = 256;
/// Rows that may wait for the index while a restored store is checked.
const WAITING_ROWS_MAX: usize = 10_000;

/// Told of every step.
pub type OnProgress<'a> = &'a mut dyn FnMut(&Progress);

/// Makes a backup of the store in `data_dir` in the directory `to`.
pub fn create(
    data_dir: &Path,
    to: &Path,
    options: BackupOptions,
    progress: OnProgress,
) -> Result<BackupReport, BackupError> {
    let store_id = must_be_a_store(data_dir)?;
    must_be_apart(data_dir, to)?;
    let (disk, _lock) = open_disk(data_dir)?;
    let (vault, _vault_lock) = open_vault_disk(to)?;
    let env = Env::real();
    // Before the store is opened, which changes it.
    Vault::open_or_make(vault.clone(), store_id, &env)?;
    let config = unobtrusive(&disk)?;
    let mut opened = recovery::open(disk, config, env.clone())?;
    let backup = Backup::begin(&opened.local, &env, vault, options)?;
    let applier = &mut opened.applier;
    let done = run(backup, progress, |is_waiting| {
        if is_waiting {
            applier.step()?;
        }
        Ok(())
    });
    close(opened)?;
    done
}

/// Makes a backup to its end. Between its steps `may_go_on` is asked, which says why all has to end, and brings the
/// index up to the log when it is told that the backup waits for that.
pub(crate) fn run(
    mut backup: Backup,
    progress: OnProgress,
    mut may_go_on: impl FnMut(bool) -> Result<(), BackupError>,
) -> Result<BackupReport, BackupError> {
    loop {
        match backup.step()? {
            Step::Done(report) => return Ok(*report),
            Step::More => may_go_on(false)?,
            Step::Waiting => may_go_on(true)?,
        }
        progress(backup.progress());
    }
}

/// The backups in a directory, the newest first, and what looks like one and cannot be read.
pub fn list(from: &Path) -> Result<(Vec<BackupInfo>, Vec<UnreadableBackup>), BackupError> {
    let (manifests, unreadable) = Vault::open(read_only(from)?)?.list()?;
    let infos = manifests.iter().map(|manifest| manifest.info());
    Ok((infos.collect(), unreadable))
}

/// Reads everything that a backup (the newest one without a name) needs and holds it against its sums.
pub fn verify(
    from: &Path,
    name: Option<&str>,
    progress: OnProgress,
) -> Result<VerifyReport, BackupError> {
    let (vault, _lock) = read_vault(from)?;
    let mut verify = Verify::begin(vault, name, &Env::real())?;
    loop {
        let done = verify.step()?;
        progress(verify.progress());
        if let Some(report) = done {
            return Ok(report);
        }
    }
}

/// Brings a backup (the newest one without a name) back into `data_dir`: an empty or missing directory, or one whose
/// store has lost something. Then opens the store once and looks at what is there.
pub fn restore(
    from: &Path,
    name: Option<&str>,
    data_dir: &Path,
    options: RestoreOptions,
    progress: OnProgress,
) -> Result<RestoreReport, BackupError> {
    must_be_apart(data_dir, from)?;
    let (vault, _vault_lock) = read_vault(from)?;
    // Asked before the lock leaves a file in a directory that is none of ours.
    must_be_ours_or_new(data_dir)?;
    let (disk, _lock) = open_disk(data_dir)?;
    let env = Env::real();
    let mut restore = Restore::begin(vault, name, disk.clone(), &env, &options)?;
    let mut report = loop {
        let done = restore.step()?;
        progress(restore.progress());
        if let Some(report) = done {
            break report;
        }
    };
    progress(&Progress::new("opening the store"));
    let config = unobtrusive(&disk)?;
    let mut opened = recovery::open(disk, config, env.clone())?;
    let checked = look_at(&mut opened, &env, options.check, &mut report, progress);
    close(opened)?;
    checked.map(|()| report)
}

fn close(mut opened: Opened) -> Result<(), BackupError> {
    opened.committer.seal();
    while opened.applier.step()? {}
    match opened.local.stopped() {
        None => Ok(()),
        Some(why) => Err(Error::new(ErrorKind::ServiceUnavailable, why).into()),
    }
}

/// Looks at all bodies of a store that was restored: what is missing goes to quarantine, what has come back leaves it.
fn look_at(
    opened: &mut Opened,
    env: &Env,
    check: Depth,
    report: &mut RestoreReport,
    progress: OnProgress,
) -> Result<(), BackupError> {
    release(opened, env)?;
    let local = opened.local.clone();
    let (counters, config) = (Arc::default(), ScrubConfig::default());
    let mut scrubber = Scrubber::new(local.clone(), env.clone(), counters, config);
    scrubber.begin(match check {
        Depth::Length => ScrubExtent::Presence,
        Depth::Bytes => ScrubExtent::Everything,
    })?;
    let mut told = Progress::new("check");
    let committer = &mut opened.committer;
    while let Some(bytes) = scrubber.step(&mut |all| committer.commit(all))? {
        told.bytes += bytes;
        progress(&told);
        if local.waiting_rows() > WAITING_ROWS_MAX {
            opened.applier.step()?;
        }
    }
    report.objects = count_objects(&local)?;
    for (row, name) in quarantined(&local)? {
        let Some(Record::Object(object)) = local.get(&row)? else {
            continue;
        };
        report.quarantined += 1;
        if report.quarantine.len() < TOLD_MAX {
            report.quarantine.push(Damage {
                what: name,
                why: object
                    .quarantined
                    .map_or_else(String::new, |why| why.reason),
            });
        }
    }
    Ok(())
}

/// Takes objects out of quarantine whose bytes are whole (again).
fn release(opened: &mut Opened, env: &Env) -> Result<(), BackupError> {
    for (row, _) in quarantined(&opened.local)? {
        let Some(Record::Object(object)) = opened.local.get(&row)? else {
            continue;
        };
        if bodies::check_object(&opened.local, &opened.local.files, &object).is_err() {
            continue;
        }
        let transaction = quarantine::set(row, &object, env.unique_id(), None);
        let answers = opened.committer.commit(vec![transaction]);
        answers
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::from)?;
    }
    Ok(())
}

/// The rows of the objects in quarantine, and how they are called.
fn quarantined(local: &Local) -> Result<Vec<(Key, String)>, Error> {
    let mut names = std::collections::BTreeMap::new();
    all_rows(local, tag::BUCKET, |key, record| {
        if let (Key::Bucket(name), Record::Bucket(bucket)) = (key, record) {
            names.insert(bucket.id, name);
        }
    })?;
    let mut found = Vec::new();
    all_rows(local, tag::QUARANTINE, |key, _| {
        if let Key::Quarantine(bucket, key) = key {
            let name = match names.get(&bucket) {
                Some(name) => format!("{name}/{key}"),
                None => format!("bucket {}: {key}", bucket.0),
            };
            found.push((Key::Object(bucket, key), name));
        }
    })?;
    Ok(found)
}

fn count_objects(local: &Local) -> Result<u64, Error> {
    let mut objects = 0;
    all_rows(local, tag::BUCKET_STATS, |_, record| {
        if let Record::BucketStats(stats) = record {
            objects += stats.objects;
        }
    })?;
    Ok(objects)
}

fn all_rows(local: &Local, kind: u8, mut each: impl FnMut(Key, Record)) -> Result<(), Error> {
    let to = after_prefix(&[kind]);
    let mut from = Some(vec![kind]);
    while let Some(start) = from.take() {
        let rows = local.scan(&start, to.as_deref(), ROWS)?;
        for (key, record) in rows.rows {
            if let Ok(key) = Key::decode(&key) {
                each(key, record);
            }
        }
        from = rows.next;
    }
    Ok(())
}

/// The id of the store in a directory, which must have one.
fn must_be_a_store(data_dir: &Path) -> Result<[u8; 16], BackupError> {
    let none = || {
        BackupError::Refused(format!(
            "There is no store in {}: say where it is by JAY_DATA_DIR.",
            data_dir.display()
        ))
    };
    match RealDisk::open_read_only(data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(none()),
        Err(error) => Err(not_done(&format!("{} cannot be used", data_dir.display()))(
            error,
        )),
        Ok(disk) => match format::look(&*disk)? {
            Some(format) => Ok(format.store_id),
            None => Err(none()),
        },
    }
}

fn must_be_ours_or_new(data_dir: &Path) -> Result<(), BackupError> {
    let disk = match RealDisk::open_read_only(data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        disk => disk.map_err(not_done(&format!("{} cannot be used", data_dir.display())))?,
    };
    if format::look(&*disk)?.is_some() {
        return Ok(());
    }
    match format::foreign_file(&*disk)? {
        None => Ok(()),
        Some(name) => Err(BackupError::Refused(format!(
            "{} has files that are not Jay's ({name}): restore into an empty directory (JAY_DATA_DIR).",
            data_dir.display()
        ))),
    }
}

/// A backup inside of the store would go with it, and the other way round.
pub(crate) fn must_be_apart(data_dir: &Path, vault: &Path) -> Result<(), BackupError> {
    let (data, backups) = (resolved(data_dir), resolved(vault));
    match backups.starts_with(&data) || data.starts_with(&backups) {
        false => Ok(()),
        true => Err(BackupError::Refused(format!(
            "{} and the data directory {} lie in one another: give the backups a directory apart, best on another disk.",
            vault.display(),
            data_dir.display()
        ))),
    }
}

/// The path without links, as far as there is something.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for ancestor in path.ancestors() {
        if let Ok(real) = ancestor.canonicalize() {
            let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
            return real.join(rest);
        }
    }
    path
}

/// Opens the directory for backups, making it when there is none, for nobody else meanwhile.
pub(crate) fn open_vault_disk(to: &Path) -> Result<(Arc<dyn Disk>, LockGuard), BackupError> {
    let unusable = |e| not_done(&format!("{} cannot be used", to.display()))(e);
    let disk = RealDisk::open(to).map_err(unusable)?;
    vault::must_be_usable(&*disk)?;
    match disk.lock(vault::LOCK) {
        Ok(lock) => Ok((disk, lock)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(in_use(to)),
        Err(error) => Err(unusable(error)),
    }
}

/// Opens a directory of backups for reading, while nobody changes it.
fn read_vault(from: &Path) -> Result<(Arc<dyn Disk>, Option<LockGuard>), BackupError> {
    let unusable = |e| not_done(&format!("{} cannot be used", from.display()))(e);
    let disk = RealDisk::open_read_only(from).map_err(unusable)?;
    match disk.lock_shared(vault::LOCK) {
        Ok(lock) => Ok((disk, lock)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(in_use(from)),
        Err(error) => Err(unusable(error)),
    }
}

fn read_only(from: &Path) -> Result<Arc<dyn Disk>, BackupError> {
    let disk = RealDisk::open_read_only(from);
    Ok(disk.map_err(not_done(&format!("{} cannot be used", from.display())))?)
}

fn in_use(dir: &Path) -> BackupError {
    BackupError::Refused(format!(
        "{} is in use by another backup, or by a look at one: wait for it to end.",
        dir.display()
    ))
}
