//! The policy of a bucket in AWS's JSON: GetBucketPolicy, PutBucketPolicy, DeleteBucketPolicy, GetBucketPolicyStatus.
//!
//! The engine keeps policies in Jay's own form. `read` makes it of AWS's and refuses what has no counterpart, naming
//! the statement: nothing is stored and ignored, an allow never reaches further than it says, a deny never less far.
//! What was put is shown again as it was put, so that who holds it against a file of his finds no difference; `write` is
//! the way back for policies that were set in Jay's form. Deliberately absent: who is let in, which the engine decides.

mod grants;
mod json;
mod names;
pub(super) mod read;
#[cfg(test)]
mod tests;
pub(super) mod write;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use jay_engine::{BucketName, Effect, ErrorKind, POLICY_BYTES_MAX, Policy, Statement};

use super::{
    Call,
    body::Body,
    empty_response,
    error::{Error, Result},
    payload::{Payload, RequestBody},
    xml::Writer,
    xml_response,
};

/// Answers the policy of a bucket.
///
/// Source: S3 API, GetBucketPolicy.
pub(crate) async fn get_bucket_policy(
    call: &Call<'_>,
    bucket: BucketName,
) -> Result<Response<Body>> {
    let policy = call.engine.get_bucket_policy(call.caller, &bucket).await?;
    let put = policy.document.clone();
    let document = put.unwrap_or_else(|| write::document(&policy, &bucket));
    let mut response = Response::new(Body::full(Bytes::from(document)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

/// Gives a bucket a policy.
///
/// Source: S3 API, PutBucketPolicy.
pub(crate) async fn put_bucket_policy<B: RequestBody>(
    call: &Call<'_>,
    bucket: BucketName,
    payload: Payload<'_, B>,
) -> Result<Response<Body>> {
    let document = payload
        .xml(call)
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::MalformedXML => too_long(),
            _ => error,
        })?;
    let policy = read::policy(&document, &bucket)?;
    call.engine
        .put_bucket_policy(call.caller, &bucket, policy)
        .await?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

/// Takes the policy of a bucket away.
///
/// Source: S3 API, DeleteBucketPolicy.
pub(crate) async fn delete_bucket_policy(
    call: &Call<'_>,
    bucket: BucketName,
) -> Result<Response<Body>> {
    call.engine
        .delete_bucket_policy(call.caller, &bucket)
        .await?;
    Ok(empty_response(StatusCode::NO_CONTENT))
}

/// Tells whether everybody is let into a bucket, by its policy or by its flag.
///
/// Source: S3 API, GetBucketPolicyStatus.
pub(crate) async fn get_bucket_policy_status(
    call: &Call<'_>,
    bucket: BucketName,
) -> Result<Response<Body>> {
    let info = call.engine.head_bucket(call.caller, &bucket).await?;
    let policy = call.engine.get_bucket_policy(call.caller, &bucket).await;
    let is_public = match policy {
        Ok(policy) => info.public_read || is_public(&policy),
        Err(error) if error.kind() == ErrorKind::NoSuchBucketPolicy => info.public_read,
        Err(error) => return Err(error.into()),
    };
    let mut document = Writer::document();
    document.open_root("PolicyStatus");
    document.text("IsPublic", if is_public { "true" } else { "false" });
    document.close("PolicyStatus");
    Ok(xml_response(document.finish()))
}

/// Whether a policy lets everybody in. Who is in a small network is not everybody.
///
/// Source: S3 user guide, "The meaning of public": networks up to IPv4 /8 and IPv6 /32 are small.
fn is_public(policy: &Policy) -> bool {
    let is_for_all = |statement: &Statement| {
        let mut networks = statement.conditions.ip_whitelist.iter();
        let is_large = networks.any(|network| match network.max_prefix_len() {
            32 => network.prefix_len() < 8,
            _ => network.prefix_len() < 32,
        });
        statement.effect == Effect::Allow
            && statement.subjects.iter().any(|subject| subject == "*")
            && (is_large || statement.conditions.ip_whitelist.is_empty())
    };
    policy.statements.iter().any(is_for_all)
}

fn malformed(why: &str) -> Error {
    Error::new(
        ErrorKind::MalformedPolicy,
        format!("The policy is not valid: {why}."),
    )
}

fn too_long() -> Error {
    malformed(&format!("it has more than {POLICY_BYTES_MAX} bytes"))
}
