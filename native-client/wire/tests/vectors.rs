//! The frames that were recorded of the original client and server: what they are read as is what was meant, and
//! written again they are the same bytes.

use jay_wire::{
    Header, Message, Operation, Ping, Refusal, Status, bucket::*, frame::HEADER_BYTES,
    handshake::*, list::*, multipart::*, object::*,
};
use serde_json::Value;

fn vectors() -> Vec<Value> {
    serde_json::from_str(include_str!("native-v1-vectors.json")).unwrap()
}

fn bytes(vector: &Value) -> Vec<u8> {
    let hex = vector["hex"].as_str().unwrap();
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// Whether the metadata end before they should.
fn is_malformed(vector: &Value) -> bool {
    vector["decoded"]["meta_decode"].is_string() || vector["name"] == "raw.empty_meta.request"
}

/// The header and metadata of a frame.
fn frame(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let header = Header::parse(header).ok()?;
    assert_eq!(header.to_bytes()[..], bytes[..HEADER_BYTES]);
    Some((header, rest.get(..header.metadata_bytes as usize)?))
}

/// Reads and writes again; shows every field, for comparison with what the recorder saw.
fn again<M: Message + std::fmt::Debug>(metadata: &[u8], name: &str) -> String {
    let message = M::parse(metadata).unwrap_or_else(|error| panic!("{name}: {error}"));
    let written = message.to_bytes().unwrap();
    // Bytes behind the last field are for later versions.
    assert_eq!(written, metadata[..written.len()], "{name}");
    assert!(
        written.len() == metadata.len() || name.contains("trailing") || name.contains("with_meta")
    );
    format!("{message:?}")
}

fn request(code: u8, metadata: &[u8], name: &str) -> Option<String> {
    macro_rules! one_of {
        ($($operation:ident)+) => {
            match code {
                $($operation::CODE => Some(again::<$operation>(metadata, name)),)+
                _ => None,
            }
        };
    }
    one_of!(Ping CreateBucket DeleteBucket HeadBucket ListBuckets PutObject GetObject HeadObject DeleteObject
        ListObjects CreateMultipartUpload UploadPart CompleteMultipartUpload AbortMultipartUpload ListParts)
}

fn answer(operation: &str, metadata: &[u8], name: &str) -> Option<String> {
    macro_rules! one_of {
        ($($operation:ident)+) => {
            match operation {
                $($operation::NAME => Some(again::<<$operation as Operation>::Answer>(metadata, name)),)+
                _ => None,
            }
        };
    }
    one_of!(Ping CreateBucket DeleteBucket HeadBucket ListBuckets PutObject GetObject HeadObject DeleteObject
        ListObjects CreateMultipartUpload UploadPart CompleteMultipartUpload AbortMultipartUpload ListParts)
}

/// Every text and number that the recorder saw is in what was read.
fn assert_all_in(expected: &Value, shown: &str, name: &str) {
    match expected {
        Value::Object(fields) => fields.iter().for_each(|(field, value)| {
            // Times are numbers here.
            if !["created_at", "last_modified"].contains(&field.as_str()) {
                assert_all_in(value, shown, name);
            }
        }),
        Value::Array(entries) => entries
            .iter()
            .for_each(|entry| assert_all_in(entry, shown, name)),
        Value::String(text) => assert!(
            shown.contains(&format!("{text:?}")),
            "{name}: {text:?} in {shown}"
        ),
        value => assert!(
            shown.contains(&value.to_string()),
            "{name}: {value} in {shown}"
        ),
    }
}

#[test]
fn requests_and_answers_are_read_and_written_to_the_byte() {
    let mut seen = 0;
    for vector in vectors() {
        let name = vector["name"].as_str().unwrap();
        let bytes = bytes(&vector);
        if vector["op"] == "handshake" || bytes.is_empty() || is_malformed(&vector) {
            continue;
        }
        let Some((header, metadata)) = frame(&bytes) else {
            assert!(name.starts_with("raw."), "{name}");
            continue;
        };
        let shown = match vector["direction"].as_str().unwrap() {
            "client_to_server" => request(header.code, metadata, name),
            _ if Status::parse(header.code).unwrap() == Status::Ok => {
                answer(vector["op"].as_str().unwrap(), metadata, name)
            }
            _ => Some(again::<Refusal>(metadata, name)),
        };
        let Some(shown) = shown else {
            assert!(name.starts_with("raw.unknown_op"), "{name}");
            continue;
        };
        assert_all_in(&vector["decoded"]["meta"], &shown, name);
        seen += 1;
    }
    assert!(seen > 150, "{seen}");
}

#[test]
fn malformed_metadata_is_refused_by_the_name_of_the_field() {
    let mut seen = 0;
    for vector in vectors() {
        if is_malformed(&vector)
            && let bytes = bytes(&vector)
            && let Some((header, metadata)) = frame(&bytes)
        {
            let error = match header.code {
                HeadObject::CODE => HeadObject::parse(metadata).unwrap_err(),
                PutObject::CODE => PutObject::parse(metadata).unwrap_err(),
                code => panic!("{code}"),
            };
            assert!(["bucket", "key"].contains(&error.field), "{error}");
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}

#[test]
fn handshakes_are_read_and_written_to_the_byte() {
    for vector in vectors() {
        if vector["op"] != "handshake" {
            continue;
        }
        let (name, bytes) = (vector["name"].as_str().unwrap(), bytes(&vector));
        if vector["direction"] == "server_to_client" {
            let welcome = Welcome::parse(bytes.first_chunk().unwrap()).unwrap();
            assert_eq!(
                welcome as u64,
                vector["decoded"]["status"].as_u64().unwrap(),
                "{name}"
            );
            assert_eq!(welcome.to_bytes()[..], bytes, "{name}");
            continue;
        }
        let Some((fixed, credentials)) = bytes.split_first_chunk::<HELLO_BYTES>() else {
            assert_eq!(name, "handshake.short.request");
            continue;
        };
        let Ok(hello) = Hello::parse(fixed) else {
            assert_eq!(name, "handshake.bad_magic.request");
            continue;
        };
        assert_eq!(
            u64::from(hello.flags),
            vector["decoded"]["flags"].as_u64().unwrap()
        );
        assert_eq!(
            usize::from(hello.credentials_bytes),
            credentials.len(),
            "{name}"
        );
        let Ok(parsed) = Credentials::parse(credentials) else {
            assert!(
                name.contains("no_colon") || name.contains("empty_credentials"),
                "{name}"
            );
            continue;
        };
        let expected = vector["decoded"]["credentials"].as_str().unwrap();
        assert_eq!(format!("{}:{}", parsed.token_id, *parsed.secret), expected);
        if hello.version == VERSION && hello.flags == 0 {
            assert_eq!(*parsed.to_hello().unwrap(), bytes, "{name}");
        }
    }
}
