//! A bucket: the surface that most programs see.

use std::{fmt, sync::Arc};

use crate::core::Core;

/// A handle on a bucket, or on all keys of one that begin with a prefix. Cheap to clone; making one asks nobody.
///
/// Its verbs are in the files of their nouns: objects, listings, multipart uploads, transfers.
#[derive(Clone)]
pub struct Bucket {
    pub(crate) core: Arc<Core>,
    name: String,
    prefix: String,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({}/{})", self.name, self.prefix)
    }
}

impl Bucket {
    pub(crate) fn new(core: Arc<Core>, name: String) -> Self {
        Self {
            core,
            name,
            prefix: String::new(),
        }
    }

    /// The same bucket, of which only keys that begin with `prefix` are seen, and without it.
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What all keys begin with that it shows.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key as the server knows it.
    pub(crate) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The key as the handle shows it.
    pub(crate) fn short(&self, key: String) -> String {
        match key.strip_prefix(&self.prefix) {
            Some(short) if !self.prefix.is_empty() => short.to_owned(),
            _ => key,
        }
    }
}
