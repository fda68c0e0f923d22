//! The operations of a multipart upload.
//!
//! Source: S3 API, CreateMultipartUpload, UploadPart, UploadPartCopy, CompleteMultipartUpload,
//! AbortMultipartUpload, ListParts and ListMultipartUploads.

pub(super) mod complete;
mod list;

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use jay_engine::{
    BucketName, ChecksumType, ErrorKind, ObjectKey, PART_NUMBER_MAX, PartInfo, PartOptions,
    UploadId, UploadInfo, UploadOptions,
};

pub(crate) use self::{
    complete::complete_multipart_upload,
    list::{list_multipart_uploads, list_parts},
};
use super::{
    Call,
    body::Body,
    checksum, conditions, copy, empty_response,
    error::{Error, Result},
    headers, invalid_argument,
    payload::{Payload, RequestBody},
    tagging,
    uri::Query,
    xml::Writer,
    xml_response,
};

/// Begins an upload.
pub(crate) async fn create_multipart_upload(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
) -> Result<Response<Body>> {
    let request_headers = &call.parts.headers;
    headers::must_be_known(request_headers)?;
    conditions::must_be_absent(request_headers)?;
    let options = UploadOptions {
        headers: headers::content_headers(request_headers)?,
        metadata: headers::metadata(request_headers)?,
        tags: tagging::of_header(request_headers)?,
        checksum_algorithm: checksum::wanted_algorithm(request_headers)?,
        checksum_type: checksum::wanted_type(request_headers)?,
    };
    let upload = call
        .engine
        .create_multipart_upload(call.caller, &bucket, &key, options)
        .await?;
    let mut document = Writer::document();
    document.open_root("InitiateMultipartUploadResult");
    document.text("Bucket", bucket.as_str());
    document.text("Key", key.as_str());
    document.text("UploadId", &upload.upload_id.to_string());
    document.close("InitiateMultipartUploadResult");
    let mut response = xml_response(document.finish());
    if let Some(algorithm) = upload.checksum_algorithm {
        let headers = response.headers_mut();
        headers.insert(
            checksum::ALGORITHM,
            HeaderValue::from_static(algorithm.name()),
        );
        headers.insert(
            checksum::TYPE,
            HeaderValue::from_static(upload.checksum_type.name()),
        );
    }
    Ok(response)
}

/// Stores the body as a part.
pub(crate) async fn upload_part<B: RequestBody>(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
    mut payload: Payload<'_, B>,
) -> Result<Response<Body>> {
    let (id, number) = (upload_id(call.query)?, part_number(call.query)?);
    let options = PartOptions {
        without_digests: false,
        size: Some(payload.size()?),
        content_md5: checksum::content_md5(&call.parts.headers)?,
        content_sha256: payload.sha256(),
        checksum: payload.announced().of_body()?,
        checksum_algorithm: payload.announced().trailer,
    };
    let mut writer = call
        .engine
        .upload_part(call.caller, &bucket, &key, id, number, options)
        .await?;
    while let Some(content) = payload.next().await? {
        writer.write(content).await?;
    }
    let part = writer.finish(payload.trailer()).await?;
    let mut response = empty_response(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag(&part));
    if let Some(sum) = &part.checksum {
        headers.insert(
            checksum::header_name(sum.algorithm),
            checksum::value(sum, None),
        );
    }
    Ok(response)
}

/// Makes a part of an object or of a range of it.
pub(crate) async fn upload_part_copy(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
) -> Result<Response<Body>> {
    let (id, number) = (upload_id(call.query)?, part_number(call.query)?);
    let source = copy::source(&call.parts.headers)?;
    let range = copy::source_range(&call.parts.headers)?;
    let part = call
        .engine
        .upload_part_copy(call.caller, &bucket, &key, id, number, &source, range)
        .await?;
    let mut document = Writer::document();
    document.open_root("CopyPartResult");
    document.text("LastModified", &headers::xml_date(part.last_modified));
    document.text("ETag", &quoted(&part));
    checksums(&mut document, &part);
    document.close("CopyPartResult");
    Ok(xml_response(document.finish()))
}

/// Gives up an upload.
pub(crate) async fn abort_multipart_upload(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
) -> Result<Response<Body>> {
    let id = upload_id(call.query)?;
    call.engine
        .abort_multipart_upload(call.caller, &bucket, &key, id)
        .await?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

fn upload_id(query: &Query) -> Result<UploadId> {
    Ok(UploadId::parse(query.get("uploadId").unwrap_or_default())?)
}

/// The `partNumber` of a part that is written or read.
pub(crate) fn part_number(query: &Query) -> Result<u16> {
    let text = query.get("partNumber").unwrap_or_default();
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if is_number && (1..=PART_NUMBER_MAX).contains(&number) => Ok(number),
        _ => {
            let message = format!(
                "Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive."
            );
            let error = Error::new(ErrorKind::InvalidArgument, message);
            Err(error
                .with_detail("ArgumentName", "partNumber")
                .with_detail("ArgumentValue", text))
        }
    }
}

/// The elements that say how an upload is summed.
fn kind_of_checksum(document: &mut Writer, upload: &UploadInfo) {
    if let Some(algorithm) = upload.checksum_algorithm {
        document.text("ChecksumAlgorithm", algorithm.name());
        document.text("ChecksumType", upload.checksum_type.name());
    }
}

/// The checksum of a part as an element.
fn checksums(document: &mut Writer, part: &PartInfo) {
    if let Some(sum) = &part.checksum {
        let value = checksum::text(sum, None);
        document.text(checksum::element_name(sum.algorithm), &value);
    }
}

fn etag(part: &PartInfo) -> HeaderValue {
    HeaderValue::try_from(quoted(part)).expect("hexadecimal digits are a header value")
}

fn quoted(part: &PartInfo) -> String {
    format!("\"{}\"", part.etag.as_str())
}

/// The number of parts that `x-amz-mp-parts-count` says.
pub(crate) const PARTS_COUNT: HeaderName = HeaderName::from_static("x-amz-mp-parts-count");

/// How many parts the checksum of an object is made of, when it is made of theirs.
pub(crate) fn composite_of(info: &jay_engine::ObjectInfo) -> Option<u16> {
    let is_composite = info.checksum_type == ChecksumType::Composite;
    info.parts_count.filter(|_| is_composite)
}

/// A number of a listing; what is over `max` is cut to that.
fn page_size(query: &Query, name: &'static str, max: usize) -> Result<usize> {
    let Some(text) = query.get(name) else {
        return Ok(max);
    };
    match text.parse::<u32>() {
        Ok(number) if number <= i32::MAX as u32 => Ok(max.min(number as usize)),
        _ => {
            let why = format!("it is a number from 0 to {}", i32::MAX);
            Err(invalid_argument(name, text, &why))
        }
    }
}
