//! The one table of options: name, type, default and meaning, for all languages.

use std::time::Duration;

use crate::{
    config::Protocol,
    error::{Error, ErrorKind, Result},
};

/// An option, as bindings see it.
#[derive(Clone, Copy, Debug)]
pub struct OptionRow {
    /// Its name, as in URLs.
    pub name: &'static str,
    /// What its value is: `bytes`, `count`, `duration`, `flag`, `protocol`, `text`.
    pub kind: &'static str,
    /// Its default, as it would be written.
    pub default: &'static str,
    /// What it is for, in a sentence.
    pub meaning: &'static str,
}

/// Text that an option can be read from.
trait Value: Sized {
    const KIND: &'static str;

    fn read(text: &str) -> Option<Self>;
}

impl Value for u32 {
    const KIND: &'static str = "count";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// Bytes.
impl Value for u64 {
    const KIND: &'static str = "bytes";

    fn read(text: &str) -> Option<Self> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match &text[digits.len()..] {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        digits.parse::<u64>().ok()?.checked_mul(unit)
    }
}

/// Seconds, or with a unit.
impl Value for Duration {
    const KIND: &'static str = "duration";

    fn read(text: &str) -> Option<Self> {
        let (digits, unit) = match text {
            _ if text.ends_with("ms") => (text.trim_end_matches("ms"), 1e-3),
            _ => (text.trim_end_matches('s'), 1.0),
        };
        let number: f64 = digits.parse().ok()?;
        Self::try_from_secs_f64(number * unit).ok()
    }
}

impl Value for bool {
    const KIND: &'static str = "flag";

    fn read(text: &str) -> Option<Self> {
        match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }
}

/// Itself.
impl Value for String {
    const KIND: &'static str = "text";

    fn read(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Value for Protocol {
    const KIND: &'static str = "protocol";

    fn read(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(Self::V1),
            "v2" => Some(Self::V2),
            _ => None,
        }
    }
}

macro_rules! options {
    ($($name:ident: $type:ty = $default:literal, $meaning:literal;)+) => {
        /// All that has a default. Later versions may have more.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct Options {
            $(#[doc = $meaning] pub $name: $type,)+
        }

        impl Default for Options {
            fn default() -> Self {
                Self { $($name: Value::read($default).expect("defaults can be read"),)+ }
            }
        }

        impl Options {
            /// The table.
            pub const TABLE: &[OptionRow] = &[$(OptionRow {
                name: stringify!($name), kind: <$type as Value>::KIND, default: $default, meaning: $meaning,
            },)+];

            /// Sets an option by its name.
            ///
            /// # Errors
            /// [`ErrorKind::Config`] when there is no such option, naming the nearest one, or its value makes no sense.
            pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
                match key {
                    $(stringify!($name) => {
                        self.$name = Value::read(value).ok_or_else(|| unreadable(key, <$type as Value>::KIND))?;
                    })+
                    _ => return Err(unknown(key)),
                }
                Ok(())
            }
        }
    };
}

options! {
    protocol: Protocol = "v2",
        "The version of the protocol: v2, or v1, which sends the secret and has less.";
    connect_timeout: Duration = "5s",
        "How long one attempt to connect may take, handshake included.";
    idle_timeout: Duration = "30s",
        "How long nothing may come from the server while something is waited for. There is no limit on the whole.";
    pool_timeout: Duration = "30s",
        "How long a request waits for a connection.";
    connections_max: u32 = "64",
        "Most connections at a time, those that many small requests share and those of large bodies together.";
    retries: u32 = "4",
        "How often a request is sent again that may be.";
    retry_base: Duration = "100ms",
        "The first pause before a retry is up to this long; it doubles with each.";
    retry_max: Duration = "5s",
        "No pause before a retry is longer.";
    retry_budget: u32 = "20",
        "Most retries for each hundred requests.";
    multipart_threshold: u64 = "16MiB",
        "What is longer is uploaded in parts.";
    part_size: u64 = "8MiB",
        "The size of a part; it grows where there would be more than 10,000.";
    concurrency: u32 = "8",
        "Parts of one transfer that are on their way at a time.";
    s3_endpoint: String = "",
        "Where the same store speaks S3, for links, as in http://host:9000.";
    region: String = "us-east-1",
        "The region that links name.";
    verify: bool = "true",
        "Whether what is read is held against its checksums.";
}

fn unreadable(key: &str, kind: &str) -> Error {
    let example = match kind {
        "bytes" => "a number of bytes, as in 8MiB",
        "count" => "a whole number",
        "duration" => "a time, as in 5s or 100ms",
        "flag" => "true or false",
        _ => "v1 or v2",
    };
    Error::new(ErrorKind::Config, format!("The option {key} is {example}."))
}

fn unknown(key: &str) -> Error {
    let nearest = Options::TABLE
        .iter()
        .min_by_key(|row| distance(row.name, key))
        .map_or("", |row| row.name);
    // Whatever was given for one may be anything, so it is cut.
    let shown: String = key.chars().take(40).collect();
    let message = format!("There is no option {shown}; did you mean {nearest}?");
    Error::new(ErrorKind::Config, message)
}

/// How many characters have to be changed, added or left out to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_set_by_name() {
        let mut options = Options::default();
        for (key, value) in [
            ("part_size", "16MiB"),
            ("idle_timeout", "0.5"),
            ("verify", "false"),
        ] {
            options.set(key, value).unwrap();
        }
        assert_eq!(options.part_size, 16 << 20);
        assert_eq!(options.idle_timeout, Duration::from_millis(500));
        assert!(!options.verify);
        for (key, value) in [
            ("part_size", "8 miles"),
            ("retries", "-1"),
            ("connect_timeout", "soon"),
        ] {
            let error = options.set(key, value).unwrap_err();
            assert!(error.message().contains(key), "{error}");
        }
    }

    #[test]
    fn the_nearest_name_is_said() {
        assert_eq!(distance("kitten", "sitting"), 3);
        let error = Options::default().set("idle_time_out", "1").unwrap_err();
        assert!(error.message().contains("idle_timeout"), "{error}");
    }

    #[test]
    fn the_readme_has_the_table() {
        let readme = include_str!("../README.md");
        for row in Options::TABLE {
            let default = match row.default {
                "" => String::new(),
                default => format!("`{default}` "),
            };
            let line = format!("| `{}` | {default}| {} |", row.name, row.meaning);
            assert!(readme.contains(&line), "{line}");
        }
    }

    #[test]
    fn the_table_is_whole() {
        for row in Options::TABLE {
            let mut options = Options::default();
            options.set(row.name, row.default).unwrap();
            assert_eq!(options, Options::default(), "{}", row.name);
            assert!(row.meaning.ends_with('.'));
        }
    }
}
