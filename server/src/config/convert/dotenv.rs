//! Values in a file of variables: `NAME=value`, in double quotes where a reader could misunderstand them.

use std::borrow::Cow;

/// `value` as it stands behind the `=`.
pub fn quoted(value: &str) -> Cow<'_, str> {
    let is_odd = |c: char| " \t\"'\\#`".contains(c) || c.is_control();
    match value.contains(is_odd) {
        false => Cow::Borrowed(value),
        true => {
            let mut text = String::with_capacity(value.len() + 2);
            text.push('"');
            for c in value.chars() {
                match c {
                    '\\' => text.push_str(r"\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str(r"\n"),
                    '\r' => text.push_str(r"\r"),
                    c => text.push(c),
                }
            }
            text.push('"');
            Cow::Owned(text)
        }
    }
}

/// The value that `text` stands for: what [`quoted`] wrote, a value in single quotes, or one without any.
pub fn unquoted(text: &str) -> Cow<'_, str> {
    let inside = |quote| {
        let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
        Some(inner)
    };
    match (inside('"'), inside('\'')) {
        (Some(inner), _) => unescaped(inner),
        (_, Some(inner)) => Cow::Borrowed(inner),
        _ => Cow::Borrowed(text),
    }
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            value.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => value.push('\n'),
            Some('r') => value.push('\r'),
            Some(c @ ('\\' | '"')) => value.push(c),
            Some(c) => value.extend(['\\', c]),
            None => value.push('\\'),
        }
    }
    Cow::Owned(value)
}
