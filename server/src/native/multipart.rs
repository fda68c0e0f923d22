//! Multipart uploads.

use jay_engine::{
    BucketName, CompleteOptions, CompletedPart, ETag, ErrorKind, LIST_PAGE_MAX, ListPartsOptions,
    ListUploadsOptions, PART_NUMBER_MAX, PartInfo, PartOptions, UploadId, UploadOptions,
};
use jay_wire::{Empty, METADATA_BYTES_MAX, multipart::*, object::Stored};

use super::{
    body::{Body, Broken},
    error::{Error, Result},
    hex, object,
    operation::Call,
    tagging, time, uuid,
};

/// Most parts that one frame holds with their SHA-256.
const PARTS_WITH_CHECKSUM_MAX: usize = (METADATA_BYTES_MAX as usize - 2) / PART_BYTES;
/// Bytes of a part in a list: number, size, MD5 and SHA-256 in hex with their lengths.
const PART_BYTES: usize = 4 + 8 + (2 + 32) + (2 + 64);

pub(super) async fn create_multipart_upload(
    call: &Call<'_>,
    asked: CreateMultipartUpload,
) -> Result<Upload> {
    let (bucket, key) = object::names(&asked.bucket, &asked.key)?;
    let options = UploadOptions {
        headers: object::content_headers(asked.content_type, asked.headers),
        metadata: object::metadata(asked.metadata)?,
        tags: tagging::tags(asked.tags)?,
        ..UploadOptions::default()
    };
    let upload = call
        .engine
        .create_multipart_upload(call.caller, &bucket, &key, options)
        .await?;
    Ok(Upload {
        upload_id: in_uuid_form(upload.upload_id),
    })
}

pub(super) async fn upload_part(
    call: &Call<'_>,
    asked: UploadPart,
    body: &mut Body<'_>,
) -> Result<Stored, Broken> {
    let (bucket, key) = object::names(&asked.bucket, &asked.key)?;
    let upload_id = upload_id(&asked.upload_id)?;
    let options = PartOptions {
        size: body.size(),
        ..PartOptions::default()
    };
    let number = part_number(asked.part_number)?;
    let mut writer = call
        .engine
        .upload_part(call.caller, &bucket, &key, upload_id, number, options)
        .await?;
    while let Some(bytes) = body.next().await? {
        writer.write(bytes).await?;
    }
    let part = writer.finish(body.checksum()).await?;
    Ok(Stored {
        etag: part.etag.as_str().to_owned(),
        checksum: hex(&part.sha256),
        version: String::new(),
        crc64: part_crc64(&part),
        size: part.size,
        last_modified: time(part.last_modified),
    })
}

pub(super) async fn complete_multipart_upload(
    call: &Call<'_>,
    asked: CompleteMultipartUpload,
) -> Result<Completed> {
    let (bucket, key) = object::names(&asked.bucket, &asked.key)?;
    let upload_id = upload_id(&asked.upload_id)?;
    let parts = match asked.parts.is_empty() {
        true => numbered(asked.part_numbers)?,
        false => named(asked.parts)?,
    };
    let creates = asked.conditions.creates();
    match call.written_before(&key) {
        Ok(Some(info)) => return Ok(completed(&info)),
        before => drop(before.map_err(|error| object::refusal(error, creates))?),
    }
    let options = CompleteOptions {
        conditions: object::conditions(asked.conditions),
        size: asked.size,
        once: call.once,
        ..CompleteOptions::default()
    };
    let done = call
        .engine
        .complete_multipart_upload(call.caller, &bucket, &key, upload_id, &parts, options)
        .await;
    match done {
        Ok(info) => Ok(completed(&info)),
        Err(error) => Err(object::refusal(error, creates)),
    }
}

fn completed(object: &jay_engine::ObjectInfo) -> Completed {
    Completed {
        etag: object.etag.as_str().to_owned(),
        checksum: object::checksum(object),
        size: object.size,
        version: object::version(object),
        crc64: object::crc64(object),
        last_modified: time(object.last_modified),
    }
}

/// Parts in whatever order they are named, and each once.
fn numbered(mut numbers: Vec<u32>) -> Result<Vec<CompletedPart>> {
    numbers.sort_unstable();
    numbers.dedup();
    let parts = numbers.into_iter().map(|number| {
        Ok(CompletedPart {
            number: part_number(number)?,
            etag: None,
            checksum: None,
        })
    });
    parts.collect()
}

/// Parts with the ETags that they must have.
fn named(parts: Vec<PartNamed>) -> Result<Vec<CompletedPart>> {
    let parts = parts.into_iter().map(|part| {
        Ok(CompletedPart {
            number: part_number(part.part_number)?,
            etag: Some(part.etag)
                .filter(|etag| !etag.is_empty())
                .map(ETag::new),
            checksum: None,
        })
    });
    parts.collect()
}

