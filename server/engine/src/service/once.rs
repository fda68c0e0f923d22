//! Requests that are done once, however often they are sent: what came of them is committed with what they do.
//!
//! A row for each answer is written in the same transaction as its effect, on the condition that there is none; so of
//! two attempts one is done and the other learns what came of it. What follows in the session (which answers have
//! arrived) is derived by the store.

use crate::{
    error::{Error, ErrorKind, Result},
    meta::{
        Change, CommitError, Precondition, Transaction,
        key::{Key, SessionKey},
        record::{Done, OutcomeRecord, Record, SessionRecord, Written},
    },
    service::{Requirements, Service},
    types::{
        Checksum, ChecksumAlgorithm, ChecksumType, ContentHeaders, ObjectInfo, ObjectKey, Once,
        SESSION_LIFETIME, SessionId,
    },
};

impl Service {
    /// Nothing of it is kept before its first request is done.
    pub(crate) fn open_session(&self) -> SessionId {
        let env = &self.env;
        SessionId::new(self.meta.lineage(), env.clock.now(), env.random())
    }

    /// What has come of a request before, if it was answered.
    pub(crate) fn answered(&self, once: &Once) -> Result<Option<Done>> {
        let session = self.must_be_known(once)?;
        match self.meta.get(&once.outcome())? {
            Some(Record::Outcome(outcome)) => match outcome.done {
                Done::Refused(kind, context) => Err(Error::new(kind, context)),
                done => Ok(Some(done)),
            },
            _ if session.lowest > once.sequence => Err(Error::new(
                ErrorKind::InvalidArgument,
                "The request was answered before, and the answer is known to have arrived.",
            )),
            _ => Ok(None),
        }
    }

    /// The object that a request has written before, if it was answered.
    pub(crate) fn written_before(
        &self,
        once: &Once,
        key: &ObjectKey,
    ) -> Result<Option<ObjectInfo>> {
        self.answered(once)?.map(|done| done.info(key)).transpose()
    }

    /// Keeps a refusal as the answer of a request that may have been sent before: an attempt that is still under way
    /// must not be done behind it.
    pub(crate) async fn refuse_once(&self, once: &Once, error: Error) -> Result<()> {
        let done = Done::Refused(error.kind(), error.context().to_owned());
        let transaction = Transaction {
            upkeep: true,
            ..Transaction::default()
        };
        let requires = Requirements::default();
        match self
            .commit_once(requires, transaction, Some(once), done)
            .await?
        {
            None => Err(error),
            Some(_) => Err(Error::new(
                ErrorKind::OperationAborted,
                "Another attempt of the request was done meanwhile: ask again.",
            )),
        }
    }

    /// Commits under these preconditions. Of a request that is done once, what came of it before, if it was answered
    /// by now: nothing is done then.
    pub(super) async fn commit_once(
        &self,
        mut requires: Requirements,
        mut transaction: Transaction,
        once: Option<&Once>,
        done: Done,
    ) -> Result<Option<Done>> {
        let Some(once) = once else {
            return requires
                .commit(&*self.meta, transaction)
                .await
                .map(|()| None);
        };
        self.must_be_known(once)?;
        // What makes room needs a little for its answer.
        transaction.upkeep |= !transaction.adds();
        // First of all: whoever comes again is told what came of it, whatever holds by now.
        let unanswered = Precondition::Unanswered(SessionKey(once.row), once.sequence);
        let again = "The request was answered before.".to_owned();
        requires
            .0
            .insert(0, (unanswered, ErrorKind::OperationAborted, again));
        let outcome = OutcomeRecord {
            at: self.env.clock.now(),
            lowest: once.lowest,
            done,
        };
        let outcome = Record::Outcome(Box::new(outcome));
        transaction
            .changes
            .push(Change::put(once.outcome(), outcome));
        match requires.try_commit(&*self.meta, transaction).await {
            Ok(()) => Ok(None),
            Err((CommitError::Refused(0), _)) => match self.answered(once)? {
                Some(done) => Ok(Some(done)),
                // It expired in this very moment.
                None => Err(unknown()),
            },
            Err((_, error)) => Err(error),
        }
    }

    /// Refuses a request whose session is from a past that the store has not, or too old to be remembered.
    fn must_be_known(&self, once: &Once) -> Result<SessionRecord> {
        let session = match self.meta.get(&Key::Session(SessionKey(once.row)))? {
            Some(Record::Session(session)) => session,
            _ => SessionRecord::default(),
        };
        let used = once.session.made().max(session.used);
        let end = used.0.saturating_add(SESSION_LIFETIME.as_millis() as u64);
        match once.session.lineage() == self.meta.lineage() && self.env.clock.now().0 <= end {
            true => Ok(session),
            false => Err(unknown()),
        }
    }
}

fn unknown() -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        "The session of the request is too old, or of a past that the store has not: whether the request was done before \
         is not known.",
    )
}

impl Once {
    fn outcome(&self) -> Key {
        Key::Outcome(SessionKey(self.row), self.sequence)
    }
}

impl Written {
    /// What is told of the object under `key` that was written.
    pub(crate) fn info(self, key: ObjectKey) -> ObjectInfo {
        ObjectInfo {
            key,
            size: self.size,
            etag: self.etag,
            last_modified: self.modified,
            version: self.version,
            headers: ContentHeaders::default(),
            metadata: Default::default(),
            checksums: vec![Checksum {
                algorithm: ChecksumAlgorithm::Crc64Nvme,
                value: self.crc64.to_be_bytes().to_vec(),
            }],
            checksum_type: ChecksumType::FullObject,
            sha256: self.sha256,
            parts_count: self.parts,
            tag_count: 0,
        }
    }
}

impl Done {
    /// What is told of the object that was written, which may be another one by now.
    pub(crate) fn info(self, key: &ObjectKey) -> Result<ObjectInfo> {
        match self {
            Done::Written(written) => Ok(written.info(key.clone())),
            Done::Refused(kind, context) => Err(Error::new(kind, context)),
            Done::Nothing => Err(Error::new(
                ErrorKind::InvalidArgument,
                "The request was another one when it was sent before.",
            )),
        }
    }
}

/// What came of a request before, as its caller is told.
pub(crate) fn told(before: Option<Done>, key: &ObjectKey, now: ObjectInfo) -> Result<ObjectInfo> {
    before.map_or(Ok(now), |done| done.info(key))
}
