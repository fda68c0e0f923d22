//! Accounts and their access keys.

use crate::{
    codec::{DecodeError, Reader, Writer},
    meta::key::AccountId,
    types::Timestamp,
};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AccountRecord {
    pub name: String,
    pub created: Timestamp,
    pub active: bool,
}

/// A token: an access key with its rights.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TokenRecord {
    pub account: AccountId,
    pub name: String,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
    pub active: bool,
    pub sealed_secret: Vec<u8>,
    /// Names the signing secret that the secret is sealed under; zeros when that was not noted.
    pub key_id: [u8; 8],
    /// bcrypt of the secret; empty when that was not made.
    pub secret_hash: String,
    pub actions: Vec<String>,
    pub buckets: Vec<String>,
    pub prefixes: Vec<String>,
}

impl AccountRecord {
    pub(super) fn encode(&self, w: &mut Writer) {
        w.bytes16(self.name.as_bytes())
            .u64(self.created.0)
            .u8((!self.active).into());
    }

    pub(super) fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            name: r.text16("name")?.to_owned(),
            created: Timestamp(r.u64("created")?),
            active: decode_active(r)?,
        })
    }
}

impl TokenRecord {
    pub(super) fn encode(&self, w: &mut Writer) {
        w.u128(self.account.0)
            .bytes16(self.name.as_bytes())
            .u64(self.created.0);
        w.u64(self.expires.map_or(0, |t| t.0))
            .u8((!self.active).into());
        w.bytes16(&self.sealed_secret);
        w.texts16(&self.actions)
            .texts16(&self.buckets)
            .texts16(&self.prefixes);
        w.raw(&self.key_id).bytes16(self.secret_hash.as_bytes());
    }

    pub(super) fn decode(r: &mut Reader, version: u8) -> Result<Self, DecodeError> {
        let token = Self {
            account: AccountId(r.u128("account")?),
            name: r.text16("name")?.to_owned(),
            created: Timestamp(r.u64("created")?),
            expires: Some(Timestamp(r.u64("expires")?)).filter(|t| t.0 != 0),
            active: decode_active(r)?,
            sealed_secret: r.bytes16("sealed secret")?.to_vec(),
            actions: r.texts16("actions")?,
            buckets: r.texts16("buckets")?,
            prefixes: r.texts16("prefixes")?,
            key_id: Default::default(),
            secret_hash: String::new(),
        };
        Ok(match version {
            1 => token,
            _ => Self {
                key_id: r.array("key id")?,
                secret_hash: r.text16("secret hash")?.to_owned(),
                ..token
            },
        })
    }
}

/// The status of an account or token.
fn decode_active(r: &mut Reader) -> Result<bool, DecodeError> {
    match r.u8("status")? {
        0 => Ok(true),
        1 => Ok(false),
        _ => Err(r.error("status")),
    }
}
