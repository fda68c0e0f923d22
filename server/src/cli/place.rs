//! Places: what the verbs of a user read from and write to.
//!
//! `jay://host:port/bucket/key`, or `jays://` with TLS; `jay:///bucket/key` on the server that JAY_URL names;
//! `s3://bucket/key` on the S3 server of the endpoint; `-` for standard input or output; all else is a path. Keys stand there
//! as they are, without percent-encoding. Secrets never do: every user of the machine can read the arguments of a program.

use std::{ffi::OsStr, fmt, path::PathBuf};

use super::Usage;

/// Why a URL with an access key is no argument.
pub const NO_SECRETS: &str = "an access key does not belong into an argument, where every user of this machine can read it: \
     set JAY_TOKEN_ID and JAY_TOKEN_SECRET or JAY_URL (for s3:// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file or directory of this machine.
    Path(PathBuf),
    /// Standard input or output.
    Stream,
    /// Something in a store.
    Remote(Remote),
}

/// A server, a bucket, an object, or all objects whose keys begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Where the store is.
    pub server: Server,
    /// Empty: all buckets.
    pub bucket: String,
    /// A key, or what keys begin with; empty: all.
    pub key: String,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    /// What JAY_URL names.
    Known,
    /// Spoken to by the native protocol: what stands before the first slash of its URL.
    Native(String),
    /// The S3 server of the endpoint.
    S3,
}

impl Place {
    /// Reads an argument.
    pub fn parse(argument: &OsStr) -> Result<Self, Usage> {
        // Whatever is no UTF-8 can only be a path.
        let Some(text) = argument.to_str() else {
            return Ok(Self::Path(argument.into()));
        };
        match text.split_once("://") {
            Some(("jay", rest)) => Remote::native("jay", rest).map(Self::Remote),
            Some(("jays", rest)) => Remote::native("jays", rest).map(Self::Remote),
            Some(("s3", rest)) => Remote::s3(rest).map(Self::Remote),
            _ if text == "-" => Ok(Self::Stream),
            _ if text.is_empty() => Err(Usage("an empty argument names no place".into())),
            _ => Ok(Self::Path(argument.into())),
        }
    }
}

impl Remote {
    fn native(scheme: &str, rest: &str) -> Result<Self, Usage> {
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.contains('@') {
            return Err(Usage(NO_SECRETS.into()));
        }
        let server = match (scheme, hosts) {
            ("jay", "") => Server::Known,
            (_, "") => {
                let hint =
                    "jays:/// names no server; jay:/// is that of JAY_URL, with TLS or without";
                return Err(Usage(hint.into()));
            }
            _ if hosts.contains('?') => {
                return Err(Usage("options of a connection belong into JAY_URL".into()));
            }
            _ => Server::Native(format!("{scheme}://{hosts}")),
        };
        Ok(Self::at(server, path))
    }

    fn s3(rest: &str) -> Result<Self, Usage> {
        let remote = Self::at(Server::S3, rest);
        match remote.bucket.contains('@') {
            true => Err(Usage(NO_SECRETS.into())),
            false => Ok(remote),
        }
    }

    fn at(server: Server, path: &str) -> Self {
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        Self {
            server,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        }
    }

    /// All buckets of the server of JAY_URL.
    pub fn known() -> Self {
        Self::at(Server::Known, "")
    }

    /// Whether it can be no object: its key ends like a directory, or is missing.
    pub fn is_directory(&self) -> bool {
        self.key.is_empty() || self.key.ends_with('/')
    }

    /// What it holds when it is taken for a directory.
    pub fn directory(&self) -> Self {
        let slash = if self.is_directory() { "" } else { "/" };
        self.with_key(format!("{}{slash}", self.key))
    }

    /// What is `relative` to it.
    pub fn join(&self, relative: &str) -> Self {
        self.with_key(format!("{}{relative}", self.key))
    }

    /// Another key of the same bucket.
    pub fn with_key(&self, key: String) -> Self {
        Self {
            key,
            ..self.clone()
        }
    }

    /// The last segment of the key.
    pub fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Server::Known => f.write_str("jay:///")?,
            Server::Native(url) => write!(f, "{url}/")?,
            Server::S3 => f.write_str("s3://")?,
        }
        match self.bucket.is_empty() {
            true => Ok(()),
            false => write!(f, "{}/{}", self.bucket, self.key),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Stream => f.write_str("-"),
            Self::Remote(remote) => write!(f, "{remote}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn remote(text: &str) -> Remote {
        match Place::parse(OsStr::new(text)) {
            Ok(Place::Remote(remote)) => remote,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn urls_name_server_bucket_and_key() {
        for (text, server, bucket, key) in [
            ("jay:///b/k", Server::Known, "b", "k"),
            ("jay:///", Server::Known, "", ""),
            ("jay://", Server::Known, "", ""),
            ("jay://h:1/b", Server::Native("jay://h:1".into()), "b", ""),
            (
                "jays://[::1],h/b/d/",
                Server::Native("jays://[::1],h".into()),
                "b",
                "d/",
            ),
            // Keys are taken as they stand there.
            ("s3://b/a%20b?c//d@e", Server::S3, "b", "a%20b?c//d@e"),
            ("s3://b//k", Server::S3, "b", "/k"),
            ("s3://", Server::S3, "", ""),
        ] {
            let found = remote(text);
            assert_eq!(
                (found.server, found.bucket.as_str(), found.key.as_str()),
                (server, bucket, key),
                "{text}"
            );
        }
        assert_eq!(remote("s3://b/k").to_string(), "s3://b/k");
        assert_eq!(remote("jay://h/b/").to_string(), "jay://h/b/");
        assert_eq!(remote("jay:///").to_string(), "jay:///");
    }

    #[test]
    fn the_rest_is_a_path() {
        for text in [
            "a",
            "./s3://b",
            "C:/x",
            "jay:/b",
            "http://h/b",
            "/jay/",
            "a-",
        ] {
            let found = Place::parse(OsStr::new(text)).unwrap();
            assert_eq!(found, Place::Path(text.into()));
        }
        let bytes = OsStr::from_bytes(b"s3://\xff");
        assert_eq!(Place::parse(bytes).unwrap(), Place::Path(bytes.into()));
        assert_eq!(Place::parse(OsStr::new("-")).unwrap(), Place::Stream);
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for text in [
            "jay://id:geheim@h/b",
            "jays://geheim@h",
            "s3://id:geheim@b/k",
            "jay://id:geheim@",
            "jay://h?secret=geheim/b",
        ] {
            let Usage(said) = Place::parse(OsStr::new(text)).unwrap_err();
            assert!(!said.contains("geheim"), "{said}");
        }
        assert!(Place::parse(OsStr::new("jays:///b")).is_err());
        assert!(Place::parse(OsStr::new("")).is_err());
    }

    #[test]
    fn directories_end_with_a_slash() {
        let place = remote("s3://b/a/b");
        assert_eq!((place.name(), place.is_directory()), ("b", false));
        assert_eq!(place.directory().key, "a/b/");
        assert_eq!(place.directory().directory().join("c").key, "a/b/c");
        assert_eq!(remote("s3://b").directory().join("c").key, "c");
    }
}
