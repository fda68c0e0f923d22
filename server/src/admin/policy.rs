//! `/_jay/buckets/{name}/policy` and `/_jay/explain`: who may do what, and why.

use std::net::IpAddr;

use axum::Extension;
use http::{Response, StatusCode};
use jay_engine::{BucketName, Caller, Engine, Grant, ObjectKey, Policy, Question, Reason};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api, Body, Error,
    error::ErrorAnswer,
    input::{InBucket, Input, Raw},
    json, no_content,
    openapi::types::{ActionName, PolicyDocument},
};

/// Sets the policy of a bucket, in Jay's form, and shows it as it was understood. What is unknown in it is refused.
#[utoipa::path(put, path = "/_jay/buckets/{name}/policy", operation_id = "PutBucketPolicy",
    request_body = PolicyDocument, params(InBucket),
    responses((status = 200, body = PolicyDocument), (status = "default", body = ErrorAnswer)))]
pub(super) async fn put(
    Extension(api): Extension<Api>,
    InBucket { name }: InBucket,
    Raw(body): Raw,
) -> Result<Response<Body>, Error> {
    let policy = Policy::parse(&body)?;
    let answer = json(StatusCode::OK, &policy);
    let caller = Caller::operator();
    api.engine.put_bucket_policy(&caller, &name, policy).await?;
    tracing::info!(bucket = %name, "bucket policy set");
    Ok(answer)
}

/// The policy of a bucket.
#[utoipa::path(get, path = "/_jay/buckets/{name}/policy", operation_id = "GetBucketPolicy",
    params(InBucket),
    responses((status = 200, body = PolicyDocument), (status = "default", body = ErrorAnswer)))]
pub(super) async fn get(
    Extension(api): Extension<Api>,
    InBucket { name }: InBucket,
) -> Result<Response<Body>, Error> {
    let policy = api
        .engine
        .get_bucket_policy(&Caller::operator(), &name)
        .await?;
    Ok(json(StatusCode::OK, &*policy))
}

/// Removes the policy of a bucket, if it has one.
#[utoipa::path(delete, path = "/_jay/buckets/{name}/policy", operation_id = "DeleteBucketPolicy",
    params(InBucket),
    responses((status = 204), (status = "default", body = ErrorAnswer)))]
pub(super) async fn delete(
    Extension(api): Extension<Api>,
    InBucket { name }: InBucket,
) -> Result<Response<Body>, Error> {
    let caller = Caller::operator();
    api.engine.delete_bucket_policy(&caller, &name).await?;
    tracing::info!(bucket = %name, "bucket policy removed");
    Ok(no_content())
}

/// A request to be explained.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Explain {
    /// Whose request it is; absent: one without an access key.
    token_id: Option<String>,
    /// One of the actions that an access key may be allowed.
    #[schema(value_type = ActionName)]
    action: String,
    #[schema(
        min_length = 3,
        max_length = 63,
        pattern = r"^[a-z0-9](\.?[a-z0-9-])*\.?[a-z0-9]$"
    )]
    bucket: String,
    /// What object it is about; not with `prefix`.
    #[schema(min_length = 1, max_length = 1024)]
    key: Option<String>,
    /// Below which prefix it lists, when it is about no object.
    prefix: Option<String>,
    /// From where it comes.
    #[schema(value_type = Option<String>)]
    ip: Option<IpAddr>,
}

impl Explain {
    fn question(self) -> Result<Question, Error> {
        if self.key.is_some() && self.prefix.is_some() {
            return Err(Error::bad_request("give a key or a prefix, not both"));
        }
        let key = self.key.as_deref().map(ObjectKey::parse).transpose()?;
        Ok(Question {
            token_id: self.token_id,
            action: Grant::parse(&self.action)?,
            bucket: BucketName::parse(&self.bucket)?,
            key,
            prefix: self.prefix,
            address: self.ip,
        })
    }
}

