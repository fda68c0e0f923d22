//! A YAML file of settings: its values, where they stand, and its comments.
//!
//! Read by [`super::values`] and `jay-config`. Built on the events of the parser inside serde-saphyr, since they tell
//! line and column of every key, and since an error of the deserializer would quote lines that may hold secrets.
//! Absent on purpose: merge keys and tags, whose effect on a file of settings is hard to see.

use std::{collections::HashMap, fmt};

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, Span, StrInput};

use super::setting::{self, Setting};

/// Most nodes of a file, aliases counted as what they stand for.
const NODES_MAX: usize = 10_000;
/// Most collections inside each other.
const DEPTH_MAX: usize = 32;

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

    fn of(marker: &granit_parser::Marker) -> Self {
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
        document.attach(reader.comments);
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

struct Comment {
    line: usize,
    /// Nothing else is on its line.
    is_alone: bool,
    text: String,
}

/// Makes a tree of the parser's events.
struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    comments: Vec<Comment>,
    /// What has an anchor, and how many nodes it is.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    /// Line of the last event that was content.
    last_line: usize,
    /// Where the last event began.
    at: Position,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        let options = granit_parser::options! {
            // A file may be one long comment.
            max_buffered_comment_events: usize::MAX,
            disallow_directives: true,
        };
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            comments: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            last_line: 0,
            at: Position::START,
        }
    }

    /// The next event that is no comment.
    fn next(&mut self) -> Result<(Event<'a>, Span), Located> {
        loop {
            let (event, span) = match self.parser.next() {
                Some(Ok(next)) => next,
                Some(Err(error)) => {
                    return Err(Located::new(Position::of(error.marker()), error.info()));
                }
                None => return Err(Located::new(self.at, "the file ends too early")),
            };
            self.at = Position::of(&span.start);
            if let Event::Comment(text, placement) = event {
                self.comments.push(Comment {
                    line: self.at.line,
                    is_alone: placement != granit_parser::Placement::Right,
                    text: text.trim().to_owned(),
                });
                continue;
            }
            return Ok((event, span));
        }
    }

    /// The one document of the file; `None` when the file holds none.
    fn document(&mut self) -> Result<Option<(Position, Node)>, Located> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            let at = Position::of(&span.start);
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(Located::new(
                        at,
                        "a second document begins here: a file of settings has one",
                    ));
                }
                Event::DocumentStart(..) => {}
                event => root = Some((at, self.node(event, span, 0)?)),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Located> {
        let at = Position::of(&span.start);
        let before = self.nodes;
        self.count(1, at)?;
        if depth > DEPTH_MAX {
            return Err(Located::new(at, "too many levels"));
        }
        let tagged = || {
            Err(Located::new(
                at,
                "tags are not understood here: remove it, or put the value in quotes",
            ))
        };
        let (node, anchor) = match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, _, Some(_))
            | Event::MappingStart(_, _, Some(_)) => return tagged(),
            Event::Scalar(text, style, anchor, None) => {
                self.last_line = last_line(&span, style);
                (scalar(&text, style), anchor)
            }
            Event::SequenceStart(_, anchor, None) => (self.list(depth)?, anchor),
            Event::MappingStart(_, anchor, None) => (self.map(depth)?, anchor),
            Event::Alias(anchor) => {
                self.last_line = span.start.line();
                let Some((node, nodes)) = self.anchors.get(&anchor).cloned() else {
                    return Err(Located::new(at, "an alias inside of what it stands for"));
                };
                self.count(nodes, at)?;
                (node, 0)
            }
            _ => return Err(Located::new(at, "a value belongs here")),
        };
        if anchor != 0 {
            self.anchors
                .insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Node, Located> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node::List(list)),
                (event, span) => list.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Node, Located> {
        let mut map: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let at = Position::of(&span.start);
            let name = match event {
                Event::MappingEnd => return Ok(Node::Map(map)),
                Event::Scalar(name, ..) => name.into_owned(),
                _ => return Err(Located::new(at, "a key is a plain word")),
            };
            if let Some((first, _)) = map.iter().find(|(key, _)| key.name == name) {
                let text = format!(
                    "{name:?} is here a second time, after line {}",
                    first.at.line
                );
                return Err(Located::new(at, text));
            }
            self.last_line = span.end.line();
            let (event, span) = self.next()?;
            let value_at = Position::of(&span.start);
            let node = self.node(event, span, depth + 1)?;
            let key = Key {
                name,
                at,
                value_at,
                last_line: self.last_line,
            };
            map.push((key, node));
        }
    }

    fn count(&mut self, nodes: usize, at: Position) -> Result<(), Located> {
        self.nodes += nodes;
        match self.nodes > NODES_MAX {
            true => Err(Located::new(at, "too many values")),
            false => Ok(()),
        }
    }
}

/// A block scalar ends where the next line begins.
fn last_line(span: &Span, style: ScalarStyle) -> usize {
    match style {
        ScalarStyle::Literal | ScalarStyle::Folded => span.end.line().saturating_sub(1),
        _ => span.end.line(),
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Node {
    match style {
        ScalarStyle::Plain => plain(text),
        _ => Node::Text(text.to_owned()),
    }
}

/// What a scalar without quotes is: the core schema of YAML 1.2.
pub fn plain(text: &str) -> Node {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Node::Null,
        "true" | "True" | "TRUE" => return Node::Bool(true),
        "false" | "False" | "FALSE" => return Node::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Node::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Node::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Node::Float(f64::NAN),
        _ => {}
    }
    let radix = |prefix: &str, radix| {
        let digits = text.strip_prefix(prefix).filter(|d| !d.starts_with('+'))?;
        i128::from_str_radix(digits, radix).ok()
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Node::Integer(number);
    }
    // Rust also takes words such as "inf" for numbers, YAML does not.
    let numeric = text
        .bytes()
        .all(|c| c.is_ascii_digit() || b"+-.eE".contains(&c));
    let has_digit = text.bytes().any(|c| c.is_ascii_digit());
    match (text.parse::<i128>(), text.parse::<f64>()) {
        (Ok(number), _) => Node::Integer(number),
        (_, Ok(number)) if numeric && has_digit => Node::Float(number),
        _ => Node::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests;
