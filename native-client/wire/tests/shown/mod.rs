//! What the debug form of a struct says, as JSON: names and values, without those that are left out on the wire.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// The fields of structs that were seen, and those of them that had a value.
#[derive(Default)]
pub struct Fields(BTreeMap<(String, String), bool>);

impl Fields {
    /// Those that had none anywhere.
    pub fn silent(&self) -> BTreeSet<String> {
        let silent = self.0.iter().filter(|(_, has_value)| !**has_value);
        silent
            .map(|((of, field), _)| format!("{of}.{field}"))
            .collect()
    }
}

/// A struct as it stands in JSON. Bytes are hexadecimal digits, moments are numbers, and what has its default is missing.
pub fn shown(debug: &str, fields: &mut Fields) -> Value {
    let mut reading = Reading {
        rest: debug,
        fields,
    };
    let (value, _) = reading.value();
    assert_eq!(reading.rest, "", "{debug}");
    value
}

struct Reading<'a, 'b> {
    rest: &'a str,
    fields: &'b mut Fields,
}

impl<'a> Reading<'a, '_> {
    fn takes(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self) -> &'a str {
        let is_in = |c: char| c.is_alphanumeric() || "_-".contains(c);
        let end = self.rest.find(|c| !is_in(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// The next value, and whether it is the default of its type.
    fn value(&mut self) -> (Value, bool) {
        match self.rest.chars().next() {
            Some('"') => {
                let text = self.quoted();
                let text = String::from_utf8(text).expect("what was text is text");
                let is_default = text.is_empty();
                (text.into(), is_default)
            }
            Some('[') => {
                let entries = self.list("[", "]", |this| this.value().0);
                let is_default = entries.is_empty();
                (entries.into(), is_default)
            }
            Some('{') => {
                let entries = self.list("{", "}", |this| {
                    let name = String::from_utf8(this.quoted()).expect("names are text");
                    assert!(this.takes(": "));
                    (name, this.value().0)
                });
                let is_default = entries.is_empty();
                (
                    entries.into_iter().collect::<Map<_, _>>().into(),
                    is_default,
                )
            }
            Some('b') if self.rest.starts_with("b\"") => {
                self.rest = &self.rest[1..];
                let bytes = self.quoted();
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                (hex.into(), bytes.is_empty())
            }
            _ => {
                let word = self.word();
                self.named(word)
            }
        }
    }

    fn named(&mut self, word: &str) -> (Value, bool) {
        match word {
            "None" => (Value::Null, true),
            "Some" | "Time" => {
                assert!(self.takes("("));
                let (value, is_default) = self.value();
                assert!(self.takes(")"));
                (value, is_default && word == "Time")
            }
            "true" | "false" => ((word == "true").into(), word == "false"),
            number if number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                let number: i128 = number.parse().expect("a number");
                let value = u64::try_from(number).map(Value::from);
                let value = value.unwrap_or_else(|_| Value::from(number as i64));
                (value, number == 0)
            }
            of => self.fields_of(of),
        }
    }

    fn fields_of(&mut self, of: &str) -> (Value, bool) {
        let mut found = Map::new();
        if self.takes(" { ") {
            while !self.takes(" }") {
                self.takes(", ");
                let name = self.word();
                assert!(self.takes(": "), "{}", self.rest);
                let (value, is_default) = self.value();
                let seen = self.fields.0.entry((of.to_owned(), name.to_owned()));
                *seen.or_default() |= !is_default;
                if !is_default {
                    found.insert(name.to_owned(), value);
                }
            }
        }
        let is_default = found.is_empty();
        (found.into(), is_default)
    }

    fn list<T>(&mut self, begin: &str, end: &str, mut entry: impl FnMut(&mut Self) -> T) -> Vec<T> {
        assert!(self.takes(begin));
        let mut entries = Vec::new();
        while !self.takes(end) {
            self.takes(", ");
            entries.push(entry(self));
        }
        entries
    }

    /// What stands in quotes.
    fn quoted(&mut self) -> Vec<u8> {
        assert!(self.takes("\""));
        let mut bytes = Vec::new();
        loop {
            let mut chars = self.rest.chars();
            let next = chars.next().expect("quotes end");
            self.rest = chars.as_str();
            match next {
                '"' => return bytes,
                '\\' => bytes.push(self.escaped()),
                other => bytes.extend(other.to_string().as_bytes()),
            }
        }
    }

    fn escaped(&mut self) -> u8 {
        let (escape, rest) = self.rest.split_at(1);
        self.rest = rest;
        match escape {
            "0" => 0,
            "n" => b'\n',
            "r" => b'\r',
            "t" => b'\t',
            "x" => {
                let (digits, rest) = self.rest.split_at(2);
                self.rest = rest;
                u8::from_str_radix(digits, 16).expect("two digits")
            }
            same => same.as_bytes()[0],
        }
    }
}
