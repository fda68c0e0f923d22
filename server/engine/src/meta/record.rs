//! What the index holds under its keys: versioned records, encoded as FORMAT.md draws them.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    codec::{DecodeError, Reader, Writer},
    meta::key::{AccountId, BlobId, BucketId},
    types::{
        Checksum, ChecksumAlgorithm, ChecksumType, ContentHeaders, ETag, Policy, Tag, Tags,
        Timestamp, UploadId,
    },
};

mod policy;

const VERSION: u8 = 1;
/// Since format 4: with quota and policy of a bucket, and the hash and the key id of a token.
const GOVERNED_VERSION: u8 = 2;
/// Since format 3: with the reason of its quarantine. Version 2 had the type of the checksum and tags, 1 neither.
const OBJECT_VERSION: u8 = 3;

/// A value of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is documented at its type
pub enum Record {
    Bucket(BucketRecord),
    BucketStats(BucketStats),
    Object(Box<ObjectRecord>),
    Upload(Box<UploadRecord>),
    Part(Box<PartRecord>),
    Account(AccountRecord),
    AccountName(AccountId),
    Token(Box<TokenRecord>),
    Blob(BlobRecord),
    Free,
    Pack(PackRecord),
    PartSet(PartSetRecord),
    Quarantine,
    Scrub(Box<ScrubRecord>),
    Recount,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRecord {
    /// What its objects' keys begin with.
    pub id: BucketId,
    /// The account that owns it.
    pub owner: AccountId,
    /// When it was created.
    pub created: Timestamp,
    /// GET and HEAD of its objects without credentials.
    pub public_read: bool,
    /// Most bytes that its objects may have together.
    pub quota_bytes: Option<u64>,
    /// Who else may do what in it, and who may not.
    pub policy: Option<Arc<Policy>>,
}

/// Counters of a bucket, changed in the commit of their cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketStats {
    /// Objects in it.
    pub objects: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
}

/// Where a body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// Nowhere: it has no bytes.
    Empty,
    /// Behind its own record (in the log only).
    Here,
    /// In a pack.
    Pack {
        /// The pack's number.
        pack: u32,
        /// Where the body begins, in bytes.
        offset: u32,
        /// Length of the whole record, in bytes.
        record_bytes: u32,
        /// CRC-32C of each 64 KiB block.
        sums: Vec<u32>,
    },
    /// In a file of its own.
    File(BlobId),
    /// In the parts of a multipart upload, one behind the other.
    Parts(PartSet),
}

/// Which parts make an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSet {
    /// The upload that the parts came by.
    pub id: UploadId,
    /// The parts in their order; neighbours of one size are one run.
    pub runs: Vec<PartRun>,
}

/// Parts with consecutive numbers and of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRun {
    /// Number of the first.
    pub first: u16,
    /// How many.
    pub count: u16,
    /// Bytes of each.
    pub part_bytes: u64,
}

impl PartSet {
    /// Puts the next part behind the others.
    pub fn push(&mut self, number: u16, part_bytes: u64) {
        match self.runs.last_mut() {
            Some(run) if run.part_bytes == part_bytes && run.first + run.count == number => {
                run.count += 1;
            }
            _ => self.runs.push(PartRun {
                first: number,
                count: 1,
                part_bytes,
            }),
        }
    }

    /// False when numbers or sums would not fit, so that nobody who computes with them has to ask.
    fn is_possible(&self) -> bool {
        let mut runs = self.runs.iter();
        runs.try_fold((0_u16, 0_u64), |(last, bytes), run| {
            let ends = run.first.checked_add(run.count)?;
            let more = run.part_bytes.checked_mul(run.count.into())?;
            let is_behind = run.first > last && run.count > 0;
            is_behind.then_some((ends - 1, bytes.checked_add(more)?))
        })
        .is_some()
    }

    /// How many parts there are.
    pub fn count(&self) -> u16 {
        self.runs.iter().map(|run| run.count).sum()
    }

