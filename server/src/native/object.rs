//! PutObject, GetObject, HeadObject and DeleteObject.

use std::collections::BTreeMap;

use jay_engine::{
    BucketName, ChecksumAlgorithm, Conditions, CopyOptions, CopySource, DeleteConditions, ETag,
    ErrorKind, LIST_PAGE_MAX, ListOptions, ObjectKey, PutOptions, ReadOutcome, Select, Timestamp,
};
use jay_wire::{DecodeError, Empty, METADATA_BYTES_MAX, Problem, Tagged, object::*};

use super::{
    body::{Body, Broken},
    error::{Error, Result},
    hex,
    operation::{Call, Outgoing},
    tagging, time,
};

/// The type of an object that was stored without one.
const CONTENT_TYPE_DEFAULT: &str = "application/octet-stream";
/// What S3 puts before the names of user metadata, and the first clients took for a part of them.
const METADATA_PREFIX: &str = "x-amz-meta-";

pub(super) async fn put_object(
    call: &Call<'_>,
    asked: PutObject,
    body: &mut Body<'_>,
) -> Result<Stored, Broken> {
    let (bucket, key) = names(&asked.bucket, &asked.key)?;
    let creates = asked.conditions.creates();
    match call.written_before(&key) {
        Ok(Some(info)) => return Ok(stored(&info)),
        before => drop(before.map_err(|error| refusal(error, creates))?),
    }
    let options = PutOptions {
        size: body.size(),
        headers: content_headers(asked.content_type, asked.headers),
        metadata: metadata(asked.metadata)?,
        tags: tagging::tags(asked.tags)?,
        checksum: asked.checksum.map(checksum_of).transpose()?,
        conditions: conditions(asked.conditions),
        once: call.once,
        without_digests: asked.without_digests,
        ..PutOptions::default()
    };
    let writer = call
        .engine
        .put_object(call.caller, &bucket, &key, options)
        .await;
    let mut writer = writer?;
    while let Some(bytes) = body.next().await? {
        writer.write(bytes).await?;
    }
    match writer.finish(body.checksum()).await {
        Ok(info) => Ok(stored(&info)),
        Err(error) => Err(refusal(error, creates).into()),
    }
}

/// The refusal of a write, which may have been to create something.
pub(super) fn refusal(error: jay_engine::Error, creates: bool) -> Error {
    match creates {
        true => Error::from(error).of_create(),
        false => error.into(),
    }
}

/// What an object is, with a reader of its body. Its first bytes are known to be right by then.
pub(super) async fn get_object(
    call: &Call<'_>,
    asked: GetObject,
) -> Result<(ObjectInfo, Outgoing)> {
    let (bucket, key) = names(&asked.bucket, &asked.key)?;
    let select = match (asked.range, asked.part_number) {
        (None, None) => Select::Whole,
        (Some(range), None) => Select::Range(byte_range(&range)?),
        (None, Some(number)) => Select::Part(u16::try_from(number).unwrap_or(u16::MAX)),
        (Some(_), Some(_)) => {
            let why = "A range and a part number say different things: give one of them.";
            return Err(Error::new(ErrorKind::InvalidArgument, why));
        }
    };
    let opened = call
        .engine
        .get_object(call.caller, &bucket, &key, select)
        .await;
    let mut reader = match opened {
        // What must hold for the object comes before which bytes of it there are.
        Err(error) if error.kind() == ErrorKind::InvalidRange => {
            let found = call.engine.head_object(call.caller, &bucket, &key).await?;
            must_hold(asked.conditions, &found)?;
            return Err(error.into());
        }
        opened => opened?,
    };
    must_hold(asked.conditions, reader.info())?;
    reader.prepare().await?;
    let range = reader.range();
    let size = range.end - range.start;
    let object = ObjectInfo {
        range_start: range.start,
        ..info(reader.info())
    };
    let outgoing = Outgoing {
        then: Vec::new(),
        size,
        crc64: (size == object.size).then_some(object.crc64),
        reader,
    };
    Ok((object, outgoing))
}

/// Several ranges of one version of an object, one behind the other.
pub(super) async fn get_ranges(
    call: &Call<'_>,
    asked: GetRanges,
) -> Result<(RangesInfo, Outgoing)> {
    let (bucket, key) = names(&asked.bucket, &asked.key)?;
    if asked.ranges.len() > RANGES_MAX {
        return Err(too_many("ranges", RANGES_MAX));
    }
    let ranges: Vec<_> = asked.ranges.iter().map(byte_range).collect::<Result<_>>()?;
    let Some((first, then)) = ranges.split_first() else {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "Name one range at least.",
        ));
    };
    let mut reader = call
        .engine
        .get_object(call.caller, &bucket, &key, Select::Range(*first))
        .await?;
    must_hold(asked.conditions, reader.info())?;
    let mut lengths = Vec::with_capacity(ranges.len());
    for range in &ranges {
        let range = range.resolve(reader.info().size)?;
        lengths.push(range.end - range.start);
    }
    reader.prepare().await?;
    let answer = RangesInfo {
        object: info(reader.info()),
        lengths,
    };
    let outgoing = Outgoing {
        reader,
        then: then.iter().rev().copied().collect(),
        size: answer.lengths.iter().sum(),
        crc64: None,
    };
    Ok((answer, outgoing))
}

