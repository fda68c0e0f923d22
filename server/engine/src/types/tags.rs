//! The tags of objects.

use crate::error::{Error, ErrorKind, Result};

/// Most tags of one object.
pub const TAGS_MAX: usize = 10;
/// Longest key of a tag, in characters.
pub const TAG_KEY_CHARS_MAX: usize = 128;
/// Longest value of a tag, in characters.
pub const TAG_VALUE_CHARS_MAX: usize = 256;

/// One tag of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Tag {
    pub key: String,
    pub value: String,
}

/// The tags of an object, in the order given: at most [`TAGS_MAX`], no key twice.
///
/// Source: S3 user guide, "Categorizing your objects using tags".
///
/// ```
/// use jay_engine::{Tag, Tags};
/// let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
/// assert!(Tags::new(vec![tag("colour", "red"), tag("size", "")]).is_ok());
/// assert!(Tags::new(vec![tag("colour", "red"), tag("colour", "blue")]).is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<Tag>);

impl Tags {
    /// Checks the tags; [`ErrorKind::BadRequest`] when there are too many, else [`ErrorKind::InvalidTag`].
    pub fn new(tags: Vec<Tag>) -> Result<Self> {
        let refuse = |why: String| Err(Error::new(ErrorKind::InvalidTag, why));
        if tags.len() > TAGS_MAX {
            return Err(Error::new(
                ErrorKind::BadRequest,
                format!("Object tags cannot be greater than {TAGS_MAX}."),
            ));
        }
        for (i, tag) in tags.iter().enumerate() {
            if tag.key.is_empty() || tag.key.chars().count() > TAG_KEY_CHARS_MAX {
                return refuse(format!(
                    "The TagKey you have provided is invalid: it has 1 to {TAG_KEY_CHARS_MAX} characters."
                ));
            }
            if tag.value.chars().count() > TAG_VALUE_CHARS_MAX {
                return refuse(format!(
                    "The TagValue you have provided is invalid: it has at most {TAG_VALUE_CHARS_MAX} characters."
                ));
            }
            let is_allowed = |c: char| c.is_alphanumeric() || c == ' ' || "+-=._:/@".contains(c);
            if !tag.key.chars().chain(tag.value.chars()).all(is_allowed) {
                return refuse(
                    "The TagKey or TagValue you have provided is invalid: letters, digits, spaces and + - = . _ : / @ \
                     are allowed."
                        .to_owned(),
                );
            }
            if tag.key.starts_with("aws:") {
                return refuse(
                    "System tags cannot be added/updated by requester: a key may not begin with aws:."
                        .to_owned(),
                );
            }
            if tags[..i].iter().any(|other| other.key == tag.key) {
                return refuse("Cannot provide multiple Tags with the same key.".to_owned());
            }
        }
        Ok(Self(tags))
    }

    /// Tags that were checked when they came, by whatever rules there were then.
    pub(crate) fn stored(tags: Vec<Tag>) -> Self {
        Self(tags)
    }

    /// The tags.
    pub fn iter(&self) -> std::slice::Iter<'_, Tag> {
        self.0.iter()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
