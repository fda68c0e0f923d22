//! `jay-config env-to-yaml`.

use std::{collections::BTreeMap, fmt::Write as _};

use zeroize::Zeroizing;

use super::{
    super::{
        interpolate::has_reference,
        kind::{Fault, Kind, flag},
        setting::{self, Empty, Setting},
        yaml::{Node, plain},
    },
    Converted, comment_lines, dotenv, first_line, is_unprintable,
};

/// Turns the lines `NAME=value` of the file `input` into YAML with sorted keys.
pub fn env_to_yaml(input: &str, text: &str) -> Converted {
    let mut reader = Reader::default();
    for (at, line) in text.lines().enumerate() {
        reader.line(at + 1, line);
    }
    let mut yaml = Zeroizing::new(first_line("env-to-yaml", input));
    let mut group = "";
    for ((top, inner), item) in &reader.items {
        let indent = if inner.is_empty() { "" } else { "  " };
        if !inner.is_empty() && group != *top {
            // Writing into a String does not fail.
            let _ = writeln!(yaml, "{top}:");
            group = top;
        }
        yaml.push_str(&comment_lines(&item.comments, indent));
        let key = if inner.is_empty() { top } else { inner };
        let _ = writeln!(yaml, "{indent}{key}: {}", *item.scalar);
    }
    yaml.push_str(&comment_lines(&reader.comments, ""));
    Converted {
        text: yaml,
        warnings: reader.warnings,
    }
}

struct Item {
    scalar: Zeroizing<String>,
    comments: Vec<String>,
}

#[derive(Default)]
struct Reader {
    /// By group and key, or key and nothing.
    items: BTreeMap<(&'static str, &'static str), Item>,
    /// Those that wait for a setting.
    comments: Vec<String>,
    warnings: Vec<String>,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) {
        let line = line.trim_matches([' ', '\t']);
        if let Some(comment) = line.strip_prefix('#') {
            self.comments.push(comment.trim().to_owned());
            return;
        }
        if line.is_empty() {
            return;
        }
        let line = match line.strip_prefix("export") {
            Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start_matches([' ', '\t']),
            _ => line,
        };
        // Nothing of the line is repeated: it may be the rest of a secret.
        let Some((name, value)) = line.split_once('=') else {
            return self.warn(number, "no `=`: skipped");
        };
        let name = name.trim_end_matches([' ', '\t']);
        let Some((setting, key)) = setting::by_variable(name).and_then(|s| Some((s, s.key?)))
        else {
            return self.warn(number, &not_a_key(name));
        };
        let value = Zeroizing::new(dotenv::unquoted(value.trim_matches([' ', '\t'])).into_owned());
        if value.is_empty() && setting.empty == Empty::Off {
            return self.warn(
                number,
                &format!("{name} is empty, which means its default: skipped"),
            );
        }
        if value.contains('\0') {
            let why = "holds a zero byte, which no variable can: skipped";
            return self.warn(number, &format!("{name} {why}"));
        }
        let (scalar, odd) = scalar(setting, &value);
        if let Some(odd) = odd {
            self.warn(number, &format!("{name} {odd}: kept as a string"));
        }
        let path = key.split_once('.').unwrap_or((key, ""));
        let comments = std::mem::take(&mut self.comments);
        if self.items.insert(path, Item { scalar, comments }).is_some() {
            self.warn(
                number,
                &format!("{name} is here a second time: this line counts"),
            );
        }
    }

    fn warn(&mut self, line: usize, what: &str) {
        self.warnings.push(format!("line {line}: {what}"));
    }
}

fn not_a_key(name: &str) -> String {
    if setting::is_known_variable(name) {
        return format!("{name} has no YAML key: skipped");
    }
    // What is no name may be the rest of a secret of several lines.
    let is_name = name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    let name = if is_name { name } else { "(no name)" };
    match setting::nearest_variable(name) {
        Some(nearest) => format!("unknown key {name}: skipped (did you mean {nearest}?)"),
        None => format!("unknown key {name}: skipped"),
    }
}

/// `value` in YAML, and what is odd about it.
fn scalar(setting: &Setting, value: &str) -> (Zeroizing<String>, Option<&'static str>) {
    let bare = |text: String| (Zeroizing::new(text), None);
    let string = |odd| (string(value), odd);
    if has_reference(value) {
        return string(None);
    }
    match setting.kind {
        Kind::Flag | Kind::Proxies if flag(value).is_some() => {
            bare((flag(value) == Some(true)).to_string())
        }
        Kind::Flag => string(Some("is not 1 or 0")),
        kind if kind.is_number() => match kind.canonical(value) {
            Ok(number) => bare(number),
            // A number nevertheless, which the server will complain about.
            Err(Fault::OutOfRange(_)) if is_number(value) => bare(value.to_owned()),
            Err(_) => string(Some("is not a number")),
        },
        _ => string(None),
    }
}

fn is_number(text: &str) -> bool {
    matches!(plain(text), Node::Integer(_) | Node::Float(_))
}

/// `text` as a string in YAML, in double quotes where it would be something else without.
fn string(text: &str) -> Zeroizing<String> {
    let first = |c: char| c.is_ascii_alphanumeric() || "/._$:".contains(c);
    let others = |c: char| c.is_ascii_alphanumeric() || "/._$:{}@+,=~%-".contains(c);
    // Words of older YAML, which other readers may take for booleans.
    let older = ["y", "n", "yes", "no", "on", "off"];
    let is_plain = text.starts_with(first)
        && text.chars().all(others)
        && !text.ends_with(':')
        && plain(text) == Node::Text(text.to_owned())
        && !older.contains(&text.to_ascii_lowercase().as_str())
        // 12:30 and 1_000 were numbers once, 2026-01-01 is a date to some.
        && !(text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || ":_.-+".contains(c)));
    match is_plain {
        true => Zeroizing::new(text.to_owned()),
        false => double_quoted(text),
    }
}

fn double_quoted(text: &str) -> Zeroizing<String> {
    let mut yaml = Zeroizing::new(String::with_capacity(text.len() + 2));
    yaml.push('"');
    for c in text.chars() {
        match c {
            '\\' => yaml.push_str(r"\\"),
            '"' => yaml.push_str("\\\""),
            '\n' => yaml.push_str(r"\n"),
            '\r' => yaml.push_str(r"\r"),
            '\t' => yaml.push_str(r"\t"),
            c if is_unprintable(c) => {
                let _ = write!(yaml, "\\u{:04X}", u32::from(c));
            }
            c => yaml.push(c),
        }
    }
    yaml.push('"');
    yaml
}
