//! Snapshots of the index: a lost or damaged index is made anew from the newest one and the log behind it.
//!
//! Taken from a stable look at the index, in steps, without holding anybody up; written to `backup/`, read back, every
//! row decoded and all of them held against their counters, and only then given its name. FORMAT.md draws the file.

use std::{io, sync::Arc};

use crate::{
    codec::{DecodeError, Reader, Writer, crc32c, crc32c_of},
    disk::{Disk, DiskFile},
    env::Env,
    error::{Error, ErrorKind, Result},
    maintenance::audit::{Audit, RawRows, RowWalk},
    meta::{
        local::{Local, index},
        record::Checkpoint,
    },
    planted::{self, Bug},
    types::Timestamp,
};

/// Directory of the snapshots.
pub const DIR: &str = "backup";
const TEMPORARY: &str = "backup/snapshot.new";
const SUFFIX: &str = ".snapshot";
const MAGIC: &[u8; 8] = b"JAYSNAP\x01";
const BLOCK_MAGIC: &[u8; 4] = b"JROW";
const END_MAGIC: &[u8; 4] = b"JEND";
const VERSION: u16 = 1;
/// Longest header that is believed, in bytes.
const HEADER_BYTES_MAX: usize = 4096;
/// Longest block that is believed, in bytes.
const BLOCK_BYTES_MAX: usize = 32 << 20;
const BLOCK_HEAD_BYTES: usize = 12;
const END_BYTES: usize = 24;

const NOTHING_YET: &str =
    "The store is empty: nothing was ever put into it, so there is nothing to save yet.";

/// Snapshots that are kept at most.
const KEPT_MAX: usize = 24;
/// Age after which a snapshot goes, in milliseconds: 7 days.
const KEPT_MS: u64 = 7 * 24 * 3600 * 1000;

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name in `backup/`.
    pub name: String,
    /// When it was taken.
    pub created: Timestamp,
    /// The rows are those of this point of the log.
    pub checkpoint: Checkpoint,
    /// How many rows it has.
    pub rows: u64,
}

/// What a step came to.
#[derive(Debug)]
pub enum Step {
    /// There is more to do.
    More,
    /// The snapshot is there, and verified.
    Done(SnapshotInfo),
    /// There is none: the index is damaged, and why.
    Damaged(String),
}

/// One snapshot that is being taken, into whatever file.
pub struct Taking {
    local: Arc<Local>,
    state: State,
}

enum State {
    Over,
    Writing(Box<Writing>),
    Verifying(Box<Verifying>),
}

/// Takes the snapshots in `backup/`, one at a time.
pub struct Snapshotter {
    local: Arc<Local>,
    env: Env,
    taking: Option<Taking>,
}

struct Writing {
    rows: RowWalk,
    file: Arc<dyn DiskFile>,
    info: SnapshotInfo,
    written: Trail,
}

struct Verifying {
    info: SnapshotInfo,
    reader: SnapshotReader,
    audit: Audit,
}

/// How far a file is written or read, and what there was.
#[derive(Clone, Copy, Debug, Default)]
struct Trail {
    offset: u64,
    rows: u64,
    blocks: u32,
    /// CRC-32C over those of the blocks.
    chain: u32,
}

impl Trail {
    fn push(&mut self, bytes: usize, rows: u32, sum: u32) {
        self.offset += bytes as u64;
        self.rows += u64::from(rows);
        self.blocks += 1;
        self.chain = crc32c_of(&[&self.chain.to_le_bytes(), &sum.to_le_bytes()]);
    }
}

impl Taking {
    /// Begins a snapshot of the index as it is now, in an empty file. The rows that still wait for the index are in
    /// the log behind it.
    pub fn begin(
        local: &Arc<Local>,
        env: &Env,
        file: Arc<dyn DiskFile>,
        name: String,
    ) -> Result<Self> {
        let index = local.index();
        let look = index.begin_long_read()?;
        let checkpoint = index
            .long(&look, index::checkpoint)?
            .ok_or_else(|| Error::new(ErrorKind::ServiceUnavailable, NOTHING_YET))?;
        let checkpoint = match planted::is(Bug::SnapshotMissesOverlay) {
            true => local.claimed_checkpoint(checkpoint),
            false => checkpoint,
        };
        let info = SnapshotInfo {
            name,
            created: env.clock.now(),
            // The checkpoint itself is in the header.
            rows: index.long(&look, index::row_count)?.saturating_sub(1),
            checkpoint,
        };
        let header = encode_header(local.store_id(), &info);
        file.write_at(&header, 0)?;
        let written = Trail {
            offset: header.len() as u64,
            ..Trail::default()
        };
        let writing = Writing {
            rows: RowWalk::new(look),
            file,
            info,
            written,
        };
        Ok(Self {
            local: local.clone(),
            state: State::Writing(Box::new(writing)),
        })
    }

