//! A store that nobody has open: looked at, or given up in part.

use std::{io, path::Path, sync::Arc};

use crate::{
    Acceptance, Depth, FsckProgress, FsckReport, LocalConfig, LogHole, OpenError,
    disk::{Disk, real::RealDisk},
    engine::open::{fitting, no_access, open_disk},
    env::Env,
    maintenance::{accept, fsck::closed},
    meta::local::format,
};

/// Checks everything in the directory of a store that nobody has open, and writes nothing; tells how far it is until
/// `go_on` says no.
pub fn fsck(
    data_dir: &Path,
    depth: Depth,
    go_on: &mut dyn FnMut(FsckProgress) -> bool,
) -> Result<FsckReport, OpenError> {
    must_be_store(data_dir)?;
    // Also on a file system that takes no writes any more, and beside others who only look.
    let disk = RealDisk::open_read_only(data_dir).map_err(|e| no_access(data_dir, e))?;
    let _lock = match disk.lock_shared("LOCK") {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(OpenError::AlreadyRunning {
                dir: data_dir.to_owned(),
            });
        }
        lock => lock.map_err(|e| no_access(data_dir, e))?,
    };
    let config = unobtrusive(&disk)?;
    let disk: Arc<dyn Disk> = disk;
    let report = closed::check(&disk, &config, &Env::real(), depth, go_on);
    report.map_err(|e| OpenError::io("the store could not be checked", io::Error::other(e)))
}

/// The id of the store in a directory, which others have it open or not; `None` when there is none that can be read.
pub fn store_id(data_dir: &Path) -> Option<[u8; 16]> {
    let disk = RealDisk::open_read_only(data_dir).ok()?;
    let format = format::look(&*disk).ok()??;
    Some(format.store_id)
}

/// Gives up what cannot be read of the log of a store that nobody has open: exactly these holes, else it refuses. The
/// rest can be served again then.
pub fn accept_loss(data_dir: &Path, holes: &[LogHole]) -> Result<Acceptance, OpenError> {
    must_be_store(data_dir)?;
    let (disk, _lock) = open_disk(data_dir)?;
    let config = unobtrusive(&disk)?;
    let disk: Arc<dyn Disk> = disk;
    accept::accept_loss(&disk, &config, &Env::real(), holes)
}

/// Settings of a store that is open for a moment.
pub(crate) fn unobtrusive(disk: &RealDisk) -> Result<LocalConfig, OpenError> {
    let config = LocalConfig {
        zero_ahead: false,
        ..LocalConfig::default()
    };
    fitting(config, disk)
}

fn must_be_store(dir: &Path) -> Result<(), OpenError> {
    let there = |name: &str| dir.join(name).exists();
    match there("FORMAT") || there("FORMAT.new") || there("log") || there("index.redb") {
        true => Ok(()),
        false => Err(OpenError::Damaged {
            what: format!(
                "There is no store in {}: say where it is (JAY_DATA_DIR).",
                dir.display()
            ),
        }),
    }
}