    /// The part that holds byte `at`: its number and where it begins.
    pub fn part_at(&self, at: u64) -> Option<(u16, std::ops::Range<u64>)> {
        let mut begin = 0;
        for run in &self.runs {
            let bytes = run.part_bytes * u64::from(run.count);
            if at < begin + bytes {
                let n = (at - begin) / run.part_bytes;
                let start = begin + n * run.part_bytes;
                return Some((run.first + n as u16, start..start + run.part_bytes));
            }
            begin += bytes;
        }
        None
    }

    /// Where the part in this place lies; the first is in place 1.
    pub fn range_of(&self, place: u16) -> Option<std::ops::Range<u64>> {
        let mut begin = 0;
        let mut before = place.checked_sub(1)?;
        for run in &self.runs {
            if before < run.count {
                let start = begin + u64::from(before) * run.part_bytes;
                return Some(start..start + run.part_bytes);
            }
            before -= run.count;
            begin += run.part_bytes * u64::from(run.count);
        }
        None
    }
}

/// An object: all that is known of it but its body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ObjectRecord {
    pub version: u128,
    pub modified: Timestamp,
    pub size: u64,
    pub sha256: [u8; 32],
    pub crc64: u64,
    pub etag: ETag,
    pub checksum: Option<Checksum>,
    pub checksum_type: ChecksumType,
    pub location: Location,
    pub headers: ContentHeaders,
    pub metadata: BTreeMap<String, String>,
    pub tags: Tags,
    pub quarantined: Option<Quarantined>,
}

/// That the body of an object is not what was put, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// When that was seen.
    pub since: Timestamp,
    /// What is wrong with it.
    pub reason: String,
}

/// A multipart upload that is neither completed nor aborted; its key says of what object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct UploadRecord {
    pub initiated: Timestamp,
    pub initiator: AccountId,
    pub checksum_algorithm: Option<ChecksumAlgorithm>,
    pub checksum_type: ChecksumType,
    pub headers: ContentHeaders,
    pub metadata: BTreeMap<String, String>,
    pub tags: Tags,
}

/// A part of an upload, or of the object that it has become.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PartRecord {
    pub version: u128,
    pub modified: Timestamp,
    pub size: u64,
    pub md5: [u8; 16],
    pub sha256: [u8; 32],
    pub crc64: u64,
    pub checksum: Option<Checksum>,
    pub location: Location,
}

/// The parts that came by one upload, changed in the commit of their cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartSetRecord {
    /// The open upload, and every object made of the parts.
    pub references: u32,
    /// How many parts there are.
    pub parts: u32,
    /// Grows with every part that comes, so that whoever looked at the parts can tell.
    pub changes: u64,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AccountRecord {
    pub name: String,
    pub created: Timestamp,
    pub active: bool,
}

/// A token: an access key with its rights.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TokenRecord {
    pub account: AccountId,
    pub name: String,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
    pub active: bool,
    pub sealed_secret: Vec<u8>,
    /// Names the signing secret that the secret is sealed under; zeros when that was not noted.
    pub key_id: [u8; 8],
    /// bcrypt of the secret; empty when that was not made.
    pub secret_hash: String,
    pub actions: Vec<String>,
    pub buckets: Vec<String>,
    pub prefixes: Vec<String>,
}

/// A file in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobRecord {
    /// How many objects have their body in it.
    pub references: u32,
    /// Bytes of the body.
    pub bytes: u64,
}

/// What of a pack is still needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackRecord {
    /// Sum of the lengths of records whose body is still somebody's.
    pub live_bytes: u64,
}

/// How far the scrubber is, so that a restart does not send it back to the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubRecord {
    /// The encoded key that the next pass begins at; empty for the first.
    pub next: Vec<u8>,
    /// What the round has seen so far.
    pub round: ScrubTally,
    /// What the last whole round saw; its `ended` is 0 before the first.
    pub last: ScrubTally,
}

/// What a round of the scrubber saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ScrubTally {
    pub began: Timestamp,
    pub ended: Timestamp,
    pub objects: u64,
    pub bytes: u64,
    pub damaged: u64,
    /// Bodies that the disk did not let us read.
    pub errors: u64,
}

