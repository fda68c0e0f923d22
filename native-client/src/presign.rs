//! Links: URLs by which anybody may do one thing to one object over S3, for a while.
//!
//! Source: AWS, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::{
    bucket::Bucket,
    config::Config,
    error::{Error, ErrorKind, Result},
};

/// What stands for itself in a URL, as SigV4 wants it.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// The same within a path.
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');
/// Longest time for which a link may hold.
const EXPIRES_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// Reads the object.
    Get,
    /// Asks what it is.
    Head,
    /// Stores it.
    Put,
    /// Deletes it.
    Delete,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        })
    }
}

impl Bucket {
    /// A URL by which whoever has it may do this to the object over S3, without credentials, until it expires. Nobody is asked.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] without the option `s3_endpoint`; [`ErrorKind::InvalidArgument`] for a time that is not 1 s to 7 days.
    ///
    /// ```
    /// use std::time::Duration;
    /// use jay_client::{Client, Config, Method};
    /// let config = Config::parse("jay://id:secret@host?s3_endpoint=https://s3.example.com")?;
    /// let bucket = Client::new(config)?.bucket("photos");
    /// let link = bucket.presign(Method::Get, "one.jpg", Duration::from_secs(3600))?;
    /// assert!(link.starts_with("https://s3.example.com/photos/one.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&"));
    /// # Ok::<_, jay_client::Error>(())
    /// ```
    pub fn presign(&self, method: Method, key: &str, expires_in: Duration) -> Result<String> {
        let now = jiff::Timestamp::now();
        let path = format!("/{}/{}", self.name(), self.full(key));
        signed(self.core.config(), method, &path, expires_in, now)
    }
}

fn signed(
    config: &Config,
    method: Method,
    path: &str,
    expires_in: Duration,
    now: jiff::Timestamp,
) -> Result<String> {
    let endpoint = config.options.s3_endpoint.trim_end_matches('/');
    let host = endpoint
        .split_once("://")
        .map(|(_, host)| host)
        .filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| {
        let message =
            "Links are for S3: say where it is by s3_endpoint, as in s3_endpoint=http://host:9000.";
        Error::new(ErrorKind::Config, message)
    })?;
    if expires_in < Duration::from_secs(1) || expires_in > EXPIRES_MAX {
        let message = "A link holds for 1 second to 7 days.";
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let (date, time) = (
        now.strftime("%Y%m%d").to_string(),
        now.strftime("%Y%m%dT%H%M%SZ"),
    );
    let scope = format!("{date}/{}/s3/aws4_request", config.options.region);
    let path = utf8_percent_encode(path, ENCODED_IN_PATH).to_string();
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={time}&X-Amz-Expires={}&X-Amz-SignedHeaders=host",
        utf8_percent_encode(&format!("{}/{scope}", config.token_id), ENCODED),
        expires_in.as_secs(),
    );
    let request = format!("{method}\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        hex(&Sha256::digest(request))
    );
    let mut signing = zeroize::Zeroizing::new(format!("AWS4{}", *config.secret).into_bytes());
    for word in [&*date, &*config.options.region, "s3", "aws4_request"] {
        *signing = hmac(&signing, word);
    }
    let signature = hex(&hmac(&signing, &to_sign));
    Ok(format!(
        "{endpoint}{path}?{query}&X-Amz-Signature={signature}"
    ))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key has any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the page that is the source of this file.
    #[test]
    fn links_are_signed_as_aws_does() {
        let url = "jay://AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI%2FK7MDENG%2FbPxRfiCYEXAMPLEKEY@h\
                   ?s3_endpoint=https://examplebucket.s3.amazonaws.com";
        let config = Config::parse(url).unwrap();
        let now = "2013-05-24T00:00:00Z".parse().unwrap();
        let day = Duration::from_secs(86_400);
        let link = signed(&config, Method::Get, "/test.txt", day, now).unwrap();
        assert_eq!(
            link,
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let config = |url| Config::parse(url).unwrap();
        let refused = |config: &Config, seconds| {
            let now = jiff::Timestamp::UNIX_EPOCH;
            let seconds = Duration::from_secs(seconds);
            signed(config, Method::Put, "/b/k", seconds, now)
                .unwrap_err()
                .kind()
        };
        assert_eq!(refused(&config("jay://id:secret@h"), 60), ErrorKind::Config);
        let config = config("jay://id:secret@h?s3_endpoint=http://h:9000");
        assert_eq!(refused(&config, 0), ErrorKind::InvalidArgument);
        assert_eq!(refused(&config, 604_801), ErrorKind::InvalidArgument);
    }
}
