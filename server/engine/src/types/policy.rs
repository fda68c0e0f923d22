//! Bucket policies, in Jay's form: who may or may not do what in a bucket, beyond what its owner's tokens may.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    auth::Action,
    error::{Error, ErrorKind, Result},
};

/// Longest policy, in bytes of JSON (as S3).
pub const POLICY_BYTES_MAX: usize = 20 << 10;
/// The one version of the form.
pub const POLICY_VERSION: &str = "2024-01-01";

/// A bucket policy. A request is refused when a deny statement matches it, whatever else allows it; it is allowed
/// when the caller's account owns the bucket, or when an allow statement matches. The order does not matter.
///
/// ```
/// use jay_engine::Policy;
///
/// let policy = Policy::parse(br#"{"version": "2024-01-01", "statements": [{
///     "effect": "allow", "actions": ["object:get", "object:list"], "prefixes": ["public/"],
///     "subjects": ["*"], "conditions": {"ip_whitelist": ["10.0.0.0/8"]}}]}"#)?;
/// assert_eq!(policy.statements[0].prefixes, ["public/"]);
/// assert!(Policy::parse(br#"{"version": "2024-01-01", "statements": [], "typo": 1}"#).is_err());
/// # Ok::<_, jay_engine::Error>(())
/// ```
///
/// Source: the original Jay, whose policies could only deny.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// `2024-01-01`.
    #[serde(deserialize_with = "known_version")]
    pub version: String,
    /// The statements.
    pub statements: Vec<Statement>,
    /// The text that it was made of, when its owner wrote it in another form: kept to be shown again, and never read.
    #[serde(skip)]
    pub document: Option<String>,
}

/// One statement of a [`Policy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// What it is called, for its owner's eyes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Whether it allows or denies.
    pub effect: Effect,
    /// What is allowed or denied.
    pub actions: Vec<Grant>,
    /// Only keys, and listings, below one of these; empty: everything in the bucket, and the bucket itself.
    #[serde(default)]
    pub prefixes: Vec<String>,
    /// Token ids, account ids, or `*` for everybody, with or without a token. Empty: nobody.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// When it holds.
    #[serde(default, skip_serializing_if = "PolicyConditions::is_empty")]
    pub conditions: PolicyConditions,
}

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It lets in.
    Allow,
    /// It keeps out.
    Deny,
}

/// When a statement holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConditions {
    /// Only for callers from these networks (CIDR, or a single address); empty: from anywhere.
    #[serde(
        default,
        deserialize_with = "networks",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ip_whitelist: Vec<IpNet>,
}

/// An entry of a list of allowed actions: one of Jay's names, or `*` for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// `*`.
    All,
    /// One.
    One(Action),
}

impl Grant {
    /// Reads a name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`], naming what there is.
    pub fn parse(name: &str) -> Result<Self> {
        if name == "*" {
            return Ok(Self::All);
        }
        let known = Action::NAMED.iter().find(|action| action.name() == name);
        known.copied().map(Self::One).ok_or_else(|| {
            let names: Vec<_> = Action::NAMED.iter().map(|action| action.name()).collect();
            let all = names.join(", ");
            Error::new(
                ErrorKind::InvalidArgument,
                format!("There is no action {name:?}: there are {all} and *."),
            )
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::One(action) => action.name(),
        }
    }

    /// Whether it takes this action in.
    pub fn covers(self, action: Action) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one.name() == action.name(),
        }
    }
}

impl Policy {
    /// Reads a policy from JSON.
    ///
    /// # Errors
    /// [`ErrorKind::MalformedPolicy`], naming what is wrong and where; nothing is ever ignored.
    pub fn parse(json: &[u8]) -> Result<Self> {
        if json.len() > POLICY_BYTES_MAX {
            let why = format!("it has more than {POLICY_BYTES_MAX} bytes");
            return Err(malformed(&why));
        }
        let policy: Self = serde_json::from_slice(json).map_err(|e| malformed(&e.to_string()))?;
        policy.check()?;
        Ok(policy)
    }

    /// Refuses statements that could never match: who wrote them meant something else.
    ///
    /// # Errors
    /// [`ErrorKind::MalformedPolicy`], naming the statement.
    pub fn check(&self) -> Result<()> {
        for (i, statement) in self.statements.iter().enumerate() {
            let empty = match statement {
                s if s.actions.is_empty() => "actions",
                s if s.subjects.is_empty() => "subjects",
                _ => continue,
            };
            let why = format!("statement {} has no {empty}, so it would never hold", i + 1);
            return Err(malformed(&why));
        }
        let document = self.document.as_deref().unwrap_or_default();
        // What is stored has a length of two bytes.
        match self.to_json().len().max(document.len()) <= 2 * POLICY_BYTES_MAX {
            true => Ok(()),
            false => Err(malformed("it is too long")),
        }
    }

    /// The policy as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and lists are JSON")
    }
}

fn malformed(why: &str) -> Error {
    Error::new(
        ErrorKind::MalformedPolicy,
        format!("The policy is not valid: {why}."),
    )
}

impl Effect {
    /// `allow` or `deny`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl FromStr for Effect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "allow" => Ok(Self::Allow),
            "deny" => Ok(Self::Deny),
            _ => Err(format!("the effect {text:?} is neither allow nor deny")),
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Effect {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Effect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|error| de::Error::custom(error.context()))
    }
}