pub(super) async fn head_object(call: &Call<'_>, asked: HeadObject) -> Result<ObjectInfo> {
    let (bucket, key) = names(&asked.bucket, &asked.key)?;
    let found = call.engine.head_object(call.caller, &bucket, &key).await?;
    must_hold(asked.conditions, &found)?;
    Ok(info(&found))
}

pub(super) async fn head_objects(call: &Call<'_>, asked: HeadObjects) -> Result<HeadOutcomes> {
    if asked.keys.len() > KEYS_MAX {
        return Err(too_many("keys", KEYS_MAX));
    }
    let mut outcomes = Vec::new();
    let mut bytes = 0;
    for key in &asked.keys {
        let (bucket, key) = names(&asked.bucket, key)?;
        let found = call.engine.head_object(call.caller, &bucket, &key).await;
        let outcome = match found {
            Ok(found) => HeadOutcome {
                object: Some(info(&found)),
                failure: None,
            },
            // It is said of all, as for deletes.
            Err(error) if error.kind() == ErrorKind::NoSuchBucket => return Err(error.into()),
            Err(error) => HeadOutcome {
                object: None,
                failure: Some(Error::from(error).failure()),
            },
        };
        bytes += OUTCOME_BYTES + outcome.to_metadata()?.len();
        if bytes > METADATA_BYTES_MAX as usize - ENVELOPE_BYTES {
            break;
        }
        outcomes.push(outcome);
    }
    Ok(HeadOutcomes { outcomes })
}

pub(super) async fn delete_object(call: &Call<'_>, asked: DeleteObject) -> Result<Empty> {
    let (bucket, key) = names(&asked.bucket, &asked.key)?;
    if call.done_before()? {
        return Ok(Empty);
    }
    let conditions = DeleteConditions {
        if_match: asked.if_match.map(ETag::new),
        if_match_size: asked.if_match_size,
        if_match_modified: asked.if_match_modified.map(|time| Timestamp(time.0)),
        once: call.once,
    };
    match conditions == DeleteConditions::default() {
        true => {
            call.engine
                .delete_object(call.caller, &bucket, &key)
                .await?
        }
        false => {
            call.engine
                .delete_object_if(call.caller, &bucket, &key, &conditions)
                .await?;
        }
    }
    Ok(Empty)
}

pub(super) async fn delete_objects(
    call: &Call<'_>,
    asked: DeleteObjects,
) -> Result<DeleteOutcomes> {
    if asked.keys.len() > KEYS_MAX {
        return Err(too_many("keys", KEYS_MAX));
    }
    let bucket = BucketName::parse(&asked.bucket)?;
    let keys: Vec<_> = asked
        .keys
        .iter()
        .map(|key| ObjectKey::parse(key))
        .collect::<jay_engine::Result<_>>()?;
    let outcomes = call
        .engine
        .delete_objects(call.caller, &bucket, &keys)
        .await?;
    let outcomes = outcomes.into_iter().map(|outcome| DeleteOutcome {
        failure: outcome.err().map(|error| Error::from(error).failure()),
    });
    Ok(DeleteOutcomes {
        outcomes: outcomes.collect(),
    })
}

pub(super) async fn delete_prefix(call: &Call<'_>, asked: DeletePrefix) -> Result<DeletedPrefix> {
    let bucket = BucketName::parse(&asked.bucket)?;
    let options = ListOptions {
        prefix: asked.prefix,
        delimiter: None,
        after: Some(asked.start_after).filter(|after| !after.is_empty()),
        max_keys: LIST_PAGE_MAX,
    };
    let deleted = call
        .engine
        .delete_prefix(call.caller, &bucket, &options)
        .await?;
    Ok(DeletedPrefix {
        deleted: deleted.deleted,
        is_truncated: deleted.next.is_some(),
        next_start_after: deleted.next.unwrap_or_default(),
    })
}

