//! What a client is told: where its server is, who it is, and how patient.

use std::{env, fmt, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::{
    error::{Error, ErrorKind, Result},
    options::Options,
};

/// The port that servers listen on unless they are told another one.
pub const PORT_DEFAULT: u16 = 4444;

/// The version of the protocol that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The first one, which sends the secret: only when it is asked for. What it has no form for is
    /// [`ErrorKind::Unsupported`] before anything is sent: ranges, conditions, copies, tags, headers beside the content type,
    /// checksums of one's own, request ids, lists of uploads, lists with metadata, bodies of parts of unknown length. A put of
    /// unknown length is gathered in memory up to `multipart_threshold` and goes in parts beyond it. Several keys are deleted
    /// or looked at by one request each. A read that breaks is not taken up again. Bodies are held against SHA-256, or MD5, as
    /// far as the server tells them of the whole.
    V1,
    /// The second one.
    #[default]
    V2,
}

/// A server, or several that are one store, and who asks it.
#[derive(Clone)]
pub struct Config {
    /// `host:port` of each; the next one is taken when one does not answer.
    pub addresses: Vec<String>,
    /// Whether TLS is spoken.
    pub is_tls: bool,
    /// A file of certificates in PEM that are trusted in place of those of the system.
    pub ca_file: Option<PathBuf>,
    /// The id of the access key.
    pub token_id: String,
    /// Its secret.
    pub secret: Zeroizing<String>,
    /// The bucket that the URL names.
    pub bucket: Option<String>,
    /// All that has a default.
    pub options: Options,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("addresses", &self.addresses)
            .field("is_tls", &self.is_tls)
            .field("token_id", &self.token_id)
            .field("bucket", &self.bucket)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

impl Config {
    /// Reads `jay://[id:secret@]host[:port][,host[:port]..][/bucket][?option=value&..]`, or `jays://` for TLS. Id and secret
    /// are percent-decoded; where there are none they are those of `JAY_TOKEN_ID` and `JAY_TOKEN_SECRET`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming what is wrong, and never the secret.
    ///
    /// ```
    /// let config = jay_client::Config::parse("jays://id:s%2Fcret@one,two:4445/photos?retries=2")?;
    /// assert_eq!(config.addresses, ["one:4444", "two:4445"]);
    /// assert_eq!((config.token_id.as_str(), config.secret.as_str()), ("id", "s/cret"));
    /// assert_eq!((config.bucket.as_deref(), config.options.retries), (Some("photos"), 2));
    /// # Ok::<_, jay_client::Error>(())
    /// ```
    pub fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| wrong("A URL of Jay begins with jay:// or jays://."))?;
        let is_tls = match scheme {
            "jay" => false,
            "jays" => true,
            other => {
                let message =
                    format!("A URL of Jay begins with jay:// or jays://, not {other}://.");
                return Err(wrong(message));
            }
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let (token_id, secret) = match user {
            Some(user) => {
                let (id, secret) = user.split_once(':').ok_or_else(|| {
                    wrong("A URL with an access key has its id, a colon and its secret.")
                })?;
                (
                    decoded(id, "id")?,
                    Zeroizing::new(decoded(secret, "secret")?),
                )
            }
            None => (
                env::var("JAY_TOKEN_ID").unwrap_or_default(),
                Zeroizing::new(env::var("JAY_TOKEN_SECRET").unwrap_or_default()),
            ),
        };
        if token_id.is_empty() || secret.is_empty() {
            return Err(wrong(
                "No access key: put id:secret@ before the host, or set JAY_TOKEN_ID and JAY_TOKEN_SECRET.",
            ));
        }
        let mut config = Self {
            addresses: hosts.split(',').map(address).collect::<Result<_>>()?,
            is_tls,
            ca_file: None,
            token_id,
            secret,
            bucket: Some(decoded(path.trim_end_matches('/'), "bucket")?)
                .filter(|name| !name.is_empty()),
            options: Options {
                s3_endpoint: env::var("JAY_S3_ENDPOINT").unwrap_or_default(),
                ..Options::default()
            },
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            config.set(key, &decoded(value, "option")?)?;
        }
        Ok(config)
    }

    /// The server that `JAY_URL` names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is not set, or wrong.
    pub fn from_env() -> Result<Self> {
        let url = env::var("JAY_URL").map(Zeroizing::new);
        Self::parse(
            &url.map_err(|_| wrong("No server: set JAY_URL, as in jay://id:secret@host:4444."))?,
        )
    }

    /// Sets an option by its name.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there is no such option, naming the nearest one, or its value makes no sense.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "ca_file" => self.ca_file = Some(value.into()),
            _ => self.options.set(key, value)?,
        }
        Ok(())
    }

    /// How long connections are waited for.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.options.connect_timeout
    }
}

fn decoded(text: &str, what: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let text = decoded.map_err(|_| wrong(format!("The {what} in the URL is no UTF-8.")))?;
    Ok(text.into_owned())
}

fn address(host: &str) -> Result<String> {
    if host.is_empty() {
        return Err(wrong(
            "A URL names a host, as in jay://id:secret@host:4444.",
        ));
    }
    // An IPv6 address stands in brackets.
    let has_port = match host.rsplit_once(':') {
        Some((before, port)) => {
            let is_whole = !before.contains(':') || before.ends_with(']');
            if is_whole && port.parse::<u16>().is_err() {
                return Err(wrong(format!(
                    "The port in the URL is no number below 65536: {port}."
                )));
            }
            is_whole
        }
        None => false,
    };
    Ok(match has_port {
        true => host.to_owned(),
        false => format!("{host}:{PORT_DEFAULT}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        let error = Config::parse(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!error.to_string().contains("geheim"), "{error}");
        error.message().to_owned()
    }

    #[test]
    fn urls_are_taken_apart() {
        let config = Config::parse("jay://id:geheim@[::1]").unwrap();
        assert_eq!(config.addresses, ["[::1]:4444"]);
        assert_eq!((config.is_tls, config.bucket.as_deref()), (false, None));
        let config = Config::parse("jay://i%3Ad:a:b@h:1/").unwrap();
        assert_eq!(
            (config.token_id.as_str(), config.secret.as_str()),
            ("i:d", "a:b")
        );
        assert!(!format!("{config:?}").contains("a:b"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refused("http://id:geheim@h").contains("not http://"));
        assert!(refused("id:geheim@h").contains("jay://"));
        assert!(refused("jay://geheim@h").contains("a colon"));
        assert!(refused("jay://id:geheim@h:99999").contains("99999"));
        assert!(refused("jay://id:geheim@").contains("host"));
        assert!(refused("jay://id:geheim@h?retrys=1").contains("did you mean retries"));
        assert!(refused("jay://id:geheim@h?retries=many").contains("retries"));
    }
}
