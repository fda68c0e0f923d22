//! The frames of the log: pack header, record, footer. Encoding and decoding stand side by side; the
//! drawings are in FORMAT.md. No decisions here: what a bad frame means is for `recovery`.

use std::io;

use sha2::{Digest, Sha256};

use crate::{
    codec::{DecodeError, Reader, Writer, crc32c, crc32c_of},
    disk::DiskFile,
    meta::{
        BLOCK_BYTES, Body, Change,
        key::Key,
        record::{Location, Record},
    },
};

/// Batches begin and end at multiples of this.
pub const PAGE_BYTES: u64 = 4096;
/// Length of a record's fixed part.
pub const RECORD_HEADER_BYTES: usize = 40;
/// Length of a footer.
pub const FOOTER_BYTES: usize = 64;
/// Longest list of changes in one record, in bytes.
pub const CHANGE_BYTES_MAX: usize = 1 << 20;
/// Longest body in one record, in bytes.
pub const BODY_BYTES_MAX: usize = 16 << 20;

const PACK_MAGIC: &[u8; 8] = b"JAYPACK\x01";
const RECORD_MAGIC: &[u8; 4] = b"JREC";
const FOOTER_MAGIC: &[u8; 4] = b"JEND";
const VERSION: u16 = 1;

/// Ties each batch to all before it.
pub type Hash = [u8; 16];

/// A point of the log between two batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The pack.
    pub pack: u32,
    /// Bytes from its start.
    pub offset: u64,
    /// The last lsn before the point.
    pub lsn: u64,
    /// The hash of the batch before the point.
    pub hash: Hash,
}

/// The first block of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PackHeader {
    pub number: u32,
    pub store_id: [u8; 16],
    pub epoch: u64,
    pub incarnation: u32,
    pub continues: Position,
}

/// What the first block of a pack turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum HeaderBlock {
    Spare,
    Valid(PackHeader),
    Bad,
}

impl PackHeader {
    /// The 4096 bytes of the block.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(PAGE_BYTES as usize);
        w.raw(PACK_MAGIC)
            .u16(VERSION)
            .u16(0)
            .u32(self.number)
            .raw(&self.store_id);
        w.u64(self.epoch)
            .u32(self.incarnation)
            .u32(self.continues.pack);
        w.u64(self.continues.offset)
            .u64(self.continues.lsn)
            .raw(&self.continues.hash);
        let mut bytes = w.into_bytes();
        let sum = crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes.resize(PAGE_BYTES as usize, 0);
        bytes
    }

    /// Reads the first block of pack `number` of store `store_id`.
    pub fn decode(block: &[u8], number: u32, store_id: [u8; 16]) -> HeaderBlock {
        if block.iter().all(|&b| b == 0) {
            return HeaderBlock::Spare;
        }
        match Self::decode_valid(block) {
            Ok(header) if header.number == number && header.store_id == store_id => {
                HeaderBlock::Valid(header)
            }
            _ => HeaderBlock::Bad,
        }
    }

    /// Reads the first block of whatever pack it is.
    pub fn decode_any(block: &[u8]) -> HeaderBlock {
        if block.iter().all(|&b| b == 0) {
            return HeaderBlock::Spare;
        }
        Self::decode_valid(block).map_or(HeaderBlock::Bad, HeaderBlock::Valid)
    }

    /// The store that a log file says it is of, if its first block can be read.
    pub fn store_id_of(block: &[u8]) -> Option<[u8; 16]> {
        Self::decode_valid(block).ok().map(|header| header.store_id)
    }

    fn decode_valid(block: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("pack header", block);
        if r.array("magic")? != *PACK_MAGIC {
            return Err(r.error("magic"));
        }
        if r.u16("version")? != VERSION || r.u16("flags")? != 0 {
            return Err(r.error("version"));
        }
        let number = r.u32("number")?;
        let store_id = r.array("store id")?;
        let epoch = r.u64("epoch")?;
        let incarnation = r.u32("incarnation")?;
        let continues = Position {
            pack: r.u32("continues: pack")?,
            offset: r.u64("continues: offset")?,
            lsn: r.u64("continues: lsn")?,
            hash: r.array("continues: hash")?,
        };
        if r.u32("crc32c")? != crc32c(&block[..80]) {
            return Err(r.error("crc32c"));
        }
        Ok(Self {
            number,
            store_id,
            epoch,
            incarnation,
            continues,
        })
    }
}

