//! What the values of settings are: which texts and which YAML are accepted, and in which one form they are compared.
//!
//! The table names a [`Kind`] for each setting; [`super::values`] and `jay-config` ask it. Absent on purpose: anything
//! that needs the network or a disk, so that a check has the same answer everywhere.

use jay_engine::BucketName;

use super::{
    address::{self, Origin, TrustedProxies},
    yaml::Node,
};

/// Shortest admin token and signing secret, in bytes.
pub const SECRET_BYTES_MIN: usize = 32;

/// What a setting may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// The path of a PEM file.
    PemFile,
    /// A secret of at least [`SECRET_BYTES_MIN`] bytes.
    LongSecret,
    /// `HOST:PORT`, or `:PORT` for every interface.
    Address,
    /// A level of the log; what is not one counts as `info`.
    LogLevel,
    /// Yes or no.
    Flag,
    /// A whole number within bounds.
    Whole {
        /// The least that is accepted.
        least: u64,
        /// The most that is accepted.
        most: u64,
    },
    /// A whole number of any sign.
    Signed,
    /// A number.
    Decimal,
    /// A share of the whole, up to 1.
    Share {
        /// Whether it may be 0.
        may_be_zero: bool,
    },
    /// Yes, no, or networks.
    Proxies,
    /// Names of buckets.
    Buckets,
    /// Names of hosts.
    Domains,
    /// The name of a region.
    Region,
    /// `http(s)://HOST[:PORT]`.
    Origin,
}

/// Why a text is no value of a kind: a predicate, to be put behind the name of the setting. It repeats no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not even a number: an error of the log in a variable, a refusal in YAML.
    NotANumber(String),
    /// A number out of bounds: an error of the log; the setting stays what it was.
    OutOfRange(String),
    /// No start is possible with it.
    Refused(String),
}

impl Fault {
    /// The predicate.
    pub fn text(&self) -> &str {
        match self {
            Self::NotANumber(text) | Self::OutOfRange(text) | Self::Refused(text) => text,
        }
    }
}

impl Kind {
    /// A whole number from `least` to `most`.
    pub const fn whole(least: u64, most: u64) -> Self {
        Self::Whole { least, most }
    }

    /// Whether its values are numbers.
    pub fn is_number(self) -> bool {
        matches!(
            self,
            Self::Whole { .. } | Self::Signed | Self::Decimal | Self::Share { .. }
        )
    }

    fn is_list(self) -> bool {
        matches!(self, Self::Proxies | Self::Buckets | Self::Domains)
    }

