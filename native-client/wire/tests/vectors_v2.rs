//! Version 2 in bytes: every operation and its answer, every frame and step beside them, as JSON and as hexadecimal digits in
//! `vectors_v2.json`. Whoever speaks it can be held against that file; `tests/e2e/test_native_v2_vectors.py` does so with a
//! client that shares no code with this one.
//!
//! When the protocol has got something new, `cargo test -p jay-wire --test vectors_v2 -- --ignored` writes the file again.

mod shown;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs,
};

use bytes::{Bytes, BytesMut};
use jay_wire::{
    Call, Empty, ErrorCode, Failure, Operation, Ping, Reply, Tagged, Time,
    body::{self, Crc64},
    bucket::*,
    call::{self, Body, Chunk, End, GoAway, Session},
    list::*,
    multipart::*,
    object::*,
    server::*,
    tagging::*,
    v2::{self, ClientHello, PREFIX_BYTES, ProofKey, ServerHello, Status, Step, Transcript, kind},
};
use serde_json::{Value, json};

use self::shown::{Fields, shown};

const FILE: &str = "tests/vectors_v2.json";
/// Longest data that stand in the file; of longer ones only how many bytes of the pattern they are.
const SHOWN_BYTES_MAX: usize = 100;

/// All vectors, and which field of which struct says something in them.
#[derive(Default)]
struct Vectors {
    all: Vec<Value>,
    fields: Fields,
}

impl Vectors {
    fn json(&mut self, value: &impl Debug) -> Value {
        shown(&format!("{value:?}"), &mut self.fields)
    }

    fn frame(&mut self, name: &str, code: u8, message: &str, fields: Value, metadata: &[u8]) {
        self.frame_with_data(name, code, message, fields, metadata, b"");
    }

    fn frame_with_data(
        &mut self,
        name: &str,
        code: u8,
        message: &str,
        fields: Value,
        metadata: &[u8],
        data: &[u8],
    ) {
        // Another stream each time.
        let stream_id = self.all.len() as u32 + 0x0102_0304;
        let mut bytes = Vec::new();
        v2::frame(code, stream_id, metadata, data.len(), &mut bytes).unwrap();
        let data = match data.len() <= SHOWN_BYTES_MAX {
            true => json!(hex(data)),
            false => json!({"pattern": data.len()}),
        };
        self.all.push(json!({
            "name": name, "kind": "frame", "code": code, "stream_id": stream_id, "message": message, "fields": fields,
            "data": data, "hex": hex(&bytes),
        }));
    }

    /// A request and its answer.
    fn operation<O: Operation + Debug>(&mut self, asked: &O, told: &O::Answer)
    where
        O::Answer: Debug,
    {
        self.request(O::NAME, asked);
        self.answer(O::NAME, told);
    }

    fn request<O: Operation + Debug>(&mut self, name: &str, asked: &O) {
        let metadata = call::request(asked, &Call::default()).unwrap();
        let fields = self.json(asked);
        self.frame(
            &format!("{name}.request"),
            O::CODE,
            O::NAME,
            fields,
            &metadata,
        );
    }

    fn answer<A: Tagged + Debug>(&mut self, name: &str, told: &A) {
        let metadata = call::answer(told, &Reply::default()).unwrap();
        let (fields, ok) = (self.json(told), Status::Ok as u8);
        self.frame(
            &format!("{name}.answer"),
            ok,
            &type_name(told),
            fields,
            &metadata,
        );
    }

    /// A frame whose envelope says something too.
    fn enveloped(
        &mut self,
        name: &str,
        code: u8,
        inside: &(impl Tagged + Debug),
        envelope: &(impl Tagged + Debug),
        data: &[u8],
    ) {
        let metadata = [
            inside.to_metadata().unwrap(),
            envelope.to_metadata().unwrap(),
        ]
        .concat();
        let fields = self.json(inside);
        self.frame_with_data(name, code, &type_name(inside), fields, &metadata, data);
        let envelope = json!({"message": type_name(envelope), "fields": self.json(envelope)});
        self.all.last_mut().unwrap()["envelope"] = envelope;
    }

