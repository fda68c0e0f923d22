use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    disk::{Disk, simulated::SimulatedDisk},
    meta::{
        key::{AccountId, BlobId, BucketId},
        record::{
            AccountRecord, BlobRecord, BucketRecord, BucketStats, ObjectRecord, PackRecord,
            PartRecord, PartRun, PartSet, PartSetRecord, TokenRecord, UploadRecord,
        },
    },
    types::{
        Checksum, ChecksumAlgorithm, ChecksumType, ContentHeaders, ETag, Policy, Tag, Tags,
        Timestamp, UploadId,
    },
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
        sha256: Some([0x22; 32]),
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
        quarantined: None,
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

/// The bytes of FORMAT.md, version 5. A change here is a change of the format: it needs a new version and
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
            "82000000",
            "03000000",
            "00000000",
            "08ee47a7",
            "b73f4b36",
            "0200",
            "0a00",
            "0400000000000000056b",
            "69000000",
            "0400020100000000000000000000000000000300000000000000030000000000",
            "0000012222222222222222222222222222222222222222222222222222222222",
            "2222220400000000000000010065000001020074000000000000000000000100",
            "01006e01007600000200026200000000616263000000000000004a5245430101",
            "000009000000000000002b000000000000000a00000000000000000000008b3c",
            "f7c50100020002630000",
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
            "c78e43b9e7776b957313dbed931e7abb",
            "00000000",
            "102a6f1b",
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

fn tags() -> Tags {
    let tag = |key: &str| Tag {
        key: key.into(),
        value: "v".into(),
    };
    Tags::new(vec![tag("a"), tag("ü")]).unwrap()
}

fn described(location: Location) -> Record {
    let Record::Object(mut object) = object(location, 9) else {
        unreachable!("an object")
    };
    object.tags = tags();
    object.checksum_type = ChecksumType::Composite;
    object.checksum = Some(Checksum {
        algorithm: ChecksumAlgorithm::Sha256,
        value: vec![7; 32],
    });
    Record::Object(object)
}

fn upload() -> Record {
    Record::Upload(Box::new(UploadRecord {
        initiated: Timestamp(3),
        initiator: AccountId(2),
        checksum_algorithm: Some(ChecksumAlgorithm::Crc32c),
        checksum_type: ChecksumType::Composite,
        headers: ContentHeaders {
            expires: Some("never".into()),
            ..ContentHeaders::default()
        },
        metadata: [("n".to_owned(), "v".to_owned())].into(),
        tags: tags(),
    }))
}

fn part(location: Location) -> Record {
    Record::Part(Box::new(PartRecord {
        version: 1 << 100,
        modified: Timestamp(3),
        size: 9,
        md5: [1; 16],
        sha256: [2; 32],
        crc64: 4,
        checksum: Some(Checksum {
            algorithm: ChecksumAlgorithm::Crc32c,
            value: vec![7; 4],
        }),
        location,
    }))
}

fn in_pack() -> Location {
    Location::Pack {
        pack: 1,
        offset: 2,
        record_bytes: 3,
        sums: vec![4, 5],
    }
}

fn in_parts() -> Location {
    let mut set = PartSet {
        id: UploadId(1 << 90),
        runs: Vec::new(),
    };
    [(1, 5), (2, 5), (4, 5), (5, 6)]
        .into_iter()
        .for_each(|(number, bytes)| set.push(number, bytes));
    assert_eq!(set.runs.len(), 3);
    Location::Parts(set)
}

