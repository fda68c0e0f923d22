//! Bodies that are missing or damaged, and which objects they are of.

use std::collections::{BTreeMap, BTreeSet};

use super::{Damage, vault::Vault};
use crate::{
    blob::files::path,
    error::Result,
    meta::{
        key::{BlobId, BucketId, Key},
        record::{Location, Record},
    },
    types::UploadId,
};

/// Losses that are told one by one; more are only counted.
const TOLD_MAX: usize = 1000;

/// What was lost and why, as it was come upon.
#[derive(Default)]
pub(super) struct Losses {
    pub(super) count: u64,
    told: Vec<(Lost, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lost {
    /// The body that a row names.
    Row(Key),
    /// A file, whosever body it is.
    File(BlobId),
}

/// Names by which losses are told.
#[derive(Default)]
struct Names {
    buckets: BTreeMap<BucketId, String>,
    objects: BTreeMap<BlobId, String>,
    parts: BTreeMap<BlobId, (UploadId, u16)>,
    uploads: BTreeMap<UploadId, String>,
}

impl Losses {
    pub(super) fn add(&mut self, what: Lost, why: impl ToString) {
        self.count += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push((what, why.to_string()));
        }
    }

    /// Says of which objects they are, by the rows of the backup. Reads them again if there are any losses.
    pub(super) fn named(self, vault: &Vault, backup: &str) -> Vec<Damage> {
        if self.told.is_empty() {
            return Vec::new();
        }
        let mut names = Names::default();
        // The rows of parts come behind those of the objects that are made of them.
        for look in [Names::note, Names::note_whole] {
            if names.walk(vault, backup, &self.told, look).is_err() {
                // What was found out by then is told; the rest by its number.
                break;
            }
        }
        let told = self.told.into_iter();
        told.map(|(what, why)| Damage {
            what: names.of(&what),
            why: match what {
                Lost::File(id) => format!("{}: {why}", path(id)),
                Lost::Row(_) => why,
            },
        })
        .collect()
    }
}

impl Names {
    fn walk(
        &mut self,
        vault: &Vault,
        backup: &str,
        told: &[(Lost, String)],
        look: fn(&mut Self, &Wanted, Key, Record),
    ) -> Result<()> {
        let mut wanted = Wanted::default();
        for (lost, _) in told {
            match lost {
                Lost::File(id) => drop(wanted.files.insert(*id)),
                Lost::Row(Key::Part(id, _)) => drop(wanted.uploads.insert(*id)),
                Lost::Row(_) => {}
            }
        }
        wanted
            .uploads
            .extend(self.parts.values().map(|(id, _)| *id));
        let mut rows = vault.rows(backup)?;
        while let Some(rows) = rows.next()? {
            rows.into_iter()
                .for_each(|(key, record)| look(self, &wanted, key, record));
        }
        Ok(())
    }

    /// Notes buckets, and who has a file for a body.
    fn note(&mut self, wanted: &Wanted, key: Key, record: Record) {
        if let (Key::Bucket(name), Record::Bucket(bucket)) = (&key, &record) {
            self.buckets.insert(bucket.id, name.clone());
        }
        let Some((Location::File(id), _)) = record.body() else {
            return;
        };
        if !wanted.files.contains(id) {
            return;
        }
        match key {
            Key::Object(bucket, key) => {
                let name = self.object(bucket, &key);
                self.objects.entry(*id).or_insert(name);
            }
            Key::Part(upload, number) => drop(self.parts.insert(*id, (upload, number))),
            _ => {}
        }
    }

    /// Notes to which object the parts of an upload belong.
    fn note_whole(&mut self, wanted: &Wanted, key: Key, record: Record) {
        let (bucket, name, upload) = match (key, &record) {
            (Key::Upload(bucket, name, id), _) => (bucket, name, id),
            (Key::Object(bucket, name), Record::Object(object)) => match &object.location {
                Location::Parts(set) => (bucket, name, set.id),
                _ => return,
            },
            _ => return,
        };
        if wanted.uploads.contains(&upload) {
            let name = self.object(bucket, &name);
            self.uploads.entry(upload).or_insert(name);
        }
    }

    fn object(&self, bucket: BucketId, key: &str) -> String {
        match self.buckets.get(&bucket) {
            Some(name) => format!("{name}/{key}"),
            None => format!("bucket {}: {key}", bucket.0),
        }
    }

    fn part(&self, upload: UploadId, number: u16) -> String {
        match self.uploads.get(&upload) {
            Some(name) => format!("{name} (part {number})"),
            None => format!("part {number} of upload {:032x}", upload.0),
        }
    }

    fn of(&self, lost: &Lost) -> String {
        match lost {
            Lost::Row(Key::Object(bucket, key)) => self.object(*bucket, key),
            Lost::Row(Key::Part(id, number)) => self.part(*id, *number),
            Lost::Row(key) => format!("{key:?}"),
            Lost::File(id) => match (self.objects.get(id), self.parts.get(id)) {
                (Some(name), _) => name.clone(),
                (None, Some((upload, number))) => self.part(*upload, *number),
                (None, None) => format!("file {id}"),
            },
        }
    }
}

#[derive(Default)]
struct Wanted {
    files: BTreeSet<BlobId>,
    uploads: BTreeSet<UploadId>,
}
