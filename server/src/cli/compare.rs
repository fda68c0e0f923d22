//! Whether a file or object is the same as another one, without moving it.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    carry::Root,
    store::{Description, Object},
    transfer::file::sums,
    tree::{Entry, Source},
};

/// How things are compared that have the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A file by its time: of an object that was made of one, when that was changed; of others, when it was stored.
    Time,
    /// By content: files are read, of objects the sums are known.
    Content,
    /// By content, but for files that have the time of the file that the object was made of.
    TimeOrContent,
}

/// What differs between a source and its destination; `None` if nothing does.
pub async fn difference(
    (from, source): (&Root, &Entry),
    (to, destination): (&Root, &Entry),
    by: By,
) -> anyhow::Result<Option<&'static str>> {
    if source.size != destination.size {
        return Ok(Some("size"));
    }
    match (&source.source, &destination.source) {
        (Source::File(path), Source::Object(object)) => {
            let file = (path.as_path(), source.modified);
            // A file that is older than the object was there when the object was made.
            let is_older = source.modified <= object.modified;
            file_and_object(file, (to, object), by, is_older).await
        }
        (Source::Object(object), Source::File(path)) => {
            let file = (path.as_path(), destination.modified);
            let is_brought = has_time_of(destination.modified, object.modified);
            file_and_object(file, (from, object), by, is_brought).await
        }
        (Source::Object(one), Source::Object(other)) => {
            let times = match same_objects((from, one), (to, other)).await? {
                Some(true) => return Ok(None),
                Some(false) => return Ok(Some("content")),
                None if by == By::Content => return Ok(Some(UNKNOWN)),
                None => (mtime(from, one).await?, mtime(to, other).await?),
            };
            let is_same = matches!(times, (Some(one), Some(other)) if one == other);
            Ok((!is_same).then_some("time"))
        }
        (Source::File(_), Source::File(_)) => anyhow::bail!("neither is in a store"),
    }
}

const UNKNOWN: &str = "content, as far as is known";

async fn file_and_object(
    (path, modified): (&Path, SystemTime),
    (root, object): (&Root, &Object),
    by: By,
    seems_same: bool,
) -> anyhow::Result<Option<&'static str>> {
    if by != By::Content {
        match (mtime(root, object).await?, by) {
            (Some(mtime), _) if mtime == modified => return Ok(None),
            (None, By::Time) if seems_same => return Ok(None),
            (_, By::Time) => return Ok(Some("time")),
            _ => {}
        }
    }
    let object = &summed(root, object).await?;
    let is_same = match (object.crc64, is_md5(&object.etag)) {
        (Some(crc64), _) => sums(path, false).await?.0 == crc64,
        (None, true) => sums(path, true).await?.1.as_ref() == Some(&object.etag),
        (None, false) => return Ok(Some(UNKNOWN)),
    };
    Ok((!is_same).then_some("content"))
}

/// When the file was changed that an object was made of, if it knows.
async fn mtime(root: &Root, object: &Object) -> anyhow::Result<Option<SystemTime>> {
    if let Some(description) = &object.description {
        return Ok(description.mtime());
    }
    let object = root.target_of(object).head().await?;
    Ok(object.description.as_ref().and_then(Description::mtime))
}

/// Whether two objects of one size have the same body, if that can be known.
async fn same_objects(
    (from, one): (&Root, &Object),
    (to, other): (&Root, &Object),
) -> anyhow::Result<Option<bool>> {
    if one.etag == other.etag {
        return Ok(Some(true));
    }
    if is_md5(&one.etag) && is_md5(&other.etag) {
        return Ok(Some(false));
    }
    let (one, other) = (summed(from, one).await?, summed(to, other).await?);
    Ok(one.crc64.zip(other.crc64).map(|(one, other)| one == other))
}

/// The object with the sum of its body, if the server has one.
async fn summed(root: &Root, object: &Object) -> anyhow::Result<Object> {
    match object.crc64 {
        None if !is_md5(&object.etag) => Ok(root.target_of(object).head().await?),
        _ => Ok(object.clone()),
    }
}

/// Whether an ETag is the MD5 of a body, and not of parts.
fn is_md5(etag: &str) -> bool {
    etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a file got the time of an object when it was brought. S3 tells the seconds only there, and more in its listings.
fn has_time_of(file: SystemTime, object: SystemTime) -> bool {
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (file, object) = (since(file), since(object));
    file == object || (file.subsec_nanos() == 0 && file.as_secs() == object.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_has_the_time_that_it_was_given() {
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        assert!(has_time_of(at(5_250), at(5_250)) && has_time_of(at(5_000), at(5_250)));
        assert!(!has_time_of(at(5_100), at(5_250)) && !has_time_of(at(4_000), at(5_250)));
    }

    #[test]
    fn only_the_md5_of_a_body_is_one() {
        assert!(is_md5("b1946ac92492d2347c6235b4d2611184"));
        assert!(!is_md5("b1946ac92492d2347c6235b4d2611184-2"));
        assert!(!is_md5("crc64nvme-6a43fb4bad5a5607------"));
    }
}