/// A row of every kind that there is.
fn rows() -> Vec<(Key, Record)> {
    let bucket = Record::Bucket(BucketRecord {
        id: BucketId(1),
        owner: AccountId(2),
        created: Timestamp(3),
        public_read: true,
        quota_bytes: Some(7),
        policy: Some(Arc::new(
            Policy::parse(
                br#"{"version":"2024-01-01","statements":[{"effect":"deny","actions":["*"],"subjects":["t"]}]}"#,
            )
            .unwrap(),
        )),
    });
    let account = Record::Account(AccountRecord {
        name: "me".into(),
        created: Timestamp(3),
        active: true,
    });
    let token = Record::Token(Box::new(TokenRecord {
        account: AccountId(2),
        name: "n".into(),
        created: Timestamp(3),
        expires: Some(Timestamp(4)),
        active: false,
        sealed_secret: vec![5; 40],
        key_id: [6; 8],
        secret_hash: "$2b$10$".into(),
        actions: vec!["object:get".into()],
        buckets: vec!["b".into(), "c".into()],
        prefixes: Vec::new(),
    }));
    let set = Record::PartSet(PartSetRecord {
        references: 1,
        parts: 2,
        changes: 1 << 40,
    });
    let stats = BucketStats {
        objects: 1,
        bytes: 2,
    };
    let blob = BlobRecord {
        references: 3,
        bytes: 4,
    };
    let (id, file) = (UploadId(1 << 90), BlobId::new(1, 2, 3, 4));
    let key = || Key::Object(BucketId(1), "k".into());
    vec![
        (Key::Bucket("b".into()), bucket),
        (Key::BucketStats(BucketId(1)), Record::BucketStats(stats)),
        (key(), object(in_pack(), 9)),
        (key(), object(Location::Empty, 0)),
        (key(), object(Location::File(file), 9)),
        (key(), described(in_parts())),
        (Key::Upload(BucketId(1), "k\0".into(), id), upload()),
        (Key::Part(id, 1), part(in_pack())),
        (Key::Part(id, 10_000), part(Location::File(file))),
        (Key::Account(AccountId(2)), account),
        (
            Key::AccountName("me".into()),
            Record::AccountName(AccountId(2)),
        ),
        (Key::Token("t".into()), token),
        (Key::Blob(file), Record::Blob(blob)),
        (Key::Free(file), Record::Free),
        (Key::Pack(1), Record::Pack(PackRecord { live_bytes: 5 })),
        (Key::PartSet(id), set),
        (Key::FreePartSet(id), Record::Free),
        (Key::FreeBucket(BucketId(1)), Record::Free),
    ]
}

#[test]
fn records_of_every_kind_read_back() {
    for (key, record) in rows() {
        let (tag, bytes) = (key.encode()[0], record.encode());
        assert_eq!(Record::decode(tag, &bytes).unwrap(), record);
        for n in 0..bytes.len() {
            assert!(Record::decode(tag, &bytes[..n]).is_err(), "{key:?} {n}");
        }
        let more = [&bytes[..], &[0]].concat();
        assert!(Record::decode(tag, &more).is_err(), "{key:?} and more");
    }
}

#[test]
fn the_new_records_are_as_drawn() {
    let id = "00000000040000000000000000000000";
    let text = hex(&part(in_parts()).encode());
    let expected = [
        // version, cipher, version id, modified, size, MD5, SHA-256, CRC64, checksum
        "01",
        "00",
        "00000000000000000000000010000000",
        "0300000000000000",
        "0900000000000000",
        &"01".repeat(16),
        &"02".repeat(32),
        "0400000000000000",
        "0207070707",
        // parts: upload id, count of runs, the runs
        "04",
        id,
        "0300",
        "010002000500000000000000",
        "040001000500000000000000",
        "050001000600000000000000",
    ];
    assert_eq!(text, expected.concat());
    let expected = [
        // version, initiated, initiator, algorithm and type of the checksum
        "01",
        "0300000000000000",
        "02000000000000000000000000000000",
        "02",
        "01",
        // headers, metadata, tags
        "0000000000000000000006006e65766572",
        "010001006e010076",
        "02010061010076",
        "0200c3bc010076",
    ];
    assert_eq!(hex(&upload().encode()), expected.concat());
    let key = Key::Upload(BucketId(1), "k\0".into(), UploadId(1 << 90));
    let drawn = format!("0600000000000000016b00ff0001{id}");
    assert_eq!(hex(&key.encode()), drawn);
}

