//! Buckets.

use crate::{
    auth::{Action, Caller, Place, must_be_operator, permit},
    error::{Error, ErrorKind, Result},
    meta::{
        Change, Precondition, Transaction,
        key::{AccountId, BucketId, Key, after_prefix, tag},
        record::{BucketRecord, Record},
    },
    service::{Requirements, Service},
    types::{BucketInfo, BucketName, BucketOptions},
};

/// Most buckets of one account.
pub const BUCKETS_PER_ACCOUNT_MAX: usize = 1000;
const SCAN_ROWS: usize = 1000;

impl Service {
    pub(crate) async fn create_bucket(
        &self,
        caller: &Caller,
        name: &BucketName,
        options: BucketOptions,
    ) -> Result<BucketInfo> {
        permit(caller, Action::BucketWriteMeta, Some(name), Place::Bucket)?;
        let owner = match &options.owner {
            None => caller.account(),
            Some(id) => self.owner(caller, id)?,
        };
        if let Some(bucket) = self.find_bucket(name)? {
            return Err(exists(caller, name, &bucket));
        }
        name.must_be_fit_for_new()?;
        if self.buckets_of(owner)?.len() >= BUCKETS_PER_ACCOUNT_MAX {
            return Err(Error::new(
                ErrorKind::TooManyBuckets,
                format!(
                    "An account has at most {BUCKETS_PER_ACCOUNT_MAX} buckets: delete one first."
                ),
            ));
        }
        let id = BucketId(self.env.random_u64());
        let record = BucketRecord {
            public_read: options.public_read,
            ..BucketRecord::new(id, owner, self.env.clock.now())
        };
        let mut requires = Requirements::default();
        let key = Key::Bucket(name.as_str().into());
        let made = info(name.clone(), &record);
        requires.add(
            Precondition::Absent(key.clone()),
            ErrorKind::BucketAlreadyExists,
            "The bucket name was taken and given up meanwhile: try again.",
        );
        requires.add(
            Precondition::Absent(Key::BucketStats(record.id)),
            ErrorKind::InternalError,
            "A random id was drawn twice: try again.",
        );
        let changes = vec![Change::put(key, Record::Bucket(record))];
        let done = requires.commit(&*self.meta, Transaction::of(changes));
        match (done.await, self.find_bucket(name)?) {
            (Err(error), Some(bucket)) if error.kind() == ErrorKind::BucketAlreadyExists => {
                Err(exists(caller, name, &bucket))
            }
            (done, _) => done.map(|()| made),
        }
    }

    pub(crate) fn head_bucket(&self, caller: &Caller, name: &BucketName) -> Result<BucketInfo> {
        let bucket = self.bucket(caller, Action::BucketReadMeta, name, Place::Bucket)?;
        Ok(info(name.clone(), &bucket))
    }

    pub(crate) async fn delete_bucket(&self, caller: &Caller, name: &BucketName) -> Result<()> {
        let bucket = self.bucket(caller, Action::BucketWriteMeta, name, Place::Bucket)?;
        let mut requires = Requirements::bucket(name, &bucket);
        requires.add(
            Precondition::BucketEmpty(bucket.id),
            ErrorKind::BucketNotEmpty,
            "The bucket you tried to delete is not empty: delete its objects first.",
        );
        let changes = vec![Change::delete(Key::Bucket(name.as_str().into()))];
        requires.commit(&*self.meta, Transaction::of(changes)).await
    }

    pub(crate) fn list_buckets(&self, caller: &Caller) -> Result<Vec<BucketInfo>> {
        permit(caller, Action::BucketList, None, Place::SomeKeys)?;
        match caller.is_operator() {
            true => self.buckets(|_| true),
            false => self.buckets_of(caller.account()),
        }
    }

    /// Only the operator makes buckets for others.
    fn owner(&self, caller: &Caller, id: &str) -> Result<AccountId> {
        must_be_operator(
            caller,
            "Access denied: a bucket belongs to the account of the access key that makes it.",
        )?;
        self.account_of(id)
    }

    fn buckets_of(&self, owner: AccountId) -> Result<Vec<BucketInfo>> {
        self.buckets(|bucket| bucket.owner == owner)
    }

    fn buckets(&self, is_meant: impl Fn(&BucketRecord) -> bool) -> Result<Vec<BucketInfo>> {
        let to = after_prefix(&[tag::BUCKET]);
        let mut from = Some(vec![tag::BUCKET]);
        let mut buckets = Vec::new();
        while let Some(start) = from.take() {
            let rows = self.meta.scan(&start, to.as_deref(), SCAN_ROWS)?;
            from = rows.next;
            for (key, record) in rows.rows {
                if let (Ok(Key::Bucket(name)), Record::Bucket(bucket)) = (Key::decode(&key), record)
                    && is_meant(&bucket)
                {
                    buckets.push(info(BucketName::parse(&name)?, &bucket));
                }
            }
        }
        Ok(buckets)
    }
}

fn info(name: BucketName, bucket: &BucketRecord) -> BucketInfo {
    BucketInfo {
        id: bucket.id.0,
        name,
        created: bucket.created,
        public_read: bucket.public_read,
        owner: bucket.owner.to_string(),
        quota_bytes: bucket.quota_bytes,
        has_policy: bucket.policy.is_some(),
    }
}

fn exists(caller: &Caller, name: &BucketName, bucket: &BucketRecord) -> Error {
    if bucket.owner == caller.account() {
        Error::new(
            ErrorKind::BucketAlreadyOwnedByYou,
            format!("You already own the bucket {name}: use it as it is."),
        )
    } else {
        Error::new(
            ErrorKind::BucketAlreadyExists,
            format!("The bucket name {name} is taken: choose another."),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Engine, EngineConfig, SeedToken};

    /// Such names could be taken before the rule about hyphens was kept.
    #[tokio::test]
    async fn ragged_names_are_refused_to_new_buckets_only() {
        let dir = tempfile::tempdir().unwrap();
        let config = EngineConfig::new(dir.path(), "a signing secret of at least 32 bytes");
        let engine = Engine::open(config).unwrap();
        let seed = SeedToken {
            account: "me".into(),
            id: "key".into(),
            secret: "secret".to_owned().into(),
        };
        engine.seed_token(seed).await.unwrap();
        let caller = engine.bearer("key", "secret").await.unwrap();
        for name in ["foo.-bar", "foo-.bar", "a.b-.c"] {
            let name = BucketName::parse(name).unwrap();
            let refused = engine.create_bucket(&caller, &name).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidBucketName, "{name}");
        }
        for name in ["foo-bar.a--b", "xn--foo", "foo--x-s3"] {
            let name = BucketName::parse(name).unwrap();
            engine.create_bucket(&caller, &name).await.unwrap();
        }

        let old = BucketName::parse("foo.-bar").unwrap();
        let created = engine.service.env.clock.now();
        let record = BucketRecord::new(BucketId(7), caller.account(), created);
        let transaction = Transaction::of(vec![Change::put(
            Key::Bucket(old.as_str().into()),
            Record::Bucket(record),
        )]);
        engine.service.meta.commit(transaction).await.unwrap();
        assert_eq!(engine.list_buckets(&caller).await.unwrap().len(), 4);
        assert!(engine.head_bucket(&caller, &old).await.is_ok());
        let refused = engine.create_bucket(&caller, &old).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::BucketAlreadyOwnedByYou);
        engine.delete_bucket(&caller, &old).await.unwrap();
    }
}