    /// Writes or reads back a bounded piece. After an error the snapshot is given up.
    pub fn step(&mut self) -> Result<Step> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => Err(Error::new(
                ErrorKind::InternalError,
                "The snapshot is over.",
            )),
            State::Writing(writing) => self.write(writing),
            State::Verifying(verifying) => self.verify(verifying),
        }
    }

    fn write(&mut self, mut writing: Box<Writing>) -> Result<Step> {
        let rows = match writing.rows.next_rows(self.local.index()) {
            Err(error) if index::is_damage(&error) => {
                return Ok(Step::Damaged(error.to_string()));
            }
            rows => rows?,
        };
        if let Some(rows) = rows {
            writing.block(&rows)?;
            self.state = State::Writing(writing);
            return Ok(Step::More);
        }
        let Writing {
            file,
            info,
            written,
            ..
        } = *writing;
        if written.rows != info.rows {
            return Ok(Step::Damaged(format!(
                "{} rows can be found, the index counts {}",
                written.rows, info.rows
            )));
        }
        file.write_at(&encode_end(&written), written.offset)?;
        file.sync_data()?;
        let reader = SnapshotReader::open(file, self.local.store_id(), &info.name)?;
        self.state = State::Verifying(Box::new(Verifying {
            info,
            reader,
            audit: Audit::default(),
        }));
        Ok(Step::More)
    }

    fn verify(&mut self, mut verifying: Box<Verifying>) -> Result<Step> {
        if let Some(rows) = verifying.reader.next_block()? {
            verifying.audit.rows(&rows)?;
            self.state = State::Verifying(verifying);
            return Ok(Step::More);
        }
        let Verifying { info, audit, .. } = *verifying;
        let findings = audit.finish(info.rows);
        Ok(match findings.is_empty() {
            true => Step::Done(info),
            false => Step::Damaged(findings.join("; ")),
        })
    }
}

impl Snapshotter {
    /// The snapshotter of a store; there is one.
    pub fn new(local: Arc<Local>, env: Env) -> Self {
        let taking = None;
        Self { local, env, taking }
    }

    /// Begins a snapshot.
    pub fn begin(&mut self) -> Result<()> {
        self.taking = None;
        let disk = self.local.disk();
        remove_if_there(disk, TEMPORARY)?;
        let file = disk.create(TEMPORARY)?;
        let taking = Taking::begin(&self.local, &self.env, file, self.new_name()?)?;
        self.taking = Some(taking);
        Ok(())
    }

    /// True while one is being taken.
    pub fn is_busy(&self) -> bool {
        self.taking.is_some()
    }

    /// Goes on with it. When it is done it is there under its name, and those that it makes superfluous are gone.
    pub fn step(&mut self) -> Result<Step> {
        let Some(mut taking) = self.taking.take() else {
            return Err(Error::new(
                ErrorKind::InternalError,
                "No snapshot was begun.",
            ));
        };
        let done = taking.step();
        match &done {
            Ok(Step::More) => self.taking = Some(taking),
            Ok(Step::Done(info)) => self.name(info)?,
            Ok(Step::Damaged(_)) | Err(_) => {
                let _ = remove_if_there(self.local.disk(), TEMPORARY);
            }
        }
        done
    }

    fn name(&self, info: &SnapshotInfo) -> Result<()> {
        let disk = self.local.disk();
        disk.rename(TEMPORARY, &path(&info.name))?;
        disk.sync_dir(DIR)?;
        self.local.set_snapshot(&info.checkpoint);
        let all = list(disk, self.local.store_id())?;
        let now = self.env.clock.now().0;
        let is_old = |info: &SnapshotInfo| info.created.0 + KEPT_MS < now;
        for (place, info) in all.iter().enumerate().skip(1) {
            if place >= KEPT_MAX || is_old(info) {
                disk.unlink(&path(&info.name))?;
            }
        }
        Ok(disk.sync_dir(DIR)?)
    }

