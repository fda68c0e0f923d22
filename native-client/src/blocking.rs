//! The same client for programs without an async runtime: each call waits for its answer.
//!
//! ```no_run
//! use std::io::Read;
//! use jay_client::blocking::Client;
//!
//! let client = Client::connect("jay://id:secret@localhost:4444")?;
//! let bucket = client.bucket("photos");
//! bucket.put("k", "body").with(|put| put.content_type("text/plain")).send()?;
//! let mut text = String::new();
//! bucket.get("k").send()?.read_to_string(&mut text)?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::{
    future::IntoFuture,
    io,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::TryStreamExt;
use tokio::{
    io::AsyncWriteExt,
    runtime::{Builder, Runtime},
};

use crate::{
    Body, BucketInfo, Config, Copy, Delete, DownloadFile, Error, ErrorKind, Get, ListPage, Method,
    ObjectMeta, OpenWriter, Put, PutResult, Result, ServerInfo, UploadFile,
};

/// The threads that do the work. They end with the last handle.
#[derive(Clone)]
struct Threads(Arc<Held>);

struct Held(Option<Runtime>);

impl Drop for Held {
    fn drop(&mut self) {
        // Not waited for: the last handle may be dropped where waiting is not allowed.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Threads {
    fn start() -> Result<Self> {
        let made = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("jay-client")
            .enable_all()
            .build();
        let runtime = made.map_err(|error| {
            let message = format!("The threads of the client cannot be started: {error}.");
            Error::new(ErrorKind::Internal, message).with_source(error)
        })?;
        Ok(Self(Arc::new(Held(Some(runtime)))))
    }

    /// Does it there, and waits here: on any thread, one of another runtime too.
    fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (give, take) = mpsc::sync_channel(1);
        let runtime = self.0.0.as_ref().expect("it is there until it is dropped");
        runtime.spawn(async move {
            let _ = give.send(work.await);
        });
        take.recv().expect("the work does not panic")
    }
}

/// See [`crate::Client`].
#[derive(Clone)]
pub struct Client {
    inner: crate::Client,
    threads: Threads,
}

impl Client {
    /// See [`crate::Client::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect(url: &str) -> Result<Self> {
        let client = Self::new(Config::parse(url)?)?;
        client.ping()?;
        Ok(client)
    }

    /// See [`crate::Client::from_env`].
    ///
    /// # Errors
    /// As there.
    pub fn from_env() -> Result<Self> {
        let client = Self::new(Config::from_env()?)?;
        client.ping()?;
        Ok(client)
    }

    /// See [`crate::Client::new`].
    ///
    /// # Errors
    /// As there.
    pub fn new(config: Config) -> Result<Self> {
        Ok(Self {
            inner: crate::Client::new(config)?,
            threads: Threads::start()?,
        })
    }

    /// See [`crate::Client::bucket`].
    pub fn bucket(&self, name: impl Into<String>) -> Bucket {
        Bucket {
            inner: self.inner.bucket(name),
            threads: self.threads.clone(),
        }
    }

    /// See [`crate::Client::close`].
    pub fn close(&self) {
        self.inner.close();
    }
}

/// Declares calls that wait for those of the same name.
macro_rules! calls {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)+) => {$(
        #[doc = concat!("The same as the one that is awaited, called `", stringify!($name), "` too.")]
        ///
        /// # Errors
        /// As there.
        pub fn $name(&self, $($argument: $type),*) -> Result<$answer> {
            let inner = self.inner.clone();
            $(let $argument = $argument.to_owned();)*
            self.threads.wait(async move { inner.$name($(&$argument),*).await })
        }
    )+};
}

impl Client {
    calls! {
        delete_bucket(name: &str) -> ();
        bucket_exists(name: &str) -> bool;
        list_buckets() -> Vec<BucketInfo>;
        ping() -> Duration;
        server_info() -> ServerInfo;
    }

