//! How the tests of this directory get into a store.
#![allow(dead_code)] // each takes what it needs

use jay_engine::{
    BucketName, Caller, Engine, Error, ErrorKind, ObjectKey, ObjectReader, SeedToken,
};

/// Seals the secrets of all access keys.
pub const SECRET: &str = "a signing secret of at least 32 bytes";
/// Of the access key `key`.
pub const ACCESS_SECRET: &str = "the access secret";

/// A caller with the access key `key`, which is made unless it is there.
pub async fn let_in(engine: &Engine) -> Result<Caller, Error> {
    let seed = SeedToken {
        account: "me".into(),
        id: "key".into(),
        secret: ACCESS_SECRET.to_owned().into(),
    };
    engine.seed_token(seed).await?;
    let (caller, _) = engine.signing_key("key", "20260101", "us-east-1")?;
    Ok(caller)
}

/// Makes a bucket unless it is there.
pub async fn make_bucket(
    engine: &Engine,
    caller: &Caller,
    bucket: &BucketName,
) -> Result<(), Error> {
    match engine.create_bucket(caller, bucket).await {
        Err(error) if error.kind() == ErrorKind::BucketAlreadyOwnedByYou => Ok(()),
        made => made.map(drop),
    }
}

pub fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

/// The bytes of a body.
pub async fn read(reader: &mut ObjectReader) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