    /// A name that no snapshot has: the time, or what comes after the last one when the clock went back.
    fn new_name(&self) -> Result<String> {
        let names = self.local.disk().read_dir(DIR)?;
        Ok(free_name(&names, self.env.clock.now()))
    }
}

impl Writing {
    fn block(&mut self, rows: &RawRows) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (bytes, sum) = encode_block(rows);
        self.file.write_at(&bytes, self.written.offset)?;
        self.written.push(bytes.len(), rows.len() as u32, sum);
        Ok(())
    }
}

/// A name that none of these snapshots has.
pub(crate) fn free_name(names: &[String], now: Timestamp) -> String {
    let last = names.iter().filter_map(|name| number_of(name)).max();
    let number = now.0.max(last.map_or(0, |last| last + 1));
    format!("{number:015}{SUFFIX}")
}

/// The path of a snapshot.
pub fn path(name: &str) -> String {
    format!("{DIR}/{name}")
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

/// The names of the snapshots there are, readable or not, in order.
pub fn names(disk: &dyn Disk) -> io::Result<Vec<String>> {
    let mut names = disk.read_dir(DIR)?;
    names.retain(|name| number_of(name).is_some());
    names.sort();
    Ok(names)
}

/// The snapshots there are, the newest first. Those that cannot be read are left out.
pub fn list(disk: &dyn Disk, store_id: [u8; 16]) -> io::Result<Vec<SnapshotInfo>> {
    let mut all = Vec::new();
    for name in names(disk)? {
        let file = match disk.open(&path(&name)) {
            // One that nobody may read, or that is none, keeps no store from starting.
            Err(error) if is_not_for_us(&error) => {
                tracing::warn!(name, %error, "a snapshot cannot be read");
                continue;
            }
            file => file?,
        };
        match SnapshotReader::open(file, store_id, &name) {
            Ok(reader) => all.push(reader.info),
            Err(error) => tracing::warn!(name, %error, "a snapshot cannot be read"),
        }
    }
    all.sort_by_key(|info| std::cmp::Reverse((info.checkpoint.applied_lsn, info.name.clone())));
    Ok(all)
}

fn is_not_for_us(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory
    )
}

/// Reads a snapshot block by block.
pub struct SnapshotReader {
    file: Arc<dyn DiskFile>,
    /// Its length in bytes.
    pub len: u64,
    /// What its header says.
    pub info: SnapshotInfo,
    read: Trail,
}

impl SnapshotReader {
    /// Reads the header.
    pub fn open(file: Arc<dyn DiskFile>, store_id: [u8; 16], name: &str) -> Result<Self> {
        let len = file.len()?;
        let mut bytes = vec![0; len.min(HEADER_BYTES_MAX as u64) as usize];
        file.read_at(&mut bytes, 0)?;
        let (info, header_bytes) = decode_header(&bytes, store_id, name).map_err(not_a_row)?;
        let read = Trail {
            offset: header_bytes as u64,
            ..Trail::default()
        };
        Ok(Self {
            file,
            len,
            info,
            read,
        })
    }

    /// The next rows; `None` behind the last ones, when all have been there and were right.
    pub fn next_block(&mut self) -> Result<Option<RawRows>> {
        let mut head = [0; BLOCK_HEAD_BYTES];
        self.file.read_at(&mut head, self.read.offset)?;
        if head[..4] == *END_MAGIC {
            self.check_end()?;
            return Ok(None);
        }
        let (payload_bytes, rows) = decode_block_head(&head).map_err(not_a_row)?;
        let mut payload = vec![0; payload_bytes + 4];
        self.file
            .read_at(&mut payload, self.read.offset + BLOCK_HEAD_BYTES as u64)?;
        let sum = payload.split_off(payload_bytes);
        let expected = crc32c_of(&[&head, &payload]);
        if sum != expected.to_le_bytes() {
            return Err(damaged(&self.info.name, "crc32c of a block"));
        }
        let decoded = decode_rows(&payload, rows).map_err(not_a_row)?;
        self.read
            .push(BLOCK_HEAD_BYTES + payload_bytes + 4, rows, expected);
        Ok(Some(decoded))
    }

