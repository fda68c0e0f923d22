//! What a list of parts makes: order and ETags held against the parts, sums put together from theirs.
//!
//! Nothing here reads a body: MD5 and the composite checksums are sums of sums, and a CRC of the whole
//! follows from those of the parts and their lengths.

use std::collections::BTreeMap;

use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::{
    digest::{Digests, combine, wrong_checksum},
    error::{Error, ErrorKind, Result},
    meta::record::{PartRecord, PartSet, UploadRecord},
    types::{
        Checksum, ChecksumAlgorithm, ChecksumType, CompleteOptions, CompletedPart, ETag,
        OBJECT_BYTES_MAX, UploadId,
    },
};

/// The object that a Complete asks for, but for what the upload says of it.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) set: PartSet,
    pub(super) size: u64,
    pub(super) etag: ETag,
    pub(super) sha256: [u8; 32],
    pub(super) crc64: u64,
    pub(super) checksum: Option<Checksum>,
    /// Parts that are there and not asked for.
    pub(super) unused: Vec<u16>,
}

impl Assembly {
    /// Checks what is listed against the parts that are there.
    ///
    /// Source: S3 API, CompleteMultipartUpload.
    pub(super) fn of(
        id: UploadId,
        rows: Vec<(u16, PartRecord)>,
        listed: &[CompletedPart],
        upload: Option<&UploadRecord>,
        options: &CompleteOptions,
    ) -> Result<Self> {
        must_be_in_order(listed)?;
        let mut rows: BTreeMap<u16, PartRecord> = rows.into_iter().collect();
        let mut parts = Vec::with_capacity(listed.len());
        for part in listed {
            let row = rows.remove(&part.number);
            let row = row.ok_or_else(|| invalid_part(part, "was not uploaded"))?;
            must_be_same(part, &row)?;
            parts.push((part.number, row));
        }
        must_be_large(&parts, options.part_bytes_min)?;
        let mut assembly = Self::sums_of(id, &parts);
        assembly.unused = rows.into_keys().collect();
        let size = assembly.size;
        if size > OBJECT_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::EntityTooLarge,
                format!(
                    "Your proposed upload exceeds the maximum allowed object size: {OBJECT_BYTES_MAX} bytes."
                ),
            ));
        }
        if options.size.is_some_and(|expected| expected != size) {
            return Err(invalid_request(format!(
                "The provided 'x-amz-mp-object-size' header does not match what was computed: {size} bytes."
            )));
        }
        if let Some(upload) = upload {
            assembly.checksum = checksum_of(&parts, upload);
            assembly.must_match(upload, options)?;
        }
        Ok(assembly)
    }

    fn sums_of(id: UploadId, parts: &[(u16, PartRecord)]) -> Self {
        let mut set = PartSet {
            id,
            runs: Vec::new(),
        };
        let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
        let (mut size, mut crc64) = (0_u64, 0);
        for (number, part) in parts {
            set.push(*number, part.size);
            md5.update(part.md5);
            sha256.update(part.sha256);
            crc64 = combine(ChecksumAlgorithm::Crc64Nvme, crc64, part.crc64, part.size);
            size = size.saturating_add(part.size);
        }
        let md5: [u8; 16] = md5.finalize().into();
        let etag = ETag::new(format!("{}-{}", ETag::of_md5(&md5).as_str(), parts.len()));
        Self {
            set,
            size,
            etag,
            sha256: sha256.finalize().into(),
            crc64,
            checksum: None,
            unused: Vec::new(),
        }
    }

    /// Holds the checksum that the client computed against ours.
    fn must_match(&self, upload: &UploadRecord, options: &CompleteOptions) -> Result<()> {
        if let Some(wanted) = options.checksum_type.filter(|t| *t != upload.checksum_type) {
            return Err(invalid_request(format!(
                "The upload was created using the {} checksum mode. The complete request must use the same \
                 checksum mode, not {}.",
                upload.checksum_type.name(),
                wanted.name()
            )));
        }
        let Some(expected) = &options.checksum else {
            return Ok(());
        };
        let crc64 = Checksum {
            algorithm: ChecksumAlgorithm::Crc64Nvme,
            value: self.crc64.to_be_bytes().to_vec(),
        };
        let ours = self.checksum.as_ref().unwrap_or(&crc64);
        if expected.algorithm != ours.algorithm {
            return Err(invalid_request(format!(
                "The upload was created using the {} checksum. The complete request must use the same one.",
                ours.algorithm.name()
            )));
        }
        if expected != ours {
            return Err(wrong_checksum(expected.algorithm));
        }
        Ok(())
    }
}