    fn other(&mut self, name: &str, code: u8, inside: &(impl Tagged + Debug)) {
        let fields = self.json(inside);
        let metadata = inside.to_metadata().unwrap();
        self.frame(name, code, &type_name(inside), fields, &metadata);
    }
}

/// So many bytes of the pattern: byte i is i times 7 modulo 251.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 7 % 251) as u8).collect()
}

/// The data of a frame.
fn data_of(vector: &Value) -> Vec<u8> {
    match vector["data"]["pattern"].as_u64() {
        Some(count) => pattern(count as usize),
        None => bytes(vector["data"].as_str().unwrap()),
    }
}

/// The name of the struct, without its path.
fn type_name<T>(_: &T) -> String {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name).to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn map(name: &str, value: &str) -> BTreeMap<String, String> {
    [
        (name.to_owned(), value.to_owned()),
        ("ü".into(), String::new()),
    ]
    .into()
}

fn headers() -> ContentHeaders {
    ContentHeaders {
        cache_control: "no-cache".into(),
        content_disposition: "inline".into(),
        content_encoding: "gzip".into(),
        content_language: "de".into(),
        expires: "0".into(),
    }
}

fn tags() -> Vec<Tag> {
    let tag = |key: &str, value: &str| Tag {
        key: key.into(),
        value: value.into(),
    };
    vec![tag("colour", "red"), tag("empty", "")]
}

fn checksum() -> Checksum {
    Checksum {
        algorithm: "CRC32C".into(),
        value: Bytes::from_static(&[0xe3, 0x06, 0x92, 0x83]),
        is_composite: true,
    }
}

fn ranges() -> Vec<ByteRange> {
    let range = |start, end, suffix| ByteRange { start, end, suffix };
    vec![
        range(65_536, Some(131_072), None),
        range(0, None, Some(7)),
        range(0, Some(0), None),
        ByteRange::default(),
    ]
}

fn write_conditions() -> WriteConditions {
    WriteConditions {
        if_match: Some("etag".into()),
        if_none_match: Some("*".into()),
    }
}

fn read_conditions() -> ReadConditions {
    ReadConditions {
        if_match: vec!["one".into(), "two".into()],
        if_none_match: vec!["*".into()],
        if_modified_since: Some(Time(1_790_000_000_000)),
        // A moment that is the default is said all the same.
        if_unmodified_since: Some(Time(0)),
    }
}

fn description() -> Description {
    Description {
        content_type: "image/png".into(),
        headers: headers(),
        metadata: map("owner", "ana"),
    }
}

const TIME: Time = Time(1_795_320_555_123);
const ETAG: &str = "5eb63bbbe01eeed093cb22bb8f5acdc3";
const SHA256: &str = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
const VERSION: &str = "00112233445566778899aabbccddeeff";
const UPLOAD: &str = "57faee24-6cf3-4ce8-b290-01407e72f13c";

fn object() -> ObjectInfo {
    ObjectInfo {
        content_type: "text/plain; charset=utf-8".into(),
        size: 11,
        etag: ETAG.into(),
        checksum: SHA256.into(),
        last_modified: TIME,
        metadata: map("owner", "ana"),
        version: VERSION.into(),
        crc64: u64::MAX - 1,
        headers: headers(),
        chosen_checksum: Some(checksum()),
        tag_count: 2,
        parts_count: 3,
        range_start: 1 << 40,
    }
}

fn stored() -> Stored {
    Stored {
        etag: ETAG.into(),
        checksum: SHA256.into(),
        version: VERSION.into(),
        crc64: 0x0123_4567_89ab_cdef,
        size: 5 << 30,
        last_modified: TIME,
    }
}

fn failure() -> Failure {
    Failure {
        code: ErrorCode::RateLimited as u32,
        message: "There were too many requests.".into(),
        s3_code: "SlowDown".into(),
        retry_after_ms: 1000,
    }
}

fn text(value: &str) -> String {
    value.to_owned()
}