    fn check_end(&self) -> Result<()> {
        let mut bytes = [0; END_BYTES];
        self.file.read_at(&mut bytes, self.read.offset)?;
        let is_end = bytes[..] == encode_end(&self.read)
            && self.len == self.read.offset + END_BYTES as u64
            && self.read.rows == self.info.rows;
        match is_end {
            true => Ok(()),
            false => Err(damaged(&self.info.name, "its end")),
        }
    }
}

fn encode_header(store_id: [u8; 16], info: &SnapshotInfo) -> Vec<u8> {
    let mut w = Writer::with_capacity(256);
    w.raw(MAGIC).u16(VERSION).u16(0).raw(&store_id);
    w.u64(info.created.0)
        .u64(info.rows)
        .bytes16(&info.checkpoint.encode());
    let mut bytes = w.into_bytes();
    bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
    bytes
}

fn decode_header(
    bytes: &[u8],
    store_id: [u8; 16],
    name: &str,
) -> Result<(SnapshotInfo, usize), DecodeError> {
    let mut r = Reader::new("header of a snapshot", bytes);
    if r.array("magic")? != *MAGIC {
        return Err(r.error("magic"));
    }
    if r.u16("version")? != VERSION || r.u16("flags")? != 0 {
        return Err(r.error("version"));
    }
    if r.array("store id")? != store_id {
        return Err(r.error("store id"));
    }
    let created = Timestamp(r.u64("created")?);
    let rows = r.u64("rows")?;
    let checkpoint = r.bytes16("checkpoint")?.to_vec();
    let summed = 46 + checkpoint.len();
    if r.u32("crc32c")? != crc32c(&bytes[..summed]) {
        return Err(r.error("crc32c"));
    }
    let info = SnapshotInfo {
        name: name.to_owned(),
        created,
        checkpoint: Checkpoint::decode(&checkpoint)?,
        rows,
    };
    Ok((info, summed + 4))
}

fn encode_block(rows: &[(Vec<u8>, Vec<u8>)]) -> (Vec<u8>, u32) {
    let mut payload = Writer::with_capacity(64 << 10);
    for (key, row) in rows {
        payload.bytes16(key).u32(row.len() as u32).raw(row);
    }
    let payload = payload.into_bytes();
    let mut w = Writer::with_capacity(BLOCK_HEAD_BYTES + payload.len() + 4);
    w.raw(BLOCK_MAGIC)
        .u32(payload.len() as u32)
        .u32(rows.len() as u32)
        .raw(&payload);
    let mut bytes = w.into_bytes();
    let sum = crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    (bytes, sum)
}

fn decode_block_head(head: &[u8]) -> Result<(usize, u32), DecodeError> {
    let mut r = Reader::new("block of a snapshot", head);
    if r.array("magic")? != *BLOCK_MAGIC {
        return Err(r.error("magic"));
    }
    let payload_bytes = r.u32("bytes")? as usize;
    if payload_bytes > BLOCK_BYTES_MAX {
        return Err(r.error("bytes"));
    }
    Ok((payload_bytes, r.u32("rows")?))
}

fn decode_rows(payload: &[u8], rows: u32) -> Result<RawRows, DecodeError> {
    let mut r = Reader::new("block of a snapshot", payload);
    let decoded = (0..rows)
        .map(|_| {
            let key = r.bytes16("key")?;
            if key.is_empty() {
                return Err(r.error("key"));
            }
            let key = key.to_vec();
            let row_bytes = r.u32("row bytes")? as usize;
            Ok((key, r.take(row_bytes, "row")?.to_vec()))
        })
        .collect::<Result<_, DecodeError>>()?;
    r.finish()?;
    Ok(decoded)
}

fn encode_end(trail: &Trail) -> Vec<u8> {
    let mut w = Writer::with_capacity(END_BYTES);
    w.raw(END_MAGIC)
        .u64(trail.rows)
        .u32(trail.blocks)
        .u32(trail.chain);
    let mut bytes = w.into_bytes();
    bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
    bytes
}

fn damaged(name: &str, what: &str) -> Error {
    Error::new(
        ErrorKind::InternalError,
        format!("The snapshot {name} is damaged: {what}."),
    )
}

fn not_a_row(error: DecodeError) -> Error {
    Error::new(ErrorKind::InternalError, "A snapshot cannot be read.").with_source(error)
}

fn remove_if_there(disk: &dyn Disk, path: &str) -> io::Result<()> {
    match disk.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
