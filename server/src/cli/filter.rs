//! Which files of a tree are meant: `--include` and `--exclude`, as the AWS CLI has them. All are, until a pattern says
//! otherwise; of those that fit the last one decides.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::Error};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In the order of the command line; whether what fits is in.
    rules: Vec<(bool, Vec<char>)>,
}

impl Filter {
    /// Whether the file of this path below the root of the tree is meant.
    pub fn takes(&self, path: &str) -> bool {
        let mut rules = self.rules.iter().rev();
        rules
            .find(|(_, pattern)| fits(pattern, path))
            .is_none_or(|(is_in, _)| *is_in)
    }

    /// Whether it takes everything.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// Whether `*` (anything, slashes too), `?` (one character) and `[a-z]`, `[!a-z]` (one of these, none of these) make `text`.
fn fits(pattern: &[char], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and what it has taken so far: the one place where another choice is left.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            p += 1;
            star = Some((p, t));
        } else if let Some(length) = fits_one(&pattern[p..], text[t]) {
            (p, t) = (p + length, t + 1);
        } else if let Some((behind, taken)) = star {
            (p, t) = (behind, taken + 1);
            star = Some((behind, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// The length of what a pattern begins with, when that makes `c`.
fn fits_one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        // A bracket that nothing closes is one.
        '[' => match set_end(pattern) {
            Some(end) => set_has(&pattern[1..end], c).then_some(end + 1),
            None => (c == '[').then_some(1),
        },
        &other => (other == c).then_some(1),
    }
}

/// Where the set that a pattern begins with is closed; a bracket that is its first member does not.
fn set_end(pattern: &[char]) -> Option<usize> {
    let first = if pattern.get(1) == Some(&'!') { 2 } else { 1 };
    let behind = pattern.get(first + 1..)?;
    Some(first + 1 + behind.iter().position(|&c| c == ']')?)
}

fn set_has(set: &[char], c: char) -> bool {
    let (is_negated, mut members) = match set {
        ['!', rest @ ..] => (true, rest),
        _ => (false, set),
    };
    let mut has = false;
    while let [first, rest @ ..] = members {
        (has, members) = match rest {
            ['-', last, rest @ ..] => (has | (first..=last).contains(&&c), rest),
            _ => (has | (*first == c), rest),
        };
    }
    has != is_negated
}

const RULES: [(&str, &str); 2] = [
    (
        "exclude",
        "Leave out what fits; of several patterns the last one that fits decides",
    ),
    (
        "include",
        "Take what fits though an earlier pattern leaves it out",
    ),
];

// The order between the two options matters, which is why they are not derived.
impl Args for Filter {
    fn augment_args(command: Command) -> Command {
        RULES.iter().fold(command, |command, (name, help)| {
            let arg = Arg::new(*name)
                .long(*name)
                .value_name("PATTERN")
                .action(ArgAction::Append)
                .help(*help);
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Filter {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut found = Vec::new();
        for (name, _) in RULES {
            let values = matches.get_many::<String>(name).into_iter().flatten();
            let indices = matches.indices_of(name).into_iter().flatten();
            found.extend(indices.zip(values).map(|(at, value)| (at, name, value)));
        }
        found.sort();
        let rules = found
            .into_iter()
            .map(|(_, name, pattern)| (name == "include", pattern.chars().collect()));
        Ok(Self {
            rules: rules.collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    fn filter(line: &str) -> Filter {
        Line::parse_from(std::iter::once("x").chain(line.split_whitespace())).filter
    }

    #[test]
    fn the_last_pattern_that_fits_decides() {
        assert!(filter("").takes("a"));
        let only = filter("--exclude * --include *.txt --exclude b/*");
        assert!(only.takes("a.txt") && only.takes("c/a.txt"));
        assert!(!only.takes("a.png") && !only.takes("b/a.txt"));
        assert!(!filter("--include *.txt --exclude *").takes("a.txt"));
    }

    #[test]
    fn patterns_are_those_of_a_shell() {
        let fits = |pattern: &str, text| super::fits(&pattern.chars().collect::<Vec<_>>(), text);
        for (pattern, text) in [
            ("*", ""),
            ("a*c", "a/b/c"),
            ("**c*", "abc"),
            ("?ä", "xä"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]]x", "]x"),
            ("[a-]", "-"),
            ("a[b", "a[b"),
            ("*ab*ab", "abab-ab"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("?", "ab"),
            ("[a-c]", "d"),
            ("[!a-c]", "b"),
            ("a*c", "ab"),
            ("*.txt", "txt"),
            ("A", "a"),
        ] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    proptest! {
        /// Against the definition, which tries everything.
        #[test]
        fn stars_find_what_there_is_to_find(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            fn slowly(pattern: &[char], text: &[char]) -> bool {
                match pattern {
                    [] => text.is_empty(),
                    ['*', rest @ ..] => (0..=text.len()).any(|n| slowly(rest, &text[n..])),
                    [c, rest @ ..] => match text {
                        [first, behind @ ..] => (c == first || *c == '?') && slowly(rest, behind),
                        [] => false,
                    },
                }
            }
            let pattern: Vec<char> = pattern.chars().collect();
            prop_assert_eq!(fits(&pattern, &text), slowly(&pattern, &text.chars().collect::<Vec<_>>()));
        }
    }
}
