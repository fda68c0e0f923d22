//! Percent-encoding of paths and query strings, and the parsed query.
//!
//! Used by the router, by the signature check (which needs the canonical forms) and by listings
//! (`encoding-type=url`).

use jay_engine::ErrorKind;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::{Error, Result};

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// The same for paths, where the slash stays.
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// `text` with every byte but the unreserved ones as `%XX`.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// `text` with every byte but the unreserved ones and the slash as `%XX`.
pub(crate) fn encode_path(text: &str) -> String {
    utf8_percent_encode(text, RESERVED_IN_PATH).to_string()
}

/// Decodes a path exactly once; a plus is a plus.
pub(crate) fn decode_path(path: &str) -> Result<String> {
    decode(path, false)
}

fn decode(text: &str, plus_is_space: bool) -> Result<String> {
    let refuse = |why: &str| {
        Error::new(
            ErrorKind::InvalidURI,
            format!("Couldn't parse the specified URI: {why}."),
        )
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'%' => {
                let [high, low, tail @ ..] = rest else {
                    return Err(refuse("'%' must be followed by two hexadecimal digits"));
                };
                let (Some(high), Some(low)) = (nibble(*high), nibble(*low)) else {
                    return Err(refuse("'%' must be followed by two hexadecimal digits"));
                };
                decoded.push(high << 4 | low);
                rest = tail;
            }
            b'+' if plus_is_space => decoded.push(b' '),
            byte => decoded.push(*byte),
        }
    }
    String::from_utf8(decoded).map_err(|_| refuse("it is not UTF-8"))
}

/// The value of a hexadecimal digit.
pub(crate) fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Decodes `N` bytes of hexadecimal in either case.
pub(crate) fn decode_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut value = [0; N];
    for (byte, pair) in value.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(value)
}

/// `bytes` in lower-case hexadecimal.
pub(crate) fn encode_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The parameters of a query string, decoded, in the order received.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses what follows the question mark. A plus means a space, as in HTML forms.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self> {
        let pairs = query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name, true)?, decode(value, true)?))
        });
        decoded.collect::<Result<_>>().map(Self)
    }

    /// A query of these parameters.
    pub(crate) fn of(parameters: &[(&str, &str)]) -> Self {
        let pairs = parameters.iter();
        Self(
            pairs
                .map(|&(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether the parameter is there, with or without a value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All parameters.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether the parameter is there more than once.
    pub(crate) fn repeats(&self, name: &str) -> bool {
        self.iter().filter(|(n, _)| *n == name).count() > 1
    }

    /// The query without the parameters of these names.
    pub(crate) fn without(&self, names: &[&str]) -> Self {
        let kept = self.0.iter().filter(|(n, _)| !names.contains(&n.as_str()));
        Self(kept.cloned().collect())
    }

    /// The query as Jay's links sign it: sorted by name then value, then encoded as HTML forms do, with a
    /// plus for a space.
    pub(crate) fn canonical_form(&self) -> String {
        let mut pairs: Vec<_> = self.iter().collect();
        pairs.sort_unstable();
        // A plus of the text itself is %2B by then.
        let form = |text| encode(text).replace("%20", "+");
        let pairs: Vec<_> = pairs
            .into_iter()
            .map(|(name, value)| format!("{}={}", form(name), form(value)))
            .collect();
        pairs.join("&")
    }

    /// The query as SigV4 signs it: encoded, sorted by name then value, each with `=`.
    ///
    /// Source: S3 API, "Signature Calculations for the Authorization Header", CanonicalQueryString.
    pub(crate) fn canonical(&self) -> String {
        let mut pairs: Vec<_> = self.iter().map(|(n, v)| (encode(n), encode(v))).collect();
        pairs.sort_unstable();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("&")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_decoded_exactly_once() {
        assert_eq!(decode_path("/a%2520b+c/%C3%A9").unwrap(), "/a%20b+c/é");
        for bad in ["%", "%4", "%zz", "%+1", "%ff", "%c3%28"] {
            assert_eq!(
                decode_path(bad).unwrap_err().kind(),
                ErrorKind::InvalidURI,
                "{bad}"
            );
        }
    }

    #[test]
    fn queries_are_canonical_sorted_and_completed() {
        let query = Query::parse(Some("prefix=J&max-keys=2&acl&b=2&b=1&&q=a+b%2f")).unwrap();
        assert_eq!(
            query.canonical(),
            "acl=&b=1&b=2&max-keys=2&prefix=J&q=a%20b%2F"
        );
        assert_eq!(query.get("b"), Some("2"));
        assert!(query.has("acl") && !query.has("policy"));
        assert_eq!(Query::parse(None).unwrap().canonical(), "");
        assert!(Query::parse(Some("a=%f")).is_err());
    }

    #[test]
    fn forms_are_sorted_before_they_are_encoded() {
        let query = Query::parse(Some("n=x+y%2Bz&a=2&a=1&b%20=%C3%A9&a-=&sig=s")).unwrap();
        let form = query.without(&["sig"]).canonical_form();
        assert_eq!(form, "a=1&a=2&a-=&b+=%C3%A9&n=x+y%2Bz");
        assert!(query.repeats("a") && !query.repeats("n"));
    }

    #[test]
    fn encoded_names_decide_the_order() {
        // '-' sorts above the '%' of an encoded byte.
        let query = Query::parse(Some("a-=1&a%20=2")).unwrap();
        assert_eq!(query.canonical(), "a%20=2&a-=1");
    }

    #[test]
    fn hexadecimal_has_an_exact_length() {
        assert_eq!(decode_hex::<2>("0aFf"), Some([0x0a, 0xff]));
        assert_eq!(encode_hex(&[0x0a, 0xff]), "0aff");
        for bad in ["", "0a", "0aff0", "0afg", "+aff", "0éf"] {
            assert_eq!(decode_hex::<2>(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text in any::<String>()) {
            prop_assert_eq!(decode_path(&encode(&text)).unwrap(), text.clone());
            prop_assert_eq!(decode_path(&encode_path(&text)).unwrap(), text);
        }

        #[test]
        fn hostile_text_never_panics(text in any::<String>()) {
            let _ = decode_path(&text);
            if let Ok(query) = Query::parse(Some(&text)) {
                let again = Query::parse(Some(&query.canonical())).unwrap();
                prop_assert_eq!(again.canonical(), query.canonical());
            }
        }
    }
}
