//! Multipart uploads.

use jay_engine::{
    CompleteOptions, CompletedPart, ErrorKind, LIST_PAGE_MAX, ListPartsOptions, PART_NUMBER_MAX,
    PartOptions, UploadId, UploadOptions,
};
use jay_wire::{Empty, METADATA_BYTES_MAX, multipart::*, object::Stored};

use super::{
    Call,
    body::{Body, Broken},
    error::{Error, Result},
    hex, object, uuid,
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
        headers: object::content_headers(asked.content_type),
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
        size: Some(body.left()),
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
    let part = writer.finish(None).await?;
    Ok(Stored {
        etag: part.etag.as_str().to_owned(),
        checksum: hex(&part.sha256),
    })
}

pub(super) async fn complete_multipart_upload(
    call: &Call<'_>,
    asked: CompleteMultipartUpload,
) -> Result<Completed> {
    let (bucket, key) = object::names(&asked.bucket, &asked.key)?;
    let upload_id = upload_id(&asked.upload_id)?;
    // In whatever order they are named, and each once.
    let mut numbers = asked.part_numbers;
    numbers.sort_unstable();
    numbers.dedup();
    let parts = numbers.into_iter().map(|number| {
        Ok(CompletedPart {
            number: part_number(number)?,
            etag: None,
            checksum: None,
        })
    });
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let options = CompleteOptions::default();
    let object = call
        .engine
        .complete_multipart_upload(call.caller, &bucket, &key, upload_id, &parts, options)
        .await?;
    Ok(Completed {
        etag: object.etag.as_str().to_owned(),
        checksum: object::checksum(&object),
        size: object.size,
    })
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
    let mut after = 0;
    // There are no pages in this protocol.
    loop {
        let options = ListPartsOptions {
            after,
            max_parts: LIST_PAGE_MAX,
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
        }));
        match page.parts.last() {
            Some(last) if page.is_truncated => after = last.number,
            _ => break,
        }
    }
    if list.parts.len() > PARTS_WITH_CHECKSUM_MAX {
        // All of them in one frame matters more: with ETags alone the most that there can be fit into it.
        list.parts.iter_mut().for_each(|part| part.checksum.clear());
    }
    Ok(list)
}

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
