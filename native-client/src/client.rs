//! A client: the connections to one store, and its buckets.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use jay_wire::{
    Ping,
    bucket::{CreateBucket, DeleteBucket, HeadBucket, ListBuckets},
    server::GetServerInfo,
};

use crate::{
    bucket::Bucket,
    config::Config,
    core::{CallOptions, Core},
    error::{ErrorKind, Result},
    model::{BucketInfo, ServerInfo},
    retry::Safety,
};

/// The connections to one store. Cheap to clone; made to be shared by all tasks and threads of a program.
///
/// ```no_run
/// # async fn example() -> jay_client::Result<()> {
/// let client = jay_client::Client::connect("jay://id:secret@localhost:4444").await?;
/// let photos = client.create_bucket("photos").await?;
/// photos.put("one.jpg", "bytes").content_type("image/jpeg").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Core>);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(self.0.config()).finish()
    }
}

impl Client {
    /// A client of the server that the URL names, which is asked whether it is there and knows the access key.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for the URL, [`ErrorKind::Unavailable`], [`ErrorKind::Unauthenticated`].
    pub async fn connect(url: &str) -> Result<Self> {
        let client = Self::new(Config::parse(url)?)?;
        client.ping().await?;
        Ok(client)
    }

    /// A client of the server that `JAY_URL` names, with the access key there or in `JAY_TOKEN_ID` and `JAY_TOKEN_SECRET`.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn from_env() -> Result<Self> {
        let client = Self::new(Config::from_env()?)?;
        client.ping().await?;
        Ok(client)
    }

    /// A client that connects when it is used first.
    ///
    /// # Errors
    /// [`ErrorKind::Config`].
    pub fn new(config: Config) -> Result<Self> {
        Ok(Self(Arc::new(Core::new(config)?)))
    }

    /// What it was told.
    pub fn config(&self) -> &Config {
        self.0.config()
    }

    /// A handle on a bucket. The server is not asked.
    pub fn bucket(&self, name: impl Into<String>) -> Bucket {
        Bucket::new(self.0.clone(), name.into())
    }

    /// The bucket that the URL names.
    pub fn default_bucket(&self) -> Option<Bucket> {
        let name = self.0.config().bucket.clone()?;
        Some(self.bucket(name))
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// [`ErrorKind::BucketExists`], [`ErrorKind::InvalidArgument`] for its name.
    pub async fn create_bucket(&self, name: &str) -> Result<Bucket> {
        let asked = CreateBucket {
            bucket: name.to_owned(),
            public_read: false,
        };
        self.0
            .ask(&asked, Safety::Once, &CallOptions::default())
            .await?;
        Ok(self.bucket(name))
    }

    /// Deletes an empty bucket.
    ///
    /// # Errors
    /// [`ErrorKind::BucketNotFound`], [`ErrorKind::BucketNotEmpty`].
    pub async fn delete_bucket(&self, name: &str) -> Result<()> {
        let asked = DeleteBucket {
            bucket: name.to_owned(),
        };
        self.0
            .ask(&asked, Safety::Once, &CallOptions::default())
            .await?;
        Ok(())
    }

    /// Whether a bucket is there and may be known of.
    ///
    /// # Errors
    /// Anything but its absence.
    pub async fn bucket_exists(&self, name: &str) -> Result<bool> {
        let asked = HeadBucket {
            bucket: name.to_owned(),
        };
        match self
            .0
            .ask(&asked, Safety::Repeatable, &CallOptions::default())
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BucketNotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The buckets of the caller's account, by name.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn list_buckets(&self) -> Result<Vec<BucketInfo>> {
        let told = self
            .0
            .ask(&ListBuckets {}, Safety::Repeatable, &CallOptions::default())
            .await?;
        Ok(told.buckets.into_iter().map(BucketInfo::from).collect())
    }

    /// How long a request takes that asks for nothing.
    ///
    /// # Errors
    /// The server is not there, or does not know the access key.
    pub async fn ping(&self) -> Result<Duration> {
        let began = Instant::now();
        self.0
            .ask(&Ping {}, Safety::Repeatable, &CallOptions::default())
            .await?;
        Ok(began.elapsed())
    }

    /// What the server is.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn server_info(&self) -> Result<ServerInfo> {
        let told = self
            .0
            .ask(
                &GetServerInfo {},
                Safety::Repeatable,
                &CallOptions::default(),
            )
            .await?;
        Ok(told.into())
    }

    /// Ends all connections: what is under way is finished, what is asked later is refused.
    pub fn close(&self) {
        self.0.pool.close();
    }
}