/// What the index was made from, kept in the transaction that made it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Checkpoint {
    pub applied_lsn: u64,
    pub pack: u32,
    pub offset: u64,
    pub hash: [u8; 16],
    pub incarnation: u32,
    pub lowest_uncommitted: BlobId,
}

impl Record {
    /// The bytes of the record, its version first.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(256);
        w.u8(match self {
            Record::Object(_) => OBJECT_VERSION,
            Record::Bucket(_) | Record::Token(_) => GOVERNED_VERSION,
            _ => VERSION,
        });
        match self {
            Record::Bucket(r) => r.encode(&mut w),
            Record::BucketStats(r) => {
                w.u64(r.objects).u64(r.bytes);
            }
            Record::Object(r) => r.encode(&mut w),
            Record::Upload(r) => r.encode(&mut w),
            Record::Part(r) => r.encode(&mut w),
            Record::Account(r) => {
                w.bytes16(r.name.as_bytes())
                    .u64(r.created.0)
                    .u8((!r.active).into());
            }
            Record::AccountName(id) => {
                w.u128(id.0);
            }
            Record::Token(r) => r.encode(&mut w),
            Record::Blob(r) => {
                w.u32(r.references).u64(r.bytes);
            }
            Record::Free => {}
            Record::Pack(r) => {
                w.u64(r.live_bytes);
            }
            Record::PartSet(r) => {
                w.u32(r.references).u32(r.parts).u64(r.changes);
            }
            Record::Quarantine | Record::Recount => {}
            Record::Scrub(r) => r.encode(&mut w),
        }
        w.into_bytes()
    }

    /// Reads the record that stands under a key with the given first byte.
    pub fn decode(key_tag: u8, bytes: &[u8]) -> Result<Record, DecodeError> {
        use crate::meta::key::tag;
        let mut r = Reader::new("record", bytes);
        let version = r.u8("version")?;
        let newest = match key_tag {
            tag::OBJECT => OBJECT_VERSION,
            tag::BUCKET | tag::TOKEN => GOVERNED_VERSION,
            _ => VERSION,
        };
        if !(VERSION..=newest).contains(&version) {
            return Err(r.error("version"));
        }
        let record = match key_tag {
            tag::BUCKET => Record::Bucket(BucketRecord::decode(&mut r, version)?),
            tag::BUCKET_STATS => Record::BucketStats(BucketStats {
                objects: r.u64("objects")?,
                bytes: r.u64("bytes")?,
            }),
            tag::OBJECT => Record::Object(Box::new(ObjectRecord::decode(&mut r, version)?)),
            tag::UPLOAD => Record::Upload(Box::new(UploadRecord::decode(&mut r)?)),
            tag::PART => Record::Part(Box::new(PartRecord::decode(&mut r)?)),
            tag::ACCOUNT => Record::Account(AccountRecord {
                name: r.text16("name")?.to_owned(),
                created: Timestamp(r.u64("created")?),
                active: r.u8("status")? == 0,
            }),
            tag::ACCOUNT_NAME => Record::AccountName(AccountId(r.u128("account")?)),
            tag::TOKEN => Record::Token(Box::new(TokenRecord::decode(&mut r, version)?)),
            tag::BLOB => Record::Blob(BlobRecord {
                references: r.u32("references")?,
                bytes: r.u64("bytes")?,
            }),
            tag::FREE | tag::FREE_PART_SET | tag::FREE_BUCKET => Record::Free,
            tag::PACK => Record::Pack(PackRecord {
                live_bytes: r.u64("live bytes")?,
            }),
            tag::PART_SET => Record::PartSet(PartSetRecord {
                references: r.u32("references")?,
                parts: r.u32("parts")?,
                changes: r.u64("changes")?,
            }),
            tag::QUARANTINE => Record::Quarantine,
            tag::RECOUNT => Record::Recount,
            tag::SCRUB => Record::Scrub(Box::new(ScrubRecord::decode(&mut r)?)),
            _ => return Err(r.error("key kind")),
        };
        r.finish()?;
        Ok(record)
    }

    /// Where the body of the row is and how long it is, if it is one that has a body.
    pub fn body(&self) -> Option<(&Location, u64)> {
        match self {
            Record::Object(object) => Some((&object.location, object.size)),
            Record::Part(part) => Some((&part.location, part.size)),
            _ => None,
        }
    }

    /// Where the body of the row is, to be changed.
    pub fn location_mut(&mut self) -> Option<&mut Location> {
        match self {
            Record::Object(object) => Some(&mut object.location),
            Record::Part(part) => Some(&mut part.location),
            _ => None,
        }
    }

    /// The version of a row that has a body.
    pub fn version(&self) -> Option<u128> {
        match self {
            Record::Object(object) => Some(object.version),
            Record::Part(part) => Some(part.version),
            _ => None,
        }
    }
}

