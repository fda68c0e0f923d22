use super::*;
use crate::meta::record::{Location, PartRun, sample};

const ID: UploadId = UploadId(7);

fn part(bytes: &[u8], algorithm: Option<ChecksumAlgorithm>) -> PartRecord {
    let sums = Digests::of(bytes, algorithm).finish();
    let (md5, sha256) = sums.of_part().unwrap();
    PartRecord {
        md5,
        sha256,
        crc64: sums.crc64,
        checksum: sums.chosen,
        ..sample::part(bytes.len() as u64, Location::Empty)
    }
}

fn upload(algorithm: Option<ChecksumAlgorithm>, checksum_type: ChecksumType) -> UploadRecord {
    UploadRecord {
        checksum_algorithm: algorithm,
        checksum_type,
        ..sample::upload()
    }
}

fn listed(rows: &[(u16, PartRecord)]) -> Vec<CompletedPart> {
    let listed = |(number, part): &(u16, PartRecord)| CompletedPart {
        number: *number,
        etag: Some(ETag::of_md5(&part.md5)),
        checksum: None,
    };
    rows.iter().map(listed).collect()
}

/// Three parts of the check string of the CRC catalogue.
fn rows(algorithm: Option<ChecksumAlgorithm>) -> Vec<(u16, PartRecord)> {
    let parts = [(1, &b"123"[..]), (2, b"456"), (7, b"789")];
    parts.map(|(n, bytes)| (n, part(bytes, algorithm))).into()
}

fn assemble(
    rows: &[(u16, PartRecord)],
    listed: &[CompletedPart],
    upload: &UploadRecord,
    options: CompleteOptions,
) -> Result<Assembly> {
    Assembly::of(ID, rows.to_vec(), listed, Some(upload), &options)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn sums_are_put_together_from_those_of_the_parts() {
    let (rows, plain) = (rows(None), upload(None, ChecksumType::FullObject));
    let made = assemble(&rows, &listed(&rows), &plain, Default::default()).unwrap();
    assert_eq!(made.size, 9);
    assert_eq!(made.crc64, 0xae8b_1486_0a79_9888);
    // Python: md5(md5(b"123").digest() + md5(b"456").digest() + md5(b"789").digest()), and sha256 likewise.
    assert_eq!(made.etag.as_str(), "a8dd1c5498a84913e3d6e7b59d4b4f8f-3");
    assert_eq!(
        hex(&made.sha256),
        "0d776e53c3ac0241e44279325f05b6b5f2a009283754cef18b34172ac4739aac"
    );
    let run = |first, count| PartRun {
        first,
        count,
        part_bytes: 3,
    };
    assert_eq!(made.set.runs, [run(1, 2), run(7, 1)]);
    assert_eq!(made.set.count(), 3);
    assert_eq!(made.set.part_at(5), Some((2, 3..6)));
    assert_eq!(made.set.part_at(6), Some((7, 6..9)));
    assert_eq!(made.set.part_at(9), None);
    assert_eq!(made.set.range_of(2), Some(3..6));
    assert_eq!(made.set.range_of(3), Some(6..9));
    assert_eq!(made.set.range_of(0), None);
    assert_eq!(made.set.range_of(4), None);
}

#[test]
fn checksums_are_of_the_whole_or_of_those_of_the_parts() {
    let cases = [
        (
            ChecksumAlgorithm::Crc32,
            ChecksumType::FullObject,
            "cbf43926",
        ),
        (
            ChecksumAlgorithm::Crc32c,
            ChecksumType::FullObject,
            "e3069283",
        ),
        (
            ChecksumAlgorithm::Crc64Nvme,
            ChecksumType::FullObject,
            "ae8b14860a799888",
        ),
        // Python: zlib.crc32(b"".join(zlib.crc32(p).to_bytes(4, "big") for p in parts)), sha1 likewise.
        (
            ChecksumAlgorithm::Crc32,
            ChecksumType::Composite,
            "04409c0d",
        ),
        (
            ChecksumAlgorithm::Sha1,
            ChecksumType::Composite,
            "a274c02a94e0d0cd38619da2e6c1d6016988f8b2",
        ),
    ];
    for (algorithm, checksum_type, expected) in cases {
        let (rows, upload) = (
            rows(Some(algorithm)),
            upload(Some(algorithm), checksum_type),
        );
        let of = |options| assemble(&rows, &listed(&rows), &upload, options);
        let checksum = of(CompleteOptions::default()).unwrap().checksum.unwrap();
        assert_eq!(
            hex(&checksum.value),
            expected,
            "{algorithm:?} {checksum_type:?}"
        );
        let with = |checksum| CompleteOptions {
            checksum: Some(checksum),
            ..CompleteOptions::default()
        };
        assert!(of(with(checksum.clone())).is_ok());
        let mut wrong = checksum.clone();
        wrong.value[0] ^= 1;
        assert_eq!(of(with(wrong)).unwrap_err().kind(), ErrorKind::BadDigest);
        let other = CompleteOptions {
            checksum_type: Some(match checksum_type {
                ChecksumType::FullObject => ChecksumType::Composite,
                ChecksumType::Composite => ChecksumType::FullObject,
            }),
            ..CompleteOptions::default()
        };
        assert_eq!(of(other).unwrap_err().kind(), ErrorKind::InvalidRequest);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (rows, plain) = (rows(None), upload(None, ChecksumType::FullObject));
    let good = listed(&rows);
    let kind = |listed: &[CompletedPart], options| {
        assemble(&rows, listed, &plain, options).unwrap_err().kind()
    };
    assert_eq!(kind(&[], Default::default()), ErrorKind::MalformedXML);
    let swapped = [good[1].clone(), good[0].clone()];
    assert_eq!(
        kind(&swapped, Default::default()),
        ErrorKind::InvalidPartOrder
    );
    let twice = [good[0].clone(), good[0].clone()];
    assert_eq!(
        kind(&twice, Default::default()),
        ErrorKind::InvalidPartOrder
    );
    let mut unknown = good.clone();
    unknown[2].number = 8;
    assert_eq!(kind(&unknown, Default::default()), ErrorKind::InvalidPart);
    let mut wrong = good.clone();
    wrong[1].etag = Some(ETag::new("0"));
    assert_eq!(kind(&wrong, Default::default()), ErrorKind::InvalidPart);
    let mut wrong = good.clone();
    wrong[1].checksum = Some(Checksum {
        algorithm: ChecksumAlgorithm::Crc64Nvme,
        value: vec![0; 8],
    });
    assert_eq!(kind(&wrong, Default::default()), ErrorKind::InvalidPart);
    let small = CompleteOptions {
        part_bytes_min: 4,
        ..CompleteOptions::default()
    };
    assert_eq!(kind(&good, small.clone()), ErrorKind::EntityTooSmall);
    assert!(assemble(&rows, &good[2..], &plain, small).is_ok());
    let size = CompleteOptions {
        size: Some(8),
        ..CompleteOptions::default()
    };
    assert_eq!(kind(&good, size), ErrorKind::InvalidRequest);
    let some = assemble(&rows, &good[..1], &plain, Default::default()).unwrap();
    assert_eq!(some.unused, [2, 7]);
}
