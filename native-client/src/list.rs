//! Listings.

use futures_util::{Stream, TryStreamExt, stream};
use jay_wire::list::ListObjects;

use crate::{
    bucket::Bucket,
    core::CallOptions,
    error::{Error, Result},
    model::{ListPage, ObjectMeta},
    retry::Safety,
    v1,
};

impl Bucket {
    /// The objects whose keys begin with a prefix.
    ///
    /// ```no_run
    /// # async fn example(bucket: jay_client::Bucket) -> jay_client::Result<()> {
    /// use futures_util::TryStreamExt;
    /// let mut objects = std::pin::pin!(bucket.list("2026/").objects());
    /// while let Some(object) = objects.try_next().await? {
    ///     println!("{} {}", object.size, object.key);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list(&self, prefix: &str) -> List {
        List {
            bucket: self.clone(),
            asked: ListObjects {
                bucket: self.name().to_owned(),
                prefix: self.full(prefix),
                ..ListObjects::default()
            },
        }
    }

    /// All of one level: the objects directly below a prefix, and the prefixes of those that are deeper.
    ///
    /// # Errors
    /// See [`crate::ErrorKind`].
    pub async fn list_dir(&self, prefix: &str) -> Result<ListPage> {
        let mut pages = std::pin::pin!(self.list(prefix).delimiter("/").pages());
        let mut all = ListPage::default();
        while let Some(page) = pages.try_next().await? {
            all.objects.extend(page.objects);
            all.prefixes.extend(page.prefixes);
        }
        Ok(all)
    }
}

/// A listing that is about to begin.
#[derive(Clone, Debug)]
pub struct List {
    bucket: Bucket,
    asked: ListObjects,
}

impl List {
    /// Keys that share what follows the prefix up to and with this are one common prefix.
    pub fn delimiter(mut self, delimiter: impl Into<String>) -> Self {
        self.asked.delimiter = delimiter.into();
        self
    }

    /// Only keys above this, in byte order.
    pub fn start_after(mut self, key: &str) -> Self {
        self.asked.start_after = self.bucket.full(key);
        self
    }

    /// Most objects and common prefixes of a page: at most 1000, which is the default.
    pub fn page_size(mut self, most: u32) -> Self {
        self.asked.max_keys = i32::try_from(most).unwrap_or(i32::MAX);
        self
    }

    /// With user metadata and headers.
    pub fn with_metadata(mut self) -> Self {
        self.asked.with_metadata = true;
        self
    }

    /// One page.
    ///
    /// # Errors
    /// See [`crate::ErrorKind`].
    pub async fn page(&self) -> Result<ListPage> {
        let bucket = &self.bucket;
        let told = bucket
            .core
            .ask(&self.asked, Safety::Repeatable, &CallOptions::default())
            .await?;
        let next = match bucket.core.is_v1() {
            true => v1::next_start_after(&told),
            false => told.next_start_after.clone(),
        };
        if told.is_truncated && next <= self.asked.start_after {
            return Err(turns_in_circles());
        }
        let next = told.is_truncated.then(|| bucket.short(next));
        let objects = told.objects.into_iter().map(|entry| {
            let mut object = ObjectMeta::of_entry(entry);
            object.key = bucket.short(object.key);
            object
        });
        Ok(ListPage {
            objects: objects.collect(),
            prefixes: told
                .common_prefixes
                .into_iter()
                .map(|prefix| bucket.short(prefix))
                .collect(),
            next,
        })
    }

    /// Page by page.
    pub fn pages(self) -> impl Stream<Item = Result<ListPage>> + Send {
        stream::try_unfold(Some(self), |list| async move {
            let Some(list) = list else {
                return Ok(None);
            };
            let page = list.page().await?;
            let next = page.next.clone().map(|next| list.start_after(&next));
            Ok(Some((page, next)))
        })
    }

    /// Object by object.
    pub fn objects(self) -> impl Stream<Item = Result<ObjectMeta>> + Send {
        self.pages()
            .map_ok(|page| stream::iter(page.objects.into_iter().map(Ok)))
            .try_flatten()
    }
}

/// A page that does not say where to go on would be asked for for ever.
pub(crate) fn turns_in_circles() -> Error {
    Error::protocol("A page ends where it began, and says that more follows.")
}