pub(super) async fn copy_object(call: &Call<'_>, asked: CopyObject) -> Result<Stored> {
    let (bucket, key) = names(&asked.bucket, &asked.key)?;
    let (source_bucket, source_key) = names(&asked.source_bucket, &asked.source_key)?;
    let source = CopySource {
        bucket: source_bucket,
        key: source_key,
        conditions: read_conditions(asked.source_conditions),
    };
    let creates = asked.conditions.creates();
    match call.written_before(&key) {
        Ok(Some(info)) => return Ok(stored(&info)),
        before => drop(before.map_err(|error| refusal(error, creates))?),
    }
    let replace = asked.replace.map(|new| {
        let headers = content_headers(new.content_type, new.headers);
        Ok::<_, Error>((headers, metadata(new.metadata)?))
    });
    let tags = asked.replace_tags.map(|new| tagging::tags(new.tags));
    let options = CopyOptions {
        replace: replace.transpose()?,
        tags: tags.transpose()?,
        checksum_algorithm: None,
        conditions: conditions(asked.conditions),
        once: call.once,
    };
    let copied = call
        .engine
        .copy_object(call.caller, &source, &bucket, &key, options)
        .await;
    match copied {
        Ok(info) => Ok(stored(&info)),
        Err(error) => Err(refusal(error, creates)),
    }
}

/// Bytes of an outcome in a list beside its own.
const OUTCOME_BYTES: usize = 4;
/// Room in the metadata of an answer for what stands around a list.
pub(super) const ENVELOPE_BYTES: usize = 1024;

fn too_many(what: &str, most: usize) -> Error {
    let why = format!("A request has at most {most} {what}.");
    Error::new(ErrorKind::InvalidArgument, &why)
}

/// What was stored.
fn stored(info: &jay_engine::ObjectInfo) -> Stored {
    Stored {
        etag: info.etag.as_str().to_owned(),
        checksum: checksum(info),
        version: version(info),
        crc64: crc64(info),
        size: info.size,
        last_modified: time(info.last_modified),
    }
}

/// The id of a version.
pub(super) fn version(info: &jay_engine::ObjectInfo) -> String {
    format!("{:032x}", info.version)
}

/// CRC64-NVME of the body, which every object has.
pub(super) fn crc64(info: &jay_engine::ObjectInfo) -> u64 {
    let of_body =
        |checksum: &&jay_engine::Checksum| checksum.algorithm == ChecksumAlgorithm::Crc64Nvme;
    let value = info.checksums.iter().rev().find(of_body);
    let value = value.and_then(|checksum| checksum.value.first_chunk().copied());
    u64::from_be_bytes(value.unwrap_or_default())
}

fn checksum_of(given: Checksum) -> Result<jay_engine::Checksum> {
    let algorithm = ChecksumAlgorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm.name() == given.algorithm);
    match algorithm {
        Some(algorithm) if algorithm.value_bytes() == given.value.len() => {
            Ok(jay_engine::Checksum {
                algorithm,
                value: given.value.to_vec(),
            })
        }
        _ => Err(DecodeError {
            field: "checksum",
            problem: Problem::Invalid,
        }
        .into()),
    }
}

fn byte_range(range: &ByteRange) -> Result<jay_engine::ByteRange> {
    match (range.suffix, range.end) {
        (Some(length), None) if range.start == 0 => Ok(jay_engine::ByteRange::Suffix { length }),
        (None, None) => Ok(jay_engine::ByteRange::From { first: range.start }),
        (None, Some(end)) if end > range.start => Ok(jay_engine::ByteRange::FromTo {
            first: range.start,
            last: end - 1,
        }),
        (None, Some(_)) => {
            let why = "A range ends behind its beginning.";
            Err(Error::new(ErrorKind::InvalidRange, why))
        }
        _ => {
            let why = "A range has a start and an end, or it is a suffix.";
            Err(Error::new(ErrorKind::InvalidArgument, why))
        }
    }
}

pub(super) fn conditions(asked: WriteConditions) -> Conditions {
    let etag = |text: String| (text != "*").then(|| ETag::new(text));
    Conditions {
        if_match: asked.if_match.map(etag),
        if_none_match: asked.if_none_match.map(etag),
    }
}

fn read_conditions(asked: ReadConditions) -> jay_engine::ReadConditions {
    let etags = |texts: Vec<String>| {
        (!texts.is_empty()).then(|| texts.into_iter().map(ETag::new).collect())
    };
    let time = |time: Option<jay_wire::Time>| time.map(|time| Timestamp(time.0));
    jay_engine::ReadConditions {
        if_match: etags(asked.if_match),
        if_none_match: etags(asked.if_none_match),
        if_modified_since: time(asked.if_modified_since),
        if_unmodified_since: time(asked.if_unmodified_since),
    }
}

fn must_hold(asked: ReadConditions, info: &jay_engine::ObjectInfo) -> Result<()> {
    match read_conditions(asked).decide(&info.etag, info.last_modified) {
        ReadOutcome::Proceed => Ok(()),
        ReadOutcome::NotModified => Err(Error::not_modified()),
        ReadOutcome::Failed(what) => {
            let why =
                format!("At least one of the preconditions you specified did not hold: {what}.");
            Err(Error::new(ErrorKind::PreconditionFailed, &why))
        }
    }
}