/// Encodes the changes of one record.
pub fn encode_changes(changes: &[Change]) -> Vec<u8> {
    let mut w = Writer::with_capacity(512);
    w.u16(u16::try_from(changes.len()).expect("a transaction has few changes"));
    for change in changes {
        w.bytes16(&change.key.encode());
        match &change.record {
            None => w.u32(0),
            Some(record) => {
                let bytes = record.encode();
                w.u32(bytes.len() as u32 + 1).raw(&bytes)
            }
        };
    }
    w.into_bytes()
}

/// Reads them back.
pub fn decode_changes(bytes: &[u8]) -> Result<Vec<Change>, DecodeError> {
    let mut r = Reader::new("changes", bytes);
    let changes = (0..r.u16("count")?)
        .map(|_| {
            let key_bytes = r.bytes16("key")?;
            let key = Key::decode(key_bytes)?;
            let record = match r.u32("record length")? {
                0 => None,
                n => Some(Record::decode(
                    key_bytes[0],
                    r.take(n as usize - 1, "record")?,
                )?),
            };
            Ok(Change { key, record })
        })
        .collect::<Result<_, DecodeError>>()?;
    r.finish()?;
    Ok(changes)
}

/// Length of a record with these parts, padding included.
pub fn record_bytes(change_bytes: usize, body_bytes: usize) -> usize {
    let table = body_bytes.div_ceil(BLOCK_BYTES) * 4;
    (RECORD_HEADER_BYTES + table + change_bytes + body_bytes).next_multiple_of(8)
}

/// Length of a batch whose records have this length.
pub fn batch_bytes(records: usize) -> usize {
    (records + FOOTER_BYTES).next_multiple_of(PAGE_BYTES as usize)
}

/// Where a record's body came to lie within its batch.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// From the start of the batch, in bytes.
    pub body_offset: usize,
    /// Length of the record.
    pub record_bytes: usize,
}

/// Lays out one batch.
pub struct BatchBuilder {
    bytes: Vec<u8>,
    hasher: Sha256,
    epoch: u64,
    first_lsn: u64,
    count: u32,
}

impl BatchBuilder {
    /// A batch behind `previous`; `buffer` is reused and may begin with a pack header that goes to disk
    /// in the same write.
    pub fn new(epoch: u64, previous: &Position) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(previous.hash);
        Self {
            bytes: Vec::new(),
            hasher,
            epoch,
            first_lsn: previous.lsn + 1,
            count: 0,
        }
    }

    /// Appends a record with the next lsn.
    pub fn push(&mut self, changes: &[u8], body: Option<&Body>) -> Placed {
        let start = self.bytes.len();
        let (body_bytes, sums): (&[u8], &[u32]) =
            body.map_or((&[], &[]), |body| (&body.bytes, &body.sums));
        let mut w = Writer::with_capacity(RECORD_HEADER_BYTES);
        w.raw(RECORD_MAGIC).u8(1).u8(VERSION as u8).u8(0).u8(0);
        w.u64(self.epoch)
            .u64(self.first_lsn + u64::from(self.count));
        w.u32(changes.len() as u32)
            .u32(body_bytes.len() as u32)
            .u32(0);
        let head = w.into_bytes();
        let table: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        let sum = crc32c_of(&[&head, &table, changes]);
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(&sum.to_le_bytes());
        self.hasher.update(&self.bytes[start..]);
        self.bytes.extend_from_slice(&table);
        self.bytes.extend_from_slice(changes);
        let body_offset = self.bytes.len();
        self.bytes.extend_from_slice(body_bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.count += 1;
        Placed {
            body_offset,
            record_bytes: self.bytes.len() - start,
        }
    }

    /// How many records it has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Closes the batch: its bytes, and the hash that ties the next one to it.
    pub fn finish(mut self, durable_lsn: u64) -> (Vec<u8>, Hash) {
        let total = batch_bytes(self.bytes.len());
        self.bytes.resize(total - FOOTER_BYTES, 0);
        let mut w = Writer::with_capacity(FOOTER_BYTES);
        w.raw(FOOTER_MAGIC)
            .u8(VERSION as u8)
            .raw(&[0; 3])
            .u64(self.epoch);
        w.u64(self.first_lsn)
            .u32(self.count)
            .u32(total as u32)
            .u64(durable_lsn);
        let mut footer = w.into_bytes();
        self.hasher.update(&footer);
        let digest = self.hasher.finalize();
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest[..16]);
        footer.extend_from_slice(&hash);
        footer.extend_from_slice(&[0; 4]);
        let sum = crc32c(&footer);
        footer.extend_from_slice(&sum.to_le_bytes());
        self.bytes.extend_from_slice(&footer);
        (self.bytes, hash)
    }
}

