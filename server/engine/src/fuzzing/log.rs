//! The log: changes, headers of packs, footers, and batches that are damaged.

use std::sync::Arc;

use bytes::Bytes;

use super::summed;
use crate::{
    codec::{DecodeError, Reader},
    disk::{Disk, DiskFile, simulated::SimulatedDisk},
    meta::{
        Body,
        local::log::{
            BatchBuilder, FOOTER_BYTES, Footer, HeaderBlock, LogRecord, PAGE_BYTES, PackHeader,
            Position, Scanned, decode_changes, durable_lsn_beyond, encode_changes, epoch_at,
            next_whole_batch, read_batch,
        },
    },
};

const EPOCH: u64 = 9;
/// Most batches, and most bytes that are damaged in them: with more one could be made up that has all its sums right.
const BATCHES_MAX: usize = 3;
const DAMAGES_MAX: u8 = 3;

/// What can be read is written as it was, and no damaged batch is ever taken for one. The first byte says what the
/// others are.
pub fn log(data: &[u8]) {
    match data.split_first() {
        Some((0, changes)) => self::changes(changes),
        Some((1, header)) => self::header(header),
        Some((2, footer)) => self::footer(footer),
        Some((_, spec)) => {
            let _ = batches(&mut Reader::new("batches to be made", spec));
        }
        None => {}
    }
}

fn changes(bytes: &[u8]) {
    let Ok(changes) = decode_changes(bytes) else {
        return;
    };
    let written = encode_changes(&changes);
    assert_eq!(decode_changes(&written).as_ref().ok(), Some(&changes));
}

fn header(bytes: &[u8]) {
    const SUMMED: usize = 84;
    let mut block = bytes.to_vec();
    block.resize(SUMMED, 0);
    if let HeaderBlock::Valid(header) = PackHeader::decode_any(&summed(&block)) {
        assert_eq!(header.encode()[..SUMMED], summed(&block));
    }
}

fn footer(bytes: &[u8]) {
    let mut footer = bytes.to_vec();
    footer.resize(FOOTER_BYTES, 0);
    let _ = Footer::decode(&summed(&footer));
}

/// What was written as one batch.
struct Written {
    at: Position,
    bytes: Vec<u8>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
    is_damaged: bool,
}

/// Makes a pack as `spec` says, damages it, and reads it.
fn batches(spec: &mut Reader) -> Result<(), DecodeError> {
    let mut damages = Vec::new();
    for _ in 0..spec.u8("damages")? % (DAMAGES_MAX + 1) {
        damages.push((spec.u16("where")?, spec.u8("what")?));
    }
    let mut at = Position {
        pack: 1,
        offset: PAGE_BYTES,
        ..Position::default()
    };
    let mut all = Vec::new();
    while all.len() < BATCHES_MAX
        && let Ok(count) = spec.u8("records of a batch")
    {
        all.push(write(spec, &mut at, count % 8)?);
    }
    let file = SimulatedDisk::new(1).create("pack").expect("no faults");
    for batch in &all {
        file.write_at(&batch.bytes, batch.at.offset)
            .expect("no faults");
    }
    let limit = at.offset.next_multiple_of(2 * PAGE_BYTES);
    file.set_len(limit).expect("no faults");
    for (offset, mask) in damages {
        damage(&*file, PAGE_BYTES + u64::from(offset), mask, limit);
    }
    // Two damages in one place may have undone each other.
    for batch in &mut all {
        let mut bytes = vec![0; batch.bytes.len()];
        file.read_at(&mut bytes, batch.at.offset)
            .expect("no faults");
        batch.is_damaged = bytes != batch.bytes;
    }
    read(&file, limit, &all);
    Ok(())
}

fn write(spec: &mut Reader, at: &mut Position, count: u8) -> Result<Written, DecodeError> {
    let mut builder = BatchBuilder::new(EPOCH, at);
    let mut records = Vec::new();
    for _ in 0..count {
        let changes = spec.bytes16("changes")?.to_vec();
        let body = spec.bytes16("body")?;
        // Long enough for several blocks now and then.
        let body = body.repeat(1 + usize::from(body.len() > 9) * 9999);
        let with_body = (!body.is_empty()).then(|| Body::new(Bytes::from(body.clone())));
        builder.push(&changes, with_body.as_ref());
        records.push((changes, body));
    }
    let (bytes, hash) = builder.finish(at.lsn);
    let written = Written {
        at: *at,
        bytes,
        records,
        is_damaged: false,
    };
    at.offset += written.bytes.len() as u64;
    at.lsn += u64::from(count);
    at.hash = hash;
    Ok(written)
}

fn damage(file: &dyn DiskFile, offset: u64, mask: u8, limit: u64) {
    if offset < limit {
        let mut byte = [0];
        file.read_at(&mut byte, offset).expect("no faults");
        file.write_at(&[byte[0] ^ mask], offset).expect("no faults");
    }
}

fn read(file: &Arc<dyn DiskFile>, limit: u64, all: &[Written]) {
    for batch in all {
        let scanned = read_batch(&**file, limit, EPOCH, &batch.at).expect("no faults");
        let is_sound = batch
            .records
            .iter()
            .all(|(changes, _)| decode_changes(changes).is_ok());
        match scanned {
            Scanned::Batch(found) => {
                assert!(!batch.is_damaged && found.bytes == batch.bytes);
                assert_eq!(found.records.len(), batch.records.len());
                for (record, written) in found.records.iter().zip(&batch.records) {
                    same(record, &found.bytes, written);
                }
            }
            Scanned::Bad(why) => assert!(batch.is_damaged || !is_sound, "{why}"),
        }
        let _ = epoch_at(&**file, batch.at.offset, limit).expect("no faults");
    }
    // Wherever reading begins, what is found was written there.
    let start = Position::default();
    let mut from = PAGE_BYTES;
    while let Some((before, found)) =
        next_whole_batch(&**file, (from, limit), Some(EPOCH), &start).expect("no faults")
    {
        let written = all.iter().find(|batch| batch.at.offset == before.offset);
        assert!(written.is_some_and(|batch| batch.bytes == found.bytes));
        from = found.next.offset;
    }
    let durable = all.iter().map(|batch| batch.at.lsn).max();
    let found = durable_lsn_beyond(&**file, PAGE_BYTES, limit, Some(EPOCH)).expect("no faults");
    assert!(found <= durable.unwrap_or(0));
}

fn same(record: &LogRecord, bytes: &[u8], (changes, body): &(Vec<u8>, Vec<u8>)) {
    assert_eq!(decode_changes(changes).as_ref().ok(), Some(&record.changes));
    assert_eq!(&bytes[record.body.clone()], body);
}