impl BucketRecord {
    /// A bucket of which nothing else is known.
    pub fn new(id: BucketId, owner: AccountId, created: Timestamp) -> Self {
        Self {
            id,
            owner,
            created,
            public_read: false,
            quota_bytes: None,
            policy: None,
        }
    }

    fn encode(&self, w: &mut Writer) {
        let flags = [
            self.public_read,
            self.quota_bytes.is_some(),
            self.policy.is_some(),
            self.policy.as_ref().is_some_and(|p| p.document.is_some()),
        ];
        let flags = (0..).zip(flags).map(|(bit, is)| u8::from(is) << bit).sum();
        w.u64(self.id.0)
            .u128(self.owner.0)
            .u64(self.created.0)
            .u8(flags);
        if let Some(quota) = self.quota_bytes {
            w.u64(quota);
        }
        if let Some(policy) = &self.policy {
            policy::encode(policy, w);
        }
    }

    fn decode(r: &mut Reader, version: u8) -> Result<Self, DecodeError> {
        let id = BucketId(r.u64("id")?);
        let bucket = Self::new(
            id,
            AccountId(r.u128("owner")?),
            Timestamp(r.u64("created")?),
        );
        let flags = r.u8("flags")?;
        if flags >> if version == 1 { 1 } else { 4 } != 0 || flags & 12 == 8 {
            return Err(r.error("flags"));
        }
        let quota_bytes = match flags & 2 {
            0 => None,
            _ => Some(r.u64("quota")?),
        };
        let policy = match flags & 4 {
            0 => None,
            _ => Some(Arc::new(policy::decode(r, flags & 8 != 0)?)),
        };
        Ok(Self {
            public_read: flags & 1 != 0,
            quota_bytes,
            policy,
            ..bucket
        })
    }
}

impl ObjectRecord {
    fn encode(&self, w: &mut Writer) {
        w.u8(0)
            .u128(self.version)
            .u64(self.modified.0)
            .u64(self.size);
        w.raw(&self.sha256)
            .u64(self.crc64)
            .bytes16(self.etag.as_str().as_bytes());
        encode_checksum(w, self.checksum.as_ref());
        w.u8(type_number(self.checksum_type));
        self.location.encode(w);
        encode_described(w, &self.headers, &self.metadata);
        encode_tags(w, &self.tags);
        match &self.quarantined {
            None => w.u8(0),
            Some(why) => w.u8(1).u64(why.since.0).bytes16(why.reason.as_bytes()),
        };
    }

