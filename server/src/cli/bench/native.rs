//! The native client under load: one, whose connections all workers share, as a program would use it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use hyper::StatusCode;
use jay_client::{Body, Bucket, Config, Error, ErrorKind};
use tokio::time::timeout;

use super::{
    client::{Failure, LIST_PAGE_KEYS},
    content::{BLOCK_BYTES, Content, Verifier},
};

/// See the module.
#[derive(Clone)]
pub struct Native {
    client: jay_client::Client,
    timeout: Duration,
}

impl Native {
    /// A client that connects with its first request.
    pub fn new(config: Config, timeout: Duration) -> jay_client::Result<Self> {
        let client = jay_client::Client::new(config)?;
        Ok(Self { client, timeout })
    }

    pub(super) fn url(&self) -> String {
        let config = self.client.config();
        let scheme = if config.is_tls { "jays" } else { "jay" };
        let protocol = format!("{:?}", config.options.protocol).to_lowercase();
        format!("{scheme}://{} ({protocol})", config.addresses.join(","))
    }

    pub(super) async fn ensure_bucket(&mut self, bucket: &str) -> Result<bool, Failure> {
        self.within(async {
            if self.client.bucket_exists(bucket).await? {
                return Ok(false);
            }
            match self.client.create_bucket(bucket).await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == ErrorKind::BucketExists => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    pub(super) async fn delete_bucket(&mut self, bucket: &str) -> Result<(), Failure> {
        self.within(async {
            match self.client.delete_bucket(bucket).await {
                Err(error) if error.kind() != ErrorKind::BucketNotEmpty => Err(error.into()),
                _ => Ok(()),
            }
        })
        .await
    }

    pub(super) async fn put_object(&mut self, path: &str, content: Content) -> Result<(), Failure> {
        let (bucket, key) = self.place(path);
        self.within(async { Ok(bucket.put(key, body(content)).await.map(drop)?) })
            .await
    }

    pub(super) async fn get_object(
        &mut self,
        path: &str,
        expected: Option<Content>,
    ) -> Result<u64, Failure> {
        let (bucket, key) = self.place(path);
        self.within(async {
            let mut object = bucket.get(key).await?;
            let mut verifier = expected.map(Verifier::new);
            let mut size = 0;
            while let Some(piece) = object.next_chunk().await? {
                size += piece.len() as u64;
                if let Some(verifier) = &mut verifier {
                    verifier.update(&piece).map_err(Failure::wrong_body)?;
                }
            }
            let finished = verifier.map_or(Ok(()), Verifier::finish);
            finished.map_err(Failure::wrong_body)?;
            Ok(size)
        })
        .await
    }

    pub(super) async fn head_object(
        &mut self,
        path: &str,
        expected: Option<Content>,
    ) -> Result<(), Failure> {
        let (bucket, key) = self.place(path);
        self.within(async {
            let size = bucket.head(key).await?.size;
            match expected {
                Some(content) if size != content.size => Err(Failure::wrong_body(format!(
                    "the size is {size} instead of {}",
                    content.size
                ))),
                _ => Ok(()),
            }
        })
        .await
    }

    pub(super) async fn delete_object(&mut self, path: &str) -> Result<(), Failure> {
        let (bucket, key) = self.place(path);
        self.within(async { Ok(bucket.delete(key).await?) }).await
    }

    /// Of the size of a page that is not text the keys are the part that both protocols have.
    pub(super) async fn list_objects(
        &mut self,
        bucket: &str,
        folder: &str,
        start_after: &str,
    ) -> Result<u64, Failure> {
        let list = self.client.bucket(bucket).list(&format!("{folder}/"));
        let list = list
            .start_after(&format!("{folder}/{start_after}"))
            .page_size(LIST_PAGE_KEYS);
        self.within(async {
            let page = list.page().await?;
            Ok(page
                .objects
                .iter()
                .map(|object| object.key.len() as u64)
                .sum())
        })
        .await
    }

    /// The bucket and key of `/bucket/key`.
    fn place<'a>(&self, path: &'a str) -> (Bucket, &'a str) {
        let path = path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        (self.client.bucket(bucket), key)
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        timeout(self.timeout, work).await.unwrap_or_else(|_| {
            Err(Failure {
                code: Failure::TIMEOUT.into(),
                detail: format!("no complete answer within {:?}", self.timeout),
                status: None,
            })
        })
    }
}

/// What fits into one block is in memory already.
fn body(content: Content) -> Body {
    if content.size <= BLOCK_BYTES {
        return content.chunk(0).into();
    }
    let chunks = stream::unfold(0, move |position| async move {
        let chunk = content.chunk(position);
        let next = position + chunk.len() as u64;
        (!chunk.is_empty()).then_some((Ok::<Bytes, std::io::Error>(chunk), next))
    });
    Body::from_stream(chunks, Some(content.size))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::ConnectionLost | ErrorKind::Unavailable => Self::CONNECTION.to_owned(),
            ErrorKind::Timeout => Self::TIMEOUT.to_owned(),
            kind => error.s3_code().unwrap_or(kind.name()).to_owned(),
        };
        let is_missing = error.kind() == ErrorKind::ObjectNotFound;
        Self {
            code: code.into(),
            detail: error.to_string(),
            status: is_missing.then_some(StatusCode::NOT_FOUND),
        }
    }
}