fn must_be_in_order(listed: &[CompletedPart]) -> Result<()> {
    if listed.is_empty() {
        return Err(Error::new(
            ErrorKind::MalformedXML,
            "You must specify at least one part.",
        ));
    }
    if listed.is_sorted_by(|a, b| a.number < b.number) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidPartOrder,
        "The list of parts was not in ascending order. The parts list must be specified in order by part \
         number.",
    ))
}

fn must_be_same(listed: &CompletedPart, row: &PartRecord) -> Result<()> {
    let etag = ETag::of_md5(&row.md5);
    if listed.etag.as_ref().is_some_and(|listed| *listed != etag) {
        return Err(invalid_part(listed, "has another ETag"));
    }
    let is_same = |listed: &Checksum| {
        let is_crc64 = listed.algorithm == ChecksumAlgorithm::Crc64Nvme;
        row.checksum.as_ref() == Some(listed)
            || (is_crc64 && listed.value == row.crc64.to_be_bytes())
    };
    match listed.checksum.as_ref().is_none_or(is_same) {
        true => Ok(()),
        false => Err(invalid_part(
            listed,
            "has another checksum, or none of this kind",
        )),
    }
}

fn invalid_part(part: &CompletedPart, why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidPart,
        format!(
            "One or more of the specified parts could not be found: part {} {why}.",
            part.number
        ),
    )
}

fn must_be_large(parts: &[(u16, PartRecord)], bytes_min: u64) -> Result<()> {
    let but_last = &parts[..parts.len() - 1];
    match but_last.iter().find(|(_, part)| part.size < bytes_min) {
        None => Ok(()),
        Some((number, part)) => Err(Error::new(
            ErrorKind::EntityTooSmall,
            format!(
                "Your proposed upload is smaller than the minimum allowed size: part {number} has {} of at \
                 least {bytes_min} bytes (JAY_S3_MIN_PART_SIZE).",
                part.size
            ),
        )),
    }
}

/// The checksum that the upload asked for.
fn checksum_of(parts: &[(u16, PartRecord)], upload: &UploadRecord) -> Option<Checksum> {
    let algorithm = upload.checksum_algorithm?;
    let values = || {
        let checksums = parts.iter().map(|(_, part)| (part, part.checksum.as_ref()));
        checksums.filter_map(|(part, checksum)| Some((part.size, &checksum?.value)))
    };
    let value = match upload.checksum_type {
        ChecksumType::Composite => {
            let all: Vec<u8> = values().flat_map(|(_, value)| value.clone()).collect();
            Digests::of(&all, Some(algorithm)).finish().chosen?.value
        }
        ChecksumType::FullObject => {
            let whole = values().fold(0, |whole, (bytes, value)| {
                let crc = value
                    .iter()
                    .fold(0, |crc, byte| crc << 8 | u64::from(*byte));
                combine(algorithm, whole, crc, bytes)
            });
            whole.to_be_bytes()[8 - algorithm.value_bytes()..].to_vec()
        }
    };
    Some(Checksum { algorithm, value })
}

fn invalid_request(why: String) -> Error {
    Error::new(ErrorKind::InvalidRequest, why)
}

#[cfg(test)]
mod tests;
