//! PutObject, GetObject, HeadObject and DeleteObject.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use jay_engine::{BucketName, ErrorKind, ObjectInfo, ObjectKey, PutOptions, Select};

use super::{
    Call,
    body::Body,
    checksum,
    conditions::{self, Outcome},
    empty_response,
    error::{Error, Result},
    headers, multipart,
    payload::{Payload, RequestBody},
    range, tagging,
};
use crate::planted::{self, Fault};

/// Stores the body under the key.
///
/// Source: S3 API, PutObject.
pub(crate) async fn put_object<B: RequestBody>(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
    mut payload: Payload<'_, B>,
) -> Result<Response<Body>> {
    let options = put_options(&call.parts.headers, &payload)?;
    let mut writer = call
        .engine
        .put_object(call.caller, &bucket, &key, options)
        .await?;
    while let Some(content) = payload.next().await? {
        writer.write(content).await?;
    }
    let info = writer.finish(payload.trailer()).await?;

    let mut response = empty_response(StatusCode::OK);
    response
        .headers_mut()
        .insert(header::ETAG, headers::etag(&info));
    checksum::put_headers(&info, response.headers_mut());
    Ok(response)
}

/// What the headers of a PUT say.
fn put_options<B: RequestBody>(
    headers: &HeaderMap,
    payload: &Payload<'_, B>,
) -> Result<PutOptions> {
    headers::must_be_known(headers)?;
    Ok(PutOptions {
        without_digests: false,
        once: None,
        size: Some(payload.size()?),
        headers: headers::content_headers(headers)?,
        metadata: headers::metadata(headers)?,
        content_md5: checksum::content_md5(headers)?,
        content_sha256: payload.sha256(),
        checksum: payload.announced().of_body()?,
        checksum_algorithm: payload.announced().trailer,
        conditions: conditions::of_write(headers)?,
        tags: tagging::of_header(headers)?,
    })
}

/// Answers an object or a range of it.
///
/// Source: S3 API, GetObject.
pub(crate) async fn get_object(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
) -> Result<Response<Body>> {
    let request_headers = &call.parts.headers;
    let get = async |select| {
        call.engine
            .get_object(call.caller, &bucket, &key, select)
            .await
    };
    let mut select = select(call)?;
    let mut reader = match get(select).await {
        Err(error) if is_unsatisfiable(&error) => {
            // Preconditions come before the range, and its refusal names the size.
            let info = call.engine.head_object(call.caller, &bucket, &key).await?;
            if conditions::of_read(request_headers, &info)? == Outcome::NotModified {
                return Ok(not_modified(&info));
            }
            if is_held(select, request_headers, &info) {
                return Err(Error::from(error).unsatisfiable(info.size));
            }
            select = Select::Whole;
            get(select).await?
        }
        result => result?,
    };
    if conditions::of_read(request_headers, reader.info())? == Outcome::NotModified {
        return Ok(not_modified(reader.info()));
    }
    if !is_held(select, request_headers, reader.info()) {
        select = Select::Whole;
        reader = get(select).await?;
    }
    reader.prepare().await?;
    let mut response = answer(call, reader.info(), select, reader.range())?;
    *response.body_mut() = Body::object(reader);
    Ok(response)
}

/// Which bytes are asked for: a part, a range, or all.
fn select(call: &Call<'_>) -> Result<Select> {
    let range = range::parse(&call.parts.headers);
    if !call.query.has("partNumber") || planted::is(Fault::IgnoredPartNumber) {
        return Ok(range.map_or(Select::Whole, Select::Range));
    }
    if range.is_some() {
        return Err(Error::new(
            ErrorKind::InvalidRequest,
            "Cannot specify both Range header and partNumber query parameter.",
        ));
    }
    Ok(Select::Part(multipart::part_number(call.query)?))
}

fn is_unsatisfiable(error: &jay_engine::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidRange | ErrorKind::InvalidPartNumber
    )
}