    /// See [`crate::Client::create_bucket`].
    ///
    /// # Errors
    /// As there.
    pub fn create_bucket(&self, name: &str) -> Result<Bucket> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        let inner = self
            .threads
            .wait(async move { inner.create_bucket(&name).await })?;
        Ok(Bucket {
            inner,
            threads: self.threads.clone(),
        })
    }
}

/// See [`crate::Bucket`].
#[derive(Clone)]
pub struct Bucket {
    inner: crate::Bucket,
    threads: Threads,
}

/// A request that is about to be sent, by [`Request::send`].
#[must_use = "a request is sent by `send`"]
pub struct Request<R> {
    request: R,
    threads: Threads,
}

impl<R> Request<R> {
    /// Says more of it: `with(|put| put.content_type("text/plain"))`.
    pub fn with(mut self, say: impl FnOnce(R) -> R) -> Self {
        self.request = say(self.request);
        self
    }
}

impl<R, T: Send + 'static> Request<R>
where
    R: IntoFuture<Output = Result<T>>,
    R::IntoFuture: Send + 'static,
{
    fn wait(self) -> Result<T> {
        self.threads.wait(self.request.into_future())
    }
}

/// Declares how each request is sent.
macro_rules! requests {
    ($($request:ident -> $answer:ty;)+) => {$(
        impl Request<$request> {
            /// Sends it, and waits for the answer.
            ///
            /// # Errors
            /// As where it is awaited.
            pub fn send(self) -> Result<$answer> {
                self.wait()
            }
        }
    )+};
}
requests! {
    Put -> PutResult;
    Delete -> ();
    Copy -> PutResult;
    UploadFile -> PutResult;
    DownloadFile -> ObjectMeta;
}

impl Bucket {
    calls! {
        head(key: &str) -> ObjectMeta;
        exists(key: &str) -> bool;
        head_many(keys: &[String]) -> Vec<Result<ObjectMeta>>;
        delete_many(keys: &[String]) -> Vec<Result<()>>;
        delete_prefix(prefix: &str) -> u64;
        list_dir(prefix: &str) -> ListPage;
    }

    fn request<R>(&self, request: R) -> Request<R> {
        Request {
            request,
            threads: self.threads.clone(),
        }
    }

    /// See [`crate::Bucket::put`].
    pub fn put(&self, key: impl Into<String>, body: impl Into<Body>) -> Request<Put> {
        self.request(self.inner.put(key, body))
    }

    /// See [`crate::Bucket::get`].
    pub fn get(&self, key: impl Into<String>) -> Request<Get> {
        self.request(self.inner.get(key))
    }

    /// See [`crate::Bucket::get_ranges`].
    ///
    /// # Errors
    /// As there.
    pub fn get_ranges(&self, key: &str, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        let (inner, key, ranges) = (self.inner.clone(), key.to_owned(), ranges.to_vec());
        let got = async move { inner.get_ranges(&key, &ranges).await };
        self.threads.wait(got)
    }

    /// See [`crate::Bucket::delete`].
    pub fn delete(&self, key: impl Into<String>) -> Request<Delete> {
        self.request(self.inner.delete(key))
    }

    /// See [`crate::Bucket::copy`].
    pub fn copy(&self, from: impl Into<String>, to: impl Into<String>) -> Request<Copy> {
        self.request(self.inner.copy(from, to))
    }

    /// See [`crate::Bucket::list`]: all objects, page by page.
    pub fn list(&self, prefix: &str) -> impl Iterator<Item = Result<ObjectMeta>> + use<> {
        let mut objects = Some(Box::pin(self.inner.list(prefix).objects()));
        let threads = self.threads.clone();
        std::iter::from_fn(move || {
            let mut now = objects.take()?;
            let (back, next) = threads.wait(async move {
                let next = now.try_next().await;
                (now, next)
            });
            objects = next.is_ok().then_some(back);
            next.transpose()
        })
    }