/// A record of format 4 has always SHA-256, one of format 2 says nothing of quarantine, one of format 1 has neither the type of the checksum nor tags.
#[test]
fn an_object_of_earlier_formats_reads_back() {
    let new = object(Location::Empty, 0);
    let mut bytes = new.encode();
    // Its parts: up to the entity tag and the missing checksum, then the type, and the count of tags at the end.
    let type_at = 1 + 1 + 16 + 8 + 8 + 32 + 8 + 2 + 1 + 1;
    let tag = crate::meta::key::tag::OBJECT;
    assert_eq!(bytes.remove(34), 1);
    bytes[0] = 3;
    assert_eq!(Record::decode(tag, &bytes).unwrap(), new);
    assert_eq!(bytes.pop(), Some(0));
    bytes[0] = 2;
    assert_eq!(Record::decode(tag, &bytes).unwrap(), new);
    assert_eq!((bytes.remove(type_at), bytes.pop()), (0, Some(0)));
    bytes[0] = 1;
    assert_eq!(Record::decode(tag, &bytes).unwrap(), new);
    bytes[0] = 5;
    assert!(Record::decode(tag, &bytes).is_err());
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

/// First bytes of keys.
fn tag() -> impl Strategy<Value = u8> {
    let known: Vec<u8> = rows().iter().map(|(key, _)| key.encode()[0]).collect();
    prop_oneof![prop::sample::select(known), any::<u8>()]
}

#[test]
fn runs_of_parts_that_cannot_be_are_refused() {
    let run = |first, count, part_bytes| PartRun {
        first,
        count,
        part_bytes,
    };
    for runs in [
        vec![run(2, u16::MAX, 1)],
        vec![run(1, 2, u64::MAX)],
        vec![run(1, 1, u64::MAX), run(2, 1, 1)],
        vec![run(1, 3, 5), run(3, 1, 5)],
        vec![run(0, 1, 5)],
        vec![run(1, 0, 5)],
        vec![run(0, 0, 5)],
    ] {
        let id = UploadId(1);
        let bytes = part(Location::Parts(PartSet { id, runs })).encode();
        assert!(Record::decode(crate::meta::key::tag::PART, &bytes).is_err());
    }
}

/// A row has one form: what reads as the same is the same.
#[test]
fn what_was_never_written_is_refused() {
    use crate::meta::key::tag;
    for (key, record) in rows() {
        let (tag, mut bytes) = (key.encode()[0], record.encode());
        let status = match record {
            Record::Account(_) => bytes.len() - 1,
            // Behind version, account, name, the two times.
            Record::Token(token) => 1 + 16 + 2 + token.name.len() + 16,
            _ => continue,
        };
        assert!(bytes[status] < 2, "{key:?}");
        bytes[status] = 2;
        assert!(Record::decode(tag, &bytes).is_err(), "{key:?}");
    }
    let pairs = |pairs: &str| {
        let one = "0100".to_owned() + "01006e010076";
        let text = hex(&object(Location::Empty, 0).encode());
        assert!(text.contains(&one));
        let text = text.replace(&one, pairs);
        let digits = text.as_bytes().chunks(2);
        let digits = digits.map(|pair| std::str::from_utf8(pair).unwrap());
        let bytes: Vec<u8> = digits.map(|d| u8::from_str_radix(d, 16).unwrap()).collect();
        Record::decode(tag::OBJECT, &bytes).is_ok()
    };
    assert!(pairs("010001006e010076") && pairs("020001006d01007601006e010076"));
    assert!(!pairs("020001006e01007601006e010076"), "a name twice");
    assert!(!pairs("020001006e01007601006d010076"), "out of order");
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), tag in tag()) {
        let _ = Record::decode(tag, &bytes);
        let _ = Key::decode(&bytes);
        let _ = Key::decode(&[&[tag], &bytes[..]].concat());
        let _ = decode_changes(&bytes);
        let _ = Footer::decode(&bytes);
        let _ = crate::meta::record::Checkpoint::decode(&bytes);
        let mut bytes = bytes;
        bytes.resize(4096, 0);
        bytes[..4].copy_from_slice(RECORD_MAGIC);
        let file = file_with(&bytes, PAGE_BYTES);
        let _ = read_batch(&*file, 8192, 9, &position());
    }

    /// Random bytes rarely come far; rows with some of their bytes changed do.
    #[test]
    fn no_damaged_row_makes_a_decoder_panic(
        which in 0..rows().len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (key, record) = rows().swap_remove(which);
        let (mut key, mut record) = (key.encode(), record.encode());
        let tag = key[0];
        for (at, byte) in &damage {
            let (i, n) = (at.index(key.len()), record.len());
            key[i] = *byte;
            record[at.index(n)] ^= *byte;
        }
        if let Ok(key) = Key::decode(&key) {
            prop_assert_eq!(Key::decode(&key.encode()).unwrap(), key);
        }
        if let Ok(damaged) = Record::decode(tag, &record) {
            if let Some((Location::Parts(set), _)) = damaged.body() {
                let _ = (set.count(), set.part_at(7), set.range_of(2));
            }
            prop_assert_eq!(Record::decode(tag, &damaged.encode()).unwrap(), damaged);
        }
    }

    /// Where uploads are listed from: their rows stand as their keys do, then by their ids.
    #[test]
    fn rows_of_uploads_sort_as_their_keys(a in "[\0\u{1}ab\u{ff}]{0,4}", b in "[\0\u{1}ab\u{ff}]{0,4}", x: u128, y: u128) {
        let row = |key: &str, id| Key::Upload(BucketId(1), key.into(), UploadId(id));
        let rows = [row(&a, x), row(&b, y)];
        prop_assert_eq!(rows[0].encode().cmp(&rows[1].encode()), (&a, x).cmp(&(&b, y)));
        prop_assert_eq!(&Key::decode(&rows[0].encode()).unwrap(), &rows[0]);
        let prefix = Key::upload_prefix(BucketId(1), &b);
        prop_assert_eq!(rows[0].encode().starts_with(&prefix), a.starts_with(&b));
    }
}

