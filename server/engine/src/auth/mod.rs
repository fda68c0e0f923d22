//! Who may do what: tokens, their secrets, and the one place where rights are decided.
//!
//! Fronts prove who calls (by a signing key from here); the service asks [`authorize`] and nothing else does.
//! A token's secret leaves this module only as a signing key, the store's signing secret not at all: links are
//! made and checked in [`link`], signatures of version 2 checked in [`sigv2`].

mod caller;
mod decide;
pub(crate) mod link;
mod secrets;
mod sigv2;

pub use self::{caller::Caller, decide::Reason, secrets::SigningKey};
pub(crate) use self::{
    decide::{Place, authorize, decide, hidden, must_be_operator, no_such_bucket, permit},
    secrets::{KeyId, Secrets, hash},
};
use crate::{meta::record::TokenRecord, types::Timestamp};

/// What a token may be allowed to do, under Jay's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    BucketList,
    BucketReadMeta,
    BucketWriteMeta,
    ObjectGet,
    /// What is stored about an object: its access list, its tags. The same right as `ObjectGet`, but a public
    /// bucket does not give it away.
    ObjectReadMeta,
    ObjectPut,
    ObjectDelete,
    ObjectList,
    MultipartCreate,
    MultipartUploadPart,
    MultipartComplete,
    MultipartAbort,
}

impl Action {
    /// Those that have a name of their own.
    pub const NAMED: [Action; 11] = [
        Action::BucketList,
        Action::BucketReadMeta,
        Action::BucketWriteMeta,
        Action::ObjectGet,
        Action::ObjectPut,
        Action::ObjectDelete,
        Action::ObjectList,
        Action::MultipartCreate,
        Action::MultipartUploadPart,
        Action::MultipartComplete,
        Action::MultipartAbort,
    ];

    /// The name in a token's list.
    pub fn name(self) -> &'static str {
        match self {
            Action::BucketList => "bucket:list",
            Action::BucketReadMeta => "bucket:read-meta",
            Action::BucketWriteMeta => "bucket:write-meta",
            Action::ObjectGet | Action::ObjectReadMeta => "object:get",
            Action::ObjectPut => "object:put",
            Action::ObjectDelete => "object:delete",
            Action::ObjectList => "object:list",
            Action::MultipartCreate => "multipart:create",
            Action::MultipartUploadPart => "multipart:upload-part",
            Action::MultipartComplete => "multipart:complete",
            Action::MultipartAbort => "multipart:abort",
        }
    }
}

/// True when a token may be used at all.
pub(crate) fn is_usable(token: &TokenRecord, now: Timestamp) -> bool {
    token.active && token.expires.is_none_or(|expires| now < expires)
}

#[cfg(test)]
mod tests;
