//! What must hold for a read, a write or a delete to happen.

use super::{ETag, Once, Timestamp};

/// What must hold for a write to happen; decided inside the commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The current ETag must be this (`*` as `Some(None)`: there must be an object).
    pub if_match: Option<Option<ETag>>,
    /// The current ETag must not be this (`*` as `Some(None)`: there must be no object).
    pub if_none_match: Option<Option<ETag>>,
}

/// What must hold for a read to happen, against the object that is read.
///
/// Source: RFC 9110, section 13; ETags without quotes and weakness, dates in whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadConditions {
    /// The ETag must be one of these; `*` is any.
    pub if_match: Option<Vec<ETag>>,
    /// The ETag must be none of these; `*` is any.
    pub if_none_match: Option<Vec<ETag>>,
    /// The object must be newer.
    pub if_modified_since: Option<Timestamp>,
    /// The object must not be newer.
    pub if_unmodified_since: Option<Timestamp>,
}

/// What must hold for an object to be deleted. Where there is no object there is nothing to hold: a delete that
/// is sent again, because its answer was lost, succeeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteConditions {
    /// The ETag must be this.
    pub if_match: Option<ETag>,
    /// The size must be this, in bytes.
    pub if_match_size: Option<u64>,
    /// The object must have been modified in this second.
    pub if_match_modified: Option<Timestamp>,
    /// Which request of a session it is, if it is to be done once however often it comes.
    pub once: Option<Once>,
}

impl DeleteConditions {
    /// Decides for the object that is there.
    ///
    /// ```
    /// use jay_engine::{DeleteConditions, ETag, Timestamp};
    /// let conditions = DeleteConditions { if_match_modified: Some(Timestamp(1000)), ..Default::default() };
    /// assert!(conditions.hold(&ETag::new("e"), 5, Timestamp(1999)));
    /// assert!(!conditions.hold(&ETag::new("e"), 5, Timestamp(2000)));
    /// ```
    pub fn hold(&self, etag: &ETag, size: u64, modified: Timestamp) -> bool {
        let is_second = |wanted: Timestamp| wanted.0 / 1000 == modified.0 / 1000;
        self.if_match.as_ref().is_none_or(|wanted| wanted == etag)
            && self.if_match_size.is_none_or(|wanted| wanted == size)
            && self.if_match_modified.is_none_or(is_second)
    }
}

/// How a conditional read goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// With the object.
    Proceed,
    /// The reader has it already.
    NotModified,
    /// The object is another one: what must hold and does not, as a header name.
    Failed(&'static str),
}

impl ReadConditions {
    /// Decides in the order of RFC 9110, section 13.2.2.
    ///
    /// ```
    /// use jay_engine::{ETag, ReadConditions, ReadOutcome, Timestamp};
    /// let has_it = ReadConditions { if_none_match: Some(vec![ETag::new("e")]), ..Default::default() };
    /// assert_eq!(has_it.decide(&ETag::new("e"), Timestamp(0)), ReadOutcome::NotModified);
    /// assert_eq!(has_it.decide(&ETag::new("f"), Timestamp(0)), ReadOutcome::Proceed);
    /// ```
    pub fn decide(&self, etag: &ETag, modified: Timestamp) -> ReadOutcome {
        let lists = |tags: &Vec<ETag>| tags.iter().any(|tag| tag.as_str() == "*" || tag == etag);
        let is_newer = |since: Timestamp| modified.0 / 1000 > since.0 / 1000;
        match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) if !lists(tags) => return ReadOutcome::Failed("If-Match"),
            (None, Some(since)) if is_newer(since) => {
                return ReadOutcome::Failed("If-Unmodified-Since");
            }
            _ => {}
        }
        let is_known = match &self.if_none_match {
            Some(tags) => lists(tags),
            None => self.if_modified_since.is_some_and(|since| !is_newer(since)),
        };
        match is_known {
            true => ReadOutcome::NotModified,
            false => ReadOutcome::Proceed,
        }
    }
}
