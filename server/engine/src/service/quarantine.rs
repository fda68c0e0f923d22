//! Quarantine: an object whose bytes are not what was put answers an error until it is put anew, deleted, or found
//! to be whole again.
//!
//! What is left of the bytes stays where it is. The list is for operators: these operations ask for no rights, the
//! front must have seen that an operator calls.

use crate::{
    error::{Error, ErrorKind, Result},
    maintenance::verify,
    meta::{
        Change, CommitError, Precondition, Transaction, above,
        key::{BucketId, Key, after_prefix, tag},
        record::{ObjectRecord, Quarantined, Record},
    },
    piece::MOVES_MAX,
    service::Service,
    types::{ObjectKey, QuarantinePage, QuarantinedObject},
};

/// Entries of one page.
const PAGE_ROWS: usize = 1000;

impl ObjectRecord {
    /// Refuses an object that is in quarantine.
    pub(crate) fn must_be_whole(&self, key: &ObjectKey) -> Result<()> {
        match &self.quarantined {
            None => Ok(()),
            Some(why) => Err(Error::new(
                ErrorKind::ObjectCorrupt,
                format!(
                    "The object is quarantined because its stored bytes are damaged ({}); put it again or delete it: {key}",
                    why.reason
                ),
            )),
        }
    }
}

impl Service {
    /// Puts an object into quarantine, unless it is another one by now.
    pub(super) async fn quarantine(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        seen: &ObjectRecord,
        reason: &str,
    ) {
        self.counters.checksum_failures.increase();
        tracing::error!(%key, reason, "the body of an object is damaged: it goes to quarantine");
        let row = Key::Object(bucket, key.as_str().into());
        let why = Quarantined {
            since: self.env.clock.now(),
            reason: reason.to_owned(),
        };
        let transaction = set(row, seen, self.env.unique_id(), Some(why));
        match self.meta.commit(transaction).await {
            Ok(()) => self.counters.objects_quarantined.increase(),
            Err(CommitError::Refused(_)) => {
                tracing::info!(%key, "the damaged object is not the current one any more");
            }
            Err(error) => tracing::error!(%key, %error, "the quarantine could not be noted"),
        }
    }

    /// The objects in quarantine, a page at a time: those behind `after`.
    pub(crate) fn list_quarantine(
        &self,
        after: Option<(BucketId, &str)>,
    ) -> Result<QuarantinePage> {
        let from = match after {
            None => vec![tag::QUARANTINE],
            Some((bucket, key)) => above(&Key::Quarantine(bucket, key.into()).encode()),
        };
        let to = after_prefix(&[tag::QUARANTINE]);
        let rows = self.meta.scan(&from, to.as_deref(), PAGE_ROWS)?;
        let is_truncated = rows.next.is_some();
        let mut objects = Vec::with_capacity(rows.rows.len());
        for (key, _) in rows.rows {
            let Ok(Key::Quarantine(bucket, key)) = Key::decode(&key) else {
                continue;
            };
            objects.extend(self.quarantined_object(bucket, &key)?);
        }
        Ok(QuarantinePage {
            objects,
            is_truncated,
        })
    }

    /// One object in quarantine; `None` when it is not there, or not in quarantine.
    fn quarantined_object(&self, bucket: BucketId, key: &str) -> Result<Option<QuarantinedObject>> {
        let row = self.meta.get(&Key::Object(bucket, key.into()))?;
        let Some(Record::Object(object)) = row else {
            return Ok(None);
        };
        let Some(why) = object.quarantined else {
            return Ok(None);
        };
        Ok(Some(QuarantinedObject {
            bucket_id: bucket.0,
            bucket: self.bucket_name(bucket)?,
            key: key.to_owned(),
            version: object.version,
            size: object.size,
            sha256: object.sha256,
            since: why.since,
            reason: why.reason,
        }))
    }

    fn bucket_name(&self, id: BucketId) -> Result<Option<String>> {
        let mut from = Some(vec![tag::BUCKET]);
        let to = after_prefix(&[tag::BUCKET]);
        while let Some(start) = from.take() {
            let rows = self.meta.scan(&start, to.as_deref(), PAGE_ROWS)?;
            for (key, record) in rows.rows {
                if let (Ok(Key::Bucket(name)), Record::Bucket(bucket)) = (Key::decode(&key), record)
                    && bucket.id == id
                {
                    return Ok(Some(name));
                }
            }
            from = rows.next;
        }
        Ok(None)
    }

    /// Checks an object in quarantine again; true when it was whole and is readable now.
    pub(crate) async fn revalidate(&self, bucket: BucketId, key: &ObjectKey) -> Result<bool> {
        let row = Key::Object(bucket, key.as_str().into());
        for _ in 0..MOVES_MAX {
            let seen = self.in_quarantine(&row, key)?;
            let (meta, blobs, record) = (self.meta.clone(), self.blobs.clone(), seen.clone());
            let check = super::blocking(move || verify::check_object(&*meta, &*blobs, &record));
            if let Err(error) = check.await? {
                return match error.kind() {
                    ErrorKind::ObjectCorrupt => Ok(false),
                    _ => Err(error),
                };
            }
            let transaction = set(row.clone(), &seen, self.env.unique_id(), None);
            match self.meta.commit(transaction).await {
                Ok(()) => return Ok(true),
                Err(CommitError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(changing(key))
    }

    /// Removes an object that is in quarantine, with what is left of its bytes.
    pub(crate) async fn purge(&self, bucket: BucketId, key: &ObjectKey) -> Result<()> {
        let row = Key::Object(bucket, key.as_str().into());
        for _ in 0..MOVES_MAX {
            let seen = self.in_quarantine(&row, key)?;
            let is = Precondition::Is(row.clone(), Box::new(Record::Object(Box::new(seen))));
            let transaction = Transaction {
                requires: vec![is],
                changes: vec![Change::delete(row.clone())],
                ..Transaction::default()
            };
            match self.meta.commit(transaction).await {
                Err(CommitError::Refused(_)) => {}
                done => return Ok(done?),
            }
        }
        Err(changing(key))
    }

    fn in_quarantine(&self, row: &Key, key: &ObjectKey) -> Result<ObjectRecord> {
        match self.meta.get(row)? {
            Some(Record::Object(object)) if object.quarantined.is_some() => Ok(*object),
            _ => Err(Error::new(
                ErrorKind::NoSuchKey,
                format!("There is no such object in quarantine: {key}"),
            )),
        }
    }
}

/// Changes the quarantine of an object that is still exactly the one that was seen. It gets another version, so
/// that whoever is about to move its body looks again.
pub(crate) fn set(
    row: Key,
    seen: &ObjectRecord,
    version: u128,
    quarantined: Option<Quarantined>,
) -> Transaction {
    let mut record = seen.clone();
    record.version = version;
    record.quarantined = quarantined;
    let is = Precondition::Is(
        row.clone(),
        Box::new(Record::Object(Box::new(seen.clone()))),
    );
    Transaction {
        requires: vec![is],
        changes: vec![Change::put(row, Record::Object(Box::new(record)))],
        upkeep: true,
        ..Transaction::default()
    }
}

fn changing(key: &ObjectKey) -> Error {
    Error::new(
        ErrorKind::OperationAborted,
        format!("The object is being changed, try again: {key}"),
    )
}