/// The end of a batch, read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Footer {
    pub epoch: u64,
    pub first_lsn: u64,
    pub count: u32,
    pub batch_bytes: u32,
    pub durable_lsn: u64,
    pub hash: Hash,
}

impl Footer {
    /// Reads the 64 bytes of a footer.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("footer", bytes);
        if r.array("magic")? != *FOOTER_MAGIC || r.u8("version")? != VERSION as u8 {
            return Err(r.error("magic"));
        }
        r.take(3, "zero")?;
        let footer = Self {
            epoch: r.u64("epoch")?,
            first_lsn: r.u64("first lsn")?,
            count: r.u32("count")?,
            batch_bytes: r.u32("batch bytes")?,
            durable_lsn: r.u64("durable lsn")?,
            hash: r.array("hash")?,
        };
        r.take(4, "zero")?;
        if r.u32("crc32c")? != crc32c(&bytes[..60]) {
            return Err(r.error("crc32c"));
        }
        r.finish()?;
        Ok(footer)
    }
}

/// A record read back.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// Its lsn.
    pub lsn: u64,
    /// What it changes; `Here` locations are as written.
    pub changes: Vec<Change>,
    /// Where the body lies within the batch.
    pub body: std::ops::Range<usize>,
    /// CRC-32C of its blocks.
    pub sums: Vec<u32>,
    /// Length of the record.
    pub record_bytes: usize,
}

impl LogRecord {
    /// The changes with `Here` replaced by the place of the body in a batch at `offset` of `pack`.
    pub fn located(&self, pack: u32, offset: u64) -> Vec<Change> {
        let placed = Placed {
            body_offset: self.body.start,
            record_bytes: self.record_bytes,
        };
        self.changes
            .iter()
            .map(|c| locate(c, pack, offset, placed, &self.sums))
            .collect()
    }
}

/// The change as the index holds it: `Here` names the place in the pack.
pub fn locate(change: &Change, pack: u32, offset: u64, placed: Placed, sums: &[u32]) -> Change {
    let mut change = change.clone();
    if let Some(location) = change.record.as_mut().and_then(Record::location_mut)
        && *location == Location::Here
    {
        *location = Location::Pack {
            pack,
            offset: (offset as usize + placed.body_offset) as u32,
            record_bytes: placed.record_bytes as u32,
            sums: sums.to_vec(),
        };
    }
    change
}

/// A complete and verified batch.
#[derive(Debug)]
pub struct Batch {
    /// Its bytes, footer included.
    pub bytes: Vec<u8>,
    /// Its records.
    pub records: Vec<LogRecord>,
    /// Its footer.
    pub footer: Footer,
    /// The point behind it.
    pub next: Position,
}