/// The bucket and key of a request.
pub(super) fn names(bucket: &str, key: &str) -> Result<(BucketName, ObjectKey)> {
    Ok((BucketName::parse(bucket)?, ObjectKey::parse(key)?))
}

/// The headers of an object of this type.
pub(super) fn content_headers(
    content_type: String,
    others: ContentHeaders,
) -> jay_engine::ContentHeaders {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    jay_engine::ContentHeaders {
        content_type: given(content_type),
        cache_control: given(others.cache_control),
        content_disposition: given(others.content_disposition),
        content_encoding: given(others.content_encoding),
        content_language: given(others.content_language),
        expires: given(others.expires),
    }
}

/// The headers that are told of an object, beside its type.
pub(super) fn headers(info: &jay_engine::ObjectInfo) -> ContentHeaders {
    let told = |text: &Option<String>| text.clone().unwrap_or_default();
    let headers = &info.headers;
    ContentHeaders {
        cache_control: told(&headers.cache_control),
        content_disposition: told(&headers.content_disposition),
        content_encoding: told(&headers.content_encoding),
        content_language: told(&headers.content_language),
        expires: told(&headers.expires),
    }
}

/// The type that is told of an object.
pub(super) fn content_type(info: &jay_engine::ObjectInfo) -> String {
    let stored = info.headers.content_type.as_deref();
    stored.unwrap_or(CONTENT_TYPE_DEFAULT).to_owned()
}

/// SHA-256 of the body, or of the SHA-256s of its parts and then their number; empty where it was left out.
pub(super) fn checksum(info: &jay_engine::ObjectInfo) -> String {
    let sha256 = info.sha256.map(|sha256| hex(&sha256)).unwrap_or_default();
    match info.parts_count {
        None => sha256,
        Some(parts) => format!("{sha256}-{parts}"),
    }
}

/// User metadata under the names that all fronts know: bare, in lower case. What of a name or value fits into no header
/// of S3 is kept all the same; S3 tells how many there are.
pub(super) fn metadata(given: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let mut metadata = BTreeMap::new();
    for (name, value) in given {
        let lower = name.to_ascii_lowercase();
        let bare = lower.strip_prefix(METADATA_PREFIX).unwrap_or(&lower);
        if bare.is_empty() {
            return Err(unfit("a name is empty"));
        }
        if bare.chars().chain(value.chars()).any(char::is_control) {
            return Err(unfit("there are no control characters in names and values"));
        }
        if metadata.insert(bare.to_owned(), value).is_some() {
            return Err(unfit("names that differ in case alone are one name"));
        }
    }
    Ok(metadata)
}

fn unfit(rule: &str) -> Error {
    let why = format!("The user metadata cannot be kept: {rule}.");
    Error::new(ErrorKind::InvalidArgument, &why)
}

fn info(info: &jay_engine::ObjectInfo) -> ObjectInfo {
    let chosen = info.checksums.first().map(|checksum| Checksum {
        algorithm: checksum.algorithm.name().to_owned(),
        value: checksum.value.clone().into(),
        is_composite: info.checksum_type == jay_engine::ChecksumType::Composite,
    });
    ObjectInfo {
        content_type: content_type(info),
        size: info.size,
        etag: info.etag.as_str().to_owned(),
        checksum: checksum(info),
        last_modified: time(info.last_modified),
        metadata: info.metadata.clone(),
        version: version(info),
        crc64: crc64(info),
        headers: headers(info),
        chosen_checksum: chosen.filter(|_| info.checksums.len() > 1),
        tag_count: info.tag_count as u32,
        parts_count: info.parts_count.map_or(0, u32::from),
        range_start: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(given: &[(&str, &str)]) -> Result<Vec<(String, String)>> {
        let given = given.iter().map(|(n, v)| (n.to_string(), v.to_string()));
        Ok(metadata(given.collect())?.into_iter().collect())
    }

    #[test]
    fn metadata_have_one_form_on_all_fronts() {
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!(kept(&[("Owner", "Ana")]).unwrap(), pair("owner", "Ana"));
        assert_eq!(
            kept(&[("x-amz-meta-Título", "ü")]).unwrap(),
            pair("título", "ü")
        );
        for unfit in [
            &[("", "v")][..],
            &[("x-amz-meta-", "v")],
            &[("a\0b", "v")],
            &[("n", "a\r\nset-cookie: b")],
            &[("A", "1"), ("a", "2")],
        ] {
            assert!(kept(unfit).is_err(), "{unfit:?}");
        }
    }
}