fn buckets(to: &mut Vectors) {
    let info = BucketInfo {
        bucket_id: UPLOAD.into(),
        name: "photos".into(),
        created_at: TIME,
        visibility: "public-read".into(),
        owner: VERSION.into(),
        quota_bytes: Some(1 << 50),
    };
    let bucket = text("photos");
    let public_read = true;
    to.operation(
        &CreateBucket {
            bucket: bucket.clone(),
            public_read,
        },
        &info,
    );
    to.operation(
        &DeleteBucket {
            bucket: bucket.clone(),
        },
        &Empty,
    );
    to.operation(&HeadBucket { bucket }, &info);
    let entry = |name: &str| BucketEntry {
        name: name.into(),
        created_at: TIME,
    };
    let buckets = vec![entry("music"), entry("photos")];
    to.operation(&ListBuckets {}, &BucketList { buckets });
}

fn objects(to: &mut Vectors) {
    let (bucket, key) = (text("photos"), text("docs/ünï/日本語 🦀.txt"));
    to.operation(
        &PutObject {
            bucket: bucket.clone(),
            key: key.clone(),
            content_type: "text/plain".into(),
            metadata: map("owner", "ana"),
            headers: headers(),
            tags: tags(),
            conditions: write_conditions(),
            checksum: Some(checksum()),
            without_digests: true,
        },
        &stored(),
    );
    let get = GetObject {
        bucket: bucket.clone(),
        key: key.clone(),
        range: ranges().first().cloned(),
        part_number: Some(10_000),
        conditions: read_conditions(),
    };
    to.operation(&get, &object());
    let whole = GetObject {
        range: None,
        part_number: None,
        conditions: ReadConditions::default(),
        ..get
    };
    to.request("GetObject.whole", &whole);
    to.answer("GetObject.empty", &ObjectInfo::default());
    to.operation(
        &HeadObject {
            bucket: bucket.clone(),
            key: key.clone(),
            conditions: read_conditions(),
        },
        &object(),
    );
    to.operation(
        &DeleteObject {
            bucket: bucket.clone(),
            key: key.clone(),
            if_match: Some(ETAG.into()),
            if_match_size: Some(0),
            if_match_modified: Some(TIME),
        },
        &Empty,
    );
    to.operation(
        &CopyObject {
            bucket: bucket.clone(),
            key: key.clone(),
            source_bucket: "music".into(),
            source_key: "a b+c".into(),
            replace: Some(description()),
            replace_tags: Some(TagSet { tags: tags() }),
            source_conditions: read_conditions(),
            conditions: write_conditions(),
        },
        &stored(),
    );
    // Replaced by nothing, which is not the same as not replaced.
    let emptied = CopyObject {
        bucket: bucket.clone(),
        key: key.clone(),
        source_bucket: bucket.clone(),
        source_key: key.clone(),
        replace: Some(Description::default()),
        replace_tags: Some(TagSet::default()),
        ..CopyObject::default()
    };
    to.request("CopyObject.emptied", &emptied);
    to.operation(
        &GetRanges {
            bucket: bucket.clone(),
            key: key.clone(),
            ranges: ranges(),
            conditions: read_conditions(),
        },
        &RangesInfo {
            object: object(),
            lengths: vec![65_536, 7, 0, 1 << 33],
        },
    );
    many(to, &bucket, &key);
    tagging(to, bucket, key);
}

fn many(to: &mut Vectors, bucket: &str, key: &str) {
    let (bucket, keys) = (
        text(bucket),
        vec![text(key), text("missing"), String::new()],
    );
    let found = HeadOutcome {
        object: Some(object()),
        failure: None,
    };
    let refused = HeadOutcome {
        object: None,
        failure: Some(failure()),
    };
    to.operation(
        &HeadObjects {
            bucket: bucket.clone(),
            keys: keys.clone(),
        },
        &HeadOutcomes {
            outcomes: vec![found, refused, HeadOutcome::default()],
        },
    );
    let refused = DeleteOutcome {
        failure: Some(failure()),
    };
    to.operation(
        &DeleteObjects {
            bucket: bucket.clone(),
            keys,
        },
        &DeleteOutcomes {
            outcomes: vec![DeleteOutcome::default(), refused],
        },
    );
    to.operation(
        &DeletePrefix {
            bucket,
            prefix: "docs/".into(),
            start_after: "docs/a".into(),
        },
        &DeletedPrefix {
            deleted: 1000,
            is_truncated: true,
            next_start_after: "docs/z".into(),
        },
    );
}