/// What stands at a point of the log.
#[derive(Debug)]
pub enum Scanned {
    /// A complete batch.
    Batch(Box<Batch>),
    /// Anything else: zeros, a torn batch, damage. Why.
    Bad(&'static str),
}

/// Reads the batch at `at`, whose pack is of `epoch` and readable up to `limit`.
pub fn read_batch(
    file: &dyn DiskFile,
    limit: u64,
    epoch: u64,
    at: &Position,
) -> io::Result<Scanned> {
    let mut window = Window {
        file,
        start: at.offset,
        // One that was cut ends before the log that was in it.
        limit: limit.min(file.len()?),
        bytes: Vec::new(),
    };
    match parse_batch(&mut window, epoch, at, true) {
        Ok(parsed) => Ok(Scanned::Batch(Box::new(window.into_batch(parsed, at)))),
        Err(Stop::Bad(why)) => Ok(Scanned::Bad(why)),
        Err(Stop::Io(error)) => Err(error),
    }
}

/// The first batch in `from..limit` that is whole in itself and goes beyond `at`, and the point before it. Whether it
/// follows from what was before cannot be told: its hash is taken as it is.
pub fn next_whole_batch(
    file: &dyn DiskFile,
    (from, limit): (u64, u64),
    epoch: Option<u64>,
    at: &Position,
) -> io::Result<Option<(Position, Box<Batch>)>> {
    let limit = limit.min(file.len()?);
    let mut chunk = vec![0; 1 << 20];
    let mut offset = from.next_multiple_of(PAGE_BYTES);
    while offset + PAGE_BYTES <= limit {
        let n = (limit - offset).min(chunk.len() as u64) / PAGE_BYTES * PAGE_BYTES;
        let bytes = &mut chunk[..n as usize];
        file.read_at(bytes, offset)?;
        for (page, start) in bytes
            .chunks(PAGE_BYTES as usize)
            .zip((offset..).step_by(PAGE_BYTES as usize))
        {
            let Some((its_epoch, first_lsn)) = beginning(page) else {
                continue;
            };
            if first_lsn <= at.lsn || epoch.is_some_and(|epoch| epoch != its_epoch) {
                continue;
            }
            let before = Position {
                offset: start,
                lsn: first_lsn - 1,
                ..*at
            };
            let mut window = Window {
                file,
                start,
                limit,
                bytes: Vec::new(),
            };
            match parse_batch(&mut window, its_epoch, &before, false) {
                Ok(parsed) => {
                    let batch = window.into_batch(parsed, &before);
                    return Ok(Some((before, Box::new(batch))));
                }
                Err(Stop::Bad(_)) => {}
                Err(Stop::Io(error)) => return Err(error),
            }
        }
        offset += n;
    }
    Ok(None)
}

/// The epoch of the batch that begins at `offset`, if one may.
pub fn epoch_at(file: &dyn DiskFile, offset: u64, limit: u64) -> io::Result<Option<u64>> {
    if offset + PAGE_BYTES > limit.min(file.len()?) {
        return Ok(None);
    }
    let mut page = vec![0; PAGE_BYTES as usize];
    file.read_at(&mut page, offset)?;
    Ok(beginning(&page).map(|(epoch, _)| epoch))
}

/// The epoch and the first lsn of the batch that begins with this page, if one may.
fn beginning(page: &[u8]) -> Option<(u64, u64)> {
    if page[..4] == *RECORD_MAGIC {
        let mut r = Reader::new("record header", &page[8..RECORD_HEADER_BYTES]);
        return Some((r.u64("epoch").ok()?, r.u64("lsn").ok()?));
    }
    let footer = Footer::decode(&page[page.len() - FOOTER_BYTES..]).ok()?;
    (footer.count == 0).then_some((footer.epoch, footer.first_lsn))
}

enum Stop {
    Bad(&'static str),
    Io(io::Error),
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Stop::Bad(error.field)
    }
}

/// The part of a pack that has been read so far, growing on demand.
struct Window<'a> {
    file: &'a dyn DiskFile,
    start: u64,
    limit: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    const STEP: usize = 64 * 1024;

    /// The batch that was parsed in it, which begins at `at`.
    fn into_batch(self, (records, footer): (Vec<LogRecord>, Footer), at: &Position) -> Batch {
        let mut bytes = self.bytes;
        bytes.truncate(footer.batch_bytes as usize);
        let next = Position {
            pack: at.pack,
            offset: at.offset + u64::from(footer.batch_bytes),
            lsn: at.lsn + u64::from(footer.count),
            hash: footer.hash,
        };
        Batch {
            bytes,
            records,
            footer,
            next,
        }
    }

    fn get(&mut self, range: std::ops::Range<usize>) -> Result<&[u8], Stop> {
        if range.end > self.bytes.len() {
            let room = self.limit.saturating_sub(self.start) as usize;
            if range.end > room {
                return Err(Stop::Bad("beyond the end of the pack"));
            }
            let have = self.bytes.len();
            let want = range.end.next_multiple_of(Self::STEP).min(room);
            self.bytes.resize(want, 0);
            self.file
                .read_at(&mut self.bytes[have..], self.start + have as u64)
                .map_err(Stop::Io)?;
        }
        Ok(&self.bytes[range])
    }
}

