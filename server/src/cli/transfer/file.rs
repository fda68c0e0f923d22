//! Files of this machine: read as they were at one moment, or written whole.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use md5::{Digest as _, Md5};
use tokio::task::spawn_blocking;

use crate::cli::{sign::hex, tree::unfinished_name};

/// Bytes that are read at once while a file is hashed.
const PIECE_BYTES: usize = 1 << 20;

/// What the ETag of a body begins with that was stored without an MD5.
const CRC64_ETAG: &str = "crc64nvme-";

/// Does what waits for the disk where nobody is held up by it.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    spawn_blocking(work)
        .await
        .expect("work on files does not panic")
}

/// A file that is being read.
#[derive(Clone)]
pub struct Source {
    file: Arc<File>,
    /// Its size when it was opened.
    pub size: u64,
    /// When it had been changed then.
    pub mtime: SystemTime,
}

impl Source {
    /// Opens a file, and reads all of it when it has at most so many bytes.
    pub async fn open(path: &Path, whole_max: u64) -> anyhow::Result<(Self, Option<Bytes>)> {
        let path = path.to_owned();
        aside(move || {
            let mut file = File::open(&path)?;
            let metadata = file.metadata()?;
            ensure!(metadata.is_file(), "it is no file");
            let (size, mtime) = (metadata.len(), metadata.modified()?);
            let mut whole = None;
            if size <= whole_max {
                let mut bytes = Vec::with_capacity(size as usize + 1);
                // One more would tell that it grows.
                Read::by_ref(&mut file)
                    .take(size + 1)
                    .read_to_end(&mut bytes)?;
                ensure!(bytes.len() as u64 == size, CHANGED);
                whole = Some(bytes.into());
            }
            let source = Self {
                file: Arc::new(file),
                size,
                mtime,
            };
            if whole.is_some() {
                source.check()?;
            }
            Ok((source, whole))
        })
        .await
    }

    /// Some of it.
    pub async fn bytes(&self, start: u64, length: u64) -> anyhow::Result<Bytes> {
        let file = self.file.clone();
        aside(move || {
            let mut bytes = vec![0; length as usize];
            match file.read_exact_at(&mut bytes, start) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => bail!(CHANGED),
                read => read?,
            }
            Ok(bytes.into())
        })
        .await
    }

    /// Whether some of it is what a store has under this ETag.
    pub async fn has(&self, start: u64, length: u64, etag: &str) -> anyhow::Result<bool> {
        let (file, etag) = (self.file.clone(), etag.to_owned());
        aside(move || {
            let (mut md5, mut crc64) = (Md5::new(), Crc::new(CrcAlgorithm::Crc64Nvme));
            let is_crc64 = etag.starts_with(CRC64_ETAG);
            let mut piece = vec![0; PIECE_BYTES];
            let mut at = start;
            while at < start + length {
                let most = (start + length - at).min(PIECE_BYTES as u64) as usize;
                file.read_exact_at(&mut piece[..most], at)?;
                match is_crc64 {
                    true => crc64.update(&piece[..most]),
                    false => md5.update(&piece[..most]),
                }
                at += most as u64;
            }
            Ok(match is_crc64 {
                true => etag == format!("{CRC64_ETAG}{:016x}", crc64.finalize()),
                false => etag == hex(&md5.finalize()),
            })
        })
        .await
    }

    /// An error when it was changed since it was opened.
    pub async fn must_be_unchanged(&self) -> anyhow::Result<()> {
        let source = self.clone();
        aside(move || source.check()).await
    }

    fn check(&self) -> anyhow::Result<()> {
        let metadata = self.file.metadata()?;
        let now = (metadata.len(), metadata.modified()?);
        ensure!(now == (self.size, self.mtime), CHANGED);
        Ok(())
    }
}

const CHANGED: &str = "it was changed while it was read";

/// CRC64-NVME and MD5 of a file; the first alone when the second is not asked for.
pub async fn sums(path: &Path, with_md5: bool) -> anyhow::Result<(u64, Option<String>)> {
    let path = path.to_owned();
    aside(move || {
        let mut file = File::open(&path)?;
        let (mut md5, mut crc64) = (Md5::new(), Crc::new(CrcAlgorithm::Crc64Nvme));
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                break;
            }
            crc64.update(&piece[..read]);
            if with_md5 {
                md5.update(&piece[..read]);
            }
        }
        Ok((crc64.finalize(), with_md5.then(|| hex(&md5.finalize()))))
    })
    .await
}

