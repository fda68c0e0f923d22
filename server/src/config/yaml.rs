//! A YAML file of settings: its values, where they stand, and its comments.
//!
//! Read by [`super::values`] and `jay-config`. Built on the events of the parser inside serde-saphyr, since they tell
//! line and column of every key, and since an error of the deserializer would quote lines that may hold secrets.
//! Absent on purpose: merge keys and tags, whose effect on a file of settings is hard to see.

mod reader;

use std::fmt;

use serde_saphyr::granit_parser::Marker;

pub use self::reader::plain;
use self::reader::{Comment, Reader};
use super::setting::{self, Setting};

/// A place in a file; line and column count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl Position {
    /// Where a file begins.
    pub const START: Self = Self { line: 1, column: 1 };

    fn of(marker: &Marker) -> Self {
        Self {
            line: marker.line(),
            column: marker.col() + 1,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What is wrong, and where. Repeats no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Where.
    pub at: Position,
    /// What.
    pub text: String,
}

impl Located {
    /// `text`, about what is at `at`.
    pub fn new(at: Position, text: impl Into<String>) -> Self {
        Self {
            at,
            text: text.into(),
        }
    }
}

/// A value in YAML.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    name: String,
    at: Position,
    value_at: Position,
    /// Line in which the value ends.
    last_line: usize,
}

/// One key of the file with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its path, with dots.
    pub path: String,
    /// The setting of that path, if there is one.
    pub setting: Option<&'static Setting>,
    /// Where the key is.
    pub at: Position,
    /// Where the value is.
    pub value_at: Position,
    /// The value.
    pub node: Node,
    /// The comments above and beside it, without `#`.
    pub comments: Vec<String>,
    last_line: usize,
}

impl Entry {
    /// The error of an entry that is no setting.
    pub fn unknown(&self) -> Located {
        let hint = match setting::nearest_key(&self.path) {
            Some(nearest) => format!("did you mean {nearest:?}?"),
            None => "there is no such setting".to_owned(),
        };
        Located::new(self.at, format!("unknown key {:?}: {hint}", self.path))
    }
}

/// A file of settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Its keys, those in groups under their paths, in the order of the file.
    pub entries: Vec<Entry>,
    /// Groups such as `scrub` that are no mapping.
    pub bad_groups: Vec<Located>,
    /// Comments behind the last key, without `#`.
    pub last_comments: Vec<String>,
}

impl Document {
    /// Reads `text`; an error when it is not YAML, not a mapping, or has a key twice.
    pub fn parse(text: &str) -> Result<Self, Located> {
        let mut reader = Reader::new(text);
        let root = reader.document()?;
        let mut document = Self::default();
        match root {
            None | Some((_, Node::Null)) => {}
            Some((_, Node::Map(map))) => document.flatten(map),
            Some((at, _)) => {
                return Err(Located::new(
                    at,
                    "the file is not a mapping of settings: write `key: value` lines",
                ));
            }
        }
        document.attach(reader.into_comments());
        Ok(document)
    }

    /// The entry of `setting`.
    pub fn entry(&self, setting: &Setting) -> Option<&Entry> {
        let key = setting.key?;
        self.entries
            .iter()
            .find(|entry| entry.setting.is_some() && entry.path == key)
    }

    /// What is no setting, in the order of the file.
    pub fn strangers(&self) -> Vec<Located> {
        let unknown = self.entries.iter().filter(|entry| entry.setting.is_none());
        let mut errors: Vec<Located> = unknown.map(Entry::unknown).collect();
        errors.extend(self.bad_groups.iter().cloned());
        errors.sort_by_key(|error| error.at);
        errors
    }

    fn flatten(&mut self, map: Vec<(Key, Node)>) {
        for (key, node) in map {
            if !setting::is_group(&key.name) {
                // A dotted name at the top is no path.
                let setting = setting::by_key(&key.name).filter(|_| !key.name.contains('.'));
                self.entries
                    .push(entry(key.name.clone(), setting, key, node));
                continue;
            }
            let Node::Map(inner) = node else {
                let text = format!(
                    "{} is not a mapping: put its settings below it, indented",
                    key.name
                );
                self.bad_groups.push(Located::new(key.at, text));
                continue;
            };
            for (inner_key, node) in inner {
                let path = format!("{}.{}", key.name, inner_key.name);
                self.entries
                    .push(entry(path.clone(), setting::by_key(&path), inner_key, node));
            }
        }
    }

    /// Gives each comment to the key on its line, else to the next one.
    fn attach(&mut self, comments: Vec<Comment>) {
        for comment in comments {
            let beside = |entry: &&mut Entry| !comment.is_alone && entry.last_line == comment.line;
            let found = match self.entries.iter_mut().find(beside) {
                Some(entry) => Some(entry),
                None => self
                    .entries
                    .iter_mut()
                    .find(|entry| entry.at.line > comment.line),
            };
            match found {
                Some(entry) => entry.comments.push(comment.text),
                None => self.last_comments.push(comment.text),
            }
        }
    }
}

fn entry(path: String, setting: Option<&'static Setting>, key: Key, node: Node) -> Entry {
    Entry {
        path,
        setting,
        at: key.at,
        value_at: key.value_at,
        node,
        comments: Vec::new(),
        last_line: key.last_line,
    }
}

#[cfg(test)]
mod tests;
