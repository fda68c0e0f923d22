//! A bucket as an [`object_store::ObjectStore`], for all that stands on that crate.

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::{
    Attribute, Attributes, CopyMode, CopyOptions, Error as StoreError, GetOptions, GetRange,
    GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta as StoreMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult as StorePut, TagSet,
    UploadPart, path::Path,
};

use crate::{
    Bucket, ContentHeaders, Error, ErrorKind, Get, ListPage, ObjectMeta, PutResult,
    model::PartInfo, multipart::Upload, transfer::Unfinished,
};

const STORE: &str = "Jay";

/// A bucket as an object store.
///
/// ```no_run
/// # async fn example(bucket: jay_client::Bucket) -> Result<(), object_store::Error> {
/// use object_store::{ObjectStoreExt, path::Path};
/// let store = jay_client::JayStore::new(bucket);
/// store.put(&Path::from("a/b"), "body".into()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct JayStore {
    bucket: Bucket,
}

impl JayStore {
    /// The store of all keys that the handle shows.
    pub fn new(bucket: Bucket) -> Self {
        Self { bucket }
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }
}

impl fmt::Display for JayStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "JayStore({}/{})",
            self.bucket.name(),
            self.bucket.prefix()
        )
    }
}

/// The error of that crate that says the same.
fn error(error: Error, path: &str) -> StoreError {
    let path = path.to_owned();
    let kind = error.kind();
    let source = Box::new(error);
    match kind {
        ErrorKind::ObjectNotFound | ErrorKind::BucketNotFound | ErrorKind::UploadNotFound => {
            StoreError::NotFound { path, source }
        }
        ErrorKind::AlreadyExists | ErrorKind::BucketExists => {
            StoreError::AlreadyExists { path, source }
        }
        ErrorKind::PreconditionFailed => StoreError::Precondition { path, source },
        ErrorKind::NotModified => StoreError::NotModified { path, source },
        ErrorKind::PermissionDenied => StoreError::PermissionDenied { path, source },
        ErrorKind::Unauthenticated => StoreError::Unauthenticated { path, source },
        ErrorKind::Unsupported => StoreError::NotSupported { source },
        _ => StoreError::Generic {
            store: STORE,
            source,
        },
    }
}

fn invalid(why: impl Into<String>) -> StoreError {
    let source = Box::new(Error::new(ErrorKind::InvalidArgument, why));
    StoreError::Generic {
        store: STORE,
        source,
    }
}

fn meta(object: ObjectMeta) -> object_store::Result<StoreMeta> {
    Ok(StoreMeta {
        location: Path::parse(&object.key)?,
        last_modified: DateTime::<Utc>::from(object.last_modified),
        size: object.size,
        e_tag: Some(object.etag),
        // Earlier versions are not kept.
        version: None,
    })
}

fn stored(put: PutResult) -> StorePut {
    StorePut {
        e_tag: Some(put.etag),
        version: None,
        extensions: Default::default(),
    }
}

/// Headers and user metadata, as both sides name them.
#[derive(Default)]
struct Described {
    content_type: Option<String>,
    headers: ContentHeaders,
    metadata: Vec<(String, String)>,
}

impl Described {
    fn of(attributes: &Attributes) -> object_store::Result<Self> {
        let mut this = Self::default();
        for (attribute, value) in attributes {
            let value = Some(value.as_ref().to_owned());
            match attribute {
                Attribute::ContentType => this.content_type = value,
                Attribute::ContentDisposition => this.headers.content_disposition = value,
                Attribute::ContentEncoding => this.headers.content_encoding = value,
                Attribute::ContentLanguage => this.headers.content_language = value,
                Attribute::CacheControl => this.headers.cache_control = value,
                Attribute::Metadata(name) => {
                    this.metadata
                        .extend(value.map(|value| (name.clone().into_owned(), value)));
                }
                // All bodies are stored alike.
                Attribute::StorageClass => {}
                other => return Err(invalid(format!("There is no attribute {other:?} here."))),
            }
        }
        Ok(this)
    }
}

fn attributes(object: &ObjectMeta) -> Attributes {
    let headers = &object.headers;
    let standard = [
        (Attribute::ContentType, &object.content_type),
        (Attribute::ContentDisposition, &headers.content_disposition),
        (Attribute::ContentEncoding, &headers.content_encoding),
        (Attribute::ContentLanguage, &headers.content_language),
        (Attribute::CacheControl, &headers.cache_control),
    ];
    let mut all = Attributes::new();
    for (attribute, value) in standard {
        if let Some(value) = value {
            all.insert(attribute, value.clone().into());
        }
    }
    for (name, value) in &object.metadata {
        all.insert(
            Attribute::Metadata(name.clone().into()),
            value.clone().into(),
        );
    }
    all
}

