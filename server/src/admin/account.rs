//! `/_jay/accounts`: what buckets and access keys belong to.

use axum::Extension;
use http::{Response, StatusCode};
use jay_engine::AccountInfo;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api, Body, Error,
    error::ErrorAnswer,
    input::{Input, Name},
    json, time,
};

/// An account.
#[derive(Serialize, ToSchema)]
pub(super) struct Account {
    /// 32 hex digits.
    account_id: String,
    name: String,
    /// RFC 3339.
    created_at: String,
    status: Status,
}

/// Whether the access keys of an account can be used.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Active,
    Suspended,
}

impl From<AccountInfo> for Account {
    fn from(account: AccountInfo) -> Self {
        Self {
            account_id: account.id,
            name: account.name,
            created_at: time(account.created),
            status: match account.active {
                true => Status::Active,
                false => Status::Suspended,
            },
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateAccount {
    /// Need not be unique, and may be empty.
    #[serde(default)]
    name: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PatchAccount {
    status: Status,
}

/// Makes an account.
#[utoipa::path(post, path = "/_jay/accounts", operation_id = "CreateAccount", request_body = CreateAccount,
    responses((status = 201, body = Account), (status = "default", body = ErrorAnswer)))]
pub(super) async fn create(
    Extension(api): Extension<Api>,
    Input(asked): Input<CreateAccount>,
) -> Result<Response<Body>, Error> {
    let account = api.engine.create_account(&asked.name).await?;
    tracing::info!(
        account_id = account.id,
        name = account.name,
        "account created"
    );
    Ok(json(StatusCode::CREATED, &Account::from(account)))
}

/// All accounts, in the order of their ids.
#[utoipa::path(get, path = "/_jay/accounts", operation_id = "ListAccounts",
    responses((status = 200, body = Vec<Account>), (status = "default", body = ErrorAnswer)))]
pub(super) async fn list(Extension(api): Extension<Api>) -> Result<Response<Body>, Error> {
    let accounts = api.engine.list_accounts().await?.into_iter();
    let accounts: Vec<_> = accounts.map(Account::from).collect();
    Ok(json(StatusCode::OK, &accounts))
}

/// Suspends an account, whose access keys are of no use from then on, or ends that.
#[utoipa::path(patch, path = "/_jay/accounts/{id}", operation_id = "PatchAccount", request_body = PatchAccount,
    params(("id" = String, Path, description = "`account_id`")),
    responses((status = 200, body = Account), (status = "default", body = ErrorAnswer)))]
pub(super) async fn patch(
    Extension(api): Extension<Api>,
    Name(id): Name,
    Input(asked): Input<PatchAccount>,
) -> Result<Response<Body>, Error> {
    let is_active = matches!(asked.status, Status::Active);
    let account = api.engine.set_account_active(&id, is_active).await?;
    tracing::info!(
        account_id = account.id,
        active = account.active,
        "account changed"
    );
    Ok(json(StatusCode::OK, &Account::from(account)))
}