/// What is behind a hole: batches that are whole in themselves, of the epoch, and not from before.
#[test]
fn a_whole_batch_is_found_behind_a_hole() {
    let file = SimulatedDisk::new(1).create("pack").unwrap();
    let mut at = position();
    let mut batches = Vec::new();
    for _ in 0..4 {
        let mut builder = BatchBuilder::new(9, &at);
        builder.push(&encode_changes(&changes()), Some(&Body::new("abc".into())));
        builder.push(
            &encode_changes(&changes()),
            Some(&Body::new(vec![7; 5000].into())),
        );
        let (bytes, hash) = builder.finish(at.lsn);
        file.write_at(&bytes, at.offset).unwrap();
        batches.push(at);
        at = Position {
            offset: at.offset + bytes.len() as u64,
            lsn: at.lsn + 2,
            hash,
            ..at
        };
    }
    let limit = at.offset;
    let next = |from: u64, epoch, at: &Position| {
        next_whole_batch(&*file, (from, limit), epoch, at)
            .unwrap()
            .map(|(before, batch)| (before.offset, before.lsn, batch.next.lsn))
    };
    let first = batches[0];
    let of = |n: usize| Some((batches[n].offset, batches[n].lsn, batches[n].lsn + 2));
    assert_eq!(next(first.offset, Some(9), &first), of(0));
    assert_eq!(next(first.offset + 4096, Some(9), &first), of(1));
    assert_eq!(next(first.offset, None, &first), of(0));
    assert_eq!(next(first.offset, Some(10), &first), None);
    // Not again what was read: a start may have written it anew.
    assert_eq!(next(first.offset, Some(9), &batches[2]), of(2));
    assert_eq!(next(limit, Some(9), &first), None);
    // Any bit of a batch, and it is passed over.
    file.write_at(b"x", batches[1].offset + 200).unwrap();
    file.write_at(b"x", batches[2].offset + 8192 - 1).unwrap();
    assert_eq!(next(batches[1].offset, Some(9), &batches[1]), of(3));
    assert_eq!(epoch_at(&*file, batches[0].offset, limit).unwrap(), Some(9));
    assert_eq!(
        epoch_at(&*file, batches[0].offset + 4096, limit).unwrap(),
        None
    );
}

/// A seal says of itself which epoch and lsn it is of; the end of a longer batch is none.
#[test]
fn a_seal_is_found_behind_a_hole() {
    let file = file_with(&BatchBuilder::new(9, &position()).finish(41).0, 8192);
    let at = Position {
        lsn: 30,
        ..position()
    };
    let (before, batch) = next_whole_batch(&*file, (4096, 12288), Some(9), &at)
        .unwrap()
        .unwrap();
    assert_eq!((before.offset, before.lsn), (8192, 41));
    assert_eq!(batch.records.len(), 0);
}