    /// See [`crate::Bucket::upload_file`].
    pub fn upload_file(
        &self,
        key: impl Into<String>,
        path: impl Into<PathBuf>,
    ) -> Request<UploadFile> {
        self.request(self.inner.upload_file(key, path))
    }

    /// See [`crate::Bucket::download_file`].
    pub fn download_file(
        &self,
        key: impl Into<String>,
        path: impl Into<PathBuf>,
    ) -> Request<DownloadFile> {
        self.request(self.inner.download_file(key, path))
    }

    /// See [`crate::Bucket::writer`].
    pub fn writer(&self, key: impl Into<String>) -> Request<OpenWriter> {
        self.request(self.inner.writer(key))
    }

    /// See [`crate::Bucket::presign`].
    ///
    /// # Errors
    /// As there.
    pub fn presign(&self, method: Method, key: &str, expires_in: Duration) -> Result<String> {
        self.inner.presign(method, key, expires_in)
    }
}

impl Request<Get> {
    /// Sends it, and waits for the beginning of the answer.
    ///
    /// # Errors
    /// As where it is awaited.
    pub fn send(self) -> Result<GetObject> {
        let threads = self.threads.clone();
        let object = self.wait()?;
        Ok(GetObject {
            meta: object.meta().clone(),
            object: Some(object),
            chunk: Bytes::new(),
            threads,
        })
    }
}

/// An object that is being read.
pub struct GetObject {
    meta: ObjectMeta,
    /// Not there any more behind an error.
    object: Option<crate::GetObject>,
    /// What has come and was not taken yet.
    chunk: Bytes,
    threads: Threads,
}

impl GetObject {
    /// What the object is.
    pub fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// As [`crate::GetObject::next_chunk`].
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        if !self.chunk.is_empty() {
            return Ok(Some(std::mem::take(&mut self.chunk)));
        }
        let Some(mut object) = self.object.take() else {
            return Ok(None);
        };
        let (object, next) = self.threads.wait(async move {
            let next = object.next_chunk().await;
            (object, next)
        });
        self.object = next.is_ok().then_some(object);
        next
    }

    /// All that was not read yet, in memory.
    ///
    /// # Errors
    /// As [`crate::GetObject::bytes`].
    pub fn bytes(mut self) -> Result<Bytes> {
        let Some(first) = self.next_chunk()? else {
            return Ok(Bytes::new());
        };
        let mut all = BytesMut::from(first);
        while let Some(bytes) = self.next_chunk()? {
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }
}

/// Bytes that are written at once.
const WRITE_BYTES: usize = 256 << 10;

impl io::Read for GetObject {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut chunk = self.next_chunk()?.unwrap_or_default();
        let count = chunk.len().min(buf.len());
        chunk.copy_to_slice(&mut buf[..count]);
        self.chunk = chunk;
        Ok(count)
    }
}

impl Request<OpenWriter> {
    /// Opens it.
    ///
    /// # Errors
    /// As where it is awaited.
    pub fn send(self) -> Result<Writer> {
        let threads = self.threads.clone();
        Ok(Writer {
            inner: Some(self.wait()?),
            threads,
        })
    }
}

/// See [`crate::Writer`].
pub struct Writer {
    inner: Option<crate::Writer>,
    threads: Threads,
}

impl Writer {
    /// See [`crate::Writer::finish`].
    ///
    /// # Errors
    /// As there.
    pub fn finish(mut self) -> Result<PutResult> {
        let inner = self.inner.take().ok_or_else(crate::writer::broken)?;
        self.threads.wait(inner.finish())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Where there are threads that can tell the server.
        if let Some(inner) = self.inner.take() {
            self.threads.wait(async move { drop(inner) });
        }
    }
}

impl io::Write for Writer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut inner = self.inner.take().ok_or_else(crate::writer::broken)?;
        let bytes = Bytes::copy_from_slice(&buf[..buf.len().min(WRITE_BYTES)]);
        let (inner, written) = self.threads.wait(async move {
            let written = inner.write(&bytes).await;
            (inner, written)
        });
        self.inner = Some(inner);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
