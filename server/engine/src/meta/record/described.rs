//! What records of bodies share: checksums, headers, metadata and tags.

use std::collections::BTreeMap;

use crate::{
    codec::{DecodeError, Reader, Writer},
    types::{Checksum, ChecksumAlgorithm, ChecksumType, ContentHeaders, Tag, Tags},
};

pub(super) fn encode_checksum(w: &mut Writer, checksum: Option<&Checksum>) {
    match checksum {
        None => w.u8(0),
        Some(sum) => w.u8(algorithm_number(sum.algorithm)).raw(&sum.value),
    };
}

pub(super) fn decode_checksum(r: &mut Reader) -> Result<Option<Checksum>, DecodeError> {
    let Some(algorithm) = decode_algorithm(r)? else {
        return Ok(None);
    };
    let value = r.take(algorithm.value_bytes(), "checksum")?.to_vec();
    Ok(Some(Checksum { algorithm, value }))
}

pub(super) fn decode_algorithm(r: &mut Reader) -> Result<Option<ChecksumAlgorithm>, DecodeError> {
    match r.u8("checksum algorithm")? {
        0 => Ok(None),
        n => algorithm_of(n)
            .map(Some)
            .ok_or_else(|| r.error("checksum algorithm")),
    }
}

pub(super) fn type_number(checksum_type: ChecksumType) -> u8 {
    match checksum_type {
        ChecksumType::FullObject => 0,
        ChecksumType::Composite => 1,
    }
}

pub(super) fn decode_type(r: &mut Reader) -> Result<ChecksumType, DecodeError> {
    match r.u8("checksum type")? {
        0 => Ok(ChecksumType::FullObject),
        1 => Ok(ChecksumType::Composite),
        _ => Err(r.error("checksum type")),
    }
}

pub(super) fn encode_described(
    w: &mut Writer,
    headers: &ContentHeaders,
    metadata: &BTreeMap<String, String>,
) {
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

pub(super) fn decode_described(
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
    let mut metadata = BTreeMap::<String, String>::new();
    for _ in 0..r.u16("metadata count")? {
        let name = r.text16("metadata name")?;
        // They are written in their order, so one that is there twice was never put.
        if metadata
            .last_key_value()
            .is_some_and(|(last, _)| **last >= *name)
        {
            return Err(r.error("metadata name"));
        }
        let value = r.text16("metadata value")?;
        metadata.insert(name.to_owned(), value.to_owned());
    }
    Ok((headers, metadata))
}

pub(super) fn encode_tags(w: &mut Writer, tags: &Tags) {
    w.u8(u8::try_from(tags.iter().len()).expect("an object has few tags"));
    for tag in tags.iter() {
        w.bytes16(tag.key.as_bytes()).bytes16(tag.value.as_bytes());
    }
}

pub(super) fn decode_tags(r: &mut Reader) -> Result<Tags, DecodeError> {
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

pub(super) fn algorithm_number(algorithm: ChecksumAlgorithm) -> u8 {
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