/// Whether `If-Range` lets what is selected be served.
fn is_held(select: Select, headers: &HeaderMap, info: &ObjectInfo) -> bool {
    !matches!(select, Select::Range(_)) || conditions::range_holds(headers, info)
}

/// Answers what GetObject would, without the body.
///
/// Source: S3 API, HeadObject.
pub(crate) async fn head_object(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
) -> Result<Response<Body>> {
    let request_headers = &call.parts.headers;
    let mut select = select(call)?;
    let (engine, caller) = (call.engine, call.caller);
    let (info, range) = engine
        .head_object_part(caller, &bucket, &key, select)
        .await?;
    if conditions::of_read(request_headers, &info)? == Outcome::NotModified {
        return Ok(not_modified(&info));
    }
    if !is_held(select, request_headers, &info) {
        select = Select::Whole;
    }
    let range = match select {
        Select::Whole => 0..info.size,
        _ => range.map_err(|error| Error::from(error).unsatisfiable(info.size))?,
    };
    let mut response = answer(call, &info, select, range)?;
    if planted::is(Fault::HeadWithoutLength) {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    Ok(response)
}

/// Removes an object, or does nothing when there is none.
///
/// Source: S3 API, DeleteObject.
pub(crate) async fn delete_object(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
) -> Result<Response<Body>> {
    let (engine, caller) = (call.engine, call.caller);
    if planted::is(Fault::DeleteOfMissing) {
        engine.head_object(caller, &bucket, &key).await?;
    }
    match conditions::of_delete(&call.parts.headers)? {
        None => engine.delete_object(caller, &bucket, &key).await?,
        Some(conditions) => {
            let deleted = engine.delete_object_if(caller, &bucket, &key, &conditions);
            deleted.await?;
        }
    }
    Ok(empty_response(StatusCode::NO_CONTENT))
}

/// Status and headers of an object, or of the `range` of it that was selected.
fn answer(
    call: &Call<'_>,
    info: &ObjectInfo,
    select: Select,
    range: Range<u64>,
) -> Result<Response<Body>> {
    let mut response = empty_response(StatusCode::OK);
    *response.headers_mut() = headers::of_object(info);
    headers::override_by(call.query, response.headers_mut())?;
    let is_whole = select == Select::Whole;
    // An empty part has no range that could be named.
    if !is_whole && !range.is_empty() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let text = format!("bytes {}-{}/{}", range.start, range.end - 1, info.size);
        let content_range = HeaderValue::try_from(text).expect("numbers are a header value");
        response
            .headers_mut()
            .insert(header::CONTENT_RANGE, content_range);
    }
    let headers = response.headers_mut();
    if is_whole && wants_checksum(&call.parts.headers) {
        checksum::put_headers(info, headers);
    }
    if let (Select::Part(_), Some(count)) = (select, info.parts_count) {
        headers.insert(multipart::PARTS_COUNT, count.into());
    }
    headers.insert(header::CONTENT_LENGTH, (range.end - range.start).into());
    Ok(response)
}

/// Checksums cover the whole object, so they are not sent with a part of it.
fn wants_checksum(headers: &HeaderMap) -> bool {
    let mode = headers.get("x-amz-checksum-mode");
    mode.is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"ENABLED"))
}

/// 304 with the headers that RFC 9110, section 15.4.5 asks for.
fn not_modified(info: &ObjectInfo) -> Response<Body> {
    let mut response = empty_response(StatusCode::NOT_MODIFIED);
    let of_object = headers::of_object(info);
    for name in [
        header::ETAG,
        header::LAST_MODIFIED,
        header::CACHE_CONTROL,
        header::EXPIRES,
    ] {
        if let Some(value) = of_object.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

impl Error {
    /// Adds what an unsatisfiable range tells the client (RFC 9110, section 15.5.17).
    fn unsatisfiable(self, size: u64) -> Self {
        let content_range = HeaderValue::try_from(format!("bytes */{size}"));
        let content_range = content_range.expect("numbers are a header value");
        self.with_detail("ActualObjectSize", size.to_string())
            .with_header(header::CONTENT_RANGE, content_range)
    }
}
