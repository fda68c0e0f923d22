//! From the parser's events to a tree of values.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, Span, StrInput};

use super::{Key, Located, Node, Position};

/// Most nodes of a file, aliases counted as what they stand for.
const NODES_MAX: usize = 10_000;
/// Bytes of a text that count like one more node, since aliases repeat them too.
const TEXT_BYTES_PER_NODE: usize = 1024;
/// Most collections inside each other.
const DEPTH_MAX: usize = 32;

/// A comment, before it is known which key it belongs to.
pub struct Comment {
    /// The line that it is on.
    pub line: usize,
    /// Nothing else is on its line.
    pub is_alone: bool,
    /// What follows the `#`, trimmed.
    pub text: String,
}

/// Makes a tree of the parser's events.
pub struct Reader<'a> {
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
    /// Reads `text`.
    pub fn new(text: &'a str) -> Self {
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

    /// The comments that were on the way.
    pub fn into_comments(self) -> Vec<Comment> {
        self.comments
    }

    /// The one document of the file; `None` when the file holds none.
    pub fn document(&mut self) -> Result<Option<(Position, Node)>, Located> {
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
                self.count(text.len() / TEXT_BYTES_PER_NODE, at)?;
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
