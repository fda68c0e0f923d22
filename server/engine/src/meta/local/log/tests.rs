use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    disk::{Disk, simulated::SimulatedDisk},
    meta::{
        key::BucketId,
        record::{BucketRecord, ObjectRecord},
    },
    types::{ChecksumType, ContentHeaders, ETag, Tags, Timestamp},
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn position() -> Position {
    Position {
        pack: 7,
        offset: PAGE_BYTES,
        lsn: 41,
        hash: [0x11; 16],
    }
}

fn object(location: Location, size: u64) -> Record {
    Record::Object(Box::new(ObjectRecord {
        version: 0x0102,
        modified: Timestamp(3),
        size,
        sha256: [0x22; 32],
        crc64: 4,
        etag: ETag::new("e"),
        checksum: None,
        checksum_type: ChecksumType::FullObject,
        location,
        headers: ContentHeaders {
            content_type: Some("t".into()),
            ..ContentHeaders::default()
        },
        metadata: [("n".to_owned(), "v".to_owned())].into(),
        tags: Tags::default(),
    }))
}

fn changes() -> Vec<Change> {
    vec![
        Change::put(
            Key::Object(BucketId(5), "k".into()),
            object(Location::Here, 3),
        ),
        Change::delete(Key::Bucket("b".into())),
    ]
}

fn file_with(bytes: &[u8], offset: u64) -> Arc<dyn DiskFile> {
    let file = SimulatedDisk::new(1).create("pack").unwrap();
    file.write_at(bytes, offset).unwrap();
    file
}

fn sample_batch() -> (Vec<u8>, Hash) {
    let mut builder = BatchBuilder::new(9, &position());
    builder.push(
        &encode_changes(&changes()),
        Some(&Body::new(Bytes::from_static(b"abc"))),
    );
    builder.push(
        &encode_changes(&[Change::delete(Key::Bucket("c".into()))]),
        None,
    );
    builder.finish(41)
}

/// The bytes of FORMAT.md, version 2. A change here is a change of the format: it needs a new version and
/// a way to read the old one.
#[test]
fn frames_are_byte_for_byte_what_the_format_says() {
    let header = PackHeader {
        number: 8,
        store_id: [0x33; 16],
        epoch: 9,
        incarnation: 2,
        continues: position(),
    };
    let block = header.encode();
    assert_eq!(block.len(), 4096);
    assert_eq!(
        hex(&block[..84]),
        concat!(
            "4a41595041434b01",
            "0100",
            "0000",
            "08000000",
            "33333333333333333333333333333333",
            "0900000000000000",
            "02000000",
            "07000000",
            "0010000000000000",
            "2900000000000000",
            "11111111111111111111111111111111",
            "8a436c7c",
        )
    );
    assert!(block[84..].iter().all(|&b| b == 0));
    let (batch, _) = sample_batch();
    assert_eq!(batch.len(), 4096);
    assert_eq!(
        hex(&batch[..232]),
        concat!(
            "4a524543",
            "01010000",
            "0900000000000000",
            "2a00000000000000",
            "80000000",
            "03000000",
            "00000000",
            "38f013ad",
            "b73f4b36",
            "0200",
            "0a00",
            "0400000000000000056b",
            "67000000",
            "0200020100000000000000000000000000000300000000000000030000000000",
            "0000222222222222222222222222222222222222222222222222222222222222",
            "2222040000000000000001006500000102007400000000000000000000010001",
            "006e010076000200026200000000616263004a52454301010000090000000000",
            "00002b000000000000000a00000000000000000000008b3cf7c5010002000263",
            "00000000000000000000",
        )
    );
    assert!(batch[232..4096 - 64].iter().all(|&b| b == 0));
    assert_eq!(
        hex(&batch[4096 - 64..]),
        concat!(
            "4a454e44",
            "01000000",
            "0900000000000000",
            "2a00000000000000",
            "02000000",
            "00100000",
            "2900000000000000",
            "ab53be29fe4b92f9d83f218510ae381b",
            "00000000",
            "df7506a2",
        )
    );
}

#[test]
fn a_batch_reads_back_and_no_part_of_it_does() {
    let (bytes, hash) = sample_batch();
    let file = file_with(&bytes, PAGE_BYTES);
    let Scanned::Batch(batch) = read_batch(&*file, 8192, 9, &position()).unwrap() else {
        panic!()
    };
    assert_eq!(batch.records.len(), 2);
    assert_eq!(batch.records[0].changes, changes());
    assert_eq!(&batch.bytes[batch.records[0].body.clone()], b"abc");
    assert_eq!(
        batch.next,
        Position {
            pack: 7,
            offset: 8192,
            lsn: 43,
            hash
        }
    );
    let bad = |file: &dyn DiskFile, limit, epoch, at| {
        matches!(
            read_batch(file, limit, epoch, &at).unwrap(),
            Scanned::Bad(_)
        )
    };
    for limit in (PAGE_BYTES..8192).step_by(8) {
        assert!(bad(&*file, limit, 9, position()), "cut at {limit}");
    }
    assert!(bad(&*file, 8192, 10, position()), "another epoch");
    assert!(
        bad(
            &*file,
            8192,
            9,
            Position {
                lsn: 40,
                ..position()
            }
        ),
        "another lsn"
    );
    assert!(
        bad(
            &*file,
            8192,
            9,
            Position {
                hash: [0; 16],
                ..position()
            }
        ),
        "another history"
    );
}

#[test]
fn every_flipped_bit_of_a_batch_is_noticed() {
    let (bytes, _) = sample_batch();
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        let file = file_with(&bytes, PAGE_BYTES);
        let scanned = read_batch(&*file, 8192, 9, &position()).unwrap();
        assert!(matches!(scanned, Scanned::Bad(_)), "byte {at}");
    }
}

