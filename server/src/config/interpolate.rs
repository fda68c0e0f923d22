//! `${NAME}` and `${NAME:-default}` in the strings of a YAML file.

/// Replaces each reference in `text` by what `lookup` knows of the name: a variable that is set but empty gives the
/// empty string, an unset one its default, or else the empty string. A default ends at the first `}`; what comes out is
/// not looked at again, and what is no reference stays as it is. The errors are those of `lookup`.
pub fn interpolate<E>(
    text: &str,
    mut lookup: impl FnMut(&str) -> Result<Option<String>, E>,
) -> Result<String, E> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        match reference(rest) {
            Some((name, default, end)) => {
                out.push_str(&lookup(name)?.unwrap_or_else(|| default.to_owned()));
                rest = &rest[end..];
            }
            None => {
                out.push_str("${");
                rest = &rest[2..];
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether `text` has something that looks like a reference, right or not.
pub fn has_reference(text: &str) -> bool {
    text.contains("${")
}

/// Name, default and length of the reference that `text` begins with.
fn reference(text: &str) -> Option<(&str, &str, usize)> {
    let inner = text.strip_prefix("${")?;
    let close = inner.find('}')?;
    let (name, default) = match inner[..close].split_once(":-") {
        Some((name, default)) => (name, default),
        None => (&inner[..close], ""),
    };
    let first = |c: u8| c.is_ascii_alphabetic() || c == b'_';
    let is_name = name.bytes().next().is_some_and(first)
        && name.bytes().all(|c| first(c) || c.is_ascii_digit());
    is_name.then_some((name, default, 2 + close + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> String {
        interpolate(text, |name| {
            Ok::<_, ()>(match name {
                "SET" | "_x1" => Some("value".to_owned()),
                "EMPTY" => Some(String::new()),
                "NESTED" => Some("${SET}".to_owned()),
                _ => None,
            })
        })
        .unwrap()
    }

    #[test]
    fn references_are_replaced_once() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${SET}", "value"),
            ("a ${SET} b ${_x1}!", "a value b value!"),
            ("${SET:-other}", "value"),
            // Set but empty is not unset.
            ("[${EMPTY:-other}]", "[]"),
            ("[${UNSET}]", "[]"),
            ("${UNSET:-other}", "other"),
            ("${UNSET:-}", ""),
            ("${UNSET:-a:-b}", "a:-b"),
            // The default ends at the first brace.
            ("${UNSET:-${SET}}", "${SET}"),
            ("${NESTED}", "${SET}"),
            // No references.
            (
                "${1A} ${} ${A-b} ${ SET} $SET ${SET",
                "${1A} ${} ${A-b} ${ SET} $SET ${SET",
            ),
            ("${${SET}", "${value"),
            ("$${SET}", "$value"),
            ("é${SET}é", "évalueé"),
        ] {
            assert_eq!(expand(text), expected, "{text}");
        }
    }
}
