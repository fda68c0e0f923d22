//! The tags of an object. They change without the object becoming another one.

use crate::{
    auth::{Action, Caller, Place},
    error::{Error, ErrorKind, Result},
    meta::{Change, Precondition, Transaction, key::Key, record::Record},
    piece::MOVES_MAX,
    service::{Requirements, Service},
    types::{BucketName, ObjectKey, Tags},
};

impl Service {
    pub(crate) fn get_object_tagging(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
    ) -> Result<Tags> {
        // Not a public read: tags are for those who have rights.
        let bucket = self.bucket(caller, Action::ObjectReadMeta, name, Place::Key(key))?;
        Ok(self.object(&bucket, key)?.tags)
    }

    /// ETag and date stay. The version is another one: whoever is about to move the body looks again.
    pub(crate) async fn put_object_tagging(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        tags: Tags,
    ) -> Result<()> {
        let bucket = self.bucket(caller, Action::ObjectPut, name, Place::Key(key))?;
        let row = Key::Object(bucket.id, key.as_str().into());
        let changed = "The object was changed meanwhile: try again.";
        for _ in 0..MOVES_MAX {
            let old = self.object(&bucket, key)?;
            let mut new = old.clone();
            new.tags = tags.clone();
            new.version = self.env.unique_id();
            let mut requires = Requirements::bucket(name, &bucket);
            let old = Box::new(Record::Object(Box::new(old)));
            let is = Precondition::Is(row.clone(), old);
            requires.add(is, ErrorKind::OperationAborted, changed);
            let transaction = Transaction::of(vec![Change::put(
                row.clone(),
                Record::Object(Box::new(new)),
            )]);
            match requires.commit(&*self.meta, transaction).await {
                Err(error) if error.kind() == ErrorKind::OperationAborted => {}
                done => return done,
            }
        }
        Err(Error::new(ErrorKind::OperationAborted, changed))
    }
}