fn tagging(to: &mut Vectors, bucket: String, key: String) {
    to.operation(
        &GetObjectTagging {
            bucket: bucket.clone(),
            key: key.clone(),
        },
        &TagSet { tags: tags() },
    );
    to.operation(
        &PutObjectTagging {
            bucket: bucket.clone(),
            key: key.clone(),
            tags: tags(),
        },
        &Empty,
    );
    to.operation(&DeleteObjectTagging { bucket, key }, &Empty);
}

fn listings(to: &mut Vectors) {
    let entry = ObjectEntry {
        key: "docs/a.txt".into(),
        size: 9,
        etag: ETAG.into(),
        checksum: SHA256.into(),
        last_modified: TIME,
        content_type: "text/plain".into(),
        version: VERSION.into(),
        crc64: 1,
        metadata: map("owner", "ana"),
        headers: headers(),
    };
    to.operation(
        &ListObjects {
            bucket: "photos".into(),
            prefix: "docs/".into(),
            delimiter: "/".into(),
            start_after: "docs/0".into(),
            max_keys: -1,
            with_metadata: true,
        },
        &ObjectPage {
            objects: vec![entry, ObjectEntry::default()],
            common_prefixes: vec!["docs/b/".into(), "docs/c/".into()],
            is_truncated: true,
            next_start_after: "docs/c/".into(),
        },
    );
}

fn uploads(to: &mut Vectors) {
    let (bucket, key, upload_id) = (text("photos"), text("mp.bin"), text(UPLOAD));
    to.operation(
        &CreateMultipartUpload {
            bucket: bucket.clone(),
            key: key.clone(),
            content_type: "video/mp4".into(),
            metadata: map("owner", "ana"),
            headers: headers(),
            tags: tags(),
        },
        &Upload {
            upload_id: upload_id.clone(),
        },
    );
    to.operation(
        &UploadPart {
            bucket: bucket.clone(),
            key: key.clone(),
            upload_id: upload_id.clone(),
            part_number: 10_000,
        },
        &Stored {
            version: String::new(),
            ..stored()
        },
    );
    let part = |part_number, etag: &str| PartNamed {
        part_number,
        etag: etag.into(),
    };
    to.operation(
        &CompleteMultipartUpload {
            bucket: bucket.clone(),
            key: key.clone(),
            upload_id: upload_id.clone(),
            part_numbers: vec![1, 10_000],
            parts: vec![part(1, ETAG), part(10_000, "")],
            conditions: write_conditions(),
            size: Some(17),
        },
        &Completed {
            etag: format!("{ETAG}-2"),
            checksum: format!("{SHA256}-2"),
            size: 17,
            version: VERSION.into(),
            crc64: 2,
            last_modified: TIME,
        },
    );
    to.operation(
        &AbortMultipartUpload {
            bucket: bucket.clone(),
            key: key.clone(),
            upload_id: upload_id.clone(),
        },
        &Empty,
    );
    let entry = PartEntry {
        part_number: 1,
        size: 9,
        etag: ETAG.into(),
        checksum: SHA256.into(),
        crc64: 3,
        last_modified: TIME,
    };
    to.operation(
        &ListParts {
            bucket: bucket.clone(),
            key: key.clone(),
            upload_id: upload_id.clone(),
            after: 5,
            max_parts: 2,
        },
        &PartList {
            parts: vec![entry],
            is_truncated: true,
        },
    );
    let entry = UploadEntry {
        key: key.clone(),
        upload_id: upload_id.clone(),
        initiated: TIME,
    };
    to.operation(
        &ListMultipartUploads {
            bucket,
            prefix: "m".into(),
            delimiter: "/".into(),
            key_marker: "ma".into(),
            upload_id_marker: upload_id.clone(),
            max_uploads: 800,
        },
        &UploadPage {
            uploads: vec![entry],
            common_prefixes: vec!["n/".into()],
            is_truncated: true,
            next_key_marker: key,
            next_upload_id_marker: upload_id,
        },
    );
}