    /// The canonical form of `text`, which is not empty; two texts that mean the same have the same.
    pub fn canonical(self, text: &str) -> Result<String, Fault> {
        let refused = |why: String| Fault::Refused(format!("is {text:?}: {why}"));
        match self {
            Self::Text | Self::LogLevel => Ok(text.to_owned()),
            // What somebody put here in place of its file may be a private key.
            Self::PemFile if text.contains("-----BEGIN") => Err(Fault::Refused(
                "holds PEM itself: write that into a file and give the file's path".into(),
            )),
            Self::PemFile => Ok(text.to_owned()),
            Self::LongSecret => long_secret(text),
            Self::Address => address::split(text)
                .map(|_| text.to_owned())
                .map_err(|why| refused(format!("{why}; {}", address::HELP))),
            Self::Flag => flag(text)
                .map(|flag| flag.to_string())
                .ok_or_else(|| refused("it is 1 or 0".into())),
            Self::Whole { .. } | Self::Signed | Self::Decimal | Self::Share { .. } => {
                self.number(text)
            }
            Self::Proxies => match text.parse::<TrustedProxies>() {
                Ok(proxies) => Ok(proxies.to_string()),
                Err(why) => Err(refused(why)),
            },
            Self::Buckets => match items(text)
                .find_map(|name| BucketName::parse(name).err().map(|why| (name, why)))
            {
                None => Ok(items(text).collect::<Vec<_>>().join(",")),
                Some((name, why)) => Err(Fault::Refused(format!("holds {name:?}: {why}"))),
            },
            Self::Domains => domains(text).map(|domains| domains.join(",")),
            Self::Region => match text
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c))
            {
                true => Ok(text.to_owned()),
                false => Err(refused(
                    "a region is made of letters, digits and hyphens, such as us-east-1".into(),
                )),
            },
            Self::Origin => match text.parse::<Origin>() {
                Ok(origin) => Ok(origin.to_string()),
                // Before an @ there may be a password.
                Err(why) if text.contains('@') => {
                    Err(Fault::Refused(format!("names a user: {why}")))
                }
                Err(why) => Err(refused(why)),
            },
        }
    }

    fn number(self, text: &str) -> Result<String, Fault> {
        let out_of_range = |why: String| Err(Fault::OutOfRange(why));
        match self {
            Self::Whole { least, most } => match text.parse::<i128>() {
                Ok(number) if (i128::from(least)..=i128::from(most)).contains(&number) => {
                    Ok(number.to_string())
                }
                Ok(_) if most == u64::MAX => out_of_range(format!("must be at least {least}")),
                Ok(_) => out_of_range(format!("must be from {least} to {most}")),
                Err(_) => Err(Fault::NotANumber("must be a whole number".into())),
            },
            Self::Signed => match text.parse::<i128>() {
                Ok(number) if i64::try_from(number).is_ok() => Ok(number.to_string()),
                Ok(_) => out_of_range("must fit 64 bits".into()),
                Err(_) => Err(Fault::NotANumber("must be a whole number".into())),
            },
            Self::Share { may_be_zero } => match text.parse::<f64>() {
                Ok(share) if share > 0.0 && share <= 1.0 || may_be_zero && share == 0.0 => {
                    Ok(decimal(share))
                }
                Ok(_) if may_be_zero => out_of_range("must be from 0 to 1".into()),
                Ok(_) => out_of_range("must be above 0 and at most 1".into()),
                Err(_) => Err(Fault::NotANumber("must be a number".into())),
            },
            _ => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(decimal(number)),
                Ok(_) => out_of_range("must be finite".into()),
                Err(_) => Err(Fault::NotANumber("must be a number".into())),
            },
        }
    }

    /// The text that a variable would hold for the YAML `node`, each of its strings handed through `strings` first;
    /// else why the node has the wrong type, as a predicate.
    pub fn text_of<E: From<String>>(
        self,
        node: &Node,
        strings: &mut dyn FnMut(&str) -> Result<String, E>,
    ) -> Result<String, E> {
        let wrong = |what: &str| Err(E::from(what.to_owned()));
        match node {
            Node::Null => wrong("is null: give it a value, or remove the line"),
            Node::Map(_) => wrong("is a map where a single value belongs"),
            Node::Text(text) => strings(text),
            Node::List(list) if self.is_list() => {
                let mut texts = Vec::new();
                for item in list {
                    match item {
                        Node::Text(text) => texts.push(strings(text)?),
                        _ => return wrong("holds an item that is not a string: put it in quotes"),
                    }
                }
                Ok(texts.join(","))
            }
            Node::List(_) => wrong("is a list where a single value belongs"),
            Node::Bool(flag) if matches!(self, Self::Flag | Self::Proxies) => Ok(flag.to_string()),
            Node::Integer(number) if self.is_number() => Ok(number.to_string()),
            Node::Float(number) if self.is_number() => Ok(decimal(*number)),
            Node::Bool(_) if self.is_number() => wrong("is a boolean where a number belongs"),
            Node::Integer(_) | Node::Float(_) if self == Self::Flag => {
                wrong("is a number where true or false belongs")
            }
            _ => wrong("is not a string: put it in quotes"),
        }
    }
}

/// `number` without an exponent, whole ones without a point.
fn decimal(number: f64) -> String {
    // -0 would be another text for the same value.
    (number + 0.0).to_string()
}

/// What `text` means where a yes or no is asked for.
pub fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "yes" | "on" => Some(true),
        "" | "0" | "f" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// The parts of a list, which commas separate.
pub fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// The host names in `text`, in lower case and without outer dots.
pub fn domains(text: &str) -> Result<Vec<String>, Fault> {
    let domains: Vec<String> = items(text)
        .map(|domain| domain.trim_matches('.').to_ascii_lowercase())
        .filter(|domain| !domain.is_empty())
        .collect();
    let plain = |domain: &&String| {
        domain
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c))
    };
    match domains.iter().find(|domain| !plain(domain)) {
        Some(domain) => Err(Fault::Refused(format!(
            "holds {domain:?}: give host names without scheme and port, separated by commas"
        ))),
        None => Ok(domains),
    }
}

fn long_secret(text: &str) -> Result<String, Fault> {
    match text.len() {
        0 => Err(Fault::Refused(format!(
            "is set but empty: give it at least {SECRET_BYTES_MIN} bytes (openssl rand -hex 32), or unset it"
        ))),
        bytes if bytes < SECRET_BYTES_MIN => Err(Fault::Refused(format!(
            "has {bytes} bytes: give it at least {SECRET_BYTES_MIN} (openssl rand -hex 32)"
        ))),
        _ => Ok(text.to_owned()),
    }
}
