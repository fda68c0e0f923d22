//! The disk of the operating system: files of mode 0600 and directories of mode 0700 below one root.
//!
//! Every path is resolved from a descriptor of the root that stays open, so a data directory that is
//! moved while the store runs stays whole. Large bodies want files without a name (`O_TMPFILE`); where
//! the file system has none, a file called `.tmp-<n>` stands in, which a crash can leave behind: upkeep
//! removes names that start with [`TEMPORARY_PREFIX`]. Reads and writes that the system cuts short go on
//! until they are whole, and what a signal interrupts is done again; but nothing here retries a failed
//! sync, and nothing is cached: opening a directory to sync it costs microseconds beside the sync.

use std::{
    ffi::OsStr,
    fs::{DirBuilder, File, TryLockError},
    io,
    num::NonZeroU64,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, FileExt},
        },
    },
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{
        Advice, AtFlags, CWD, Dir, FallocateFlags, FileType, Mode, OFlags, RenameFlags, fadvise,
        fallocate, fstat, fstatvfs, linkat, mkdirat, openat, renameat, renameat_with, statat,
        unlinkat,
    },
    io::{Errno, retry_on_intr},
};

use super::{Disk, DiskFile};
use crate::counters::Syncs;

/// How the names of files begin that wait for their real name where `O_TMPFILE` is missing.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// A directory of the operating system, with everything below it.
#[derive(Debug)]
pub struct RealDisk {
    root: Arc<File>,
    next_temporary: AtomicU64,
    /// False where files without a name cannot be linked for want of `/proc`.
    unnamed_files: bool,
    /// Files are opened for reading alone, as a disk wants that must not be written.
    read_only: bool,
    syncs: Arc<Syncs>,
}

