//! How answers are shown: as tables on a terminal, else as JSON, indented by two spaces.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{Table, presets};
use serde_json::Value;

/// Where and how answers go.
pub struct Output {
    is_json: bool,
}

impl Output {
    /// JSON when it is asked for, and for programs.
    pub fn new(json: bool) -> Self {
        Self {
            is_json: json || !std::io::stdout().is_terminal(),
        }
    }

    /// Shows an answer in JSON; on a terminal only these fields, of each entry of a list.
    pub fn show(&self, json: &str, fields: &[&str]) -> anyhow::Result<()> {
        let text = match self.is_json {
            true => indent(json.trim_end()),
            false => table(&serde_json::from_str(json)?, fields),
        };
        self.say(&text)
    }

    /// Shows a line, the same for all.
    pub fn say(&self, text: &str) -> anyhow::Result<()> {
        writeln!(std::io::stdout(), "{text}")?;
        Ok(())
    }
}

/// A list as rows, an object as pairs. Without `fields`: all of an object.
fn table(answer: &Value, fields: &[&str]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_BORDERS_ONLY_CONDENSED);
    match answer {
        Value::Array(entries) if entries.is_empty() => return "none".to_owned(),
        Value::Array(entries) => {
            table.set_header(fields);
            for entry in entries {
                table.add_row(fields.iter().map(|field| cell(&entry[*field])));
            }
        }
        Value::Object(pairs) if fields.is_empty() => {
            pairs
                .iter()
                .for_each(|(name, value)| add(&mut table, name, value));
        }
        Value::Object(pairs) => {
            for field in fields.iter().filter(|field| pairs.contains_key(**field)) {
                add(&mut table, field, &answer[*field]);
            }
        }
        other => return cell(other),
    }
    table.to_string()
}

/// Adds a pair; an object as its own pairs.
fn add(table: &mut Table, name: &str, value: &Value) {
    match value {
        Value::Object(pairs) => {
            for (below, value) in pairs {
                add(table, &format!("{name}.{below}"), value);
            }
        }
        value => {
            table.add_row([name.to_owned(), cell(value)]);
        }
    }
}

/// A value for people. Control characters would reach the terminal.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(visible).collect()
}

/// `json` indented by two spaces, with its fields in the order of the server.
fn indent(json: &str) -> String {
    let (mut text, mut depth, mut in_string, mut escaped) = (String::new(), 0, false, false);
    let mut rest = json.chars().peekable();
    while let Some(c) = rest.next() {
        if in_string {
            text.push(c);
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        let line = |depth: usize| format!("\n{}", "  ".repeat(depth));
        match c {
            '[' | '{' if rest.peek().is_some_and(|next| matches!(next, ']' | '}')) => {
                text.push(c);
                text.extend(rest.next());
            }
            '[' | '{' => {
                depth += 1;
                text.push(c);
                text.push_str(&line(depth));
            }
            ']' | '}' => {
                depth = depth.saturating_sub(1);
                text.push_str(&line(depth));
                text.push(c);
            }
            ',' => {
                text.push(c);
                text.push_str(&line(depth));
            }
            ':' => text.push_str(": "),
            c => {
                in_string = c == '"';
                text.push(c);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_stays_in_order() {
        let json = r#"{"z":[],"a":{"b":["x,\"{y\\",1]},"c":{},"d":null}"#;
        let expected = "{\n  \"z\": [],\n  \"a\": {\n    \"b\": [\n      \"x,\\\"{y\\\\\",\n      1\n    ]\n  },\n  \"c\": {},\n  \"d\": null\n}";
        assert_eq!(indent(json), expected);
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(read(&indent(json)), read(json));
        assert_eq!(indent("[]"), "[]");
    }

    #[test]
    fn tables_show_the_fields_that_are_asked_for() {
        let list: Value = serde_json::from_str(r#"[{"id":"1","n":null,"x":[1,2]}]"#).unwrap();
        let shown = table(&list, &["id", "n", "x"]);
        assert!(
            shown.contains("id") && shown.contains("1, 2") && shown.contains('-'),
            "{shown}"
        );
        assert_eq!(table(&Value::Array(vec![]), &["id"]), "none");
        assert!(!table(&list[0], &["id"]).contains("x"));
        assert!(table(&list[0], &[]).contains("x"));
        let nested: Value = serde_json::from_str(r#"{"a":{"b":{"c":1}}}"#).unwrap();
        assert!(table(&nested, &[]).contains("a.b.c   1"));
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(
            cell(&Value::String("a\u{1b}[2Jb\n".into())),
            "a\u{fffd}[2Jb\u{fffd}"
        );
    }
}
