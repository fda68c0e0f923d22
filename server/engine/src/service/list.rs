//! Listings. A page costs what it holds: a scan seeks past a common prefix instead of reading through it.

use crate::{
    auth::{self, Action, Caller, Place},
    error::Result,
    meta::{
        key::{BucketId, Key, after_prefix},
        record::{BucketRecord, Record},
    },
    service::{Service, object::info},
    types::{BucketName, LIST_PAGE_MAX, ListEntry, ListOptions, ListPage, ObjectKey},
};

/// Rows of a scan while common prefixes are being passed over.
const SEEK_ROWS: usize = 8;

impl Service {
    pub(crate) fn list_objects(
        &self,
        caller: &Caller,
        name: &BucketName,
        options: &ListOptions,
    ) -> Result<ListPage> {
        let bucket = self.bucket(
            caller,
            Action::ObjectList,
            name,
            Place::Under(&options.prefix),
        )?;
        self.walk(caller, Action::ObjectList, &bucket, options)
    }

    /// A page without what the caller may not do this to.
    pub(super) fn walk(
        &self,
        caller: &Caller,
        action: Action,
        bucket: &BucketRecord,
        options: &ListOptions,
    ) -> Result<ListPage> {
        let limit = options.max_keys.min(LIST_PAGE_MAX);
        if limit == 0 {
            return Ok(ListPage::default());
        }
        let hidden = auth::hidden(caller, action, bucket, &options.prefix);
        let mut walk = Walk::new(bucket.id, options, hidden);
        // One entry more than asked for says whether more follow.
        while walk.entries.len() <= limit
            && let Some(from) = walk.from.take()
        {
            let wanted = limit + 1 - walk.entries.len();
            let wanted = match walk.seeking {
                true => wanted.min(SEEK_ROWS),
                false => wanted,
            };
            walk.take(self.meta.scan(&from, walk.to.as_deref(), wanted)?);
        }
        let mut entries = walk.entries;
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| more).map(|entry| match entry {
            ListEntry::Object(object) => object.key.as_str().to_owned(),
            ListEntry::CommonPrefix(prefix) => prefix.clone(),
        });
        Ok(ListPage { entries, next })
    }
}

/// A listing under way.
struct Walk<'a> {
    bucket: BucketId,
    options: &'a ListOptions,
    /// Where the next scan begins; `None` at the end.
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    /// The last entry was a common prefix, so the next may be one too.
    seeking: bool,
    /// What begins with one of these is passed over.
    hidden: Vec<String>,
    entries: Vec<ListEntry>,
}

impl<'a> Walk<'a> {
    fn new(bucket: BucketId, options: &'a ListOptions, hidden: Vec<String>) -> Self {
        let base = Key::object_prefix(bucket, &options.prefix);
        let to = after_prefix(&base);
        let mut walk = Self {
            bucket,
            options,
            from: None,
            to,
            seeking: false,
            hidden,
            entries: Vec::new(),
        };
        walk.from = match &options.after {
            Some(after) if *after >= options.prefix => match walk.common_prefix(after) {
                // Keys under a common prefix that is not above `after` are not listed again.
                Some(common) => after_prefix(&Key::object_prefix(bucket, common)),
                None => {
                    let mut from = Key::object_prefix(bucket, after);
                    from.push(0);
                    Some(from)
                }
            },
            _ => Some(base),
        };
        walk
    }

    /// The common prefix that a key is rolled up into.
    fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        common_prefix(&self.options.prefix, self.options.delimiter.as_deref(), key)
    }

    fn take(&mut self, rows: crate::meta::Rows) {
        self.from = rows.next;
        for (bytes, record) in rows.rows {
            let (Ok(Key::Object(_, key)), Record::Object(object)) = (Key::decode(&bytes), record)
            else {
                continue;
            };
            if let Some(hidden) = self
                .hidden
                .iter()
                .find(|hidden| key.starts_with(&***hidden))
            {
                self.from = after_prefix(&Key::object_prefix(self.bucket, hidden));
                self.seeking = true;
                return;
            }
            if let Some(common) = self.common_prefix(&key) {
                self.from = after_prefix(&Key::object_prefix(self.bucket, common));
                self.entries
                    .push(ListEntry::CommonPrefix(common.to_owned()));
                self.seeking = true;
                return;
            }
            let Ok(key) = ObjectKey::parse(&key) else {
                continue;
            };
            self.entries
                .push(ListEntry::Object(Box::new(info(key, &object))));
            self.seeking = false;
        }
    }
}

/// What of a key is one line of a listing: the prefix and what follows it up to and with the delimiter.
pub(super) fn common_prefix<'k>(
    prefix: &str,
    delimiter: Option<&str>,
    key: &'k str,
) -> Option<&'k str> {
    let delimiter = delimiter.filter(|d| !d.is_empty())?;
    let end = key.strip_prefix(prefix)?.find(delimiter)? + delimiter.len();
    Some(&key[..prefix.len() + end])
}
