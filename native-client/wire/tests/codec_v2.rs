//! The same of version 2 as of version 1 in `codec.rs`: all comes back as it was sent, and no bytes at all do harm.

use std::{collections::BTreeMap, fmt::Debug};

use bytes::Bytes;
use jay_wire::{
    Call, DecodeError, Empty, ErrorCode, Failure, Problem, Reply, Tagged, Time,
    body::{self, BLOCK_BYTES, CHUNK_BYTES_MAX, Crc64},
    call::{self, *},
    list::*,
    multipart::*,
    object::*,
    server::*,
    tagged::LIST_ENTRIES_MAX,
    tagging::*,
    v2::{self, *},
};
use proptest::prelude::*;

fn assert_comes_back<M: Tagged + PartialEq + Debug>(sent: &M) {
    let bytes = sent.to_metadata().unwrap();
    assert_eq!(M::from_metadata(&bytes).as_ref(), Ok(sent));
    // Canonical: nobody reads it in two ways, and what is cut is either something shorter or refused.
    for cut in 0..bytes.len() {
        if let Ok(read) = M::from_metadata(&bytes[..cut]) {
            assert_eq!(read.to_metadata().unwrap(), &bytes[..cut], "cut at {cut}");
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn map() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(".{0,8}", ".{0,8}", 0..4)
}

prop_compose! {
    fn headers()(a in text(), b in text(), c in text(), d in text(), e in text()) -> ContentHeaders {
        ContentHeaders { cache_control: a, content_disposition: b, content_encoding: c, content_language: d, expires: e }
    }
}

prop_compose! {
    fn conditions()(etags in prop::collection::vec(text(), 0..3), since: Option<u64>) -> ReadConditions {
        ReadConditions {
            if_match: etags.clone(), if_none_match: etags, if_modified_since: since.map(Time),
            if_unmodified_since: since.map(Time),
        }
    }
}

prop_compose! {
    fn object()(
        a in text(), size: u64, etag in text(), metadata in map(), headers in headers(), value: Vec<u8>, parts: u32,
    ) -> ObjectInfo {
        ObjectInfo {
            content_type: a.clone(), size, etag, checksum: a.clone(), last_modified: Time(size), metadata,
            version: a.clone(), crc64: size, headers, tag_count: parts, parts_count: parts, range_start: size,
            chosen_checksum: Some(Checksum { algorithm: a, value: value.into(), is_composite: size % 2 == 0 }),
        }
    }
}

proptest! {
    #[test]
    fn requests_come_back(
        (a, b, c) in (text(), text(), text()), metadata in map(), headers in headers(), conditions in conditions(),
        number: u32, size: u64, maybe: Option<u64>, flag: bool,
    ) {
        let tags = vec![Tag { key: a.clone(), value: b.clone() }; 2];
        let write = WriteConditions { if_match: Some(a.clone()), if_none_match: Some(b.clone()) };
        let range = ByteRange { start: size, end: maybe, suffix: maybe };
        assert_comes_back(&PutObject {
            bucket: a.clone(), key: b.clone(), content_type: c.clone(), metadata: metadata.clone(),
            headers: headers.clone(), tags: tags.clone(), conditions: write.clone(),
            checksum: Some(Checksum { algorithm: a.clone(), value: Bytes::from(b.clone()), is_composite: flag }),
            without_digests: flag,
        });
        assert_comes_back(&GetObject {
            bucket: a.clone(), key: b.clone(), range: Some(range.clone()), part_number: Some(number),
            conditions: conditions.clone(),
        });
        assert_comes_back(&CopyObject {
            bucket: a.clone(), key: b.clone(), source_bucket: c.clone(), source_key: a.clone(),
            replace: Some(Description { content_type: c.clone(), headers: headers.clone(), metadata: metadata.clone() }),
            replace_tags: Some(TagSet { tags: tags.clone() }), source_conditions: conditions.clone(),
            conditions: write.clone(),
        });
        assert_comes_back(&GetRanges {
            bucket: a.clone(), key: b.clone(), ranges: vec![range; 3], conditions,
        });
        assert_comes_back(&DeleteObjects { bucket: a.clone(), keys: vec![b.clone(), String::new(), c.clone()] });
        assert_comes_back(&DeleteObject {
            bucket: a.clone(), key: b.clone(), if_match: Some(c.clone()), if_match_size: maybe,
            if_match_modified: maybe.map(Time),
        });
        assert_comes_back(&CompleteMultipartUpload {
            bucket: a.clone(), key: b.clone(), upload_id: c.clone(), part_numbers: vec![number, 1],
            parts: vec![PartNamed { part_number: number, etag: a.clone() }], conditions: write, size: maybe,
        });
        assert_comes_back(&ListObjects {
            bucket: a.clone(), prefix: b.clone(), delimiter: c.clone(), start_after: a.clone(), max_keys: -1,
            with_metadata: flag,
        });
        assert_comes_back(&PutObjectTagging { bucket: a, key: b, tags });
    }

    #[test]
    fn answers_come_back(object in object(), (a, b) in (text(), text()), flag: bool, number: u32, size: u64) {
        assert_comes_back(&object);
        let failure = Failure { code: number, message: a.clone(), s3_code: b.clone(), retry_after_ms: number };
        assert_comes_back(&HeadOutcomes { outcomes: vec![
            HeadOutcome { object: Some(object.clone()), failure: None },
            HeadOutcome { object: None, failure: Some(failure.clone()) },
        ]});
        assert_comes_back(&DeleteOutcomes { outcomes: vec![
            DeleteOutcome::default(), DeleteOutcome { failure: Some(failure.clone()) },
        ]});
        assert_comes_back(&RangesInfo { object: object.clone(), lengths: vec![0, size] });
        let entry = ObjectEntry {
            key: a.clone(), size, etag: b.clone(), checksum: a.clone(), last_modified: Time(size), content_type: b.clone(),
            version: a.clone(), crc64: size, metadata: object.metadata.clone(), headers: object.headers.clone(),
        };
        assert_comes_back(&ObjectPage {
            objects: vec![entry; 2], common_prefixes: vec![a.clone(), b.clone()], is_truncated: flag,
            next_start_after: a.clone(),
        });
        assert_comes_back(&UploadPage {
            uploads: vec![UploadEntry { key: a.clone(), upload_id: b.clone(), initiated: Time(size) }],
            common_prefixes: vec![b.clone()], is_truncated: flag, next_key_marker: a.clone(), next_upload_id_marker: b,
        });
        assert_comes_back(&SessionInfo { id: Bytes::from(a), lifetime_ms: number });
        assert_comes_back(&End { size, crc64: size, failure: Some(failure) });
    }

    #[test]
    fn envelopes_stand_beside_what_they_are_around(
        (a, b, id) in (text(), text(), "[!-~]{0,64}"), sums: Vec<u32>, number: u32, size: u64, maybe: Option<u64>, flag: bool,
    ) {
        let asked = HeadObject { bucket: a.clone(), key: b, ..HeadObject::default() };
        let envelope = Call {
            request_id: id.clone(), deadline_ms: number,
            session: Some(Session { id: Bytes::from(a), sequence: size, lowest: size, again: true }),
            body: Some(Body { sums: sums.clone(), crc64: maybe, follows: flag, size: maybe }),
        };
        let metadata = call::request(&asked, &envelope).unwrap();
        prop_assert_eq!(HeadObject::from_metadata(&metadata), Ok(asked));
        prop_assert_eq!(Call::parse_checked(&metadata), Ok(envelope));
        let reply = Reply { request_id: id, body: Some(Body { sums, ..Body::default() }) };
        let metadata = call::answer(&Empty, &reply).unwrap();
        prop_assert_eq!(Empty::from_metadata(&metadata), Ok(Empty));
        prop_assert_eq!(Reply::from_metadata(&metadata), Ok(reply));
    }

    #[test]
    fn hostile_bytes_are_refused_and_no_more(bytes: Vec<u8>, prefix: [u8; PREFIX_BYTES]) {
        let _ = PutObject::from_metadata(&bytes);
        let _ = CopyObject::from_metadata(&bytes);
        let _ = HeadOutcomes::from_metadata(&bytes);
        let _ = ObjectPage::from_metadata(&bytes);
        let _ = Call::parse_checked(&bytes);
        let _ = End::from_metadata(&bytes);
        let _ = ClientHello::from_metadata(&bytes);
        let _ = ServerHello::from_metadata(&bytes);
        if let Ok(prefix) = Prefix::parse(&prefix) {
            let _ = prefix.step();
        }
    }

    #[test]
    fn hellos_come_back(token_id in text(), nonce: [u8; 16], agent in text(), bulk: bool) {
        let sent = ClientHello { token_id, nonce, agent, bulk };
        let bytes = v2::hello(&sent).unwrap();
        let (prefix, fields) = bytes.split_first_chunk().unwrap();
        let prefix = Prefix::parse(prefix).unwrap();
        prop_assert_eq!((prefix.version, prefix.step, usize::from(prefix.length)), (2, 0, fields.len()));
        prop_assert_eq!(ClientHello::from_metadata(fields), Ok(sent));
    }

    #[test]
    fn changed_bytes_are_found(mut data in prop::collection::vec(any::<u8>(), 1..200_000), at: usize, bit in 0..8) {
        let head = Body::whole(&data);
        prop_assert_eq!(head.check(&data), Ok(()));
        let at = at % data.len();
        data[at] ^= 1_u8 << bit;
        prop_assert_eq!(head.check(&data).unwrap_err().problem, Problem::Checksum);
        data[at] ^= 1_u8 << bit;
        data.pop();
        prop_assert_eq!(head.check(&data).unwrap_err().problem, Problem::Checksum);
    }
}

/// A field: its tag, its length, its value.
fn field(tag: u16, value: &[u8]) -> Vec<u8> {
    let length = value.len() as u32;
    [&tag.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
}

fn refused<M: Tagged + Debug>(bytes: &[u8]) -> (&'static str, Problem) {
    let DecodeError { field, problem } = M::from_metadata(bytes).unwrap_err();
    (field, problem)
}

#[test]
fn what_is_not_known_is_passed_over_unless_it_must_be_understood() {
    let bucket = field(1, b"photos");
    let later = [bucket.clone(), field(0x3FFF, b"of a later version")].concat();
    let asked = DeletePrefix::from_metadata(&later).unwrap();
    assert_eq!(asked.bucket, "photos");
    let must = [bucket.clone(), field(0xBFFF, b"")].concat();
    assert_eq!(
        refused::<DeletePrefix>(&must),
        ("DeletePrefix", Problem::Unknown)
    );
    // What must be understood by whoever reads the envelope is not for those who read what is inside, nor the other way.
    let around = [bucket, field(0xFFFF, b"")].concat();
    assert!(DeletePrefix::from_metadata(&around).is_ok());
    assert_eq!(refused::<Call>(&around), ("Call", Problem::Unknown));
    assert!(Call::from_metadata(&must).is_ok());
}

#[test]
fn fields_stand_in_one_order_and_once() {
    let (first, second) = (field(1, b"b"), field(2, b"p"));
    let order = [second.clone(), first.clone()].concat();
    let twice = [first.clone(), first.clone()].concat();
    let twice_with_bit = [field(0x8001, b"b"), first].concat();
    for bytes in [order, twice, twice_with_bit] {
        assert_eq!(refused::<DeletePrefix>(&bytes), ("tag", Problem::Invalid));
    }
}

#[test]
fn values_have_their_length() {
    assert_eq!(
        refused::<GetObject>(&field(4, &[0, 0, 1])),
        ("part_number", Problem::Short)
    );
    assert_eq!(
        refused::<GetObject>(&field(4, &[0; 5])),
        ("part_number", Problem::TooLong)
    );
    assert_eq!(
        refused::<ClientHello>(&field(4, &[2])),
        ("bulk", Problem::Invalid)
    );
    assert_eq!(
        refused::<GetObject>(&field(1, &[0xFF])),
        ("bucket", Problem::NotUtf8)
    );
    assert_eq!(
        refused::<GetObject>(&field(1, b"b")[..6]),
        ("length", Problem::Short)
    );
    assert_eq!(refused::<GetObject>(&[0]), ("tag", Problem::Short));
}

#[test]
fn names_ascend_in_maps() {
    let pair = |name: &str| {
        [
            &1u32.to_be_bytes()[..],
            name.as_bytes(),
            &0u32.to_be_bytes(),
        ]
        .concat()
    };
    for names in ["ba", "aa"] {
        let (first, second) = names.split_at(1);
        let map = [pair(first), pair(second)].concat();
        assert_eq!(
            refused::<PutObject>(&field(4, &map)),
            ("metadata", Problem::Invalid)
        );
    }
}

/// A list of empty entries takes four bytes each on the wire, and many times that in memory.
#[test]
fn a_list_has_no_more_than_its_limit() {
    let list = |entries: usize| field(1, &vec![0; 4 * entries]);
    let page = ObjectPage::from_metadata(&list(LIST_ENTRIES_MAX)).unwrap();
    assert_eq!(page.objects.len(), LIST_ENTRIES_MAX);
    assert_eq!(
        refused::<ObjectPage>(&list(LIST_ENTRIES_MAX + 1)),
        ("objects", Problem::TooLong)
    );
}

#[test]
fn limits_are_named() {
    let mut to = Vec::new();
    assert!(v2::frame(kind::CHUNK, 1, &[], CHUNK_BYTES_MAX, &mut to).is_ok());
    assert_eq!(
        v2::frame(kind::CHUNK, 1, &[], CHUNK_BYTES_MAX + 1, &mut to)
            .unwrap_err()
            .field,
        "data"
    );
    for (at, field) in [(5, "metadata length"), (16, "data length")] {
        let mut long = to.clone();
        long[at] |= 1;
        sign(&mut long);
        let error = Frame::take(&mut long[..].into()).unwrap_err();
        assert_eq!((error.field, error.problem), (field, Problem::TooLong));
    }

    let long = ClientHello {
        agent: "a".repeat(5000),
        ..ClientHello::default()
    };
    assert_eq!(v2::hello(&long).unwrap_err().field, "hello");
    let prefix = Prefix {
        version: 2,
        step: 0,
        length: 4097,
    }
    .to_bytes();
    assert_eq!(Prefix::parse(&prefix).unwrap_err().field, "hello length");

    for (id, problem) in [
        ("i".repeat(65), Problem::TooLong),
        ("a b".into(), Problem::Invalid),
    ] {
        let metadata = Call {
            request_id: id,
            ..Call::default()
        }
        .to_metadata()
        .unwrap();
        let error = Call::parse_checked(&metadata).unwrap_err();
        assert_eq!((error.field, error.problem), ("request_id", problem));
    }
    let prefix = "p".repeat(1 << 20);
    assert_eq!(
        DeletePrefix {
            prefix,
            ..DeletePrefix::default()
        }
        .to_metadata()
        .unwrap_err()
        .field,
        "metadata"
    );
}

/// Puts the sum of a head right that was changed.
fn sign(frame: &mut [u8]) {
    let sum = body::sums(&frame[..HEAD_BYTES - 4])[0];
    frame[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&sum.to_be_bytes());
}

/// In clear nothing but these sums stands between one flipped bit and a GET that deletes, or the answer to another request.
#[test]
fn a_flipped_bit_in_a_frame_is_found_wherever_it_is() {
    let asked = GetObject {
        bucket: "photos".into(),
        key: "k".into(),
        ..GetObject::default()
    };
    let metadata = asked.to_metadata().unwrap();
    let mut whole = Vec::new();
    v2::frame(0x11, 7, &metadata, 1, &mut whole).unwrap();
    whole.push(b'x');
    let frame = Frame::take(&mut whole[..].into()).unwrap().unwrap();
    assert_eq!(
        (frame.code, frame.stream_id, &frame.data[..]),
        (0x11, 7, &b"x"[..])
    );
    assert_eq!(frame.metadata().unwrap(), &metadata);
    for bit in 0..8 * (whole.len() - 1) {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let changed = Frame::take(&mut changed[..].into());
        match bit / 8 < HEAD_BYTES {
            true => assert_eq!(changed.unwrap_err().problem, Problem::Checksum),
            // The frame is still the one that it was, so others need not suffer.
            false => {
                let changed = changed.unwrap().unwrap();
                assert_eq!((changed.code, changed.stream_id), (0x11, 7));
                assert_eq!(changed.metadata().unwrap_err().problem, Problem::Checksum);
            }
        }
    }
    for cut in 0..whole.len() {
        assert_eq!(Frame::take(&mut whole[..cut].into()), Ok(None));
    }
}

#[test]
fn a_frame_is_drawn_as_it_is_written() {
    let mut frame = Vec::new();
    v2::frame(
        0xFF,
        0x01020304,
        &[0x40, 0x01, 0, 0, 0, 1, b'r'],
        0,
        &mut frame,
    )
    .unwrap();
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "ff01020304000000070000000000000000adb8ba83faa942e640010000000172"
    );
}

#[test]
fn a_body_follows_or_is_there() {
    let follows = Body {
        sums: body::sums(b"x"),
        ..Body::following(Some(1))
    };
    assert_eq!(follows.check(b"x").unwrap_err().field, "follows");
    assert_eq!(Body::following(None).check(b""), Ok(()));
    let wrong = Body {
        crc64: Some(1),
        ..Body::whole(b"x")
    };
    assert_eq!(wrong.check(b"x").unwrap_err().field, "crc64");
}

#[test]
fn sums_of_pieces_are_those_of_the_whole() {
    let data: Vec<u8> = (0..3 * BLOCK_BYTES + 5).map(|n| n as u8).collect();
    assert_eq!(body::sums(&data).len(), 4);
    let mut crc64 = Crc64::default();
    data.chunks(1000).for_each(|piece| crc64.update(piece));
    assert_eq!(crc64.value(), body::crc64(&data));
    assert_eq!(body::crc64(b"123456789"), 0xae8b_1486_0a79_9888);
}

#[test]
fn a_proof_is_of_one_secret_and_one_conversation() {
    let said = |client: &[u8], server: &[u8], exported| Transcript::new(client, server, exported);
    let (key, same) = (ProofKey::derive("secret"), said(b"ab", b"c", None));
    let proof = key.client_proof(&same);
    assert!(key.proves_client(&same, &proof));
    assert!(!ProofKey::derive("Secret").proves_client(&same, &proof));
    for other in [
        said(b"a", b"bc", None),
        said(b"ab", b"d", None),
        said(b"ab", b"c", Some(&[0; 32])),
    ] {
        assert!(!key.proves_client(&other, &proof));
    }
    assert_eq!(format!("{key:?}"), "ProofKey");
}

#[test]
fn codes_have_one_number_and_one_name() {
    for code in ErrorCode::ALL {
        assert_eq!(ErrorCode::of_number(*code as u32), Some(*code));
        assert_eq!(code.name(), format!("{code:?}"));
        assert!(code.meaning().ends_with('.'));
    }
    assert!(ErrorCode::ALL.is_sorted_by_key(|code| *code as u32));
}