impl PolicyConditions {
    fn is_empty(&self) -> bool {
        self.ip_whitelist.is_empty()
    }
}

fn known_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let version = String::deserialize(deserializer)?;
    match version == POLICY_VERSION {
        true => Ok(version),
        false => Err(de::Error::custom(format!(
            "the version {version:?} is not {POLICY_VERSION:?}"
        ))),
    }
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.is_empty() {
        // Whoever empties the list would let in or keep out everybody.
        return Err(de::Error::custom(
            "an ip_whitelist without networks: leave it out to mean everywhere",
        ));
    }
    let network = |text: &String| {
        parse_network(text)
            .ok_or_else(|| de::Error::custom(format!("{text:?} is no network, such as 10.0.0.0/8")))
    };
    texts.iter().map(network).collect()
}

/// Reads a network, or a single address. One of IPv4 written in IPv6 is that of IPv4, as the addresses of callers are:
/// else it would hold for nobody.
pub fn parse_network(text: &str) -> Option<IpNet> {
    let whole = |address: IpAddr| IpNet::from(address);
    let parsed = text.parse::<IpNet>().map(|network| network.trunc());
    let network = parsed.or_else(|_| text.parse().map(whole)).ok()?;
    let bits = network.prefix_len().checked_sub(MAPPED_BITS);
    match (network.network().to_canonical(), bits) {
        (address @ IpAddr::V4(_), Some(bits)) if network.network().is_ipv6() => {
            IpNet::new(address, bits).ok()
        }
        _ => Some(network),
    }
}

/// Bits in front of an IPv4 address that is written in IPv6 (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        let error = Policy::parse(json.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MalformedPolicy);
        error.context().to_owned()
    }

    fn with(statement: &str) -> String {
        format!(r#"{{"version":"2024-01-01","statements":[{statement}]}}"#)
    }

    #[test]
    fn what_is_read_is_what_is_written() {
        let json = with(
            r#"{"sid":"a","effect":"deny","actions":["*","object:get"],"prefixes":["p/"],"subjects":["t"],"conditions":{"ip_whitelist":["10.0.0.0/8","::1/128"]}}"#,
        );
        assert_eq!(Policy::parse(json.as_bytes()).unwrap().to_json(), json);
        let least = with(r#"{"effect":"ALLOW","actions":["object:get"],"subjects":["*"]}"#);
        let policy = Policy::parse(least.as_bytes()).unwrap();
        assert_eq!(policy.statements[0].effect, Effect::Allow);
        assert_eq!(Policy::parse(policy.to_json().as_bytes()).unwrap(), policy);
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for (json, why) in [
            (
                r#"{"version":"2012-10-17","statements":[]}"#.into(),
                "2012-10-17",
            ),
            (r#"{"statements":[]}"#.into(), "version"),
            (
                with(r#"{"effect":"maybe","actions":["*"],"subjects":["*"]}"#),
                "maybe",
            ),
            (
                with(r#"{"effect":"allow","actions":["object:read"],"subjects":["*"]}"#),
                "object:read",
            ),
            (
                with(r#"{"effect":"allow","actions":[],"subjects":["*"]}"#),
                "statement 1 has no actions",
            ),
            (
                with(r#"{"effect":"allow","actions":["*"]}"#),
                "statement 1 has no subjects",
            ),
            (
                with(r#"{"effect":"allow","actions":["*"],"subjects":["*"],"prefix":["x"]}"#),
                "prefix",
            ),
            (
                with(
                    r#"{"effect":"allow","actions":["*"],"subjects":["*"],"conditions":{"ip_whitelist":["10.0.0.0/33"]}}"#,
                ),
                "10.0.0.0/33",
            ),
            (
                with(
                    r#"{"effect":"deny","actions":["*"],"subjects":["*"],"conditions":{"ip_whitelist":[]}}"#,
                ),
                "without networks",
            ),
            (
                with(
                    r#"{"effect":"deny","actions":["*"],"subjects":["*"],"conditions":{"time":"noon"}}"#,
                ),
                "time",
            ),
            (
                format!("{{\"version\":\"{}\"}}", "x".repeat(POLICY_BYTES_MAX)),
                "bytes",
            ),
            (String::new(), "EOF"),
        ] {
            let refusal = refusal(&json);
            assert!(refusal.contains(why), "{refusal}");
        }
    }

    #[test]
    fn single_addresses_and_sloppy_networks() {
        let text = |text| parse_network(text).map(|network| network.to_string());
        assert_eq!(text("10.1.2.3").as_deref(), Some("10.1.2.3/32"));
        assert_eq!(text("::1").as_deref(), Some("::1/128"));
        assert_eq!(text("::ffff:10.1.2.3").as_deref(), Some("10.1.2.3/32"));
        assert_eq!(text("10.1.2.3/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(text("::ffff:10.1.2.3/104").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(text("::ffff:0:0/96").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(text("::/0").as_deref(), Some("::/0"));
        assert_eq!(text("::ffff:0:0/95").as_deref(), Some("::fffe:0:0/95"));
        for bad in [
            "",
            "10.0.0",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "::/129",
            "localhost",
        ] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }
}
