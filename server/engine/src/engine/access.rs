//! Who calls: the proofs that a front may bring, and what decides about a request.

use zeroize::Zeroizing;

use crate::{Caller, Engine, Link, Question, Reason, Result, SigningKey};

impl Engine {
    /// The signing key of an access key for a day (`yyyymmdd`) and region, and who calls when it verifies.
    /// [`crate::ErrorKind::InvalidAccessKeyId`] when the key is unknown, revoked or expired.
    pub fn signing_key(
        &self,
        access_key_id: &str,
        date: &str,
        region: &str,
    ) -> Result<(Caller, SigningKey)> {
        self.service.signing_key(access_key_id, date, region)
    }

    /// Who calls, when whoever names this access key is believed to have it. For a front whose operator has said so.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidAccessKeyId`] when the key is unknown, revoked or expired.
    pub fn trusted(&self, access_key_id: &str) -> Result<Caller> {
        self.service.trusted(access_key_id)
    }

    /// Who signed `string_to_sign` by signature version 2: HMAC-SHA1.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidAccessKeyId`] when the key is unknown, revoked or expired, else
    /// [`crate::ErrorKind::SignatureDoesNotMatch`].
    pub fn verify_v2(
        &self,
        access_key_id: &str,
        string_to_sign: &[u8],
        signature: &[u8],
    ) -> Result<Caller> {
        self.service
            .verify_v2(access_key_id, string_to_sign, signature)
    }

    /// The key by which an access key proves itself where its secret is not to be sent: HMAC-SHA256 of `label` under the
    /// secret; and who calls when the proof holds.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidAccessKeyId`] when the access key is unknown, revoked or expired.
    pub fn proof_key(&self, token_id: &str, label: &[u8]) -> Result<(Caller, Zeroizing<[u8; 32]>)> {
        self.service.proof_key(token_id, label)
    }

    /// Who calls with this access key and secret.
    ///
    /// # Errors
    /// [`crate::ErrorKind::AccessDenied`], whatever is wrong with them.
    pub async fn bearer(&self, token_id: &str, secret: &str) -> Result<Caller> {
        self.service.bearer(token_id, secret).await
    }

    /// Who calls with this link: the token in it, if the link holds and `signature` is this store's.
    ///
    /// # Errors
    /// [`crate::ErrorKind::AccessDenied`], whatever is wrong with it.
    pub fn verify_link(&self, link: Link<'_>, signature: &[u8]) -> Result<Caller> {
        self.service.verify_link(link, signature)
    }

    /// The signature version 4 of an access key over `string_to_sign`, by its key for that day (`yyyymmdd`) and region:
    /// for URLs that the operator presigns.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidAccessKeyId`] when the key is unknown, revoked or expired, or its account is
    /// suspended.
    pub fn sign_v4(
        &self,
        access_key_id: &str,
        date: &str,
        region: &str,
        string_to_sign: &[u8],
    ) -> Result<[u8; 32]> {
        self.service
            .sign_v4(access_key_id, date, region, string_to_sign)
    }

    /// Whether an access key can be used now.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidAccessKeyId`] when it is unknown, revoked or expired, or its account is suspended.
    pub fn must_be_usable(&self, token_id: &str) -> Result<()> {
        self.service.must_be_usable(token_id)
    }

    /// The signature of a link, in lower-case hexadecimal: who has it has the rights of the token.
    pub fn sign_link(&self, link: Link<'_>) -> String {
        self.service.secrets.sign_link(link)
    }

    /// What decides about a request: for operators who wonder.
    pub async fn explain(&self, question: &Question) -> Result<Reason> {
        self.service.explain(question)
    }
}