#[test]
fn a_seal_is_a_batch_without_records() {
    let (bytes, hash) = BatchBuilder::new(9, &position()).finish(41);
    let file = file_with(&bytes, PAGE_BYTES);
    let Scanned::Batch(batch) = read_batch(&*file, 8192, 9, &position()).unwrap() else {
        panic!()
    };
    assert_eq!((batch.records.len(), batch.footer.durable_lsn), (0, 41));
    assert_eq!(
        batch.next,
        Position {
            pack: 7,
            offset: 8192,
            lsn: 41,
            hash
        }
    );
    assert_eq!(durable_lsn_beyond(&*file, 0, 8192, Some(9)).unwrap(), 41);
    assert_eq!(durable_lsn_beyond(&*file, 0, 8192, Some(8)).unwrap(), 0);
}

#[test]
fn a_pack_header_is_spare_valid_or_bad() {
    let header = PackHeader {
        number: 8,
        store_id: [3; 16],
        epoch: 9,
        incarnation: 2,
        continues: position(),
    };
    let block = header.encode();
    assert_eq!(
        PackHeader::decode(&block, 8, [3; 16]),
        HeaderBlock::Valid(header)
    );
    assert_eq!(PackHeader::decode(&block, 9, [3; 16]), HeaderBlock::Bad);
    assert_eq!(PackHeader::decode(&block, 8, [4; 16]), HeaderBlock::Bad);
    assert_eq!(
        PackHeader::decode(&[0; 4096], 8, [3; 16]),
        HeaderBlock::Spare
    );
    for at in 0..84 {
        let mut block = block.clone();
        block[at] ^= 1;
        assert_eq!(
            PackHeader::decode(&block, 8, [3; 16]),
            HeaderBlock::Bad,
            "byte {at}"
        );
    }
}

#[test]
fn a_body_longer_than_a_block_has_a_sum_a_block() {
    let body = Body::new(Bytes::from(vec![7; BLOCK_BYTES + 1]));
    assert_eq!(body.sums.len(), 2);
    let mut builder = BatchBuilder::new(9, &position());
    let placed = builder.push(&encode_changes(&changes()), Some(&body));
    let (bytes, _) = builder.finish(0);
    let file = file_with(&bytes, PAGE_BYTES);
    let limit = PAGE_BYTES + bytes.len() as u64;
    let Scanned::Batch(batch) = read_batch(&*file, limit, 9, &position()).unwrap() else {
        panic!()
    };
    assert_eq!(batch.records[0].body.start, placed.body_offset);
    assert_eq!(batch.records[0].sums, body.sums);
    let located = batch.records[0].located(7, PAGE_BYTES);
    let Some(Record::Object(object)) = &located[0].record else {
        panic!()
    };
    let offset = (PAGE_BYTES as usize + placed.body_offset) as u32;
    let record_bytes = placed.record_bytes as u32;
    let expected = Location::Pack {
        pack: 7,
        offset,
        record_bytes,
        sums: body.sums,
    };
    assert_eq!(object.location, expected);
}

#[test]
fn records_of_every_kind_read_back() {
    let bucket = Record::Bucket(BucketRecord {
        id: BucketId(1),
        owner: crate::meta::key::AccountId(2),
        created: Timestamp(3),
        public_read: true,
    });
    let located = object(
        Location::Pack {
            pack: 1,
            offset: 2,
            record_bytes: 3,
            sums: vec![4, 5],
        },
        9,
    );
    for (key, record) in [
        (Key::Bucket("b".into()), bucket),
        (Key::Object(BucketId(1), "k".into()), located),
        (
            Key::Object(BucketId(1), "k".into()),
            object(Location::Empty, 0),
        ),
    ] {
        let bytes = record.encode();
        assert_eq!(Record::decode(key.encode()[0], &bytes).unwrap(), record);
        for n in 0..bytes.len() {
            assert!(Record::decode(key.encode()[0], &bytes[..n]).is_err(), "{n}");
        }
    }
}

/// A batch whose first record ended 64 bytes before a page's end had its second record taken for the
/// footer. The batch was acknowledged, and at the next start the log was called damaged. The simulator
/// met it in seed 409.
#[test]
fn a_record_may_begin_where_a_footer_could_be() {
    let at = Position {
        offset: PAGE_BYTES,
        ..Position::default()
    };
    for body_bytes in 0..PAGE_BYTES as usize {
        let body = Body::new(vec![7; body_bytes].into());
        let mut builder = BatchBuilder::new(5, &at);
        let first = builder.push(&encode_changes(&[]), Some(&body));
        builder.push(&encode_changes(&[]), None);
        let (bytes, hash) = builder.finish(0);
        let disk = SimulatedDisk::new(0);
        let file = disk.create("pack").unwrap();
        file.write_at(&bytes, PAGE_BYTES).unwrap();
        let read = read_batch(&*file, file.len().unwrap(), 5, &at).unwrap();
        let Scanned::Batch(batch) = read else {
            panic!("a first record of {} bytes", first.record_bytes);
        };
        assert_eq!((batch.records.len(), batch.footer.hash), (2, hash));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), tag: u8) {
        let _ = Record::decode(tag, &bytes);
        let _ = Key::decode(&bytes);
        let _ = decode_changes(&bytes);
        let _ = Footer::decode(&bytes);
        let _ = crate::meta::record::Checkpoint::decode(&bytes);
        let mut bytes = bytes;
        bytes.resize(4096, 0);
        bytes[..4].copy_from_slice(RECORD_MAGIC);
        let file = file_with(&bytes, PAGE_BYTES);
        let _ = read_batch(&*file, 8192, 9, &position());
    }
}
