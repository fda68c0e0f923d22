//! ListParts and ListMultipartUploads.

use http::Response;
use jay_engine::{
    BucketName, LIST_PAGE_MAX, ListPartsOptions, ListUploadsOptions, ObjectKey, PART_NUMBER_MAX,
    PartPage, UploadEntry, UploadId, UploadInfo, UploadPage,
};

use super::{checksums, kind_of_checksum, page_size, quoted, upload_id};
use crate::s3::{
    Call,
    body::Body,
    error::Result,
    headers, invalid_argument,
    list::{Encoder, encoder},
    uri::Query,
    xml::Writer,
    xml_response,
};

/// Lists a page of the parts of an open upload.
pub(crate) async fn list_parts(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
) -> Result<Response<Body>> {
    let id = upload_id(call.query)?;
    let options = ListPartsOptions {
        after: part_marker(call.query)?,
        max_parts: page_size(call.query, "max-parts", LIST_PAGE_MAX)?,
    };
    let encode = encoder(call.query)?;
    let page = call
        .engine
        .list_parts(call.caller, &bucket, &key, id, &options)
        .await?;
    let owner = call.caller.account_id();
    let document = render_parts(&bucket, &page, &options, &owner, encode);
    Ok(xml_response(document))
}

fn part_marker(query: &Query) -> Result<u16> {
    let Some(text) = query.get("part-number-marker").filter(|t| !t.is_empty()) else {
        return Ok(0);
    };
    match text.parse::<u32>() {
        Ok(number) if number <= i32::MAX as u32 => Ok(number.min(PART_NUMBER_MAX.into()) as u16),
        _ => Err(invalid_argument(
            "part-number-marker",
            text,
            "it is the number of a part",
        )),
    }
}

fn render_parts(
    bucket: &BucketName,
    page: &PartPage,
    options: &ListPartsOptions,
    owner: &str,
    encode: Encoder,
) -> String {
    let upload = &page.upload;
    let mut document = Writer::document();
    document.open_root("ListPartsResult");
    document.text("Bucket", bucket.as_str());
    document.text("Key", &encode(upload.key.as_str()));
    document.text("UploadId", &upload.upload_id.to_string());
    parties(&mut document, owner);
    document.text("StorageClass", "STANDARD");
    kind_of_checksum(&mut document, upload);
    document.text("PartNumberMarker", &options.after.to_string());
    let last = page.parts.last().map_or(0, |part| part.number);
    document.text("NextPartNumberMarker", &last.to_string());
    document.text("MaxParts", &options.max_parts.to_string());
    document.text("IsTruncated", truth(page.is_truncated));
    for part in &page.parts {
        document.open("Part");
        document.text("PartNumber", &part.number.to_string());
        document.text("LastModified", &headers::xml_date(part.last_modified));
        document.text("ETag", &quoted(part));
        document.text("Size", &part.size.to_string());
        checksums(&mut document, part);
        document.close("Part");
    }
    document.close("ListPartsResult");
    document.finish()
}

/// Lists a page of the open uploads of a bucket.
pub(crate) async fn list_multipart_uploads(
    call: &Call<'_>,
    bucket: BucketName,
) -> Result<Response<Body>> {
    let query = call.query;
    let given = |name| query.get(name).filter(|text| !text.is_empty());
    let options = ListUploadsOptions {
        prefix: query.get("prefix").unwrap_or_default().to_owned(),
        delimiter: given("delimiter").map(str::to_owned),
        key_marker: given("key-marker").map(str::to_owned),
        // Without a key marker it is ignored, as S3 has it.
        upload_id_marker: given("upload-id-marker")
            .filter(|_| given("key-marker").is_some())
            .map(|text| {
                let why = "it is the id of an upload";
                UploadId::parse(text).map_err(|_| invalid_argument("upload-id-marker", text, why))
            })
            .transpose()?,
        max_uploads: page_size(query, "max-uploads", LIST_PAGE_MAX)?,
    };
    let encode = encoder(query)?;
    let page = call
        .engine
        .list_multipart_uploads(call.caller, &bucket, &options)
        .await?;
    let owner = call.caller.account_id();
    let mut document = render_uploads(&bucket, &page, &options, &owner, encode);
    if given("encoding-type").is_some() {
        document.text("EncodingType", "url");
    }
    document.close("ListMultipartUploadsResult");
    Ok(xml_response(document.finish()))
}

fn render_uploads(
    bucket: &BucketName,
    page: &UploadPage,
    options: &ListUploadsOptions,
    owner: &str,
    encode: Encoder,
) -> Writer {
    let id_marker = options.upload_id_marker.map(|id| id.to_string());
    let mut document = Writer::document();
    document.open_root("ListMultipartUploadsResult");
    document.text("Bucket", bucket.as_str());
    document.text(
        "KeyMarker",
        &encode(options.key_marker.as_deref().unwrap_or_default()),
    );
    document.text("UploadIdMarker", &id_marker.unwrap_or_default());
    if let Some(last) = page.entries.last().filter(|_| page.is_truncated) {
        let (key, id) = match last {
            UploadEntry::Upload(upload) => (upload.key.as_str(), upload.upload_id.to_string()),
            UploadEntry::CommonPrefix(prefix) => (prefix.as_str(), String::new()),
        };
        document.text("NextKeyMarker", &encode(key));
        document.text("NextUploadIdMarker", &id);
    }
    document.text("Prefix", &encode(&options.prefix));
    if let Some(delimiter) = &options.delimiter {
        document.text("Delimiter", &encode(delimiter));
    }
    document.text("MaxUploads", &options.max_uploads.to_string());
    document.text("IsTruncated", truth(page.is_truncated));
    for entry in &page.entries {
        match entry {
            UploadEntry::Upload(upload) => render_upload(&mut document, upload, owner, encode),
            UploadEntry::CommonPrefix(prefix) => {
                document.open("CommonPrefixes");
                document.text("Prefix", &encode(prefix));
                document.close("CommonPrefixes");
            }
        }
    }
    document
}

fn render_upload(document: &mut Writer, upload: &UploadInfo, owner: &str, encode: Encoder) {
    document.open("Upload");
    document.text("Key", &encode(upload.key.as_str()));
    document.text("UploadId", &upload.upload_id.to_string());
    parties(document, owner);
    document.text("StorageClass", "STANDARD");
    document.text("Initiated", &headers::xml_date(upload.initiated));
    kind_of_checksum(document, upload);
    document.close("Upload");
}

/// Who began the upload and whose the object will be: the account.
fn parties(document: &mut Writer, owner: &str) {
    for role in ["Initiator", "Owner"] {
        document.party(role, owner);
    }
}

fn truth(is: bool) -> &'static str {
    if is { "true" } else { "false" }
}