/// A directory that files come into.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// Directories below it that are there and are no symbolic links.
    known: Mutex<HashSet<PathBuf>>,
    /// Whether symbolic links to directories may be on the way.
    follows_symlinks: bool,
    /// Whether files are synced to the disk.
    is_durable: bool,
}

impl Directory {
    /// Makes nothing yet.
    pub fn new(path: PathBuf, follows_symlinks: bool, is_durable: bool) -> Self {
        Self(Arc::new(Inner {
            path,
            known: Mutex::default(),
            follows_symlinks,
            is_durable,
        }))
    }

    /// The path of what is relative to it.
    pub fn join(&self, relative: &Path) -> PathBuf {
        self.0.path.join(relative)
    }

    /// Makes a directory in it.
    pub async fn make(&self, relative: &Path) -> anyhow::Result<()> {
        let (directory, relative) = (self.clone(), relative.to_owned());
        aside(move || directory.prepare(&relative)).await
    }

    /// Writes a whole file.
    pub async fn write(
        &self,
        relative: &Path,
        pieces: Vec<Bytes>,
        mtime: SystemTime,
    ) -> anyhow::Result<()> {
        let (directory, relative) = (self.clone(), relative.to_owned());
        aside(move || {
            let mut unfinished = directory.begin_here(&relative)?;
            for piece in pieces {
                unfinished.file.write_all(&piece)?;
            }
            unfinished.finish(mtime)
        })
        .await
    }

    /// Begins a file.
    pub async fn begin(&self, relative: &Path) -> anyhow::Result<Unfinished> {
        let (directory, relative) = (self.clone(), relative.to_owned());
        aside(move || directory.begin_here(&relative)).await
    }

    fn begin_here(&self, relative: &Path) -> anyhow::Result<Unfinished> {
        let parent = relative.parent().unwrap_or(Path::new(""));
        self.prepare(parent)?;
        let target = self.join(relative);
        let existing = match fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_dir() => bail!("there is a directory of that name"),
            Ok(metadata) if metadata.is_file() => Some(metadata.permissions()),
            Ok(metadata) if metadata.is_symlink() => None,
            Ok(_) => bail!("what has that name is no file"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let path = self.join(parent).join(unfinished_name()?);
        let file = File::options().write(true).create_new(true).open(&path)?;
        let unfinished = Unfinished {
            file,
            path,
            target,
            is_durable: self.0.is_durable,
            is_whole: false,
        };
        // A file that gives way leaves its mode.
        if let Some(permissions) = existing {
            unfinished.file.set_permissions(permissions)?;
        }
        Ok(unfinished)
    }

    /// Makes the directories on the way to `relative`, itself included.
    fn prepare(&self, relative: &Path) -> anyhow::Result<()> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(relative) {
            return Ok(());
        }
        fs::create_dir_all(&self.0.path)?;
        let mut here = PathBuf::new();
        for name in relative {
            here.push(name);
            if !known.contains(&here) {
                self.prepare_one(&here)?;
                known.insert(here.clone());
            }
        }
        known.insert(relative.to_owned());
        Ok(())
    }

    fn prepare_one(&self, relative: &Path) -> anyhow::Result<()> {
        let path = self.join(relative);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.with_context(|| path.display().to_string()),
        }
        let metadata = match self.0.follows_symlinks {
            true => fs::metadata(&path)?,
            false => fs::symlink_metadata(&path)?,
        };
        let path = path.display();
        ensure!(
            !metadata.is_symlink(),
            "{path} is a symbolic link, which --follow-symlinks would follow"
        );
        ensure!(metadata.is_dir(), "{path} is no directory");
        Ok(())
    }
}

/// A file that comes, under another name. Dropped, it is gone.
pub struct Unfinished {
    file: File,
    path: PathBuf,
    target: PathBuf,
    is_durable: bool,
    is_whole: bool,
}

impl Unfinished {
    /// Writes at an offset.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> anyhow::Result<()> {
        Ok(self.file.write_all_at(bytes, offset)?)
    }

    /// Gives it its name.
    pub fn finish(mut self, mtime: SystemTime) -> anyhow::Result<()> {
        self.file.set_modified(mtime)?;
        if self.is_durable {
            self.file.sync_all()?;
        }
        match fs::rename(&self.path, &self.target) {
            // It has come to be one meanwhile.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                bail!("there is a directory of that name")
            }
            renamed => renamed?,
        }
        self.is_whole = true;
        if self.is_durable {
            let parent = self
                .target
                .parent()
                .filter(|path| !path.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = fs::remove_file(&self.path);
        }
    }
}
