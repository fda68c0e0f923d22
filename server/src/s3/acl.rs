//! GetBucketAcl, PutBucketAcl, GetObjectAcl and PutObjectAcl: access lists, reduced to one flag of a bucket.
//!
//! The owner has every right; a public bucket lets everybody read its objects. Deliberately absent: grants to
//! others, which are the business of tokens and policies.

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use jay_engine::{BucketName, ErrorKind, ObjectKey};

use super::{
    Call,
    body::Body,
    empty_response,
    error::{Error, Result},
    headers,
    payload::{Payload, RequestBody},
    xml::Writer,
    xml_response,
};

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// Tells who may read and write.
///
/// Source: S3 API, GetBucketAcl.
pub(crate) async fn get_bucket_acl(call: &Call<'_>, bucket: BucketName) -> Result<Response<Body>> {
    let info = call.engine.head_bucket(call.caller, &bucket).await?;
    let owner = call.caller.account_id();
    Ok(xml_response(render(&owner, info.public_read)))
}

/// Opens the objects of a bucket to all, or closes them.
///
/// Source: S3 API, PutBucketAcl.
pub(crate) async fn put_bucket_acl<B: RequestBody>(
    call: &Call<'_>,
    bucket: BucketName,
    payload: Payload<'_, B>,
) -> Result<Response<Body>> {
    must_be_canned(call, payload).await?;
    let public_read = is_public_read(&call.parts.headers)?;
    call.engine
        .put_bucket_acl(call.caller, &bucket, public_read)
        .await?;
    Ok(empty_response(StatusCode::OK))
}

/// Tells who may read and write an object.
///
/// Source: S3 API, GetObjectAcl.
pub(crate) async fn get_object_acl(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
) -> Result<Response<Body>> {
    let is_public = call
        .engine
        .object_is_public(call.caller, &bucket, &key)
        .await?;
    Ok(xml_response(render(&call.caller.account_id(), is_public)))
}

/// Accepts a canned access list, which changes nothing.
///
/// Source: S3 API, PutObjectAcl.
pub(crate) async fn put_object_acl<B: RequestBody>(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
    payload: Payload<'_, B>,
) -> Result<Response<Body>> {
    headers::must_be_known(&call.parts.headers)?;
    must_be_canned(call, payload).await?;
    call.engine
        .put_object_acl(call.caller, &bucket, &key)
        .await?;
    Ok(empty_response(StatusCode::OK))
}

/// Whether the canned access list of a bucket opens it; without one it is private.
pub(crate) fn is_public_read(headers: &HeaderMap) -> Result<bool> {
    match headers.get("x-amz-acl").map(HeaderValue::as_bytes) {
        None | Some(b"private") => Ok(false),
        Some(b"public-read") => Ok(true),
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            let what = format!("'x-amz-acl: {other}' on a bucket");
            Err(Error::not_implemented(&what))
        }
    }
}

/// Refuses a list that is spelled out, and none at all.
async fn must_be_canned<B: RequestBody>(call: &Call<'_>, payload: Payload<'_, B>) -> Result<()> {
    let is_blank = payload.xml(call).await?.trim_ascii().is_empty();
    match (is_blank, call.parts.headers.contains_key("x-amz-acl")) {
        (true, true) => Ok(()),
        (true, false) => {
            let message = "Your request was missing a required header: x-amz-acl.";
            Err(Error::new(ErrorKind::InvalidRequest, message))
        }
        (false, _) => Err(Error::not_implemented("An AccessControlPolicy document")
            .with_hint("Send the header x-amz-acl with private or public-read.")),
    }
}

fn render(owner: &str, public_read: bool) -> String {
    let mut document = Writer::document();
    document.open_root("AccessControlPolicy");
    document.party("Owner", owner);
    document.open("AccessControlList");
    let mut grant = |kind: &str, fields: &[(&str, &str)], permission: &str| {
        document.open("Grant");
        document.open(&format!(
            "Grantee xmlns:xsi=\"{INSTANCE}\" xsi:type=\"{kind}\""
        ));
        for (element, text) in fields {
            document.text(element, text);
        }
        document.close("Grantee");
        document.text("Permission", permission);
        document.close("Grant");
    };
    let owner = [("ID", owner), ("DisplayName", owner)];
    grant("CanonicalUser", &owner, "FULL_CONTROL");
    if public_read {
        grant("Group", &[("URI", ALL_USERS)], "READ");
    }
    document.close("AccessControlList");
    document.close("AccessControlPolicy");
    document.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_list_names_the_owner_and_all_users() {
        let owner = "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
                     xsi:type=\"CanonicalUser\"><ID>acc</ID><DisplayName>acc</DisplayName></Grantee>\
                     <Permission>FULL_CONTROL</Permission></Grant>";
        let all = "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
                   xsi:type=\"Group\"><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee>\
                   <Permission>READ</Permission></Grant>";
        for (public_read, grants) in [(false, owner.to_owned()), (true, format!("{owner}{all}"))] {
            assert_eq!(
                render("acc", public_read),
                format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<AccessControlPolicy \
                     xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>acc</ID>\
                     <DisplayName>acc</DisplayName></Owner><AccessControlList>{grants}\
                     </AccessControlList></AccessControlPolicy>"
                )
            );
        }
    }

    #[test]
    fn two_canned_lists_are_served_on_buckets() {
        let of = |value: &str| {
            let pair = ("x-amz-acl".parse().unwrap(), value.parse().unwrap());
            is_public_read(&[pair].into_iter().collect())
        };
        assert!(!is_public_read(&HeaderMap::new()).unwrap());
        assert!(!of("private").unwrap());
        assert!(of("public-read").unwrap());
        for other in ["public-read-write", "authenticated-read", "Public-Read", ""] {
            assert_eq!(of(other).unwrap_err().kind(), ErrorKind::NotImplemented);
        }
    }
}