fn server(to: &mut Vectors) {
    to.operation(&Ping {}, &Empty);
    to.operation(
        &GetServerInfo {},
        &ServerInfo {
            version: "0.1.0".into(),
            store_id: VERSION.into(),
            region: "us-east-1".into(),
            now: TIME,
            token_id: "vec-full".into(),
            account_id: VERSION.into(),
        },
    );
    to.operation(
        &OpenSession {},
        &SessionInfo {
            id: Bytes::from_static(b"\0\x01session\xFF"),
            lifetime_ms: 600_000,
        },
    );
}

/// What stands around and beside operations.
fn envelopes(to: &mut Vectors) {
    let asked = DeleteObject {
        bucket: "photos".into(),
        key: "k".into(),
        ..DeleteObject::default()
    };
    let session = Session {
        id: Bytes::from_static(b"\x0A\x22\x5C"),
        sequence: 7,
        lowest: 5,
        again: true,
    };
    let everything = Call {
        request_id: "id-1".into(),
        deadline_ms: 30_000,
        session: Some(session),
        body: None,
    };
    to.enveloped(
        "envelope.call",
        DeleteObject::CODE,
        &asked,
        &everything,
        b"",
    );
    let put = PutObject {
        bucket: "photos".into(),
        key: "k".into(),
        ..PutObject::default()
    };
    let data = pattern(body::BLOCK_BYTES + 17);
    for (name, data) in [
        ("empty", &b""[..]),
        ("short", b"hello world"),
        ("blocks", &data),
    ] {
        let whole = Call {
            body: Some(Body::whole(data)),
            ..Call::default()
        };
        let name = format!("envelope.body_{name}");
        to.enveloped(&name, PutObject::CODE, &put, &whole, data);
    }
    for (name, size) in [
        ("of_known_length", Some(1 << 34)),
        ("of_unknown_length", None),
    ] {
        let follows = Call {
            body: Some(Body::following(size)),
            ..Call::default()
        };
        let name = format!("envelope.body_{name}");
        to.enveloped(&name, PutObject::CODE, &put, &follows, b"");
    }
    let reply = Reply {
        request_id: "id-1".into(),
        body: Some(Body::whole(b"hello world")),
    };
    to.enveloped(
        "envelope.reply",
        Status::Ok as u8,
        &object(),
        &reply,
        b"hello world",
    );
    let reply = Reply {
        body: None,
        ..reply
    };
    to.enveloped("failed", Status::Failed as u8, &failure(), &reply, b"");
}

fn frames(to: &mut Vectors) {
    to.other("use_bulk", Status::UseBulk as u8, &Empty);
    let chunk = Chunk::of(b"hello world");
    let (fields, metadata) = (to.json(&chunk), chunk.to_metadata().unwrap());
    to.frame_with_data(
        "chunk",
        kind::CHUNK,
        "Chunk",
        fields,
        &metadata,
        b"hello world",
    );
    let mut crc64 = Crc64::default();
    crc64.update(b"hello world");
    let end = End {
        size: 11,
        crc64: crc64.value(),
        failure: None,
    };
    to.other("end", kind::END, &end);
    to.other("end.empty", kind::END, &End::default());
    let failed = End {
        failure: Some(failure()),
        ..end
    };
    to.other("end.failed", kind::END, &failed);
    to.other("cancel", kind::CANCEL, &Empty);
    to.other("go_away", kind::GO_AWAY, &GoAway::default());
    let failure = Some(failure());
    to.other("go_away.failed", kind::GO_AWAY, &GoAway { failure });
    to.other("ping", kind::PING, &Empty);
    to.other("pong", kind::PONG, &Empty);
}

