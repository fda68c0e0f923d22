//! GetObjectTagging, PutObjectTagging and DeleteObjectTagging.

use jay_engine::Tags;
use jay_wire::{Empty, tagging::*};

use super::{error::Result, object, operation::Call};

pub(super) async fn get_object_tagging(call: &Call<'_>, asked: GetObjectTagging) -> Result<TagSet> {
    let (bucket, key) = object::names(&asked.bucket, &asked.key)?;
    let tags = call
        .engine
        .get_object_tagging(call.caller, &bucket, &key)
        .await?;
    let tags = tags.iter().map(|tag| Tag {
        key: tag.key.clone(),
        value: tag.value.clone(),
    });
    Ok(TagSet {
        tags: tags.collect(),
    })
}

pub(super) async fn put_object_tagging(call: &Call<'_>, asked: PutObjectTagging) -> Result<Empty> {
    let (bucket, key) = object::names(&asked.bucket, &asked.key)?;
    let tags = self::tags(asked.tags)?;
    call.engine
        .put_object_tagging(call.caller, &bucket, &key, tags)
        .await?;
    Ok(Empty)
}

pub(super) async fn delete_object_tagging(
    call: &Call<'_>,
    asked: DeleteObjectTagging,
) -> Result<Empty> {
    let (bucket, key) = object::names(&asked.bucket, &asked.key)?;
    call.engine
        .put_object_tagging(call.caller, &bucket, &key, Tags::default())
        .await?;
    Ok(Empty)
}

/// Tags that are valid together.
pub(super) fn tags(given: Vec<Tag>) -> Result<Tags> {
    let tags = given.into_iter().map(|tag| jay_engine::Tag {
        key: tag.key,
        value: tag.value,
    });
    Ok(Tags::new(tags.collect())?)
}
