//! PutObject, GetObject, HeadObject and DeleteObject.

use std::{error, ops::Range};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use jay_engine::{BucketName, ByteRange, ErrorKind, ObjectInfo, ObjectKey, PutOptions, Select};

use super::{
    Call,
    body::Body,
    checksum,
    conditions::{self, Outcome},
    empty_response,
    error::{Error, Result},
    headers,
    payload::Payload,
    range,
};

/// Stores the body under the key.
///
/// Source: S3 API, PutObject.
pub(crate) async fn put_object<B>(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
    mut payload: Payload<'_, B>,
) -> Result<Response<Body>>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn error::Error + Send + Sync>>,
{
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
    checksum::put_headers(&info.checksums, response.headers_mut());
    Ok(response)
}

/// What the headers of a PUT say.
fn put_options<B>(headers: &HeaderMap, payload: &Payload<'_, B>) -> Result<PutOptions>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn error::Error + Send + Sync>>,
{
    headers::must_be_known(headers)?;
    Ok(PutOptions {
        size: Some(payload.size()?),
        headers: headers::content_headers(headers)?,
        metadata: headers::metadata(headers)?,
        content_md5: checksum::content_md5(headers)?,
        content_sha256: payload.sha256(),
        checksum: payload.announced().checksum.clone(),
        checksum_algorithm: payload.announced().trailer,
        conditions: conditions::of_write(headers)?,
        tags: Default::default(),
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
    let get = async |range: Option<ByteRange>| {
        call.engine
            .get_object(
                call.caller,
                &bucket,
                &key,
                range.map_or(Select::Whole, Select::Range),
            )
            .await
    };
    let mut range = range::parse(request_headers);
    let mut reader = match get(range).await {
        Err(error) if error.kind() == ErrorKind::InvalidRange => {
            // Preconditions come before the range, and its refusal names the size.
            let info = call.engine.head_object(call.caller, &bucket, &key).await?;
            if conditions::of_read(request_headers, &info)? == Outcome::NotModified {
                return Ok(not_modified(&info));
            }
            if conditions::range_holds(request_headers, &info) {
                return Err(Error::from(error).unsatisfiable(info.size));
            }
            range = None;
            get(range).await?
        }
        result => result?,
    };
    if conditions::of_read(request_headers, reader.info())? == Outcome::NotModified {
        return Ok(not_modified(reader.info()));
    }
    if range.is_some() && !conditions::range_holds(request_headers, reader.info()) {
        range = None;
        reader = get(range).await?;
    }
    reader.prepare().await?;
    let mut response = whole_or_part(call, reader.info(), range.map(|_| reader.range()))?;
    *response.body_mut() = Body::object(reader);
    Ok(response)
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
    let info = call.engine.head_object(call.caller, &bucket, &key).await?;
    if conditions::of_read(request_headers, &info)? == Outcome::NotModified {
        return Ok(not_modified(&info));
    }
    let range = range::parse(request_headers)
        .filter(|_| conditions::range_holds(request_headers, &info))
        .map(|range| resolve(range, info.size))
        .transpose()?;
    whole_or_part(call, &info, range)
}

/// Removes an object, or does nothing when there is none.
///
/// Source: S3 API, DeleteObject.
pub(crate) async fn delete_object(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
) -> Result<Response<Body>> {
    conditions::must_be_absent(&call.parts.headers)?;
    call.engine
        .delete_object(call.caller, &bucket, &key)
        .await?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

/// Status and headers of an object, or of the `range` of it.
fn whole_or_part(
    call: &Call<'_>,
    info: &ObjectInfo,
    range: Option<Range<u64>>,
) -> Result<Response<Body>> {
    let mut response = empty_response(StatusCode::OK);
    *response.headers_mut() = headers::of_object(info);
    headers::override_by(call.query, response.headers_mut())?;
    let length = match range {
        Some(range) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {}-{}/{}", range.start, range.end - 1, info.size);
            let content_range = HeaderValue::try_from(text).expect("numbers are a header value");
            response
                .headers_mut()
                .insert(header::CONTENT_RANGE, content_range);
            range.end - range.start
        }
        None => {
            if wants_checksum(&call.parts.headers) {
                checksum::put_headers(&info.checksums, response.headers_mut());
            }
            info.size
        }
    };
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length.into());
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

fn resolve(range: ByteRange, size: u64) -> Result<Range<u64>> {
    range
        .resolve(size)
        .map_err(|error| Error::from(error).unsatisfiable(size))
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