fn handshakes(to: &mut Vectors) {
    let shared = ClientHello {
        token_id: "vec-full".into(),
        nonce: std::array::from_fn(|at| at as u8),
        agent: "jay-client/0.1.0 rust".into(),
        bulk: false,
    };
    let bulk = ClientHello {
        bulk: true,
        ..shared.clone()
    };
    let server = ServerHello {
        nonce: std::array::from_fn(|at| 0xF0 | at as u8),
        agent: "jay/0.1.0".into(),
        streams_max: v2::STREAMS_MAX,
        inline_bytes_max: 262_144,
    };
    let server_bytes = v2::step(Step::Proceed, &server.to_metadata().unwrap()).unwrap();
    for (name, hello) in [
        ("client_hello.shared", &shared),
        ("client_hello.bulk", &bulk),
    ] {
        let fields = to.json(hello);
        to.all.push(json!({
            "name": name, "kind": "hello", "step": 0, "message": "ClientHello", "fields": fields,
            "hex": hex(&v2::hello(hello).unwrap()),
        }));
    }
    let fields = to.json(&server);
    to.all.push(json!({
        "name": "server_hello", "kind": "hello", "step": 0, "message": "ServerHello", "fields": fields,
        "hex": hex(&server_bytes),
    }));
    for (name, step) in [
        ("refused", Step::Refused),
        ("unavailable", Step::Unavailable),
    ] {
        to.all.push(json!({
            "name": format!("step.{name}"), "kind": "hello", "step": step as u8, "message": "Empty", "fields": {},
            "hex": hex(&v2::step(step, &[]).unwrap()),
        }));
    }
    for (name, hello, exported) in [
        ("proof.in_clear", &shared, None),
        ("proof.inside_tls", &bulk, Some([0xAB; 32])),
    ] {
        let hello = v2::hello(hello).unwrap();
        let transcript = Transcript::new(&hello, &server_bytes, exported.as_ref());
        let key = ProofKey::derive("vec-full-secret");
        let server_proof = v2::step(Step::Proceed, &key.server_proof(&transcript)).unwrap();
        to.all.push(json!({
            "name": name, "kind": "proof", "secret": "vec-full-secret", "client_hello": hex(&hello),
            "server_hello": hex(&server_bytes), "exported": exported.map(|bytes| hex(&bytes)),
            "client_proof": hex(&key.client_proof(&transcript)), "server_proof": hex(&server_proof),
        }));
    }
}

fn made() -> Vectors {
    let mut vectors = Vectors::default();
    for add in [
        buckets, objects, listings, uploads, server, envelopes, frames, handshakes,
    ] {
        add(&mut vectors);
    }
    vectors
}

fn kept() -> Vec<Value> {
    serde_json::from_str(&fs::read_to_string(FILE).unwrap()).unwrap()
}

