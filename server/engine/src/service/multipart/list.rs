//! Listings of open uploads and of their parts.

use crate::{
    auth::{self, Action, Caller, Place},
    error::Result,
    meta::{
        above,
        key::{BucketId, Key, after_prefix},
        record::Record,
    },
    service::{
        Service,
        list::common_prefix,
        multipart::{part_info, upload_info},
    },
    types::{
        BucketName, LIST_PAGE_MAX, ListPartsOptions, ListUploadsOptions, ObjectKey, PartPage,
        UploadEntry, UploadId, UploadPage,
    },
};

impl Service {
    pub(crate) fn list_parts(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        id: UploadId,
        options: &ListPartsOptions,
    ) -> Result<PartPage> {
        let bucket = self.bucket(caller, Action::MultipartUploadPart, name, Place::Key(key))?;
        let upload = self.upload(&bucket, key, id)?;
        let limit = options.max_parts.min(LIST_PAGE_MAX);
        // One more than asked for says whether more follow.
        let mut parts = self.parts(id, options.after, limit + 1)?;
        let is_truncated = parts.len() > limit && limit > 0;
        parts.truncate(limit);
        Ok(PartPage {
            upload: upload_info(key.clone(), id, &upload),
            parts: parts.iter().map(|(n, part)| part_info(*n, part)).collect(),
            is_truncated,
        })
    }

    pub(crate) fn list_multipart_uploads(
        &self,
        caller: &Caller,
        name: &BucketName,
        options: &ListUploadsOptions,
    ) -> Result<UploadPage> {
        let bucket = self.bucket(
            caller,
            Action::MultipartCreate,
            name,
            Place::Under(&options.prefix),
        )?;
        let hidden = auth::hidden(caller, Action::MultipartCreate, &bucket, &options.prefix);
        let limit = options.max_uploads.min(LIST_PAGE_MAX);
        let mut entries = Vec::new();
        let to = after_prefix(&Key::upload_prefix(bucket.id, &options.prefix));
        let mut from = first_row(bucket.id, options).filter(|_| limit > 0);
        while let Some(start) = from.take()
            && entries.len() <= limit
        {
            let wanted = limit + 1 - entries.len();
            let rows = self.meta.scan(&start, to.as_deref(), wanted)?;
            from = rows.next;
            for (row, record) in rows.rows {
                let (Ok(Key::Upload(_, key, id)), Record::Upload(upload)) =
                    (Key::decode(&row), record)
                else {
                    continue;
                };
                if let Some(hidden) = hidden.iter().find(|hidden| key.starts_with(&***hidden)) {
                    from = after_prefix(&Key::upload_prefix(bucket.id, hidden));
                    break;
                }
                if let Some(common) = options.common_prefix(&key) {
                    // The rest of the page lies behind it.
                    from = after_prefix(&Key::upload_prefix(bucket.id, common));
                    entries.push(UploadEntry::CommonPrefix(common.to_owned()));
                    break;
                }
                let info = upload_info(ObjectKey::parse(&key)?, id, &upload);
                entries.push(UploadEntry::Upload(Box::new(info)));
            }
        }
        let is_truncated = entries.len() > limit;
        entries.truncate(limit);
        Ok(UploadPage {
            entries,
            is_truncated,
        })
    }
}

impl ListUploadsOptions {
    fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        common_prefix(&self.prefix, self.delimiter.as_deref(), key)
    }
}

/// Where the page begins; `None` when nothing can follow.
fn first_row(bucket: BucketId, options: &ListUploadsOptions) -> Option<Vec<u8>> {
    let base = Key::upload_prefix(bucket, &options.prefix);
    let Some(marker) = &options.key_marker else {
        return Some(base);
    };
    let after = match (options.common_prefix(marker), options.upload_id_marker) {
        (Some(common), _) => after_prefix(&Key::upload_prefix(bucket, common)),
        (None, Some(id)) => Some(above(&Key::uploads_of(bucket, marker, Some(id)))),
        (None, None) => after_prefix(&Key::uploads_of(bucket, marker, None)),
    };
    after.map(|after| after.max(base))
}