fn parse_batch(
    window: &mut Window,
    epoch: u64,
    at: &Position,
    is_hash_known: bool,
) -> Result<(Vec<LogRecord>, Footer), Stop> {
    let mut hasher = Sha256::new();
    hasher.update(at.hash);
    let (mut records, mut end) = (Vec::new(), 0);
    loop {
        let footer_at = batch_bytes(end) - FOOTER_BYTES;
        // Asked first: a record may begin where the footer would be if there were no more.
        if window.get(end..end + 4)? == RECORD_MAGIC {
            let record = parse_record(window, epoch, at.lsn + 1 + records.len() as u64, end)?;
            hasher.update(window.get(end..end + RECORD_HEADER_BYTES)?);
            end += record.record_bytes;
            records.push(record);
            continue;
        }
        if window.get(end..footer_at)?.iter().any(|&b| b != 0) {
            return Err(Stop::Bad("padding"));
        }
        let bytes = window.get(footer_at..footer_at + FOOTER_BYTES)?;
        let footer = Footer::decode(bytes)?;
        hasher.update(&bytes[..40]);
        let expected = (
            epoch,
            at.lsn + 1,
            records.len() as u32,
            batch_bytes(end) as u32,
        );
        if (
            footer.epoch,
            footer.first_lsn,
            footer.count,
            footer.batch_bytes,
        ) != expected
        {
            return Err(Stop::Bad("footer of another batch"));
        }
        if is_hash_known && hasher.finalize()[..16] != footer.hash {
            return Err(Stop::Bad("hash"));
        }
        return Ok((records, footer));
    }
}

fn parse_record(window: &mut Window, epoch: u64, lsn: u64, at: usize) -> Result<LogRecord, Stop> {
    let header = window.get(at..at + RECORD_HEADER_BYTES)?;
    let mut r = Reader::new("record header", header);
    r.take(4, "magic")?;
    if r.array("type, version, cipher, flags")? != [1, VERSION as u8, 0, 0] {
        return Err(Stop::Bad("type, version, cipher, flags"));
    }
    if r.u64("epoch")? != epoch || r.u64("lsn")? != lsn {
        return Err(Stop::Bad("record of another place"));
    }
    let change_bytes = r.u32("change bytes")? as usize;
    let body_bytes = r.u32("body bytes")? as usize;
    r.take(4, "zero")?;
    let sum = r.u32("crc32c")?;
    if change_bytes > CHANGE_BYTES_MAX || body_bytes > BODY_BYTES_MAX {
        return Err(Stop::Bad("length"));
    }
    let table_bytes = body_bytes.div_ceil(BLOCK_BYTES) * 4;
    let record_bytes = record_bytes(change_bytes, body_bytes);
    let whole = window.get(at..at + record_bytes)?;
    let (table, rest) = whole[RECORD_HEADER_BYTES..].split_at(table_bytes);
    let (changes, rest) = rest.split_at(change_bytes);
    if crc32c_of(&[&whole[..36], table, changes]) != sum {
        return Err(Stop::Bad("crc32c of the record"));
    }
    let (body, padding) = rest.split_at(body_bytes);
    let sums: Vec<u32> = table
        .as_chunks()
        .0
        .iter()
        .map(|chunk| u32::from_le_bytes(*chunk))
        .collect();
    if body
        .chunks(BLOCK_BYTES)
        .zip(&sums)
        .any(|(block, &sum)| crc32c(block) != sum)
    {
        return Err(Stop::Bad("crc32c of the body"));
    }
    if padding.iter().any(|&b| b != 0) {
        return Err(Stop::Bad("padding"));
    }
    let changes = decode_changes(changes)?;
    let body = at + record_bytes - padding.len() - body_bytes..at + record_bytes - padding.len();
    Ok(LogRecord {
        lsn,
        changes,
        body,
        sums,
        record_bytes,
    })
}

/// The highest durable lsn that any footer in `from..limit` of a pack speaks of.
pub fn durable_lsn_beyond(
    file: &dyn DiskFile,
    from: u64,
    limit: u64,
    epoch: Option<u64>,
) -> io::Result<u64> {
    let mut highest = 0;
    let mut chunk = vec![0; 1 << 20];
    let mut at = from / PAGE_BYTES * PAGE_BYTES;
    while at + PAGE_BYTES <= limit {
        let n = (limit - at).min(chunk.len() as u64) / PAGE_BYTES * PAGE_BYTES;
        let bytes = &mut chunk[..n as usize];
        file.read_at(bytes, at)?;
        for page in bytes.chunks(PAGE_BYTES as usize) {
            if let Ok(footer) = Footer::decode(&page[page.len() - FOOTER_BYTES..])
                && epoch.is_none_or(|epoch| epoch == footer.epoch)
            {
                highest = highest.max(footer.durable_lsn);
            }
        }
        at += n;
    }
    Ok(highest)
}

#[cfg(test)]
mod tests;