/// What decides about a request.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct Explained {
    allowed: bool,
    /// `owner`, `public`, `allowed_by_statement`, `operator`; or `denied_by_statement`, `not_owner`, `no_token`,
    /// `token_unusable`, `token_action`, `token_bucket`, `token_prefix`, `no_such_bucket`.
    reason: &'static str,
    /// Which statement of the policy decided; the first is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<usize>,
    /// Its `sid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    /// The same in words.
    text: String,
}

/// Explains what decides about a request, without making it.
#[utoipa::path(post, path = "/_jay/explain", operation_id = "Explain", request_body = Explain,
    responses((status = 200, body = Explained), (status = "default", body = ErrorAnswer)))]
pub(super) async fn explain(
    Extension(api): Extension<Api>,
    Input(asked): Input<Explain>,
) -> Result<Response<Body>, Error> {
    let question = asked.question()?;
    let reason = api.engine.explain(&question).await?;
    let explained = told(&api.engine, &question.bucket, &reason).await;
    Ok(json(StatusCode::OK, &explained))
}

async fn told(engine: &Engine, bucket: &BucketName, reason: &Reason) -> Explained {
    let (name, text) = in_words(reason);
    let statement = match reason {
        Reason::Allowed(i) | Reason::Denied(i) => Some(*i),
        _ => None,
    };
    let policy = engine.get_bucket_policy(&Caller::operator(), bucket).await;
    let sid = policy
        .ok()
        .zip(statement)
        .and_then(|(policy, i)| policy.statements.get(i)?.sid.clone());
    Explained {
        allowed: reason.is_allowed(),
        reason: name,
        statement: statement.map(|i| i + 1),
        sid,
        text,
    }
}

/// The name of a reason, and the reason in words.
fn in_words(reason: &Reason) -> (&'static str, String) {
    let (name, text) = match reason {
        Reason::Operator => ("operator", "The operator may do everything."),
        Reason::NoToken => (
            "no_token",
            "Refused: the request has no access key, and nothing lets everybody in.",
        ),
        Reason::TokenUnusable => (
            "token_unusable",
            "Refused: the access key is unknown, revoked or expired, or its account is suspended.",
        ),
        Reason::TokenAction => (
            "token_action",
            "Refused: the access key is not allowed the action.",
        ),
        Reason::TokenBucket => (
            "token_bucket",
            "Refused: the access key is for other buckets.",
        ),
        Reason::TokenPrefix => (
            "token_prefix",
            "Refused: the access key is for other prefixes.",
        ),
        Reason::NoSuchBucket => ("no_such_bucket", "Refused: there is no such bucket."),
        Reason::Owner => (
            "owner",
            "Allowed: the bucket belongs to the account of the access key, and no statement denies it.",
        ),
        Reason::Public => ("public", "Allowed: the objects of the bucket are public."),
        Reason::NotOwner => (
            "not_owner",
            "Refused: the bucket belongs to another account, and no statement of its policy allows it.",
        ),
        Reason::Allowed(i) => {
            let text = format!("Allowed by statement {} of the policy.", i + 1);
            return ("allowed_by_statement", text);
        }
        Reason::Denied(i) => {
            let text = format!("Denied by statement {} of the policy.", i + 1);
            return ("denied_by_statement", text);
        }
    };
    (name, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_agree_with_decisions() {
        use Reason::*;
        let all = [
            Operator,
            NoToken,
            TokenUnusable,
            TokenAction,
            TokenBucket,
            TokenPrefix,
            NoSuchBucket,
            Denied(0),
            Owner,
            Public,
            Allowed(4),
            NotOwner,
        ];
        let mut names: Vec<_> = all.iter().map(|reason| in_words(reason).0).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        for reason in &all {
            let (name, text) = in_words(reason);
            let is_refusal = text.starts_with("Refused") || text.starts_with("Denied");
            assert_eq!(is_refusal, !reason.is_allowed(), "{name}");
        }
        assert_eq!(
            in_words(&Allowed(4)).1,
            "Allowed by statement 5 of the policy."
        );
    }
}
