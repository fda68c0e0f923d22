//! Spellings of options: words behind a single dash, as the original Jay's programs take them.

use std::ffi::OsString;

use clap::Command;

/// `args` with a second dash before each long option of `command`, or of a command below it, that has one:
/// `-config-file` and `-config-file=x`. What follows `--` is no option.
pub fn with_double_dashes(
    args: impl IntoIterator<Item = OsString>,
    command: &Command,
) -> Vec<OsString> {
    let names = long_options(command);
    let mut is_over = false;
    let double = |arg: OsString| {
        is_over |= arg == "--";
        let word = arg.to_str().and_then(|text| text.strip_prefix('-'));
        let name = word.and_then(|word| word.split('=').next());
        match name.is_some_and(|name| !is_over && names.iter().any(|known| known == name)) {
            true => [OsString::from("-"), arg].into_iter().collect(),
            false => arg,
        }
    };
    args.into_iter().map(double).collect()
}

/// The names of all long options; clap adds two of them by itself.
fn long_options(command: &Command) -> Vec<String> {
    let own = command.get_arguments().flat_map(|arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long().into_iter().chain(aliases)
    });
    let below = command.get_subcommands().flat_map(long_options);
    let added = ["help", "version"].map(str::to_owned);
    own.map(str::to_owned).chain(below).chain(added).collect()
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn known_words_get_a_second_dash() {
        let below = Command::new("show").arg(Arg::new("file").long("input").alias("from"));
        let command = Command::new("jay")
            .arg(Arg::new("config").short('c').long("config-file"))
            .subcommand(below);
        for (given, expected) in [
            ("-config-file a", "--config-file a"),
            ("-config-file=-b", "--config-file=-b"),
            ("--config-file -c -other", "--config-file -c -other"),
            ("show -input a -from b", "show --input a --from b"),
            ("-help -version", "--help --version"),
            ("-- -config-file", "-- -config-file"),
        ] {
            let words = |line: &str| -> Vec<_> { line.split(' ').map(OsString::from).collect() };
            let found = with_double_dashes(words(given), &command);
            assert_eq!(found, words(expected));
        }
    }
}