    fn decode(r: &mut Reader, record_version: u8) -> Result<Self, DecodeError> {
        if r.u8("cipher")? != 0 {
            return Err(r.error("cipher"));
        }
        let version = r.u128("version id")?;
        let modified = Timestamp(r.u64("modified")?);
        let size = r.u64("size")?;
        let sha256 = r.array("sha256")?;
        let crc64 = r.u64("crc64nvme")?;
        let etag = ETag::new(r.text16("etag")?);
        let checksum = decode_checksum(r)?;
        let checksum_type = match record_version {
            1 => ChecksumType::FullObject,
            _ => decode_type(r)?,
        };
        let location = Location::decode(r)?;
        let (headers, metadata) = decode_described(r)?;
        let tags = match record_version {
            1 => Tags::default(),
            _ => decode_tags(r)?,
        };
        let quarantined = match record_version {
            1 | 2 => None,
            _ => Quarantined::decode(r)?,
        };
        Ok(Self {
            version,
            modified,
            size,
            sha256,
            crc64,
            etag,
            checksum,
            checksum_type,
            location,
            headers,
            metadata,
            tags,
            quarantined,
        })
    }
}

impl Quarantined {
    fn decode(r: &mut Reader) -> Result<Option<Self>, DecodeError> {
        match r.u8("quarantined")? {
            0 => Ok(None),
            1 => Ok(Some(Self {
                since: Timestamp(r.u64("quarantined since")?),
                reason: r.text16("reason of the quarantine")?.to_owned(),
            })),
            _ => Err(r.error("quarantined")),
        }
    }
}

impl ScrubRecord {
    fn encode(&self, w: &mut Writer) {
        w.bytes16(&self.next);
        for tally in [&self.round, &self.last] {
            w.u64(tally.began.0).u64(tally.ended.0);
            w.u64(tally.objects)
                .u64(tally.bytes)
                .u64(tally.damaged)
                .u64(tally.errors);
        }
    }

    fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        let next = r.bytes16("next")?.to_vec();
        let mut tally = || {
            Ok::<_, DecodeError>(ScrubTally {
                began: Timestamp(r.u64("began")?),
                ended: Timestamp(r.u64("ended")?),
                objects: r.u64("objects")?,
                bytes: r.u64("bytes")?,
                damaged: r.u64("damaged")?,
                errors: r.u64("errors")?,
            })
        };
        Ok(Self {
            next,
            round: tally()?,
            last: tally()?,
        })
    }
}

impl UploadRecord {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.initiated.0).u128(self.initiator.0);
        w.u8(self.checksum_algorithm.map_or(0, algorithm_number))
            .u8(type_number(self.checksum_type));
        encode_described(w, &self.headers, &self.metadata);
        encode_tags(w, &self.tags);
    }

    fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        let (initiated, initiator) = (r.u64("initiated")?, r.u128("initiator")?);
        let checksum_algorithm = decode_algorithm(r)?;
        let checksum_type = decode_type(r)?;
        let (headers, metadata) = decode_described(r)?;
        Ok(Self {
            initiated: Timestamp(initiated),
            initiator: AccountId(initiator),
            checksum_algorithm,
            checksum_type,
            headers,
            metadata,
            tags: decode_tags(r)?,
        })
    }
}

impl PartRecord {
    fn encode(&self, w: &mut Writer) {
        w.u8(0)
            .u128(self.version)
            .u64(self.modified.0)
            .u64(self.size);
        w.raw(&self.md5).raw(&self.sha256).u64(self.crc64);
        encode_checksum(w, self.checksum.as_ref());
        self.location.encode(w);
    }

    fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        if r.u8("cipher")? != 0 {
            return Err(r.error("cipher"));
        }
        Ok(Self {
            version: r.u128("version id")?,
            modified: Timestamp(r.u64("modified")?),
            size: r.u64("size")?,
            md5: r.array("md5")?,
            sha256: r.array("sha256")?,
            crc64: r.u64("crc64nvme")?,
            checksum: decode_checksum(r)?,
            location: Location::decode(r)?,
        })
    }
}

fn encode_checksum(w: &mut Writer, checksum: Option<&Checksum>) {
    match checksum {
        None => w.u8(0),
        Some(sum) => w.u8(algorithm_number(sum.algorithm)).raw(&sum.value),
    };
}

fn decode_checksum(r: &mut Reader) -> Result<Option<Checksum>, DecodeError> {
    let Some(algorithm) = decode_algorithm(r)? else {
        return Ok(None);
    };
    let value = r.take(algorithm.value_bytes(), "checksum")?.to_vec();
    Ok(Some(Checksum { algorithm, value }))
}

