//! What holds for every message: it comes back as it was sent, no truncation of it is taken for it, and no bytes at
//! all make the decoder panic or take memory that is not in proportion to them.

use std::{collections::BTreeMap, fmt::Debug};

use jay_wire::{
    DecodeError, Header, METADATA_BYTES_MAX, Message, Problem, Refusal, Time, bucket::*,
    frame::HEADER_BYTES, handshake::*, list::*, multipart::*, object::*,
};
use proptest::prelude::*;

/// Sends a message and reads it, whole and cut at each place.
fn assert_comes_back<M: Message + PartialEq + Debug>(sent: &M) {
    let bytes = sent.to_bytes().unwrap();
    assert_eq!(M::parse(&bytes).as_ref(), Ok(sent));
    for cut in 0..bytes.len() {
        let error = M::parse(&bytes[..cut]).unwrap_err();
        assert_eq!(error.problem, Problem::Short, "{sent:?} cut at {cut}");
    }
}

fn map() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(".{0,8}", ".{0,8}", 0..4)
}

proptest! {
    #[test]
    fn messages_come_back(
        (a, b, c, d) in (".{0,20}", ".{0,20}", ".{0,20}", ".{0,20}"), map in map(), number: u32, signed: i32,
        size in 0..=i64::MAX as u64, seconds in 0..4_000_000_000_u64, flag: bool,
    ) {
        let time = Time(seconds * 1000);
        assert_comes_back(&PutObject {
            bucket: a.clone(), key: b.clone(), content_type: c.clone(), metadata: map.clone(), ..PutObject::default()
        });
        assert_comes_back(&ObjectInfo {
            content_type: a.clone(), size, etag: b.clone(), checksum: c.clone(), last_modified: time, metadata: map,
            ..ObjectInfo::default()
        });
        assert_comes_back(&ListObjects {
            bucket: a.clone(), prefix: b.clone(), delimiter: c.clone(), start_after: d.clone(), max_keys: signed,
            ..ListObjects::default()
        });
        let entry = ObjectEntry {
            key: a.clone(), size, etag: b.clone(), checksum: c.clone(), last_modified: time, content_type: d.clone(),
            ..ObjectEntry::default()
        };
        assert_comes_back(&ObjectPage {
            objects: vec![entry; 2], common_prefixes: vec![a.clone(), b.clone()], is_truncated: flag,
            next_start_after: c.clone(),
        });
        assert_comes_back(&CompleteMultipartUpload {
            bucket: a.clone(), key: b.clone(), upload_id: c.clone(), part_numbers: vec![number, 1],
            ..CompleteMultipartUpload::default()
        });
        assert_comes_back(&PartList {
            parts: vec![PartEntry { part_number: number, size, etag: a.clone(), checksum: b.clone(), ..PartEntry::default() }],
            ..PartList::default()
        });
        assert_comes_back(&BucketInfo {
            bucket_id: a.clone(), name: b.clone(), created_at: time, visibility: c.clone(), ..BucketInfo::default()
        });
        assert_comes_back(&Refusal { message: a, code: b });
    }

    #[test]
    fn hostile_bytes_are_refused_and_no_more(bytes: Vec<u8>) {
        let _ = PutObject::parse(&bytes);
        let _ = ObjectPage::parse(&bytes);
        let _ = CompleteMultipartUpload::parse(&bytes);
        let _ = PartList::parse(&bytes);
        let _ = BucketList::parse(&bytes);
        let _ = ObjectInfo::parse(&bytes);
        let _ = Credentials::parse(&bytes);
    }

    #[test]
    fn headers_come_back_or_are_refused(bytes: [u8; HEADER_BYTES]) {
        match Header::parse(&bytes) {
            Ok(header) => prop_assert_eq!(header.to_bytes(), bytes),
            Err(error) => prop_assert!(["metadata length", "data length"].contains(&error.field)),
        }
    }

    #[test]
    fn handshakes_come_back_or_are_refused(hello: [u8; HELLO_BYTES], welcome: [u8; WELCOME_BYTES]) {
        let _ = (Hello::parse(&hello), Welcome::parse(&welcome));
    }
}

#[test]
fn limits_are_named() {
    let header = |metadata_bytes, data_bytes| {
        Header::parse(
            &Header {
                code: 0,
                stream_id: 0,
                metadata_bytes,
                data_bytes,
            }
            .to_bytes(),
        )
    };
    let too_long = |field| {
        Err(DecodeError {
            field,
            problem: Problem::TooLong,
        })
    };
    assert!(header(METADATA_BYTES_MAX, i64::MAX as u64).is_ok());
    assert_eq!(
        header(METADATA_BYTES_MAX + 1, 0),
        too_long("metadata length")
    );
    assert_eq!(header(0, 1 << 63), too_long("data length"));

    let key = "k".repeat(65_536);
    let field = HeadObject {
        key,
        ..HeadObject::default()
    }
    .to_bytes()
    .unwrap_err()
    .field;
    assert_eq!(field, "key");
    let common_prefixes = vec!["p".repeat(60_000); 18];
    let page = ObjectPage {
        common_prefixes,
        ..ObjectPage::default()
    };
    assert_eq!(page.to_bytes().unwrap_err().field, "metadata");
    let parts = CompleteMultipartUpload {
        part_numbers: vec![0; 65_536],
        ..Default::default()
    };
    assert_eq!(parts.to_bytes().unwrap_err().field, "part_numbers");
}

/// A count costs nothing before its entries are there.
#[test]
fn an_announced_list_takes_no_memory() {
    assert_eq!(
        PartList::parse(&[0xFF, 0xFF]),
        Err(DecodeError {
            field: "part_number",
            problem: Problem::Short
        })
    );
}

#[test]
fn credentials_are_not_shown() {
    let credentials = Credentials {
        token_id: "id".into(),
        secret: "secret".to_owned().into(),
    };
    assert_eq!(format!("{credentials:?}"), "Credentials(id)");
    let colon = Credentials {
        token_id: "a:b".into(),
        ..credentials
    };
    assert_eq!(colon.to_hello().unwrap_err().field, "token id");
}

#[test]
fn a_moment_is_told_in_whole_seconds() {
    let mut bytes = Vec::new();
    Time(1_700_000_000_999).encode(&mut bytes, "time").unwrap();
    assert_eq!(&bytes[2..], b"2023-11-14T22:13:20Z");
    assert_eq!(Time::parse(&bytes), Ok(Time(1_700_000_000_000)));
    let fraction = b"\0\x182023-11-14T22:13:20.500Z";
    assert_eq!(Time::parse(fraction), Ok(Time(1_700_000_000_000)));
    assert_eq!(
        Time::parse(b"\0\x05never").unwrap_err().problem,
        Problem::Invalid
    );
}
