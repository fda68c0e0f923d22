//! Documents in the bodies of requests.

use std::fmt::Write as _;

use crate::s3::{
    bucket, delete,
    error::Result,
    multipart::complete,
    tagging,
    xml::{self, Step, Writer},
};

/// What a document says does not depend on how it is spelled: written anew from what was read, it is read as the same by
/// every operation that has one.
pub fn xml(data: &[u8]) {
    let Ok(tree) = Tree::read(data) else {
        for said in operations(data) {
            // An empty body asks for nothing.
            assert!(
                said.starts_with("Err") || data.trim_ascii().is_empty(),
                "{said}"
            );
        }
        return;
    };
    if tree.has_zeros() {
        return;
    }
    let said = operations(data);
    for spelled in [tree.plain(), tree.odd()] {
        let again = Tree::read(spelled.as_bytes());
        assert_eq!(again.as_ref().ok(), Some(&tree), "{spelled}");
        assert_eq!(operations(spelled.as_bytes()), said, "{spelled}");
    }
    if let Ok(tags) = tagging::parse(data) {
        let rendered = tagging::render(&tags);
        let again = tagging::parse(rendered.as_bytes()).expect("what was written can be read");
        assert_eq!(tagging::render(&again), rendered);
        assert_eq!(again.iter().len(), tags.iter().len());
    }
}

/// What each operation makes of a body.
fn operations(document: &[u8]) -> [String; 4] {
    [
        format!("{:?}", complete::parse(document)),
        format!("{:?}", delete::parse(document)),
        format!("{:?}", tagging::parse(document)),
        format!("{:?}", bucket::parse_configuration(document)),
    ]
}

/// Elements as they begin and end, with their text.
#[derive(Debug, PartialEq)]
struct Tree(Vec<Part>);

#[derive(Debug, PartialEq)]
enum Part {
    Open(String),
    Close(String, String),
}

impl Tree {
    /// Reads a document; each path is that of its parent and one name more.
    fn read(document: &[u8]) -> Result<Self> {
        let (mut parts, mut path) = (Vec::new(), Vec::<String>::new());
        xml::read(document, |step| {
            match step {
                Step::Open(at) => {
                    let name = at.rsplit('/').next().unwrap_or_default();
                    path.push(name.to_owned());
                    assert_eq!(at, path.join("/"));
                    parts.push(Part::Open(name.to_owned()));
                }
                Step::Close(at, text) => {
                    assert_eq!(at, path.join("/"));
                    parts.push(Part::Close(path.pop().unwrap_or_default(), text));
                }
            }
            Ok(())
        })?;
        assert!(path.is_empty() && !parts.is_empty());
        Ok(Self(parts))
    }

    /// Whether there is a text that no well-formed document can say.
    fn has_zeros(&self) -> bool {
        let is_zero = |part: &Part| matches!(part, Part::Close(_, text) if text.contains('\0'));
        self.0.iter().any(is_zero)
    }

    /// As the server writes documents.
    fn plain(&self) -> String {
        let mut document = Writer::document();
        for part in &self.0 {
            match part {
                Part::Open(name) => document.open(name),
                Part::Close(name, text) => {
                    document.characters(text);
                    document.close(name);
                }
            }
        }
        document.finish()
    }

    /// With all that means nothing: prefixes and attributes, comments, blanks between elements, references.
    fn odd(&self) -> String {
        let mut document = String::from("\n<!-- > --><?p i?>");
        let mut is_leaf = false;
        for part in &self.0 {
            match part {
                Part::Open(name) => {
                    document += &format!("\n <s:{name} xmlns:s='u' a=\"'/>\" >");
                    is_leaf = true;
                }
                Part::Close(name, text) if is_leaf => {
                    for character in text.chars() {
                        // Writing into a String does not fail.
                        let _ = write!(document, "&#{};<!-- -->", u32::from(character));
                    }
                    document += &format!("</s:{name} >");
                    is_leaf = false;
                }
                Part::Close(name, _) => document += &format!("\r\n<![CDATA[ ]]></s:{name}>\t"),
            }
        }
        document
    }
}