/// Tags, which that crate has as a query.
fn tags(set: &TagSet) -> std::collections::BTreeMap<String, String> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text)
            .decode_utf8_lossy()
            .into_owned()
    };
    let pairs = set.encoded().split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    pairs.map(pair).collect()
}

fn gathered(payload: PutPayload) -> Bytes {
    let mut pieces = payload.into_iter();
    match (pieces.next(), pieces.next()) {
        (None, _) => Bytes::new(),
        (Some(only), None) => only,
        (Some(first), Some(second)) => {
            let mut all = BytesMut::from(first);
            all.extend_from_slice(&second);
            pieces.for_each(|piece| all.extend_from_slice(&piece));
            all.freeze()
        }
    }
}

/// ETags of a header, where that crate has one text.
fn etags(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(|etag| etag.trim().trim_matches('"'))
}

fn asked(mut get: Get, options: &GetOptions) -> Get {
    for etag in options.if_match.iter().flat_map(|text| etags(text)) {
        get = get.if_match(etag);
    }
    for etag in options.if_none_match.iter().flat_map(|text| etags(text)) {
        get = get.if_none_match(etag);
    }
    if let Some(time) = options.if_modified_since {
        get = get.if_modified_since(time.into());
    }
    if let Some(time) = options.if_unmodified_since {
        get = get.if_unmodified_since(time.into());
    }
    match &options.range {
        None => get,
        Some(GetRange::Bounded(range)) => get.range(range.clone()),
        Some(GetRange::Offset(offset)) => get.range(*offset..),
        Some(GetRange::Suffix(bytes)) => get.suffix(*bytes),
    }
}

#[async_trait]
impl ObjectStore for JayStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<StorePut> {
        let described = Described::of(&opts.attributes)?;
        let mut put = self.bucket.put(location.as_ref(), gathered(payload));
        put = put.headers(described.headers).tags(tags(&opts.tags));
        if let Some(text) = described.content_type {
            put = put.content_type(text);
        }
        for (name, value) in described.metadata {
            put = put.metadata(name, value);
        }
        put = match opts.mode {
            PutMode::Overwrite => put,
            PutMode::Create => put.if_none_match_any(),
            PutMode::Update(version) => match version.e_tag {
                Some(etag) => put.if_match(etag),
                None => return Err(invalid("An update says which ETag it takes the place of.")),
            },
        };
        let done = put
            .await
            .map_err(|e| error(of_update(e), location.as_ref()))?;
        Ok(stored(done))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let described = Described::of(&opts.attributes)?;
        let asked = jay_wire::object::PutObject {
            bucket: self.bucket.name().to_owned(),
            key: self.bucket.full(location.as_ref()),
            content_type: described.content_type.unwrap_or_default(),
            metadata: described.metadata.into_iter().collect(),
            headers: described.headers.into(),
            tags: crate::model::tags_to(tags(&opts.tags)),
            ..Default::default()
        };
        let begun = self.bucket.begin_upload(&asked).await;
        let upload = begun.map_err(|e| error(e, location.as_ref()))?;
        Ok(Box::new(StoreUpload {
            location: location.clone(),
            upload: Some(Unfinished::new(upload)),
            begun: 0,
            parts: Arc::default(),
        }))
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        let failed = |e: Error| error(e, location.as_ref());
        if options.version.is_some() {
            let message = "Earlier versions are not kept.";
            return Err(failed(Error::new(ErrorKind::Unsupported, message)));
        }
        let is_empty = matches!(&options.range, Some(GetRange::Bounded(range)) if range.is_empty());
        if is_empty {
            return Err(invalid("A range has a byte at least."));
        }
        if options.head {
            let whole = GetOptions {
                range: None,
                ..options
            };
            let object = asked(self.bucket.get(location.as_ref()), &whole)
                .head()
                .await;
            let object = object.map_err(failed)?;
            return Ok(GetResult {
                attributes: attributes(&object),
                range: 0..object.size,
                meta: meta(object)?,
                payload: GetResultPayload::Stream(stream::empty().boxed()),
                extensions: Default::default(),
            });
        }
        let got = asked(self.bucket.get(location.as_ref()), &options).await;
        let got = got.map_err(failed)?;
        let object = got.meta().clone();
        let (range, path) = (got.range(), location.to_string());
        Ok(GetResult {
            attributes: attributes(&object),
            range,
            meta: meta(object)?,
            payload: GetResultPayload::Stream(got.map_err(move |e| error(e, &path)).boxed()),
            extensions: Default::default(),
        })
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        let got = self.bucket.get_ranges(location.as_ref(), ranges).await;
        got.map_err(|e| error(e, location.as_ref()))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let bucket = self.bucket.clone();
        let deleted = locations.ready_chunks(1000).then(move |batch| {
            let bucket = bucket.clone();
            async move { stream::iter(delete_batch(&bucket, batch).await) }
        });
        deleted.flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<StoreMeta>> {
        let objects = self.bucket.list(&below(prefix)).objects();
        let listed = objects.map_err(|e| error(e, ""));
        listed.and_then(|object| async { meta(object) }).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<StoreMeta>> {
        let list = self
            .bucket
            .list(&below(prefix))
            .start_after(offset.as_ref());
        let listed = list.objects().map_err(|e| error(e, ""));
        listed.and_then(|object| async { meta(object) }).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let page: ListPage = self
            .bucket
            .list_dir(&below(prefix))
            .await
            .map_err(|e| error(e, ""))?;
        let prefixes = page.prefixes.iter().map(|prefix| Ok(Path::parse(prefix)?));
        Ok(ListResult {
            common_prefixes: prefixes.collect::<object_store::Result<_>>()?,
            objects: page
                .objects
                .into_iter()
                .map(meta)
                .collect::<Result<_, _>>()?,
            extensions: Default::default(),
        })
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        let copy = self.bucket.copy(from.as_ref(), to.as_ref());
        let copy = match options.mode {
            CopyMode::Overwrite => copy,
            CopyMode::Create => copy.if_none_match_any(),
        };
        let done = copy.await;
        done.map(drop).map_err(|e| {
            let path = match e.kind() {
                ErrorKind::ObjectNotFound => from,
                _ => to,
            };
            error(e, path.as_ref())
        })
    }
}

/// An update of what is not there is one whose condition does not hold.
fn of_update(error: Error) -> Error {
    match error.kind() {
        ErrorKind::ObjectNotFound => {
            Error::new(ErrorKind::PreconditionFailed, error.message().to_owned())
        }
        _ => error,
    }
}

/// What all keys below a path begin with.
fn below(prefix: Option<&Path>) -> String {
    match prefix.map(Path::as_ref) {
        None | Some("") => String::new(),
        Some(prefix) => format!("{prefix}/"),
    }
}

/// What became of some that were to be deleted, in order.
async fn delete_batch(
    bucket: &Bucket,
    batch: Vec<object_store::Result<Path>>,
) -> Vec<object_store::Result<Path>> {
    let keys: Vec<&str> = batch.iter().flatten().map(Path::as_ref).collect();
    let mut outcomes = match bucket.delete_many(&keys).await {
        Ok(outcomes) => outcomes.into_iter(),
        Err(failed) => return vec![Err(error(failed, ""))],
    };
    let one = |location: object_store::Result<Path>| {
        let location = location?;
        match outcomes.next() {
            Some(Err(failed)) => Err(error(failed, location.as_ref())),
            _ => Ok(location),
        }
    };
    batch.into_iter().map(one).collect()
}

/// An upload in parts.
#[derive(Debug)]
struct StoreUpload {
    location: Path,
    upload: Option<Unfinished>,
    begun: u32,
    parts: Arc<std::sync::Mutex<Vec<PartInfo>>>,
}

impl StoreUpload {
    fn parts(&self) -> Vec<PartInfo> {
        let mut parts = self
            .parts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::take(&mut parts)
    }