#[test]
#[ignore = "writes the file that the others read"]
fn write() {
    let lines: Vec<String> = made().all.iter().map(Value::to_string).collect();
    fs::write(FILE, format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
}

#[test]
fn the_file_is_what_the_codec_makes() {
    let (kept, made) = (kept(), made().all);
    for (kept, made) in kept.iter().zip(&made) {
        assert_eq!(
            kept, made,
            "cargo test -p jay-wire --test vectors_v2 -- --ignored"
        );
    }
    assert_eq!(kept.len(), made.len());
}

/// Each operation with its answer, and each field of each struct with a value.
#[test]
fn nothing_is_left_out() {
    let vectors = made();
    let silent = vectors.fields.silent();
    assert!(silent.is_empty(), "no vector has a value of {silent:?}");
    let names: BTreeSet<&str> = vectors
        .all
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    let mut operations = 0;
    for source in fs::read_dir("src").unwrap() {
        let source = fs::read_to_string(source.unwrap().path()).unwrap();
        let coded = source
            .lines()
            .filter_map(|line| line.strip_prefix("    0x"));
        for name in coded.filter_map(|line| line.split_once(' ')?.1.split_once('(')) {
            for side in ["request", "answer"] {
                let name = format!("{}.{side}", name.0);
                assert!(names.contains(name.as_str()), "{name}");
            }
            operations += 1;
        }
    }
    assert!(operations >= 26, "{operations}");
}

/// Reads metadata and writes them again; what was read, as JSON.
fn again<M: Tagged + Debug>(metadata: &[u8], name: &str) -> Value {
    let read = M::from_metadata(metadata).unwrap_or_else(|error| panic!("{name}: {error}"));
    let written = read.to_metadata().unwrap();
    // An envelope stands behind it.
    assert_eq!(written, metadata[..written.len()], "{name}");
    shown(&format!("{read:?}"), &mut Fields::default())
}

fn read(message: &str, metadata: &[u8], name: &str) -> Value {
    macro_rules! one_of {
        ($($message:ident)+) => {
            match message {
                $(stringify!($message) => again::<$message>(metadata, name),)+
                other => panic!("{name}: {other}"),
            }
        };
    }
    one_of!(AbortMultipartUpload BucketInfo BucketList Chunk ClientHello CompleteMultipartUpload Completed CopyObject
        CreateBucket CreateMultipartUpload DeleteBucket DeleteObject DeleteObjects DeleteObjectTagging DeleteOutcomes
        DeletePrefix DeletedPrefix Empty End Failure GetObject GetObjectTagging GetRanges GetServerInfo GoAway HeadBucket
        HeadObject HeadObjects HeadOutcomes ListBuckets ListMultipartUploads ListObjects ListParts ObjectInfo ObjectPage
        OpenSession PartList Ping PutObject PutObjectTagging RangesInfo ServerHello ServerInfo SessionInfo Stored TagSet
        Upload UploadPage UploadPart)
}

#[test]
fn frames_are_read_as_what_was_said() {
    for vector in kept() {
        let name = vector["name"].as_str().unwrap();
        let Some(bytes) = vector["hex"].as_str().map(bytes) else {
            continue;
        };
        let message = vector["message"].as_str().unwrap();
        if vector["kind"] == "hello" {
            let (prefix, rest) = bytes.split_first_chunk::<PREFIX_BYTES>().unwrap();
            let prefix = v2::Prefix::parse(prefix).unwrap();
            assert_eq!(
                (prefix.version, usize::from(prefix.length)),
                (2, rest.len())
            );
            assert_eq!(vector["step"], prefix.step);
            assert_eq!(read(message, rest, name), vector["fields"], "{name}");
            continue;
        }
        let data = data_of(&vector);
        let mut input = BytesMut::from(&[&bytes[..], &data].concat()[..]);
        let frame = v2::Frame::take(&mut input).unwrap().unwrap();
        assert!(input.is_empty(), "{name}");
        let metadata = frame.metadata().unwrap();
        assert_eq!(vector["code"], frame.code);
        assert_eq!(vector["stream_id"], frame.stream_id);
        assert_eq!(frame.data, data, "{name}");
        assert_eq!(read(message, metadata, name), vector["fields"], "{name}");
        let envelope = match vector["envelope"]["message"].as_str() {
            Some("Call") => shown(
                &format!("{:?}", Call::parse_checked(metadata).unwrap()),
                &mut Fields::default(),
            ),
            Some(_) => shown(
                &format!("{:?}", Reply::from_metadata(metadata).unwrap()),
                &mut Fields::default(),
            ),
            None => continue,
        };
        assert_eq!(envelope, vector["envelope"]["fields"], "{name}");
        if let Some(head) = Call::from_metadata(metadata).unwrap().body {
            assert_eq!(head.check(&data), Ok(()), "{name}");
        }
    }
}

#[test]
fn proofs_are_those_of_both_hellos() {
    for vector in kept().iter().filter(|vector| vector["kind"] == "proof") {
        let of = |name: &str| bytes(vector[name].as_str().unwrap());
        let exported = vector["exported"]
            .as_str()
            .map(|hex| bytes(hex).try_into().unwrap());
        let transcript =
            Transcript::new(&of("client_hello"), &of("server_hello"), exported.as_ref());
        let key = ProofKey::derive(vector["secret"].as_str().unwrap());
        let (client, server) = (of("client_proof"), of("server_proof"));
        assert!(key.proves_client(&transcript, client.first_chunk().unwrap()));
        assert!(key.proves_server(&transcript, server[PREFIX_BYTES..].first_chunk().unwrap()));
    }
}
