//! XML both ways: a writer for answers, a bounded streaming reader for request bodies.
//!
//! Deliberately absent: entity expansion, document types, attributes, a tree.

use jay_engine::ErrorKind;
use quick_xml::{Reader, events::Event};

use super::error::{Error, Result};

/// Largest XML request body in bytes, as S3 allows for DeleteObjects.
pub(crate) const XML_BYTES_MAX: usize = 2 << 20;
/// Deepest nesting of elements; the deepest that S3 sends in the bodies read here is 5.
const XML_DEPTH_MAX: usize = 16;
/// The namespace of S3's documents.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Writes a document from the top down into a string.
pub(crate) struct Writer(String);

impl Writer {
    /// A document that holds only its declaration.
    pub(crate) fn document() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned())
    }

    /// Opens the root element in S3's namespace.
    pub(crate) fn open_root(&mut self, element: &str) {
        self.0.push('<');
        self.0.push_str(element);
        self.0.push_str(" xmlns=\"");
        self.0.push_str(NAMESPACE);
        self.0.push_str("\">");
    }

    /// Opens an element.
    pub(crate) fn open(&mut self, element: &str) {
        self.0.push('<');
        self.0.push_str(element);
        self.0.push('>');
    }

    /// Closes an element.
    pub(crate) fn close(&mut self, element: &str) {
        self.0.push_str("</");
        self.0.push_str(element);
        self.0.push('>');
    }

    /// An element that holds only text.
    pub(crate) fn text(&mut self, element: &str, text: &str) {
        self.open(element);
        self.characters(text);
        self.close(element);
    }

    /// Text inside the open element.
    ///
    /// Characters that XML 1.0 cannot carry are numeric references, as S3 writes them; so are those that
    /// a parser would change (carriage return) or trim.
    pub(crate) fn characters(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => {
                    self.0.push_str(&format!("&#x{:x};", u32::from(character)));
                }
                _ => self.0.push(character),
            }
        }
    }

    /// An account in its role: `Owner` or `Initiator`.
    pub(crate) fn party(&mut self, role: &str, account_id: &str) {
        self.open(role);
        self.text("ID", account_id);
        self.text("DisplayName", account_id);
        self.close(role);
    }

    /// The document.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

/// One step of reading a document. Paths are local names joined by slashes: `Delete/Object/Key`.
pub(crate) enum Step<'a> {
    /// The element of this path begins.
    Open(&'a str),
    /// The element of this path ends; its own text, which is empty when it has child elements.
    Close(&'a str, String),
}

/// Reads a whole document and calls `take` for every step; refuses whatever is not well-formed.
pub(crate) fn read(document: &[u8], mut take: impl FnMut(Step<'_>) -> Result<()>) -> Result<()> {
    let document = std::str::from_utf8(document).map_err(|_| malformed("it is not UTF-8"))?;
    let mut reader = Reader::from_str(document);
    let mut path = String::new();
    let mut open: Vec<Open> = Vec::new();
    let mut has_root = false;
    loop {
        let event = reader
            .read_event()
            .map_err(|_| malformed("it is not well-formed"))?;
        match event {
            Event::Start(_) | Event::Empty(_) => {
                let (name, is_empty) = match &event {
                    Event::Empty(tag) => (tag.local_name().into_inner().to_owned(), true),
                    Event::Start(tag) => (tag.local_name().into_inner().to_owned(), false),
                    _ => continue,
                };
                if !is_name(&name) {
                    return Err(malformed("an element has no proper name"));
                }
                if open.is_empty() && std::mem::replace(&mut has_root, true) {
                    return Err(malformed("it has several root elements"));
                }
                if open.len() == XML_DEPTH_MAX {
                    return Err(malformed("it is nested too deeply"));
                }
                if let Some(parent) = open.last_mut() {
                    parent.has_children = true;
                    parent.must_be_blank()?;
                }
                let parent_bytes = path.len();
                if !path.is_empty() {
                    path.push('/');
                }
                path.push_str(&name);
                take(Step::Open(&path))?;
                if is_empty {
                    take(Step::Close(&path, String::new()))?;
                    path.truncate(parent_bytes);
                } else {
                    open.push(Open {
                        parent_bytes,
                        text: String::new(),
                        has_children: false,
                    });
                }
            }
            Event::End(_) => {
                let element = open
                    .pop()
                    .ok_or_else(|| malformed("it is not well-formed"))?;
                let text = if element.has_children {
                    element.must_be_blank()?;
                    String::new()
                } else {
                    element.text
                };
                take(Step::Close(&path, text))?;
                path.truncate(element.parent_bytes);
            }
            Event::Text(text) => append(&mut open, &text.xml10_content())?,
            Event::CData(text) => append(&mut open, &text.xml10_content())?,
            Event::GeneralRef(reference) => {
                let character = match reference.resolve_char_ref() {
                    Ok(Some(character)) => character,
                    Ok(None) => predefined(&reference)
                        .ok_or_else(|| malformed("it refers to an unknown entity"))?,
                    Err(_) => return Err(malformed("it holds a bad character reference")),
                };
                append(&mut open, character.encode_utf8(&mut [0; 4]))?;
            }
            Event::DocType(_) => return Err(malformed("document types are not accepted")),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof if open.is_empty() && has_root => return Ok(()),
            Event::Eof => return Err(malformed("it ends too early")),
        }
    }
}

/// An element that has begun and not ended.
struct Open {
    /// Length of the path without this element.
    parent_bytes: usize,
    text: String,
    has_children: bool,
}

impl Open {
    fn must_be_blank(&self) -> Result<()> {
        if self.text.trim_ascii().is_empty() {
            return Ok(());
        }
        Err(malformed("it mixes text and elements"))
    }
}

/// A refusal of the whole body.
pub(crate) fn malformed(why: &str) -> Error {
    let message = format!(
        "The XML you provided was not well-formed or did not validate against our published \
         schema: {why}."
    );
    Error::new(ErrorKind::MalformedXML, message)
}

/// Whether an element may be called so, without its prefix: above all without a slash, which separates the names in a
/// path. The parser takes whatever stands there.
///
/// Source: XML 1.0, section 2.3, of whose rules for letters beyond ASCII none is kept.
fn is_name(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    let mut characters = name.chars();
    name.starts_with(is_letter)
        && characters.all(|c| is_letter(c) || c.is_ascii_digit() || "-.".contains(c))
}

fn append(open: &mut [Open], text: &str) -> Result<()> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim_ascii().is_empty() => {}
        None => return Err(malformed("it has text outside its root element")),
    }
    Ok(())
}

