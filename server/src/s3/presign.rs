//! Makes links: the counterpart of [`super::link`] and [`super::sigv4::presigned`], which check them.
//!
//! Called by the admin front. The engine signs; no secret comes here.

use http::{Method, Request, header};
use jay_engine::{BucketName, Engine, ErrorKind, Link, ObjectKey};
use jiff::{SignedDuration, Timestamp};

use super::{sigv4::presigned, uri};

/// A link to be made.
pub(crate) struct Presign<'a> {
    /// The token whose rights it carries.
    pub(crate) token_id: &'a str,
    /// The only method that it serves.
    pub(crate) method: Method,
    /// The bucket.
    pub(crate) bucket: &'a BucketName,
    /// The key; `None`: the bucket itself.
    pub(crate) key: Option<&'a ObjectKey>,
    /// How long it holds, in seconds.
    pub(crate) seconds: u64,
    /// Whose form it has.
    pub(crate) style: Style<'a>,
}

/// The form of a link.
#[derive(Clone, Copy)]
pub(crate) enum Style<'a> {
    /// Jay's own: `X-Jay-Signature`.
    Jay,
    /// AWS Signature Version 4: `X-Amz-Signature`.
    SigV4 {
        /// The region in its scope.
        region: &'a str,
    },
}

impl Presign<'_> {
    /// The URL, below `base`, which is scheme and authority.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidAccessKeyId`] when the token cannot be used.
    pub(crate) fn url(
        &self,
        engine: &Engine,
        base: &str,
        now: Timestamp,
    ) -> jay_engine::Result<String> {
        match self.style {
            Style::Jay => self.jay(engine, base, now),
            Style::SigV4 { region } => self.sigv4(engine, base, region, now),
        }
    }

    /// The path, not encoded.
    fn path(&self) -> String {
        match self.key {
            Some(key) => format!("/{}/{key}", self.bucket),
            None => format!("/{}", self.bucket),
        }
    }

    fn jay(&self, engine: &Engine, base: &str, now: Timestamp) -> jay_engine::Result<String> {
        engine.must_be_usable(self.token_id)?;
        let path = self.path();
        let seconds = SignedDuration::from_secs(self.seconds.cast_signed());
        let expires = now.checked_add(seconds).unwrap_or(Timestamp::MAX);
        let expires = expires.as_second().to_string();
        let signature = engine.sign_link(Link {
            token_id: self.token_id,
            method: self.method.as_str(),
            path: &path,
            canonical_query: "",
            expires: &expires,
        });
        Ok(format!(
            "{base}{}?X-Jay-Expires={expires}&X-Jay-Signature={signature}&X-Jay-Token={}",
            uri::encode_path(&path),
            uri::encode(self.token_id),
        ))
    }

    fn sigv4(
        &self,
        engine: &Engine,
        base: &str,
        region: &str,
        now: Timestamp,
    ) -> jay_engine::Result<String> {
        let host = base
            .split_once("://")
            .map_or(base, |(_, authority)| authority);
        let request = Request::builder()
            .method(self.method.clone())
            .uri(uri::encode_path(&self.path()))
            .header(header::HOST, host)
            .body(());
        let (parts, ()) = request.map_err(unusable)?.into_parts();
        let unsigned = presigned::Unsigned::new(&parts, self.token_id, region, self.seconds, now);
        let unsigned = unsigned.map_err(unusable)?;
        let signature = engine.sign_v4(
            self.token_id,
            unsigned.date(),
            region,
            unsigned.string_to_sign().as_bytes(),
        )?;
        Ok(format!("{base}{}", unsigned.signed(&signature)))
    }
}

fn unusable(_: impl Sized) -> jay_engine::Error {
    let message = "No URL can be made of this key and the public URL of the server.";
    jay_engine::Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests;