fn part_crc64(part: &PartInfo) -> u64 {
    u64::from_be_bytes(part.crc64.value.first_chunk().copied().unwrap_or_default())
}

pub(super) async fn abort_multipart_upload(
    call: &Call<'_>,
    asked: AbortMultipartUpload,
) -> Result<Empty> {
    let (bucket, key) = object::names(&asked.bucket, &asked.key)?;
    let upload_id = upload_id(&asked.upload_id)?;
    call.engine
        .abort_multipart_upload(call.caller, &bucket, &key, upload_id)
        .await?;
    Ok(Empty)
}

pub(super) async fn list_parts(call: &Call<'_>, asked: ListParts) -> Result<PartList> {
    let (bucket, key) = object::names(&asked.bucket, &asked.key)?;
    let upload_id = upload_id(&asked.upload_id)?;
    let mut list = PartList::default();
    let mut after = u16::try_from(asked.after).unwrap_or(u16::MAX);
    let page_max = match asked.max_parts {
        0 => LIST_PAGE_MAX,
        some => LIST_PAGE_MAX.min(some as usize),
    };
    loop {
        let options = ListPartsOptions {
            after,
            max_parts: page_max,
        };
        let page = call
            .engine
            .list_parts(call.caller, &bucket, &key, upload_id, &options)
            .await?;
        list.parts.extend(page.parts.iter().map(|part| PartEntry {
            part_number: part.number.into(),
            size: part.size,
            etag: part.etag.as_str().to_owned(),
            checksum: hex(&part.sha256),
            crc64: part_crc64(part),
            last_modified: time(part.last_modified),
        }));
        list.is_truncated = page.is_truncated;
        match page.parts.last() {
            // There are no pages in version 1.
            Some(last) if page.is_truncated && !call.is_v2 => after = last.number,
            _ => break,
        }
    }
    if list.parts.len() > PARTS_WITH_CHECKSUM_MAX {
        // All of them in one frame matters more: with ETags alone the most that there can be fit into it.
        list.parts.iter_mut().for_each(|part| part.checksum.clear());
    }
    Ok(list)
}

pub(super) async fn list_multipart_uploads(
    call: &Call<'_>,
    asked: ListMultipartUploads,
) -> Result<UploadPage> {
    let bucket = BucketName::parse(&asked.bucket)?;
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let marker = given(asked.upload_id_marker).map(|id| upload_id(&id));
    let options = ListUploadsOptions {
        prefix: asked.prefix,
        delimiter: given(asked.delimiter),
        key_marker: given(asked.key_marker),
        upload_id_marker: marker.transpose()?,
        max_uploads: match asked.max_uploads {
            0 => LIST_PAGE_MAX,
            some => LIST_PAGE_MAX.min(some as usize),
        },
    };
    let listed = call
        .engine
        .list_multipart_uploads(call.caller, &bucket, &options)
        .await?;
    let mut page = UploadPage {
        is_truncated: listed.is_truncated,
        ..UploadPage::default()
    };
    // Some 1,100 bytes each at most: a page of them does not fit into a frame, 800 do.
    let most = UPLOADS_MAX.min(listed.entries.len());
    page.is_truncated |= most < listed.entries.len();
    for entry in listed.entries.into_iter().take(most) {
        match entry {
            jay_engine::UploadEntry::Upload(upload) => {
                let id = in_uuid_form(upload.upload_id);
                page.next_key_marker = upload.key.as_str().to_owned();
                page.next_upload_id_marker.clone_from(&id);
                page.uploads.push(UploadEntry {
                    key: upload.key.as_str().to_owned(),
                    upload_id: id,
                    initiated: time(upload.initiated),
                });
            }
            jay_engine::UploadEntry::CommonPrefix(prefix) => {
                page.next_key_marker.clone_from(&prefix);
                page.next_upload_id_marker.clear();
                page.common_prefixes.push(prefix);
            }
        }
    }
    Ok(page)
}

/// Most uploads of one page.
const UPLOADS_MAX: usize = 800;

fn part_number(number: u32) -> Result<u16> {
    match u16::try_from(number) {
        Ok(number) if (1..=PART_NUMBER_MAX).contains(&number) => Ok(number),
        _ => Err(Error::new(
            ErrorKind::InvalidArgument,
            "part number must be between 1 and 10000",
        )),
    }
}

/// The id of an upload in the form of a UUID, as the first clients know it.
fn in_uuid_form(id: UploadId) -> String {
    let digits = id.to_string();
    u128::from_str_radix(&digits, 16).map_or(digits, uuid)
}

fn upload_id(text: &str) -> Result<UploadId> {
    Ok(UploadId::parse(&text.replace('-', ""))?)
}