fn predefined(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(document: &str) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        read(document.as_bytes(), |step| {
            if let Step::Close(path, text) = step {
                found.push((path.to_owned(), text));
            }
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn text_references_and_namespaces_are_read() {
        let document = "<?xml version=\"1.0\"?>\n<!-- c --><s:A xmlns:s='u'> <B>x &amp;&#x1; <![CDATA[<y>]]>\
                        </B><C/></s:A>\n";
        let found = leaves(document).unwrap();
        let expected = [("A/B", "x &\u{1} <y>"), ("A/C", ""), ("A", "")];
        assert_eq!(
            found,
            expected.map(|(path, text)| (path.to_owned(), text.to_owned()))
        );
    }

    #[test]
    fn anything_off_is_malformed() {
        let deep = "<a>".repeat(20) + &"</a>".repeat(20);
        for bad in [
            "",
            "text",
            "<A>",
            "<A></B>",
            "<A/><B/>",
            "<A>x<B/></A>",
            "<A><B/>x</A>",
            "<A>&unknown;</A>",
            "<A>&#x110000;</A>",
            "<!DOCTYPE A [<!ENTITY e 'x'>]><A>&e;</A>",
            "<A/>x",
            // One element that looks like the path of two.
            "<A/B>x</A/B>",
            "<A'>x</A'>",
            "<1/>",
            "<:/>",
            &deep,
        ] {
            let error = leaves(bad).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::MalformedXML, "{bad}");
        }
        assert!(read(b"<A>\xff</A>", |_| Ok(())).is_err());
    }

    #[test]
    fn control_characters_are_references() {
        let mut xml = Writer::document();
        xml.text("Key", "a\u{1}\r\n\u{ffff}\"<");
        assert!(
            xml.finish()
                .ends_with("<Key>a&#x1;&#xd;&#xa;&#xffff;&quot;&lt;</Key>")
        );
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(text in "[^\\x00]*") {
            let mut xml = Writer::document();
            xml.text("Key", &text);
            let expected = vec![("Key".to_owned(), text)];
            prop_assert_eq!(leaves(&xml.finish()).unwrap(), expected);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = read(&bytes, |_| Ok(()));
        }

        #[test]
        fn hostile_markup_never_panics(text in "[<>/&;#x!\\[\\]A-C1 '\"=?-]*") {
            let _ = leaves(&text);
        }
    }
}
