//! The files of the log: opened when first read, made ahead of need, removed when nothing in them lives.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    disk::{Disk, DiskFile, is_full},
    sync::{Mutex, MutexGuard},
};

/// Directory of the packs.
pub const DIR: &str = "log";
const QUARANTINE: &str = "quarantine";

/// Packs that are held open at a time; others are opened again when they are read.
const OPEN_PACKS_MAX: usize = 256;

/// Shortest log file that is made when the disk is full and one is needed now, in bytes.
const SHORT_PACK_BYTES_MIN: u64 = 64 << 10;

/// The path of a pack.
pub fn path(number: u32) -> String {
    format!("{DIR}/{number:08}.pack")
}

/// The number of the pack with this file name.
pub fn number_of(name: &str) -> Option<u32> {
    name.strip_suffix(".pack")?
        .parse()
        .ok()
        .filter(|&n| name == format!("{n:08}.pack"))
}

/// A pack and its file.
pub type Pack = (u32, Arc<dyn DiskFile>);

#[derive(Default)]
struct Inner {
    files: HashMap<u32, Arc<dyn DiskFile>>,
    spare: Option<Pack>,
    next_number: u32,
    /// Packs that are written no more, with the length of what they hold, to be cut to it.
    to_cut: Vec<(u32, u64)>,
}

impl Inner {
    /// Keeps a file open, and lets go of another one when there are many. Who reads that one still holds it.
    fn hold(&mut self, number: u32, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        if self.files.len() >= OPEN_PACKS_MAX
            && let Some(&other) = self.files.keys().find(|&&other| other != number)
        {
            self.files.remove(&other);
        }
        self.files.entry(number).or_insert(file).clone()
    }
}

/// See the module.
pub struct Packs {
    disk: Arc<dyn Disk>,
    pack_bytes: u64,
    zero_ahead: bool,
    inner: Mutex<Inner>,
    /// Bytes that are left in the pack of the committer.
    rest: AtomicU64,
    /// One maker of spares at a time.
    making: Mutex<()>,
}

impl Packs {
    /// Packs of `pack_bytes`, the next of which gets `next_number`.
    pub fn new(disk: Arc<dyn Disk>, pack_bytes: u64, zero_ahead: bool, next_number: u32) -> Self {
        let inner = Mutex::new(Inner {
            next_number,
            ..Inner::default()
        });
        Self {
            disk,
            pack_bytes,
            zero_ahead,
            inner,
            rest: AtomicU64::new(0),
            making: Mutex::new(()),
        }
    }