fn decode_algorithm(r: &mut Reader) -> Result<Option<ChecksumAlgorithm>, DecodeError> {
    match r.u8("checksum algorithm")? {
        0 => Ok(None),
        n => algorithm_of(n)
            .map(Some)
            .ok_or_else(|| r.error("checksum algorithm")),
    }
}

fn type_number(checksum_type: ChecksumType) -> u8 {
    match checksum_type {
        ChecksumType::FullObject => 0,
        ChecksumType::Composite => 1,
    }
}

fn decode_type(r: &mut Reader) -> Result<ChecksumType, DecodeError> {
    match r.u8("checksum type")? {
        0 => Ok(ChecksumType::FullObject),
        1 => Ok(ChecksumType::Composite),
        _ => Err(r.error("checksum type")),
    }
}

fn encode_described(w: &mut Writer, headers: &ContentHeaders, metadata: &BTreeMap<String, String>) {
    for header in [
        &headers.content_type,
        &headers.cache_control,
        &headers.content_disposition,
        &headers.content_encoding,
        &headers.content_language,
        &headers.expires,
    ] {
        w.optional_text16(header.as_deref());
    }
    w.u16(u16::try_from(metadata.len()).expect("metadata is limited to 2 KiB"));
    for (name, value) in metadata {
        w.bytes16(name.as_bytes()).bytes16(value.as_bytes());
    }
}

fn decode_described(
    r: &mut Reader,
) -> Result<(ContentHeaders, BTreeMap<String, String>), DecodeError> {
    let headers = ContentHeaders {
        content_type: r.optional_text16("content type")?,
        cache_control: r.optional_text16("cache control")?,
        content_disposition: r.optional_text16("content disposition")?,
        content_encoding: r.optional_text16("content encoding")?,
        content_language: r.optional_text16("content language")?,
        expires: r.optional_text16("expires")?,
    };
    let metadata = (0..r.u16("metadata count")?)
        .map(|_| {
            Ok((
                r.text16("metadata name")?.into(),
                r.text16("metadata value")?.into(),
            ))
        })
        .collect::<Result<_, DecodeError>>()?;
    Ok((headers, metadata))
}

fn encode_tags(w: &mut Writer, tags: &Tags) {
    w.u8(u8::try_from(tags.iter().len()).expect("an object has few tags"));
    for tag in tags.iter() {
        w.bytes16(tag.key.as_bytes()).bytes16(tag.value.as_bytes());
    }
}

fn decode_tags(r: &mut Reader) -> Result<Tags, DecodeError> {
    let tags = (0..r.u8("tag count")?)
        .map(|_| {
            Ok(Tag {
                key: r.text16("tag key")?.into(),
                value: r.text16("tag value")?.into(),
            })
        })
        .collect::<Result<_, DecodeError>>()?;
    Ok(Tags::stored(tags))
}

impl Location {
    fn encode(&self, w: &mut Writer) {
        match self {
            Location::Empty => w.u8(0),
            Location::Here => w.u8(1),
            Location::Pack {
                pack,
                offset,
                record_bytes,
                sums,
            } => {
                w.u8(2).u32(*pack).u32(*offset).u32(*record_bytes);
                w.u16(u16::try_from(sums.len()).expect("inline bodies are small"));
                sums.iter().fold(w, |w, &sum| w.u32(sum))
            }
            Location::File(id) => w.u8(3).raw(&id.0.to_be_bytes()),
            Location::Parts(set) => {
                w.u8(4).raw(&set.id.0.to_be_bytes());
                w.u16(u16::try_from(set.runs.len()).expect("an upload has 10,000 parts at most"));
                set.runs.iter().fold(w, |w, run| {
                    w.u16(run.first).u16(run.count).u64(run.part_bytes)
                })
            }
        };
    }

    fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match r.u8("location kind")? {
            0 => Location::Empty,
            1 => Location::Here,
            2 => {
                let (pack, offset) = (r.u32("pack")?, r.u32("offset")?);
                let record_bytes = r.u32("record bytes")?;
                let sums = (0..r.u16("block count")?)
                    .map(|_| r.u32("block sum"))
                    .collect::<Result<_, _>>()?;
                Location::Pack {
                    pack,
                    offset,
                    record_bytes,
                    sums,
                }
            }
            3 => Location::File(BlobId(u128::from_be_bytes(r.array("blob id")?))),
            4 => {
                let id = UploadId(u128::from_be_bytes(r.array("upload id")?));
                let runs = (0..r.u16("run count")?)
                    .map(|_| {
                        Ok(PartRun {
                            first: r.u16("first part")?,
                            count: r.u16("part count")?,
                            part_bytes: r.u64("part bytes")?,
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?;
                let set = PartSet { id, runs };
                if !set.is_possible() {
                    return Err(r.error("runs of parts"));
                }
                Location::Parts(set)
            }
            _ => return Err(r.error("location kind")),
        })
    }
}

impl TokenRecord {
    fn encode(&self, w: &mut Writer) {
        w.u128(self.account.0)
            .bytes16(self.name.as_bytes())
            .u64(self.created.0);
        w.u64(self.expires.map_or(0, |t| t.0))
            .u8((!self.active).into());
        w.bytes16(&self.sealed_secret);
        w.texts16(&self.actions)
            .texts16(&self.buckets)
            .texts16(&self.prefixes);
        w.raw(&self.key_id).bytes16(self.secret_hash.as_bytes());
    }

    fn decode(r: &mut Reader, version: u8) -> Result<Self, DecodeError> {
        let token = Self {
            account: AccountId(r.u128("account")?),
            name: r.text16("name")?.to_owned(),
            created: Timestamp(r.u64("created")?),
            expires: Some(Timestamp(r.u64("expires")?)).filter(|t| t.0 != 0),
            active: r.u8("status")? == 0,
            sealed_secret: r.bytes16("sealed secret")?.to_vec(),
            actions: r.texts16("actions")?,
            buckets: r.texts16("buckets")?,
            prefixes: r.texts16("prefixes")?,
            key_id: Default::default(),
            secret_hash: String::new(),
        };
        Ok(match version {
            1 => token,
            _ => Self {
                key_id: r.array("key id")?,
                secret_hash: r.text16("secret hash")?.to_owned(),
                ..token
            },
        })
    }
}

impl Checkpoint {
    /// Length of the record, in bytes.
    pub const BYTES: usize = 57;

    /// The bytes of the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u8(VERSION)
            .u64(self.applied_lsn)
            .u32(self.pack)
            .u64(self.offset)
            .raw(&self.hash);
        w.u32(self.incarnation)
            .raw(&self.lowest_uncommitted.0.to_be_bytes());
        w.into_bytes()
    }

    /// Reads the record back.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("checkpoint", bytes);
        if r.u8("version")? != VERSION {
            return Err(r.error("version"));
        }
        let checkpoint = Self {
            applied_lsn: r.u64("applied lsn")?,
            pack: r.u32("pack")?,
            offset: r.u64("offset")?,
            hash: r.array("hash")?,
            incarnation: r.u32("incarnation")?,
            lowest_uncommitted: BlobId(u128::from_be_bytes(r.array("lowest uncommitted")?)),
        };
        r.finish()?;
        Ok(checkpoint)
    }
}

fn algorithm_number(algorithm: ChecksumAlgorithm) -> u8 {
    match algorithm {
        ChecksumAlgorithm::Crc32 => 1,
        ChecksumAlgorithm::Crc32c => 2,
        ChecksumAlgorithm::Crc64Nvme => 3,
        ChecksumAlgorithm::Sha1 => 4,
        ChecksumAlgorithm::Sha256 => 5,
    }
}

fn algorithm_of(number: u8) -> Option<ChecksumAlgorithm> {
    ChecksumAlgorithm::ALL
        .into_iter()
        .find(|&a| algorithm_number(a) == number)
}
