//! All rows that have a body, by position: objects, then the parts of open uploads. The scrubber and `fsck` walk them.
//!
//! The parts of completed uploads are not among them: they are read as the objects that they make.

use std::collections::VecDeque;

use crate::{
    error::{Error, Result},
    meta::{
        above,
        key::{Key, after_prefix, tag},
        local::Local,
        record::Record,
    },
};

/// Rows that are looked up together.
const ROWS: usize = 64;
/// Rows that are looked up one by one where one cannot be read.
const SINGLE_ROWS: usize = 256;

/// See the module.
pub struct BodyRows {
    /// Rows that were looked up and not yet taken.
    rows: VecDeque<(Vec<u8>, Record)>,
    /// Where the next rows begin; `None` behind the last one.
    next: Option<Vec<u8>>,
    /// Where the parts of an open upload go on, and where they end.
    parts: Option<(Vec<u8>, Vec<u8>)>,
    /// The upload whose parts came last.
    upload: Option<Key>,
}

impl BodyRows {
    /// Begins at an encoded key of objects or uploads.
    pub fn from(first: Vec<u8>) -> Self {
        Self {
            rows: VecDeque::new(),
            next: Some(first),
            parts: None,
            upload: None,
        }
    }

    /// Begins at the first object.
    pub fn all() -> Self {
        Self::from(vec![tag::OBJECT])
    }

    /// The upload that the last part is of.
    pub fn upload(&self) -> Option<&Key> {
        self.upload.as_ref()
    }

    /// The next object, or part of an open upload.
    pub fn next_row(&mut self, local: &Local) -> Result<Option<(Vec<u8>, Record)>> {
        loop {
            if let Some((key, record)) = self.rows.pop_front() {
                if let Ok(upload @ Key::Upload(_, _, id)) = Key::decode(&key) {
                    let ends = [Key::Part(id, 0), Key::Part(id, u16::MAX)];
                    let [from, to] = ends.map(|end| end.encode());
                    self.parts = Some((from, to));
                    self.upload = Some(upload);
                    // Those rows come first, then the uploads behind this one.
                    self.next = Some(above(&key));
                    self.rows.clear();
                    continue;
                }
                return Ok(Some((key, record)));
            }
            let Some((from, to)) = self.range() else {
                return Ok(None);
            };
            let rows = local.scan(&from, to.as_deref(), ROWS)?;
            self.rows.extend(rows.rows);
            self.go_on(rows.next);
        }
    }

    /// After an error of [`BodyRows::next_row`]: takes the next rows one by one. Those that cannot be read, and why.
    pub fn step_over(&mut self, local: &Local) -> Result<Vec<(Vec<u8>, Error)>> {
        let (mut unreadable, mut taken) = (Vec::new(), 0);
        while taken < SINGLE_ROWS {
            let Some((from, to)) = self.range() else {
                break;
            };
            let Some(key) = local.next_key(&from, to.as_deref())? else {
                self.go_on(None);
                break;
            };
            taken += 1;
            self.go_on(Some(above(&key)));
            match local.get_encoded(&key) {
                Ok(Some(record)) => {
                    let is_upload = key[0] == tag::UPLOAD;
                    self.rows.push_back((key, record));
                    if is_upload {
                        break;
                    }
                }
                Ok(None) => {}
                Err(error) => unreadable.push((key, error)),
            }
        }
        Ok(unreadable)
    }

    /// What is to be scanned next.
    fn range(&self) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        match (&self.parts, &self.next) {
            (Some((from, to)), _) => Some((from.clone(), Some(to.clone()))),
            (None, Some(from)) => Some((from.clone(), after_prefix(&[tag::UPLOAD]))),
            (None, None) => None,
        }
    }

    fn go_on(&mut self, next: Option<Vec<u8>>) {
        match self.parts.take() {
            Some((_, to)) => self.parts = next.map(|next| (next, to)),
            None => self.next = next,
        }
    }
}