    /// The file of a pack; `None` when it is gone.
    pub fn file(&self, number: u32) -> io::Result<Option<Arc<dyn DiskFile>>> {
        // Held until the file is noted, so that who removes it meanwhile finds the note.
        let mut inner = self.lock();
        if let Some(file) = inner.files.get(&number) {
            return Ok(Some(file.clone()));
        }
        match self.disk.open(&path(number)) {
            Ok(file) => Ok(Some(inner.hold(number, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The pack to write next: the spare, or one made now. Its name is durable.
    pub fn next(&self) -> io::Result<Pack> {
        let spare = self.lock().spare.take();
        let (number, file) = match spare {
            Some(spare) => spare,
            None => {
                let _making = self.making.lock().expect("no holder panics");
                let spare = self.lock().spare.take();
                spare.map_or_else(|| self.make(false, SHORT_PACK_BYTES_MIN), Ok)?
            }
        };
        self.lock().hold(number, file.clone());
        Ok((number, file))
    }

    /// Makes a spare of the usual length when there is none: a shorter one would be no reserve. True when it
    /// did.
    pub fn prepare_spare(&self) -> io::Result<bool> {
        let _making = self.making.lock().expect("no holder panics");
        if self.lock().spare.is_some() {
            return Ok(false);
        }
        let pack = self.make(self.zero_ahead, self.pack_bytes)?;
        self.lock().spare = Some(pack);
        Ok(true)
    }

    /// Whether there is a spare.
    pub fn has_spare(&self) -> bool {
        self.lock().spare.is_some()
    }

    /// Notes how many bytes the committer has left in its pack.
    pub fn set_rest(&self, bytes: u64) {
        self.rest.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that the log has room for in what is reserved.
    pub fn room(&self) -> u64 {
        let spare = self.lock().spare.as_ref().map(|(_, file)| file.len());
        self.rest.load(Ordering::Relaxed) + spare.map_or(0, |len| len.unwrap_or(0))
    }

    /// Takes a pack that recovery found unwritten as the spare.
    pub fn adopt_spare(&self, number: u32) -> io::Result<()> {
        let file = self.disk.open(&path(number))?;
        let len = file.len()?;
        if let Err(error) = file.allocate(self.pack_bytes) {
            if !is_full(&error) || len < SHORT_PACK_BYTES_MIN {
                return Err(error);
            }
            // What it got of the rest.
            file.set_len(len)?;
        }
        self.lock().spare = Some((number, file));
        Ok(())
    }

    /// Notes that a pack is written no more and holds `used` bytes.
    pub fn retire(&self, number: u32, used: u64) {
        self.lock().to_cut.push((number, used));
    }

    /// Gives the unused end of retired packs back to the file system. True when there was one.
    pub fn cut_retired(&self) -> io::Result<bool> {
        let Some((number, used)) = self.lock().to_cut.pop() else {
            return Ok(false);
        };
        if let Some(file) = self.file(number)?
            && file.len()? > used
        {
            file.set_len(used)?;
        }
        Ok(true)
    }

    /// Removes a pack and makes that durable.
    pub fn remove(&self, number: u32) -> io::Result<()> {
        self.disk.unlink(&path(number))?;
        // In this order: from now on nobody can open it again and keep its space.
        self.lock().files.remove(&number);
        self.disk.sync_dir(DIR)
    }

    /// Moves a pack out of the way without destroying it.
    pub fn set_aside(&self, number: u32) -> io::Result<()> {
        self.lock().files.remove(&number);
        let path = path(number);
        let aside = path.replacen(DIR, QUARANTINE, 1);
        match self.disk.rename(&path, &aside) {
            // A crash left both names.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.unlink(&path)?;
            }
            renamed => renamed?,
        }
        self.disk.sync_dir(QUARANTINE)?;
        self.disk.sync_dir(DIR)
    }

    /// The numbers of all packs there are, in order, the spare included.
    pub fn numbers(disk: &dyn Disk) -> io::Result<Vec<u32>> {
        let mut numbers: Vec<u32> = disk
            .read_dir(DIR)?
            .iter()
            .filter_map(|name| number_of(name))
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Whether the file is held open.
    #[cfg(all(test, shuttle))]
    pub(crate) fn is_open(&self, number: u32) -> bool {
        self.lock().files.contains_key(&number)
    }

    fn make(&self, zero: bool, least: u64) -> io::Result<Pack> {
        let number = {
            let mut inner = self.lock();
            inner.next_number += 1;
            inner.next_number - 1
        };
        let made = self.fill(number, zero, least);
        if made.is_err() {
            // Its space is what is missing; the name may come back after a crash, as an unused spare.
            let _ = self.disk.unlink(&path(number));
        }
        made
    }

    fn fill(&self, number: u32, zero: bool, least: u64) -> io::Result<Pack> {
        let file = self.disk.create(&path(number))?;
        let pack_bytes = reserve(&*file, self.pack_bytes, least)?;
        if zero {
            let zeros = vec![0; 1 << 20];
            for offset in (0..pack_bytes).step_by(zeros.len()) {
                let n = zeros.len().min((pack_bytes - offset) as usize);
                file.write_at(&zeros[..n], offset)?;
            }
            file.sync_data()?;
        }
        self.disk.sync_dir(DIR)?;
        Ok((number, file))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics")
    }
}

/// Reserves `bytes`, or a part of that, though no less than `least`, when the disk is nearly full: better a short
/// log than none.
fn reserve(file: &dyn DiskFile, mut bytes: u64, least: u64) -> io::Result<u64> {
    loop {
        match file.allocate(bytes) {
            Err(error) if is_full(&error) && bytes / 4 >= least => bytes /= 4,
            reserved => return reserved.map(|()| bytes),
        }
        // A file system may have reserved all that there is before it found that it is not enough.
        file.set_len(0)?;
    }
}
