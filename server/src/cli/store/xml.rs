//! The answers of an S3 server as trees.

use quick_xml::{Reader, events::Event};

/// Deepest nesting; what is read here has 4.
const DEPTH_MAX: usize = 16;

/// An element of a document. Without attributes and namespaces, which nothing here needs.
#[derive(Debug, Default)]
pub struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// The root of a document; `None` when it is no XML.
    pub fn parse(document: &[u8]) -> Option<Self> {
        let mut reader = Reader::from_str(std::str::from_utf8(document).ok()?);
        let mut open = vec![Self::default()];
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) if open.len() <= DEPTH_MAX => {
                    open.push(Self::named(start.local_name().into_inner()));
                }
                Event::Start(_) => return None,
                Event::Empty(empty) => {
                    let child = Self::named(empty.local_name().into_inner());
                    open.last_mut()?.children.push(child);
                }
                Event::End(_) => {
                    let child = open.pop()?;
                    open.last_mut()?.children.push(child);
                }
                Event::Text(text) => open.last_mut()?.text.push_str(&text.xml10_content()),
                Event::CData(text) => open.last_mut()?.text.push_str(&text.xml10_content()),
                Event::GeneralRef(reference) => {
                    let character = match reference.resolve_char_ref().ok()? {
                        Some(character) => character,
                        None => named_character(&reference)?,
                    };
                    open.last_mut()?.text.push(character);
                }
                Event::Eof => break,
                Event::DocType(_) => return None,
                _ => {}
            }
        }
        match &mut open[..] {
            [around] if around.children.len() == 1 => around.children.pop(),
            _ => None,
        }
    }

    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of this name.
    pub fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first child of this name; empty when there is none.
    pub fn text(&self, name: &str) -> &str {
        self.child(name).map_or("", |child| child.text.as_str())
    }
}

fn named_character(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => return None,
    })
}

/// `text` as the content of an element.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => {
                escaped.push_str(&format!("&#x{:x};", u32::from(character)));
            }
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_becomes_a_tree() {
        let xml = b"<?xml version=\"1.0\"?>\n<R xmlns=\"urn:x\"><K>a &amp; b&#x41;</K><L/><K><![CDATA[<c>]]></K></R>\n";
        let root = Element::parse(xml).unwrap();
        assert_eq!(
            (root.name(), root.text("K"), root.text("L")),
            ("R", "a & bA", "")
        );
        let all: Vec<_> = root.children("K").map(|k| k.text.as_str()).collect();
        assert_eq!(all, ["a & bA", "<c>"]);
        assert!(root.child("M").is_none());
    }

    #[test]
    fn what_is_no_document_is_none() {
        let deep = "<a>".repeat(30) + &"</a>".repeat(30);
        for text in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "<a>&x;</a>",
            "<!DOCTYPE a><a/>",
            &deep,
        ] {
            assert!(Element::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn escaped_text_comes_back() {
        let text = "a<b>&\r\n\u{7}\u{fffe}ä'\"";
        let document = format!("<a><b>{}</b></a>", escaped(text));
        assert_eq!(Element::parse(document.as_bytes()).unwrap().text("b"), text);
    }
}
