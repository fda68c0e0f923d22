//! Spellings of options: words behind a single dash, as the original Jay's programs take them.

use std::ffi::OsString;

/// `args` with a second dash before each of the long options `names` that has one: `-config-file` and
/// `-config-file=x`. What follows `--` is no option.
pub fn with_double_dashes(
    args: impl IntoIterator<Item = OsString>,
    names: &[&str],
) -> Vec<OsString> {
    let mut is_over = false;
    let double = |arg: OsString| {
        is_over |= arg == "--";
        let is_known = |text: &str| {
            let word = text.strip_prefix('-')?;
            let name = word.split('=').next()?;
            names
                .contains(&name)
                .then(|| OsString::from(format!("-{text}")))
        };
        match arg.to_str().filter(|_| !is_over).and_then(is_known) {
            Some(doubled) => doubled,
            None => arg,
        }
    };
    args.into_iter().map(double).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_get_a_second_dash() {
        let given = [
            "jay",
            "-config-file",
            "a",
            "-config-file=b",
            "--config-file",
            "-c",
            "-other",
            "--",
            "-config-file",
        ];
        let expected = [
            "jay",
            "--config-file",
            "a",
            "--config-file=b",
            "--config-file",
            "-c",
            "-other",
            "--",
            "-config-file",
        ];
        let found = with_double_dashes(given.map(OsString::from), &["config-file"]);
        assert_eq!(found, expected.map(OsString::from));
    }
}