impl RealDisk {
    /// Opens the directory `root`, making it and what is missing above it (durably).
    pub fn open(root: &Path) -> io::Result<Arc<RealDisk>> {
        create_root(root)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, root, flags, Mode::empty())?;
        let unnamed_files = Path::new("/proc/self/fd").exists();
        Ok(Arc::new(RealDisk::new(File::from(root), unnamed_files)))
    }

    /// Opens the directory `root`, which is there, to look at what it holds: nothing in it can be changed.
    pub fn open_read_only(root: &Path) -> io::Result<Arc<RealDisk>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, root, flags, Mode::empty())?;
        let mut disk = RealDisk::new(File::from(root), false);
        disk.read_only = true;
        Ok(Arc::new(disk))
    }

    fn new(root: File, unnamed_files: bool) -> RealDisk {
        RealDisk {
            root: Arc::new(root),
            next_temporary: AtomicU64::new(0),
            unnamed_files,
            read_only: false,
            syncs: Arc::default(),
        }
    }

    /// Keeps others from taking the lock on the file `path` by [`RealDisk::lock`]; `WouldBlock` when one has it.
    /// `None` when there is no such file.
    pub fn lock_shared(&self, path: &str) -> io::Result<Option<LockGuard>> {
        let file = match self.open_at(path, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => File::from(file?),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(LockGuard { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Refuses to change what is only looked at.
    fn changed(&self) -> io::Result<&File> {
        match self.read_only {
            true => Err(Errno::ROFS.into()),
            false => Ok(&self.root),
        }
    }

    /// The size of the file system, in bytes.
    pub fn total_bytes(&self) -> io::Result<u64> {
        let known = fstatvfs(&self.root)?;
        Ok(known.f_blocks.saturating_mul(known.f_frsize))
    }

    /// Takes the exclusive advisory lock on the file `path`, making the file when there is none;
    /// `WouldBlock` when another holder has it. It is released when the guard or the process ends.
    pub fn lock(&self, path: &str) -> io::Result<LockGuard> {
        let file = File::from(self.open_at(path, OFlags::RDWR | OFlags::CREATE)?);
        match file.try_lock() {
            Ok(()) => Ok(LockGuard { _file: file }),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn open_at(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let (flags, mode) = (flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
        // Network and user-space file systems answer signals here.
        Ok(retry_on_intr(|| {
            openat(&self.root, checked(path), flags, mode)
        })?)
    }

    fn file(&self, fd: OwnedFd, temporary: Option<Temporary>) -> Arc<dyn DiskFile> {
        Arc::new(RealFile {
            file: File::from(fd),
            temporary: Mutex::new(temporary),
            syncs: self.syncs.clone(),
        })
    }

    fn create_temporary(&self, dir: &str) -> io::Result<Arc<dyn DiskFile>> {
        loop {
            let n = self.next_temporary.fetch_add(1, Ordering::Relaxed);
            let path = match dir {
                "" => format!("{TEMPORARY_PREFIX}{n}"),
                _ => format!("{dir}/{TEMPORARY_PREFIX}{n}"),
            };
            match self.open_at(&path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL) {
                Ok(fd) => {
                    let temporary = Temporary {
                        root: Arc::clone(&self.root),
                        path,
                    };
                    return Ok(self.file(fd, Some(temporary)));
                }
                // Left by an earlier process.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Disk for RealDisk {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        match mkdirat(self.changed()?, checked(path), Mode::RWXU) {
            Err(Errno::EXIST) => {
                let status = statat(&self.root, checked(path), AtFlags::empty())?;
                match FileType::from_raw_mode(status.st_mode) {
                    FileType::Directory => Ok(()),
                    _ => Err(Errno::NOTDIR.into()),
                }
            }
            result => Ok(result?),
        }
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        Ok(unlinkat(
            self.changed()?,
            checked(path),
            AtFlags::REMOVEDIR,
        )?)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let flags = match self.read_only {
            true => OFlags::RDONLY,
            false => OFlags::RDWR,
        };
        let file = self.open_at(path, flags)?;
        // One that is to be written tells by itself.
        if self.read_only && FileType::from_raw_mode(fstat(&file)?.st_mode).is_dir() {
            return Err(Errno::ISDIR.into());
        }
        Ok(self.file(file, None))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.changed()?;
        let fd = self.open_at(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        Ok(self.file(fd, None))
    }

    fn create_unnamed(&self, dir: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.changed()?;
        if !self.unnamed_files {
            return self.create_temporary(dir);
        }
        match self.open_at(dir, OFlags::RDWR | OFlags::TMPFILE) {
            Ok(fd) => Ok(self.file(fd, None)),
            Err(error) if lacks_unnamed_files(&error) => self.create_temporary(dir),
            Err(error) => Err(error),
        }
    }

    fn link(&self, file: &dyn DiskFile, path: &str) -> io::Result<()> {
        let file: &RealFile = file
            .as_any()
            .downcast_ref()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a file of another disk"))?;
        let mut temporary = file
            .temporary
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = &*temporary {
            rename_new(&self.root, &name.path, path)?;
            *temporary = None;
            return Ok(());
        }
        let descriptor = format!("/proc/self/fd/{}", file.file.as_raw_fd());
        Ok(linkat(
            CWD,
            descriptor,
            &self.root,
            checked(path),
            AtFlags::SYMLINK_FOLLOW,
        )?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        rename_new(self.changed()?, from, to)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        Ok(unlinkat(self.changed()?, checked(path), AtFlags::empty())?)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let dir = File::from(self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?);
        self.syncs.count(|| dir.sync_all())
    }

    fn syncs(&self) -> Arc<Syncs> {
        self.syncs.clone()
    }

    fn read_dir(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::new(self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?)? {
            let name = entry?.file_name().to_bytes().to_owned();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(&name).to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }
}

/// Holds the lock taken by [`RealDisk::lock`] until it is dropped.
#[derive(Debug)]
pub struct LockGuard {
    _file: File,
}

#[derive(Debug)]
struct RealFile {
    file: File,
    /// Set while a stand-in for a file without a name waits for its link.
    temporary: Mutex<Option<Temporary>>,
    syncs: Arc<Syncs>,
}

/// The name that a file carries until it is linked; it goes with the file when it never is.
#[derive(Debug)]
struct Temporary {
    root: Arc<File>,
    path: String,
}

impl Drop for RealFile {
    fn drop(&mut self) {
        let temporary = self
            .temporary
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = temporary {
            // A name left behind is upkeep's to remove.
            let _ = unlinkat(&name.root, checked(&name.path), AtFlags::empty());
        }
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        fill(&self.file, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_all(&self.file, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.syncs.count(|| self.file.sync_data())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match retry_on_intr(|| fallocate(&self.file, FallocateFlags::empty(), 0, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) if self.len()? >= len => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.file.set_len(len),
            result => Ok(result?),
        }
    }

    /// Linux starts writing a range when it is told that the range is not needed soon, and keeps the
    /// pages that are still dirty: what `sync_file_range` does, by a call that rustix offers.
    fn start_writeback(&self, offset: u64, len: u64) {
        if let Some(len) = NonZeroU64::new(len) {
            // A hint: the sync that follows reports what matters.
            let _ = fadvise(&self.file, offset, Some(len), Advice::DontNeed);
        }
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// Reads until the buffer is full, however little the system gives at a time.
fn fill(file: &impl FileExt, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

/// Writes until all is written, however little the system takes at a time.
fn write_all(file: &impl FileExt, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

fn create_root(root: &Path) -> io::Result<()> {
    match create_below(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        done => return done,
    }
    if let Some(parent) = root.parent().filter(|parent| *parent != Path::new("")) {
        create_root(parent)?;
    }
    // Once: under a link that leads nowhere, nothing can be made, however often.
    create_below(root)
}

/// Makes a directory whose parent is there.
fn create_below(root: &Path) -> io::Result<()> {
    let parent = match root.parent() {
        Some(parent) if parent == Path::new("") => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    match DirBuilder::new().mode(0o700).create(root) {
        Ok(()) => File::open(parent)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Renames without replacing. Where the kernel or the file system cannot promise that, the check comes
/// first: the store holds the lock of its directory, so nobody else makes names in between.
fn rename_new(root: &File, from: &str, to: &str) -> io::Result<()> {
    let (from, to) = (checked(from), checked(to));
    match renameat_with(root, from, root, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        result => return Ok(result?),
    }
    match statat(root, to, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST.into()),
        Err(Errno::NOENT) => Ok(renameat(root, from, root, to)?),
        Err(error) => Err(error.into()),
    }
}

/// True for what file systems (and kernels) without `O_TMPFILE` answer to it. A missing directory
/// answers `NotFound` again when the stand-in is made.
fn lacks_unnamed_files(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT)
    )
}

/// The path as the kernel takes it: the root is the empty path here and `.` there.
fn checked(path: &str) -> &str {
    debug_assert!(!path.starts_with('/'), "absolute path {path:?}");
    debug_assert!(
        path.split('/').all(|part| part != ".."),
        "path {path:?} leaves the root"
    );
    if path.is_empty() { "." } else { path }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    /// Both ways of making unnamed files.
    fn disks() -> Vec<(tempfile::TempDir, RealDisk)> {
        [true, false]
            .map(|unnamed_files| {
                let dir = tempfile::tempdir().unwrap();
                let disk = RealDisk::new(File::open(dir.path()).unwrap(), unnamed_files);
                (dir, disk)
            })
            .into()
    }

    fn contents(file: &dyn DiskFile) -> Vec<u8> {
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn the_root_is_made_with_what_is_missing_above() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/b");
        RealDisk::open(&root).unwrap();
        RealDisk::open(&root).unwrap();
        assert_eq!(
            fs::metadata(root).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn files_and_directories_are_private() {
        let (dir, disk) = disks().remove(0);
        disk.create_dir("d").unwrap();
        disk.create("d/f").unwrap();
        let unnamed = disk.create_unnamed("d").unwrap();
        disk.link(&*unnamed, "d/g").unwrap();
        let mode = |path| {
            fs::metadata(dir.path().join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!((mode("d"), mode("d/f"), mode("d/g")), (0o700, 0o600, 0o600));
    }

    #[test]
    fn a_directory_may_be_made_twice_but_not_over_a_file() {
        let (_dir, disk) = disks().remove(0);
        disk.create_dir("d").unwrap();
        disk.create_dir("d").unwrap();
        disk.create("f").unwrap();
        assert_eq!(
            disk.create_dir("f").unwrap_err().kind(),
            io::ErrorKind::NotADirectory
        );
        assert_eq!(
            disk.create("f").err().unwrap().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(
            disk.open("none").err().unwrap().kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(
            disk.read_dir("none").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        disk.remove_dir("d").unwrap();
        assert_eq!(disk.read_dir("").unwrap(), ["f"]);
    }

    #[test]
    fn a_disk_that_is_only_looked_at_cannot_be_changed() {
        let (dir, disk) = disks().remove(0);
        disk.create("f").unwrap().write_at(b"bytes", 0).unwrap();
        let lock = disk.lock("LOCK").unwrap();
        let looked = RealDisk::open_read_only(dir.path()).unwrap();
        let blocked = looked.lock_shared("LOCK").unwrap_err();
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        let shared = [looked.lock_shared("LOCK"), looked.lock_shared("LOCK")];
        assert!(shared.iter().all(|lock| matches!(lock, Ok(Some(_)))));
        assert!(disk.lock("LOCK").is_err());
        assert!(looked.lock_shared("none").unwrap().is_none());
        disk.create_dir("d").unwrap();
        for disk in [&disk, &looked] {
            let error = disk.open("d").map(drop).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        }

        let file = looked.open("f").unwrap();
        assert_eq!(contents(&*file), b"bytes");
        assert!(file.write_at(b"x", 0).is_err());
        let refused = [
            looked.create_dir("d").err(),
            looked.create("g").err(),
            looked.create_unnamed("").err(),
            looked.rename("f", "g").err(),
            looked.unlink("f").err(),
            looked.remove_dir("d").err(),
        ];
        for error in refused {
            assert_eq!(error.unwrap().kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
        assert!(RealDisk::open_read_only(&dir.path().join("none")).is_err());
    }

    #[test]
    fn an_unlinked_file_remains_readable() {
        let (_dir, disk) = disks().remove(0);
        let file = disk.create("f").unwrap();
        file.write_at(b"bytes", 2).unwrap();
        disk.unlink("f").unwrap();
        assert_eq!(contents(&*file), b"\0\0bytes");
        assert_eq!(disk.read_dir("").unwrap().len(), 0);
    }

    #[test]
    fn an_unnamed_file_vanishes_unless_it_is_linked() {
        for (_dir, disk) in disks() {
            disk.create_dir("d").unwrap();
            drop(disk.create_unnamed("d").unwrap());
            assert_eq!(disk.read_dir("d").unwrap().len(), 0);

            let file = disk.create_unnamed("d").unwrap();
            file.write_at(b"body", 0).unwrap();
            file.sync_data().unwrap();
            disk.link(&*file, "d/f").unwrap();
            disk.sync_dir("d").unwrap();
            drop(file);
            assert_eq!(disk.read_dir("d").unwrap(), ["f"]);
            assert_eq!(contents(&*disk.open("d/f").unwrap()), b"body");
        }
    }

    #[test]
    fn link_and_rename_refuse_to_replace() {
        for (_dir, disk) in disks() {
            let taken = disk.create("taken").unwrap();
            taken.write_at(b"old", 0).unwrap();
            let file = disk.create_unnamed("").unwrap();
            let refused = disk.link(&*file, "taken").unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
            disk.link(&*file, "free").unwrap();
            let refused = disk.rename("free", "taken").unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
            disk.rename("free", "other").unwrap();
            assert_eq!(contents(&*disk.open("taken").unwrap()), b"old");
            let mut names = disk.read_dir("").unwrap();
            names.sort();
            assert_eq!(names, ["other", "taken"]);
        }
    }

    #[test]
    fn lengths_follow_allocate_and_set_len() {
        let (_dir, disk) = disks().remove(0);
        let file = disk.create("f").unwrap();
        file.write_at(&[7; 100], 0).unwrap();
        file.allocate(0).unwrap();
        file.allocate(1 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        file.allocate(4096).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        file.start_writeback(0, 4096);
        file.set_len(50).unwrap();
        assert_eq!(contents(&*file), [7; 50]);
        let short = file.read_at(&mut [0; 51], 0).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }

    /// A system that moves at most three bytes at a time, between signals and up to its end.
    struct Stingy {
        bytes: Mutex<Vec<u8>>,
        calls: AtomicU64,
    }

    impl Stingy {
        fn with(bytes: &[u8]) -> Stingy {
            Stingy {
                bytes: Mutex::new(bytes.to_vec()),
                calls: AtomicU64::new(0),
            }
        }

        fn interrupted(&self) -> io::Result<()> {
            match self.calls.fetch_add(1, Ordering::Relaxed) % 2 {
                0 => Err(Errno::INTR.into()),
                _ => Ok(()),
            }
        }
    }

    impl FileExt for Stingy {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.interrupted()?;
            let bytes = self.bytes.lock().unwrap();
            let rest = &bytes[(offset as usize).min(bytes.len())..];
            let n = rest.len().min(buffer.len()).min(3);
            buffer[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
            self.interrupted()?;
            let mut file = self.bytes.lock().unwrap();
            let rest = file.len().saturating_sub(offset as usize);
            let n = rest.min(bytes.len()).min(3);
            file[offset as usize..][..n].copy_from_slice(&bytes[..n]);
            Ok(n)
        }
    }

    #[test]
    fn short_reads_and_writes_go_on_until_they_are_whole() {
        let file = Stingy::with(b"0123456789");
        let mut buffer = [0; 8];
        fill(&file, &mut buffer, 1).unwrap();
        assert_eq!(&buffer, b"12345678");
        write_all(&file, b"abcdefg", 2).unwrap();
        assert_eq!(*file.bytes.lock().unwrap(), b"01abcdefg9");
        let short = fill(&file, &mut buffer, 3).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        let full = write_all(&file, b"abcd", 7).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::WriteZero);
    }

    #[test]
    fn a_second_lock_would_block_until_the_first_is_dropped() {
        let (_dir, disk) = disks().remove(0);
        let guard = disk.lock("LOCK").unwrap();
        assert_eq!(
            disk.lock("LOCK").unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(guard);
        disk.lock("LOCK").unwrap();
    }

    #[test]
    #[should_panic(expected = "leaves the root")]
    fn a_path_out_of_the_root_is_a_bug() {
        let (_dir, disk) = disks().remove(0);
        let _ = disk.open("a/../../b");
    }
}
