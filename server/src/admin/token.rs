//! `/_jay/tokens`: access keys.

use axum::Extension;
use http::{Response, StatusCode};
use jay_engine::{BucketName, ErrorKind, Grant, Timestamp, TokenInfo, TokenOptions};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api, Body, Error,
    error::ErrorAnswer,
    input::{Input, Name, Parameters},
    json, no_content,
    openapi::types::GrantName,
    time,
};

/// All of an access key but its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct Token {
    token_id: String,
    account_id: String,
    name: String,
    /// Always empty, as in the original.
    secret_hash: &'static str,
    #[schema(value_type = Vec<GrantName>)]
    allowed_actions: Vec<String>,
    /// Names of buckets; absent: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bucket_scope: Vec<String>,
    /// Beginnings of keys; absent: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prefix_scope: Vec<String>,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// `active` or `revoked`.
    status: &'static str,
}

impl From<TokenInfo> for Token {
    fn from(token: TokenInfo) -> Self {
        Self {
            token_id: token.id,
            account_id: token.account_id,
            name: token.name,
            secret_hash: "",
            allowed_actions: token.actions,
            bucket_scope: token.buckets,
            prefix_scope: token.prefixes,
            created_at: time(token.created),
            expires_at: token.expires.map(time),
            status: match token.active {
                true => "active",
                false => "revoked",
            },
        }
    }
}

/// An access key that was made just now.
#[derive(Serialize, ToSchema)]
struct NewToken<'a> {
    #[serde(flatten)]
    token: Token,
    /// 64 hex digits, shown this once.
    secret: &'a str,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateToken {
    #[serde(default)]
    #[schema(required)]
    account_id: String,
    #[serde(default)]
    name: String,
    /// Absent or empty: all.
    #[serde(default)]
    #[schema(value_type = Option<Vec<GrantName>>)]
    allowed_actions: Option<Vec<String>>,
    /// Names of buckets; absent or empty: all.
    #[serde(default)]
    bucket_scope: Option<Vec<String>>,
    /// Beginnings of keys; absent or empty: all.
    #[serde(default)]
    prefix_scope: Option<Vec<String>>,
    /// RFC 3339, in the future; absent: never.
    #[serde(default)]
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

impl CreateToken {
    fn options(self) -> Result<TokenOptions, Error> {
        let actions = self.allowed_actions.unwrap_or_default();
        let actions = actions.iter().map(|name| Grant::parse(name));
        let buckets = self.bucket_scope.unwrap_or_default();
        let buckets = buckets.iter().map(|name| BucketName::parse(name));
        Ok(TokenOptions {
            name: self.name,
            actions: actions.collect::<Result<_, _>>()?,
            buckets: buckets.collect::<Result<_, _>>()?,
            prefixes: self.prefix_scope.unwrap_or_default(),
            expires: self.expires_at.as_deref().map(in_future).transpose()?,
        })
    }
}

/// Reads when a token expires.
fn in_future(text: &str) -> Result<Timestamp, Error> {
    let at: jiff::Timestamp = text.parse().map_err(|_| {
        let example = "2030-01-31T00:00:00Z";
        Error::bad_request(format!("expires_at must be RFC 3339, such as {example}"))
    })?;
    match u64::try_from(at.as_millisecond()) {
        Ok(milliseconds) if at > jiff::Timestamp::now() => Ok(Timestamp(milliseconds)),
        _ => Err(Error::bad_request("expires_at must be in the future")),
    }
}

/// Makes an access key. Its secret is told now and never again.
#[utoipa::path(post, path = "/_jay/tokens", operation_id = "CreateToken", request_body = CreateToken,
    responses((status = 201, body = NewToken), (status = "default", body = ErrorAnswer)))]
pub(super) async fn create(
    Extension(api): Extension<Api>,
    Input(asked): Input<CreateToken>,
) -> Result<Response<Body>, Error> {
    if asked.account_id.is_empty() {
        return Err(Error::bad_request("account_id required"));
    }
    let account_id = asked.account_id.clone();
    let made = api.engine.create_token(&account_id, asked.options()?).await;
    let made = made.map_err(|error| match error.kind() {
        ErrorKind::NoSuchAccount => Error::bad_request("account not found"),
        _ => error.into(),
    })?;
    tracing::info!(token_id = made.info.id, account_id, "token created");
    let answer = NewToken {
        secret: &made.secret,
        token: made.info.into(),
    };
    Ok(json(StatusCode::CREATED, &answer))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those of this account, which must exist.
    account_id: Option<String>,
}

/// All access keys, revoked ones too, in byte order of their ids. When there are none the list is empty (`[]`), where
/// the original answered `null`.
#[utoipa::path(get, path = "/_jay/tokens", operation_id = "ListTokens", params(Which),
    responses((status = 200, body = Vec<Token>), (status = "default", body = ErrorAnswer)))]
pub(super) async fn list(
    Extension(api): Extension<Api>,
    Parameters(which): Parameters<Which>,
) -> Result<Response<Body>, Error> {
    let account_id = which.account_id.filter(|id| !id.is_empty());
    let tokens = api.engine.list_tokens(account_id.as_deref()).await?;
    let tokens: Vec<_> = tokens.into_iter().map(Token::from).collect();
    Ok(json(StatusCode::OK, &tokens))
}

/// An access key.
#[utoipa::path(get, path = "/_jay/tokens/{id}", operation_id = "GetToken",
    params(("id" = String, Path, description = "`token_id`")),
    responses((status = 200, body = Token), (status = "default", body = ErrorAnswer)))]
pub(super) async fn show(
    Extension(api): Extension<Api>,
    Name(id): Name,
) -> Result<Response<Body>, Error> {
    let token = api.engine.get_token(&id).await?;
    Ok(json(StatusCode::OK, &Token::from(token)))
}

/// Revokes an access key, which is of no use from then on.
#[utoipa::path(delete, path = "/_jay/tokens/{id}", operation_id = "RevokeToken",
    params(("id" = String, Path, description = "`token_id`")),
    responses((status = 204), (status = "default", body = ErrorAnswer)))]
pub(super) async fn revoke(
    Extension(api): Extension<Api>,
    Name(id): Name,
) -> Result<Response<Body>, Error> {
    api.engine.revoke_token(&id).await?;
    tracing::info!(token_id = id, "token revoked");
    Ok(no_content())
}