    fn over(&self) -> StoreError {
        let message = "The upload is over.";
        error(
            Error::new(ErrorKind::Closed, message),
            self.location.as_ref(),
        )
    }
}

#[async_trait]
impl MultipartUpload for StoreUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let Some(upload) = self.upload.as_ref().map(Unfinished::get) else {
            let over = self.over();
            return Box::pin(async move { Err(over) });
        };
        self.begun += 1;
        let (number, parts, path) = (self.begun, self.parts.clone(), self.location.to_string());
        Box::pin(async move {
            let done = send(upload, number, gathered(data)).await;
            let part = done.map_err(|e| error(e, &path))?;
            parts
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push(part);
            Ok(())
        })
    }

    async fn complete(&mut self) -> object_store::Result<StorePut> {
        let parts = self.parts();
        let upload = self.upload.take().ok_or_else(|| self.over())?;
        if parts.is_empty() {
            // An object without a byte: an upload has one part at least.
            let sent = send(upload.get(), 1, Bytes::new()).await;
            let part = sent.map_err(|e| error(e, self.location.as_ref()))?;
            return completed(upload, vec![part], &self.location).await;
        }
        completed(upload, parts, &self.location).await
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        let upload = self.upload.take().ok_or_else(|| self.over())?;
        upload
            .abort()
            .await
            .map_err(|e| error(e, self.location.as_ref()))
    }
}

async fn send(upload: Upload, number: u32, part: Bytes) -> crate::Result<PartInfo> {
    upload.part(number, part).await
}

async fn completed(
    upload: Unfinished,
    parts: Vec<PartInfo>,
    location: &Path,
) -> object_store::Result<StorePut> {
    let done = upload.complete(parts, Default::default()).await;
    done.map(stored).map_err(|e| error(e, location.as_ref()))
}
