//! Accounts and their access keys. For operators: no rights are asked.

use crate::{
    AccountInfo, Engine, NewToken, Result, SeedReport, SeedToken, TokenInfo, TokenOptions,
};

impl Engine {
    /// Makes an account. Names need not be unique. For operators, as all that is about accounts and access keys: no
    /// rights are asked.
    pub async fn create_account(&self, name: &str) -> Result<AccountInfo> {
        self.service.create_account(name).await
    }

    /// All accounts, the oldest first.
    pub async fn list_accounts(&self) -> Result<Vec<AccountInfo>> {
        self.blocking(|service| service.accounts()).await
    }

    /// Suspends an account, whose access keys are of no use from then on, or ends that.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NoSuchAccount`].
    pub async fn set_account_active(&self, account_id: &str, active: bool) -> Result<AccountInfo> {
        self.service.set_account_active(account_id, active).await
    }

    /// Makes an access key that the configuration asks for, unless it is there.
    pub async fn seed_token(&self, seed: SeedToken) -> Result<SeedReport> {
        self.service.seed_token(&seed).await
    }

    /// Makes an access key for an account. Its secret is told now and never again.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NoSuchAccount`]; [`crate::ErrorKind::InvalidArgument`] when a limit is passed.
    pub async fn create_token(&self, account_id: &str, options: TokenOptions) -> Result<NewToken> {
        self.service.create_token(account_id, options).await
    }

    /// All access keys, or those of one account, in byte order of their ids.
    pub async fn list_tokens(&self, account_id: Option<&str>) -> Result<Vec<TokenInfo>> {
        let account_id = account_id.map(str::to_owned);
        self.blocking(move |service| service.tokens(account_id.as_deref()))
            .await
    }

    /// An access key.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NoSuchToken`].
    pub async fn get_token(&self, token_id: &str) -> Result<TokenInfo> {
        self.service.token(token_id)
    }

    /// Revokes an access key: no request that begins after the answer gets in by it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NoSuchToken`].
    pub async fn revoke_token(&self, token_id: &str) -> Result<()> {
        self.service.revoke_token(token_id).await
    }
}
